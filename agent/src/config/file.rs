//! The configuration file: where it is, what is in it, and whether it has changed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{ConfigError, DEFAULT_PATH, Settings, error};

/// Largest configuration file in bytes. 10,000 tenants with ten prefixes each need about half of it; what is larger is
/// not a configuration (a device, a log).
const FILE_BYTES: u64 = 4 << 20;

/// Where the configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
    /// Nobody has named it, so it need not be there.
    by_default: bool,
}

/// What a configuration file had in it; nothing, if there was none and need not be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content(Option<Vec<u8>>);

/// The configuration that the agent starts with.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Where it is.
    pub file: ConfigFile,
    /// What was in it.
    pub content: Content,
    /// What that comes to.
    pub settings: Settings,
}

impl Configuration {
    /// Reads and checks the file at `path`, or as [`ConfigFile::new`] says.
    ///
    /// # Errors
    ///
    /// As [`Settings::load`].
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = ConfigFile::new(path);
        let content = file.read()?;
        let settings = file.check(&content)?;
        Ok(Self {
            file,
            content,
            settings,
        })
    }
}

/// What came of reading the file.
pub type Look = Result<Content, ConfigError>;

impl ConfigFile {
    /// The file at `path`; without one [`DEFAULT_PATH`], if it exists.
    #[must_use]
    pub fn new(path: Option<&Path>) -> Self {
        Self {
            path: path.unwrap_or(Path::new(DEFAULT_PATH)).into(),
            by_default: path.is_none(),
        }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can be read again: a pipe is empty the second time, and waits for somebody to write.
    #[must_use]
    pub fn is_rereadable(&self) -> bool {
        !fs::metadata(&self.path).is_ok_and(|found| !found.is_file() && !found.is_dir())
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is too large; it is not there, and somebody has named it.
    pub fn read(&self) -> Look {
        match File::open(&self.path) {
            Ok(file) => self.read_open(file),
            Err(error) if self.by_default && error.kind() == io::ErrorKind::NotFound => Ok(Content(None)),
            Err(error) => Err(ConfigError::unreadable(&self.path, &error)),
        }
    }

    /// Reads it again, while a configuration is in force.
    ///
    /// # Errors
    ///
    /// As [`Self::read`]; also if it is no ordinary file, or is not there although it was: that is no wish for the defaults.
    pub fn read_again(&self, was_there: bool) -> Look {
        if !self.is_rereadable() {
            return Err(ConfigError::file(
                &self.path,
                "the configuration came through a pipe or device, which cannot be read again".into(),
                "restart stormglass, or name an ordinary file with --config".into(),
            ));
        }
        match self.read() {
            Ok(Content(None)) if was_there => Err(self.gone()),
            Err(_) if was_there && !self.path.exists() => Err(self.gone()),
            look => look,
        }
    }

    /// Checks what was read.
    ///
    /// # Errors
    ///
    /// It is not UTF-8 or TOML, or holds a key or value that this version does not accept.
    pub fn check(&self, content: &Content) -> Result<Settings, ConfigError> {
        let Content(Some(bytes)) = content else {
            return Ok(Settings::default());
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => Settings::parse(&self.path, text),
            Err(fault) => {
                let text = String::from_utf8_lossy(bytes);
                let at = fault.valid_up_to();
                let source = error::Source {
                    path: &self.path,
                    text: &text,
                };
                Err(source.error(
                    at..at,
                    "the file is not UTF-8 text".into(),
                    "save it as UTF-8".into(),
                ))
            }
        }
    }

    fn gone(&self) -> ConfigError {
        ConfigError::file(
            &self.path,
            "the configuration file is gone".into(),
            "put it back; until then what it said last is in force".into(),
        )
    }

    fn read_open(&self, file: File) -> Look {
        let mut bytes = Vec::new();
        file.take(FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| ConfigError::unreadable(&self.path, &error))?;
        if bytes.len() as u64 > FILE_BYTES {
            return Err(ConfigError::file(
                &self.path,
                format!("the file is larger than {} MiB", FILE_BYTES >> 20),
                "name a Stormglass configuration with --config".into(),
            ));
        }
        Ok(Content(Some(bytes)))
    }
}

impl Content {
    /// Whether there was a file.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

/// Tells from one look at the file to the next whether there is something new to judge.
#[derive(Debug)]
pub struct Changes {
    judged: Look,
    /// New at the last look.
    fresh: Option<Look>,
}

impl Changes {
    /// `judged` is in force.
    #[must_use]
    pub const fn new(judged: Content) -> Self {
        Self {
            judged: Ok(judged),
            fresh: None,
        }
    }

    /// A regular look. Returns what is to be judged: something new that two looks in a row have found. An editor may write
    /// a file in several pieces or take it away for a moment, and half a file can be a good one with half of the tenants.
    pub fn look(&mut self, found: Look) -> Option<Look> {
        if found == self.judged {
            self.fresh = None;
            return None;
        }
        if self.fresh.as_ref() == Some(&found) {
            return Some(self.demand(found));
        }
        self.fresh = Some(found);
        None
    }

    /// A look that somebody has asked for: it is to be judged, whatever was found.
    pub fn demand(&mut self, found: Look) -> Look {
        self.fresh = None;
        self.judged = found.clone();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Look {
        Ok(Content(Some(text.into())))
    }

    fn gone() -> Look {
        Err(ConfigError::file(
            Path::new("a"),
            "gone".into(),
            "put it back".into(),
        ))
    }

    #[test]
    fn a_change_is_judged_once_when_two_looks_in_a_row_have_found_it() {
        let mut changes = Changes::new(Content(Some("old".into())));
        assert_eq!(changes.look(content("old")), None);
        assert_eq!(changes.look(content("new")), None);
        assert_eq!(changes.look(content("new")), Some(content("new")));
        assert_eq!(changes.look(content("new")), None);
    }

    #[test]
    fn a_file_that_is_still_being_written_is_not_judged() {
        let mut changes = Changes::new(Content(Some("old".into())));
        for half in [content(""), content("n"), gone(), content("ne")] {
            assert_eq!(changes.look(half), None);
        }
        assert_eq!(changes.look(content("old")), None, "never mind");
        assert_eq!(changes.look(content("ne")), None, "anew");
        assert_eq!(changes.look(content("new")), None);
        assert_eq!(changes.look(content("new")), Some(content("new")));
    }

    #[test]
    fn a_refused_file_is_judged_once_and_so_is_the_return_to_the_old_one() {
        let mut changes = Changes::new(Content(Some("old".into())));
        assert_eq!(changes.look(gone()), None);
        assert_eq!(changes.look(gone()), Some(gone()));
        assert_eq!(changes.look(gone()), None);
        assert_eq!(changes.look(content("old")), None);
        assert_eq!(changes.look(content("old")), Some(content("old")));
    }

    #[test]
    fn who_asks_for_it_has_it_judged_at_once_though_nothing_is_new() {
        let mut changes = Changes::new(Content(Some("old".into())));
        assert_eq!(changes.demand(content("old")), content("old"));
        assert_eq!(changes.demand(content("new")), content("new"));
        assert_eq!(changes.look(content("new")), None);
    }

    #[test]
    fn a_file_that_was_there_and_is_gone_is_no_wish_for_the_defaults() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = ConfigFile {
            path: folder.path().join("stormglass.toml"),
            by_default: true,
        };
        let nothing = file.read().expect("need not be there");
        assert_eq!(file.check(&nothing), Ok(Settings::default()));
        assert_eq!(file.read_again(nothing.is_there()), Ok(nothing));
        fs::write(&file.path, "[keys]\ndepth = 2").expect("written");
        let content = file.read_again(false).expect("is there");
        assert!(content.is_there());
        assert_eq!(file.check(&content).expect("good").keys.depth.get(), 2);
        fs::remove_file(&file.path).expect("removed");
        for by_default in [true, false] {
            let path = file.path.clone();
            let error = ConfigFile { path, by_default }
                .read_again(true)
                .expect_err("gone");
            assert!(
                error
                    .to_string()
                    .ends_with("is gone: put it back; until then what it said last is in force"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_twice_is_not_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
        let file = ConfigFile::new(Some(&path));
        assert!(!file.is_rereadable());
        // Opening it would wait for a writer.
        let error = file.read_again(false).expect_err("a pipe");
        assert!(error.to_string().contains("restart stormglass"), "{error}");
        assert!(
            ConfigFile::new(Some(folder.path())).is_rereadable(),
            "to be refused as what it is"
        );
    }
}
