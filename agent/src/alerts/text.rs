//! Words for people, and what receivers are told of this agent.

use std::fmt::Write as _;

use super::book::Labels;
use crate::config::Alerts;
use crate::storms::{Culprit, Figure, Kind, Storm};
use crate::time::utc;

/// Culprits that are named in a text.
const CULPRITS: usize = 5;

/// Who tells, and what goes with everything it tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// Label `node`.
    pub(super) node: String,
    /// Further labels.
    pub(super) labels: Labels,
    /// Where people reach this agent.
    external_url: String,
    /// Where runbooks are, with `{kind}` in it.
    runbook_url: String,
    send_expected: bool,
}

impl Identity {
    /// `host`: the name of this host; `listen`: where the agent listens.
    pub(super) fn new(settings: &Alerts, host: &str, listen: std::net::SocketAddr) -> Self {
        let node = settings.node.clone().unwrap_or_else(|| host.to_owned());
        let external_url = settings.external_url.clone().unwrap_or_else(|| {
            if listen.ip().is_unspecified() {
                format!("http://{node}:{}", listen.port())
            } else {
                format!("http://{listen}")
            }
        });
        let runbook_url = settings.runbook_url.clone();
        Self {
            runbook_url: runbook_url.unwrap_or_else(|| format!("{external_url}/runbooks/{{kind}}")),
            node,
            labels: settings.labels.clone(),
            external_url,
            send_expected: settings.send_expected,
        }
    }

    /// Whether receivers are told of the storm, as far as it alone decides.
    pub(super) const fn is_to_be_sent(&self, storm: &Storm) -> bool {
        self.send_expected || !storm.expected
    }

    /// Whether announced storms are kept from receivers.
    pub(super) const fn is_quiet(&self) -> bool {
        !self.send_expected
    }

    /// The runbook of a kind.
    pub(super) fn runbook(&self, kind: Kind) -> String {
        self.runbook_url.replace("{kind}", kind.label())
    }

    /// Where the storm is shown.
    pub(super) fn generator(&self, _storm: &str) -> String {
        format!("{}/api/v1/storms", self.external_url)
    }
}

/// What is known of a storm, in a few lines.
pub(super) fn description(storm: &Storm) -> String {
    let mut text = format!("Since {}", utc(storm.onset.0));
    if let Some(ended) = storm.ended {
        _ = write!(text, " until {}", utc(ended.0));
    }
    text.push('.');
    if storm.kinds.len() > 1 {
        let kinds: Vec<_> = storm.kinds.iter().map(|kind| kind.label()).collect();
        _ = write!(text, "\nKinds: {}.", kinds.join(", "));
    }
    if !storm.evidence.is_empty() {
        let figures: Vec<_> = storm.evidence.iter().map(figure).collect();
        _ = write!(text, "\nEvidence: {}.", figures.join("; "));
    }
    if !storm.culprits.is_empty() {
        let culprits: Vec<_> = storm.culprits.iter().take(CULPRITS).map(culprit).collect();
        _ = write!(text, "\nBy: {}.", culprits.join("; "));
    }
    text
}

fn figure(figure: &Figure) -> String {
    let name = figure.name.replace('_', " ");
    match figure.unit.as_str() {
        "ratio" => format!("{name} {}", number(figure.value)),
        unit => format!("{name} {} {unit}", number(figure.value)),
    }
}

fn culprit(culprit: &Culprit) -> String {
    let mut text = format!(
        "{} {}, {:.0} %",
        culprit.subject.label(),
        culprit.name,
        culprit.share * 100.0
    );
    let held = [
        (culprit.instances, "addresses"),
        (culprit.connections, "connections"),
    ];
    let held: Vec<_> = held
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !held.is_empty() {
        _ = write!(text, " ({})", held.join(", "));
    }
    text
}

/// As many digits as a person reads: three of them behind the leading ones, none behind the point from a hundred on.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::testing::storm;
    use crate::storms::Moment;

    #[test]
    fn a_description_has_the_evidence_and_who_did_it() {
        let mut storm = storm("a");
        assert_eq!(
            description(&storm),
            "Since 2026-11-23T05:41:46Z.\nEvidence: opens 4100 connections; amplification 2.50.\n\
             By: workload cart-api, 92 % (312 addresses, 4056 connections)."
        );
        storm.kinds.push(Kind::AcceptQueueSaturation);
        storm.ended = Some(Moment(storm.onset.0 + 60_000));
        storm.culprits.clear();
        storm.evidence.truncate(1);
        assert_eq!(
            description(&storm),
            "Since 2026-11-23T05:41:46Z until 2026-11-23T05:42:46Z.\n\
             Kinds: reconnect_churn, accept_queue_saturation.\nEvidence: opens 4100 connections."
        );
    }

    #[test]
    fn links_lead_to_this_agent_unless_the_configuration_says_otherwise() {
        let listen = |text: &str| text.parse().expect("an address");
        let mut settings = Alerts::default();
        let kind = Kind::ColdReconnect;
        let identity = Identity::new(&settings, "cache-7", listen("127.0.0.1:9466"));
        assert_eq!(
            identity.runbook(kind),
            "http://127.0.0.1:9466/runbooks/cold_reconnect"
        );
        let identity = Identity::new(&settings, "cache-7", listen("[::]:9466"));
        assert_eq!(
            identity.runbook(kind),
            "http://cache-7:9466/runbooks/cold_reconnect"
        );
        settings.external_url = Some("https://storms.example/cache-7".into());
        settings.runbook_url = Some("https://wiki.example/valkey#{kind}".into());
        let identity = Identity::new(&settings, "cache-7", listen("[::]:9466"));
        assert_eq!(
            identity.runbook(kind),
            "https://wiki.example/valkey#cold_reconnect"
        );
        assert_eq!(
            identity.generator("1-1"),
            "https://storms.example/cache-7/api/v1/storms"
        );
    }
}
