//! The chart and its values: what it takes, what it refuses, and what some values have to come to.

use std::process::Command;

use anyhow::{Result, ensure};

use super::manifests::{chart, template};
use crate::lab::Lab;
use crate::process::Run as _;

/// Files of values, each of which the chart has to take.
const VALUES: [&str; 3] = ["values.yaml", "ci/everything.yaml", "ci/loopback.yaml"];

/// Values that the schema has to refuse.
const WRONG: &[&str] = &[
    "hostNetwork=maybe",
    "listen.port=70000",
    "listen.port=\"9466\"",
    "listen.address=localhost",
    "image.pullPolicy=Sometimes",
    "image.digest=latest",
    "tolerations=all",
    "log.level=loud",
    "seccomp.type=None",
    "cluster=$1",
    "cluster=1",
    "podMonitor.interval=15",
    "prometheusRule.runbookUrl=wiki",
    "stateDir=relative",
    "image.name=stormglass",
    "resources=large",
    "nodeSelectors.a=b",
    "web.password=secret",
];

/// Values that the schema cannot judge, and what the chart has to say of them.
const REFUSED: &[([&str; 2], &str)] = &[
    (
        ["--set-literal", "config=[http]\nlisten = \"0.0.0.0:1\""],
        "config: [http] is made from",
    ),
    (
        ["--set", "hostNetwork=false,listen.address=127.0.0.1"],
        "listen.address: 127.0.0.1 is not reached",
    ),
    (
        ["--set", "hostNetwork=false,listen.address=[::1]"],
        "listen.address: [::1] is not reached",
    ),
];

/// Addresses where the pages are served, with hostNetwork, and the host that probes have to ask: none is the pod's own.
const PROBED: [(&str, Option<&str>); 5] = [
    ("0.0.0.0", None),
    ("[::]", None),
    ("127.0.0.1", Some("127.0.0.1")),
    ("[::1]", Some("::1")),
    ("192.0.2.7", Some("192.0.2.7")),
];

/// Holds the chart to all of it, and returns what it makes of each file of values.
pub(super) fn check(lab: &Lab) -> Result<Vec<(&'static str, String)>> {
    lint(lab)?;
    refuse(lab)?;
    probes(lab)?;
    let of_file = |values| {
        let path = chart(lab).join(values).display().to_string();
        Ok((values, template(lab, &["--values".to_owned(), path])?))
    };
    let texts = VALUES.into_iter().map(of_file).collect::<Result<Vec<_>>>()?;
    everything(&texts[1].1)?;
    Ok(texts)
}

fn lint(lab: &Lab) -> Result<()> {
    for values in VALUES {
        Command::new(lab.helm())
            .args(["lint", "--strict", "--quiet", "--values"])
            .arg(chart(lab).join(values))
            .arg(chart(lab))
            .read()?;
    }
    Ok(())
}

fn refuse(lab: &Lab) -> Result<()> {
    for wrong in WRONG {
        let (flag, value) = match wrong.split_once("=\"") {
            Some((key, text)) => ("--set-string", format!("{key}={}", text.trim_end_matches('"'))),
            None => ("--set", (*wrong).to_owned()),
        };
        refused(lab, [flag, &value], "schema")?;
    }
    for (options, words) in REFUSED {
        refused(lab, *options, words)?;
    }
    Ok(())
}

fn refused(lab: &Lab, options: [&str; 2], words: &str) -> Result<()> {
    let output = Command::new(lab.helm())
        .args(["template", "stormglass"])
        .args(options)
        .arg(chart(lab))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains(words),
        "the chart takes {}, or does not say `{words}`: {said}",
        options[1]
    );
    Ok(())
}

/// The kubelet asks a pod's own address unless told otherwise; with hostNetwork that is the node's, where one listens that
/// was told to.
fn probes(lab: &Lab) -> Result<()> {
    for (address, host) in PROBED {
        let options = ["--set".to_owned(), format!("listen.address={address}")];
        let text = template(lab, &options)?;
        let asked: Vec<_> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("host: "))
            .map(|host| host.trim_matches('"'))
            .collect();
        let expected = vec![host; 3].into_iter().flatten();
        ensure!(
            asked.iter().copied().eq(expected),
            "listen.address={address}: probes ask {asked:?}, not {host:?} three times"
        );
    }
    Ok(())
}

/// What ci/everything.yaml has to come to.
fn everything(text: &str) -> Result<()> {
    ensure!(
        text.contains("https://wiki.example.com/RUNBOOKS.md#stormglass")
            && !text.contains("stormglass.example"),
        "prometheusRule.runbookUrl does not get into the rules"
    );
    let label = "relabelings:\n      - replacement: eu-1\n        targetLabel: cluster\n";
    ensure!(
        text.matches(label).count() == 2 && text.matches("relabelings:").count() == 2,
        "`cluster` is not the label of both monitors, or not beside the relabelings in `extra`"
    );
    ensure!(
        text.contains("targetLabel: team"),
        "the relabelings in `extra` are lost beside `cluster`"
    );
    ensure!(
        text.contains("mountPath: /etc/stormglass-prefix\n")
            && text.contains("secretName: stormglass-prefix\n"),
        "`prefixKey.secret` is not mounted where the values say"
    );
    Ok(())
}
