//! The report for a terminal.

use super::super::statistics::Spread;
use super::report::{Comparison, Findings, Report};

/// Columns of a cell's name, of a subject's, and of a ratio with its quartiles.
const CELL: usize = 19;
const SUBJECT: usize = 11;
const RATIO: usize = 21;

/// More of the machine than this in other hands, and the ratios are rough.
const MOST_ELSEWHERE: f64 = 0.05;

/// All of it, as lines.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut lines = ratios(&report.cells);
    lines.push(String::new());
    lines.extend(absolutes(&report.cells));
    lines.push(String::new());
    lines.extend(remarks(report));
    lines
}

fn ratios(cells: &[Findings]) -> Vec<String> {
    let mut lines = vec![
        "ON / OFF: median of the pairs (quartiles)".to_owned(),
        format!(
            "{:CELL$}{:SUBJECT$}{:RATIO$}{:RATIO$}{:RATIO$}{}",
            "CELL", "WITH", "THROUGHPUT", "P99 LATENCY", "MACHINE CPU/COMMAND", "SERVER CPU/COMMAND"
        ),
    ];
    for cell in cells {
        for comparison in &cell.subjects {
            lines.push(ratio_line(&cell.name, comparison));
        }
    }
    lines
}

fn ratio_line(cell: &str, comparison: &Comparison) -> String {
    let spreads = [
        comparison.throughput,
        comparison.p99,
        comparison.machine_cpu,
        comparison.server_cpu,
    ];
    let ratios: String = spreads.map(|spread| format!("{:RATIO$}", ratio(spread))).concat();
    let line = format!("{cell:CELL$}{:SUBJECT$}{ratios}", comparison.subject.name());
    line.trim_end().to_owned()
}

/// `0.981 (0.975-0.990)`
fn ratio(spread: Spread) -> String {
    format!(
        "{:.3} ({:.3}-{:.3})",
        spread.median, spread.first_quartile, spread.third_quartile
    )
}

fn absolutes(cells: &[Findings]) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{:CELL$}{:<41}{:<34}{}",
            "", "ALONE: medians", "KERNEL ns: medians, of a command", "of a packet"
        ),
        format!(
            "{:CELL$}{:>12}{:>9}{:>10}{:>10}{:>9}{:>8}{:>8}{:>10}{:>8}{:>10}",
            "CELL", "commands/s", "p99 ms", "machine", "server", "in", "out", "both", "in", "out", "cmds/pkt"
        ),
    ];
    for cell in cells {
        let (alone, kernel) = (&cell.alone, &cell.kernel);
        lines.push(format!(
            "{:CELL$}{:>12.0}{:>9.3}{:>7.2} us{:>7.2} us{:>9.0}{:>8.0}{:>8.0}{:>10.0}{:>8.0}{:>10.2}",
            cell.name,
            alone.commands_per_second.median,
            alone.p99_ms.median,
            alone.machine_us_per_command.median,
            alone.server_us_per_command.median,
            kernel.ingress.command_ns.median,
            kernel.egress.command_ns.median,
            kernel.command_ns.median,
            kernel.ingress.packet_ns.median,
            kernel.egress.packet_ns.median,
            kernel.ingress.commands_per_packet.median,
        ));
    }
    lines
}

/// What makes figures worth less than they look.
fn remarks(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "{} pairs of {} s, seed {}; {} on {} x {}, kernel {}, commit {}",
        report.settings.pairs,
        report.settings.seconds_per_leg,
        report.settings.seed,
        report.host.server,
        report.host.cpus,
        report.host.processor,
        report.host.kernel,
        report.host.commit,
    )];
    for cell in &report.cells {
        if cell.alone.elsewhere.median > MOST_ELSEWHERE {
            lines.push(format!(
                "rough: in {} other processes used {:.0} % of the machine; repeat it on a quiet one",
                cell.name,
                cell.alone.elsewhere.median * 100.0
            ));
        }
        for comparison in &cell.subjects {
            // Below a tenth of a per cent it would be rounded to a whole.
            if comparison.saw.median < 0.999 {
                lines.push(format!(
                    "cheap: in {} {} saw only {:.1} % of the traffic",
                    cell.name,
                    comparison.subject.name(),
                    comparison.saw.median * 100.0
                ));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn a_ratio_fits_its_column() {
        let spread = Spread::of([0.975, 0.981, 12.99]).unwrap();
        assert_eq!(ratio(spread), "0.981 (0.978-6.986)");
        assert!(ratio(spread).len() < RATIO);
    }

    #[test]
    fn every_subject_and_cell_has_a_line() {
        let text = lines(&sample()).join("\n");
        for line in [
            "get/16B/P1/c50     Stormglass 0.987 (0.987-0.987)",
            "get/16B/P1/c50     MONITOR    0.456 (0.456-0.456)",
            "get/16B/P1/c50             1000    2.000  20.00 us  10.00 us      300     244     544",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_makes_figures_worth_less_is_said() {
        let text = lines(&sample()).join("\n");
        assert!(
            text.contains("other processes used 20 % of the machine"),
            "{text}"
        );
        assert!(text.contains("MONITOR saw only 75.0 %"), "{text}");
    }
}
