//! Under which names prefixes are shown: as they are, or as keyed hashes (`keys.hash_prefixes`).
//!
//! Rules, the detectors' memory and the kernel's maps go by the plain name. It is exchanged in two places, behind which nothing
//! has it any more: [`crate::metrics::Report::new`], of which metrics, API and pages are made, and [`crate::storms::Engine`],
//! where culprits get into a storm.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use ring::hmac;

use super::{is_special, row_name};
use crate::snapshot::Snapshot;

/// What a hash begins with, so that nobody takes it for a prefix.
const MARK: char = '#';

/// Bytes of a digest that are shown. By chance two of 4,096 prefixes have the same 64 bits once in 2 x 10^12 nodes.
const SHOWN_BYTES: usize = 8;

/// The names of prefixes. The default shows them as they are.
#[derive(Clone, Default)]
pub struct PrefixNames(Option<Arc<hmac::Key>>);

impl PrefixNames {
    /// Shows hashes under this key.
    #[must_use]
    pub fn hashed(key: &[u8]) -> Self {
        Self(Some(hmac::Key::new(hmac::HMAC_SHA256, key).into()))
    }

    /// Whether hashes are shown.
    #[must_use]
    pub const fn are_hashed(&self) -> bool {
        self.0.is_some()
    }

    /// How a row of this name ([`row_name`]) is shown; special rows always as they are. A hash is `#` and the first 16 hexadecimal
    /// digits of the name's HMAC-SHA-256.
    #[must_use]
    pub fn of<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let Some(key) = self.0.as_ref().filter(|_| !is_special(name)) else {
            return Cow::Borrowed(name);
        };
        let digest = hmac::sign(key, name.as_bytes());
        let shown = digest.as_ref().iter().take(SHOWN_BYTES);
        let mut hash = String::with_capacity(1 + 2 * SHOWN_BYTES);
        hash.push(MARK);
        for byte in shown {
            for digit in [byte >> 4, byte & 15] {
                hash.extend(char::from_digit(digit.into(), 16));
            }
        }
        Cow::Owned(hash)
    }

    /// Gives the rows of a snapshot the names under which they are shown. Rules do not know them by these.
    pub fn give_to(&self, snapshot: &mut Snapshot) {
        if !self.are_hashed() {
            return;
        }
        let rows = snapshot
            .servers
            .iter_mut()
            .flat_map(|server| &mut server.prefixes);
        for row in rows.filter(|row| !row.special) {
            row.prefix = self.of(&row_name(row)).into_owned();
        }
    }
}

/// The same if they show the same: keys cannot be compared.
impl PartialEq for PrefixNames {
    fn eq(&self, other: &Self) -> bool {
        const ANY: &str = "any";
        self.of(ANY) == other.of(ANY)
    }
}

/// Without the key.
impl fmt::Debug for PrefixNames {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.are_hashed() { "hashed" } else { "plain" };
        write!(formatter, "PrefixNames({how})")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::snapshot::{PrefixSnapshot, ServerSnapshot};
    use crate::tenants::SPECIAL_ROWS;

    const KEY: &[u8] = b"0123456789abcdef";

    #[test]
    fn a_hash_is_the_beginning_of_what_openssl_says() {
        // printf cart | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(PrefixNames::hashed(KEY).of("cart"), "#251e78d62802e08c");
        assert_ne!(
            PrefixNames::hashed(b"fedcba9876543210").of("cart"),
            PrefixNames::hashed(KEY).of("cart")
        );
        assert_eq!(PrefixNames::default().of("cart"), "cart");
    }

    #[test]
    fn special_rows_keep_their_names_and_prefixes_that_look_like_them_do_not() {
        let names = PrefixNames::hashed(KEY);
        for special in SPECIAL_ROWS {
            assert_eq!(names.of(special), *special);
        }
        let row = |prefix: &str, special| PrefixSnapshot {
            prefix: prefix.into(),
            special,
            ..PrefixSnapshot::default()
        };
        let mut snapshot = Snapshot {
            servers: vec![ServerSnapshot {
                prefixes: vec![row("(none)", true), row("(none)", false), row("cart", false)],
                ..ServerSnapshot::default()
            }],
            ..Snapshot::default()
        };
        names.give_to(&mut snapshot);
        let shown: Vec<_> = snapshot.servers[0].prefixes.iter().map(row_name).collect();
        assert_eq!(shown, ["(none)", &*names.of(r"\x28none)"), &*names.of("cart")]);
        assert!(
            shown[1].starts_with('#') && shown[2].starts_with('#'),
            "{shown:?}"
        );
    }

    #[test]
    fn as_many_prefixes_as_there_can_be_have_as_many_hashes() {
        let names = PrefixNames::hashed(KEY);
        let prefixes = (0..agent_common::limits::PREFIXES).map(|number| format!("p{number}"));
        let hashes: BTreeSet<String> = prefixes.map(|prefix| names.of(&prefix).into_owned()).collect();
        assert_eq!(hashes.len(), agent_common::limits::PREFIXES);
        assert!(hashes.iter().all(|hash| hash.len() == 17), "{hashes:?}");
    }

    #[test]
    fn names_are_the_same_if_they_show_the_same_and_never_show_their_key() {
        let names = PrefixNames::hashed(KEY);
        assert_eq!(names, PrefixNames::hashed(KEY));
        assert_ne!(names, PrefixNames::hashed(b"fedcba9876543210"));
        assert_ne!(names, PrefixNames::default());
        assert_eq!(format!("{names:?}"), "PrefixNames(hashed)");
    }
}
