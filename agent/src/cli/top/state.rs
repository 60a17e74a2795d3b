//! What is on the screen, and what keys do to it. Pure: readings and keys in, a state out.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use stormglass::storms::Moment;

use super::data::{Fault, Pair, Reading};
use super::table::{Row, View};

/// Rows that Page Up and Page Down go.
const PAGE: isize = 10;

/// Whether it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    Quit,
}

/// What a table is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) column: usize,
    pub(super) descending: bool,
}

/// How one view is looked at.
#[derive(Debug)]
struct Manner {
    sort: Sort,
    /// The selected row by what it is about: it stays selected when others overtake it.
    subject: Option<String>,
    /// The selected row by its place, where it has no subject yet or that is gone.
    place: usize,
}

/// The state.
#[derive(Debug)]
pub(super) struct Top {
    /// Whose numbers these are.
    pub(super) source: String,
    pub(super) view: View,
    manners: [Manner; 4],
    /// Rows have to contain this.
    pub(super) filter: String,
    /// Keys are typed into the filter.
    pub(super) typing: bool,
    pub(super) help: bool,
    /// What is shown instead of the latest.
    frozen: Option<Pair>,
    latest: Option<Pair>,
    /// Why there is nothing newer.
    pub(super) fault: Option<Fault>,
}

impl Top {
    /// Nothing is known yet.
    pub(super) fn new(source: String) -> Self {
        Self {
            source,
            view: View::Servers,
            manners: View::ALL.map(|view| Manner {
                sort: Sort {
                    column: view.first_sort(),
                    descending: true,
                },
                subject: None,
                place: 0,
            }),
            filter: String::new(),
            typing: false,
            help: false,
            frozen: None,
            latest: None,
            fault: None,
        }
    }

    /// Takes an answer, or why there is none. Over a gap nothing is compared: behind it may be another run of the agent.
    pub(super) fn take(&mut self, answer: Result<Reading, Fault>) {
        let reading = match answer {
            Ok(reading) => reading,
            Err(fault) => {
                self.fault = Some(fault);
                return;
            }
        };
        self.latest = Some(match (self.latest.take(), self.fault.take()) {
            (Some(latest), None) => latest.next(reading),
            _ => Pair::first(reading),
        });
    }

    /// What is to be shown.
    pub(super) fn shown(&self) -> Option<&Pair> {
        self.frozen.as_ref().or(self.latest.as_ref())
    }

    /// How old the frozen numbers are.
    pub(super) fn frozen_for(&self) -> Option<Duration> {
        let (frozen, latest) = (self.frozen.as_ref()?, self.latest.as_ref()?);
        Some(latest.now.at.saturating_sub(frozen.now.at))
    }

    pub(super) fn sort(&self) -> Sort {
        self.manners[self.view as usize].sort
    }

    /// How old the numbers are for want of newer ones.
    pub(super) fn waiting_for(&self) -> Option<Duration> {
        let (fault, latest) = (self.fault.as_ref()?, self.latest.as_ref()?);
        Some(fault.at.saturating_sub(latest.now.at))
    }

    /// The index of the selected row, if there are any.
    pub(super) fn selected(&self, rows: &[Row]) -> Option<usize> {
        let manner = &self.manners[self.view as usize];
        let subject = manner.subject.as_ref();
        let found = subject.and_then(|subject| rows.iter().position(|row| row.subject == *subject));
        Some(found.unwrap_or(manner.place).min(rows.len().checked_sub(1)?))
    }

    /// The rows of the view that the filter leaves, sorted.
    pub(super) fn rows(&self, now: Moment) -> Vec<Row> {
        let Some(pair) = self.shown() else {
            return Vec::new();
        };
        let mut rows = self.view.rows(pair, now);
        rows.retain(|row| row.contains(&self.filter));
        let sort = self.sort();
        rows.sort_by(|one, other| {
            let order = one.cells[sort.column].order(&other.cells[sort.column]);
            if sort.descending { order.reverse() } else { order }
        });
        rows
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Flow {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Flow::Quit,
                _ => Flow::GoOn,
            };
        }
        if self.typing {
            self.type_filter(key.code);
            return Flow::GoOn;
        }
        if self.help {
            self.help = false;
            return Flow::GoOn;
        }
        self.command(key.code)
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(character) => self.filter.push(character),
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.typing = false;
            }
            _ => {}
        }
    }

    fn command(&mut self, code: KeyCode) -> Flow {
        match code {
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char('1') => self.view = View::Servers,
            KeyCode::Char('2') => self.view = View::Tenants,
            KeyCode::Char('3') => self.view = View::Clients,
            KeyCode::Char('4') => self.view = View::Storms,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(3),
            KeyCode::Char('s') => self.sort_by_next(1),
            KeyCode::Char('S') => self.sort_by_next(self.view.columns().len() - 1),
            KeyCode::Char('r') => {
                let sort = &mut self.manner().sort;
                sort.descending = !sort.descending;
            }
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('f' | ' ') => self.freeze(),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::PageDown => self.move_by(PAGE),
            KeyCode::PageUp => self.move_by(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX),
            _ => {}
        }
        Flow::GoOn
    }

    fn manner(&mut self) -> &mut Manner {
        &mut self.manners[self.view as usize]
    }

    fn turn(&mut self, by: usize) {
        self.view = View::ALL[(self.view as usize + by) % View::ALL.len()];
    }

    /// Numbers the largest first, words by the alphabet.
    fn sort_by_next(&mut self, by: usize) {
        let columns = self.view.columns();
        let column = (self.sort().column + by) % columns.len();
        self.manner().sort = Sort {
            column,
            descending: columns[column].number,
        };
    }

    fn freeze(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => self.latest.clone(),
        };
    }

    /// Not beyond the first and the last row. At the first place the selection is whatever comes first.
    fn move_by(&mut self, by: isize) {
        let rows = self.rows(Moment(0));
        let Some(selected) = self.selected(&rows) else {
            return;
        };
        let place = selected.saturating_add_signed(by).min(rows.len() - 1);
        let subject = (place > 0).then(|| rows[place].subject.clone());
        let manner = self.manner();
        (manner.subject, manner.place) = (subject, place);
    }
}
