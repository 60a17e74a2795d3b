//! The book on disk: a file of lines, each an entry with its checksum, written through before anything is done about it.
//!
//! `alerts.journal`: a line is eight hexadecimal digits of CRC32C, a space, the entry as JSON, and a line end. A crash may cut the
//! last line; it is left out, and so is a line whose checksum does not fit. The file is written anew, aside and renamed over the old
//! one, when it has grown to twice what the book needs, and at each start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::aside;
use super::book::{Book, Entry};

const NAME: &str = "alerts.journal";
const LOCK: &str = "lock";

/// The file is not written anew before so many bytes were added.
const GROWTH_BYTES: u64 = 1 << 20;

/// The open journal. Another agent cannot open the same one.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    file: File,
    /// Length after the file was written anew, and what was added since.
    base: u64,
    added: u64,
    _lock: Flock<File>,
}

/// What was found.
pub(super) struct Found {
    pub(super) journal: Journal,
    pub(super) book: Book,
    /// Lines whose checksum did not fit, other than a last one that was cut.
    pub(super) damaged: usize,
}

impl Journal {
    /// Opens the journal of a folder, which is created if need be.
    ///
    /// # Errors
    ///
    /// The folder cannot be written, or another agent uses it.
    pub(super) fn open(dir: &Path) -> io::Result<Found> {
        fs::create_dir_all(dir)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            io::Error::new(io::Error::from(error).kind(), "another agent uses this folder")
        })?;
        let bytes = match fs::read(dir.join(NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let (book, damaged) = replay(&bytes);
        let (file, base) = write_anew(dir, &book)?;
        let journal = Self {
            dir: dir.to_owned(),
            file,
            base,
            added: 0,
            _lock: lock,
        };
        Ok(Found {
            journal,
            book,
            damaged,
        })
    }

    /// Adds an entry that `book` has already taken in. When this returns, it is on the disk.
    ///
    /// # Errors
    ///
    /// It may not be. The next one tries to write everything anew.
    pub(super) fn add(&mut self, entry: &Entry, book: &Book) -> io::Result<()> {
        if self.added > GROWTH_BYTES.max(self.base) {
            return self.rewrite(book);
        }
        let line = line(entry)?;
        self.added += line.len() as u64;
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Half a line may be there.
            self.added = u64::MAX;
        }
        written
    }

    /// Writes everything anew.
    ///
    /// # Errors
    ///
    /// The old file stays then.
    pub(super) fn rewrite(&mut self, book: &Book) -> io::Result<()> {
        (self.file, self.base) = write_anew(&self.dir, book)?;
        self.added = 0;
        Ok(())
    }
}

fn write_anew(dir: &Path, book: &Book) -> io::Result<(File, u64)> {
    let line = line(&Entry::Book {
        book: Box::new(book.clone()),
    })?;
    let file = aside::replace(dir, NAME, &line)?;
    Ok((file, line.len() as u64))
}

fn line(entry: &Entry) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry)?;
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

/// The book that the lines make, and how many whole ones are damaged.
fn replay(bytes: &[u8]) -> (Book, usize) {
    let mut book = Book::default();
    let mut damaged = 0;
    // What is behind the last line end is a line that was cut, or nothing.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end);
    for line in bytes[..whole]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        match parsed(line) {
            Some(entry) => _ = book.apply(entry),
            None => damaged += 1,
        }
    }
    (book, damaged)
}

fn parsed(line: &[u8]) -> Option<Entry> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?.strip_suffix(' ')?, 16).ok()?;
    if sum != crc32c::crc32c(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::testing::storm;
    use crate::storms::Moment;

    fn told(id: &str, book: &Book) -> Entry {
        book.notice(&storm(id), Moment(1), &["hook".into()], true)
            .expect("news")
    }

    fn opened(dir: &Path) -> Found {
        Journal::open(dir).expect("opened")
    }

    /// A journal with three notices and a delivery, and the book after each entry.
    fn kept(dir: &Path) -> Vec<Book> {
        let mut found = opened(dir);
        let mut books = vec![found.book.clone()];
        let delivered = Entry::Done {
            webhook: "hook".into(),
            storm: "a".into(),
            sequence: 1,
        };
        let entries = [
            told("a", &found.book),
            told("b", &found.book),
            delivered,
            told("c", &found.book),
        ];
        for entry in entries {
            found.book.apply(entry.clone());
            found.journal.add(&entry, &found.book).expect("written");
            books.push(found.book.clone());
        }
        books
    }

    #[test]
    fn a_journal_that_is_cut_anywhere_is_read_up_to_its_last_whole_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let books = kept(dir.path());
        let bytes = fs::read(dir.path().join(NAME)).expect("there");
        for cut in 0..=bytes.len() {
            let lines = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
            let (book, damaged) = replay(&bytes[..cut]);
            // The first line is the empty book.
            assert_eq!(book, books[lines.saturating_sub(1)], "cut at {cut}");
            assert_eq!(damaged, 0, "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_byte_costs_its_own_line_and_is_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        kept(dir.path());
        let bytes = fs::read(dir.path().join(NAME)).expect("there");
        let whole = replay(&bytes).0;
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            let (book, damaged) = replay(&changed);
            let silent = damaged == 0 && book != whole;
            // Without its line end the last line is one that was cut.
            assert!(
                !silent || at == bytes.len() - 1,
                "a change of byte {at} went unnoticed"
            );
        }
    }

    #[test]
    fn what_was_added_is_there_after_a_restart_and_the_file_is_short_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let books = kept(dir.path());
        let again = opened(dir.path());
        assert_eq!(Some(&again.book), books.last());
        let bytes = fs::read(dir.path().join(NAME)).expect("there");
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        // What follows is added to the new file.
        drop(again);
        let mut third = opened(dir.path());
        let entry = told("d", &third.book);
        third.book.apply(entry.clone());
        third.journal.add(&entry, &third.book).expect("written");
        drop(third.journal);
        assert_eq!(opened(dir.path()).book, third.book);
    }

    #[test]
    fn a_journal_that_grows_is_written_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut found = opened(dir.path());
        for round in 0..1_200 {
            let id = format!("s{round}");
            for entry in [
                told(&id, &found.book),
                Entry::Done {
                    webhook: "hook".into(),
                    storm: id.clone(),
                    sequence: 1,
                },
                Entry::Forgotten { storm: id },
            ] {
                found.book.apply(entry.clone());
                found.journal.add(&entry, &found.book).expect("written");
            }
        }
        let length = fs::metadata(dir.path().join(NAME)).expect("there").len();
        assert!(length < 2 * GROWTH_BYTES, "{length} bytes");
        drop(found.journal);
        assert_eq!(opened(dir.path()).book, found.book);
    }

    #[test]
    fn two_agents_do_not_share_a_journal() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = opened(dir.path());
        let second = Journal::open(dir.path()).map(|_| ()).expect_err("in use");
        assert!(second.to_string().contains("another agent"), "{second}");
        drop(first);
        opened(dir.path());
    }
}
