//! Reload. A thread of its own looks at the configuration file and checks what is new in it; the watching thread puts it in
//! force, between two reports.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc::Sender;

use super::{key_settings, watch::Watch};
use crate::{
    config::{
        Changes, ConfigFile, ConfigStatus, Configuration, Content, HashKeys, Look, Settings, waiting_keys,
    },
    snapshot::Snapshot,
    storms::Moment,
    tenants::{PrefixNames, Rules, Tenants},
    workloads,
};

/// How often the file is looked at. Its content is compared: Kubernetes swaps the folder of a ConfigMap behind a symlink, and
/// editors rename; inotify on the path would tell neither, and to read some kilobytes a second is next to nothing.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What to do about a file that has changed, or that somebody wants to be read again.
pub(super) enum Verdict {
    /// It is good.
    Good {
        settings: Box<Settings>,
        rules: Rules,
        names: PrefixNames,
        file: Option<String>,
        read_at_ms: u64,
    },
    /// It cannot be put in force.
    Bad { reason: String, at_ms: u64 },
}

/// Looks at the file once a second, and at once when `asked`, until there is nobody to ask or to tell.
pub(super) fn look_after(
    configuration: Configuration,
    mut keys: HashKeys,
    asked: &Receiver<()>,
    verdicts: &Sender<Verdict>,
) {
    let file = configuration.file;
    let is_rereadable = file.is_rereadable();
    let mut was_there = configuration.content.is_there();
    let mut changes = Changes::new(configuration.content);
    loop {
        let look = match asked.recv_timeout(LOOK_INTERVAL) {
            Ok(()) => Some(changes.demand(file.read_again(was_there))),
            Err(RecvTimeoutError::Timeout) if is_rereadable => changes.look(file.read_again(was_there)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(look) = look else { continue };
        was_there |= look.as_ref().is_ok_and(Content::is_there);
        if verdicts.blocking_send(judge(&file, look, &mut keys)).is_err() {
            return;
        }
    }
}

/// How it was at the start.
pub(super) fn status_at_start(configuration: &Configuration) -> ConfigStatus {
    let file = configuration
        .content
        .is_there()
        .then(|| shown(&configuration.file));
    ConfigStatus::started(file, Moment::now().0)
}

fn judge(file: &ConfigFile, look: Look, keys: &mut HashKeys) -> Verdict {
    let Moment(at_ms) = Moment::now();
    match check(file, look, keys) {
        Ok((settings, rules, names, file)) => Verdict::Good {
            settings: Box::new(settings),
            rules,
            names,
            file,
            read_at_ms: at_ms,
        },
        Err(error) => Verdict::Bad {
            reason: format!("{error:#}"),
            at_ms,
        },
    }
}

fn check(
    file: &ConfigFile,
    look: Look,
    keys: &mut HashKeys,
) -> Result<(Settings, Rules, PrefixNames, Option<String>)> {
    let content = look?;
    let mut settings = file.check(&content)?;
    let names = keys.names(&mut settings)?;
    let rules = Rules::new(&settings)?;
    Ok((settings, rules, names, content.is_there().then(|| shown(file))))
}

fn shown(file: &ConfigFile) -> String {
    file.path().display().to_string()
}

/// What the configuration governs in the watching thread.
pub(super) struct Governed {
    /// What the agent was started with: some of it cannot change.
    started: Settings,
    in_force: Settings,
    pub(super) tenants: Tenants,
    pub(super) status: ConfigStatus,
}

impl Governed {
    /// What is in force from the start on.
    pub(super) fn new(settings: Settings, rules: Rules, names: PrefixNames, status: ConfigStatus) -> Self {
        let mut tenants = Tenants::new(rules);
        tenants.show_prefixes_as(names);
        Self {
            tenants,
            started: settings.clone(),
            in_force: settings,
            status,
        }
    }

    /// Puts a good file in force and keeps what there is against a bad one.
    pub(super) fn take(&mut self, verdict: Verdict, watch: &mut Watch, now: Instant) {
        match verdict {
            Verdict::Bad { reason, at_ms } => self.refuse(reason, at_ms),
            Verdict::Good {
                settings,
                rules,
                names,
                file,
                read_at_ms,
            } => match self.put_in_force(*settings, rules, names, watch, now) {
                Ok(()) => self.accept(file, read_at_ms),
                Err(error) => self.refuse(format!("{error:#}"), read_at_ms),
            },
        }
    }

    /// The kernel's part first: it alone can fail. The moment between the two is nobody's loss: what is cut by the new
    /// settings and counted before the rules change is in some row, and with the tenant that had that row.
    fn put_in_force(
        &mut self,
        settings: Settings,
        rules: Rules,
        names: PrefixNames,
        watch: &mut Watch,
        now: Instant,
    ) -> Result<()> {
        if let Err(error) = govern(watch, &settings, now) {
            if let Err(again) = govern(watch, &self.in_force, now) {
                tracing::error!(
                    error = format!("{again:#}"),
                    "cannot go back to the old configuration: restart stormglass"
                );
            }
            return Err(error).context("the kernel does not take the new configuration: try again");
        }
        let counted = Snapshot {
            servers: watch.everything_of_workloads(),
            ..Snapshot::default()
        };
        watch.traffic.change(&settings, rules.clone());
        self.tenants.reload(&counted.servers, rules);
        self.tenants.show_prefixes_as(names.clone());
        watch
            .workloads
            .replace_rules(workloads::Rules::new(&settings), &counted);
        watch.surveys.change(settings.clients);
        watch.libraries = settings.limits.libraries;
        watch.judge.change(&settings, names);
        watch.kubernetes.change(&settings.kubernetes);
        self.in_force = settings;
        Ok(())
    }

    fn accept(&mut self, file: Option<String>, read_at_ms: u64) {
        for warning in &self.in_force.warnings {
            tracing::warn!("{warning}");
        }
        let waiting = waiting_keys(&self.started, &self.in_force);
        for key in &waiting {
            tracing::warn!(
                key = key.key,
                running = key.running,
                wanted = key.wanted,
                "this key waits for a restart of stormglass"
            );
        }
        tracing::info!(
            file = file.as_deref().unwrap_or("none: defaults"),
            tenants = self.in_force.tenants.len(),
            "the configuration was read again and is in force"
        );
        self.status.applied(file, read_at_ms, waiting);
    }

    fn refuse(&mut self, reason: String, at_ms: u64) {
        tracing::error!("a new configuration is refused, the old one stays in force: {reason}");
        self.status.refused(at_ms, reason);
    }
}

/// Tells the kernel programs and discovery what to look for.
fn govern(watch: &mut Watch, settings: &Settings, now: Instant) -> Result<()> {
    let declared: Vec<Vec<u8>> = settings.declared().into_iter().collect();
    watch.kernel.set_key_settings(key_settings(settings), &declared)?;
    watch.set_classes(settings)?;
    watch.set_discovery(&settings.discovery, now)
}
