//! A table as a frame: which columns fit, which page is shown.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};

use super::state::{Sort, Top};
use super::table::{Column, Row, Tone};

/// Space between two columns.
const GAP: usize = 2;

/// Space before the first column: the mark of a storm.
const MARK: usize = 2;

/// Widest column of words, unless it is the last.
const WORDS: usize = 40;

/// Narrowest that a column of words is made so that others fit.
const WORDS_LEAST: usize = 8;

/// A column that is shown.
#[derive(Clone, Copy)]
struct Shown {
    index: usize,
    width: usize,
}

/// Draws the page with the selected row, and returns the columns that had no room.
pub(super) fn draw(
    top: &Top,
    rows: &[Row],
    selected: usize,
    area: Rect,
    frame: &mut Frame<'_>,
) -> Vec<usize> {
    let columns = top.view.columns();
    let shown = fitting(columns, rows, usize::from(area.width).saturating_sub(MARK));
    let page = usize::from(area.height.saturating_sub(1)).max(1);
    let first = selected / page * page;
    let lines = rows
        .iter()
        .enumerate()
        .skip(first)
        .take(page)
        .map(|(index, row)| {
            let line = line(row, columns, &shown);
            if index == selected { line.reversed() } else { line }
        });
    let lines = std::iter::once(header(columns, &shown, top.sort())).chain(lines);
    for (line, place) in lines.zip(area.rows()) {
        frame.render_widget(line, place);
    }
    let is_hidden = |index: &usize| shown.iter().all(|shown| shown.index != *index);
    (0..columns.len()).filter(is_hidden).collect()
}

fn header(columns: &[Column], shown: &[Shown], sort: Sort) -> Line<'static> {
    let names = shown.iter().map(|shown| {
        let column = &columns[shown.index];
        let mark = match (shown.index == sort.column, sort.descending) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        let name = if column.number {
            format!("{mark}{}", column.name)
        } else {
            format!("{}{mark}", column.name)
        };
        padded(name, column, shown.width)
    });
    let mark = Span::raw(" ".repeat(MARK));
    Line::from_iter(std::iter::once(mark).chain(names))
        .bold()
        .underlined()
}

fn line(row: &Row, columns: &[Column], shown: &[Shown]) -> Line<'static> {
    let mark = match row.tone {
        Tone::Plain | Tone::Over => Span::raw(" "),
        tone => Span::styled("!", loud(tone)),
    };
    let cells = shown.iter().map(|shown| {
        let text = cut(&row.cells[shown.index].text, shown.width);
        padded(text, &columns[shown.index], shown.width)
    });
    let start = [mark, Span::raw(" ".repeat(MARK - 1))];
    Line::from_iter(start.into_iter().chain(cells)).style(quiet(row.tone))
}

/// With the gap behind it.
fn padded(text: String, column: &Column, width: usize) -> Span<'static> {
    let room = " ".repeat(width.saturating_sub(width_of(&text)));
    let gap = " ".repeat(GAP);
    Span::raw(if column.number {
        room + &text + &gap
    } else {
        text + &room + &gap
    })
}

/// A row by its tone.
const fn quiet(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Over => Style::new().dim(),
        Tone::Info | Tone::Warning | Tone::Critical => Style::new().bold(),
    }
}

/// What has to be seen at once: with a background of its own it is legible on any other, light or dark.
pub(super) const fn loud(tone: Tone) -> Style {
    let (text, background) = match tone {
        Tone::Plain | Tone::Over => return Style::new(),
        Tone::Info => (Color::Black, Color::Cyan),
        Tone::Warning => (Color::Black, Color::Yellow),
        Tone::Critical => (Color::White, Color::Red),
    };
    // In the selected row, too, it is as it is.
    Style::new().fg(text).bg(background).bold().not_reversed()
}

/// The columns that fit. The last one takes what is left if it is of words.
fn fitting(columns: &[Column], rows: &[Row], room: usize) -> Vec<Shown> {
    let all = columns.iter().enumerate();
    let mut shown: Vec<Shown> = all
        .map(|(index, column)| Shown {
            index,
            width: width(index, column, rows),
        })
        .collect();
    while needed(&shown) > room {
        let least = shown.iter().map(|shown| columns[shown.index].rank).max();
        let Some(rank) = least.filter(|rank| *rank > 0) else {
            break;
        };
        shown.retain(|shown| columns[shown.index].rank < rank);
    }
    // Still too wide: the widest words are cut.
    while needed(&shown) > room {
        let words = shown
            .iter_mut()
            .filter(|shown| !columns[shown.index].number && shown.width > WORDS_LEAST);
        let Some(widest) = words.max_by_key(|shown| shown.width) else {
            break;
        };
        widest.width -= 1;
    }
    let left = room.saturating_sub(needed(&shown));
    if let Some(last) = shown.last_mut()
        && !columns[last.index].number
    {
        last.width += left;
    }
    shown
}

fn needed(shown: &[Shown]) -> usize {
    let widths: usize = shown.iter().map(|shown| shown.width).sum();
    widths + shown.len().saturating_sub(1) * GAP
}

fn width(index: usize, column: &Column, rows: &[Row]) -> usize {
    let cells = rows.iter().map(|row| width_of(&row.cells[index].text));
    let widest = cells.max().unwrap_or(0).min(WORDS);
    // Room for the mark of the sorted column.
    widest.max(usize::from(column.width)).max(column.name.len() + 1)
}

/// As many columns of the terminal as it takes.
fn width_of(text: &str) -> usize {
    Span::raw(text).width()
}

/// The beginning of a sentence that is too long.
pub(super) fn begun(text: &str, width: usize) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    format!("{}…", fitting_start(text, width.saturating_sub(1)))
}

/// Names differ at their ends as well as at their beginnings: what is left out is in the middle.
pub(super) fn cut(text: &str, width: usize) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let end = fitting_end(text, room / 2);
    let start = fitting_start(text, room - width_of(end));
    format!("{start}…{end}")
}

fn fitting_start(text: &str, room: usize) -> &str {
    let ends = text.char_indices().map(|(end, _)| &text[..end]);
    ends.take_while(|start| width_of(start) <= room)
        .last()
        .unwrap_or("")
}

fn fitting_end(text: &str, room: usize) -> &str {
    let mut starts = text.char_indices().map(|(start, _)| &text[start..]);
    starts.find(|end| width_of(end) <= room).unwrap_or("")
}
