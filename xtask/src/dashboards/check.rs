//! `cargo xtask dashboards check`: what needs other people's programs to be checked. What does not is in the tests of
//! `dashboards`.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use stormglass_dashboards::{boards, rules, shipped};

use crate::lab::{Lab, tools};
use crate::process::{Run as _, say};

/// Checks the files as they are.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    let stale = shipped::stale()?;
    if !stale.is_empty() {
        bail!("{stale:?} are not what dashboards/src says: cargo xtask dashboards generate");
    }
    types(lab)?;
    tools::ensure_prometheus(lab)?;
    say("promtool on the rules and their tests");
    let promtool = |command: &str| {
        let mut promtool = Command::new(lab.promtool());
        promtool.args([command, "rules"]);
        promtool
    };
    promtool("check").args(rules::files()).run()?;
    promtool("test").args(rules::test_files()?).run()
}

/// Each dashboard as a constant of the type that it has to have, by TypeScript's compiler.
fn types(lab: &Lab) -> Result<()> {
    say("the dashboards against Grafana's types");
    let modules = tools::ensure_grafana_types(lab)?;
    let folder = tempfile::tempdir_in(modules.parent().context("no folder of the types")?)?;
    let types = lab.workspace().join("dashboards/check/types.ts");
    fs::copy(types, folder.path().join("types.ts"))?;
    let mut files = Vec::new();
    for board in boards::all() {
        let json = fs::read_to_string(shipped::path(board.name))?;
        let text = format!(
            "import type {{ Shipped }} from './types';\nexport const dashboard: Shipped = {};\n",
            json.trim_end()
        );
        let file = folder.path().join(format!("{}.ts", board.name));
        fs::write(&file, text)?;
        files.push(file);
    }
    Command::new(lab.node())
        .arg(modules.join("typescript/lib/tsc.js"))
        .args(["--noEmit", "--strict", "--skipLibCheck"])
        .args([
            "--module",
            "esnext",
            "--moduleResolution",
            "bundler",
            "--target",
            "es2022",
        ])
        .args(files)
        .run()
}
