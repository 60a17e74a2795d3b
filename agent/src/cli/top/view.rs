//! The state as a frame.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Padding, Paragraph, Wrap};
use stormglass::numbers::{bytes, span};
use stormglass::storms::{Moment, Storm};

use super::data::{Pair, Server};
use super::grid;
use super::state::Top;
use super::table::{Row, Tone, View, lasted, loudness, per_second, tone};

const NAME: &str = "stormglass  ";

/// Characters of the agent's address below which it says nothing.
const SOURCE_LEAST: usize = 12;

/// Lines below which nothing but the table is shown.
const ROOM_FOR_DETAIL: u16 = 18;

/// Between two values in a line of them.
const BETWEEN: &str = "   ";

/// Lines of a row's details, with the rule above them.
const DETAIL: u16 = 8;

const HELP: &[(&str, &str)] = &[
    ("1 2 3 4, Tab", "servers, tenants, clients, storms"),
    ("Up Down, j k", "select a row; Page Up, Page Down, g, G"),
    ("s, S", "sort by the next column, the one before"),
    ("r", "reverse the order"),
    ("/", "show only rows with a text; Enter keeps it, Esc ends it"),
    ("f, space", "freeze the numbers, and let them go on"),
    ("q, Ctrl-C", "quit"),
    ("", ""),
    ("/S", "per second, between the last two answers of the agent"),
    (
        "QUEUE, LIMIT",
        "connections that wait to be accepted, and how many may",
    ),
    ("CLIENT", "a workload: a rule's, an owner of pods, or an address"),
    ("INST", "different addresses that hold connections"),
    ("IDLE", "share of the connections on which nothing is said"),
    (
        "BUSY P99",
        "connections per instance that are in use, 99 of 100 times",
    ),
    ("P50, P99, HITS", "since the agent first saw the tenant"),
];

/// Draws everything.
pub(super) fn draw(top: &Top, now: Moment, frame: &mut Frame<'_>) {
    let rows = top.rows(now);
    let selected = top.selected(&rows);
    let has_detail = frame.area().height >= ROOM_FOR_DETAIL;
    let [head, tabs, storm, summary, table, detail, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(if has_detail { DETAIL } else { 0 }),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_header(top, head, frame);
    draw_views(top, tabs, frame);
    let (worst, why) = weather(top, now);
    frame.render_widget(worst, storm);
    // Why there is no answer is said below, where there is room for all of it.
    if top.fault.is_none() || !has_detail {
        let why = grid::begun(&why, usize::from(summary.width));
        frame.render_widget(Line::from(why), summary);
    }
    let hidden = match selected {
        Some(selected) => grid::draw(top, &rows, selected, table, frame),
        None => {
            frame.render_widget(Paragraph::new(nothing(top)).dim(), table);
            Vec::new()
        }
    };
    match (&top.fault, selected) {
        _ if !has_detail => {}
        (Some(fault), _) => draw_below(
            "no answer",
            vec![Line::from(fault.reason.as_str())],
            detail,
            frame,
        ),
        (None, Some(selected)) => draw_detail(top.view, &rows[selected], &hidden, detail, frame),
        (None, None) => {}
    }
    draw_footer(top, selected, rows.len(), foot, frame);
    if top.help {
        draw_help(frame);
    }
}

/// Whose numbers, and all servers together, as far as there is room.
fn draw_header(top: &Top, area: Rect, frame: &mut Frame<'_>) {
    let width = usize::from(area.width);
    let mut totals = String::new();
    for part in top.shown().map(parts).unwrap_or_default() {
        if totals.len() + part.len() < width {
            totals += &part;
        }
    }
    let room = width.saturating_sub(totals.len() + 2);
    let mut source = vec![Span::raw(" ")];
    if NAME.len() + top.source.len() <= room {
        source.push(NAME.bold());
    }
    if room >= SOURCE_LEAST {
        source.push(Span::raw(grid::cut(&top.source, room)));
    }
    frame.render_widget(Line::from(source), area);
    draw_right(Line::from(totals + " "), area, frame);
}

fn parts(pair: &Pair) -> [String; 4] {
    let changes = pair.servers();
    let connections: u64 = pair.now.servers.iter().map(|server| server.connections).sum();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let commands = or_none(changes.sum(|server| server.commands).map(per_second));
    let received = or_none(changes.sum(Server::all_in).map(bytes));
    let sent = or_none(changes.sum(Server::all_out).map(bytes));
    [
        format!("  {connections} conns"),
        format!("  {commands} cmds/s"),
        format!("  {received}/s in"),
        format!("  {sent}/s out"),
    ]
}

/// Over what is there: what stands at the right is the more important.
fn draw_right(line: Line<'_>, area: Rect, frame: &mut Frame<'_>) {
    let width = (line.width() as u16).min(area.width);
    let place = Rect {
        x: area.right() - width,
        width,
        ..area
    };
    frame.render_widget(Clear, place);
    frame.render_widget(line, place);
}

/// The views, and how many rows each has.
fn draw_views(top: &Top, area: Rect, frame: &mut Frame<'_>) {
    let tabs = View::ALL.into_iter().enumerate().map(|(number, view)| {
        let count = top.shown().map_or(0, |pair| rows_of(view, pair));
        let words = format!(" {} {} {count} ", number + 1, view.title());
        if view == top.view {
            words.reversed().bold()
        } else {
            Span::raw(words)
        }
    });
    frame.render_widget(Line::from_iter(tabs), area);
    if let Some(age) = top.frozen_for() {
        let badge = badge(format!(" FROZEN {} s ", age.as_secs()), Tone::Info);
        draw_right(Line::from(badge), area, frame);
    }
}

fn rows_of(view: View, pair: &Pair) -> usize {
    match view {
        View::Servers => pair.now.servers.len(),
        View::Tenants => pair.now.tenants.len(),
        View::Clients => pair.now.workloads.len(),
        View::Storms => pair.now.active.len() + pair.now.ended.len(),
    }
}

/// The worst storm that goes on, or what keeps numbers from coming: what it is, and a line about it.
fn weather(top: &Top, now: Moment) -> (Line<'_>, String) {
    if let Some(fault) = &top.fault {
        let since = top.waiting_for().unwrap_or_default().as_secs();
        let words = format!("  no new numbers for {since} s; asking again and again");
        let badge = badge(" NO ANSWER ".into(), Tone::Warning);
        let line = Line::from(vec![Span::raw(" "), badge, Span::raw(words)]);
        return (line, format!(" {}", fault.reason));
    }
    let Some(pair) = top.shown() else {
        return Default::default();
    };
    match pair.now.active.iter().max_by_key(|storm| loudness(storm)) {
        Some(worst) => storm_lines(worst, pair.now.active.len() - 1, now),
        None => (Line::from(" no storm").green(), String::new()),
    }
}

fn storm_lines(storm: &Storm, others: usize, now: Moment) -> (Line<'_>, String) {
    let expected = if storm.expected { ", expected" } else { "" };
    let others = match others {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    let words = format!(
        "  {}{expected} at {} for {}{others}",
        storm.severity.label(),
        storm.server,
        span(lasted(storm, now)),
    );
    let badge = badge(" STORM ".into(), tone(storm));
    let line = Line::from(vec![Span::raw(" "), badge, words.bold()]);
    (line, format!(" {}", storm.summary))
}

/// Words that are seen at once.
fn badge(words: String, tone: Tone) -> Span<'static> {
    Span::styled(words, grid::loud(tone))
}

fn nothing(top: &Top) -> String {
    if !top.filter.is_empty() {
        return format!(" no row has {:?}; Esc shows all", top.filter);
    }
    match (top.shown(), top.view) {
        (None, _) => " waiting for the first numbers".into(),
        (_, View::Servers) => " no server on this host".into(),
        (_, View::Tenants) => " no tenant".into(),
        (_, View::Clients) => " no client is connected".into(),
        (_, View::Storms) => " no storm since the agent started".into(),
    }
}

/// What the table has no room for.
fn draw_detail(view: View, row: &Row, hidden: &[usize], area: Rect, frame: &mut Frame<'_>) {
    let mut lines = Vec::new();
    // Of storms it is in their story.
    if view != View::Storms {
        lines = hidden_cells(view, row, hidden, usize::from(area.width.saturating_sub(2)));
    }
    lines.extend(row.detail.iter().map(|line| Line::from(line.as_str())));
    draw_below(&row.title, lines, area, frame);
}

fn draw_below(title: &str, lines: Vec<Line<'_>>, area: Rect, frame: &mut Frame<'_>) {
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(Style::new().dim())
        .title(format!(" {title} "))
        .padding(Padding::horizontal(1));
    let lines = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(lines.block(block), area);
}

/// As many in a line as fit.
fn hidden_cells(view: View, row: &Row, hidden: &[usize], width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for index in hidden {
        let (name, cell) = (view.columns()[*index].name, &row.cells[*index].text);
        let pair = [
            Span::raw(name.to_lowercase()).dim(),
            Span::raw(format!(" {cell}")),
        ];
        let needed: usize = pair.iter().map(Span::width).sum();
        match lines.last_mut() {
            Some(line) if line.width() + BETWEEN.len() + needed <= width => {
                line.push_span(BETWEEN);
                line.extend(pair);
            }
            _ => lines.push(Line::from_iter(pair)),
        }
    }
    lines
}

fn draw_footer(top: &Top, selected: Option<usize>, rows: usize, area: Rect, frame: &mut Frame<'_>) {
    let style = Style::new().reversed();
    let keys = if top.typing {
        format!(" filter: {}_   Enter keeps it, Esc ends it", top.filter)
    } else if top.filter.is_empty() {
        " q quit   ? help   Tab view   s sort   r reverse   / filter   f freeze".into()
    } else {
        format!(" filter: {}   Esc shows all   / adds to it   ? help", top.filter)
    };
    frame.render_widget(Line::from(keys).style(style), area);
    if let Some(selected) = selected {
        let place = format!("  {}/{rows} ", selected + 1);
        draw_right(Line::from(place).style(style), area, frame);
    }
}

fn draw_help(frame: &mut Frame<'_>) {
    let lines: Vec<_> = HELP
        .iter()
        .map(|(key, what)| Line::from(vec![format!(" {key:<15}").bold(), Span::raw(*what)]))
        .collect();
    let area = frame.area();
    let (width, height) = (78.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let place = Rect::new(
        (area.width - width) / 2,
        (area.height - height) / 2,
        width,
        height,
    );
    frame.render_widget(Clear, place);
    let block = Block::bordered()
        .title(" Help ")
        .title_bottom(Line::from(" any key closes it ").alignment(Alignment::Right));
    frame.render_widget(Paragraph::new(lines).block(block), place);
}
