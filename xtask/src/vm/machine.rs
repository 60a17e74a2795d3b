//! One virtual machine: boots a kernel with an initramfs and waits until it powers off.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::lab::Lab;
use crate::process::say;

/// How long a machine may run. The slowest verifier takes a minute or two for a program near its limit.
pub(super) const LIMIT: Duration = Duration::from_secs(360);

/// How long its programs may say nothing at first. They speak some 15 s after power on.
///
/// An emulated processor loses its timer at times, on busy hosts and with old kernels: the kernel complains that its "timer
/// wakeup didn't happen", and nothing goes on. That says nothing of what is tested, so such a machine is booted again, once.
const SILENCE: Duration = Duration::from_secs(120);

const PAUSE: Duration = Duration::from_millis(50);

/// In MiB. The archive, packed and unpacked, takes 200; the verifier of the newest kernels may take 900.
const MEMORY: &str = "2048";

/// What is left of a machine.
pub(super) struct Remains {
    /// What the kernel said.
    pub(super) console: String,
    /// What the guest's programs said: the second serial line.
    pub(super) report: String,
    /// From power on to power off.
    pub(super) took: Duration,
    /// It was ended because it took too long.
    pub(super) timed_out: bool,
}

/// Boots `image` with `initramfs` and waits for its end, at most [`LIMIT`].
pub(super) fn boot(lab: &Lab, image: &Path, initramfs: &[u8]) -> Result<Remains> {
    let remains = boot_once(lab, image, initramfs, SILENCE)?;
    if !remains.timed_out || !remains.report.is_empty() {
        return Ok(remains);
    }
    say(format!(
        "{}: its programs said nothing within {} s; it is booted again",
        image.display(),
        SILENCE.as_secs()
    ));
    boot_once(lab, image, initramfs, LIMIT)
}

fn boot_once(lab: &Lab, image: &Path, initramfs: &[u8], silence: Duration) -> Result<Remains> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder for the machine")?;
    let file = |name: &str| folder.path().join(name);
    let archive = file("initramfs");
    fs::write(&archive, initramfs).with_context(|| format!("cannot write {}", archive.display()))?;
    let started = Instant::now();
    let mut machine = Machine {
        child: command(lab)
            .arg("-kernel")
            .arg(image)
            .arg("-initrd")
            .arg(&archive)
            .arg("-serial")
            .arg(format!("file:{}", file("console").display()))
            .arg("-serial")
            .arg(format!("file:{}", file("report").display()))
            .stderr(fs::File::create(file("errors"))?)
            .spawn()
            .context("cannot start QEMU")?,
    };
    let timed_out = machine.wait(started, &file("report"), silence)?;
    let read = |name: &str| -> String {
        let bytes = fs::read(file(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    };
    Ok(Remains {
        console: read("console") + &read("errors"),
        report: read("report"),
        took: started.elapsed(),
        timed_out,
    })
}

fn command(lab: &Lab) -> Command {
    let mut command = Command::new(lab.qemu());
    // Its firmware is where the packages were unpacked, and not where the program looks on its own.
    let shared = lab.target().join("lab/qemu/usr/share");
    for folder in ["seabios", "qemu"] {
        command.arg("-L").arg(shared.join(folder));
    }
    command
        .args(["-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2"])
        .args(["-m", MEMORY])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        // A panic reboots, which ends the machine.
        .args(["-append", "console=ttyS0 panic=-1 quiet loglevel=4"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Dropping it ends it.
struct Machine {
    child: Child,
}

impl Machine {
    /// Waits for the end; true if the limit was reached, or nothing was in `report` after so long a silence.
    fn wait(&mut self, started: Instant, report: &Path, silence: Duration) -> Result<bool> {
        while self.child.try_wait()?.is_none() {
            let took = started.elapsed();
            let is_silent = || fs::metadata(report).map_or(true, |file| file.len() == 0);
            if took > LIMIT || took > silence && is_silent() {
                return Ok(true);
            }
            sleep(PAUSE);
        }
        Ok(false)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself; nothing else can be wrong here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
