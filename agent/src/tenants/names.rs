//! How the bytes of a prefix are written in labels and in rules.

use std::borrow::Cow;

use crate::snapshot::PrefixSnapshot;

/// The row's name as a label value. A client that sends the key `(other):x` must not end up in our row `(other)`: the
/// parenthesis of an ordinary prefix in parentheses is written `\x28`.
#[must_use]
pub fn row_name(row: &PrefixSnapshot) -> Cow<'_, str> {
    if row.special {
        Cow::Borrowed(&row.prefix)
    } else {
        unlike_special(&row.prefix)
    }
}

/// What clients have made up, a prefix or what they call themselves, as a label value: names in parentheses are the agent's own.
#[must_use]
pub fn client_text(bytes: &[u8]) -> String {
    unlike_special(&printable(bytes)).into_owned()
}

/// Bytes as text: valid UTF-8 as it is; anything else, control characters and backslashes as `\xNN`.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    text.push_str(&format!("\\x{byte:02x}"));
                }
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The bytes of the prefix whose row has this name; `None` if no ordinary row can have it.
#[must_use]
pub fn bytes_of_name(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((plain, escaped)) = rest.split_once("\\x") {
        bytes.extend_from_slice(plain.as_bytes());
        let (digits, after) = escaped.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    // The same bytes can be spelt in many ways, a row's name in one.
    (unlike_special(&printable(&bytes)) == name).then_some(bytes)
}

fn unlike_special(prefix: &str) -> Cow<'_, str> {
    match prefix.strip_prefix('(') {
        Some(rest) if rest.ends_with(')') => Cow::Owned(format!("\\x28{rest}")),
        _ => Cow::Borrowed(prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_valid_text() {
        assert_eq!(printable(b"cart"), "cart");
        assert_eq!(printable("käse".as_bytes()), "käse");
        assert_eq!(printable(b"a\xff\x00b\\"), "a\\xff\\x00b\\x5c");
    }

    #[test]
    fn every_name_of_a_row_leads_back_to_its_bytes() {
        let texts: [&[u8]; 8] = [
            b"cart-",
            "käse".as_bytes(),
            b"\xff\xfe",
            b"a\nb",
            b"back\\slash",
            b"\\x41",
            b"(none)",
            b"(",
        ];
        for bytes in texts {
            let row = PrefixSnapshot {
                prefix: printable(bytes),
                ..PrefixSnapshot::default()
            };
            let name = row_name(&row);
            assert_eq!(bytes_of_name(&name).as_deref(), Some(bytes), "{name}");
        }
    }

    #[test]
    fn what_no_row_is_called_has_no_bytes() {
        for name in [
            "a\nb",
            "back\\slash",
            r"\x41",
            r"\xc3\xa4",
            r"\xFF",
            r"\x+f",
            r"\xf",
            r"\xé",
            "(none)",
        ] {
            assert_eq!(bytes_of_name(name), None, "{name}");
        }
    }
}
