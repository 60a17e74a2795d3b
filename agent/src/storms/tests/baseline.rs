//! What people have today: INFO polled every second, and a z-score of each of its figures over the last five minutes. It knows that
//! something is unusual, not what, and nothing while the server does not answer.

use std::collections::VecDeque;

use super::simulator::Info;

/// Seconds that are remembered, and those without which nothing is said.
const WINDOW: usize = 300;
const WARM: usize = 30;

/// So many standard deviations are an alarm.
const ALARM: f64 = 6.0;

/// Figures that are looked at.
const FIGURES: usize = 7;

/// A spread below this share of the mean is taken for it: a figure that never moves would else alarm at its first step.
const LEAST_SPREAD: f64 = 0.02;

#[derive(Debug, Default)]
pub(super) struct ZScore {
    last: Option<[f64; FIGURES]>,
    figures: [Window; FIGURES],
    /// When one of the figures was far off.
    pub(super) alarms: Vec<u64>,
}

impl ZScore {
    /// Takes what INFO says in this second.
    pub(super) fn poll(&mut self, at: u64, info: Option<Info>) {
        let Some(info) = info else { return };
        let now = [
            info.connected_clients,
            info.connections_received,
            info.rejected_connections,
            info.commands_processed,
            info.net_input_bytes,
            info.net_output_bytes,
            info.error_replies,
        ];
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let mut alarm = false;
        for (at, figures) in self.figures.iter_mut().enumerate() {
            // The first is a number, the others count.
            let value = if at == 0 { now[at] } else { now[at] - last[at] };
            alarm |= figures.is_far_off(value);
            figures.push(value);
        }
        if alarm {
            self.alarms.push(at);
        }
    }
}

/// The other way: an exporter that a Prometheus scrapes, each time at the same second of its interval.
#[derive(Debug)]
pub(super) struct Exporter {
    second: u64,
    /// When it answered, how many clients were connected, and how many can be.
    pub(super) scrapes: Vec<(u64, f64, u64)>,
}

impl Exporter {
    /// Milliseconds between two scrapes: what most have.
    pub(super) const INTERVAL: u64 = 15_000;

    /// One that is scraped at this second of the interval.
    pub(super) fn new(second: u64) -> Self {
        Self {
            second,
            scrapes: Vec::new(),
        }
    }

    /// Takes what INFO says in this second. No answer: there is nothing to be scraped.
    pub(super) fn poll(&mut self, at: u64, info: Option<Info>, limit: Option<u64>) {
        if let (Some(info), Some(limit)) = (info, limit)
            && at % Self::INTERVAL / 1_000 == self.second
        {
            self.scrapes.push((at, info.connected_clients, limit));
        }
    }
}

/// The last values of a figure, with their sum and the sum of their squares.
#[derive(Debug, Default)]
struct Window {
    values: VecDeque<f64>,
    sum: f64,
    squares: f64,
}

impl Window {
    fn push(&mut self, value: f64) {
        self.values.push_back(value);
        self.sum += value;
        self.squares += value * value;
        if self.values.len() > WINDOW
            && let Some(first) = self.values.pop_front()
        {
            self.sum -= first;
            self.squares -= first * first;
        }
    }

    fn is_far_off(&self, value: f64) -> bool {
        let count = self.values.len() as f64;
        let mean = self.sum / count;
        let spread = (self.squares / count - mean * mean).max(0.0).sqrt();
        let spread = spread.max(LEAST_SPREAD * mean.abs()).max(1.0);
        self.values.len() >= WARM && (value - mean).abs() > ALARM * spread
    }
}

#[test]
fn a_step_is_an_alarm_and_a_server_that_does_not_answer_is_none() {
    let mut score = ZScore::default();
    let mut info = Info::default();
    for second in 0..100_u32 {
        info.commands_processed += 1_000.0 + f64::from(second % 3);
        score.poll(u64::from(second), Some(info));
    }
    score.poll(100, None);
    assert!(score.alarms.is_empty());
    info.commands_processed += 5_000.0;
    score.poll(101, Some(info));
    assert_eq!(score.alarms, [101]);
}

#[test]
fn an_exporter_is_scraped_once_in_an_interval_and_has_nothing_of_a_server_that_does_not_answer() {
    let mut exporter = Exporter::new(4);
    let info = Info {
        connected_clients: 7.0,
        ..Info::default()
    };
    for second in 0..60_u64 {
        let answers = !(30..40).contains(&second);
        exporter.poll(second * 1_000, answers.then_some(info), Some(100));
    }
    let scraped = |second: u64| (second * 1_000, 7.0, 100);
    assert_eq!(exporter.scrapes, [4, 19, 49].map(scraped));
}
