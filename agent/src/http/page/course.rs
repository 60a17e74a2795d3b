//! What of an incident is drawn and tabled: its ticks of 100 ms put together to as many steps as a picture has room for.

use super::numbers::{bytes, duration, steps_of_time, value};
use super::plot::{Frame, Line, Plot};
use crate::incidents::{Course, Incident, Sample, TrafficAt};
use crate::storms::Moment;

/// Points of a line, and rows of the table, at most.
const POINTS: u64 = 400;
const ROWS: u64 = 40;

/// Ticks that happened in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Step {
    /// When it ended.
    pub(super) at: Moment,
    /// How long it was, in seconds.
    seconds: f64,
    /// At its end.
    pub(super) connections: u64,
    pub(super) opened: u64,
    pub(super) closed: u64,
    /// Closed while a command waited.
    pub(super) gave_up: u64,
    /// Refused by maxclients, or dropped from a full accept queue.
    pub(super) turned_away: u64,
    /// The most that waited to be accepted.
    pub(super) waiting: u64,
}

/// The steps of a table.
pub(super) fn rows(course: &Course) -> Vec<Step> {
    steps(course, ROWS)
}

/// When it was; `None` without a tick.
pub(super) fn frame(incident: &Incident) -> Option<Frame> {
    let at = incident.course.samples().map(|sample| sample.at);
    let (first, last) = at.fold(None, |ends: Option<(Moment, Moment)>, at| {
        let (first, last) = ends.unwrap_or((at, at));
        Some((first.min(at), last.max(at)))
    })?;
    Some(Frame::new(
        first,
        last,
        incident.storm.onset,
        incident.storm.ended,
    ))
}

/// What is drawn. What never happened is left out.
pub(super) fn plots(incident: &Incident) -> Vec<Plot> {
    let steps = steps(&incident.course, POINTS);
    let line = |name, of: fn(&Step) -> f64| Line {
        name,
        points: steps.iter().map(|step| (step.at, of(step))).collect(),
    };
    let count = |id, title, unit, lines| Plot {
        id,
        title,
        unit,
        write: value,
        lines,
    };
    let mut plots = vec![
        count(
            "opened",
            "Opened and closed",
            "connections per second",
            vec![
                line("opened", |step| step.opened as f64 / step.seconds),
                line("closed", |step| step.closed as f64 / step.seconds),
            ],
        ),
        count(
            "held",
            "Connections",
            "connections",
            vec![line("connections", |step| step.connections as f64)],
        ),
        count(
            "queue",
            "Accept queue",
            "connections that wait",
            vec![line("waiting", |step| step.waiting as f64)],
        ),
    ];
    if steps.iter().any(|step| step.gave_up + step.turned_away != 0) {
        let gave_up = line("closed while a command waited", |step| {
            step.gave_up as f64 / step.seconds
        });
        let turned_away = line("refused or dropped", |step| {
            step.turned_away as f64 / step.seconds
        });
        plots.push(count(
            "failed",
            "Given up, turned away",
            "connections per second",
            vec![gave_up, turned_away],
        ));
    }
    plots.extend(traffic(&incident.traffic));
    plots
}

/// What its commands came to. Nobody's errors are left out.
fn traffic(seconds: &[TrafficAt]) -> Vec<Plot> {
    // A line has two points.
    if seconds.len() < 2 {
        return Vec::new();
    }
    let steps = seconds.chunks(seconds.len().div_ceil(POINTS as usize));
    let line = |name, of: fn(&TrafficAt) -> u64| {
        let rate = |step: &[TrafficAt]| {
            let milliseconds = step.iter().map(|second| second.milliseconds).sum::<u64>().max(1);
            let sum = step.iter().map(of).sum::<u64>();
            Some((step.last()?.at, sum as f64 * 1e3 / milliseconds as f64))
        };
        Line {
            name,
            points: steps.clone().filter_map(rate).collect(),
        }
    };
    // The longest of a step; a second without an answer has none.
    let latency = Line {
        name: "latency",
        points: steps
            .clone()
            .filter_map(|step| {
                let latencies = step.iter().map(|second| second.latency_microseconds);
                Some((step.last()?.at, latencies.max()? as f64))
            })
            .collect(),
    };
    let plot = |id, title, unit, write, lines| Plot {
        id,
        title,
        unit,
        write,
        lines,
    };
    let mut plots = vec![
        plot(
            "commands",
            "Commands",
            "commands per second",
            value as fn(f64) -> String,
            vec![
                line("received", |second| second.commands),
                line("answered", |second| second.answered),
            ],
        ),
        plot(
            "bytes",
            "Traffic",
            "bytes per second",
            bytes,
            vec![
                line("in", |second| second.bytes_in),
                line("out", |second| second.bytes_out),
            ],
        ),
        plot(
            "latency",
            "Latency",
            "mean time from a command to its reply",
            |microseconds| duration(microseconds / 1e6),
            vec![latency],
        ),
    ];
    if seconds.iter().any(|second| second.errors != 0) {
        let errors = line("errors", |second| second.errors);
        plots.push(plot(
            "errors",
            "Error replies",
            "errors per second",
            value,
            vec![errors],
        ));
    }
    plots
}

/// At most so many steps, of a length that people count in.
fn steps(course: &Course, at_most: u64) -> Vec<Step> {
    let samples: Vec<Sample> = course.samples().collect();
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Vec::new();
    };
    let length = steps_of_time(last.at.since(first.at), at_most);
    let mut steps = Vec::new();
    let mut before = None;
    for ticks in samples.chunk_by(|one, other| {
        let step = |sample: &Sample| sample.at.since(first.at) / length;
        step(one) == step(other)
    }) {
        let step = Step::new(ticks, before);
        before = Some(step.at);
        steps.push(step);
    }
    steps
}

impl Step {
    fn new(ticks: &[Sample], before: Option<Moment>) -> Self {
        let last = ticks.last().copied().unwrap_or_default();
        let sum = |of: fn(&Sample) -> u32| ticks.iter().map(|tick| u64::from(of(tick))).sum::<u64>();
        // Of the first one the beginning is not known, but how many ticks it has.
        let milliseconds = before.map_or(ticks.len() as u64 * 100, |before| last.at.since(before));
        Self {
            at: last.at,
            seconds: milliseconds.max(1) as f64 / 1e3,
            connections: u64::from(last.connections),
            opened: sum(|tick| tick.opened),
            closed: sum(|tick| tick.closed),
            gave_up: sum(|tick| tick.closed_waiting),
            turned_away: sum(|tick| tick.rejected) + sum(|tick| tick.queue_drops),
            waiting: ticks
                .iter()
                .map(|tick| u64::from(tick.queue_length))
                .max()
                .unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(ticks: u64) -> Course {
        Course {
            at: (0..ticks).map(|tick| Moment(1_000_000 + 100 * tick)).collect(),
            connections: (0..ticks as u32).collect(),
            opened: vec![3; ticks as usize],
            closed: vec![1; ticks as usize],
            closed_waiting: vec![0; ticks as usize],
            rejected: vec![0; ticks as usize],
            queue_length: (0..ticks).map(|tick| u32::from(tick == 7) * 50).collect(),
            queue_drops: vec![2; ticks as usize],
        }
    }

    #[test]
    fn steps_keep_every_count_and_the_longest_queue() {
        for ticks in [1, 9, 600, 1_800, 40_000, 864_000] {
            let steps = steps(&course(ticks), POINTS);
            assert!(steps.len() as u64 <= POINTS + 1, "{ticks}: {}", steps.len());
            assert_eq!(steps.iter().map(|step| step.opened).sum::<u64>(), 3 * ticks);
            assert_eq!(steps.iter().map(|step| step.turned_away).sum::<u64>(), 2 * ticks);
            assert_eq!(steps.last().map(|step| step.connections), Some(ticks - 1));
            assert_eq!(
                steps.iter().map(|step| step.waiting).max(),
                Some(if ticks > 7 { 50 } else { 0 })
            );
            let rates = steps.iter().map(|step| step.opened as f64 / step.seconds);
            assert!(
                rates.clone().all(|rate| (rate - 30.0).abs() < 1e-9),
                "{:?}",
                rates.collect::<Vec<_>>()
            );
        }
        assert_eq!(rows(&course(1_800)).len(), 36);
        assert!(steps(&Course::default(), POINTS).is_empty());
    }
}
