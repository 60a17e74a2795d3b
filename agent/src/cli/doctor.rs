//! `stormglass doctor`.

use std::process::ExitCode;

use agent_common::abi::KeySettings;
use stormglass::kernel::{Kernel, KernelSettings, Requirement, Verdict, check_requirements};
use stormglass::tenants::{ClassTables, PrefixTable};

pub(super) fn run() -> ExitCode {
    let mut requirements = check_requirements();
    if unmet(&requirements).is_empty() {
        requirements.push(Requirement {
            name: "programs",
            verdict: programs(),
        });
    }
    for requirement in &requirements {
        println!("{}", line(requirement));
    }
    if unmet(&requirements).is_empty() {
        println!("this host can run stormglass");
        ExitCode::SUCCESS
    } else {
        println!("this host cannot run stormglass");
        ExitCode::FAILURE
    }
}

/// The requirements that keep the agent from running, a line each: `run` refuses with the same words.
pub(super) fn unmet(requirements: &[Requirement]) -> Vec<String> {
    requirements
        .iter()
        .filter(|requirement| matches!(requirement.verdict, Verdict::Unmet { .. }))
        .map(line)
        .collect()
}

fn line(requirement: &Requirement) -> String {
    let name = requirement.name;
    match &requirement.verdict {
        Verdict::Met(found) => format!("ok       {name}: {found}"),
        Verdict::Weak { found, advice } => format!("weak     {name}: {found}; {advice}"),
        Verdict::Unmet { found, advice } => format!("missing  {name}: {found}; {advice}"),
    }
}

/// Loads the programs once, without attaching them to any server: the verifier's word is the only one that counts.
fn programs() -> Verdict {
    let settings = KernelSettings {
        classes: ClassTables::default(),
        tenant_prefixes: PrefixTable::default(),
        keys: KeySettings::new(b":", 1, 32),
        declared: Vec::new(),
        prefixes: 1,
        clients: 1,
        processes: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let loaded = runtime.map(|runtime| runtime.block_on(async { Kernel::load(&settings) }));
    match loaded {
        Ok(Ok((kernel, _))) => {
            Verdict::Met(format!("accepted; instructions verified: {}", verified(&kernel)))
        }
        Ok(Err(error)) => Verdict::Unmet {
            found: format!("{:#}", anyhow::Error::from(error)),
            advice: "see the reason above".into(),
        },
        Err(error) => Verdict::Unmet {
            found: error.to_string(),
            advice: "see the reason above".into(),
        },
    }
}

fn verified(kernel: &Kernel) -> String {
    let programs: Vec<String> = kernel
        .verified_instructions()
        .iter()
        .map(|(program, count)| format!("{program} {count}"))
        .collect();
    programs.join(", ")
}
