//! What a conversation comes to, the simple way: both streams whole in memory, messages found by the crate
//! `redis-protocol`, replies matched one by one by what they say. It shares nothing with the meter but the numbers that
//! must come out.

mod details;
pub(crate) mod frames;
mod matching;
pub(crate) mod places;

use std::collections::BTreeMap;

use agent_common::abi::Direction;

use self::{
    frames::{Words, requests},
    matching::Matching,
    places::{Keys, place},
};
use crate::books::{Books, Counts, Details};

/// What a conversation comes to.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) books: Books,
    /// Without durations: bytes tell nothing of moments.
    pub(crate) details: BTreeMap<String, Details>,
}

/// The books of a conversation that the meter has seen whole. It begins with RESP2 and no subscription.
pub(crate) fn books(requests: &[u8], replies: &[u8], keys: &Keys) -> Books {
    account(requests, replies, keys).books
}

/// The same with the details of the rows.
pub(crate) fn account(requests_bytes: &[u8], replies: &[u8], keys: &Keys) -> Account {
    let mut account = Account::default();
    let mut matching = Matching::default();
    let requests = requests(requests_bytes);
    let mut read = 0;
    for (words, length) in &requests.whole {
        read += length;
        let row = ask(&mut account, words, *length, keys);
        if words.is_empty() {
            let blank = matches!(requests_bytes[read - length], b' ' | b'\t');
            if !blank {
                matching.ask_nothing();
            }
            continue;
        }
        matching.ask(words, &row);
        let links = |name: &[u8]| name.eq_ignore_ascii_case(b"psync") || name.eq_ignore_ascii_case(b"sync");
        if links(&words[0]) {
            let link = (requests_bytes.len() - read) as u64;
            account.books.rows.entry(row).or_default().bytes_in += link;
            matching.answer(replies, &mut account);
            return finish(account);
        }
    }
    if let Some(rest) = &requests.rest {
        unfinished(&mut account.books, rest, keys);
    }
    let answered = matching.answer(replies, &mut account);
    if requests.rest.is_some_and(|rest| rest.refused != 0) {
        let refusal = (replies.len() - answered) as u64;
        account
            .books
            .unattributed
            .insert((Direction::Out, "protocol_error"), refusal);
    } else {
        assert_eq!(answered, replies.len(), "a reply that answers nothing");
    }
    finish(account)
}

/// A whole command, or a line without one. Returns its row.
fn ask(account: &mut Account, words: &Words<'_>, length: usize, keys: &Keys) -> String {
    let place = place(words, keys);
    let row = place.row.unwrap_or_else(|| "(keyless)".to_owned());
    let books = &mut account.books;
    let counts = books.rows.entry(row.clone()).or_default();
    counts.bytes_in += length as u64;
    counts.commands += u64::from(!words.is_empty());
    if !place.known {
        *books.losses.entry("unknown_command").or_default() += 1;
    }
    if !words.is_empty() {
        account.details.entry(row.clone()).or_default().request(length);
    }
    row
}

/// A command that does not end, or that the server refuses: what has come of it belongs to its row, if that is known.
fn unfinished(books: &mut Books, rest: &frames::Rest<'_>, keys: &Keys) {
    let place = place(&rest.words, keys);
    if !place.known {
        *books.losses.entry("unknown_command").or_default() += 1;
    }
    let good = rest.good as u64;
    let refused = rest.refused as u64;
    let lost = match place.row {
        Some(row) => {
            books.rows.entry(row).or_default().bytes_in += good;
            refused
        }
        None if refused != 0 => good + refused,
        None => {
            books.unfinished.insert(Direction::In, good);
            0
        }
    };
    if lost != 0 {
        books.unattributed.insert((Direction::In, "protocol_error"), lost);
    }
}

fn finish(mut account: Account) -> Account {
    let books = &mut account.books;
    books.rows.retain(|_, counts| *counts != Counts::default());
    books.unattributed.retain(|_, bytes| *bytes != 0);
    account
}
