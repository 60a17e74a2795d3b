//! Records as bytes.
//!
//! A file begins with [`MAGIC`]. A record is three little-endian words of four bytes (the length of what follows, the CRC32C of that
//! word, the CRC32C of what follows) and a record's JSON, compressed by raw DEFLATE (RFC 1951). A file that ends within a record
//! was cut by a crash and is read up to there. A length has a checksum of its own, so that a damaged one is not taken for a cut.

use std::fmt::Write as _;
use std::io::Read as _;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};

use super::record::{Clients, Course, FORMAT, Record, TenantsAt, Told, TrafficAt};
use crate::storms::Storm;

/// The first bytes of a file.
pub(super) const MAGIC: &[u8] = b"stormglass incident\n";

/// Bytes in front of a record.
const PREFACE: usize = 12;

/// Longest record, packed and unpacked: 20 minutes of samples are a tenth of it.
const RECORD_BYTES: usize = 4 << 20;

/// What is known of a storm's minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Incident {
    /// Form of its records.
    pub format: u32,
    /// Version of the agent that recorded it.
    pub agent: String,
    /// Whether it was recorded to its end; if not, it goes on, or the agent ended before.
    pub complete: bool,
    /// The storm, as it was last.
    pub storm: Storm,
    /// The storm each time that something was told of it.
    pub told: Vec<Told>,
    /// The server every 100 ms: before, during and after.
    pub course: Course,
    /// What its commands came to, every second: before, during and after.
    #[serde(default)]
    pub traffic: Vec<TrafficAt>,
    /// Its clients: every twenty seconds or so, and every second or so while something was suspected.
    pub clients: Vec<Clients>,
    /// Its tenants, every few seconds.
    pub tenants: Vec<TenantsAt>,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is something else.
    #[error("this is no incident of stormglass")]
    Other,
    /// It is of a later version.
    #[error(
        "this incident has form {0}, and this version of stormglass knows {FORMAT}: read it with a newer one"
    )]
    Newer(u32),
    /// Bytes have changed.
    #[error(
        "this incident is damaged at byte {0}: its checksum does not fit; a copy of the file may be whole"
    )]
    Damaged(usize),
    /// A record is whole and says what this version does not know.
    #[error("the record at byte {at} is not understood: {reason}")]
    Unknown {
        /// Where it begins.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// It was cut before it said what storm it is about.
    #[error("this incident was cut before its storm was written: nothing is left of it")]
    Empty,
}

/// A record as bytes.
pub(super) fn encode(record: &Record) -> std::io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(vec![0; PREFACE], Compression::default());
    serde_json::to_writer(&mut encoder, record)?;
    let mut bytes = encoder.finish()?;
    let length = bytes.len() - PREFACE;
    if length > RECORD_BYTES {
        return Err(std::io::Error::other("a record is too long"));
    }
    let length = (length as u32).to_le_bytes();
    let sum = crc32c::crc32c(&bytes[PREFACE..]).to_le_bytes();
    bytes[..4].copy_from_slice(&length);
    bytes[4..8].copy_from_slice(&crc32c::crc32c(&length).to_le_bytes());
    bytes[8..PREFACE].copy_from_slice(&sum);
    Ok(bytes)
}

/// The records of a file, up to where it was cut.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Record>, Fault> {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        return Err(if MAGIC.starts_with(bytes) {
            Fault::Empty
        } else {
            Fault::Other
        });
    };
    let mut records = Vec::new();
    while let Some((preface, behind)) = rest.split_first_chunk::<PREFACE>() {
        let at = bytes.len() - rest.len();
        let word = |from: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&preface[from..from + 4]);
            u32::from_le_bytes(word)
        };
        if crc32c::crc32c(&preface[..4]) != word(4) {
            // A file system may have made room for what a crash kept from being written.
            if rest.iter().all(|byte| *byte == 0) {
                break;
            }
            return Err(Fault::Damaged(at));
        }
        let Some((packed, next)) = behind.split_at_checked(word(0) as usize) else {
            break;
        };
        if crc32c::crc32c(packed) != word(8) {
            if next.is_empty() && packed.ends_with(&[0]) {
                break;
            }
            return Err(Fault::Damaged(at));
        }
        records.push(record(packed).map_err(|fault| match fault {
            Fault::Unknown { reason, .. } => Fault::Unknown { at, reason },
            other => other,
        })?);
        rest = next;
    }
    Ok(records)
}

fn record(packed: &[u8]) -> Result<Record, Fault> {
    let unknown = |reason: String| Fault::Unknown { at: 0, reason };
    let mut json = Vec::new();
    DeflateDecoder::new(packed)
        .take(RECORD_BYTES as u64)
        .read_to_end(&mut json)
        .map_err(|error| unknown(error.to_string()))?;
    // A newer form may have other records: its number is asked first.
    let value: serde_json::Value =
        serde_json::from_slice(&json).map_err(|error| unknown(error.to_string()))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if let Some(newer) = format.filter(|format| *format > u64::from(FORMAT)) {
        return Err(Fault::Newer(u32::try_from(newer).unwrap_or(u32::MAX)));
    }
    serde_json::from_value(value).map_err(|error| unknown(error.to_string()))
}

impl Incident {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It is damaged, something else, of a later version, or nothing is left of it. One that was cut is no error.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut records = decode(bytes)?.into_iter();
        let Some(Record::Head { format, agent }) = records.next() else {
            return Err(Fault::Empty);
        };
        let mut complete = false;
        let (mut told, mut course) = (Vec::new(), Course::default());
        let (mut traffic, mut clients, mut tenants) = (Vec::new(), Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Head { .. } => {}
                Record::Storm(next) => told.push(next),
                Record::Course(next) => course.extend(next.samples()),
                Record::Traffic(next) => traffic.extend(next.seconds),
                Record::Clients(next) => clients.push(next),
                Record::Tenants(next) => tenants.push(next),
                Record::End { .. } => complete = true,
            }
        }
        let storm = told.last().map(|told| told.storm.clone()).ok_or(Fault::Empty)?;
        Ok(Self {
            format,
            agent,
            complete,
            storm,
            told,
            course,
            traffic,
            clients,
            tenants,
        })
    }

    /// The course as comma-separated values with a line of names: a line per tick.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "at_ms,connections,opened,closed,closed_waiting,rejected,queue_length,queue_drops\n",
        );
        for sample in self.course.samples() {
            _ = writeln!(
                text,
                "{},{},{},{},{},{},{},{}",
                sample.at.0,
                sample.connections,
                sample.opened,
                sample.closed,
                sample.closed_waiting,
                sample.rejected,
                sample.queue_length,
                sample.queue_drops
            );
        }
        text
    }

    /// The traffic as comma-separated values with a line of names: a line per second.
    #[must_use]
    pub fn traffic_csv(&self) -> String {
        let mut text =
            String::from("at_ms,milliseconds,commands,answered,latency_us,bytes_in,bytes_out,errors\n");
        for second in &self.traffic {
            _ = writeln!(
                text,
                "{},{},{},{},{},{},{},{}",
                second.at.0,
                second.milliseconds,
                second.commands,
                second.answered,
                second.latency_microseconds,
                second.bytes_in,
                second.bytes_out,
                second.errors
            );
        }
        text
    }
}
