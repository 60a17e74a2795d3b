//! The key of hashed prefixes (`keys.hash_prefixes`): from the file that `keys.hash_key_file` names, else from the one that the agent
//! makes and keeps in `alerts.dir`.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};
use toml::Spanned;

use super::Settings;
use super::check::Result;
use super::error::{ConfigError, Position, Source};
use super::receivers::folder;
use crate::tenants::PrefixNames;

/// Name of the key that the agent makes, in `alerts.dir`.
const NAME: &str = "prefix.key";

/// Bytes of a key: fewer could be guessed, more is another file.
const LEAST_BYTES: usize = 16;
const MOST_BYTES: usize = 1024;

/// Random bytes of a key that the agent makes; written as hexadecimal digits.
const MADE_BYTES: usize = 32;

/// `keys.hash_key_file`, and where in the configuration it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashKeyFile {
    /// The file.
    pub path: PathBuf,
    named_in: PathBuf,
    position: Option<Position>,
}

/// A key. Not shown.
#[derive(Clone, PartialEq, Eq)]
struct HashKey(Vec<u8>);

impl fmt::Debug for HashKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HashKey")
    }
}

/// Checks `keys.hash_key_file`. The file is read when it is needed.
pub(super) fn hash_key_file(file: &Source<'_>, raw: Option<&Spanned<String>>) -> Result<Option<HashKeyFile>> {
    let Some(raw) = raw else { return Ok(None) };
    Ok(Some(HashKeyFile {
        path: folder(file, "keys.hash_key_file", raw)?,
        named_in: file.path.into(),
        position: Some(file.position(raw.span().start)),
    }))
}

/// Finds the names under which prefixes are shown, and keeps their key stable.
#[derive(Debug, Default)]
pub struct HashKeys {
    /// The key of `alerts.dir`, or that of this process where none can be kept.
    own: Option<HashKey>,
    reads_only: bool,
}

impl HashKeys {
    /// Leaves the disk as it is: without a key that is kept there, hashes are those of this process.
    #[must_use]
    pub const fn reading_only() -> Self {
        Self {
            own: None,
            reads_only: true,
        }
    }

    /// The names that this configuration asks for. What is odd about the key becomes one of its warnings.
    ///
    /// # Errors
    ///
    /// A key that cannot be read, or is none; the system has no random numbers.
    pub fn names(&mut self, settings: &mut Settings) -> Result<PrefixNames> {
        if !settings.keys.hash_prefixes {
            return Ok(PrefixNames::default());
        }
        if let Some(key) = named(settings)? {
            return Ok(key.names());
        }
        let dir = settings.alerts.dir.clone();
        if let Some(kept) = kept(&dir)? {
            return Ok(self.own.insert(kept).names());
        }
        let key = match &self.own {
            Some(key) => key.clone(),
            None => {
                HashKey::random().map_err(|reason| ConfigError::file(&dir, reason, "try again".into()))?
            }
        };
        if !self.reads_only
            && let Err(error) = key.keep(&dir)
        {
            settings.warnings.push(format!(
                "{}: the key of hashed prefixes cannot be kept ({error}): the hashes of this process are not those of the next; \
                 let stormglass write there, or name a key with `keys.hash_key_file`",
                dir.join(NAME).display()
            ));
        }
        Ok(self.own.insert(key).names())
    }
}

impl Settings {
    /// The names that an agent with this configuration shows prefixes under while it hashes them; `None`: there is no key yet.
    /// Warnings are added as by [`HashKeys::names`].
    ///
    /// # Errors
    ///
    /// A key that cannot be read, or is none.
    pub fn hashed_names(&mut self) -> Result<Option<PrefixNames>> {
        let key = match named(self)? {
            Some(key) => Some(key),
            None => kept(&self.alerts.dir)?,
        };
        Ok(key.map(|key| key.names()))
    }
}

/// The key that the configuration names.
fn named(settings: &mut Settings) -> Result<Option<HashKey>> {
    let Some(named) = settings.hash_key_file.clone() else {
        return Ok(None);
    };
    let fault = |reason, advice: &str| ConfigError {
        file: named.named_in.clone(),
        position: named.position,
        reason,
        advice: advice.into(),
    };
    let path = named.path.display();
    let (bytes, mode) = read(&named.path).map_err(|error| {
        fault(
            format!("cannot read `keys.hash_key_file` {path} ({error})"),
            "put a key there that the user of stormglass owns, or leave it out: then the agent makes one",
        )
    })?;
    let key = HashKey::new(&bytes).map_err(|reason| {
        fault(
            format!("`keys.hash_key_file` {path} {reason}"),
            "`openssl rand -hex 32` makes a key",
        )
    })?;
    if mode & 0o077 != 0 {
        let place = named.position.map_or(0, |position| position.line);
        settings.warnings.push(format!(
            "{}:{place}: others may read {path} (mode {:03o}), and with it tell hashed prefixes: chmod 600",
            named.named_in.display(),
            mode & 0o777
        ));
    }
    Ok(Some(key))
}

/// The key that an agent has made.
fn kept(dir: &Path) -> Result<Option<HashKey>> {
    let path = dir.join(NAME);
    let fault = |reason, advice: &str| ConfigError::file(&path, reason, advice.into());
    match read(&path) {
        Ok((bytes, _)) => HashKey::new(&bytes).map(Some).map_err(|reason| {
            let advice = "remove it, and the agent makes another one: then hashes change";
            fault(format!("the key of hashed prefixes {reason}"), advice)
        }),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(fault(
            format!("cannot read the key of hashed prefixes ({error})"),
            "let the user that runs stormglass own it, or name another one with `keys.hash_key_file`",
        )),
    }
}

/// What a file holds, one byte more than a key at most, and its mode.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut bytes = Vec::new();
    file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, mode))
}

impl HashKey {
    /// The bytes of a file as they are, but for white space at its end.
    fn new(bytes: &[u8]) -> std::result::Result<Self, String> {
        if bytes.len() > MOST_BYTES {
            return Err(format!("is longer than {MOST_BYTES} bytes: no key"));
        }
        let key = bytes.trim_ascii_end();
        if key.len() < LEAST_BYTES {
            return Err(format!(
                "holds {} bytes, and a key has {LEAST_BYTES} at least",
                key.len()
            ));
        }
        Ok(Self(key.to_vec()))
    }

    fn random() -> std::result::Result<Self, String> {
        let mut bytes = [0; MADE_BYTES];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| "the system has no random numbers for a key of hashed prefixes".to_owned())?;
        Ok(Self(
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
                .into(),
        ))
    }

    fn names(&self) -> PrefixNames {
        PrefixNames::hashed(&self.0)
    }

    /// Writes it for the next start, and for nobody else: after a crash it is there as a whole or not at all.
    fn keep(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let aside = dir.join(format!("{NAME}.new"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&aside)?;
        file.write_all(&self.0)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(aside, dir.join(NAME))?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A configuration that hashes, with these further keys, and the folder of its alerts.
    fn hashing(dir: &Path, keys: &str) -> Settings {
        let text = format!("[keys]\nhash_prefixes = true\n{keys}\n[alerts]\ndir = {dir:?}\n");
        Settings::parse(Path::new("test.toml"), &text).expect("accepted")
    }

    fn named_file(dir: &Path, content: &str, mode: u32) -> Settings {
        let path = dir.join("named");
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        hashing(dir, &format!("hash_key_file = {path:?}"))
    }

    #[test]
    fn without_the_switch_names_are_plain_and_no_key_is_made() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut settings = hashing(dir.path(), "");
        settings.keys.hash_prefixes = false;
        let names = HashKeys::default().names(&mut settings).expect("nothing to do");
        assert!(!names.are_hashed());
        assert!(!dir.path().join(NAME).exists());
        assert_eq!(settings.hashed_names(), Ok(None));
    }

    #[test]
    fn a_key_that_was_made_is_kept_for_the_next_start_and_readable_by_nobody_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let below = dir.path().join("alerts");
        let mut settings = hashing(&below, "");
        let first = HashKeys::default().names(&mut settings).expect("made");
        let kept = fs::metadata(below.join(NAME)).expect("kept");
        assert_eq!((kept.mode() & 0o777, kept.len()), (0o600, 65));
        assert_eq!(HashKeys::default().names(&mut settings).expect("read"), first);
        assert_eq!(settings.hashed_names(), Ok(Some(first.clone())));
        assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
        fs::remove_dir_all(&below).expect("removed");
        assert_ne!(HashKeys::default().names(&mut settings).expect("made"), first);
    }

    #[test]
    fn a_key_that_is_lost_while_the_agent_runs_is_kept_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut settings = hashing(dir.path(), "");
        let mut keys = HashKeys::default();
        let first = keys.names(&mut settings).expect("made");
        fs::remove_file(dir.path().join(NAME)).expect("removed");
        assert_eq!(keys.names(&mut settings).expect("known"), first);
        assert_eq!(HashKeys::default().names(&mut settings).expect("read"), first);
    }

    #[test]
    fn where_no_key_can_be_kept_that_of_the_process_is_used_and_a_warning_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("no-folder");
        fs::write(&file, "").expect("written");
        // What lies below a file is not there, and cannot be made.
        let mut settings = hashing(&file.join("alerts"), "");
        let mut keys = HashKeys::default();
        let names = keys.names(&mut settings).expect("made");
        assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
        assert!(settings.warnings[0].contains("keys.hash_key_file"));
        assert_eq!(keys.names(&mut settings).expect("the same"), names);
    }

    #[test]
    fn whoever_only_looks_reads_the_key_and_makes_no_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut settings = hashing(dir.path(), "");
        let alone = HashKeys::reading_only().names(&mut settings).expect("made");
        assert!(alone.are_hashed() && !dir.path().join(NAME).exists());
        let kept = HashKeys::default().names(&mut settings).expect("made");
        assert_eq!(HashKeys::reading_only().names(&mut settings).expect("read"), kept);
    }

    #[test]
    fn the_file_that_is_named_is_the_key_but_for_white_space_at_its_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let expected = PrefixNames::hashed(b"0123456789abcdef");
        for content in ["0123456789abcdef", "0123456789abcdef \r\n\n"] {
            let mut settings = named_file(dir.path(), content, 0o600);
            assert_eq!(HashKeys::default().names(&mut settings), Ok(expected.clone()));
            assert_eq!(settings.hashed_names(), Ok(Some(expected.clone())));
            assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
        }
        assert!(!dir.path().join(NAME).exists(), "none is made beside it");
    }

    #[test]
    fn a_bad_file_is_refused_with_the_line_that_names_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let long = "x".repeat(MOST_BYTES + 1);
        for (content, reason) in [
            ("0123456789abcde\n", "holds 15 bytes, and a key has 16 at least"),
            ("", "holds 0 bytes"),
            (&*long, "is longer than 1024 bytes"),
        ] {
            let mut settings = named_file(dir.path(), content, 0o600);
            let error = HashKeys::default().names(&mut settings).expect_err("no key");
            let error = error.to_string();
            assert!(
                error.starts_with("test.toml:3:17: `keys.hash_key_file` ") && error.contains(reason),
                "{error}"
            );
        }
        let mut settings = hashing(dir.path(), "hash_key_file = \"/nowhere/prefix.key\"");
        let error = HashKeys::default().names(&mut settings).expect_err("missing");
        assert!(
            error.to_string().starts_with(
                "test.toml:3:17: cannot read `keys.hash_key_file` /nowhere/prefix.key (No such file"
            ),
            "{error}"
        );
        fs::write(dir.path().join(NAME), "short").expect("written");
        let error = HashKeys::default()
            .names(&mut hashing(dir.path(), ""))
            .expect_err("no key");
        assert!(
            error
                .to_string()
                .contains("prefix.key: the key of hashed prefixes holds 5 bytes"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_others_may_read_is_used_with_a_warning() {
        let dir = tempfile::tempdir().expect("a folder");
        for mode in [0o640, 0o604] {
            let mut settings = named_file(dir.path(), "0123456789abcdef", mode);
            HashKeys::default().names(&mut settings).expect("a key");
            assert_eq!(settings.warnings.len(), 1);
            let warning = &settings.warnings[0];
            assert!(
                warning.starts_with("test.toml:3: others may read ")
                    && warning.contains(&format!("(mode {mode:o})")),
                "{warning}"
            );
        }
    }
}
