//! Delays as a picture: a row for each kind of storm, in it a line for each way to find it, on which a mark is the larger the more
//! storms took so long.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::{Circle, IntoDrawingArea as _, PathElement, SVGBackend};
use plotters::style::{Color as _, IntoFont as _, RGBColor, TextStyle, WHITE};

/// What is drawn.
pub(super) struct Picture<'a> {
    /// What the delays are.
    pub(super) title: &'a str,
    /// How many storms there were, and of what sort.
    pub(super) storms: &'a str,
    /// At most as many as there are colours.
    pub(super) ways: &'a [Way],
    pub(super) rows: &'a [Row],
}

/// A way to find storms.
pub(super) struct Way {
    pub(super) name: &'static str,
    /// What else is known of it.
    pub(super) note: String,
}

/// One kind of storm.
pub(super) struct Row {
    pub(super) kind: String,
    pub(super) runs: u32,
    /// Of each way, in milliseconds; what was not found is missing.
    pub(super) delays_ms: Vec<Vec<u32>>,
}

/// Pixels.
const WIDTH: i32 = 1_000;
const TITLE: i32 = 70;
const WAY: i32 = 20;
const LINE: i32 = 17;
const ABOVE: i32 = 12;
const FOOT: i32 = 36;
const LABELS: i32 = 250;
const RIGHT: i32 = 130;

/// Colours that most colour-blind people can tell apart.
const COLOURS: [RGBColor; 3] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 140, 0),
    RGBColor(0, 158, 115),
];
const INK: RGBColor = RGBColor(40, 40, 40);
const GREY: RGBColor = RGBColor(120, 120, 120);
const FAINT: RGBColor = RGBColor(225, 225, 225);

/// Lines of the scale, which is logarithmic, in seconds; the one that was promised is darker.
const SCALE: [f64; 7] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
const PROMISED: f64 = 1.0;

type Area<'a> = plotters::drawing::DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Picture<'_> {
    /// Writes it as SVG.
    pub(super) fn draw(&self, path: &Path) -> Result<()> {
        let root = SVGBackend::new(path, (WIDTH as u32, self.height() as u32)).into_drawing_area();
        self.draw_all(&root)
            .and_then(|()| root.present().map_err(failed))
            .with_context(|| format!("cannot draw {}", path.display()))
    }

    fn head(&self) -> i32 {
        TITLE + WAY * self.ways.len() as i32 + 8
    }

    fn row(&self) -> i32 {
        LINE * self.ways.len() as i32 + ABOVE
    }

    fn height(&self) -> i32 {
        self.head() + self.row() * self.rows.len() as i32 + FOOT
    }

    fn draw_all(&self, root: &Area<'_>) -> Result<()> {
        root.fill(&WHITE).map_err(failed)?;
        self.draw_head(root)?;
        let foot = self.height() - FOOT;
        for seconds in SCALE {
            let x = place(seconds * 1e3);
            let colour = if seconds == PROMISED { GREY } else { FAINT };
            let line = PathElement::new(vec![(x, self.head()), (x, foot)], colour.stroke_width(1));
            root.draw(&line).map_err(failed)?;
            text(root, &format!("{seconds} s"), (x - 14, foot + 8), 15, GREY)?;
        }
        for (number, row) in self.rows.iter().enumerate() {
            self.draw_row(root, row, self.head() + self.row() * number as i32)?;
        }
        Ok(())
    }

    fn draw_head(&self, root: &Area<'_>) -> Result<()> {
        text(root, self.title, (20, 14), 25, INK)?;
        let said = format!(
            "{}; the larger the mark, the more of them. At the right: how many were found.",
            self.storms
        );
        text(root, &said, (20, 44), 16, GREY)?;
        for (number, (way, colour)) in self.ways.iter().zip(COLOURS).enumerate() {
            let y = TITLE + WAY * number as i32;
            mark(root, (LABELS, y + 7), 5, colour)?;
            text(root, way.name, (LABELS + 14, y), 16, INK)?;
            text(root, &way.note, (LABELS + 330, y), 16, INK)?;
        }
        Ok(())
    }

    fn draw_row(&self, root: &Area<'_>, row: &Row, top: i32) -> Result<()> {
        let line = PathElement::new(vec![(20, top), (WIDTH - 20, top)], FAINT.stroke_width(1));
        root.draw(&line).map_err(failed)?;
        text(root, &row.kind, (20, top + self.row() / 2 - 11), 18, INK)?;
        for (number, (delays, colour)) in row.delays_ms.iter().zip(COLOURS).enumerate() {
            let y = top + ABOVE + LINE * number as i32;
            let mut marks: BTreeMap<i32, u32> = BTreeMap::new();
            for delay in delays {
                *marks.entry(place(f64::from(*delay))).or_default() += 1;
            }
            for (x, count) in marks {
                let share = f64::from(count) / f64::from(row.runs.max(1));
                mark(root, (x, y), (2.0 + 6.0 * share.sqrt()).round() as i32, colour)?;
            }
            let found = format!("{} of {}", delays.len(), row.runs);
            let is_whole = delays.len() as u32 >= row.runs;
            let colour = if is_whole { GREY } else { colour };
            text(root, &found, (WIDTH - RIGHT + 30, y - 8), 15, colour)?;
        }
        Ok(())
    }
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
    use super::*;

    #[test]
    fn every_kind_and_every_way_has_its_line() {
        let row = |kind: &str, delays: [Vec<u32>; 3]| Row {
            kind: kind.to_owned(),
            runs: 100,
            delays_ms: delays.into(),
        };
        let way = |name, note: &str| Way {
            name,
            note: note.to_owned(),
        };
        let picture = Picture {
            title: "From onset to finding",
            storms: "100 storms of each kind",
            ways: &[
                way("Stormglass", "0 false alarms"),
                way("z-score", "7 false alarms"),
                way("Prometheus", "3 false alarms"),
            ],
            rows: &[
                row("reconnect_churn", [vec![100; 100], vec![3_000; 40], vec![]]),
                row(
                    "error_burst",
                    [[500, 900].repeat(10), vec![3_000; 40], vec![9_000]],
                ),
            ],
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("picture.svg");
        picture.draw(&path).expect("drawn");
        let svg = std::fs::read_to_string(path).expect("written");
        for words in [
            "reconnect_churn",
            "error_burst",
            "100 of 100",
            "20 of 100",
            "1 of 100",
            "7 false alarms",
            "100 storms of each kind",
        ] {
            assert!(svg.contains(words), "{words}");
        }
        let marks = svg.matches("<circle").count();
        assert_eq!(marks, 3 + 1 + 2 + 2 + 1, "equal ones are one");
    }
}
