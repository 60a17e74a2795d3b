//! What a rule says of names of clients: ACL users and client names.

use agent_common::abi::IDENTITY_BYTES;

use crate::tenants::{bytes_of_name, is_special};

/// A name (of a client, or a prefix), or all that begin with one. No other globs: the kernel tells whose a connection is, by its longest match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePattern {
    /// The name itself.
    Whole(Vec<u8>),
    /// Every name that begins with these bytes.
    Beginning(Vec<u8>),
}

impl NamePattern {
    /// A text that ends in its only `*` stands for what begins so; bytes that are no text are written as `\xNN`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, and what to do.
    pub fn new(text: &str) -> Result<Self, (&'static str, &'static str)> {
        const ADVICE: &str = "write a name such as \"checkout-svc\", or its beginning such as \"checkout-*\"";
        let (name, whole) = text.strip_suffix('*').map_or((text, true), |head| (head, false));
        if text.is_empty() {
            return Err(("is empty", ADVICE));
        }
        if name.contains(['*', '?', '[', '{']) {
            return Err((
                "is a glob that the kernel cannot decide: of users and client names only the end can be a `*`",
                ADVICE,
            ));
        }
        if whole && is_special(text) {
            return Err(("is in parentheses, as no client's name is shown", ADVICE));
        }
        let Some(bytes) = (if name.is_empty() {
            Some(Vec::new())
        } else {
            bytes_of_name(name)
        }) else {
            return Err((
                "is not how a name is shown",
                "write bytes that are no text as two hexadecimal digits, such as \"\\\\x0a\" for a line feed",
            ));
        };
        if bytes.len() > IDENTITY_BYTES {
            return Err((
                "is longer than the 48 bytes that are kept of a name",
                "write its first 48 bytes, or fewer and a `*`",
            ));
        }
        if !whole && bytes.last() == Some(&0) {
            return Err(("has a zero in front of the `*`", ADVICE));
        }
        Ok(if whole {
            Self::Whole(bytes)
        } else {
            Self::Beginning(bytes)
        })
    }
}

impl NamePattern {
    /// The name, or its beginning.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let (Self::Whole(bytes) | Self::Beginning(bytes)) = self;
        bytes
    }

    /// Whatever matches all that this one does, itself the last.
    pub fn wider(&self) -> impl Iterator<Item = Self> + '_ {
        let bytes = self.bytes();
        let beginnings = (0..=bytes.len()).map(|length| Self::Beginning(bytes[..length].to_vec()));
        beginnings.chain(std::iter::once(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_whole_or_ends_in_its_only_asterisk() {
        let whole = |name: &[u8]| Ok(NamePattern::Whole(name.to_vec()));
        let beginning = |name: &[u8]| Ok(NamePattern::Beginning(name.to_vec()));
        assert_eq!(NamePattern::new("checkout-svc"), whole(b"checkout-svc"));
        assert_eq!(NamePattern::new("checkout-*"), beginning(b"checkout-"));
        assert_eq!(NamePattern::new("*"), beginning(b""));
        assert_eq!(NamePattern::new(r"\xff\x0a"), whole(b"\xff\n"));
        assert_eq!(NamePattern::new(&"x".repeat(48)), whole(&[b'x'; 48]));
    }

    #[test]
    fn what_the_kernel_cannot_decide_is_refused() {
        for (text, fault) in [
            ("", "is empty"),
            ("*-svc", "a glob that the kernel cannot decide"),
            ("a*b*", "a glob that the kernel cannot decide"),
            ("svc-[0-9]", "a glob that the kernel cannot decide"),
            ("svc-?", "a glob that the kernel cannot decide"),
            ("{a,b}", "a glob that the kernel cannot decide"),
            ("(none)", "is in parentheses"),
            ("a\nb", "is not how a name is shown"),
            (r"a\x00*", "has a zero in front"),
            (&*"x".repeat(49), "longer than the 48 bytes"),
        ] {
            let (reason, _) = NamePattern::new(text).expect_err(text);
            assert!(reason.contains(fault), "{text}: {reason}");
        }
    }
}
