//! The folder of incidents: a thread writes, whoever asks reads.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::file::{Fault, Incident, MAGIC, encode};
use super::flight::Work;
use super::record::Record;
use crate::config::Incidents;
use crate::privileges;
use crate::storms::Storm;

/// What files are called behind the incident's id.
const EXTENSION: &str = "incident";

/// What may wait to be written: some seconds of many storms.
const WAITING: usize = 256;

/// Longest file that is read, in bytes; a day of storm is a fifth of it.
const FILE_BYTES: u64 = 64 << 20;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The incidents of this host. Clones of the `Arc` are the same.
#[derive(Debug)]
pub struct Archive {
    dir: PathBuf,
    settings: Mutex<Incidents>,
    index: Mutex<BTreeMap<String, Summary>>,
    works: SyncSender<Option<Work>>,
    dropped: AtomicU64,
    errors: AtomicU64,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Keeper {
    archive: Arc<Archive>,
    thread: JoinHandle<()>,
}

/// What a list shows of an incident.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
    /// Its id: that of its storm.
    pub id: String,
    /// Whether it was recorded to its end; if not, it goes on, or the agent ended before.
    pub complete: bool,
    /// Bytes of its file.
    pub bytes: u64,
    /// The storm, as it was last; `null` if the file cannot be read.
    pub storm: Option<Storm>,
    /// Why it cannot be read; `null` if it can.
    pub fault: Option<String>,
}

/// What became of incidents since the agent started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveStatus {
    /// Incidents in the folder.
    pub kept: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Pieces that were not written because the disk was too slow.
    pub dropped: u64,
    /// Pieces that were not written because of an error.
    pub errors: u64,
}

impl Archive {
    /// Reads what is in the folder, and begins to write there. The folder is made by the first incident.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn start(settings: &Incidents) -> io::Result<(Arc<Self>, Keeper)> {
        let (works, inbox) = sync_channel(WAITING);
        let archive = Arc::new(Self {
            dir: settings.dir.clone(),
            settings: Mutex::new(settings.clone()),
            index: Mutex::default(),
            works,
            dropped: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        let writing = Arc::clone(&archive);
        let thread = thread::Builder::new()
            .name("incidents".into())
            .spawn(privileges::without(move || writing.write(&inbox)))?;
        let keeper = Keeper {
            archive: Arc::clone(&archive),
            thread,
        };
        Ok((archive, keeper))
    }

    /// Takes something to write. Never waits.
    pub fn take(&self, work: Work) {
        if let Err(error) = self.works.try_send(Some(work)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "a piece of an incident is not recorded");
        }
    }

    /// Keeps other amounts from now on; the folder stays.
    pub fn reload(&self, settings: &Incidents) {
        lock(&self.settings).clone_from(settings);
    }

    /// Every incident, the latest first.
    #[must_use]
    pub fn list(&self) -> Vec<Summary> {
        lock(&self.index).values().rev().cloned().collect()
    }

    /// Whether there is an incident of this id.
    pub fn knows(&self, id: &str) -> bool {
        lock(&self.index).contains_key(id)
    }

    /// Reads an incident; `None`: there is none of this id.
    ///
    /// # Errors
    ///
    /// Its file cannot be read.
    pub fn read(&self, id: &str) -> Option<Result<Incident, String>> {
        self.knows(id).then(|| read_file(&path_of(&self.dir, id)))
    }

    /// What became of incidents.
    #[must_use]
    pub fn status(&self) -> ArchiveStatus {
        let index = lock(&self.index);
        ArchiveStatus {
            kept: index.len() as u64,
            bytes: index.values().map(|summary| summary.bytes).sum(),
            dropped: self.dropped.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    fn write(&self, inbox: &Receiver<Option<Work>>) {
        match read_folder(&self.dir) {
            Ok(found) => lock(&self.index).extend(found.into_iter().map(|found| (found.id.clone(), found))),
            Err(error) => self.failed(&error),
        }
        self.retain();
        let mut files = HashMap::new();
        while let Ok(Some(Work { id, records })) = inbox.recv() {
            if let Err(error) = self.append(&mut files, &id, &records) {
                // Half a record may be there, and nothing may follow it.
                files.insert(id, None);
                self.failed(&error);
            }
        }
    }

    /// Appends to a file; one that could not be written once is `None`.
    fn append(
        &self,
        files: &mut HashMap<String, Option<File>>,
        id: &str,
        records: &[Record],
    ) -> io::Result<()> {
        let begins = matches!(records.first(), Some(Record::Head { .. }));
        if begins {
            self.retain();
            fs::create_dir_all(&self.dir)?;
            let mut file = OpenOptions::new()
                .create_new(true)
                .append(true)
                .open(path_of(&self.dir, id))?;
            file.write_all(MAGIC)?;
            files.insert(id.to_owned(), Some(file));
        }
        let Some(Some(file)) = files.get_mut(id) else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend(encode(record)?);
        }
        file.write_all(&bytes)?;
        let tells = records
            .iter()
            .any(|record| !matches!(record, Record::Course(_) | Record::Traffic(_)));
        if tells {
            file.sync_data()?;
        }
        let length = file.metadata()?.len();
        let ends = matches!(records.last(), Some(Record::End { .. }));
        self.enter(id, records, length, ends);
        if begins {
            File::open(&self.dir)?.sync_all()?;
        }
        if ends {
            files.remove(id);
        }
        Ok(())
    }

    fn enter(&self, id: &str, records: &[Record], bytes: u64, complete: bool) {
        let mut index = lock(&self.index);
        let summary = index.entry(id.to_owned()).or_insert_with(|| Summary {
            id: id.to_owned(),
            complete: false,
            bytes: 0,
            storm: None,
            fault: None,
        });
        for record in records {
            if let Record::Storm(told) = record {
                summary.storm = Some(told.storm.clone());
            }
        }
        (summary.bytes, summary.complete) = (bytes, complete);
    }

    /// Removes what is too old or too much, the oldest first. What is being written stays.
    fn retain(&self) {
        let (days, bytes) = {
            let settings = lock(&self.settings);
            (
                settings.keep_days.get() as u32,
                (settings.keep_megabytes.get() as u64) << 20,
            )
        };
        let oldest = SystemTime::now().checked_sub(DAY * days);
        let mut index = lock(&self.index);
        let mut sum: u64 = index.values().map(|summary| summary.bytes).sum();
        let mut gone = Vec::new();
        for (id, summary) in index.iter() {
            let path = path_of(&self.dir, id);
            let written = fs::metadata(&path).and_then(|file| file.modified()).ok();
            let is_old = written
                .zip(oldest)
                .is_some_and(|(written, oldest)| written < oldest);
            if !is_old && sum <= bytes {
                continue;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => self.failed(&error),
                _ => {
                    sum = sum.saturating_sub(summary.bytes);
                    gone.push(id.clone());
                }
            }
        }
        for id in gone {
            index.remove(&id);
        }
    }

    fn failed(&self, error: &io::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            dir = %self.dir.display(),
            %error,
            "incidents are not recorded as they should be: let stormglass write there, or change `incidents.dir`"
        );
    }
}

impl Keeper {
    /// Writes what waits and ends.
    pub fn stop(self) {
        // It may have ended by itself.
        _ = self.archive.works.send(None);
        if self.thread.join().is_err() {
            tracing::error!("the thread of incidents panicked; this is a defect of stormglass");
        }
    }
}

/// Every incident of a folder, by id. A folder that is not there has none.
///
/// # Errors
///
/// The folder cannot be read.
pub fn read_folder(dir: &Path) -> io::Result<Vec<Summary>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let is_one = path.extension().is_some_and(|extension| extension == EXTENSION);
        let id = path.file_stem().and_then(|stem| stem.to_str());
        let Some(id) = id.filter(|id| is_one && is_id(id)) else {
            continue;
        };
        let read = read_file(&path);
        found.push(Summary {
            id: id.to_owned(),
            complete: read.as_ref().is_ok_and(|incident| incident.complete),
            bytes: entry.metadata().map_or(0, |file| file.len()),
            fault: read.as_ref().err().cloned(),
            storm: read.ok().map(|incident| incident.storm),
        });
    }
    found.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(found)
}

/// Reads an incident of a folder.
///
/// # Errors
///
/// Why it cannot be read, with the name of its file.
pub fn read_incident(dir: &Path, id: &str) -> Result<Incident, String> {
    read_file(&path_of(dir, id))
}

/// Reads a file; errors are sentences that name it.
fn read_file(path: &Path) -> Result<Incident, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let length = fs::metadata(path).map_err(|error| told(&error))?.len();
    if length > FILE_BYTES {
        return Err(told(&"is too long for an incident"));
    }
    let bytes = fs::read(path).map_err(|error| told(&error))?;
    Incident::read(&bytes).map_err(|fault: Fault| told(&fault))
}

fn path_of(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}.{EXTENSION}"))
}

/// Ids of storms: no other file of the folder is touched.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
