//! What a server's command line and configuration files name as `maxclients`.
//!
//! Servers write their address over their arguments a moment after their start (unless `set-proc-title` is off), so a
//! command line has to be read before. What `CONFIG SET` changes later is not seen.
//!
//! Both may hold passwords. Of either, only lines that speak of `maxclients` or of further files are kept, and what was
//! read is wiped.

use std::path::{Path, PathBuf};

/// Longest command line that is read, in bytes.
const COMMAND_LINE_BYTES: usize = 64 << 10;
/// Files that a configuration may consist of, and how deep they may include each other.
const FILES: usize = 16;
const DEPTH: usize = 4;

/// A limit that the server was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxClients {
    /// How many clients it accepts.
    pub clients: u64,
    /// Where it is named.
    pub source: Source,
}

/// Where something is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An argument.
    CommandLine,
    /// A configuration file.
    ConfigFile,
}

impl Source {
    /// Name for programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::CommandLine => "command_line",
            Self::ConfigFile => "config_file",
        }
    }
}

/// How a process was started, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The configuration file that it names.
    file: Option<String>,
    /// Whether more configuration came on standard input.
    reads_input: bool,
    /// Its options, as lines of configuration.
    options: String,
    /// The folder that it was started in, if that is known: servers change it.
    folder: Option<PathBuf>,
}

impl CommandLine {
    /// That of a process that has just been started, from `/proc`.
    #[must_use]
    pub fn just_started(pid: i32) -> Option<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let folder = process.join("cwd").read_link().ok()?;
        // Below a root of its own, a process knows its folder by another name.
        let root = process.join("root").read_link().ok()?;
        let folder = folder
            .strip_prefix(&root)
            .map_or_else(|_| folder.clone(), |below| Path::new("/").join(below));
        let arguments = Self::read(&process)?;
        Some(Self {
            folder: Some(folder),
            ..arguments
        })
    }

    /// That of a process that may have run for a while, from its folder in procfs.
    pub(super) fn read(process: &Path) -> Option<Self> {
        let file = std::fs::File::open(process.join("cmdline")).ok()?;
        // One that was cut off could have named anything behind.
        read_and_wipe(&file, COMMAND_LINE_BYTES, |bytes| {
            (bytes.len() < COMMAND_LINE_BYTES).then(|| Self::parse(bytes))
        })
        .ok()?
    }

    fn parse(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        let mut options = bytes.split(|&byte| byte == 0).skip(1).peekable();
        let file = options.next_if(|first| !first.starts_with(b"-"));
        let options: Vec<&[u8]> = options.collect();
        let mut lines = as_lines(&options);
        let relevant = relevant_lines(&lines);
        wipe(&mut lines);
        Self {
            file: file.map(|file| String::from_utf8_lossy(file).into_owned()),
            reads_input: options.contains(&&b"-"[..]),
            options: relevant,
            folder: None,
        }
    }

    /// The limit that it names, or the configuration that it names; `read` reads a file by its absolute path inside the
    /// process's root. Later ones win, arguments over files. `None` also if a file cannot be read, and might name one.
    pub(super) fn maxclients(&self, read: &mut dyn FnMut(&Path) -> Option<String>) -> Option<MaxClients> {
        let mut search = Search {
            state: State::Unnamed,
            files: 0,
            read,
        };
        if let Some(file) = &self.file {
            match self.absolute(file) {
                Some(path) => search.file(&path, 0),
                None => search.state = State::Unknown,
            }
        }
        if self.reads_input {
            search.state = State::Unknown;
        }
        search.text(&self.options, Source::CommandLine, 0);
        match search.state {
            State::Named(maxclients) => Some(maxclients),
            State::Unnamed | State::Unknown => None,
        }
    }

    fn absolute(&self, file: &str) -> Option<PathBuf> {
        if Path::new(file).is_absolute() {
            return Some(file.into());
        }
        Some(self.folder.as_ref()?.join(file))
    }
}

/// Those lines of a configuration that decide, and nothing else of it.
pub(super) fn relevant_lines(text: &[u8]) -> String {
    let mut relevant = String::new();
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        let name = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        if [&b"maxclients"[..], b"include"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
        {
            relevant.push_str(&String::from_utf8_lossy(line));
            relevant.push('\n');
        }
    }
    relevant
}

/// Reads a file of at most so many bytes, and leaves nothing of it in memory but what `take` makes of it.
pub(super) fn read_and_wipe<T>(
    file: &std::fs::File,
    most: usize,
    take: impl FnOnce(&[u8]) -> T,
) -> std::io::Result<T> {
    use std::io::Read as _;
    // Never moved by growing: a copy would stay behind.
    let mut bytes = vec![0; most];
    let mut length = 0;
    let mut file = file;
    let result = loop {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break Ok(()),
            Ok(read) => length += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    let taken = result.map(|()| take(&bytes[..length]));
    wipe(&mut bytes);
    taken
}

fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Or the compiler leaves it out, since nobody reads them again.
    std::hint::black_box(bytes);
}

/// Arguments as the server itself reads them: each that begins with two dashes is a line of configuration.
fn as_lines(options: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::with_capacity(options.iter().map(|option| option.len() + 1).sum());
    for option in options {
        match option.strip_prefix(b"--") {
            Some(name) => {
                text.push(b'\n');
                text.extend_from_slice(name);
            }
            None => {
                text.push(b' ');
                text.extend_from_slice(option);
            }
        }
    }
    text
}

#[derive(Debug, Clone, Copy)]
enum State {
    Unnamed,
    Named(MaxClients),
    /// Something that could have named it cannot be read.
    Unknown,
}

struct Search<'a> {
    state: State,
    files: usize,
    read: &'a mut dyn FnMut(&Path) -> Option<String>,
}

impl Search<'_> {
    fn file(&mut self, path: &Path, depth: usize) {
        self.files += 1;
        if self.files > FILES || depth > DEPTH {
            self.state = State::Unknown;
            return;
        }
        match (self.read)(path) {
            Some(text) => self.text(&text, Source::ConfigFile, depth),
            None => self.state = State::Unknown,
        }
    }

    fn text(&mut self, text: &str, source: Source, depth: usize) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let name = words.next().unwrap_or_default().to_ascii_lowercase();
            let value = words.next().unwrap_or_default().trim_matches(['"', '\'']);
            match &*name {
                "maxclients" => {
                    self.state = value.parse().map_or(State::Unknown, |clients| {
                        State::Named(MaxClients { clients, source })
                    });
                }
                "include" => self.include(value, depth),
                _ => {}
            }
        }
    }

    /// A relative path or a pattern depends on folders that are not known any more.
    fn include(&mut self, path: &str, depth: usize) {
        if path.starts_with('/') && !path.contains(['*', '?', '[', '\\']) {
            self.file(Path::new(path), depth + 1);
        } else {
            self.state = State::Unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(arguments: &[&str], folder: Option<&str>, files: &[(&str, &str)]) -> Option<(u64, Source)> {
        let line = CommandLine {
            folder: folder.map(PathBuf::from),
            ..CommandLine::parse(arguments.join("\0").as_bytes())
        };
        let mut read = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        line.maxclients(&mut read)
            .map(|maxclients| (maxclients.clients, maxclients.source))
    }

    #[test]
    fn nothing_is_kept_of_a_command_line_or_file_but_what_decides() {
        let line = CommandLine::parse(
            b"v\0/v.conf\0--requirepass\0secret-1\0--maxclients\x007\0--user x on >secret-2\0",
        );
        assert_eq!(line.options, "maxclients 7\n");
        assert!(!format!("{line:?}").contains("secret"), "{line:?}");
        let text =
            b"requirepass secret-3\n# include x\n  Include /a\r\nmaxclients-x 2\nMAXCLIENTS 3\n\xff secret-4";
        assert_eq!(relevant_lines(text), "Include /a\nMAXCLIENTS 3\n");
    }

    #[test]
    fn arguments_name_it_in_any_case_and_later_ones_win() {
        let line = Source::CommandLine;
        for (arguments, expected) in [
            (
                &["v", "--port", "1", "--maxclients", "100"][..],
                Some((100, line)),
            ),
            (
                &["v", "--MaxClients", "100", "--maxclients", "7"],
                Some((7, line)),
            ),
            (&["v", "--maxclients 100", "--port 1"], Some((100, line))),
            (&["v", "--maxclients", "\"50\""], Some((50, line))),
            (&["v", "--maxclients", "many"], None),
            (&["v", "--port", "--maxclients"], None),
            (&["v"], None),
            (&["v 127.0.0.1:6379"], None),
            (&[], None),
        ] {
            assert_eq!(named(arguments, None, &[]), expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_file_names_it_and_arguments_win_over_it() {
        let files = [(
            "/etc/v.conf",
            "# maxclients 1\nport 6379\n  MAXCLIENTS '2000'\r\nsave \"\"\n",
        )];
        let file = Some((2000, Source::ConfigFile));
        assert_eq!(named(&["v", "/etc/v.conf"], None, &files), file);
        assert_eq!(named(&["v", "v.conf"], Some("/etc"), &files), file);
        assert_eq!(named(&["v", "v.conf"], None, &files), None);
        assert_eq!(
            named(&["v", "/etc/v.conf", "--maxclients", "5"], None, &files),
            Some((5, Source::CommandLine))
        );
    }

    #[test]
    fn what_cannot_be_read_could_have_named_another() {
        let files = [
            ("/a", "maxclients 1\ninclude /b\n"),
            ("/b", "maxclients 2\n"),
            ("/c", "maxclients 1\ninclude /gone\n"),
            ("/d", "include /gone\nmaxclients 3\n"),
            ("/e", "maxclients 1\ninclude /conf.d/*.conf\n"),
            ("/f", "maxclients 1\ninclude relative\n"),
            ("/loop", "maxclients 1\ninclude /loop\n"),
        ];
        let of = |path: &str| named(&["v", path], None, &files).map(|(clients, _)| clients);
        assert_eq!(of("/a"), Some(2));
        assert_eq!(of("/c"), None);
        assert_eq!(of("/d"), Some(3));
        assert_eq!(of("/e"), None);
        assert_eq!(of("/f"), None);
        assert_eq!(of("/loop"), None);
        assert_eq!(of("/gone"), None);
        assert_eq!(named(&["v", "/a", "-"], None, &files), None);
        assert_eq!(
            named(&["v", "/gone", "--maxclients", "9"], None, &files).map(|found| found.0),
            Some(9)
        );
    }

    #[test]
    fn a_configuration_of_very_many_files_is_given_up() {
        let chain: Vec<(String, String)> = (0..40)
            .map(|number| {
                (
                    format!("/{number}"),
                    format!("include /{}\nmaxclients 1\n", number + 1),
                )
            })
            .collect();
        let wide = (1..=FILES).map(|_| "include /x\n").collect::<String>();
        let files: Vec<(&str, &str)> = chain
            .iter()
            .map(|(name, text)| (&**name, &**text))
            .chain([
                ("/x", "maxclients 4\n"),
                ("/wide", &*wide),
                ("/narrow", &wide[11..]),
            ])
            .collect();
        assert_eq!(
            named(&["v", "/narrow"], None, &files),
            Some((4, Source::ConfigFile))
        );
        assert_eq!(
            named(&["v", "/wide"], None, &files),
            None,
            "one more than the bound"
        );
        let mut reads = 0;
        let line = CommandLine::parse(b"v\0/0\0");
        let found = line.maxclients(&mut |path| {
            reads += 1;
            files
                .iter()
                .find(|(name, _)| Path::new(name) == path)
                .map(|(_, text)| (*text).to_owned())
        });
        assert!(reads <= FILES, "{reads}");
        // The outermost names it behind its include.
        assert_eq!(found.map(|found| found.clients), Some(1));
    }
}
