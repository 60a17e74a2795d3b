//! What to do about each kind of storm: the sections of docs/RUNBOOKS.md, served by the agent, so that the link in an alert works on
//! every host and says what this version means.

use crate::storms::Kind;

const ALL: &str = include_str!("../../../docs/RUNBOOKS.md");

/// What many sections refer to.
const ISOLATING: &str = "\n### Isolating a client\n";

/// What to do about a kind, Markdown: its section, and how a client is isolated.
#[must_use]
pub fn page(kind: Kind) -> Option<String> {
    let isolating = &ALL[ALL.find(ISOLATING)?..];
    let end = isolating.find("\n## ")?;
    Some(format!("{}{}", section(kind)?, &isolating[..=end]))
}

fn section(kind: Kind) -> Option<&'static str> {
    let heading = format!("\n## {}\n", kind.label());
    let section = &ALL[ALL.find(&heading)? + 1..];
    let end = section[3..].find("\n## ").map_or(section.len(), |end| end + 4);
    Some(&section[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_refers_to_itself_or_to_another_kinds() {
        let targets = Kind::ALL.map(|kind| format!("{kind})"));
        for kind in Kind::ALL {
            let page = page(kind).expect("there");
            for link in page.match_indices("](#").map(|(at, _)| &page[at + 3..]) {
                let is_there = targets.iter().any(|target| link.starts_with(target));
                assert!(
                    is_there || link.starts_with("isolating-a-client)"),
                    "{kind}: {link}"
                );
            }
            assert!(
                page.contains(ISOLATING) && page.contains("CLIENT KILL USER"),
                "{page}"
            );
            assert_eq!(page.matches("## ").count(), 2, "{page}");
        }
    }

    #[test]
    fn every_kind_has_one_section_with_its_four_parts_in_order() {
        for kind in Kind::ALL {
            let text = section(kind).unwrap_or_else(|| panic!("no section for {kind}"));
            assert_eq!(
                text.matches("\n## ").count(),
                0,
                "{kind}: the section goes on into the next"
            );
            let mut rest = text;
            for part in ["**Means.** ", "**Look at.** ", "**Now.** ", "**Later.** "] {
                let at = rest.find(part).unwrap_or_else(|| panic!("{kind}: no {part}"));
                rest = &rest[at + part.len()..];
            }
            assert_eq!(
                ALL.matches(&format!("\n## {}\n", kind.label())).count(),
                1,
                "{kind}"
            );
        }
        // The others are of Prometheus' alerts, which the tests of the rules know.
        let alerts = ALL.matches("\n## Stormglass").count();
        assert_eq!(
            ALL.matches("\n## ").count() - alerts,
            Kind::ALL.len(),
            "a section of no kind"
        );
    }
}
