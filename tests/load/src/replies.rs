//! Where replies end, as far as whoever only counts them has to know.

/// Counts replies that are no aggregates: simple strings, errors, numbers, nulls, bulk strings.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// Bytes of a bulk string that are still to come, its end of line included.
    skip: usize,
    /// What there is of the line.
    line: Vec<u8>,
}

/// Longest line that is kept: enough for the length of a bulk string.
const LINE_BYTES: usize = 24;

impl Replies {
    /// Goes on with these bytes; returns how many replies end in them.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> usize {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                ended += usize::from(self.skip == 0);
                continue;
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let length = end.map_or(bytes.len(), |end| end + 1);
            let (line, rest) = bytes.split_at(length);
            bytes = rest;
            let room = LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend(line.iter().take(room));
            if end.is_some() {
                self.skip = bulk(&self.line).map_or(0, |length| length + 2);
                ended += usize::from(self.skip == 0);
                self.line.clear();
            }
        }
        ended
    }
}

/// The length of a bulk string, by its first line.
fn bulk(line: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(line.strip_prefix(b"$")?).ok()?;
    digits.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_wherever_they_are_cut() {
        let said = b"$5\r\na\r\nbc\r\n:12\r\n-ERR no\r\n$-1\r\n$0\r\n\r\n+a long line that is not kept whole, as nobody needs it\r\n";
        for cut in 1..said.len() {
            let mut replies = Replies::default();
            let (first, second) = said.split_at(cut);
            assert_eq!(replies.read(first) + replies.read(second), 6, "cut at {cut}");
        }
        assert_eq!(Replies::default().read(b"$5\r\nabcde\r"), 0, "not whole");
    }
}
