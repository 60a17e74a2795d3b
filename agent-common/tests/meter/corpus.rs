//! Every recorded conversation, in one piece and in every way of cutting it: the books are the same.

use agent_common::abi::Direction;

use crate::{
    books::Books,
    capture::Capture,
    fragments::{Random, pieces},
};

/// Conversations longer than this are not cut at each of their bytes: what is cut there is the inside of payload.
const CUT_EVERYWHERE_BYTES: usize = 4_096;

/// The first and last bytes of a longer turn that are.
const CUT_EDGE_BYTES: usize = 200;

#[test]
fn a_conversation_in_one_piece_has_the_expected_books() {
    let mut wrong = Vec::new();
    for capture in Capture::all() {
        let books = whole(&capture);
        if books != capture.expected {
            wrong.push(format!(
                "{}: expected{:?}counted{books:?}",
                capture.name, capture.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_conversation_cut_at_any_byte_has_the_same_books() {
    each_splittable(|capture, expected| {
        for (turn, (_, bytes)) in capture.turns.iter().enumerate() {
            for cut in 1..bytes.len() {
                let edge = cut < CUT_EDGE_BYTES || bytes.len() - cut < CUT_EDGE_BYTES;
                if bytes.len() <= CUT_EVERYWHERE_BYTES || edge {
                    let books = feed(capture, |number, bytes| {
                        if number == turn {
                            vec![&bytes[..cut], &bytes[cut..]]
                        } else {
                            vec![bytes]
                        }
                    });
                    assert_eq!(books, *expected, "{}: turn {turn} cut at {cut}", capture.name);
                }
            }
        }
    });
}

#[test]
fn a_conversation_byte_by_byte_has_the_same_books() {
    each_splittable(|capture, expected| {
        let books = feed(capture, |_, bytes| bytes.chunks(1).collect());
        assert_eq!(books, *expected, "{}", capture.name);
    });
}

#[test]
fn a_conversation_in_random_pieces_has_the_same_books() {
    each_splittable(|capture, expected| {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let books = feed(capture, |_, bytes| pieces(bytes, &mut random));
            assert_eq!(books, *expected, "{}: seed {seed}", capture.name);
        }
    });
}

/// Segments end where they like: what the client sent in several turns without an answer may come as one.
#[test]
fn turns_of_one_side_may_come_as_one_segment() {
    each_splittable(|capture, expected| {
        let mut wire = capture.wire();
        let mut turns = capture.turns.iter().peekable();
        while let Some((direction, bytes)) = turns.next() {
            let mut bytes = bytes.clone();
            while let Some((_, more)) = turns.next_if(|(next, _)| next == direction) {
                bytes.extend(more);
            }
            wire.send(*direction, &bytes);
        }
        assert_eq!(wire.books(), *expected, "{}", capture.name);
    });
}

#[test]
fn nothing_of_a_clean_conversation_is_lost() {
    let captures = Capture::all();
    assert!(captures.len() >= 40, "{} captures", captures.len());
    for capture in captures {
        for direction in Direction::ALL {
            let sent = capture
                .turns
                .iter()
                .filter(|(way, _)| *way == direction)
                .map(|(_, bytes)| bytes.len());
            assert_eq!(
                capture.expected.total(direction),
                sent.sum::<usize>() as u64,
                "{}",
                capture.name
            );
        }
    }
}

fn each_splittable(check: impl Fn(&Capture, &Books)) {
    for capture in Capture::all().iter().filter(|capture| !capture.unsplit) {
        check(capture, &capture.expected);
    }
}

fn whole(capture: &Capture) -> Books {
    feed(capture, |_, bytes| vec![bytes])
}

fn feed<'a>(capture: &'a Capture, mut cut: impl FnMut(usize, &'a [u8]) -> Vec<&'a [u8]>) -> Books {
    let mut wire = capture.wire();
    for (number, (direction, bytes)) in capture.turns.iter().enumerate() {
        for piece in cut(number, bytes) {
            wire.send(*direction, piece);
        }
    }
    wire.books()
}
