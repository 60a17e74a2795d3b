//! A part of the lab: a folder, a stamp, and the programs it offers in `target/lab/bin`.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use super::Lab;
use crate::process::{Run as _, say};

/// Makes sure that the part `name` exists as `recipe` describes it: every pinned version belongs into that text, since
/// it is what tells a finished part from an outdated one. `bring` fills the empty folder that it is given.
pub(super) fn ensure(
    lab: &Lab,
    name: &str,
    recipe: &str,
    bring: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let folder = lab.dir().join(name);
    let stamp = folder.join(".stamp");
    if is_current(&stamp, recipe) {
        return Ok(());
    }
    fs::create_dir_all(lab.dir()).with_context(|| format!("cannot create {}", lab.dir().display()))?;
    let _lock = lock(&lab.dir().join(format!("{name}.lock")))?;
    if is_current(&stamp, recipe) {
        return Ok(());
    }
    say(format!("bringing {recipe} to {}", folder.display()));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    bring(&folder)?;
    fs::write(&stamp, recipe).with_context(|| format!("cannot write {}", stamp.display()))
}

fn is_current(stamp: &Path, recipe: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|text| text == recipe)
}

/// Two commands may run at once; the second waits and then finds the part finished.
fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("cannot lock the lab")
}

/// Offers `program` as `bin/NAME`: a link, or where the part `folder` has libraries for it a script that names them, so
/// that the path runs as it is.
pub(super) fn offer(lab: &Lab, folder: &Path, program: &Path) -> Result<()> {
    let Some(name) = program.file_name().and_then(OsStr::to_str) else {
        bail!("{} names no program", program.display())
    };
    offer_as(lab, name, folder, program)
}

/// Offers `program` under another name than its own.
pub(super) fn offer_as(lab: &Lab, name: &str, folder: &Path, program: &Path) -> Result<()> {
    check_program(program)?;
    let path = place(lab, name)?;
    let libraries = library_folders(folder);
    if libraries.is_empty() {
        return symlink(program, &path).map_err(Into::into);
    }
    let script = format!(
        "#!/bin/sh\nexport LD_LIBRARY_PATH=\"{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\nexec \"{}\" \"$@\"\n",
        join(&libraries),
        program.display()
    );
    write_script(&path, &script)
}

/// Offers `program`, a path inside the part `folder`, as `bin/NAME`, with that folder as its root. It runs as root alone.
pub(super) fn offer_in_root(lab: &Lab, name: &str, folder: &Path, program: &str) -> Result<()> {
    check_program(&folder.join(program))?;
    let path = place(lab, name)?;
    let script = format!(
        "#!/bin/sh\n# No other locale is in there.\nexport LC_ALL=C\nexec chroot \"{}\" \"/{program}\" \"$@\"\n",
        folder.display()
    );
    write_script(&path, &script)
}

/// Offers `program`, a path inside the part `folder`, as `bin/NAME`, to see the part's `data`, a folder below `usr/share`, as the
/// host's: for programs with a fixed idea of where that is. In a mount namespace of its own, so it runs as root alone.
pub(super) fn offer_with_data(lab: &Lab, folder: &Path, program: &str, data: &str) -> Result<()> {
    let program = folder.join(program);
    check_program(&program)?;
    let Some(name) = program.file_name().and_then(OsStr::to_str) else {
        bail!("{} names no program", program.display())
    };
    let path = place(lab, name)?;
    let script = format!(
        "#!/bin/sh\nexec unshare --mount --propagation private sh -ec '\n\
         mount -t tmpfs none /usr/share\nmkdir \"/{data}\"\nmount --bind \"{}\" \"/{data}\"\n\
         exec \"$@\"' sh \"{}\" \"$@\"\n",
        folder.join(data).display(),
        program.display()
    );
    write_script(&path, &script)
}

/// Offers a script of our own as `bin/NAME`.
pub(super) fn offer_script(lab: &Lab, name: &str, script: &str) -> Result<()> {
    write_script(&place(lab, name)?, script)
}

fn check_program(program: &Path) -> Result<()> {
    if !program.is_file() {
        bail!(
            "the package has no {}; its layout has changed, adapt xtask/src/lab",
            program.display()
        );
    }
    Ok(())
}

/// An empty place for a program.
fn place(lab: &Lab, name: &str) -> Result<PathBuf> {
    let bin = lab.dir().join("bin");
    fs::create_dir_all(&bin)?;
    let path = bin.join(name);
    if path.symlink_metadata().is_ok() {
        fs::remove_file(&path)?;
    }
    Ok(path)
}

fn write_script(path: &Path, script: &str) -> Result<()> {
    fs::write(path, script)?;
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(Into::into)
}

/// Folders of shared libraries that an unpacked Debian package may have.
pub(crate) fn library_folders(folder: &Path) -> Vec<PathBuf> {
    let places = [
        "usr/lib/x86_64-linux-gnu",
        "lib/x86_64-linux-gnu",
        // A library that Chromium's libraries need has a folder of its own, and so have systemd's.
        "usr/lib/x86_64-linux-gnu/pulseaudio",
        "usr/lib/x86_64-linux-gnu/systemd",
    ];
    places
        .iter()
        .map(|place| folder.join(place))
        .filter(|path| path.is_dir())
        .collect()
}

/// Names of the shared libraries that `program` needs and the loader does not find, the part's own included.
pub(super) fn missing_libraries(folder: &Path, program: &Path) -> Result<Vec<String>> {
    let listing = Command::new("ldd")
        .arg(program)
        .env("LD_LIBRARY_PATH", join(&library_folders(folder)))
        .read()?;
    let missing = listing.lines().filter(|line| line.ends_with("not found"));
    Ok(missing
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

/// `LD_LIBRARY_PATH` form of some folders.
pub(super) fn join(folders: &[PathBuf]) -> String {
    folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect::<Vec<_>>()
        .join(":")
}

/// A short name for what a text says; another one if a byte of it changes.
pub(super) fn fingerprint(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
