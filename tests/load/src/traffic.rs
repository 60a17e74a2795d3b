//! What a tenant sends: commands on its keys, in a mixture and in pipelines. No clock, no socket.

use fastrand::Rng;
use redis::{Cmd, Pipeline};

/// Most keys that one MGET asks for.
const LONGEST_MGET: u32 = 8;

/// Time to live that EXPIRE sets: beyond any run, so that values stay.
const EXPIRE_SECONDS: u32 = 86_400;

/// Keys, sizes and mixture.
pub(crate) struct Mix {
    pub(crate) prefixes: Vec<String>,
    /// Different keys per prefix.
    pub(crate) keys: u32,
    pub(crate) value_bytes: usize,
    /// GET and MGET among all commands.
    pub(crate) read_percent: u8,
    /// In commands.
    pub(crate) longest_pipeline: u32,
}

/// The commands of one connection.
pub(crate) struct Traffic {
    rng: Rng,
    prefixes: Vec<String>,
    keys: u32,
    value: Vec<u8>,
    read_percent: u8,
    longest_pipeline: u32,
}

/// Commands that go out in one write.
pub(crate) struct Batch {
    pub(crate) pipeline: Pipeline,
    pub(crate) commands: u32,
}

impl Traffic {
    /// The same `mix` and `rng` give the same commands.
    pub(crate) fn new(mix: &Mix, mut rng: Rng) -> Self {
        // Any bytes: a value may look like protocol.
        let value = (0..mix.value_bytes).map(|_| rng.u8(..)).collect();
        Self {
            rng,
            prefixes: mix.prefixes.clone(),
            keys: mix.keys,
            value,
            read_percent: mix.read_percent,
            longest_pipeline: mix.longest_pipeline,
        }
    }

    /// One command, or in a quarter of all cases a pipeline.
    pub(crate) fn next_batch(&mut self) -> Batch {
        let commands = match self.rng.u8(..4) {
            0 => self.rng.u32(1..=self.longest_pipeline),
            _ => 1,
        };
        let mut pipeline = Pipeline::with_capacity(commands as usize);
        for _ in 0..commands {
            pipeline.add_command(self.next_command());
        }
        Batch { pipeline, commands }
    }

    fn next_command(&mut self) -> Cmd {
        let prefix = self.rng.usize(..self.prefixes.len());
        if self.rng.u8(..100) < self.read_percent {
            return self.read(prefix);
        }
        let key = self.key(prefix);
        let mut command = Cmd::new();
        match self.rng.u8(..5) {
            0 => command.arg("INCR").arg(format!("{key}:hits")),
            1 => command.arg("EXPIRE").arg(key).arg(EXPIRE_SECONDS),
            _ => command.arg("SET").arg(key).arg(&self.value),
        };
        command
    }

    fn read(&mut self, prefix: usize) -> Cmd {
        let mut command = Cmd::new();
        if self.rng.u8(..10) > 0 {
            command.arg("GET").arg(self.key(prefix));
            return command;
        }
        command.arg("MGET");
        for _ in 0..self.rng.u32(2..=LONGEST_MGET) {
            command.arg(self.key(prefix));
        }
        command
    }

    fn key(&mut self, prefix: usize) -> String {
        let number = self.rng.u32(..self.keys);
        format!("{}:{number}", self.prefixes[prefix])
    }
}

#[cfg(test)]
mod tests {
    use redis::Arg;

    use super::*;

    fn traffic(seed: u64) -> Traffic {
        let mix = Mix {
            prefixes: vec!["cart".into(), "checkout".into()],
            keys: 10,
            value_bytes: 64,
            read_percent: 50,
            longest_pipeline: 16,
        };
        Traffic::new(&mix, Rng::with_seed(seed))
    }

    fn words(command: &Cmd) -> Vec<Vec<u8>> {
        let simple = |argument: Arg<&[u8]>| match argument {
            Arg::Simple(bytes) => bytes.to_vec(),
            _ => panic!("a cursor"),
        };
        command.args_iter().map(simple).collect()
    }

    #[test]
    fn every_command_has_a_key_of_the_tenant() {
        let mut traffic = traffic(1);
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            let words = words(&traffic.next_command());
            let key = &words[1];
            assert!(
                key.starts_with(b"cart:") || key.starts_with(b"checkout:"),
                "{words:?}"
            );
            names.insert(String::from_utf8(words[0].clone()).unwrap());
        }
        assert_eq!(
            Vec::from_iter(names),
            ["EXPIRE", "GET", "INCR", "MGET", "SET"].map(String::from)
        );
    }

    #[test]
    fn a_batch_has_as_many_commands_as_it_says_and_not_more_than_allowed() {
        let mut traffic = traffic(2);
        let mut longest = 0;
        for _ in 0..2000 {
            let batch = traffic.next_batch();
            assert_eq!(batch.pipeline.cmd_iter().count(), batch.commands as usize);
            longest = longest.max(batch.commands);
        }
        assert_eq!(longest, 16);
    }

    #[test]
    fn the_same_seed_sends_the_same_bytes() {
        let bytes = |seed| traffic(seed).next_batch().pipeline.get_packed_pipeline();
        assert_eq!(bytes(3), bytes(3));
        assert_ne!(bytes(3), bytes(4));
    }
}
