//! The demo's storm: a fleet that reconnects in churn at a server of its own, the alarm, and the incident's course.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::LOOK_EVERY;
use super::screen::Screen;
use super::stage::Stage;
use crate::rig::interrupt::Interrupt;

/// Normal life before it.
pub(super) const AFTER: Duration = Duration::from_secs(15);

/// Shortest show that has one.
pub(super) const LEAST_SECONDS: u64 = 30;

/// How long it may take to be over, once everything else is: 10 s after the last of it, and some.
const OVER_WITHIN: Duration = Duration::from_secs(60);

/// What is going to happen.
pub(super) fn announce(server: &str) -> [String; 3] {
    [
        format!(" And {server}, at which the workload cart-api has 200 instances x 10"),
        format!(
            " connections. After {} s it stops for 3 s: its clients time out and come back.",
            AFTER.as_secs()
        ),
        String::new(),
    ]
}

/// What is known of it now; nothing, if there is to be none.
pub(super) fn line(stage: &Stage<'_>) -> Result<Option<String>> {
    let Some(server) = stage.stormy() else {
        return Ok(None);
    };
    Ok(Some(match stage.finding()? {
        Some(finding) => format!("{}: {}", finding.severity, finding.summary),
        None => format!("none yet at {server}"),
    }))
}

/// Waits until it is over, and tells how it went; does nothing if there was to be none.
pub(super) fn tell(stage: &mut Stage<'_>, screen: &mut Screen, interrupt: &Interrupt) -> Result<()> {
    if stage.stormy().is_none() {
        return Ok(());
    }
    let began = Instant::now();
    let (finding, course) = loop {
        stage.check()?;
        let (finding, course) = (stage.finding()?, stage.course()?);
        match (finding, course) {
            (Some(finding), Some(course)) if finding.ended.is_some() => break (finding, course),
            _ if began.elapsed() > OVER_WITHIN => {
                return Err(anyhow::anyhow!("the storm was not found, or does not end"));
            }
            _ => interrupt.sleep(LOOK_EVERY)?,
        }
    };
    screen.print(&[
        String::new(),
        format!(
            " The storm: {} by {}, found {} the first client timed out.",
            finding.kind,
            finding.culprit(),
            finding.delay(&course)
        ),
        String::new(),
    ])?;
    let drawn = stage.incident(&finding.id).context("no record of the storm")?;
    let lines: Vec<String> = drawn.lines().map(|line| format!(" {line}")).collect();
    screen.print(&lines)
}
