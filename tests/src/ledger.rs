//! Both counts over the same interval: what the agent attributed, and what the server says it received and sent.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

use crate::agent::Agent;
use crate::exposition::{Scrape, whole};
use crate::server::{Control, Server, Traffic};

/// What one prefix has cost.
pub type Row = Traffic;

/// What the agent counted at one server.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// By prefix, special rows included.
    pub prefixes: BTreeMap<String, Row>,
    /// Bytes by (direction, reason); only those that are not zero.
    pub unattributed: BTreeMap<(String, String), u64>,
}

impl Counted {
    /// Everything since the agent first saw the server.
    #[must_use]
    pub fn of(scrape: &Scrape, server: &str) -> Self {
        let mut counted = Self::default();
        let of_server = [("server", server)];
        for (labels, value) in scrape.series("stormglass_prefix_bytes_total", &of_server) {
            let row = counted.prefixes.entry(labels["prefix"].clone()).or_default();
            match labels["direction"].as_str() {
                "in" => row.bytes_in = whole(value),
                _ => row.bytes_out = whole(value),
            }
        }
        for (labels, value) in scrape.series("stormglass_prefix_commands_total", &of_server) {
            let row = counted.prefixes.entry(labels["prefix"].clone()).or_default();
            row.commands = whole(value);
        }
        for (labels, value) in scrape.series("stormglass_unattributed_bytes_total", &of_server) {
            if value != 0.0 {
                let key = (labels["direction"].clone(), labels["reason"].clone());
                counted.unattributed.insert(key, whole(value));
            }
        }
        counted
    }

    /// What came after `earlier`. A series that has vanished, or a counter that went back, is an error of the agent.
    pub fn since(&self, earlier: &Self) -> Result<Self> {
        let mut later = self.clone();
        for (prefix, row) in &earlier.prefixes {
            let now = later.prefixes.get_mut(prefix);
            let now = now.with_context(|| format!("prefix {prefix:?} has vanished from /metrics"))?;
            if now.bytes_in < row.bytes_in || now.bytes_out < row.bytes_out || now.commands < row.commands {
                bail!("the counters of prefix {prefix:?} went back, from {row:?} to {now:?}");
            }
            *now = now.since(*row);
        }
        for (key, bytes) in &earlier.unattributed {
            let now = later.unattributed.get_mut(key);
            let now = now.with_context(|| format!("unattributed bytes {key:?} have vanished"))?;
            *now = now
                .checked_sub(*bytes)
                .with_context(|| format!("unattributed bytes {key:?} went back"))?;
        }
        later.unattributed.retain(|_, bytes| *bytes != 0);
        Ok(later)
    }

    /// Everything that is attributed.
    #[must_use]
    pub fn attributed(&self) -> Traffic {
        self.prefixes
            .values()
            .fold(Traffic::default(), |sum, row| sum.plus(*row))
    }

    /// Bytes of one direction that are not attributed.
    #[must_use]
    pub fn unattributed(&self, direction: &str) -> u64 {
        let of_direction =
            |((found, _), bytes): (&(String, String), &u64)| (found == direction).then_some(*bytes);
        self.unattributed.iter().filter_map(of_direction).sum()
    }

    /// Commands of one prefix.
    #[must_use]
    pub fn commands(&self, prefix: &str) -> u64 {
        self.prefixes.get(prefix).map_or(0, |row| row.commands)
    }
}

/// Both counts at the beginning of an interval.
pub struct Opening {
    label: String,
    control: Control,
    server: Traffic,
    counted: Counted,
}

/// Both counts over an interval.
#[derive(Debug)]
pub struct Account {
    /// By the server's own count.
    pub server: Traffic,
    /// By the agent's.
    pub counted: Counted,
}

impl Opening {
    /// Begins an interval with a new connection for the server's counters. No other client may be at work at that moment.
    pub fn at(agent: &Agent, server: &Server) -> Result<Self> {
        agent.sees(&server.label())?;
        let mut control = server.control()?;
        Ok(Self {
            label: server.label(),
            server: control.traffic()?,
            counted: Counted::of(&agent.scrape()?, &server.label()),
            control,
        })
    }

    /// Both counts up to now; the interval goes on. No other client may be at work at that moment.
    pub fn account(&mut self, agent: &Agent) -> Result<Account> {
        let server = self.control.traffic()?.since(self.server);
        let counted = Counted::of(&agent.scrape()?, &self.label).since(&self.counted)?;
        Ok(Account { server, counted })
    }

    /// The connection for the server's counters.
    pub fn control(&mut self) -> &mut Control {
        &mut self.control
    }
}

impl Account {
    /// Both counts since a server was started that the agent saw from its first byte.
    pub fn from_the_start(agent: &Agent, server: &Server) -> Result<Self> {
        let traffic = server.control()?.traffic()?;
        let counted = Counted::of(&agent.sees(&server.label())?, &server.label());
        Ok(Self {
            server: traffic,
            counted,
        })
    }

    /// Attributed and unattributed bytes by the agent's count: in, out.
    #[must_use]
    pub fn total(&self) -> (u64, u64) {
        let attributed = self.counted.attributed();
        (
            attributed.bytes_in + self.counted.unattributed("in"),
            attributed.bytes_out + self.counted.unattributed("out"),
        )
    }

    /// Insists that attributed and unattributed bytes are the server's bytes, in both directions.
    pub fn assert_bytes_equal(&self) {
        assert_eq!(
            self.total(),
            (self.server.bytes_in, self.server.bytes_out),
            "bytes (in, out) by the agent are not those by the server: {:#?}",
            self.counted
        );
    }

    /// Insists that all of the server's bytes are attributed, with nothing left over.
    pub fn assert_all_attributed(&self) {
        self.assert_bytes_equal();
        assert!(
            self.counted.unattributed.is_empty(),
            "bytes are unattributed: {:#?}",
            self.counted
        );
    }

    /// Insists that both counted the same number of commands. Servers do not count commands that they refuse to execute,
    /// and some execute a few of their own when they start.
    pub fn assert_commands_equal(&self) {
        assert_eq!(
            self.counted.attributed().commands,
            self.server.commands,
            "commands by the agent are not those by the server: {:#?}",
            self.counted.prefixes
        );
    }
}
