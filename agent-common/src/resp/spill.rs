//! Commands that wait beyond what a connection itself has room for: see [`Spill`](crate::abi::Spill).

use super::Ledger;
use crate::abi::{Commands, Connection, Pushed, Row, Waiting};

/// Appends commands for which the connection's queue has no room: to its spill, or roughly where it can have none.
#[inline(always)]
pub fn push_beyond<L: Ledger>(ledger: &mut L, connection: &mut Connection, commands: &Commands) -> Pushed {
    let overflow = Row::special(connection.slot, Row::OTHER);
    let runs = &mut connection.runs;
    if runs.can_spill()
        && let Some(spill) = ledger.spill(true)
    {
        return runs.push_spilled(spill, commands, overflow);
    }
    runs.push_roughly(commands, overflow)
}

/// The oldest command that waits, which is in the spill.
#[inline(always)]
pub fn front_of_spill<L: Ledger>(ledger: &mut L, connection: &mut Connection) -> Waiting {
    match ledger.spill(false) {
        Some(spill) => connection.runs.front_of_spill(spill),
        None => Waiting::NOBODY,
    }
}
