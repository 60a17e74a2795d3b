//! The ways in which a command can be written.

use stormglass_tests::resp::frame;

/// How the commands of a run are written, and which protocol answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Arrays, names in capitals.
    Resp2,
    /// Arrays after `HELLO 3`, names in capitals and small letters by turns.
    Resp3,
    /// Lines, names in small letters.
    Inline,
}

impl Manner {
    /// What a connection has to say first.
    pub(super) fn greeting(self) -> Option<&'static str> {
        (self == Self::Resp3).then_some("HELLO 3")
    }

    /// A word of the protocol, given in capitals.
    pub(super) fn spell(self, capitals: &[u8]) -> Vec<u8> {
        let mut word = capitals.to_vec();
        match self {
            Self::Resp2 => {}
            Self::Resp3 => {
                for byte in word.iter_mut().step_by(2) {
                    byte.make_ascii_lowercase();
                }
            }
            Self::Inline => word.make_ascii_lowercase(),
        }
        word
    }

    /// A command as it goes over the wire.
    pub(super) fn write(self, words: &[Vec<u8>]) -> Vec<u8> {
        if self != Self::Inline {
            return frame(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        let words: Vec<_> = words.iter().map(|word| inline(word)).collect();
        let mut bytes = words.join(&b' ');
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// A word of an inline command, in quotes where it needs them.
fn inline(word: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"'\\".contains(byte);
    if !word.is_empty() && word.iter().all(plain) {
        return word.to_vec();
    }
    let mut quoted = vec![b'"'];
    for byte in word {
        match byte {
            b'"' | b'\\' => quoted.extend_from_slice(&[b'\\', *byte]),
            b' ' | b'!'..=b'~' => quoted.push(*byte),
            _ => quoted.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_words_are_quoted_where_they_must_be() {
        let words = [&b"SET"[..], b"a:1", b"", b"two words", b"\"\\\r\xff"].map(<[u8]>::to_vec);
        assert_eq!(
            Manner::Inline.write(&words),
            b"SET a:1 \"\" \"two words\" \"\\\"\\\\\\x0d\\xff\"\r\n"
        );
        assert_eq!(Manner::Resp2.write(&words[..1]), b"*1\r\n$3\r\nSET\r\n");
    }

    #[test]
    fn names_are_spelled_in_three_ways() {
        let spelled = [Manner::Resp2, Manner::Resp3, Manner::Inline].map(|manner| manner.spell(b"XREAD"));
        assert_eq!(spelled, [b"XREAD", b"xReAd", b"xread"]);
    }
}
