//! Marked secrets, and the search for what is left of them.

use std::collections::HashMap;
use std::fmt;

/// Bytes of the smallest piece that is looked for. Pieces are random: one that is found was left, not written by chance.
pub const PIECE: usize = 8;

/// Secrets by what they are, and every piece of them.
#[derive(Debug, Default)]
pub struct Secrets {
    names: Vec<String>,
    pieces: HashMap<[u8; PIECE], usize>,
}

/// What is left of a secret somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Which secret.
    pub secret: String,
    /// Where it begins, in bytes.
    pub at: usize,
    /// As much of it as is there.
    pub left: String,
}

impl Secrets {
    /// Makes a secret of `length` bytes (lower case letters and digits: no change of case hides it) and remembers it as
    /// `what`.
    pub fn make(&mut self, what: &str, length: usize) -> String {
        const BYTES: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let byte = || BYTES[fastrand::usize(..BYTES.len())];
        let secret: Vec<u8> = (0..length.max(PIECE)).map(|_| byte()).collect();
        let number = self.names.len();
        self.names.push(what.to_owned());
        // Long values repeat it: pieces from the end of one and the beginning of the next, too.
        let twice = [&secret[..], &secret[..]].concat();
        for piece in twice.windows(PIECE).take(secret.len()) {
            if let Ok(piece) = piece.try_into() {
                self.pieces.insert(piece, number);
            }
        }
        String::from_utf8_lossy(&secret).into_owned()
    }

    /// What is left of them in these bytes.
    #[must_use]
    pub fn traces_in(&self, bytes: &[u8]) -> Vec<Trace> {
        let mut traces: Vec<Trace> = Vec::new();
        let (mut letters, mut last) = (0, None);
        for (index, &byte) in bytes.iter().enumerate() {
            letters = match byte {
                b'a'..=b'z' | b'0'..=b'9' => letters + 1,
                _ => 0,
            };
            if letters < PIECE {
                continue;
            }
            let at = index + 1 - PIECE;
            let number = <[u8; PIECE]>::try_from(&bytes[at..=index])
                .ok()
                .and_then(|piece| self.pieces.get(&piece));
            let Some(&number) = number else {
                continue;
            };
            match traces.last_mut() {
                Some(trace) if last == Some((index, number)) => trace.left.push(char::from(byte)),
                _ => traces.push(Trace {
                    secret: self.names[number].clone(),
                    at,
                    left: String::from_utf8_lossy(&bytes[at..=index]).into_owned(),
                }),
            }
            last = Some((index + 1, number));
        }
        traces
    }

    /// What is left of them in a text, plain or as numbers: hexadecimal bytes with or without something between them,
    /// decimal bytes, words of eight bytes in either order.
    #[must_use]
    pub fn traces_in_text(&self, text: &str) -> Vec<Trace> {
        let mut traces = self.traces_in(text.as_bytes());
        traces.extend(self.traces_in(&numbers(text, hexadecimal)));
        traces.extend(self.traces_in(&numbers(text, decimal)));
        traces
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret, at, left } = self;
        write!(f, "{} bytes of `{secret}` at {at}: {left}", left.len())
    }
}

/// The bytes that the numbers of a text stand for; anything else parts them.
fn numbers(text: &str, read: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<u8> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    words
        .filter(|word| !word.is_empty())
        .flat_map(|word| read(word).unwrap_or_else(|| vec![0]))
        .collect()
}

/// Two digits are a byte, more are many bytes, in either order.
fn hexadecimal(word: &str) -> Option<Vec<u8>> {
    let digits = word.strip_prefix("0x").unwrap_or(word).as_bytes();
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes.map(both_ways)
}

/// Up to 255 it is a byte, beyond that a word.
fn decimal(word: &str) -> Option<Vec<u8>> {
    let number: u64 = word.parse().ok()?;
    Some(match u8::try_from(number) {
        Ok(byte) => vec![byte],
        Err(_) => both_ways(number.to_le_bytes().to_vec()),
    })
}

fn both_ways(bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() == 1 {
        return bytes;
    }
    let backwards = bytes.iter().rev().copied();
    let forwards = bytes.iter().copied().chain([0]);
    forwards.chain(backwards).chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> (Secrets, String) {
        let mut secrets = Secrets::default();
        let secret = secrets.make("password", 24);
        (secrets, secret)
    }

    #[test]
    fn any_eight_bytes_of_a_secret_are_found_and_seven_are_not() {
        let (secrets, secret) = one();
        for length in 1..=secret.len() {
            for start in 0..=secret.len() - length {
                let left = &secret[start..start + length];
                let traces = secrets.traces_in(format!("\0\u{1}{left}\0").as_bytes());
                let whole = Trace {
                    secret: "password".into(),
                    at: 2,
                    left: left.into(),
                };
                let expected = if length < PIECE { vec![] } else { vec![whole] };
                assert_eq!(traces, expected);
            }
        }
    }

    #[test]
    fn a_piece_across_two_copies_is_found() {
        let (secrets, secret) = one();
        let piece = [&secret[20..], &secret[..4]].concat();
        assert_eq!(secrets.traces_in(piece.as_bytes()).len(), 1);
    }

    #[test]
    fn a_secret_in_numbers_is_found() {
        let (secrets, secret) = one();
        let bytes = secret.as_bytes();
        let word = u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes"));
        let joined = |format: fn(&u8) -> String, between: &str| {
            bytes.iter().map(format).collect::<Vec<_>>().join(between)
        };
        for text in [
            format!("key: {secret}."),
            format!("{bytes:?}"),
            format!("[{word}, 7]"),
            format!("{word:#x}"),
            format!("{:x}", word.swap_bytes()),
            joined(|byte| format!("{byte:02x}"), ""),
            joined(|byte| format!("{byte:02X}"), " "),
            joined(|byte| format!("\"0x{byte:02x}\""), ","),
            joined(|byte| format!("\\x{byte:02x}"), "").replace('x', ""),
        ] {
            assert_eq!(secrets.traces_in_text(&text).len(), 1, "{text}");
        }
        assert_eq!(
            secrets.traces_in_text("key: 1, [104, 117, 110, 116, 101, 114]"),
            []
        );
    }
}
