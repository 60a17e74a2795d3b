//! The search, in every place where the agent keeps or shows something.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use nix::unistd::Pid;
use stormglass_tests::agent::{self, Agent};
use stormglass_tests::bpf::Loaded;
use stormglass_tests::images::{self, Image};
use stormglass_tests::secrets::{Secrets, Trace};

/// Pages, and whether this version has them.
const PAGES: [(&str, bool); 9] = [
    ("/", true),
    ("/healthz", true),
    ("/readyz", true),
    ("/metrics", true),
    ("/api/v1/servers", true),
    ("/api/v1/tenants", true),
    ("/api/v1/clients", true),
    ("/api/v1/storms", false),
    ("/api/v1/incidents", false),
];

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

/// An agent that says all it can say, and the numbers of its maps.
pub(super) struct Watched {
    pub(super) agent: Agent,
    maps: BTreeSet<u64>,
}

/// What an agent keeps and shows at some moment.
pub(super) struct Look {
    texts: Vec<(String, String)>,
    images: Vec<Image>,
}

/// What is left of a secret, and where.
#[derive(Debug)]
pub(super) struct Find {
    /// The map, page or mapping.
    pub(super) place: String,
    /// What.
    pub(super) trace: Trace,
}

impl Watched {
    /// Starts one that logs everything, with these tables in its configuration.
    pub(super) fn start(tables: &str) -> Result<Self> {
        let before = Loaded::now()?;
        let agent = Agent::start_logging("trace", tables)?;
        let maps = Loaded::now()?.beyond(&before).maps;
        ensure!(maps.len() > 10, "the agent has only the maps {maps:?}");
        Ok(Self { agent, maps })
    }

    /// Everything that it keeps and shows now, while these processes have connections.
    pub(super) fn look(&self, servers: &[Pid]) -> Result<Look> {
        let texts = self.texts()?;
        let mut images = self.maps(servers)?.images;
        images.extend(images::memory(self.agent.id())?);
        Ok(Look { texts, images })
    }

    /// The same of the kernel's maps alone.
    pub(super) fn maps(&self, servers: &[Pid]) -> Result<Look> {
        let mut images = images::maps(&self.maps)?;
        for name in [
            "SG_SCRATCH_IN",
            "SG_SCRATCH_OUT",
            "SG_PREFIXES",
            "SG_PARKING",
            "SG_ROWS",
        ] {
            ensure!(
                images.iter().any(|map| map.place == name),
                "no map {name} was read"
            );
        }
        images.extend(images::connections(&self.maps, servers)?);
        Ok(Look {
            texts: Vec::new(),
            images,
        })
    }

    /// The parking places that are taken first. To read all of them takes longer than a segment stays.
    pub(super) fn parking(&self) -> Result<Look> {
        let images = images::first_entries(&self.maps, "SG_PARKING", 8)?;
        Ok(Look {
            texts: Vec::new(),
            images,
        })
    }

    /// How many states of connections there are.
    pub(super) fn states(&self, servers: &[Pid]) -> Result<usize> {
        let images = images::connections(&self.maps, servers)?;
        // What is known of their clients lies beside them.
        let states = images
            .iter()
            .filter(|image| image.place.starts_with("SG_CONNECTIONS"));
        Ok(states.count())
    }

    /// Ends it, and insists that it has kept quiet to its end.
    pub(super) fn end(self, secrets: &Secrets) -> Result<()> {
        let (_, finished) = self.agent.terminate()?;
        ensure!(finished.stderr.contains("SIGTERM"), "no log: {finished:?}");
        let texts = vec![("log".to_owned(), finished.stdout + &finished.stderr)];
        Look {
            texts,
            images: Vec::new(),
        }
        .assert_nothing(secrets);
        Ok(())
    }

    fn texts(&self) -> Result<Vec<(String, String)>> {
        let mut texts = vec![("log".to_owned(), self.agent.log())];
        for (path, exists) in PAGES {
            let (status, body) = self.agent.get(path)?;
            ensure!(status == 200 || !exists, "{path} answers {status}");
            texts.push((path.to_owned(), body));
        }
        let (_, body) = self.agent.get_as("/metrics", OPEN_METRICS)?;
        texts.push(("/metrics as OpenMetrics".to_owned(), body));
        let finished = agent::command(&["servers", "--json"], Some(self.agent.config()))?;
        ensure!(finished.status.success(), "{finished:?}");
        texts.push((
            "stormglass servers".to_owned(),
            finished.stdout + &finished.stderr,
        ));
        Ok(texts)
    }
}

impl Look {
    /// What is left of these secrets.
    pub(super) fn find(&self, secrets: &Secrets) -> Vec<Find> {
        let texts = self
            .texts
            .iter()
            .map(|(place, text)| (place, secrets.traces_in_text(text)));
        let images = self
            .images
            .iter()
            .map(|image| (&image.place, secrets.traces_in(&image.bytes)));
        texts
            .chain(images)
            .flat_map(|(place, traces)| {
                let place = place.clone();
                traces.into_iter().map(move |trace| Find {
                    place: place.clone(),
                    trace,
                })
            })
            .collect()
    }

    /// Insists that nothing is left.
    pub(super) fn assert_nothing(&self, secrets: &Secrets) {
        assert_none(&self.find(secrets));
    }

    /// Insists that something of each of `expected` waits for its rest in a connection's state, at most `length` bytes of
    /// it, and that nothing else is left.
    pub(super) fn assert_waiting(&self, secrets: &Secrets, expected: &[String], length: usize) -> Result<()> {
        let mut finds = self.find(secrets);
        for secret in expected {
            let waits = |find: &Find| {
                let Trace { secret: of, left, .. } = &find.trace;
                find.place.starts_with("SG_CONNECTIONS") && of == secret && left.len() <= length
            };
            ensure!(
                finds.iter().any(waits),
                "the search does not find `{secret}`: {finds:#?}"
            );
            finds.retain(|find| !waits(find));
        }
        assert_none(&finds);
        Ok(())
    }
}

fn assert_none(finds: &[Find]) {
    let list: Vec<_> = finds
        .iter()
        .map(|find| format!("{}: {}", find.place, find.trace))
        .collect();
    assert!(
        finds.is_empty(),
        "{} traces are left:\n{}",
        list.len(),
        list.join("\n")
    );
}
