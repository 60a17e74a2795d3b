//! The terminal: a table that is redrawn in place, or lines one after the other where there is none.

use std::env;
use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Duration;

use anyhow::{Context as _, Result};
use terminal_size::{Height, Width, terminal_size};

use super::frame::Frame;

/// Smallest terminal that the table is drawn for; on a smaller one it is cut off.
const LEAST_WIDTH: usize = 80;
/// Wider than this the table gains nothing.
const MOST_WIDTH: usize = 120;

/// Standard output.
pub(crate) struct Screen {
    terminal: bool,
    /// Lines of the table that stands above the cursor.
    drawn: usize,
    /// Size of the terminal when it was drawn.
    size: (usize, usize),
}

/// What may be used to draw.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub(crate) colours: bool,
    pub(crate) unicode: bool,
    /// Columns, within the bounds that the table is made for.
    pub(crate) width: usize,
    /// Lines.
    pub(crate) height: usize,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let dumb = env::var_os("TERM").is_none_or(|kind| kind == "dumb");
        Self {
            terminal: stdout().is_terminal() && !dumb,
            drawn: 0,
            size: (0, 0),
        }
    }

    /// How often to draw.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(if self.terminal { 1 } else { 5 })
    }

    pub(crate) fn style(&self) -> Style {
        let (width, height) = size();
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style {
            colours: self.terminal && !no_color && width >= LEAST_WIDTH,
            unicode: speaks_utf8(),
            width: width.clamp(LEAST_WIDTH, MOST_WIDTH),
            height,
        }
    }

    /// Prints lines below whatever there is.
    pub(crate) fn print(&mut self, lines: &[String]) -> Result<()> {
        let cursor = if self.drawn > 0 { SHOW_CURSOR } else { "" };
        self.drawn = 0;
        let mut text = cursor.to_owned();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        write(&text)
    }

    /// Redraws the table in place, or prints a block.
    pub(crate) fn draw(&mut self, frame: &Frame<'_>) -> Result<()> {
        if !self.terminal {
            return self.print(&frame.block());
        }
        let size = size();
        let mut text = match (self.drawn, self.size == size) {
            (0, _) => HIDE_CURSOR.to_owned(),
            (lines, true) => format!("\x1b[{lines}A\r"),
            // Lines may have been wrapped anew: start on a clean screen.
            (_, false) => "\x1b[2J\x1b[H".to_owned(),
        };
        let mut lines = frame.table(&self.style());
        // The cursor needs the last line.
        lines.truncate(size.1.saturating_sub(1));
        for line in &lines {
            text.push_str(cut(line, size.0));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.drawn = lines.len();
        self.size = size;
        write(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.drawn > 0 {
            // The terminal may be gone; then it has no cursor either.
            let _ = write(SHOW_CURSOR);
        }
    }
}

impl Style {
    pub(crate) fn heading(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn faint(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn good(&self, text: &str) -> String {
        self.paint("1;32", text)
    }

    pub(crate) fn bad(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// A bar of `share` (0 to 1) of `width` columns.
    pub(crate) fn bar(&self, share: f64, width: usize) -> String {
        let share = if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        };
        let bar = if self.unicode {
            let eighths = (share * 8.0 * width as f64).round() as usize;
            let parts = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
            format!("{}{}", "█".repeat(eighths / 8), parts[eighths % 8])
        } else {
            "#".repeat((share * width as f64).round() as usize)
        };
        self.paint("36", &bar)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

fn size() -> (usize, usize) {
    terminal_size().map_or((LEAST_WIDTH, 24), |(Width(width), Height(height))| {
        (width.into(), height.into())
    })
}

/// Whether the locale says that the terminal shows more than ASCII.
fn speaks_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(|name| env::var(name).ok())
        .find(|value| !value.is_empty())
        .unwrap_or_default()
        .to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// The first columns of a line. On terminals narrower than the table it has no colours, so that no escape is cut.
fn cut(line: &str, columns: usize) -> &str {
    if columns >= LEAST_WIDTH {
        return line;
    }
    line.char_indices()
        .nth(columns)
        .map_or(line, |(end, _)| &line[..end])
}

fn write(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
