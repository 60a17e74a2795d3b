//! `cargo xtask fuzz`: libFuzzer on the RESP meter. The targets and what they have collected are in `tests/fuzz`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::lab::{Lab, fuzzer};
use crate::process::{Run as _, say};

/// What `cargo xtask fuzz` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// How long the targets run, all at the same time
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Afterwards put what was found into the corpus, and keep of it as few inputs as reach the same code
    #[arg(long)]
    collect: bool,
    /// Run this target alone
    target: Option<Target>,
}

/// A fuzz target.
#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Any bytes, in any segments
    Bytes,
    /// Conversations, compared with the model
    Conversations,
}

/// Where the compiler counts which code an input reaches.
const INSTRUMENTATION: [&str; 7] = [
    "--cfg",
    "fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Most bytes of a target's corpus: it is read by every clone and every test run.
const CORPUS_BYTES: u64 = 400_000;

/// Builds the targets and runs them. Fails when one of them has found something.
pub(crate) fn run(lab: &Lab, options: &Options) -> Result<()> {
    let targets = options
        .target
        .map_or_else(|| Target::value_variants().to_vec(), |target| vec![target]);
    build(lab)?;
    let runs: Vec<Running> = targets
        .iter()
        .map(|target| start(lab, *target, options.seconds))
        .collect::<Result<_>>()?;
    let found: Vec<String> = runs
        .into_iter()
        .filter_map(|running| running.end().err())
        .map(|error| format!("{error:#}"))
        .collect();
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    if options.collect {
        for target in targets {
            collect(lab, target)?;
        }
    }
    Ok(())
}

/// A workspace of its own, for the flags alone would build everything else anew.
fn build(lab: &Lab) -> Result<()> {
    let runtime = fuzzer::ensure_runtime(lab)?;
    let flags: Vec<&str> = INSTRUMENTATION.into_iter().chain(runtime.flags()).collect();
    let mut command = Command::new("cargo");
    runtime
        .export(&mut command)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--target",
            TRIPLE,
            "--manifest-path",
        ])
        .arg(folder(lab).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(lab.target().join("fuzz"))
        // Naming a target keeps the flags away from build scripts.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .run()
}

/// How libFuzzer ends on a signal.
const INTERRUPTED: i32 = 72;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

fn folder(lab: &Lab) -> PathBuf {
    lab.workspace().join("tests/fuzz")
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Conversations => "conversations",
        }
    }

    /// Longest input in bytes: what is longer finds nothing more, slower.
    fn longest(self) -> u32 {
        match self {
            Self::Bytes => 1_024,
            Self::Conversations => 512,
        }
    }

    /// What is checked in.
    fn corpus(self, lab: &Lab) -> PathBuf {
        folder(lab).join("corpus").join(self.name())
    }

    /// What this machine has found beyond it.
    fn found(self, lab: &Lab) -> PathBuf {
        lab.target().join("fuzz/found").join(self.name())
    }

    fn command(self, lab: &Lab) -> Command {
        let mut command = Command::new(
            lab.target()
                .join("fuzz")
                .join(TRIPLE)
                .join("release")
                .join(self.name()),
        );
        command
            .arg(format!("-max_len={}", self.longest()))
            .arg("-timeout=10")
            .arg(format!("-dict={}", folder(lab).join("resp.dict").display()));
        command
    }
}

/// A target at work.
struct Running {
    target: Target,
    child: Child,
    log: PathBuf,
    artifacts: PathBuf,
}

fn start(lab: &Lab, target: Target, seconds: u64) -> Result<Running> {
    let artifacts = lab.target().join("fuzz/artifacts").join(target.name());
    for folder in [&artifacts, &target.found(lab)] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let log = lab.target().join("fuzz").join(format!("{}.log", target.name()));
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let child = target
        .command(lab)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(target.found(lab))
        .arg(target.corpus(lab))
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot start the target {}", target.name()))?;
    say(format!(
        "fuzzing {} for {seconds} s; it writes {}",
        target.name(),
        log.display()
    ));
    Ok(Running {
        target,
        child,
        log,
        artifacts,
    })
}

impl Running {
    /// Waits for the end, and says what came of it.
    fn end(mut self) -> Result<()> {
        let name = self.target.name();
        let status = self.child.wait()?;
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        if status.success() {
            say(format!(
                "{name}: no finding. {}",
                log.lines().last().unwrap_or_default()
            ));
            return Ok(());
        }
        if status.code() == Some(INTERRUPTED) {
            bail!("the target {name} was interrupted before its time; until then it found nothing");
        }
        let told = log
            .lines()
            .skip_while(|line| !line.contains("panicked") && !line.contains("ERROR"))
            .take(30)
            .map(|line| line.chars().take(160).collect::<String>())
            .collect::<Vec<_>>();
        bail!(
            "the target {name} found something ({status}):\n{}\nIts input is in {}, the whole log is {}. Copy the input to \
             tests/fuzz/corpus/{name} and run `cargo test -p agent-common --test meter corpus_of_fuzz` to see it again.",
            told.join("\n"),
            self.artifacts.display(),
            self.log.display()
        )
    }
}

/// Replaces the corpus by the fewest inputs that reach what it and the new ones reach.
fn collect(lab: &Lab, target: Target) -> Result<()> {
    let merged = lab.target().join("fuzz/merged").join(target.name());
    if merged.exists() {
        fs::remove_dir_all(&merged)?;
    }
    fs::create_dir_all(&merged)?;
    let corpus = target.corpus(lab);
    target
        .command(lab)
        .args(["-merge=1", "-set_cover_merge=1"])
        .args([&merged, &corpus, &target.found(lab)])
        .read()?;
    let bytes = size(&merged)?;
    if bytes > CORPUS_BYTES {
        bail!(
            "the corpus of {} would have {bytes} bytes, more than {CORPUS_BYTES}: shorten its inputs (Target::longest)",
            target.name()
        );
    }
    fs::remove_dir_all(&corpus)?;
    fs::create_dir_all(&corpus)?;
    let mut inputs = 0;
    for input in fs::read_dir(&merged)? {
        let input = input?;
        fs::copy(input.path(), corpus.join(input.file_name()))?;
        inputs += 1;
    }
    say(format!(
        "{}: {inputs} inputs of {bytes} bytes in {}",
        target.name(),
        corpus.display()
    ));
    Ok(())
}

fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(folder)? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}
