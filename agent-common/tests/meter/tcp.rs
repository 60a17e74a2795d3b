//! What TCP may do to the segments: repeat, overlap, wrap, come early, be missed.

use agent_common::{
    abi::{
        Direction::{self, In, Out},
        RUNS, SPILLED_RUNS,
    },
    limits::PARKED_BYTES,
};

use crate::{
    books::{Books, Counts},
    capture::Capture,
    fragments::Random,
    resp::{bulk, words},
    wire::Wire,
};

/// A value that is longer than a window.
fn value() -> String {
    "v".repeat(5_000)
}

/// SET of a long value, and where the value begins and ends in it.
fn long_set() -> (Vec<u8>, usize, usize) {
    let request = words(&format!("SET cart:1 {}", value()));
    let end = request.len() - 2;
    (request, end - 5_000, end)
}

fn counts(commands: u64, bytes_in: usize, bytes_out: usize) -> Counts {
    Counts {
        commands,
        bytes_in: bytes_in as u64,
        bytes_out: bytes_out as u64,
    }
}

fn clean(books: &Books) -> bool {
    books.unattributed.is_empty() && books.unfinished.is_empty() && books.losses.is_empty()
}

#[test]
fn every_segment_twice_counts_once() {
    for capture in Capture::all() {
        let mut wire = capture.wire();
        for (direction, bytes) in &capture.turns {
            for piece in bytes.chunks(700) {
                let sequence = wire.sent(*direction);
                wire.segment(*direction, sequence, piece);
                wire.segment(*direction, sequence, piece);
            }
        }
        assert_eq!(wire.books(), capture.expected, "{}", capture.name);
    }
}

#[test]
fn retransmissions_with_other_boundaries_count_once() {
    for capture in Capture::all().iter().filter(|capture| !capture.unsplit) {
        for back in [1, 2, 7, 40, 1_000] {
            let mut wire = capture.wire();
            let mut sent = [Vec::new(), Vec::new()];
            for (direction, bytes) in &capture.turns {
                for piece in bytes.chunks(90) {
                    let sent: &mut Vec<u8> = &mut sent[*direction as usize];
                    let again = sent.len().min(back);
                    let sequence = wire.sent(*direction).wrapping_sub(again as u32);
                    let mut segment = sent[sent.len() - again..].to_vec();
                    segment.extend(piece);
                    sent.extend(piece);
                    wire.segment(*direction, sequence, &segment);
                }
            }
            assert_eq!(
                wire.books(),
                capture.expected,
                "{}, {back} bytes again",
                capture.name
            );
        }
    }
}

#[test]
fn keep_alives_are_no_data() {
    let mut wire = Wire::from_start();
    let request = words("GET cart:1");
    wire.request(&request[..10]);
    for byte in [b"\0", b"*"] {
        wire.segment(In, wire.sent(In).wrapping_sub(1), byte);
    }
    wire.request(&request[10..]);
    wire.segment(In, wire.sent(In).wrapping_sub(1), b"\0");
    wire.reply("$-1\r\n");
    wire.segment(Out, wire.sent(Out).wrapping_sub(1), b"\0");
    assert_eq!(wire.books().row("cart"), counts(1, request.len(), 5));
    assert!(clean(&wire.books()));
}

#[test]
fn sequence_numbers_may_wrap_at_any_byte() {
    let request = [words("SET cart:1 some-value"), words("GET stock:1")].concat();
    let reply = b"+OK\r\n$5\r\nhello\r\n";
    for before in 0..=request.len() as u32 {
        let mut wire = Wire::with_sequences(0_u32.wrapping_sub(before), 0_u32.wrapping_sub(before));
        for piece in request.chunks(7) {
            wire.request(piece);
        }
        for piece in reply.chunks(3) {
            wire.reply(piece);
        }
        let books = wire.books();
        assert_eq!(
            books.row("cart"),
            counts(1, words("SET cart:1 some-value").len(), 5),
            "{before}"
        );
        assert_eq!(
            books.row("stock"),
            counts(1, words("GET stock:1").len(), 11),
            "{before}"
        );
        assert!(clean(&books));
    }
}

#[test]
fn a_hole_inside_a_value_costs_nothing() {
    let (request, start, end) = long_set();
    let request = [request, words("GET stock:1")].concat();
    // From the value's first byte at the earliest to the CRLF behind it at the latest.
    for (from, to) in [
        (start, end),
        (start, end + 2),
        (start + 1_000, start + 2_000),
        (end - 1, end),
        (end, end + 2),
    ] {
        let mut wire = Wire::from_start();
        wire.request(&request[..from]);
        wire.lose(In, (to - from) as u32);
        wire.request(&request[to..]);
        wire.reply("+OK\r\n$-1\r\n");
        let books = wire.books();
        assert_eq!(books.row("cart"), counts(1, end + 2, 5), "{from}..{to}");
        assert_eq!(
            books.row("stock"),
            counts(1, request.len() - end - 2, 5),
            "{from}..{to}"
        );
        assert!(clean(&books), "{books:?}");
    }
}

#[test]
fn a_hole_inside_a_string_of_a_reply_costs_nothing() {
    let reply = [bulk(value()), b"+OK\r\n".to_vec()].concat();
    let start = b"$5000\r\n".len();
    let end = start + 5_000;
    for (from, to) in [
        (start, end),
        (start, end + 2),
        (start + 1_000, start + 2_000),
        (end - 1, end),
        (end, end + 2),
    ] {
        let mut wire = Wire::from_start();
        wire.request([words("GET cart:1"), words("SET stock:1 x")].concat());
        wire.reply(&reply[..from]);
        wire.lose(Out, (to - from) as u32);
        wire.reply(&reply[to..]);
        let books = wire.books();
        assert_eq!(books.row("cart").bytes_out, end as u64 + 2, "{from}..{to}");
        assert_eq!(books.row("stock").bytes_out, 5, "{from}..{to}");
        assert!(clean(&books), "{books:?}");
    }
}

#[test]
fn the_last_value_of_a_command_may_be_missing_to_its_last_byte() {
    let (request, start, _) = long_set();
    let mut wire = Wire::from_start();
    wire.request(&request[..start]);
    wire.lose(In, (request.len() - start) as u32);
    // The next command's segment shows the hole, and that the one before is complete.
    wire.request(words("GET stock:1"));
    wire.reply("+OK\r\n$-1\r\n");
    let books = wire.books();
    assert_eq!(books.row("cart"), counts(1, request.len(), 5));
    assert_eq!(books.row("stock").bytes_out, 5);
    assert!(clean(&books), "{books:?}");
}

#[test]
fn a_hole_one_byte_too_long_is_a_hole() {
    let (request, start, _) = long_set();
    let next = words("GET stock:1");
    let mut wire = Wire::from_start();
    wire.request(&request[..start]);
    wire.lose(In, (request.len() - start + 1) as u32);
    wire.request(&next[1..]);
    wire.reply("+OK\r\n$-1\r\n");
    let books = wire.books();
    assert_eq!(
        books.row("cart"),
        counts(0, start, 0),
        "what was seen before the hole"
    );
    assert_eq!(
        books.unattributed[&(In, "hole")],
        (request.len() - start + next.len()) as u64
    );
    assert_eq!(books.unattributed[&(Out, "hole")], 10);
}

#[test]
fn behind_a_hole_between_commands_nothing_is_attributed() {
    for direction in Direction::ALL {
        let mut wire = Wire::from_start();
        wire.request(words("GET cart:1"));
        wire.reply("$-1\r\n");
        let before = wire.books();
        wire.lose(direction, 5);
        wire.request(words("GET stock:1"));
        wire.reply("$-1\r\n");
        wire.request(words("GET session:1"));
        wire.reply("$-1\r\n");
        let books = wire.books();
        assert_eq!(books.row("cart"), before.row("cart"));
        assert_eq!(
            books.row("stock").bytes_out + books.row("session").bytes_out,
            0,
            "{books:?}"
        );
        assert_eq!(
            books.unattributed[&(Out, "hole")],
            if direction == Out { 15 } else { 10 }
        );
    }
}

#[test]
fn a_segment_that_comes_early_waits_for_the_one_before_it() {
    for capture in Capture::all().iter().filter(|capture| !capture.unsplit) {
        let mut wire = capture.wire();
        for (direction, bytes) in &capture.turns {
            let pieces: Vec<&[u8]> = bytes.chunks(40).collect();
            // Groups of three come in the order 2, 3, 1. The server's own segments are never out of order here.
            for group in pieces.chunks(3) {
                let start = wire.sent(*direction);
                let mut segments = Vec::new();
                let mut sequence = start;
                for piece in group {
                    segments.push((sequence, *piece));
                    sequence = sequence.wrapping_add(piece.len() as u32);
                }
                if *direction == In {
                    segments.rotate_left(1);
                }
                for (sequence, piece) in segments {
                    wire.segment(*direction, sequence, piece);
                }
            }
        }
        assert_eq!(wire.books(), capture.expected, "{}", capture.name);
    }
}

#[test]
fn early_segments_in_reverse_order_are_read_in_order() {
    let request: Vec<u8> = (0..8)
        .flat_map(|number| words(&format!("GET cart-{number}:1")))
        .collect();
    let mut wire = Wire::from_start();
    let start = wire.sent(In);
    let pieces: Vec<(usize, &[u8])> = request.chunks(17).enumerate().collect();
    assert!(pieces.len() > 4 && pieces.len() <= limits() + 1);
    for (index, piece) in pieces.iter().rev() {
        wire.segment(In, start.wrapping_add(*index as u32 * 17), piece);
    }
    let books = wire.books();
    assert_eq!(books.rows.len(), 8, "{books:?}");
    assert!(clean(&books), "{books:?}");
}

/// Cells of one connection that can be parked.
fn limits() -> usize {
    use agent_common::limits::{PLACES_OF_CONNECTION, PLACES_OF_SEGMENT};
    usize::from(PLACES_OF_CONNECTION) - PLACES_OF_SEGMENT as usize + 1
}

#[test]
fn more_early_segments_than_can_be_parked_are_a_hole() {
    for room in [0, 1, limits(), limits() * 10] {
        let mut wire = Wire::from_start();
        wire.parking_room = room;
        let request = {
            let value = |length: usize| words(&format!("SET cart:1 {}", "v".repeat(length)));
            value(1_000 + PARKED_BYTES - value(1_000).len())
        };
        assert_eq!(request.len(), PARKED_BYTES);
        wire.request("\r\n");
        wire.skip(In, request.len() as u32);
        let first = wire.sent(In).wrapping_sub(request.len() as u32);
        for _ in 0..limits() + 2 {
            wire.request(&request);
        }
        // What TCP has waited for comes, and the server answers everything.
        wire.segment(In, first, &request);
        wire.reply("+OK\r\n".repeat(limits() + 3));
        let books = wire.books();
        assert_eq!(books.row("cart"), Counts::default(), "{room}: {books:?}");
        assert_eq!(
            books.unattributed(In),
            (request.len() * (limits() + 3)) as u64,
            "{room}"
        );
        assert!(
            books.unattributed.keys().all(|(_, reason)| *reason == "hole"),
            "{books:?}"
        );
    }
}

#[test]
fn early_bytes_are_read_whatever_segments_bring_them_and_however_often() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let request: Vec<u8> = (0..60)
            .flat_map(|number| {
                let value = "v".repeat(random.below([8, 600, 3_000][number % 3]));
                words(&format!("SET cart-{number}:1 v{value}"))
            })
            .collect();
        let mut wire = Wire::from_start();
        let start = wire.sent(In);
        let send = |wire: &mut Wire, from: usize, to: usize| {
            wire.segment(In, start.wrapping_add(from as u32), &request[from..to]);
        };
        let longest = [40, 1_448, 20_000][random.below(3)];
        // Anything but the first byte, then all of it, in pieces that reach into others; the last one fills the gap.
        for _ in 0..random.below(60) {
            let from = 1 + random.below(request.len() - 1);
            let to = request.len().min(from + 1 + random.below(longest));
            send(&mut wire, from, to);
        }
        let mut pieces = Vec::new();
        let mut from = 0;
        while from < request.len() {
            let to = request.len().min(from + 1 + random.below(longest));
            pieces.push((from, request.len().min(to + random.below(longest))));
            from = to;
        }
        for index in (1..pieces.len()).rev() {
            pieces.swap(index, 1 + random.below(index));
        }
        pieces.rotate_left(1);
        for (from, to) in pieces {
            send(&mut wire, from, to);
        }
        wire.reply("+OK\r\n".repeat(60));
        let books = wire.books();
        assert!(clean(&books), "seed {seed}: {books:?}");
        for number in 0..60 {
            assert_eq!(books.row(&format!("cart-{number}")).commands, 1, "seed {seed}");
        }
        assert_eq!(books.total(In), request.len() as u64, "seed {seed}");
        assert_eq!(wire.connection.parked, 0, "seed {seed}");
    }
}

#[test]
fn early_segments_that_overlap_are_read_whole() {
    let mut wire = Wire::from_start();
    let (first, second, third) = (words("GET cart:1"), words("GET stock:1"), words("GET session:1"));
    let start = wire.sent(In);
    let at = |offset: usize| start.wrapping_add(offset as u32);
    wire.skip(In, first.len() as u32);
    let rest = [second.clone(), third.clone()].concat();
    // A doubled packet: the end of one super-segment is the start of the next.
    wire.segment(In, at(first.len()), &rest[..40]);
    wire.segment(In, at(first.len() + 30), &rest[30..]);
    wire.segment(In, start, &first);
    let books = wire.books();
    let commands = ["cart", "stock", "session"].map(|row| books.row(row).commands);
    assert_eq!(commands, [1, 1, 1], "{books:?}");
    assert!(clean(&books), "{books:?}");
}

#[test]
fn an_early_segment_that_comes_twice_is_parked_once() {
    let mut wire = Wire::from_start();
    let (first, second) = (words("GET cart:1"), words("GET stock:1"));
    wire.skip(In, first.len() as u32);
    let start = wire.sent(In).wrapping_sub(first.len() as u32);
    wire.request(&second);
    wire.segment(In, start.wrapping_add(first.len() as u32), &second);
    wire.segment(In, start, &first);
    wire.reply("$-1\r\n$2\r\nab\r\n");
    let books = wire.books();
    assert_eq!(books.row("cart"), counts(1, first.len(), 5), "{books:?}");
    assert_eq!(books.row("stock"), counts(1, second.len(), 8), "{books:?}");
    assert!(clean(&books), "{books:?}");
    assert_eq!(wire.connection.parked, 0);
}

#[test]
fn a_gap_that_is_filled_with_other_boundaries_loses_no_byte_of_the_books() {
    let request: Vec<u8> = (0..6)
        .flat_map(|number| words(&format!("GET cart-{number}:1")))
        .collect();
    let mut wire = Wire::from_start();
    let start = wire.sent(In);
    wire.segment(In, start, &request[..30]);
    wire.segment(In, start.wrapping_add(60), &request[60..90]);
    // The retransmission reaches into the parked segment, then everything comes in one piece.
    wire.segment(In, start.wrapping_add(30), &request[30..70]);
    wire.segment(In, start.wrapping_add(30), &request[30..]);
    wire.reply("$-1\r\n".repeat(6));
    let books = wire.books();
    assert_eq!(books.total(In), request.len() as u64);
    assert_eq!(
        books.rows.values().map(|counts| counts.commands).sum::<u64>(),
        6,
        "{books:?}"
    );
    assert!(clean(&books), "{books:?}");
    assert_eq!(wire.connection.parked, 0, "nothing is kept for ever");
}

#[test]
fn a_loss_takes_what_is_parked_with_it() {
    for reversed in [false, true] {
        let mut wire = Wire::from_start();
        let request = words("GET cart:1");
        let length = request.len() as u32;
        wire.request(&request);
        let start = wire.sent(In);
        let mut early = [3, 4];
        if reversed {
            early.reverse();
        }
        for number in early {
            wire.segment(In, start.wrapping_add(number * length), &request);
        }
        // The first gap is filled with nonsense, the second one properly.
        wire.segment(In, start, &vec![b'*'; request.len()]);
        for number in [1, 2, 3, 5] {
            wire.segment(In, start.wrapping_add(number * length), &request);
        }
        let books = wire.books();
        assert_eq!(books.row("cart").commands, 1, "{books:?}");
        assert_eq!(
            books.unattributed[&(In, "protocol_error")],
            u64::from(6 * length),
            "{books:?}"
        );
        assert_eq!(wire.connection.parked, 0);
    }
}

#[test]
fn bytes_that_cannot_be_copied_are_unattributed() {
    for direction in Direction::ALL {
        let mut wire = Wire::from_start();
        wire.request(words("GET cart:1"));
        wire.refuse_loads = true;
        wire.send(direction, b"$-1\r\n");
        wire.refuse_loads = false;
        assert_eq!(wire.books().unattributed[&(direction, "load_failed")], 5);
        assert_eq!(wire.books().row("cart").bytes_out, 0);
    }
}

#[test]
fn a_segment_with_too_many_tokens_is_counted_to_where_it_was_read() {
    let mut wire = Wire::from_start();
    wire.max_steps = 10;
    let request = words("GET cart:1");
    wire.request(request.repeat(100));
    let books = wire.books();
    let read = books.row("cart");
    assert!(read.commands > 0 && read.commands < 100, "{books:?}");
    assert_eq!(books.unattributed(In), books.unattributed[&(In, "step_limit")]);
    wire.reply("$-1\r\n".repeat(100));
    assert_eq!(wire.books().unattributed[&(Out, "step_limit")], 500);
}

#[test]
fn two_hundred_commands_of_several_prefixes_reads_and_writes_in_turn_are_exact() {
    let lines = |number: usize| {
        let prefix = ["cart", "stock", "user"][number % 3];
        if number.is_multiple_of(2) {
            format!("GET {prefix}:{number}")
        } else {
            format!("SET {prefix}:{number} abc")
        }
    };
    let reply = |number: usize| match number % 4 {
        0 => &b"$-1\r\n"[..],
        2 => b"$2\r\nab\r\n",
        _ => b"+OK\r\n",
    };
    let requests: Vec<u8> = (0..200).flat_map(|number| words(&lines(number))).collect();
    let replies: Vec<u8> = (0..200).flat_map(|number| reply(number).to_vec()).collect();
    for (piece_in, piece_out) in [(usize::MAX, usize::MAX), (1_460, 100), (7, 3)] {
        let mut wire = Wire::from_start();
        for round in 1..=3_u64 {
            for part in requests.chunks(piece_in.min(requests.len())) {
                wire.request(part);
            }
            wire.wait(2);
            for part in replies.chunks(piece_out.min(replies.len())) {
                wire.reply(part);
            }
            let books = wire.books();
            assert!(
                books.losses.is_empty() && books.unattributed.is_empty(),
                "{books:?}"
            );
            for (index, prefix) in ["cart", "stock", "user"].into_iter().enumerate() {
                let own = || (0..200).filter(move |number| number % 3 == index);
                let sum = |length: fn(usize) -> usize| own().map(length).sum::<usize>() as u64;
                let details = wire.counters.details(prefix);
                let counted = (
                    books.row(prefix).bytes_out,
                    details.hits,
                    details.misses,
                    details.durations.values().sum::<u64>(),
                );
                let expected = (
                    sum(|number| [5, 5, 8, 5][number % 4]),
                    sum(|number| usize::from(number % 4 == 2)),
                    sum(|number| usize::from(number % 4 == 0)),
                    sum(|_| 1),
                );
                assert_eq!(
                    counted,
                    (
                        round * expected.0,
                        round * expected.1,
                        round * expected.2,
                        round * expected.3
                    ),
                    "{prefix}, cut at {piece_in} and {piece_out}"
                );
            }
        }
    }
}

#[test]
fn what_neither_queue_nor_spill_can_hold_keeps_the_totals_exact() {
    let mut wire = Wire::from_start();
    let requests: Vec<u8> = (0..500)
        .flat_map(|number| words(&format!("GET cart-{number}:1")))
        .collect();
    wire.request(&requests);
    wire.reply("$2\r\nab\r\n".repeat(500));
    let books = wire.books();
    let exact = (RUNS + SPILLED_RUNS) as u64 - 2;
    assert_eq!(books.losses["run_queue_full"], 500 - exact);
    assert_eq!(books.row("(other)").bytes_out, 8 * (500 - exact));
    for number in 0..exact {
        assert_eq!(books.row(&format!("cart-{number}")).bytes_out, 8);
    }
    wire.request(words("GET stock:1"));
    wire.reply("$-1\r\n");
    assert_eq!(wire.books().row("stock").bytes_out, 5);
}

#[test]
fn confirmations_and_a_restart_are_found_in_the_spill() {
    let mut wire = Wire::from_start();
    wire.request(words("HELLO 3"));
    wire.reply("%1\r\n$5\r\nproto\r\n:3\r\n");
    for number in 0..20 {
        wire.request(words(&format!("GET cart-{number}:1")));
    }
    wire.request(words("SUBSCRIBE one two"));
    wire.request(words("UNSUBSCRIBE"));
    wire.request(words("HELLO 2"));
    wire.request(words("GET cart:1"));
    wire.reply("_\r\n".repeat(20));
    for (number, name) in ["one", "two"].into_iter().enumerate() {
        wire.reply(format!(
            ">3\r\n$9\r\nsubscribe\r\n$3\r\n{name}\r\n:{}\r\n",
            number + 1
        ));
    }
    for (number, name) in ["one", "two"].into_iter().enumerate() {
        wire.reply(format!(
            ">3\r\n$11\r\nunsubscribe\r\n$3\r\n{name}\r\n:{}\r\n",
            1 - number
        ));
    }
    wire.reply("*2\r\n$5\r\nproto\r\n:2\r\n");
    wire.reply("$-1\r\n");
    let books = wire.books();
    assert_eq!(books.row("cart").bytes_out, 5, "{books:?}");
    assert!(
        books.unattributed.is_empty() && books.losses.is_empty(),
        "{books:?}"
    );

    // Met again behind a hole: what waited is forgotten, the next pipeline needs the spill once more.
    for number in 0..40 {
        wire.request(words(&format!("GET cart-{number}:1")));
    }
    wire.lose(In, 10);
    wire.request(words("GET stock:1"));
    wire.reply("$-1\r\n".repeat(41));
    for _ in 0..3 {
        wire.wait(10);
        let requests: Vec<u8> = (0..40)
            .flat_map(|number| words(&format!("GET cart-{number}:1")))
            .collect();
        wire.request(&requests);
        wire.reply("$2\r\nab\r\n".repeat(40));
    }
    let books = wire.books();
    assert_eq!(books.row("cart-39").bytes_out, 16, "{books:?}");
}

#[test]
fn a_full_queue_of_runs_keeps_the_totals_exact() {
    let mut wire = Wire::from_start();
    wire.counters.spills = false;
    let requests: Vec<u8> = (0..100)
        .flat_map(|number| words(&format!("GET cart-{number}:1")))
        .collect();
    wire.request(&requests);
    wire.reply("$2\r\nab\r\n".repeat(100));
    let books = wire.books();
    let rows: u64 = books.rows.values().map(|counts| counts.bytes_out).sum();
    assert_eq!((books.rows.len(), rows), (101, 800));
    assert_eq!(
        books.row("cart-99"),
        counts(1, words("GET cart-99:1").len(), 0),
        "requests stay exact"
    );
    assert_eq!(
        books.row("cart-3").bytes_out,
        8,
        "so do replies, up to where the queue was full"
    );
    assert_eq!(books.row("(other)").bytes_out, 8 * books.losses["run_queue_full"]);
    assert!(books.unattributed.is_empty());

    // Everything is answered: the next pipeline is exact again.
    wire.request(words("GET stock:1"));
    wire.reply("$-1\r\n");
    assert_eq!(wire.books().row("stock").bytes_out, 5);
}

#[test]
fn a_subscription_in_a_full_queue_ends_the_step_and_nothing_goes_to_a_wrong_row() {
    for (push, subscriptions) in [(b'>', 1), (b'*', 3)] {
        let mut wire = Wire::from_start();
        wire.counters.spills = false;
        let mut requests: Vec<u8> = (0..20)
            .flat_map(|number| words(&format!("GET cart-{number}:1")))
            .collect();
        let mut replies = b"$2\r\nab\r\n".repeat(20);
        for number in 1..=subscriptions {
            requests.extend(words(&format!("SUBSCRIBE channel-{number}")));
            replies.push(push);
            replies
                .extend(format!("3\r\n$9\r\nsubscribe\r\n$9\r\nchannel-{number}\r\n:{number}\r\n").bytes());
        }
        wire.request(&requests);
        wire.reply(&replies);
        let books = wire.books();
        assert_eq!(books.unattributed[&(Out, "queue_full")], replies.len() as u64);
        assert!(
            books.rows.values().all(|counts| counts.bytes_out == 0),
            "{books:?}"
        );
        wire.wait(10);
        for _ in 0..3 {
            wire.request(words("GET stock:1"));
            wire.reply("$-1\r\n");
            wire.wait(10);
        }
        assert_eq!(wire.books().row("stock").bytes_out, 10, "{:?}", wire.books());
    }
}

#[test]
fn prefixes_beyond_the_table_are_other() {
    let mut wire = Wire::from_start();
    wire.counters.room = Some(2);
    let request: Vec<u8> = (0..5)
        .flat_map(|number| words(&format!("GET cart-{number}:1")))
        .collect();
    wire.request(&request);
    wire.reply("$-1\r\n".repeat(5));
    let books = wire.books();
    assert_eq!(books.row("(other)"), counts(3, 3 * request.len() / 5, 15));
    assert_eq!(books.rows.len(), 3);
}

#[test]
fn prefixes_are_compared_to_their_last_byte() {
    let mut wire = Wire::from_start();
    let prefixes: Vec<String> = (0..32)
        .map(|at| format!("{}x{}", "p".repeat(at), "p".repeat(31 - at)))
        .collect();
    for prefix in &prefixes {
        wire.request(words(&format!("GET {prefix}:1")));
        wire.reply("$-1\r\n");
    }
    let books = wire.books();
    assert_eq!(books.rows.len(), 32, "{books:?}");
    assert!(prefixes.iter().all(|prefix| books.row(prefix).commands == 1));
}
