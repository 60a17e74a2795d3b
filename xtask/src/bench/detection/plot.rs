//! The delays as a picture: a row for each kind, in it a line for each way, on which a mark is the larger the more storms took so
//! long.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::{Circle, IntoDrawingArea as _, PathElement, SVGBackend};
use plotters::style::{Color as _, IntoFont as _, RGBColor, TextStyle, WHITE};

use super::{Alerts, Figures, OfKind};
use crate::text::number;

/// Pixels.
const WIDTH: i32 = 1_000;
const ROW: i32 = 62;
const HEAD: i32 = 138;
const FOOT: i32 = 36;
const LABELS: i32 = 250;
const RIGHT: i32 = 130;
/// From the top of a row to its lines.
const LINES: [i32; 3] = [12, 29, 46];

/// Colours that most colour-blind people can tell apart.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(230, 140, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const INK: RGBColor = RGBColor(40, 40, 40);
const GREY: RGBColor = RGBColor(120, 120, 120);
const FAINT: RGBColor = RGBColor(225, 225, 225);

/// Lines of the scale, which is logarithmic, in seconds; the one that was promised is darker.
const SCALE: [f64; 7] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
const PROMISED: f64 = 1.0;

type Area<'a> = plotters::drawing::DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Writes the picture as SVG.
pub(super) fn draw(figures: &Figures, alerts: &Alerts, path: &Path) -> Result<()> {
    let height = HEAD + ROW * figures.storms.len() as i32 + FOOT;
    let root = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    draw_all(&root, figures, alerts, height)
        .and_then(|()| root.present().map_err(failed))
        .with_context(|| format!("cannot draw {}", path.display()))
}

fn draw_all(root: &Area<'_>, figures: &Figures, alerts: &Alerts, height: i32) -> Result<()> {
    root.fill(&WHITE).map_err(failed)?;
    draw_head(root, figures, alerts)?;
    for seconds in SCALE {
        let x = place(seconds * 1e3);
        let colour = if seconds == PROMISED { GREY } else { FAINT };
        let line = PathElement::new(vec![(x, HEAD), (x, height - FOOT)], colour.stroke_width(1));
        root.draw(&line).map_err(failed)?;
        text(
            root,
            &format!("{seconds} s"),
            (x - 14, height - FOOT + 8),
            15,
            GREY,
        )?;
    }
    for (row, of) in figures.storms.iter().enumerate() {
        draw_kind(root, of, alerts, HEAD + ROW * row as i32)?;
    }
    Ok(())
}

/// What is shown, and what each way costs in false alarms.
fn draw_head(root: &Area<'_>, figures: &Figures, alerts: &Alerts) -> Result<()> {
    let storms = figures.storms.first().map_or(0, |of| of.runs);
    let said = format!(
        "{storms} storms of each kind; the larger the mark, the more of them. At the right: how many were found."
    );
    text(
        root,
        "From the onset of a storm to its finding",
        (20, 14),
        25,
        INK,
    )?;
    text(root, &said, (20, 44), 16, GREY)?;
    let life = &figures.life;
    for (place, (colour, name, false_alarms)) in [
        (BLUE, "Stormglass", life.false_alarms as usize),
        (
            ORANGE,
            "z-score of INFO, polled every second",
            life.zscore_false_alarms as usize,
        ),
        (GREEN, "Prometheus, scraping every 15 s", alerts.false_alarms),
    ]
    .into_iter()
    .enumerate()
    {
        let y = 70 + 20 * place as i32;
        mark(root, (LABELS, y + 7), 5, colour)?;
        text(root, name, (LABELS + 14, y), 16, INK)?;
        let said = format!(
            "{} false alarms in {} node-months",
            number(false_alarms as u64),
            life.node_months
        );
        text(root, &said, (LABELS + 330, y), 16, INK)?;
    }
    Ok(())
}

fn draw_kind(root: &Area<'_>, of: &OfKind, alerts: &Alerts, top: i32) -> Result<()> {
    let line = PathElement::new(vec![(20, top), (WIDTH - 20, top)], FAINT.stroke_width(1));
    root.draw(&line).map_err(failed)?;
    text(root, &of.kind, (20, top + LINES[1] - 9), 18, INK)?;
    for (delays, missed, colour, y) in [
        (&*of.delays_ms, of.missed, BLUE, top + LINES[0]),
        (&of.zscore_delays_ms, of.zscore_missed, ORANGE, top + LINES[1]),
        (alerts.delays_of(of), alerts.missed(of), GREEN, top + LINES[2]),
    ] {
        let mut marks: BTreeMap<i32, u32> = BTreeMap::new();
        for delay in delays {
            *marks.entry(place(f64::from(*delay))).or_default() += 1;
        }
        for (x, count) in marks {
            let share = f64::from(count) / f64::from(of.runs.max(1));
            mark(root, (x, y), (2.0 + 6.0 * share.sqrt()).round() as i32, colour)?;
        }
        let found = format!("{} of {}", of.runs - missed, of.runs);
        let colour = if missed > 0 { colour } else { GREY };
        text(root, &found, (WIDTH - RIGHT + 30, y - 8), 15, colour)?;
    }
    Ok(())
}

/// Where a delay stands; all below a tenth of a second stand there.
fn place(milliseconds: f64) -> i32 {
    let (first, last) = (SCALE[0] * 1e3, SCALE[SCALE.len() - 1] * 1e3);
    let share = (milliseconds.clamp(first, last) / first).log10() / (last / first).log10();
    LABELS + (share * f64::from(WIDTH - LABELS - RIGHT)) as i32
}

fn mark(root: &Area<'_>, at: (i32, i32), radius: i32, colour: RGBColor) -> Result<()> {
    let circle = Circle::new(at, radius, colour.mix(0.6).filled());
    root.draw(&circle).map_err(failed)
}

fn text(root: &Area<'_>, words: &str, at: (i32, i32), size: u32, colour: RGBColor) -> Result<()> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&colour);
    root.draw_text(words, &style, at).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}

#[cfg(test)]
mod tests {
    use super::super::Life;
    use super::*;

    #[test]
    fn every_kind_and_every_way_has_its_line() {
        let of = |kind: &str, delays: &[u32]| OfKind {
            kind: kind.to_owned(),
            runs: 100,
            onsets_ms: Vec::new(),
            within_ms: 10_000,
            delays_ms: delays.repeat(10),
            missed: 100 - 10 * delays.len() as u32,
            wrong_kind: 0,
            wrong_culprit: 0,
            more_than_one: 0,
            zscore_delays_ms: vec![3_000; 40],
            zscore_missed: 60,
        };
        let figures = Figures {
            storms: vec![of("reconnect_churn", &[100; 10]), of("error_burst", &[500, 900])],
            life: Life {
                node_months: 12,
                begins_ms: 0,
                ends_ms: 1,
                seeds: String::new(),
                ticks: 1,
                false_alarms: 0,
                zscore_false_alarms: 7,
                engine_ns_per_tick: 1.0,
                seconds: 1.0,
            },
        };
        let alerts = Alerts {
            delays_ms: BTreeMap::from([("error_burst".to_owned(), vec![9_000])]),
            false_alarms: 3,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("picture.svg");
        draw(&figures, &alerts, &path).expect("drawn");
        let svg = std::fs::read_to_string(path).expect("written");
        for words in [
            "reconnect_churn",
            "error_burst",
            "100 of 100",
            "20 of 100",
            "1 of 100",
            "7 false alarms in 12 node-months",
        ] {
            assert!(svg.contains(words), "{words}");
        }
        let marks = svg.matches("<circle").count();
        assert_eq!(marks, 3 + 1 + 2 + 2 + 1, "equal ones are one");
    }
}
