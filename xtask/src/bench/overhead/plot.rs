//! The report as a picture: a row per cell, medians as marks, quartiles as whiskers, targets as red lines.

mod panel;

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, IntoDrawingArea as _, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, IntoFont as _, RGBColor, TextStyle, WHITE};

use self::panel::{Panel, Row, Scale};
use super::super::statistics::Spread;
use super::cells::Cell;
use super::report::{Comparison, Findings, Report};
use super::subjects::Subject;

/// Pixels.
const WIDTH: u32 = 1440;
const HEAD: u32 = 92;
const SECTION_HEAD: u32 = 62;
const ROW: u32 = 24;
/// From a row's upper edge to that of its text.
const TEXT_IN_ROW: u32 = 6;
const AXIS: u32 = 52;
const LABELS: u32 = 210;
const MARGIN: u32 = 20;

/// Colours that most colour-blind people can tell apart.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(230, 140, 0);
const GREEN: RGBColor = RGBColor(0, 148, 105);
const RED: RGBColor = RGBColor(200, 40, 40);
const GREY: RGBColor = RGBColor(110, 110, 110);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Some panels side by side with the same rows.
struct Section {
    heading: &'static str,
    rows: Vec<Row>,
    panels: Vec<Panel>,
}

/// Writes the picture as SVG.
pub(super) fn draw(report: &Report, path: &Path) -> Result<()> {
    let sections = [
        agent(&report.cells),
        comparisons(&report.cells),
        kernel(&report.cells),
    ];
    let sections: Vec<&Section> = sections
        .iter()
        .filter(|section| !section.rows.is_empty())
        .collect();
    let height = HEAD + sections.iter().map(|section| section.height()).sum::<u32>() + MARGIN;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    draw_all(&root, report, &sections)
        .and_then(|()| root.present().map_err(failed))
        .with_context(|| format!("cannot draw {}", path.display()))
}

fn draw_all(root: &Area<'_>, report: &Report, sections: &[&Section]) -> Result<()> {
    root.fill(&WHITE).map_err(failed)?;
    head(root, report)?;
    let mut top = HEAD;
    for section in sections {
        section.draw(root, top)?;
        top += section.height();
    }
    Ok(())
}

fn head(root: &Area<'_>, report: &Report) -> Result<()> {
    let (host, settings) = (&report.host, &report.settings);
    text(
        root,
        "What Stormglass costs a Valkey server",
        (MARGIN, 18),
        24,
        BLACK,
        HPos::Left,
    )?;
    let measured = format!(
        "Marks: medians; whiskers: quartiles of {} pairs of {} s; red lines: targets. {}, loopback, {} x {}, kernel {}, commit {}.",
        settings.pairs,
        settings.seconds_per_leg,
        host.server,
        host.cpus,
        host.processor,
        host.kernel,
        host.commit
    );
    text(root, &measured, (MARGIN, 52), 13, GREY, HPos::Left)?;
    let cells = "Cells: command / value / P commands in a pipeline / c connections.";
    text(root, cells, (MARGIN, 70), 13, GREY, HPos::Left)
}

/// The agent in every cell.
fn agent(cells: &[Findings]) -> Section {
    let chosen = rows_of(cells, |comparison| comparison.subject == Subject::Agent);
    ratios(
        "The agent: ratio of a run with it to its neighbour without it",
        &chosen,
        |cell, _| cell.name.clone(),
    )
}

/// All subjects in the cells where there is something to compare with.
fn comparisons(cells: &[Findings]) -> Section {
    let compared: Vec<&Findings> = cells.iter().filter(|cell| cell.subjects.len() > 1).collect();
    let chosen = rows_of(compared, |_| true);
    ratios(
        "Beside others: the same ratio with nothing (the noise), with a MONITOR client, with tcpdump",
        &chosen,
        |cell, comparison| format!("{}, {}", cell.name, comparison.subject.name()),
    )
}

fn rows_of<'a>(
    cells: impl IntoIterator<Item = &'a Findings>,
    wanted: impl Fn(&Comparison) -> bool,
) -> Vec<(&'a Findings, &'a Comparison)> {
    cells
        .into_iter()
        .flat_map(|cell| cell.subjects.iter().map(move |comparison| (cell, comparison)))
        .filter(|(_, comparison)| wanted(comparison))
        .collect()
}

fn ratios(
    heading: &'static str,
    chosen: &[(&Findings, &Comparison)],
    label: impl Fn(&Findings, &Comparison) -> String,
) -> Section {
    let rows = chosen
        .iter()
        .map(|(cell, comparison)| Row {
            label: label(cell, comparison),
            colour: colour(comparison.subject),
        })
        .collect();
    let panel = |title, axis, value: fn(&Comparison) -> Spread, target: fn(&Cell) -> Option<f64>| Panel {
        title,
        axis,
        scale: Scale::Ratio,
        values: chosen.iter().map(|(_, comparison)| value(comparison)).collect(),
        targets: chosen.iter().map(|(cell, _)| target(&cell.cell)).collect(),
    };
    Section {
        heading,
        rows,
        panels: vec![
            panel(
                "Throughput",
                "on / off; more is better",
                |c| c.throughput,
                Cell::throughput_target,
            ),
            panel(
                "99th percentile of latency",
                "on / off; less is better",
                |c| c.p99,
                |_| None,
            ),
            panel(
                "CPU of the machine per command",
                "on / off; less is better",
                |c| c.machine_cpu,
                Cell::cpu_target,
            ),
            panel(
                "CPU of the server per command",
                "on / off; less is better",
                |c| c.server_cpu,
                |_| None,
            ),
        ],
    }
}

fn kernel(cells: &[Findings]) -> Section {
    let rows = cells.iter().map(|cell| Row {
        label: cell.name.clone(),
        colour: BLUE,
    });
    let panel = |title, axis, value: fn(&Findings) -> Spread, target: fn(&Cell) -> Option<f64>| Panel {
        title,
        axis,
        scale: Scale::Nanoseconds,
        values: cells.iter().map(value).collect(),
        targets: cells.iter().map(|cell| target(&cell.cell)).collect(),
    };
    Section {
        heading: "In the kernel: time in the agent's programs, by the kernel's statistics",
        rows: rows.collect(),
        panels: vec![
            panel(
                "Both directions",
                "ns per command",
                |c| c.kernel.command_ns,
                Cell::kernel_target,
            ),
            panel(
                "Commands in",
                "ns per command",
                |c| c.kernel.ingress.command_ns,
                Cell::ingress_command_target,
            ),
            panel(
                "Commands in",
                "ns per packet",
                |c| c.kernel.ingress.packet_ns,
                Cell::ingress_packet_target,
            ),
            panel(
                "Replies out",
                "ns per packet",
                |c| c.kernel.egress.packet_ns,
                |_| None,
            ),
        ],
    }
}

fn colour(subject: Subject) -> RGBColor {
    match subject {
        Subject::Agent => BLUE,
        Subject::Monitor => ORANGE,
        Subject::Capture => GREEN,
        Subject::Control => GREY,
    }
}

impl Section {
    fn height(&self) -> u32 {
        SECTION_HEAD + ROW * self.rows.len() as u32 + AXIS
    }

    fn draw(&self, root: &Area<'_>, top: u32) -> Result<()> {
        text(root, self.heading, (MARGIN, top + 8), 16, BLACK, HPos::Left)?;
        let body = top + SECTION_HEAD;
        for (index, row) in self.rows.iter().enumerate() {
            let y = body + ROW * index as u32 + TEXT_IN_ROW;
            text(root, &row.label, (LABELS - 8, y), 13, row.colour, HPos::Right)?;
        }
        let width = (WIDTH - LABELS - MARGIN) / self.panels.len() as u32;
        for (index, panel) in self.panels.iter().enumerate() {
            let left = LABELS + width * index as u32;
            text(root, panel.title, (left, top + 38), 13, BLACK, HPos::Left)?;
            let area = root
                .clone()
                .shrink((left, body), (width, ROW * self.rows.len() as u32 + AXIS));
            panel.draw(&area, &self.rows)?;
        }
        Ok(())
    }
}

/// A line of text, by its upper corner.
fn text(
    area: &Area<'_>,
    words: &str,
    (x, y): (u32, u32),
    size: u32,
    colour: RGBColor,
    side: HPos,
) -> Result<()> {
    let style = TextStyle::from(("sans-serif", size).into_font())
        .color(&colour)
        .pos(Pos::new(side, VPos::Top));
    area.draw_text(words, &style, (x as i32, y as i32))
        .map_err(failed)
}

/// The library's errors borrow from the picture; only their words are kept.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::report::tests::sample;
    use super::*;

    fn drawn(report: &Report) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.svg");
        draw(report, &path).unwrap();
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_picture_names_cells_subjects_and_medians() {
        let svg = drawn(&sample());
        for words in [
            "get/16B/P1/c50, MONITOR",
            "Throughput",
            "0.987",
            "0.456",
            "544",
            "ns per packet",
        ] {
            assert!(svg.contains(words), "no {words} in {svg}");
        }
        assert!(svg.contains("Fast &amp; &lt;small&gt;"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn without_comparisons_their_section_is_left_out() {
        let mut report = sample();
        report.cells[0].subjects.truncate(1);
        let svg = drawn(&report);
        assert!(
            !svg.contains("MONITOR client") && svg.contains("In the kernel"),
            "{svg}"
        );
    }
}
