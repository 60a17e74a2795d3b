//! What the meter counted, by name.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use agent_common::{
    abi::{
        Connection, Direction, ErrorWord, Identity, Loss, NameKey, NameKind, PrefixKey, Reason, ReplyCounts,
        RequestCounts, Row, Spill,
    },
    limits::{LISTENERS, SPECIAL_ROWS},
    resp::Ledger,
};
use bytemuck::Zeroable as _;

/// Commands, bytes in and bytes out of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) commands: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// What else is counted of a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Details {
    /// Commands by bucket.
    pub(crate) request_sizes: BTreeMap<u32, u64>,
    /// Replies by bucket.
    pub(crate) reply_sizes: BTreeMap<u32, u64>,
    /// Answered commands by bucket.
    pub(crate) durations: BTreeMap<u32, u64>,
    /// Sum of durations in units of 256 ns.
    pub(crate) duration_units: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// By word.
    pub(crate) errors: BTreeMap<&'static str, u64>,
}

/// Everything that a conversation must come to.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Books {
    /// By row name; rows without any count are left out.
    pub(crate) rows: BTreeMap<String, Counts>,
    /// By direction and reason.
    pub(crate) unattributed: BTreeMap<(Direction, &'static str), u64>,
    /// Bytes of a command or token whose end has not come.
    pub(crate) unfinished: BTreeMap<Direction, u64>,
    /// By label.
    pub(crate) losses: BTreeMap<&'static str, u64>,
}

impl Books {
    /// All bytes of a direction, whatever became of them.
    pub(crate) fn total(&self, direction: Direction) -> u64 {
        let rows = self.rows.values().map(|counts| match direction {
            Direction::In => counts.bytes_in,
            Direction::Out => counts.bytes_out,
        });
        let unattributed = self.unattributed.iter().filter(|((way, _), _)| *way == direction);
        rows.sum::<u64>()
            + unattributed.map(|(_, bytes)| bytes).sum::<u64>()
            + self.unfinished.get(&direction).copied().unwrap_or_default()
    }

    /// What has been added since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut books = self.clone();
        for (name, counts) in &mut books.rows {
            let before = before.row(name);
            counts.commands -= before.commands;
            counts.bytes_in -= before.bytes_in;
            counts.bytes_out -= before.bytes_out;
        }
        for (cause, bytes) in &mut books.unattributed {
            *bytes -= before.unattributed.get(cause).copied().unwrap_or_default();
        }
        for (loss, count) in &mut books.losses {
            *count -= before.losses.get(loss).copied().unwrap_or_default();
        }
        books.rows.retain(|_, counts| *counts != Counts::default());
        books.unattributed.retain(|_, bytes| *bytes != 0);
        books.losses.retain(|_, count| *count != 0);
        books
    }

    /// Counts of a row; zeros for one that was never touched.
    pub(crate) fn row(&self, name: &str) -> Counts {
        self.rows.get(name).copied().unwrap_or_default()
    }

    /// Unattributed bytes of a direction, whatever the reason.
    pub(crate) fn unattributed(&self, direction: Direction) -> u64 {
        self.unattributed
            .iter()
            .filter(|((way, _), _)| *way == direction)
            .map(|(_, bytes)| bytes)
            .sum()
    }
}

/// In the notation of the captures, so that a failed test can be compared by eye.
impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (
            name,
            Counts {
                commands,
                bytes_in,
                bytes_out,
            },
        ) in &self.rows
        {
            writeln!(f, "= {name} {commands} {bytes_in} {bytes_out}")?;
        }
        for ((direction, reason), bytes) in &self.unattributed {
            writeln!(f, "? {} {reason} {bytes}", direction.label())?;
        }
        for (direction, bytes) in &self.unfinished {
            writeln!(f, "~ {} {bytes}", direction.label())?;
        }
        for (loss, count) in &self.losses {
            writeln!(f, "% {loss} {count}")?;
        }
        Ok(())
    }
}

/// The ledger of a test: prefixes get rows in order of appearance, as in the kernel.
pub(crate) struct Counters {
    prefixes: HashMap<PrefixKey, u32>,
    rows: HashMap<u32, Counts>,
    details: HashMap<u32, Details>,
    unattributed: BTreeMap<(Direction, &'static str), u64>,
    losses: BTreeMap<&'static str, u64>,
    /// All bytes of each direction.
    counted: [u64; 2],
    /// Names in the order of their numbers, the first of which is 1.
    pub(crate) names: Vec<NameKey>,
    /// What is known of the client.
    pub(crate) identity: Identity,
    /// Prefixes without a delimiter that are declared.
    pub(crate) declared: Vec<Vec<u8>>,
    /// Classes by number of a user's or client's name.
    pub(crate) classes: HashMap<u32, u16>,
    /// Class of whoever has none by a name.
    pub(crate) address_class: u16,
    /// Most prefixes that get a row.
    pub(crate) room: Option<usize>,
    /// Whether there is memory for a spill.
    pub(crate) spills: bool,
    /// The connection's spill, once it has one.
    spill: Option<Box<Spill>>,
    /// The clock, in nanoseconds.
    pub(crate) now: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            prefixes: HashMap::new(),
            rows: HashMap::new(),
            details: HashMap::new(),
            declared: Vec::new(),
            unattributed: BTreeMap::new(),
            losses: BTreeMap::new(),
            counted: [0; 2],
            names: Vec::new(),
            identity: Identity::zeroed(),
            classes: HashMap::new(),
            address_class: 0,
            room: None,
            spills: true,
            spill: None,
            // The host has been up for an hour.
            now: 3_600_000_000_000,
        }
    }
}

impl Counters {
    /// What has been counted so far.
    pub(crate) fn books(&self) -> Books {
        let mut books = Books {
            unattributed: self.unattributed.clone(),
            losses: self.losses.clone(),
            ..Books::default()
        };
        for (row, counts) in &self.rows {
            let previous = books.rows.insert(self.name(*row), *counts);
            assert!(previous.is_none(), "two rows of one name");
        }
        books.rows.retain(|_, counts| *counts != Counts::default());
        books.unattributed.retain(|_, bytes| *bytes != 0);
        books
    }

    /// All bytes of a direction that have been counted, whatever as.
    pub(crate) fn counted(&self, direction: Direction) -> u64 {
        self.counted[direction as usize]
    }

    /// What else was counted of a row, buckets and words without a count left out.
    pub(crate) fn details(&self, name: &str) -> Details {
        self.all_details().remove(name).unwrap_or_default()
    }

    /// The same of all rows.
    pub(crate) fn all_details(&self) -> BTreeMap<String, Details> {
        let mut all = BTreeMap::new();
        for (row, details) in &self.details {
            let mut details = details.clone();
            details.request_sizes.retain(|_, count| *count != 0);
            details.reply_sizes.retain(|_, count| *count != 0);
            details.durations.retain(|_, count| *count != 0);
            all.insert(self.name(*row), details);
        }
        all
    }

    /// No prefix has a row any more, nor has any row counts.
    pub(crate) fn take_rows_away(&mut self) {
        self.prefixes.clear();
        self.rows.clear();
        self.details.clear();
    }

    /// Whether any prefix has got a row, counted or not.
    pub(crate) fn knows_prefixes(&self) -> bool {
        !self.prefixes.is_empty()
    }

    fn name(&self, row: u32) -> String {
        let specials = (LISTENERS * SPECIAL_ROWS) as u32;
        if row < specials {
            return Row::LABELS[row as usize % SPECIAL_ROWS].to_owned();
        }
        let key = self
            .prefixes
            .iter()
            .find(|(_, id)| Row::interned(**id) == row)
            .map(|(key, _)| key);
        let key = key.expect("a row that was given out");
        let name = match key.special_row() {
            Some(row) => Row::LABELS[row as usize].to_owned(),
            None => prefix_name(key.bytes()),
        };
        match key.class() {
            0 => name,
            class => format!("{name} of {class}"),
        }
    }
}

fn prefix_name(bytes: &[u8]) -> String {
    assert_ne!(bytes.len(), 0, "an empty prefix has no row");
    let name = bytes.escape_ascii().to_string();
    // A prefix may look like a special row.
    if Row::LABELS.contains(&name.as_str()) {
        format!("\\{name}")
    } else {
        name
    }
}

impl Ledger for &mut Counters {
    fn row(&mut self, key: &PrefixKey) -> u32 {
        let next = self.prefixes.len();
        if !self.prefixes.contains_key(key) && self.room.is_some_and(|room| next >= room) {
            return Row::special(key.slot, Row::OTHER);
        }
        Row::interned(*self.prefixes.entry(*key).or_insert(next as u32))
    }

    fn special(&mut self, _direction: Direction, row: u32, class: u16) -> u32 {
        let specials = SPECIAL_ROWS as u32;
        Ledger::row(self, &PrefixKey::special(row / specials, class, row % specials))
    }

    fn class(&mut self, _connection: &Connection) -> u16 {
        let name = |kind: NameKind| self.identity.names[kind as usize];
        let of = |kind| self.classes.get(&name(kind)).copied();
        of(NameKind::User)
            .or_else(|| of(NameKind::Client))
            .unwrap_or(self.address_class)
    }

    fn known_class(&mut self, connection: &Connection) -> u16 {
        connection.class
    }

    fn declared(&mut self, words: &[u64; 4], length: u32) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let key = &bytes[..bytes.len().min(length as usize)];
        let fitting = self.declared.iter().filter(|prefix| key.starts_with(prefix));
        fitting.map(Vec::len).max().unwrap_or_default() as u32
    }

    fn requests(&mut self, _slot: u32, row: u32, counts: &RequestCounts) {
        assert_ne!(row, Row::UNKNOWN, "{counts:?} without a row");
        let entry = self.rows.entry(row).or_default();
        entry.commands += u64::from(counts.commands);
        entry.bytes_in += counts.bytes;
        self.counted[Direction::In as usize] += counts.bytes;
        let details = self.details.entry(row).or_default();
        *details.request_sizes.entry(counts.size_bucket).or_default() += u64::from(counts.commands);
    }

    fn replies(&mut self, _slot: u32, row: u32, counts: &ReplyCounts) {
        assert_ne!(row, Row::UNKNOWN, "{counts:?} without a row");
        self.rows.entry(row).or_default().bytes_out += counts.bytes;
        self.counted[Direction::Out as usize] += counts.bytes;
        let details = self.details.entry(row).or_default();
        *details.reply_sizes.entry(counts.size_bucket).or_default() += u64::from(counts.replies);
        *details.durations.entry(counts.duration_bucket).or_default() += u64::from(counts.timed);
        details.duration_units += counts.duration_units;
        details.hits += u64::from(counts.hits);
        details.misses += u64::from(counts.misses);
    }

    fn error(&mut self, _slot: u32, row: u32, word: ErrorWord) {
        assert_ne!(row, Row::UNKNOWN, "{word:?} without a row");
        let details = self.details.entry(row).or_default();
        *details.errors.entry(word.label()).or_default() += 1;
    }

    fn unattributed(&mut self, slot: u32, direction: Direction, reason: Reason, bytes: u64) {
        assert_eq!(slot, crate::wire::SLOT);
        *self.unattributed.entry((direction, reason.label())).or_default() += bytes;
        self.counted[direction as usize] += bytes;
    }

    fn name(&mut self, key: &NameKey) -> u32 {
        let known = self.names.iter().position(|known| known == key);
        let index = known.unwrap_or_else(|| {
            self.names.push(*key);
            self.names.len() - 1
        });
        index as u32 + 1
    }

    fn identity(&mut self, _create: bool) -> Option<&mut Identity> {
        Some(&mut self.identity)
    }

    fn spill(&mut self, create: bool) -> Option<&mut Spill> {
        if create && self.spills {
            self.spill.get_or_insert_with(|| Box::new(Spill::zeroed()));
        }
        self.spill.as_deref_mut()
    }

    fn loss(&mut self, loss: Loss, count: u32) {
        *self.losses.entry(loss.label()).or_default() += u64::from(count);
    }
}
