//! What has to be true of the meter's books after a random conversation.

use std::{collections::BTreeMap, fmt};

use agent_common::abi::{Direction, KeySettings};

use super::{
    Conversation, Script, Stream,
    choices::Choices,
    conversation,
    delivery::{Delivery, Style},
    gaps,
    talk::conversation_with_quiet_point,
};
use crate::{
    books::{Books, Counts, Details},
    model,
    wire::Wire,
};

/// Nothing, or what is wrong.
type Checked = Result<(), Box<Difference>>;

/// What is wrong with a case.
#[derive(Debug)]
pub(crate) struct Difference {
    what: String,
    expected: Books,
    counted: Books,
    /// What the meter has seen, as a capture tells it.
    story: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            expected,
            counted,
            story,
        } = self;
        write!(f, "{what}\n\nexpected:{expected:?}\ncounted:{counted:?}\n{story}")
    }
}

/// Runs one case.
pub(crate) fn check(script: &Script) -> Checked {
    let mut choices = Choices::new(&script.delivery);
    match choices.below(8) {
        0..=4 => whole(&conversation(script), &Style::harmless(&mut choices)),
        5 => broken_off(&conversation(script), &mut choices),
        _ => lossy(script, &mut choices),
    }
}

/// Everything that TCP does which costs nothing: the books are those of the model.
fn whole(conversation: &Conversation, style: &Style) -> Checked {
    let mut wire = style.wire();
    let mut delivery = deliver(&mut wire, conversation, style);
    delivery.run(style, ends(conversation));
    let (requests, replies) = (&conversation.requests.bytes, &conversation.replies.bytes);
    let expected = model::account(requests, replies, &conversation.keys);
    let checked = compare(conversation, expected.books.clone(), delivery.books());
    checked
        .and_then(|()| compare_details(conversation, &expected, &delivery))
        .map_err(|wrong| wrong.told_by(&delivery))
}

/// What the rows keep beside their books, durations apart.
fn compare_details(
    conversation: &Conversation,
    expected: &model::Account,
    delivery: &Delivery<'_>,
) -> Checked {
    let counted = delivery.books();
    if counted.losses.contains_key("run_queue_full") {
        return Ok(());
    }
    let mut all = delivery.details();
    // Replication is bytes alone.
    for name in expected.books.rows.keys().filter(|name| *name != "(replication)") {
        let mut counted_details = Details {
            durations: BTreeMap::new(),
            duration_units: 0,
            ..all.remove(name).unwrap_or_default()
        };
        let expected_details = expected.details.get(name).cloned().unwrap_or_default();
        if conversation.deep && counted.losses.contains_key("coarse_reply") {
            counted_details.hits = expected_details.hits;
            counted_details.misses = expected_details.misses;
        }
        if counted_details != expected_details {
            let what = format!("{name}: expected {expected_details:?}, counted {counted_details:?}");
            return Err(difference(&what, expected.books.clone(), counted));
        }
    }
    Ok(())
}

fn compare(conversation: &Conversation, expected: Books, mut counted: Books) -> Checked {
    // About moments, of which the model knows nothing.
    counted.losses.remove("coarse_reply");
    // Who the client is has tests of its own.
    counted.losses.remove("identity_unread");
    counted.losses.remove("name_cut");
    if counted == expected {
        return Ok(());
    }
    if conversation.deep && counted.losses.contains_key("run_queue_full") {
        return overflown(expected, counted);
    }
    Err(difference("the books differ", expected, counted))
}

/// Too many runs waited at once: requests are exact, and replies that are in no row of theirs are in `(other)`.
///
/// A command that changes how the connection goes on cannot be among them: from there on bytes are unattributed.
fn overflown(expected: Books, counted: Books) -> Checked {
    let gives_up = |(_, reason): &(Direction, &str)| *reason == "queue_full";
    if counted.unattributed.keys().any(gives_up) {
        let its_own = |(name, counts): (&String, &Counts)| {
            let most = expected.row(name);
            name == "(other)" || counts.bytes_in <= most.bytes_in && counts.bytes_out <= most.bytes_out
        };
        let conserved = Direction::ALL
            .iter()
            .all(|way| counted.total(*way) == expected.total(*way));
        return if conserved && counted.rows.iter().all(its_own) {
            Ok(())
        } else {
            Err(difference(
                "a full queue changed more than it may",
                expected,
                counted,
            ))
        };
    }
    let mut relaxed = counted.clone();
    relaxed.losses.remove("run_queue_full");
    let mut moved = 0;
    for (name, counts) in &mut relaxed.rows {
        if name != "(other)" {
            let most = expected.row(name).bytes_out;
            if counts.bytes_out > most {
                return Err(difference(
                    &format!("{name} got replies of others"),
                    expected,
                    counted,
                ));
            }
            moved += most - counts.bytes_out;
            counts.bytes_out = most;
        }
    }
    let other = relaxed.rows.remove("(other)").unwrap_or_default();
    if relaxed != expected || other.bytes_out != moved {
        return Err(difference(
            "the books differ by more than an overflown queue",
            expected,
            counted,
        ));
    }
    Ok(())
}

/// The conversation ends in the middle of anything: what is whole is exact, the rest is in its row or unfinished.
fn broken_off(conversation: &Conversation, choices: &mut Choices<'_>) -> Checked {
    let ends = ends(conversation).map(|end| choices.below(end + 1));
    let style = Style::harmless(choices).seen_whole();
    let mut wire = style.wire();
    let mut delivery = deliver(&mut wire, conversation, &style);
    delivery.run(&style, ends);
    let (done, counted) = (delivery.done(), delivery.books());
    if conversation.deep || conversation.ended {
        return Ok(());
    }
    let least = expected(conversation, rounded(conversation, done, Stream::whole));
    let most = expected(conversation, rounded(conversation, done, Stream::begun));
    let names = || most.rows.keys().chain(counted.rows.keys());
    let within = |of: fn(&Counts) -> u64| {
        names().all(|name| {
            let count = of(&counted.row(name));
            of(&least.row(name)) <= count && count <= of(&most.row(name))
        })
    };
    let exact = within(|row| row.commands) && within(|row| row.bytes_in) && within(|row| row.bytes_out);
    if exact && counted.unattributed.is_empty() {
        return Ok(());
    }
    Err(difference("not between what is whole and what is begun", most, counted).told_by(&delivery))
}

fn rounded(conversation: &Conversation, done: [usize; 2], round: fn(&Stream, usize) -> usize) -> [usize; 2] {
    [
        round(&conversation.requests, done[0]),
        round(&conversation.replies, done[1]),
    ]
}

/// Segments are missed, or the connection is met in mid-stream: no row gets what is not its own, and behind a quiet point
/// everything is exact again.
fn lossy(script: &Script, choices: &mut Choices<'_>) -> Checked {
    let mid_stream = choices.one_in(2);
    let slow = !(mid_stream && gaps::MET_WITHOUT_SILENCE);
    let (conversation, quiet) = conversation_with_quiet_point(script, slow);
    let style = Style::lossy(choices);
    let mut wire = if mid_stream {
        Wire::mid_stream()
    } else {
        style.wire()
    };
    let mut delivery = deliver(&mut wire, &conversation, &style);
    let (end, quiet) = quiet.map_or((ends(&conversation), None), |[end, quiet]| (end, Some(quiet)));
    delivery.run(&style, end);
    nobody_got_more(&conversation, end, delivery.books()).map_err(|wrong| wrong.told_by(&delivery))?;
    let Some(quiet) = quiet else { return Ok(()) };
    delivery.run(&Style::default(), quiet);
    let before = delivery.books();
    delivery.run(&style.clone().seen_whole(), ends(&conversation));
    let tail = conversation.behind(quiet);
    let counted = delivery.books().since(&before);
    compare(&tail, expected(&tail, ends(&tail)), counted).map_err(|wrong| wrong.told_by(&delivery))
}

fn nobody_got_more(conversation: &Conversation, ends: [usize; 2], counted: Books) -> Checked {
    let expected = expected(conversation, ends);
    for (name, counts) in &counted.rows {
        let most = expected.row(name);
        let its_own = counts.commands <= most.commands
            && counts.bytes_in <= most.bytes_in
            && counts.bytes_out <= most.bytes_out;
        if !its_own && !is_shared(name, &expected) {
            return Err(difference(
                &format!("{name} got more than its own"),
                expected,
                counted,
            ));
        }
    }
    Ok(())
}

/// Rows that may get what the model gives to others: `(other)` takes what overflows, and on a replica's link nobody can
/// say any more what the bytes in a hole were.
fn is_shared(name: &str, expected: &Books) -> bool {
    name == "(other)" || (name == "(replication)" && expected.row(name).commands != 0)
}

/// Ends of both streams.
fn ends(conversation: &Conversation) -> [usize; 2] {
    [
        conversation.requests.bytes.len(),
        conversation.replies.bytes.len(),
    ]
}

fn deliver<'a>(wire: &'a mut Wire, conversation: &'a Conversation, style: &Style) -> Delivery<'a> {
    let keys = &conversation.keys;
    wire.settings = KeySettings::new(keys.delimiters, keys.depth as u32, keys.longest as u32);
    Delivery::new(wire, conversation, style)
}

fn expected(conversation: &Conversation, ends: [usize; 2]) -> Books {
    model::books(
        &conversation.requests.bytes[..ends[Direction::In as usize]],
        &conversation.replies.bytes[..ends[Direction::Out as usize]],
        &conversation.keys,
    )
}

fn difference(what: &str, expected: Books, counted: Books) -> Box<Difference> {
    Box::new(Difference {
        what: what.to_owned(),
        expected,
        counted,
        story: String::new(),
    })
}

impl Difference {
    fn told_by(mut self: Box<Self>, delivery: &Delivery<'_>) -> Box<Self> {
        self.story = delivery.story();
        self
    }
}
