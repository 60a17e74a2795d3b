//! The lists of calls in `calls/`, written by hand: what is sent, and in which row it must be found.
//!
//! A line is a call, or `---`: what follows goes over another connection.
//!
//! ```text
//! COMMAND arguments [=> row xN !ERROR # why] [<- set-up ; set-up]
//! ```
//!
//! | word | stands for |
//! |---|---|
//! | `KEY` | the first key, of a prefix that no other line has: a call with it belongs in that prefix's row |
//! | `OTHER`, `OTHER2` | further keys, of prefixes in whose rows nothing may be found |
//! | `TRAP` | something that looks like a key and is none; its row must stay empty as well |
//! | `CONNECTION`, `NODE-ID`, `ELSEWHERE` | the connection's number; the cluster node's name; the port of another server |
//! | `"..."` | a word as it is, with `\n`, `\r`, `\"`, `\\` and `\xNN` |
//!
//! Words in capitals are the protocol's own: they are sent in capitals, small letters, or both. A call without `KEY` is
//! `(keyless)` if no row is named. The server must accept it, unless `!` says how the error begins; a comment then says
//! why that is the best to be had. `xN` is the number of replies, where it is not one. Set-up is sent before, over
//! another connection. `today:(row)` names the row in which the agent has it wrongly, until that is mended: the line fails
//! then, and the word goes.

use anyhow::{Context as _, Result, bail, ensure};

/// A word of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// What it says, escapes undone.
    text: Vec<u8>,
    /// Whether it stood in quotes, and so stands for itself.
    quoted: bool,
}

/// One call, and what must come of it.
#[derive(Debug)]
pub(super) struct Call {
    /// The line's name: `lists-7`. Its keys' prefix, too.
    pub(super) name: String,
    /// What is sent.
    pub(super) words: Vec<Word>,
    /// What is sent before, by another connection.
    pub(super) setup: Vec<Vec<Word>>,
    /// The row that it belongs in, if that is not its key's.
    row: Option<String>,
    /// The row in which it is found although it does not belong there.
    today: Option<String>,
    /// Number of replies.
    pub(super) replies: usize,
    /// How the error begins that the server answers, if it cannot do better.
    pub(super) refusal: Option<String>,
}

/// A line.
#[derive(Debug)]
pub(super) enum Step {
    /// A call.
    Call(Call),
    /// Another connection.
    Connect,
}

/// What placeholders stand for, besides keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// `CONNECTION`.
    pub(super) connection: String,
    /// `NODE-ID`.
    pub(super) node: String,
    /// `ELSEWHERE`.
    pub(super) elsewhere: String,
}

/// Reads a list.
pub(super) fn read(list: &str, text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let name = format!("{list}-{}", number + 1);
        let step = step(&name, line).with_context(|| format!("{name}: {line}"))?;
        steps.extend(step);
    }
    Ok(steps)
}

impl Call {
    /// The row in which it must be found.
    pub(super) fn row(&self) -> String {
        let has_key = self.words.iter().any(|word| word.is("KEY"));
        match self.today.as_ref().or(self.row.as_ref()) {
            Some(row) => row.clone(),
            None if has_key => self.name.clone(),
            None => "(keyless)".into(),
        }
    }

    /// Its first key, by this file's word.
    pub(super) fn key(&self) -> Option<Vec<u8>> {
        let key = self.words.iter().find(|word| word.is("KEY"))?;
        Some(self.spell(key, &Names::default(), <[u8]>::to_vec))
    }

    /// Words of it, or of its set-up, as they are sent.
    pub(super) fn spell_all(
        &self,
        words: &[Word],
        names: &Names,
        capitals: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Vec<Vec<u8>> {
        let spell = |word| self.spell(word, names, &capitals);
        words.iter().map(spell).collect()
    }

    fn spell(&self, word: &Word, names: &Names, capitals: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        if word.quoted {
            return word.text.clone();
        }
        let place = &self.name;
        match word.text.as_slice() {
            b"KEY" => format!("{place}:key").into_bytes(),
            b"OTHER" => format!("{place}-other:key").into_bytes(),
            b"OTHER2" => format!("{place}-other2:key").into_bytes(),
            b"TRAP" => format!("{place}-trap:no-key").into_bytes(),
            b"CONNECTION" => names.connection.clone().into_bytes(),
            b"NODE-ID" => names.node.clone().into_bytes(),
            b"ELSEWHERE" => names.elsewhere.clone().into_bytes(),
            text if word.is_in_capitals() => capitals(text),
            text => text.to_vec(),
        }
    }
}

impl Word {
    fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text.as_bytes()
    }

    fn is_in_capitals(&self) -> bool {
        let capital = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_".contains(byte);
        self.text.iter().all(capital) && self.text.iter().any(u8::is_ascii_uppercase)
    }
}

fn step(name: &str, line: &str) -> Result<Option<Step>> {
    let words = words(line)?;
    let Some(first) = words.first().filter(|word| !word.is("#")) else {
        return Ok(None);
    };
    if first.is("---") {
        return Ok(Some(Step::Connect));
    }
    let (words, setup) = split(&words, "<-");
    let (words, outcome) = split(words, "=>");
    let (outcome, comment) = split(outcome, "#");
    let mut call = Call {
        name: name.to_owned(),
        words: words.to_vec(),
        setup: setup
            .split(|word| word.is(";"))
            .filter(|words| !words.is_empty())
            .map(<[Word]>::to_vec)
            .collect(),
        row: None,
        today: None,
        replies: 1,
        refusal: None,
    };
    call.expect(outcome)?;
    ensure!(
        call.refusal.is_none() || !comment.is_empty(),
        "an error is expected, and no comment says why"
    );
    Ok(Some(Step::Call(call)))
}

impl Call {
    /// What stands behind `=>`.
    fn expect(&mut self, outcome: &[Word]) -> Result<()> {
        let outcome: Vec<_> = outcome
            .iter()
            .map(|word| str::from_utf8(&word.text))
            .collect::<Result<_, _>>()?;
        for (at, word) in outcome.iter().enumerate() {
            if let Some(error) = word.strip_prefix('!') {
                let rest = outcome[at + 1..].iter().copied();
                self.refusal = Some(std::iter::once(error).chain(rest).collect::<Vec<_>>().join(" "));
                break;
            }
            if let Some(replies) = word.strip_prefix('x') {
                self.replies = replies.parse()?;
            } else if let Some(row) = word.strip_prefix("today:") {
                self.today = Some(row.to_owned());
            } else if word.starts_with('(') {
                self.row = Some((*word).to_owned());
            } else {
                bail!("{word:?} says nothing about the outcome");
            }
        }
        Ok(())
    }
}

fn split<'a>(words: &'a [Word], at: &str) -> (&'a [Word], &'a [Word]) {
    match words.iter().position(|word| word.is(at)) {
        Some(at) => (&words[..at], &words[at + 1..]),
        None => (words, &[]),
    }
}

/// The words of a line.
fn words(line: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(inside) => quoted(inside)?,
            None => bare(rest),
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

fn bare(text: &str) -> (Word, &str) {
    let (word, after) = text.split_once(' ').unwrap_or((text, ""));
    let word = Word {
        text: word.as_bytes().to_vec(),
        quoted: false,
    };
    (word, after)
}

fn quoted(text: &str) -> Result<(Word, &str)> {
    let mut word = Vec::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == '"' {
            let word = Word {
                text: word,
                quoted: true,
            };
            return Ok((word, &text[at + 1..]));
        }
        if character != '\\' {
            word.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match characters.next() {
            Some((_, 'n')) => word.push(b'\n'),
            Some((_, 'r')) => word.push(b'\r'),
            Some((_, plain @ ('"' | '\\'))) => word.push(plain as u8),
            Some((at, 'x')) => {
                let digits = text.get(at + 1..at + 3).context("no byte behind \\x")?;
                word.push(u8::from_str_radix(digits, 16)?);
                characters.nth(1);
            }
            other => bail!("cannot undo the escape {other:?}"),
        }
    }
    bail!("a quoted word does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Call> {
        match step("list-3", line)? {
            Some(Step::Call(call)) => Ok(call),
            other => bail!("{line:?} is {other:?}"),
        }
    }

    fn sent(call: &Call) -> Vec<String> {
        let words = call.spell_all(&call.words, &Names::default(), <[u8]>::to_ascii_lowercase);
        words
            .iter()
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }

    #[test]
    fn a_call_with_a_key_belongs_to_the_prefix_of_its_line() -> Result<()> {
        let call = call("SORT KEY GET # TRAP \"KEY\" value <- SET KEY 1 ; SET OTHER 2")?;
        assert_eq!(call.row(), "list-3");
        assert_eq!(call.key(), Some(b"list-3:key".to_vec()));
        assert_eq!(
            sent(&call),
            [
                "sort",
                "list-3:key",
                "get",
                "#",
                "list-3-trap:no-key",
                "KEY",
                "value"
            ]
        );
        assert_eq!(call.setup.len(), 2);
        Ok(())
    }

    #[test]
    fn rows_replies_and_errors_are_stated() -> Result<()> {
        let call = call("SUBSCRIBE \"a\\x00\\n\" b => (pubsub) x2 !ERR so # for once")?;
        assert_eq!((call.row().as_str(), call.replies), ("(pubsub)", 2));
        assert_eq!(call.refusal.as_deref(), Some("ERR so"));
        assert_eq!(sent(&call), ["subscribe", "a\0\n", "b"]);
        assert!(step("list-4", "PING => !ERR").is_err());
        assert_eq!(self::call("PING")?.row(), "(keyless)");
        assert_eq!(self::call("GET KEY => today:(none)")?.row(), "(none)");
        Ok(())
    }
}
