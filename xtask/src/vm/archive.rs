//! An initramfs: a cpio archive of the form that the kernel unpacks ("newc", Documentation/driver-api/early-userspace).

use std::collections::BTreeSet;
use std::path::Path;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Entries begin at multiples of this many bytes, and so do their contents.
const ALIGNMENT: usize = 4;

/// An archive in the making. Everything in it can be executed and belongs to root.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// Adds an empty folder and those above it. `path` is absolute.
    pub(super) fn folder(&mut self, path: &str) {
        let whole = Path::new(path);
        let mut above: Vec<_> = whole.ancestors().filter(|path| path.parent().is_some()).collect();
        above.reverse();
        for folder in above {
            let name = folder.to_string_lossy().into_owned();
            if self.folders.insert(name.clone()) {
                self.entry(&name, FOLDER, b"");
            }
        }
    }

    /// Adds a file and the folders above it. `path` is absolute.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        if let Some(folder) = Path::new(path).parent() {
            self.folder(&folder.to_string_lossy());
        }
        self.entry(path, PROGRAM, content);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let name = path.trim_start_matches('/');
        let fields = [
            self.entries,
            mode,
            0, // user
            0, // group
            1, // links
            0, // time of change
            length(content),
            0, // device of the file, then the one that it stands for
            0,
            0,
            0,
            length(name.as_bytes()) + 1,
            0, // checksum: none in this form
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(padded, 0);
    }
}

/// Lengths have 32 bits; a file of 4 GiB would not fit the guest anyway.
fn length(content: &[u8]) -> u32 {
    u32::try_from(content.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_is_there_once_and_before_what_is_in_it() {
        let mut archive = Archive::default();
        archive.file("/usr/bin/a", b"12345");
        archive.file("/usr/bin/b", b"");
        archive.folder("/usr");
        let names: Vec<_> = entries(&archive.finish())
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names, ["usr", "usr/bin", "usr/bin/a", "usr/bin/b", "TRAILER!!!"]);
    }

    #[test]
    fn a_file_keeps_its_content_whatever_its_length() {
        for length in 0..9 {
            let content: Vec<u8> = (0..length).collect();
            let mut archive = Archive::default();
            archive.file("/f", &content);
            archive.file("/after", b"");
            let entries = entries(&archive.finish());
            assert_eq!(entries[0].content, content);
            assert_eq!(entries[1].name, "after");
        }
    }

    struct Entry {
        name: String,
        content: Vec<u8>,
    }

    /// Reads an archive as the kernel does.
    fn entries(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let (head, _) = bytes.split_at(110);
            let head = std::str::from_utf8(head).expect("a head is text");
            assert!(head.starts_with("070701"), "{head}");
            let field =
                |at: usize| usize::from_str_radix(&head[6 + 8 * at..14 + 8 * at], 16).expect("hexadecimal");
            let (content_length, name_length) = (field(6), field(11));
            let content_at = (110 + name_length).next_multiple_of(4);
            entries.push(Entry {
                name: String::from_utf8(bytes[110..110 + name_length - 1].to_vec()).expect("text"),
                content: bytes[content_at..content_at + content_length].to_vec(),
            });
            bytes = &bytes[(content_at + content_length).next_multiple_of(4)..];
        }
        entries
    }
}
