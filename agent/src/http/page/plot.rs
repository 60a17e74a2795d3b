//! Lines over time as SVG, drawn here so that a page needs no script for them. A plot is as wide as there is room: the lines stretch, words
//! and strokes do not. Colours are the style sheet's.

use super::html::Html;
use super::numbers::{scale, steps_of_time};
use crate::storms::Moment;

/// In pixels: all of it, where the lines are, and the numbers at their left.
const HEIGHT: f64 = 190.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 160.0;
const AXIS: f64 = 64.0;

/// Width of the lines, in units of their own.
const WIDTH: f64 = 1000.0;

/// Lines of the grid, and marks of time, at most.
const GRID: f64 = 5.0;
const MARKS: u64 = 6;

/// Percent of the width that a word takes on a phone.
const WORD: f64 = 12.0;

/// A line.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(Moment, f64)>,
}

/// A plot: before, during and after a storm.
pub(super) struct Plot {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What is counted.
    pub(super) unit: &'static str,
    pub(super) write: fn(f64) -> String,
    /// One, or two.
    pub(super) lines: Vec<Line>,
}

/// What all plots of a storm have in common: its moments, in their order.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    first: Moment,
    pub(super) last: Moment,
    onset: Moment,
    ended: Option<Moment>,
}

impl Frame {
    /// What was recorded goes from `first` to `last`.
    pub(super) fn new(first: Moment, last: Moment, onset: Moment, ended: Option<Moment>) -> Self {
        let last = last.max(onset);
        Self {
            first: first.min(onset),
            last,
            onset,
            ended: ended.map(|ended| ended.clamp(onset, last)),
        }
    }
}

impl Plot {
    /// As a figure with its caption.
    pub(super) fn figure(&self, frame: Frame) -> Html {
        let heights = self
            .lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|point| point.1);
        let (step, top) = scale(heights.fold(0.0, f64::max), GRID);
        let alone = self.lines.len() == 1;
        let lines: Html = self
            .lines
            .iter()
            .zip(["one", "two"])
            .map(|(line, class)| {
                html!((alone.then(|| area(line, class, frame, top)))(stroke(
                    line, class, frame, top
                )))
            })
            .collect();
        html!(
            "<figure aria-labelledby=\"" (self.id) "\">\n<figcaption><h3 id=\"" (self.id) "\">" (self.title) "</h3> "
            "<span class=\"unit\">" (self.unit) "</span>" (self.legend()) "</figcaption>\n"
            "<div class=\"plot\" role=\"img\" aria-label=\"" (self.words(frame)) "\">\n"
            "<svg class=\"axis\" width=\"" (AXIS) "\" height=\"" (HEIGHT) "\">" (self.numbers(step, top)) "</svg>\n"
            "<svg class=\"lines\" height=\"" (HEIGHT) "\">" (shade(frame)) (grid(step, top)) (marks(frame))
            "<svg y=\"" (TOP) "\" width=\"100%\" height=\"" (BOTTOM - TOP) "\" viewBox=\"0 0 " (WIDTH) " " (BOTTOM - TOP)
            "\" preserveAspectRatio=\"none\">" (lines) "</svg>" (ends(frame)) "</svg>\n</div>\n</figure>\n"
        )
    }

    fn legend(&self) -> Option<Html> {
        let key = |(line, class): (&Line, &'static str)| {
            html!(
                "<span class=\"key\"><svg width=\"18\" height=\"8\" aria-hidden=\"true\"><line class=\"" (class)
                "\" x1=\"0\" x2=\"18\" y1=\"4\" y2=\"4\"/></svg> " (line.name) "</span>"
            )
        };
        (self.lines.len() > 1).then(|| self.lines.iter().zip(["one", "two"]).map(key).collect())
    }

    /// What somebody is told who does not see it.
    fn words(&self, frame: Frame) -> Html {
        let line = |line: &Line| {
            let highest = line
                .points
                .iter()
                .max_by(|one, other| one.1.total_cmp(&other.1))?;
            Some(html!(
                (line.name) " at most " ((self.write)(highest.1)) ", " (from_onset(highest.0, frame.onset)) " from the onset; "
            ))
        };
        let lines: Html = self.lines.iter().filter_map(line).collect();
        html!((self.title) ", " (self.unit) ": " (lines) "the table below has the numbers")
    }

    fn numbers(&self, step: f64, top: f64) -> Html {
        let number = |value: f64| {
            let y = format!("{:.1}", height(value, top) + 4.0);
            html!("<text x=\"" (AXIS - 8.0) "\" y=\"" (y) "\" text-anchor=\"end\">" ((self.write)(value)) "</text>")
        };
        ticks(step, top).map(number).collect()
    }
}

/// Time from the onset, as a mark says it.
pub(super) fn from_onset(at: Moment, onset: Moment) -> String {
    if at >= onset {
        format!("+{}", super::numbers::round_span(at.since(onset)))
    } else {
        format!("−{}", super::numbers::round_span(onset.since(at)))
    }
}

fn ticks(step: f64, top: f64) -> impl Iterator<Item = f64> {
    (0..=(top / step).round() as u32).map(move |tick| f64::from(tick) * step)
}

fn grid(step: f64, top: f64) -> Html {
    let line = |value| {
        let y = format!("{:.1}", height(value, top));
        html!("<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"" (y) "\" y2=\"" (y) "\"/>")
    };
    ticks(step, top).map(line).collect()
}

/// Time below the lines, from the onset on in both directions.
fn marks(frame: Frame) -> Html {
    let step = steps_of_time(frame.last.since(frame.first), MARKS);
    let (before, after) = (
        frame.onset.since(frame.first) / step,
        frame.last.since(frame.onset) / step,
    );
    let before = (1..=before).rev().map(|mark| Moment(frame.onset.0 - mark * step));
    let after = (0..=after).map(|mark| Moment(frame.onset.0 + mark * step));
    let mark = |at: Moment| {
        let percent = share(at, frame) * 100.0;
        let words = if at == frame.onset {
            "0".into()
        } else {
            from_onset(at, frame.onset)
        };
        html!((label(percent, anchor(percent), HEIGHT - 8.0, &words)))
    };
    before.chain(after).map(mark).collect()
}

/// Words stay within the picture.
fn anchor(percent: f64) -> &'static str {
    match percent {
        left if left < WORD / 2.0 => "start",
        right if right > 100.0 - WORD / 2.0 => "end",
        _ => "middle",
    }
}

fn label(percent: f64, anchor: &'static str, y: f64, words: &str) -> Html {
    let x = format!("{percent:.2}%");
    html!("<text x=\"" (x) "\" y=\"" (y) "\" text-anchor=\"" (anchor) "\">" (words) "</text>")
}

/// While the storm lasted.
fn shade(frame: Frame) -> Html {
    let (from, to) = (
        share(frame.onset, frame),
        share(frame.ended.unwrap_or(frame.last), frame),
    );
    let (x, width) = (
        format!("{:.2}%", from * 100.0),
        format!("{:.2}%", (to - from).max(0.002) * 100.0),
    );
    html!("<rect class=\"during\" x=\"" (x) "\" y=\"" (TOP) "\" width=\"" (width) "\" height=\"" (BOTTOM - TOP) "\"/>")
}

/// Its onset and its end, by name, each on its side of the storm where there is room.
fn ends(frame: Frame) -> Html {
    let onset = share(frame.onset, frame) * 100.0;
    let end = frame.ended.map(|ended| share(ended, frame) * 100.0);
    let mark = |percent: f64, class: &'static str, anchor: &'static str, words: &str| {
        let x = format!("{percent:.2}%");
        html!(
            "<line class=\"" (class) "\" x1=\"" (x) "\" x2=\"" (x) "\" y1=\"" (TOP - 6.0) "\" y2=\"" (BOTTOM) "\"/>"
            (label(percent, anchor, TOP - 9.0, words))
        )
    };
    let left = if onset < WORD { "start" } else { "end" };
    let onset = mark(onset, "onset", left, "onset");
    let end = end.map(|end| {
        mark(
            end,
            "end",
            if end > 100.0 - WORD { "end" } else { "start" },
            "end",
        )
    });
    html!((onset)(end))
}

fn stroke(line: &Line, class: &'static str, frame: Frame, top: f64) -> Html {
    html!("<polyline class=\"" (class) "\" points=\"" (path(line, frame, top)) "\"/>")
}

fn area(line: &Line, class: &'static str, frame: Frame, top: f64) -> Option<Html> {
    let (first, last) = (line.points.first()?, line.points.last()?);
    let floor = BOTTOM - TOP;
    let corner = |at: Moment| format!("{:.1},{floor:.1}", share(at, frame) * WIDTH);
    Some(html!(
        "<polygon class=\"" (class) "\" points=\"" (corner(first.0)) " " (path(line, frame, top)) " " (corner(last.0)) "\"/>"
    ))
}

fn path(line: &Line, frame: Frame, top: f64) -> String {
    let point = |(at, value): &(Moment, f64)| {
        format!(
            "{:.1},{:.1}",
            share(*at, frame) * WIDTH,
            height(*value, top) - TOP
        )
    };
    line.points.iter().map(point).collect::<Vec<_>>().join(" ")
}

/// Where a moment is, from 0 to 1.
fn share(at: Moment, frame: Frame) -> f64 {
    let all = frame.last.since(frame.first).max(1) as f64;
    (at.since(frame.first) as f64 / all).min(1.0)
}

fn height(value: f64, top: f64) -> f64 {
    BOTTOM - value.min(top) / top * (BOTTOM - TOP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::page::numbers::value;

    fn frame(ended: Option<Moment>) -> Frame {
        Frame::new(Moment(100_000), Moment(140_000), Moment(120_000), ended)
    }

    const ENDED: Option<Moment> = Some(Moment(125_000));

    fn figure(points: &[(u64, f64)], frame: Frame) -> String {
        let plot = Plot {
            id: "connections",
            title: "Connections",
            unit: "connections",
            write: value,
            lines: vec![Line {
                name: "connections",
                points: points.iter().map(|(at, value)| (Moment(*at), *value)).collect(),
            }],
        };
        plot.figure(frame).into_string()
    }

    #[test]
    fn a_course_is_drawn_from_its_first_moment_to_its_last_with_the_storm_marked() {
        let figure = figure(&[(100_000, 0.0), (140_000, 2_000.0)], frame(ENDED));
        for text in [
            "<polyline class=\"one\" points=\"0.0,138.0 1000.0,0.0\"/>",
            "<rect class=\"during\" x=\"50.00%\" y=\"22\" width=\"12.50%\"",
            ">2,000</text>",
            ">−20 s</text>",
            ">+10 s</text>",
            ">onset</text>",
            ">end</text>",
            "connections at most 2,000, +20 s from the onset",
        ] {
            assert!(figure.contains(text), "{text} in {figure}");
        }
    }

    #[test]
    fn a_storm_that_goes_on_is_shaded_to_the_last_moment_and_has_no_end() {
        let figure = figure(&[(100_000, 3.0)], frame(None));
        assert!(
            figure.contains("x=\"50.00%\" y=\"22\" width=\"50.00%\""),
            "{figure}"
        );
        assert!(!figure.contains(">end<"), "{figure}");
    }

    #[test]
    fn nothing_and_a_single_moment_are_drawn_without_a_number_that_is_none() {
        let far = Frame::new(Moment(7), Moment(7), Moment(9_999_999_999_999), Some(Moment(0)));
        for (points, frame) in [
            (vec![], frame(ENDED)),
            (vec![(7, 0.0)], Frame::new(Moment(7), Moment(7), Moment(7), None)),
            (vec![(7, f64::MAX)], far),
        ] {
            let figure = figure(&points, frame);
            assert!(!figure.contains("NaN") && !figure.contains("inf"), "{figure}");
            assert!(figure.len() < 8_000, "{}", figure.len());
        }
    }
}
