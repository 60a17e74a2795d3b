//! The version of a server, from its executable: nothing is run, and the server is not asked.
//!
//! Redis, Valkey and KeyDB have carried two strings since 2.6: the version alone, for INFO and HELLO, and a name of the
//! build in which the version is followed by the builder's host and time, the number of changed lines, and eight digits
//! of the commit (`src/mkreleasehdr.sh`):
//!
//! ```text
//! 7.0.15                                              the version
//! 7.0.15build-host-1735912342000000000                7.0.15, build-host-1735912342, 0, 00000000
//! 7.0.15173591234200000000                            the same of a reproducible build, which has no host
//! valkey9.1.2build-host-1735912342000000000           newer ones begin with the product
//! ```
//!
//! Only a version that both agree on is told: an executable holds forty others, of its libraries, of the Redis that Valkey
//! is compatible with, of the release that brought each command. If none or several fit, it is unknown. Strings end
//! with a zero; what stands before one may be anything, such as a table of numbers.

use std::{collections::BTreeSet, fs::File, io, os::unix::fs::FileExt};

/// Most of an executable that is read, in bytes: fifty times the read-only part of a usual build.
const EXECUTABLE_BYTES: u64 = 64 << 20;
/// How much is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Longest string that can be either of the two, in bytes; a host's name has at most 64.
const STRING_BYTES: usize = 160;
/// Strings of either kind that are kept. Real executables have a handful.
const STRINGS: usize = 256;
/// Segments of an executable that are looked at; linkers make about ten.
const SEGMENTS: usize = 64;

/// The version of the server that an executable is, `None` if it cannot be told for certain.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn of_executable(file: &File) -> io::Result<Option<String>> {
    let mut strings = Strings::default();
    let mut budget = EXECUTABLE_BYTES;
    for (offset, length) in read_only_segments(file)? {
        let Some(left) = budget.checked_sub(length) else {
            return Ok(None);
        };
        budget = left;
        read_strings(file, offset, length, &mut strings)?;
    }
    Ok(strings.version())
}

/// Offset and length in the file of everything that is loaded and never written: where constants are.
fn read_only_segments(file: &File) -> io::Result<Vec<(u64, u64)>> {
    const HEAD_BYTES: usize = 64;
    const SEGMENT_BYTES: usize = 56;
    const LOADED: u32 = 1;
    const WRITABLE: u32 = 2;
    let mut head = [0; HEAD_BYTES];
    // 64 bits, little-endian.
    if read_at_most(file, &mut head, 0)? < HEAD_BYTES || !head.starts_with(b"\x7fELF\x02\x01") {
        return Ok(Vec::new());
    }
    let table = u64_at(&head, 32);
    let size = usize::from(u16_at(&head, 54));
    let count = usize::from(u16_at(&head, 56)).min(SEGMENTS);
    if size != SEGMENT_BYTES {
        return Ok(Vec::new());
    }
    let mut segments = vec![0; SEGMENT_BYTES * count];
    let length = read_at_most(file, &mut segments, table)?;
    let segments = segments[..length].chunks_exact(SEGMENT_BYTES);
    let constant =
        segments.filter(|segment| u32_at(segment, 0) == LOADED && u32_at(segment, 4) & WRITABLE == 0);
    Ok(constant
        .map(|segment| (u64_at(segment, 8), u64_at(segment, 32)))
        .collect())
}

fn read_strings(file: &File, offset: u64, length: u64, strings: &mut Strings) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut begun: Vec<u8> = Vec::new();
    let mut read = 0;
    while read < length {
        let wanted = usize::try_from(length - read).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let got = read_at_most(file, &mut piece[..wanted], offset.saturating_add(read))?;
        if got == 0 {
            break;
        }
        read += got as u64;
        begun.extend_from_slice(&piece[..got]);
        let ended = begun.iter().rposition(|&byte| byte == 0).map_or(0, |at| at + 1);
        for string in begun[..ended].split(|&byte| byte == 0) {
            strings.take(string);
        }
        let kept = (begun.len() - ended).min(STRING_BYTES);
        begun.drain(..begun.len() - kept);
    }
    Ok(())
}

/// Strings of an executable that may tell its version.
#[derive(Debug, Default)]
struct Strings {
    versions: BTreeSet<String>,
    builds: BTreeSet<String>,
    too_many: bool,
}

impl Strings {
    /// Looks at the end of what stands before a zero.
    fn take(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(STRING_BYTES)..];
        let begin = bytes
            .iter()
            .rposition(|byte| !byte.is_ascii_graphic())
            .map_or(0, |at| at + 1);
        let Ok(string) = std::str::from_utf8(&bytes[begin..]) else {
            return;
        };
        let (_, number) = split_trailing(string, |byte| byte.is_ascii_digit() || byte == b'.');
        let (kind, string) = if is_version(number) {
            (&mut self.versions, number)
        } else if looks_like_build(string) {
            (&mut self.builds, string)
        } else {
            return;
        };
        if kind.len() < STRINGS {
            kind.insert(string.to_owned());
        } else {
            self.too_many = true;
        }
    }

    /// The one version that a build is of.
    fn version(&self) -> Option<String> {
        let mut fitting = self
            .versions
            .iter()
            .filter(|version| self.builds.iter().any(|build| is_build_of(build, version)));
        let version = fitting.next()?;
        (fitting.next().is_none() && !self.too_many).then(|| version.clone())
    }
}

/// Three numbers.
fn is_version(string: &str) -> bool {
    let numbers: Vec<&str> = string.split('.').collect();
    numbers.len() == 3
        && numbers
            .iter()
            .all(|number| (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Seconds since 1970 have ten digits from 2001 to 2286; the number of changed lines has at least one.
const LEAST_DIGITS: usize = 11;
const MOST_DIGITS: usize = 18;

fn looks_like_build(string: &str) -> bool {
    before_commit(string)
        .is_some_and(|made| split_trailing(made, |byte| byte.is_ascii_digit()).1.len() >= LEAST_DIGITS)
}

/// Whether the name of a build has this version, and behind it: host, dash and time (or time), changed lines, commit.
fn is_build_of(build: &str, version: &str) -> bool {
    let Some(build) = before_commit(build) else {
        return false;
    };
    build.match_indices(version).any(|(at, _)| {
        let (before, made) = (&build[..at], &build[at + version.len()..]);
        let digits = match made.rsplit_once('-') {
            Some((host, digits)) if !host.is_empty() => digits,
            Some(_) => return false,
            None => made,
        };
        !before.ends_with(|last: char| last.is_ascii_digit() || last == '.')
            && (LEAST_DIGITS..=MOST_DIGITS).contains(&digits.len())
            && digits.starts_with(['1', '2'])
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// What stands before the last eight characters, if those are hexadecimal digits.
fn before_commit(build: &str) -> Option<&str> {
    let (before, commit) = build.split_at_checked(build.len().checked_sub(8)?)?;
    let is_commit = commit
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_commit.then_some(before)
}

/// Splits off the characters at the end that `belongs` accepts. They are ASCII.
fn split_trailing(string: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    let at = string
        .bytes()
        .rposition(|byte| !belongs(byte))
        .map_or(0, |at| at + 1);
    string.split_at(at)
}

/// Reads until the buffer is full or the file ends.
fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset.saturating_add(length as u64)) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Callers have checked the length.
fn bytes_at<const BYTES: usize>(of: &[u8], at: usize) -> [u8; BYTES] {
    of.get(at..at + BYTES)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; BYTES])
}

fn u16_at(of: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(of, at))
}

fn u32_at(of: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(of, at))
}

fn u64_at(of: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(of, at))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// An executable with one segment of constants, and one of variables, which do not count.
    fn executable(constants: &[u8], variables: &[u8]) -> File {
        let mut image = vec![0; 64 + 2 * 56];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        image[32] = 64;
        image[54] = 56;
        image[56] = 2;
        for (at, flags, bytes) in [(64, 4, constants), (120, 6, variables)] {
            let offset = image.len() as u64;
            image[at] = 1;
            image[at + 4] = flags;
            image[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
            image[at + 32..at + 40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            image.extend_from_slice(bytes);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&image).unwrap();
        file
    }

    fn version(strings: &[&str]) -> Option<String> {
        let constants: String = strings.iter().map(|string| format!("\0{string}\0")).collect();
        of_executable(&executable(constants.as_bytes(), b"")).unwrap()
    }

    #[test]
    fn the_version_is_the_one_that_a_build_is_named_by() {
        for (build, expected) in [
            ("7.0.15build-host-1735912342000000000", "7.0.15"),
            ("7.0.151735912342000000000", "7.0.15"),
        ] {
            assert_eq!(
                version(&["7.0.15", "5.3.0", build]).as_deref(),
                Some(expected),
                "{build}"
            );
        }
    }

    #[test]
    fn valkey_is_not_taken_for_the_redis_that_it_is_compatible_with() {
        let strings = [
            "7.2.4",
            "9.1.2",
            "5.3.0",
            "valkey9.1.2runner-x1-17827000001234deadbeef",
        ];
        assert_eq!(version(&strings).as_deref(), Some("9.1.2"));
    }

    #[test]
    fn a_version_that_two_readings_of_a_build_share_is_unknown() {
        // A host that begins with a digit: 8.0.1 built by 2host, or 8.0.12 built by host.
        let build = "8.0.12host-1735912342000000000";
        assert_eq!(version(&["8.0.1", build]).as_deref(), Some("8.0.1"));
        assert_eq!(version(&["8.0.1", "8.0.12", build]), None);
    }

    #[test]
    fn one_string_without_the_other_is_not_enough() {
        for strings in [
            &["8.0.1"][..],
            &["8.0.1host-1735912342000000000"],
            &["8.0.2", "8.0.1host-1735912342000000000"],
            &["8.0.1", "8.0.1host-1735912342"],
            &["8.0.1", "8.0.1-1735912342000000000"],
            &["8.0.1", "8.0.1host-9735912342000000000"],
            &["8.0.1", "8.0.1host-17359123420NOTACOMMIT"],
            &["8.0", "8.0host-1735912342000000000"],
            &[],
        ] {
            assert_eq!(version(strings), None, "{strings:?}");
        }
    }

    #[test]
    fn strings_are_found_wherever_a_piece_ends_and_whatever_stands_before_them() {
        let build = "8.0.1host-1735912342000000000";
        for shift in [0, 1, 5, 6, 20, 35, 36, 37, 60] {
            let filler = "x".repeat(PIECE_BYTES - shift);
            assert_eq!(
                version(&[&filler, "8.0.1", build]).as_deref(),
                Some("8.0.1"),
                "{shift}"
            );
            // Behind anything, but not behind another number.
            let joined = |last: &str| version(&["8.0.1", &format!("{filler}{last}{build}")]);
            assert_eq!(joined("A").as_deref(), Some("8.0.1"), "{shift}");
            assert_eq!(joined("\u{7f}").as_deref(), Some("8.0.1"), "{shift}");
            assert_eq!(joined("1"), None, "{shift}");
            assert_eq!(joined("1."), None, "{shift}");
        }
    }

    #[test]
    fn what_is_no_executable_or_cut_off_is_unknown_and_variables_do_not_count() {
        let strings = b"\08.0.1\08.0.1host-1735912342000000000\0";
        let unknown = |file: &File| of_executable(file).unwrap().is_none();
        assert!(!unknown(&executable(strings, b"")));
        assert!(unknown(&executable(b"", strings)));
        let mut plain = tempfile::tempfile().unwrap();
        plain.write_all(strings).unwrap();
        assert!(unknown(&plain));
        for length in [0, 5, 63, 64, 100, 64 + 112, 64 + 112 + 10] {
            let file = executable(strings, b"");
            file.set_len(length).unwrap();
            assert!(unknown(&file), "{length}");
        }
        let far = executable(strings, b"");
        let claim = |length: u64| {
            far.write_all_at(&length.to_le_bytes(), 64 + 32).unwrap();
            unknown(&far)
        };
        assert!(!claim(EXECUTABLE_BYTES));
        assert!(claim(EXECUTABLE_BYTES + 1), "more than may be read");
    }

    #[test]
    fn more_strings_than_are_kept_make_it_unknown() {
        let many: Vec<String> = (0..STRINGS).map(|number| format!("1.{number}.1")).collect();
        let mut strings: Vec<&str> = vec!["8.0.1", "8.0.1host-1735912342000000000"];
        assert!(version(&strings).is_some());
        strings.extend(many.iter().map(String::as_str));
        assert_eq!(version(&strings), None);
    }

    #[test]
    #[ignore = "needs the lab: cargo xtask test"]
    fn the_servers_of_the_lab_tell_their_versions() {
        let lab = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab");
        for (path, expected) in [
            ("valkey-8.0/usr/bin/valkey-server", "8.0."),
            ("valkey-8.1/usr/bin/valkey-server", "8.1."),
            ("bin/valkey-server", "9.1."),
            ("redis/usr/bin/redis-server", "7.0."),
        ] {
            let file = File::open(lab.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            let version = of_executable(&file).unwrap();
            let version = version.unwrap_or_else(|| panic!("{path}: unknown"));
            assert!(version.starts_with(expected), "{path}: {version}");
        }
    }
}
