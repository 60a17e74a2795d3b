//! Rules for prefixes that no rule matches: what they have in common, written as `[[tenant]]` tables for people to edit.

use std::collections::{BTreeMap, BTreeSet};

use super::is_special;
use crate::config::TenantName;

/// Tenants that are suggested by name, those with the most bytes; the prefixes beyond share one tenant. More would not be
/// read, and a thousand first parts of keys that have nothing in common are identifiers, not teams.
pub const SUGGESTED_TENANTS: usize = 100;

/// Characters that people put between the words of a prefix.
const SEPARATORS: &[char] = &['-', '_', '.', '/', ':', '|', ';', ',', '#', '@', '+', '~', ' '];

/// Characters that make a rule a glob, and the one that cannot stand alone in it.
const GLOB_CHARACTERS: &[char] = &['*', '?', '[', '{', '}'];

/// Prefixes that a suggestion names as examples.
const EXAMPLES: usize = 6;

/// Longest part of a name taken from a prefix, in bytes: leaves room for a number behind it.
const NAME_BYTES: usize = TenantName::MAX_BYTES - 8;

/// Where the lines of a list of prefixes break, in characters.
const LINE: usize = 100;

/// The tenant that has what is beyond [`SUGGESTED_TENANTS`].
const REST: &str = "rest";

/// A prefix that no rule matches, and what it has moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidate {
    /// The name of its row, see [`super::row_name`].
    pub prefix: String,
    /// What it has moved.
    pub traffic: Traffic,
}

/// Sums of a prefix or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Commands.
    pub commands: u64,
    /// Bytes of the commands.
    pub bytes_in: u64,
    /// Bytes of their replies.
    pub bytes_out: u64,
}

/// A tenant that would have some of the prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// A free name, valid in the configuration.
    pub name: String,
    /// Its rules, as they stand in the configuration: exact prefixes and globs.
    pub patterns: Vec<String>,
    /// The prefixes seen that they match.
    pub prefixes: Vec<String>,
    /// What those have moved.
    pub traffic: Traffic,
}

/// Tenants that together match every candidate, the one with the most bytes first. Prefixes that share a stem become one:
/// `cart-eu` and `cart-us` the tenant `cart` with `cart-*`, `shard1` and `shard2` the tenant `shard` with `shard[0-9]*`.
/// No two suggestions match the same candidate. Special rows are passed over. `taken`: names that tenants have already.
#[must_use]
pub fn suggest(candidates: &[Candidate], taken: &BTreeSet<String>) -> Vec<Suggestion> {
    let mut groups = groups(candidates);
    groups.sort_by_key(|group| (std::cmp::Reverse(group.traffic.bytes()), group.stem));
    let beyond = groups.split_off(groups.len().min(SUGGESTED_TENANTS));
    let mut names = Names(taken.clone());
    let mut suggestions: Vec<Suggestion> = groups
        .iter()
        .map(|group| group.suggestion(names.free(group.title())))
        .collect();
    if !beyond.is_empty() {
        suggestions.push(rest(&beyond, names.free(REST)));
    }
    suggestions
}

/// The suggestions as a part of the configuration, to be put at its end.
#[must_use]
pub fn to_toml(suggestions: &[Suggestion]) -> String {
    if suggestions.is_empty() {
        return "# Every prefix that was seen has a tenant: there is nothing to suggest.\n".into();
    }
    let mut text = String::from(
        "# Suggested by `stormglass tenants --suggest`: the prefixes that no rule matches, by what their names share.\n\
         # Names are guesses. Edit them, name the owners, and put this at the end of the configuration.\n",
    );
    for suggestion in suggestions {
        text.push('\n');
        text.push_str(&suggestion.to_toml());
    }
    text
}

impl Traffic {
    fn bytes(self) -> u64 {
        self.bytes_in.saturating_add(self.bytes_out)
    }

    fn add(&mut self, other: Self) {
        self.commands = self.commands.saturating_add(other.commands);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
    }
}

impl Suggestion {
    fn to_toml(&self) -> String {
        let Traffic {
            commands,
            bytes_in,
            bytes_out,
        } = self.traffic;
        let examples: Vec<&str> = self.prefixes.iter().take(EXAMPLES).map(String::as_str).collect();
        let more = match self.prefixes.len().saturating_sub(EXAMPLES) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!(
            "# commands {commands}, bytes in {bytes_in}, out {bytes_out}; seen: {}{more}\n\
             [[tenant]]\nname = {}\nowner = \"\"\nprefixes = {}\n",
            examples.join(", "),
            quoted(&self.name),
            list(&self.patterns),
        )
    }
}

/// Prefixes with a common stem.
struct Group<'a> {
    stem: &'a str,
    members: Vec<Member<'a>>,
    traffic: Traffic,
}

#[derive(Clone, Copy)]
struct Member<'a> {
    prefix: &'a str,
    after_stem: AfterStem,
}

/// What follows a prefix's stem.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum AfterStem {
    /// Nothing: the stem is the prefix.
    Nothing,
    /// A number, to the end.
    Digits,
    /// This separator, and more.
    Separator(char),
}

/// Every ordinary candidate in one group, in no particular order.
fn groups(candidates: &[Candidate]) -> Vec<Group<'_>> {
    let mut by_stem: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    for candidate in candidates {
        let prefix = &*candidate.prefix;
        if prefix.is_empty() || is_special(prefix) {
            continue;
        }
        let (stem, after_stem) = split(prefix);
        let group = by_stem.entry(stem).or_insert_with(|| Group::new(stem));
        group.add(Member { prefix, after_stem }, candidate.traffic);
    }
    absorb(by_stem)
}

/// The glob of a numbered stem (`shard[0-9]*`) matches every prefix that goes on behind a digit (`shard1-a`): their groups
/// become part of the stem's.
fn absorb<'a>(groups: BTreeMap<&'a str, Group<'a>>) -> Vec<Group<'a>> {
    let numbered: BTreeSet<&str> = groups
        .values()
        .filter(|group| group.has_glob(AfterStem::Digits))
        .map(|group| group.stem)
        .collect();
    let mut kept: BTreeMap<&str, Group<'a>> = BTreeMap::new();
    // A stem comes before those that begin with it.
    for (stem, group) in groups {
        match kept.get_mut(absorbing(stem, &numbered).unwrap_or(stem)) {
            Some(absorbing) => absorbing.absorb(group),
            None => _ = kept.insert(stem, group),
        }
    }
    kept.into_values().collect()
}

/// The shortest numbered stem that a stem goes on from with a digit.
fn absorbing<'a>(stem: &'a str, numbered: &BTreeSet<&str>) -> Option<&'a str> {
    let digits = stem
        .char_indices()
        .filter(|(_, character)| character.is_ascii_digit());
    digits
        .map(|(at, _)| &stem[..at])
        .find(|head| numbered.contains(head))
}

fn split(prefix: &str) -> (&str, AfterStem) {
    let word = prefix
        .find(|character| !SEPARATORS.contains(&character))
        .unwrap_or(prefix.len());
    let separator = prefix[word..].find(SEPARATORS);
    if let Some((stem, rest)) = separator.and_then(|at| prefix.split_at_checked(word + at))
        && let Some(separator) = rest.chars().next()
    {
        return (stem, AfterStem::Separator(separator));
    }
    let head = prefix.trim_end_matches(|character: char| character.is_ascii_digit());
    // The digits of an escaped byte (`\x01`) are no number.
    if head.is_empty() || head.len() == prefix.len() || prefix.contains('\\') {
        return (prefix, AfterStem::Nothing);
    }
    (head, AfterStem::Digits)
}

impl<'a> Group<'a> {
    fn new(stem: &'a str) -> Self {
        Self {
            stem,
            members: Vec::new(),
            traffic: Traffic::default(),
        }
    }

    fn add(&mut self, member: Member<'a>, traffic: Traffic) {
        self.members.push(member);
        self.traffic.add(traffic);
    }

    /// Takes over what the glob of this group's numbers matches.
    fn absorb(&mut self, group: Group<'a>) {
        let members = group.members.into_iter().map(|member| Member {
            after_stem: AfterStem::Digits,
            ..member
        });
        self.members.extend(members);
        self.traffic.add(group.traffic);
    }

    /// Two of a kind are worth a glob.
    fn has_glob(&self, after_stem: AfterStem) -> bool {
        let alike = self
            .members
            .iter()
            .filter(|member| member.after_stem == after_stem);
        after_stem != AfterStem::Nothing && alike.count() > 1
    }

    /// What the tenant may be called: by the stem that several prefixes share, or by the only prefix.
    fn title(&self) -> &'a str {
        match &*self.members {
            [only] => only.prefix,
            _ => self.stem,
        }
    }

    fn patterns(&self) -> Vec<String> {
        let mut globs: BTreeMap<AfterStem, bool> = BTreeMap::new();
        for member in &self.members {
            let after_stem = member.after_stem;
            globs
                .entry(after_stem)
                .or_insert_with(|| self.has_glob(after_stem));
        }
        let mut patterns = BTreeSet::new();
        for member in &self.members {
            patterns.insert(match member.after_stem {
                AfterStem::Separator(separator) if globs[&member.after_stem] => {
                    format!("{}{separator}*", literal_in_glob(self.stem))
                }
                AfterStem::Digits if globs[&member.after_stem] => {
                    format!("{}[0-9]*", literal_in_glob(self.stem))
                }
                _ => exact(member.prefix),
            });
        }
        patterns.into_iter().collect()
    }

    fn suggestion(&self, name: String) -> Suggestion {
        Suggestion {
            name,
            patterns: self.patterns(),
            prefixes: self.members.iter().map(|member| member.prefix.into()).collect(),
            traffic: self.traffic,
        }
    }
}

/// One tenant for all these groups.
fn rest(groups: &[Group<'_>], name: String) -> Suggestion {
    let mut all = Suggestion {
        name,
        patterns: Vec::new(),
        prefixes: Vec::new(),
        traffic: Traffic::default(),
    };
    for group in groups {
        let Suggestion {
            patterns,
            prefixes,
            traffic,
            ..
        } = group.suggestion(String::new());
        all.patterns.extend(patterns);
        all.prefixes.extend(prefixes);
        all.traffic.add(traffic);
    }
    all
}

/// Names of tenants that are no longer free.
struct Names(BTreeSet<String>);

impl Names {
    /// A name like this one that nobody has.
    fn free(&mut self, like: &str) -> String {
        let tidy = tidy(like);
        let numbered = (2_u64..).map(|number| format!("{tidy}-{number}"));
        let name = std::iter::once(tidy.clone())
            .chain(numbered)
            .find(|name| !self.0.contains(name))
            .unwrap_or(tidy);
        self.0.insert(name.clone());
        name
    }
}

/// A prefix as a tenant's name: letters, digits and what joins them stay, the rest becomes an underscore.
fn tidy(prefix: &str) -> String {
    let mut name = String::new();
    for character in prefix.chars() {
        let kept = character.is_alphanumeric() || ['-', '_', '.', '/'].contains(&character);
        if name.len() + character.len_utf8() > NAME_BYTES {
            break;
        }
        name.push(if kept { character } else { '_' });
    }
    name
}

/// A rule that matches this prefix alone.
fn exact(prefix: &str) -> String {
    if prefix.contains(GLOB_CHARACTERS) {
        literal_in_glob(prefix)
    } else {
        prefix.into()
    }
}

/// Text that stands for itself in a glob.
fn literal_in_glob(text: &str) -> String {
    let mut glob = String::with_capacity(text.len());
    for character in text.chars() {
        if GLOB_CHARACTERS.contains(&character) {
            glob.push('[');
            glob.push(character);
            glob.push(']');
        } else {
            glob.push(character);
        }
    }
    glob
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// A TOML array, on several lines where one would be too long.
fn list(patterns: &[String]) -> String {
    let quoted: Vec<String> = patterns.iter().map(|pattern| quoted(pattern)).collect();
    let one_line = format!("[{}]", quoted.join(", "));
    if one_line.len() <= LINE {
        return one_line;
    }
    let mut text = String::from("[");
    let mut width = LINE;
    for pattern in quoted {
        width += pattern.len() + 2;
        if width > LINE {
            text.push_str("\n   ");
            width = 3 + pattern.len() + 2;
        }
        text.push_str(&format!(" {pattern},"));
    }
    text.push_str("\n]");
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Settings;
    use crate::snapshot::PrefixSnapshot;
    use crate::tenants::{Rules, TenantRef, printable, row_name};

    fn candidates(prefixes: &[&str]) -> Vec<Candidate> {
        let candidates = prefixes.iter().zip(1..).map(|(prefix, number)| Candidate {
            prefix: (*prefix).into(),
            traffic: Traffic {
                commands: number,
                bytes_in: number * 10,
                bytes_out: number * 100,
            },
        });
        candidates.collect()
    }

    fn suggested(prefixes: &[&str]) -> Vec<(String, Vec<String>)> {
        let mut suggestions: Vec<_> = suggest(&candidates(prefixes), &BTreeSet::new())
            .into_iter()
            .map(|suggestion| (suggestion.name, suggestion.patterns))
            .collect();
        suggestions.sort();
        suggestions
    }

    fn tenant(name: &str, patterns: &[&str]) -> (String, Vec<String>) {
        (
            name.into(),
            patterns.iter().map(|pattern| (*pattern).into()).collect(),
        )
    }

    fn settings(text: &str) -> Settings {
        Settings::parse(Path::new("test.toml"), text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// Appends the suggestion to a configuration, which must take it without a warning, and looks each prefix up in it:
    /// every one has to have a tenant.
    fn assert_leaves_nothing(base: &str, prefixes: &[&str]) -> Vec<Suggestion> {
        let taken = settings(base)
            .tenants
            .iter()
            .map(|rule| rule.name.as_str().into())
            .collect();
        let suggestions = suggest(&candidates(prefixes), &taken);
        let text = format!("{base}\n{}", to_toml(&suggestions));
        let settings = settings(&text);
        assert_eq!(settings.warnings, Vec::<String>::new(), "{text}");
        let rules = Rules::new(&settings).expect("compiles");
        for prefix in prefixes {
            let tenant = rules.tenant_of(prefix);
            assert!(
                tenant != TenantRef::Unassigned || is_special(prefix),
                "{prefix} is left over:\n{text}"
            );
            if let Some(by) = suggestions
                .iter()
                .find(|by| by.prefixes.iter().any(|own| own == prefix))
            {
                assert_eq!(rules.name(tenant), by.name, "{prefix} in\n{text}");
            }
        }
        suggestions
    }

    #[test]
    fn prefixes_that_share_a_stem_become_one_tenant_with_a_glob() {
        assert_eq!(
            suggested(&["cart-eu", "cart-us", "cart", "pay_eu", "session"]),
            [
                tenant("cart", &["cart", "cart-*"]),
                tenant("pay_eu", &["pay_eu"]),
                tenant("session", &["session"]),
            ]
        );
    }

    #[test]
    fn numbers_at_the_end_become_a_class() {
        assert_eq!(
            suggested(&["shard1", "shard22", "shard3-a", "shard", "user9", "2024", "2025"]),
            [
                tenant("2024", &["2024"]),
                tenant("2025", &["2025"]),
                tenant("shard", &["shard", "shard[0-9]*"]),
                tenant("user9", &["user9"]),
            ]
        );
    }

    #[test]
    fn each_separator_has_a_glob_of_its_own_if_two_prefixes_have_it() {
        assert_eq!(
            suggested(&["a.x", "a.y", "a-x", "_b-1", "_b-2"]),
            [tenant("_b", &["_b-*"]), tenant("a", &["a-x", "a.*"])]
        );
    }

    #[test]
    fn special_rows_are_never_suggested() {
        let special = crate::tenants::SPECIAL_ROWS;
        assert_eq!(suggested(special), []);
        assert!(to_toml(&suggest(&candidates(special), &BTreeSet::new())).starts_with("# Every prefix"));
    }

    #[test]
    fn prefixes_that_would_be_globs_stand_for_themselves() {
        let odd = [
            "a*", "b?c", "[x]", "{tag}", "}", "]", "{a", "w*-1", "w*-2", "n?1", "n?2",
        ];
        assert_leaves_nothing("", &odd);
        let settings = settings(&to_toml(&suggest(&candidates(&odd), &BTreeSet::new())));
        let rules = Rules::new(&settings).expect("compiles");
        for other in ["ab", "bxc", "x", "tag", "wx-1", "nx1"] {
            assert_eq!(rules.tenant_of(other), TenantRef::Unassigned, "{other}");
        }
    }

    #[test]
    fn escaped_bytes_are_written_as_rows_write_them() {
        let names = [
            r"\xff\x01",
            r"\xff\x02",
            r"\xfe-a",
            r"\xfe-b",
            r"\x5cq",
            r"\x28none)",
            "käse",
            "\"'",
            "a b",
        ];
        assert_leaves_nothing("", &names);
        let text = to_toml(&suggest(&candidates(&[r"\xff\x01"]), &BTreeSet::new()));
        assert!(text.contains(r"prefixes = ['\xff\x01']"), "{text}");
        let digits_of_bytes = suggested(&[r"\xff\x01", r"\xff\x02"]);
        assert_eq!(digits_of_bytes.len(), 2, "no number: {digits_of_bytes:?}");
    }

    #[test]
    fn names_that_are_taken_are_numbered() {
        let base = "[[tenant]]\nname = \"cart\"\nprefixes = [\"basket\"]\n\
                    [[tenant]]\nname = \"cart-2\"\nprefixes = [\"b*\"]\n";
        let suggestions = assert_leaves_nothing(base, &["cart", "(", "_"]);
        let names: Vec<_> = suggestions.iter().map(|suggestion| &*suggestion.name).collect();
        assert_eq!(names, ["_", "_-2", "cart-3"]);
    }

    #[test]
    fn the_one_with_the_most_bytes_comes_first_with_its_sums() {
        let text = to_toml(&suggest(
            &candidates(&["small", "big-1", "big-2"]),
            &BTreeSet::new(),
        ));
        let expected = "# commands 5, bytes in 50, out 500; seen: big-1, big-2\n\
                        [[tenant]]\nname = \"big\"\nowner = \"\"\nprefixes = [\"big-*\"]\n\n\
                        # commands 1, bytes in 10, out 100; seen: small\n\
                        [[tenant]]\nname = \"small\"\nowner = \"\"\nprefixes = [\"small\"]\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn beyond_so_many_tenants_the_rest_shares_one() {
        let words: Vec<String> = (0..4096_u32)
            .map(|number| format!("w{}", letters(number)))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let suggestions = assert_leaves_nothing("", &words);
        assert_eq!(suggestions.len(), SUGGESTED_TENANTS + 1);
        assert_eq!(suggestions[SUGGESTED_TENANTS].name, REST);
        let commands: u64 = suggestions
            .iter()
            .map(|suggestion| suggestion.traffic.commands)
            .sum();
        assert_eq!(commands, 4096 * 4097 / 2, "each prefix is in one suggestion");
        let text = to_toml(&suggestions);
        assert!(
            text.lines().all(|line| line.len() < 2 * LINE),
            "lines stay readable"
        );
    }

    /// A number in letters.
    fn letters(mut number: u32) -> String {
        let mut text = String::new();
        for _ in 0..3 {
            text.push(char::from(b'a' + u8::try_from(number % 26).expect("small")));
            number /= 26;
        }
        text
    }

    /// Names of rows, as clients can make them: words, numbers and separators, or any bytes at all.
    fn row() -> impl Strategy<Value = String> {
        let words = "[-_.]?(a|b|cart|é)[0-9]{0,2}([-_./*?{}\\[\\]]{1,2}[a-c0-9]{0,2}){0,2}"
            .prop_map(String::into_bytes);
        let bytes = proptest::collection::vec(
            any::<u8>().prop_filter("no delimiter", |byte| *byte != b':'),
            1..6,
        );
        prop_oneof![3 => words, 1 => bytes].prop_map(|bytes| {
            let row = PrefixSnapshot {
                prefix: printable(&bytes),
                ..PrefixSnapshot::default()
            };
            row_name(&row).into_owned()
        })
    }

    proptest! {
        #[test]
        fn whatever_the_prefixes_the_suggestion_is_accepted_and_leaves_none_of_them(
            rows in proptest::collection::btree_set(row(), 1..60),
        ) {
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            assert_leaves_nothing("[[tenant]]\nname = \"b\"\nprefixes = [\"nobody\"]\n", &rows);
        }
    }
}
