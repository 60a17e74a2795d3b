//! What somebody has announced: storms that match are marked as expected, not kept quiet.

use serde::{Deserialize, Serialize};

use super::storm::{Moment, Storm, Subject};

/// An announced restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// Until when.
    pub until: Moment,
    /// Label of the server, `*` standing for any text; `None`: every server.
    pub server: Option<String>,
    /// The workload that leads the storm, likewise; `None`: whoever does.
    pub workload: Option<String>,
}

impl Expectation {
    /// Whether it announced this storm. One that names a workload needs to know who leads.
    #[must_use]
    pub fn covers(&self, storm: &Storm) -> bool {
        let leader = || {
            let mut workloads = storm
                .culprits
                .iter()
                .filter(|culprit| culprit.subject == Subject::Workload);
            workloads.next().map(|culprit| culprit.name.as_str())
        };
        self.fits(storm)
            && self
                .workload
                .as_ref()
                .is_none_or(|pattern| leader().is_some_and(|name| matches(pattern, name)))
    }

    /// Whether it may turn out to have announced this storm, of which it is not known yet who it is.
    #[must_use]
    pub fn may_cover(&self, storm: &Storm) -> bool {
        self.workload.is_some() && storm.culprits.is_empty() && self.fits(storm)
    }

    /// Whether the storm is at its servers, and in time.
    fn fits(&self, storm: &Storm) -> bool {
        storm.found <= self.until
            && self
                .server
                .as_ref()
                .is_none_or(|pattern| matches(pattern, &storm.server))
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else { return false };
            rest = &rest[at + middle.len()..];
        }
    }
    match last {
        Some(end) => rest.ends_with(end),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("cart-api", "cart-api", true),
            ("cart-api", "cart-api-2", false),
            ("cart-*", "cart-api", true),
            ("*", "", true),
            ("*:6379", "ns/pod:6379", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
