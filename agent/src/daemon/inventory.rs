//! What is known of the servers' processes. Their files are read by a thread of its own: a server may lie on a file
//! system that does not answer, and nothing else must wait for that.

use std::{
    collections::{HashMap, HashSet},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use crate::valkey::{self, CommandLine, FactReader, FoundServer, ProcessFacts};

/// Questions that may wait, more than a host has servers; one that finds no room is asked again at the next scan.
const QUESTIONS: usize = 1024;
/// Command lines of processes that started and do not listen yet. Beyond it, the limits of clients that they name are
/// unknown.
const STARTED: usize = 256;
/// How long one is kept for the process to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Process number and start time.
type Process = (i32, u64);

/// The facts, and who is asked for them.
pub(super) struct Inventory {
    questions: Option<SyncSender<(Process, Option<CommandLine>)>>,
    answers: Receiver<(Process, ProcessFacts)>,
    asked: HashSet<Process>,
    known: HashMap<Process, ProcessFacts>,
    started: HashMap<Process, (Instant, CommandLine)>,
}

impl Inventory {
    /// Starts the thread. It ends when this is dropped.
    pub(super) fn new() -> Self {
        let (questions, asked) = sync_channel::<(Process, Option<CommandLine>)>(QUESTIONS);
        let (answer, answers) = sync_channel(QUESTIONS);
        let reader = move || {
            let mut reader = FactReader::new("/proc");
            while let Ok((process, started)) = asked.recv() {
                let facts = reader.read(process.0, process.1, started.as_ref());
                if facts.is_some_and(|facts| answer.send((process, facts)).is_err()) {
                    return;
                }
            }
        };
        let started = thread::Builder::new().name("facts".into()).spawn(reader);
        if let Err(error) = &started {
            tracing::warn!(%error, "cannot start a thread: versions of servers will be unknown");
        }
        Self {
            questions: started.is_ok().then_some(questions),
            answers,
            asked: HashSet::new(),
            known: HashMap::new(),
            started: HashMap::new(),
        }
    }

    /// A server process started: its arguments are readable until it writes its address over them.
    pub(super) fn started(&mut self, pid: i32, now: Instant) {
        let Some((start_time, line)) = valkey::start_time(pid).zip(CommandLine::just_started(pid)) else {
            return;
        };
        if self.started.len() < STARTED {
            self.started.insert((pid, start_time), (now, line));
        }
    }

    /// Has the facts of new servers read, and forgets those of servers that are gone.
    pub(super) fn learn<'a>(&mut self, servers: impl Iterator<Item = &'a FoundServer>, now: Instant) {
        let live: HashSet<Process> = servers.map(|found| (found.pid, found.start_time)).collect();
        for process in &live {
            if self.asked.contains(process) {
                continue;
            }
            let started = self.started.remove(process).map(|(_, line)| line);
            let sent = self
                .questions
                .as_ref()
                .is_some_and(|questions| questions.try_send((*process, started)).is_ok());
            if sent {
                self.asked.insert(*process);
            }
        }
        self.take_answers();
        self.asked.retain(|process| live.contains(process));
        self.known.retain(|process, _| live.contains(process));
        self.started
            .retain(|_, (since, _)| now.duration_since(*since) < PATIENCE);
    }

    /// What is known of a process by now.
    pub(super) fn facts(&mut self, found: &FoundServer) -> ProcessFacts {
        self.take_answers();
        self.known
            .get(&(found.pid, found.start_time))
            .cloned()
            .unwrap_or_default()
    }

    fn take_answers(&mut self) {
        self.known.extend(self.answers.try_iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::valkey::Place;

    fn found(pid: i32, start_time: u64) -> FoundServer {
        FoundServer {
            pid,
            start_time,
            process: "v".into(),
            netns: 1,
            netns_cookie: 1,
            listeners: Vec::new(),
            cgroup_of_process: None,
            place: Place::default(),
        }
    }

    #[test]
    fn a_server_is_asked_about_once_and_forgotten_when_it_is_gone() {
        let (mut inventory, now) = (Inventory::new(), Instant::now());
        let ourselves = std::process::id() as i32;
        let server = found(ourselves, valkey::start_time(ourselves).unwrap());
        let process = (server.pid, server.start_time);
        inventory.learn([&server].into_iter(), now);
        let answer = inventory.answers.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(answer.0, process);
        inventory.known.insert(answer.0, answer.1);
        inventory.learn([&server].into_iter(), now);
        assert!(inventory.answers.recv_timeout(Duration::from_millis(50)).is_err());
        inventory.learn([].into_iter(), now);
        assert!(inventory.known.is_empty() && inventory.asked.is_empty());
    }

    #[test]
    fn facts_of_a_process_are_not_those_of_another_with_its_number() {
        let mut inventory = Inventory::new();
        let version = Some("8.0.1".to_owned());
        let facts = ProcessFacts {
            version: version.clone(),
            maxclients: None,
        };
        inventory.known.insert((5, 100), facts);
        assert_eq!(inventory.facts(&found(5, 100)).version, version);
        assert_eq!(inventory.facts(&found(5, 200)).version, None);
    }

    #[test]
    fn command_lines_are_kept_for_a_while_and_not_without_end() {
        let (mut inventory, now) = (Inventory::new(), Instant::now());
        inventory.started(std::process::id() as i32, now);
        assert_eq!(inventory.started.len(), 1);
        inventory.learn([].into_iter(), now + PATIENCE / 2);
        assert_eq!(inventory.started.len(), 1);
        inventory.learn([].into_iter(), now + PATIENCE);
        assert_eq!(inventory.started.len(), 0);
        for number in 0..STARTED {
            let process = (-(number as i32) - 1, 1);
            inventory.started.insert(process, (now, CommandLine::default()));
        }
        inventory.started(std::process::id() as i32, now);
        assert_eq!(inventory.started.len(), STARTED);
    }
}
