//! One direction of a conversation as it is written down.

/// Bytes of a string that a meter may have to look at: the longest prefix and the delimiter behind it. What is behind
/// them is never read.
const READ_BYTES: usize = 33;

/// All bytes of one direction, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    /// Where messages begin that wait for something, in order.
    pub(crate) marks: Vec<Mark>,
    /// The inside of strings, from the first byte that is never read to the CRLF's end.
    pub(crate) payload: Vec<(usize, usize)>,
}

/// The beginning of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    /// Its first byte.
    pub(crate) start: usize,
    /// How many bytes of the other direction come before it.
    pub(crate) after: usize,
    /// Milliseconds of silence before it.
    pub(crate) pause: u64,
}

impl Stream {
    /// The next message does not come before `after` bytes of the other direction.
    pub(crate) fn begin(&mut self, after: usize, pause: u64) {
        let last = self.marks.last().map_or(0, |mark| mark.after);
        self.marks.push(Mark {
            start: self.bytes.len(),
            after: after.max(last),
            pause,
        });
    }

    pub(crate) fn put(&mut self, bytes: impl AsRef<[u8]>) {
        self.bytes.extend(bytes.as_ref());
    }

    /// A type byte, a number, CRLF.
    pub(crate) fn header(&mut self, kind: u8, count: usize) {
        self.bytes.push(kind);
        self.put(count.to_string());
        self.put(b"\r\n");
    }

    /// A string with its length before it.
    pub(crate) fn string(&mut self, kind: u8, content: impl AsRef<[u8]>) {
        let content = content.as_ref();
        self.header(kind, content.len());
        let start = self.bytes.len();
        self.put(content);
        self.put(b"\r\n");
        if content.len() > READ_BYTES {
            self.payload.push((start + READ_BYTES, self.bytes.len()));
        }
    }

    /// A command as an array.
    pub(crate) fn command(&mut self, words: &[impl AsRef<[u8]>]) {
        self.header(b'*', words.len());
        for word in words {
            self.string(b'$', word);
        }
    }

    /// Behind the last byte that may come once `done` bytes of the other direction have, seen from `from`. A message
    /// behind a pause is a segment of its own.
    pub(crate) fn limit(&self, from: usize, done: usize) -> usize {
        let first = self.marks.partition_point(|mark| mark.start < from);
        let blocked = self.marks[first..]
            .iter()
            .find(|mark| mark.after > done || (mark.pause != 0 && mark.start > from));
        blocked.map_or(self.bytes.len(), |mark| mark.start.max(from))
    }

    /// Milliseconds of silence before the byte at `from`.
    pub(crate) fn pause(&self, from: usize) -> u64 {
        let first = self.marks.partition_point(|mark| mark.start < from);
        let here = self.marks[first..].iter().take_while(|mark| mark.start == from);
        here.map(|mark| mark.pause).max().unwrap_or_default()
    }

    /// Behind the last byte of the string whose inside `from` is in, if it is.
    pub(crate) fn payload_end(&self, from: usize) -> Option<usize> {
        let index = self.payload.partition_point(|(_, end)| *end <= from);
        let (start, end) = self.payload.get(index)?;
        (*start <= from).then_some(*end)
    }

    /// How many messages begin before `end`.
    pub(crate) fn begun_before(&self, end: usize) -> usize {
        self.marks.partition_point(|mark| mark.start < end)
    }

    /// The last beginning of a message up to `end`: what is before it is whole.
    pub(crate) fn whole(&self, end: usize) -> usize {
        let begun = self.begun_before(end + 1);
        let start = self.marks[..begun].last().map_or(0, |mark| mark.start);
        if end == self.bytes.len() { end } else { start }
    }

    /// The first beginning of a message from `end` on: what is before it has been begun.
    pub(crate) fn begun(&self, end: usize) -> usize {
        let before = self.begun_before(end);
        self.marks.get(before).map_or(self.bytes.len(), |mark| mark.start)
    }

    /// What is behind the first `start` bytes, of which `other` of the other direction are gone.
    pub(crate) fn behind(&self, start: usize, other: usize) -> Self {
        let first = self.marks.partition_point(|mark| mark.start < start);
        let marks = self.marks[first..].iter().map(|mark| Mark {
            start: mark.start - start,
            after: mark.after.saturating_sub(other),
            ..*mark
        });
        Self {
            bytes: self.bytes[start..].to_vec(),
            marks: marks.collect(),
            payload: Vec::new(),
        }
    }
}
