//! Globs over prefixes, matched together.

use globset::Glob;
use regex::bytes::{RegexSet, RegexSetBuilder};

/// Globs in the order of the file, compiled into one automaton.
///
/// Only the syntax is globset's. Its `GlobSet` matches paths: `a{/..*` does not match the prefix `a{/..`, because a path that ends
/// in `..` has no file name. Prefixes are no paths, so here each glob's regular expression decides.
#[derive(Debug, Clone)]
pub struct Globs(RegexSet);

impl Globs {
    /// Compiles the globs.
    ///
    /// # Errors
    ///
    /// Globs that are too large together.
    pub fn new<'a>(globs: impl IntoIterator<Item = &'a Glob>) -> Result<Self, regex::Error> {
        RegexSetBuilder::new(globs.into_iter().map(Glob::regex))
            .dot_matches_new_line(true)
            .build()
            .map(Self)
    }

    /// The place of the first glob that matches.
    #[must_use]
    pub fn first(&self, text: &str) -> Option<usize> {
        self.0.matches(text.as_bytes()).iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::super::PrefixPattern;
    use super::*;

    fn first(globs: &[&str], text: &str) -> Option<usize> {
        let globs: Vec<Glob> = globs
            .iter()
            .map(|glob| match PrefixPattern::new(glob) {
                Ok(PrefixPattern::Glob(glob)) => glob,
                other => panic!("{other:?}"),
            })
            .collect();
        Globs::new(&globs).expect("compiles").first(text)
    }

    #[test]
    fn the_first_glob_that_matches_the_whole_text_is_found() {
        let globs = ["pay-*", "*-cache", "p?y-[ab]*", "{x,y}z"];
        for (text, expected) in [
            ("pay-eu", Some(0)),
            ("pay-", Some(0)),
            ("pay-cache", Some(0)),
            ("user-cache", Some(1)),
            ("poy-a1", Some(2)),
            ("poy-c1", None),
            ("xz", Some(3)),
            ("xyz", None),
            ("pay", None),
            ("", None),
        ] {
            assert_eq!(first(&globs, text), expected, "{text}");
        }
    }

    #[test]
    fn prefixes_are_no_paths() {
        for (glob, text) in [
            ("a{b,/..}", "a/.."),
            ("a/*", "a/b/c"),
            ("a*", "a/.."),
            ("*", "."),
            ("*.rdb", "/.rdb"),
        ] {
            assert_eq!(first(&[glob], text), Some(0), "{glob} and {text}");
        }
        assert_eq!(first(&["a*"], "a\nb"), Some(0));
    }
}
