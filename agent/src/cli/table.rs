//! What commands print: tables for people, JSON for programs.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A column: its name, and on which side its cells are flush.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    right: bool,
}

impl Column {
    /// A column of words.
    pub(super) const fn text(name: &'static str) -> Self {
        Self { name, right: false }
    }

    /// A column of numbers.
    pub(super) const fn number(name: &'static str) -> Self {
        Self { name, right: true }
    }
}

/// The table as text: a line of names, then a line per row. Missing cells are empty.
pub(super) fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(column.name.len())
        })
        .collect();
    let names: Vec<String> = columns.iter().map(|column| column.name.into()).collect();
    let lines = std::iter::once(&names).chain(rows);
    lines.map(|cells| line(columns, &widths, cells)).collect()
}

/// Prints text. A reader that has gone (`| head`) is no error.
pub(super) fn show(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the answer")
        }
        _ => Ok(()),
    }
}

/// Prints JSON.
pub(super) fn show_json(value: &Value) -> Result<()> {
    show(&format!("{value:#}\n"))
}

fn line(columns: &[Column], widths: &[usize], cells: &[String]) -> String {
    let mut line = String::new();
    for ((column, width), cell) in columns.iter().zip(widths).zip(cells) {
        if column.right {
            line.push_str(&format!("{cell:>width$}  "));
        } else {
            line.push_str(&format!("{cell:<width$}  "));
        }
    }
    let mut line = line.trim_end().to_owned();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_flush_left_and_numbers_flush_right() {
        let columns = [Column::text("name"), Column::number("n"), Column::text("note")];
        let rows = [["käse", "7", ""], ["x", "1234", "-"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(
            table(&columns, &rows),
            "name     n  note\nkäse     7\nx     1234  -\n"
        );
    }
}
