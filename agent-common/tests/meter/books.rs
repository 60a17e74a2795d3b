//! What the meter counted, by name.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use agent_common::{
    abi::{Direction, Loss, PrefixKey, Reason, Row},
    limits::{LISTENERS, SPECIAL_ROWS},
    resp::Ledger,
};

/// Commands, bytes in and bytes out of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) commands: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
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
#[derive(Debug)]
pub(crate) struct Counters {
    prefixes: HashMap<PrefixKey, u32>,
    rows: HashMap<u32, Counts>,
    unattributed: BTreeMap<(Direction, &'static str), u64>,
    losses: BTreeMap<&'static str, u64>,
    /// All bytes of each direction.
    counted: [u64; 2],
    /// Most prefixes that get a row.
    pub(crate) room: Option<usize>,
    /// The clock, in nanoseconds.
    pub(crate) now: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            prefixes: HashMap::new(),
            rows: HashMap::new(),
            unattributed: BTreeMap::new(),
            losses: BTreeMap::new(),
            counted: [0; 2],
            room: None,
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
        assert_ne!(key.length, 0, "an empty prefix has no row");
        key.bytes().escape_ascii().to_string()
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

    fn requests(&mut self, row: u32, commands: u32, bytes: u64) {
        assert_ne!(
            row,
            Row::UNKNOWN,
            "{commands} commands of {bytes} bytes without a row"
        );
        let counts = self.rows.entry(row).or_default();
        counts.commands += u64::from(commands);
        counts.bytes_in += bytes;
        self.counted[Direction::In as usize] += bytes;
    }

    fn replies(&mut self, row: u32, bytes: u64) {
        assert_ne!(row, Row::UNKNOWN, "{bytes} bytes of replies without a row");
        self.rows.entry(row).or_default().bytes_out += bytes;
        self.counted[Direction::Out as usize] += bytes;
    }

    fn unattributed(&mut self, slot: u32, direction: Direction, reason: Reason, bytes: u64) {
        assert_eq!(slot, crate::wire::SLOT);
        *self.unattributed.entry((direction, reason.label())).or_default() += bytes;
        self.counted[direction as usize] += bytes;
    }

    fn now(&mut self) -> u64 {
        self.now
    }

    fn loss(&mut self, loss: Loss, count: u32) {
        *self.losses.entry(loss.label()).or_default() += u64::from(count);
    }
}
