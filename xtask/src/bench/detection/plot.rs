//! The delays as a picture: a row for each kind, a mark for each storm, those of the z-score below.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::{Circle, IntoDrawingArea as _, PathElement, SVGBackend};
use plotters::style::{BLACK, Color as _, IntoFont as _, RGBColor, TextStyle, WHITE};

use super::{Alerts, Figures, OfKind};

/// Pixels.
const WIDTH: i32 = 1_000;
const ROW: i32 = 60;
const HEAD: i32 = 70;
const FOOT: i32 = 50;
const LABELS: i32 = 230;
const RIGHT: i32 = 120;

/// Colours that most colour-blind people can tell apart.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(230, 140, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const GREY: RGBColor = RGBColor(190, 190, 190);

/// Lines of the scale, which is logarithmic, in seconds.
const SCALE: [f64; 6] = [0.1, 0.3, 1.0, 3.0, 10.0, 100.0];

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
    text(root, "From the onset of a storm to its finding", (20, 14), 20)?;
    text(
        root,
        "a mark for each storm; at the right: found of all",
        (20, 42),
        13,
    )?;
    for seconds in SCALE {
        let x = place(seconds * 1e3);
        let line = PathElement::new(vec![(x, HEAD), (x, height - FOOT)], GREY.stroke_width(1));
        root.draw(&line).map_err(failed)?;
        text(root, &format!("{seconds} s"), (x - 12, height - FOOT + 8), 13)?;
    }
    for (row, of) in figures.storms.iter().enumerate() {
        draw_kind(root, of, alerts, HEAD + ROW * row as i32)?;
    }
    let legend = height - 22;
    mark(root, LABELS, legend + 6, BLUE)?;
    text(root, "Stormglass", (LABELS + 10, legend), 13)?;
    mark(root, LABELS + 120, legend + 6, ORANGE)?;
    text(
        root,
        "z-score of INFO, polled every second",
        (LABELS + 130, legend),
        13,
    )?;
    mark(root, LABELS + 390, legend + 6, GREEN)?;
    text(
        root,
        "Prometheus, scraping every 15 s",
        (LABELS + 400, legend),
        13,
    )
}

fn draw_kind(root: &Area<'_>, of: &OfKind, alerts: &Alerts, top: i32) -> Result<()> {
    text(root, &of.kind, (20, top + 12), 15)?;
    for (delays, missed, colour, y) in [
        (&*of.delays_ms, of.missed, BLUE, top + 14),
        (&of.zscore_delays_ms, of.zscore_missed, ORANGE, top + 30),
        (alerts.delays_of(of), alerts.missed(of), GREEN, top + 46),
    ] {
        for delay in delays {
            mark(root, place(f64::from(*delay)), y, colour)?;
        }
        let found = format!("{} of {}", of.runs - missed, of.runs);
        text(root, &found, (WIDTH - RIGHT + 30, y - 7), 13)?;
    }
    Ok(())
}

/// Where a delay stands; all below a tenth of a second stand there.
fn place(milliseconds: f64) -> i32 {
    let (first, last) = (SCALE[0] * 1e3, SCALE[SCALE.len() - 1] * 1e3);
    let share = (milliseconds.clamp(first, last) / first).log10() / (last / first).log10();
    LABELS + (share * f64::from(WIDTH - LABELS - RIGHT)) as i32
}

fn mark(root: &Area<'_>, x: i32, y: i32, colour: RGBColor) -> Result<()> {
    let circle = Circle::new((x, y), 4, colour.mix(0.4).filled());
    root.draw(&circle).map_err(failed)
}

fn text(root: &Area<'_>, words: &str, at: (i32, i32), size: u32) -> Result<()> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&BLACK);
    root.draw_text(words, &style, at).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
