//! `verify OBJECT`: loads each kernel program of an object and prints how many instructions the verifier looked at, or
//! why it refused it. Status 1 if it refused one.
//!
//! `stormglass doctor` does the same, but stops at the first refusal, and has the verifier write everything it does:
//! with a program that reaches the limit of a million instructions, that takes minutes in an emulated machine.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};

/// What `BPF_PROG_LOAD` says of a program that reaches the limit of instructions.
const E2BIG: i32 = 7;

/// How much of the verifier's log is shown: where it stopped.
const LOG_LINES: usize = 30;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if every program is accepted.
fn run() -> Result<bool> {
    let path = std::env::args_os()
        .nth(1)
        .context("name the object with the kernel programs")?;
    let object = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    // The summary: the whole log of a program that is nearly too large is too long to be waited for.
    let mut ebpf = read(&object, VerifierLogLevel::STATS)?;
    let names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    if names.is_empty() {
        bail!("{} has no programs", path.display());
    }
    let btf = Btf::from_sys_fs()?;
    let mut accepted = true;
    for name in &names {
        let Err(mut error) = load(&mut ebpf, name, &btf)? else {
            println!("{name} {}", verified(&ebpf, name)?);
            continue;
        };
        if !is_too_large(&error) {
            let mut ebpf = read(&object, VerifierLogLevel::default())?;
            error = load(&mut ebpf, name, &btf)?.err().unwrap_or(error);
        }
        println!("{name} is refused: {}", words(&error));
        accepted = false;
    }
    Ok(accepted)
}

fn read(object: &[u8], level: VerifierLogLevel) -> Result<Ebpf> {
    EbpfLoader::new()
        .verifier_log_level(level)
        .load(object)
        .context("cannot make the maps of the kernel programs")
}

/// Loads one program: the inner result is the verdict.
fn load(ebpf: &mut Ebpf, name: &str, btf: &Btf) -> Result<Result<(), ProgramError>> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("{name} is gone"))?;
    Ok(match program {
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::Iter(program) => program.load("tcp", btf),
        other => bail!(
            "{name} is a {:?}; teach tests/vm/verify.rs to load one",
            other.prog_type()
        ),
    })
}

/// How many instructions of a loaded program the verifier looked at.
fn verified(ebpf: &Ebpf, name: &str) -> Result<u32> {
    let program = ebpf.program(name).with_context(|| format!("{name} is gone"))?;
    let count = program.info()?.verified_instruction_count();
    count.context("this kernel does not count the instructions that it verifies")
}

fn is_too_large(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(E2BIG))
}

fn words(error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return error.to_string();
    };
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
    format!(
        "{io_error}\nthe last lines of the verifier's log:\n{}",
        tail.join("\n")
    )
}
