//! One run of the load, measured.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::bpf_stats::{Costs, PerUnit, Statistics};
use super::cpu::{self, Machine};
use super::load::Load;
use super::stage::Stage;
use super::subjects::Subject;
use crate::rig::interrupt::Interrupt;

/// Between switching something on or off and the load: the kernel frees and patches a little later.
const SETTLE: Duration = Duration::from_millis(200);

/// Share of a leg's commands that go before it unmeasured.
const WARM_UP: u64 = 10;

/// What one leg came to.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Figures {
    pub(super) commands_per_second: f64,
    pub(super) p99_ms: f64,
    /// CPU time of the whole machine.
    pub(super) machine_us_per_command: f64,
    /// CPU time of the server's process, network stack included as far as it runs there.
    pub(super) server_us_per_command: f64,
    /// Share of the machine that neither server nor load used. With nothing switched on: other people's work.
    pub(super) elsewhere: f64,
}

/// What a leg with a subject came to.
pub(super) struct Watched {
    pub(super) figures: Figures,
    /// Share of the traffic that the subject saw.
    pub(super) saw: f64,
}

/// Where legs run.
pub(super) struct Track<'a> {
    pub(super) stage: &'a Stage<'a>,
    pub(super) load: &'a Load<'a>,
    /// Of one leg.
    pub(super) commands: u64,
    pub(super) interrupt: &'a Interrupt,
}

impl Track<'_> {
    /// With nothing switched on.
    pub(super) fn alone(&self) -> Result<Figures> {
        self.warm_up()?;
        self.measure()
    }

    /// With `subject` at work.
    pub(super) fn with(&self, subject: Subject) -> Result<Watched> {
        let running = subject.start(self.stage, self.interrupt)?;
        let warmed = self.warm_up()?;
        let figures = self.measure()?;
        let saw = running.end(warmed + self.commands)?;
        Ok(Watched { figures, saw })
    }

    /// The agent's cost by the kernel's statistics: of ingress, and of egress.
    pub(super) fn kernel_costs(&self) -> Result<[PerUnit; 2]> {
        let mut agent = self.stage.agent(self.interrupt)?;
        self.warm_up()?;
        let statistics = Statistics::enable()?;
        let before = Costs::read(&agent.scrape()?)?;
        self.load.run(self.commands, self.interrupt)?;
        let after = Costs::read(&agent.scrape()?)?;
        drop(statistics);
        Ok([
            after.ingress.since(&before.ingress, self.commands)?,
            after.egress.since(&before.egress, self.commands)?,
        ])
    }

    /// Returns the commands that were sent.
    pub(super) fn warm_up(&self) -> Result<u64> {
        self.interrupt.sleep(SETTLE)?;
        let commands = self.load.rounded(self.commands / WARM_UP);
        self.load.run(commands, self.interrupt)?;
        Ok(commands)
    }

    fn measure(&self) -> Result<Figures> {
        let before = Moment::now(self.stage)?;
        let outcome = self.load.run(self.commands, self.interrupt)?;
        let after = Moment::now(self.stage)?;
        let machine = after.machine.busy_since(&before.machine);
        let server = after.server - before.server;
        let load = after.children - before.children;
        let per_command = 1e6 / self.commands as f64;
        Ok(Figures {
            commands_per_second: outcome.commands_per_second,
            p99_ms: outcome.p99_ms,
            machine_us_per_command: machine * per_command,
            server_us_per_command: server * per_command,
            elsewhere: (machine - server - load).max(0.0) / after.machine.available_since(&before.machine),
        })
    }
}

/// CPU seconds until now.
struct Moment {
    machine: Machine,
    server: f64,
    children: f64,
}

impl Moment {
    fn now(stage: &Stage) -> Result<Self> {
        Ok(Self {
            machine: Machine::now()?,
            server: cpu::of_process(stage.server_process())?,
            children: cpu::of_ended_children()?,
        })
    }
}
