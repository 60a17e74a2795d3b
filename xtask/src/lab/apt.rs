//! Debian packages without installing them: an apt configuration of the lab's own (lists, cache, an empty status file)
//! over the mirrors that the host's apt uses, then `dpkg -x`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Lab, part};
use crate::process::{Run as _, say};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Packages that come with every Debian; the libraries of a closure are taken without them.
const ALWAYS_THERE: [&str; 4] = ["libc6", "libc-bin", "libgcc-s1", "libcrypt1"];

/// A suite of another Debian release, from the mirror that the host uses for its own.
pub(super) enum Suite {
    /// Of the archive.
    Archive(&'static str),
    /// Of the security archive.
    Security(&'static str),
}

/// The lab's own apt.
pub(super) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Writes the configuration and fetches the package lists where there are none from today's pins.
    ///
    /// # Errors
    /// On a host that is not Debian on x86-64, or without apt or dpkg; the message says what to do instead.
    pub(super) fn new(lab: &Lab) -> Result<Self> {
        Self::with_suites(lab, "apt", &[])
    }

    /// The same in the part `name` with further suites: for packages that exist in one suite alone, since of any other
    /// it would take the newest release's.
    pub(super) fn with_suites(lab: &Lab, name: &str, suites: &[Suite]) -> Result<Self> {
        check_host()?;
        let folder = lab.dir().join(name);
        let sources = sources(suites)?;
        let apt = Self {
            folder: folder.clone(),
        };
        part::ensure(lab, name, &format!("package lists of\n{sources}"), |folder| {
            fs::write(folder.join("sources.list"), &sources)?;
            apt.update()
        })?;
        Ok(Self { folder })
    }

    /// Downloads `packages` (names, or `name=version*`) and unpacks them into `folder`. When `programs` of them lack
    /// shared libraries on this host, those come from the packages' closure into the same folder.
    pub(super) fn unpack(&self, packages: &[&str], programs: &[&str], folder: &Path) -> Result<()> {
        self.fetch(packages, folder).or_else(|_| {
            // Point releases vanish from mirrors: lists from last month name files that are gone.
            say("downloading failed, trying again with fresh package lists");
            self.update()?;
            self.fetch(packages, folder)
        })?;
        let missing = missing(programs, folder)?;
        if missing.is_empty() {
            return Ok(());
        }
        say(format!(
            "this host lacks {}; unpacking them as well",
            join(&missing)
        ));
        let closure = self.libraries(packages)?;
        self.fetch(&closure.iter().map(String::as_str).collect::<Vec<_>>(), folder)?;
        let missing = self::missing(programs, folder)?;
        if !missing.is_empty() {
            bail!(
                "{} still not found after unpacking {}",
                join(&missing),
                packages.join(" ")
            );
        }
        Ok(())
    }

    /// The package with the highest version in its name among `beginning`VERSION`ending`, with a version of digits, dots
    /// and dashes.
    pub(super) fn newest(&self, beginning: &str, ending: &str) -> Result<String> {
        let names = self.command("apt-cache").args(["pkgnames", beginning]).read()?;
        newest(names.lines(), beginning, ending)
            .map(str::to_owned)
            .with_context(|| format!("the mirror has no package {beginning}*{ending}; adapt xtask/src/lab"))
    }

    /// Whether there is such a package.
    pub(super) fn knows(&self, package: &str) -> Result<bool> {
        let names = self.command("apt-cache").args(["pkgnames", package]).read()?;
        Ok(names.lines().any(|name| name == package))
    }

    /// Unpacks `packages` and everything that they depend on into `folder`: a root for `chroot`. No script of a package is
    /// run.
    pub(super) fn unpack_root(&self, packages: &[&str], folder: &Path) -> Result<()> {
        let bring = || {
            let closure = self.closure(packages)?;
            self.fetch(&closure.iter().map(String::as_str).collect::<Vec<_>>(), folder)
        };
        bring().or_else(|_| {
            say("downloading failed, trying again with fresh package lists");
            self.update()?;
            bring()
        })?;
        // Programs name their loader by the old places, which a package's script would link.
        for place in ["bin", "sbin", "lib", "lib64"] {
            let link = folder.join(place);
            if link.symlink_metadata().is_err() {
                symlink(Path::new("usr").join(place), link)?;
            }
        }
        Ok(())
    }

    fn fetch(&self, packages: &[&str], folder: &Path) -> Result<()> {
        let archives = folder.join("archives");
        fs::create_dir_all(&archives)?;
        self.command("apt-get")
            .args(["-qq", "download"])
            .args(packages)
            .current_dir(&archives)
            .read()?;
        for entry in fs::read_dir(&archives)? {
            Command::new("dpkg")
                .arg("-x")
                .arg(entry?.path())
                .arg(folder)
                .read()?;
        }
        fs::remove_dir_all(&archives).context("cannot remove the downloaded archives")
    }

    /// Library packages that `packages` depend on, and all that these do: what a program is linked with, its own package names. Those
    /// of further packages would be many times as much.
    fn libraries(&self, packages: &[&str]) -> Result<BTreeSet<String>> {
        let names = packages.iter().filter_map(|package| package.split('=').next());
        let depends = self.command("apt-cache").arg("depends").args(names).read()?;
        let named = depends
            .lines()
            .filter_map(|line| line.strip_prefix("  Depends: "))
            .filter(|name| name.starts_with("lib"));
        let mut closure = self.closure(&named.collect::<Vec<_>>())?;
        closure.retain(|name| name.starts_with("lib") && !ALWAYS_THERE.contains(&name.as_str()));
        closure.retain(|name| {
            !packages
                .iter()
                .any(|package| package.split('=').next() == Some(name))
        });
        Ok(closure)
    }

    /// Names of `packages` and of all that they depend on.
    fn closure(&self, packages: &[&str]) -> Result<BTreeSet<String>> {
        let plan = self
            .command("apt-get")
            .args(["-qq", "install", "--simulate", "--no-install-recommends"])
            .args(packages)
            .read()?;
        let names = plan
            .lines()
            .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
        Ok(names.map(str::to_owned).collect())
    }

    fn update(&self) -> Result<()> {
        for place in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(self.folder.join(place))?;
        }
        fs::write(self.folder.join("status"), "")?;
        fs::write(self.folder.join("apt.conf"), configuration(&self.folder))?;
        say("fetching package lists");
        self.command("apt-get")
            // Without this a mirror that cannot be reached is a warning, and the lists stay empty.
            .args(["-qq", "update", "-o", "APT::Update::Error-Mode=any"])
            .read()
            .map(|_| ())
            .context("check that this host reaches its Debian mirror: `apt-get update` must work")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C");
        command
    }
}

/// Whether packages of Debian for x86-64 can be had and run here; the error names what is missing.
pub(super) fn check_host() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the lab's packages are for x86-64 only; build and test on such a machine");
    }
    for program in ["apt-get", "dpkg", "ldd"] {
        if !Command::new(program).arg("--version").succeeds() {
            bail!(
                "`{program}` is missing: the lab is unpacked from Debian packages, so use a Debian 12 host or container"
            );
        }
    }
    codename().map(|_| ())
}

/// Of the names `beginning`VERSION`ending` the one with the highest version.
fn newest<'a>(names: impl Iterator<Item = &'a str>, beginning: &str, ending: &str) -> Option<&'a str> {
    let version = |name: &str| -> Option<Vec<u32>> {
        let version = name.strip_prefix(beginning)?.strip_suffix(ending)?;
        version
            .split(['.', '-'])
            .map(|number| number.parse().ok())
            .collect()
    };
    let versions = names.filter_map(|name| Some((version(name)?, name)));
    versions.max().map(|(_, name)| name)
}

/// The host's own mirrors of its Debian release, plus backports and `suites` from the same mirrors.
fn sources(suites: &[Suite]) -> Result<String> {
    let codename = codename()?;
    // What an update would fetch, without lists and without network: the configured mirrors.
    let plan = Command::new("apt-get")
        .args(["update", "--print-uris"])
        .env("LC_ALL", "C")
        .read()?;
    let signed = if Path::new(KEYRING).is_file() {
        format!("[signed-by={KEYRING}] ")
    } else {
        String::new()
    };
    let mut lines = BTreeSet::new();
    for (base, suite) in plan.lines().filter_map(mirror) {
        let mut add = |suite: &str| lines.insert(format!("deb {signed}{base} {suite} main\n"));
        if suite == codename {
            add(&format!("{codename}-backports"));
        } else if suite != format!("{codename}-security") && suite != format!("{codename}-updates") {
            continue;
        }
        add(suite);
        for further in suites {
            match further {
                Suite::Archive(name) if suite == codename => add(name),
                Suite::Security(name) if suite == format!("{codename}-security") => add(name),
                Suite::Archive(_) | Suite::Security(_) => false,
            };
        }
    }
    if lines.is_empty() {
        bail!(
            "apt knows no mirror of {codename}; add one to /etc/apt/sources.list.d and run `apt-get update`"
        );
    }
    Ok(lines.into_iter().collect())
}

/// Base and suite of a line such as `'BASE/dists/SUITE/InRelease' file 0`.
fn mirror(line: &str) -> Option<(&str, &str)> {
    let address = line.strip_prefix('\'')?.split('\'').next()?;
    address.strip_suffix("/InRelease")?.split_once("/dists/")
}

fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|v| v.trim_matches('"'))
    };
    match (value("ID="), value("VERSION_CODENAME=")) {
        (Some("debian"), Some(codename)) => Ok(codename.to_owned()),
        (id, _) => bail!(
            "the lab is unpacked from Debian packages, this is {}; use a Debian 12 host or container",
            id.unwrap_or("an unknown system")
        ),
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Dir::State \"{folder}\";\n\
         Dir::State::lists \"{folder}/lists\";\n\
         Dir::State::status \"{folder}/status\";\n\
         Dir::Cache \"{folder}/cache\";\n\
         Dir::Etc::sourcelist \"{folder}/sources.list\";\n\
         Dir::Etc::sourceparts \"{folder}/parts\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"{folder}/parts\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         Acquire::Retries \"3\";\n\
         APT::Sandbox::User \"root\";\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n"
    )
}

fn missing(programs: &[&str], folder: &Path) -> Result<BTreeSet<String>> {
    let mut missing = BTreeSet::new();
    for program in programs {
        missing.extend(part::missing_libraries(folder, &folder.join(program))?);
    }
    Ok(missing)
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_is_the_one_with_the_highest_number_and_not_the_last_letter() {
        let names = [
            "linux-image-6.12.95+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64-dbg",
            "linux-image-6.12.118+deb13-cloud-amd64",
            "linux-image-6.12.90+deb12.1-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
        ];
        let newest = |ending| newest(names.into_iter(), "linux-image-6.12.", ending);
        assert_eq!(newest("+deb12-cloud-amd64"), Some(names[1]));
        assert_eq!(newest("+deb12-amd64"), None);
    }
}
