//! A storm in one sentence, for people.

use super::finding::Finding;
use super::storm::{Culprit, Subject};
use crate::numbers;

/// Between two looks at the connections: what was seen in one look alone has lasted so long.
const LOOK_MILLISECONDS: u64 = 100;

/// What it is, how bad, in what time, and who.
pub(super) fn summary(lead: &Finding, culprits: &[Culprit]) -> String {
    // Not until now: it is still on when nothing of it is seen for a while.
    let lasted = lead.seen.since(lead.onset).max(LOOK_MILLISECONDS);
    let told = sentence(lead.noun, lead.amount, lasted as f64 / 1e3, culprits);
    format!("{}: {told}", named(lead))
}

/// The kind in words, with what a person asks first.
fn named(finding: &Finding) -> String {
    let words = finding.kind.label().replace('_', " ");
    let time_left = finding.evidence.iter().find(|figure| figure.name == "time_left");
    match time_left {
        Some(left) => format!("{words}, {} left", duration(left.value)),
        None => words,
    }
}

/// Names the leading culprit and its share: `92 % of 4,100 opens in 3 s: workload cart-api, go-redis 8.11, 312 instances, 13
/// connections each`.
fn sentence(noun: &str, amount: f64, seconds: f64, culprits: &[Culprit]) -> String {
    let of = format!("{} {noun} in {}", thousands(amount), duration(seconds));
    let owner = |culprit: &&Culprit| {
        matches!(
            culprit.subject,
            Subject::Workload | Subject::Client | Subject::Tenant | Subject::Prefix
        )
    };
    let Some(first) = culprits.iter().find(owner) else {
        return of;
    };
    let mut sentence = format!(
        "{:.0} % of {of}: {} {}",
        first.share * 100.0,
        first.subject.label(),
        first.name
    );
    let library = culprits
        .iter()
        .find(|culprit| culprit.subject == Subject::Library);
    if let Some(library) = library {
        sentence.push_str(&format!(", {}", library.name));
    }
    if first.instances > 1 {
        sentence.push_str(&format!(", {} instances", thousands(first.instances as f64)));
    }
    if first.instances > 0 {
        let each = first.connections as f64 / first.instances as f64;
        let what = if each.round() == 1.0 {
            "connection"
        } else {
            "connections"
        };
        let each_of = if first.instances > 1 { " each" } else { "" };
        sentence.push_str(&format!(", {} {what}{each_of}", thousands(each)));
    }
    sentence
}

/// `4,100`.
fn thousands(number: f64) -> String {
    numbers::thousands(number.max(0.0).round_ties_even() as u64)
}

/// `0.7 s`, `3 s`, `12 min`.
fn duration(seconds: f64) -> String {
    match seconds {
        short if short < 2.0 => format!("{short:.1} s"),
        middling if middling < 120.0 => format!("{middling:.0} s"),
        long if long < 7_200.0 => format!("{:.0} min", long / 60.0),
        longer => format!("{:.0} h", longer / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_who_leads_and_with_which_library() {
        let culprit = |subject, name: &str, share, instances| Culprit {
            subject,
            name: name.to_owned(),
            share,
            instances,
            connections: 13 * instances,
            amount: 0.0,
        };
        let of = |culprits: &[Culprit]| sentence("opens", 4_100.0, 3.2, culprits);
        let cart = culprit(Subject::Workload, "cart-api", 0.9, 3);
        let library = culprit(Subject::Library, "go-redis 8.11", 0.9, 3);
        assert_eq!(
            of(&[cart.clone(), library]),
            "90 % of 4,100 opens in 3 s: workload cart-api, go-redis 8.11, 3 instances, 13 connections each"
        );
        let alone = culprit(Subject::Client, "10.0.0.9", 1.0, 1);
        assert_eq!(
            of(&[alone, cart]),
            "100 % of 4,100 opens in 3 s: client 10.0.0.9, 13 connections"
        );
        assert_eq!(sentence("opens", 7.0, 0.71, &[]), "7 opens in 0.7 s");
    }

    #[test]
    fn numbers_are_read_easily() {
        for (number, text) in [
            (0.4, "0"),
            (999.0, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(thousands(number), text);
        }
        for (seconds, text) in [
            (0.31, "0.3 s"),
            (59.6, "60 s"),
            (600.0, "10 min"),
            (9_000.0, "2 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
