//! Commands and replies that are like the one before them are taken together: that changes nothing of what is counted.

use agent_common::abi::{Direction, KeySettings, RepeatedCommand, RepeatedReply, WINDOW_BYTES};

use crate::{
    fragments::Random,
    resp::{bulk, command, words},
    wire::Wire,
};

/// Whether others like the last command of the segment were expected, and the same of replies.
fn expected(wire: &Wire) -> [bool; 2] {
    let scratch = wire.scratch();
    [
        scratch.repeated.length != RepeatedCommand::NONE,
        scratch.repeated_reply.length != RepeatedReply::NONE,
    ]
}

#[test]
fn a_second_command_as_long_as_the_first_makes_others_expected() {
    let plain = KeySettings::new(b":", 1, 32);
    let deep = KeySettings::new(b":", 2, 32);
    let tags = KeySettings {
        hash_tags: 1,
        ..plain
    };
    for (requests, settings, alike) in [
        (["GET cart:1", "GET cart:2"], plain, true),
        (["SET cart:1 x:y", "SET cart:2 x:z"], plain, true),
        (["GET cart:1", "GET cart:12"], plain, false),
        (["SET cart:1 value", "SET cart:2 values"], plain, false),
        // More than one argument behind the key.
        (["SET cart:1 value NX", "SET cart:1 value NX"], plain, false),
        // The prefix says nothing of the row, or other bytes do.
        (["GET cart-1", "GET cart-1"], plain, false),
        (["GET :cart", "GET :cart"], plain, false),
        (["SET cart x:y", "SET cart x:y"], plain, false),
        (["GET a:b:c", "GET a:b:c"], deep, false),
        (["GET {a}:b", "GET {a}:b"], tags, false),
        (
            ["GET a-prefix-of-22-bytes--:1", "GET a-prefix-of-22-bytes--:1"],
            plain,
            false,
        ),
        // What they do is more than a question.
        (["MULTI", "GET cart:1"], plain, false),
    ] {
        let mut wire = Wire::begun();
        wire.settings = settings;
        wire.request(requests.map(words).concat());
        assert_eq!(expected(&wire)[0], alike, "{requests:?}");
        // Not beyond the segment.
        wire.request("\r\n");
        assert!(!expected(&wire)[0], "{requests:?}");
    }
}

#[test]
fn a_second_reply_as_long_as_the_first_makes_others_expected() {
    for (asked, replies, alike) in [
        ("GET cart:1", ["$3\r\nfoo\r\n", "$3\r\nbar\r\n"], true),
        ("GET cart:1", ["$-1\r\n", "$-1\r\n"], true),
        ("GET cart:1", ["_\r\n", "_\r\n"], true),
        ("GET cart:1", ["+OK\r\n", "+OK\r\n"], true),
        ("GET cart:1", [":12\r\n", ":12\r\n"], true),
        ("GET cart:1", ["$3\r\nfoo\r\n", "$2\r\nab\r\n"], false),
        ("GET cart:1", ["-ERR no\r\n", "-ERR no\r\n"], false),
        ("GET cart:1", ["*1\r\n:1\r\n", "*1\r\n:1\r\n"], false),
        ("GET cart:1", ["+PONGPONG\r\n", "+PONGPONG\r\n"], false),
        // What they settle is more than a count.
        ("CLIENT SETNAME x", ["+OK\r\n", "+OK\r\n"], false),
    ] {
        let mut wire = Wire::begun();
        wire.request(words(asked).repeat(3));
        wire.reply(replies.concat());
        assert_eq!(expected(&wire)[1], alike, "{replies:?}");
        assert_eq!(wire.scratch().repeated_reply.head, 0, "nothing of it is kept");
        wire.reply("$");
        assert!(!expected(&wire)[1], "{replies:?}");
    }
}

#[test]
fn what_is_expected_is_believed() {
    let mut wire = Wire::begun();
    wire.request(words("GET cart:1").repeat(50));
    let books = wire.books();
    let cart = books.row("cart");
    assert_eq!((cart.commands, cart.bytes_in), (50, 50 * 25), "{books:?}");
    wire.reply(bulk("value").repeat(50));
    let books = wire.books();
    assert_eq!(books.row("cart").bytes_out, 50 * 11, "{books:?}");
    let details = wire.counters.details("cart");
    assert_eq!((details.hits, details.misses), (50, 0));
    assert_eq!(details.reply_sizes.values().sum::<u64>(), 50);
    assert_eq!(details.durations.values().sum::<u64>(), 50);
}

/// Replies beyond the last command answer none.
#[test]
fn no_more_replies_are_taken_than_commands_wait() {
    for more in 1..12 {
        let mut wire = Wire::begun();
        wire.request(words("GET cart:1").repeat(5));
        wire.reply("$-1\r\n".repeat(5 + more));
        let books = wire.books();
        assert_eq!(books.row("cart").bytes_out, 25, "{books:?}");
        assert_eq!(wire.counters.details("cart").misses, 5);
        assert_eq!(books.unattributed(Direction::Out), 5 * more as u64, "{books:?}");
    }
}

#[test]
fn no_reply_is_expected_beyond_the_segment() {
    let mut wire = Wire::begun();
    wire.request(words("GET cart:1").repeat(9));
    wire.reply(bulk("value").repeat(3));
    wire.reply([0; 11]);
    let books = wire.books();
    assert_eq!(books.row("cart").bytes_out, 33, "{books:?}");
    assert_eq!(books.unattributed(Direction::Out), 11, "{books:?}");
}

/// A command that is longer than the window ends where nothing of it is: what lies as far before is something else.
#[test]
fn commands_beyond_the_window_are_not_what_others_are_like() {
    let set = |key: &[u8], value: usize| command(&[b"SET", key, &vec![b'-'; value]]);
    let one = set(b"cart:---------------", 90);
    let head = &one[..one.len() - 90 - 2];
    // As long as the way from what looks like the beginning of one of the others to the end of the window.
    let trap = set(&[b"cart:", &[b'-'; 39][..], head, &[b'-'; 10]].concat(), 99);
    assert_eq!(
        2 * trap.len() + trap.len(),
        WINDOW_BYTES + 18 + 44 + trap.len() - 124
    );
    let requests = [trap.repeat(2), one.repeat(20)].concat();
    let mut wire = Wire::begun();
    wire.request(&requests);
    let books = wire.books();
    let cart = books.row("cart");
    let expected = (22, requests.len() as u64);
    assert_eq!((cart.commands, cart.bytes_in), expected, "{books:?}");
}

/// A stretch on trial has the bytes of its commands in no row.
#[test]
fn on_trial_nothing_is_expected() {
    let mut wire = Wire::begun();
    wire.connection.shared.set_trial(1);
    wire.request(words("GET cart:1").repeat(9));
    assert!(!expected(&wire)[0]);
    let books = wire.books();
    assert_eq!(books.unattributed(Direction::In), 9 * 25, "{books:?}");
}

/// Something of the last one changes, or nothing.
fn next(random: &mut Random, arguments: &mut [Vec<u8>; 3], count: &mut usize) {
    const PREFIXES: [&str; 8] = [
        "cart",
        "caru",
        "a",
        "{a}",
        "",
        "a-prefix-of-21-bytes-",
        "a-prefix-of-21-bytes+",
        "a-prefix+of-21-bytes-",
    ];
    const NAMES: [&str; 6] = ["GET", "get", "SET", "INCR", "MULTI", "BLPOP"];
    match random.below(40) {
        0 => arguments[0] = NAMES[random.below(6)].into(),
        1 => arguments[1] = format!("{}:{}", PREFIXES[random.below(8)], random.below(100)).into(),
        2 => arguments[1] = format!("{}:x:{}", PREFIXES[random.below(8)], random.below(10)).into(),
        3 => arguments[2] = vec![b':'; [0, 1, 9, 10, 12, 99, 100, 440, 2_000][random.below(9)]],
        4 => *count = 2 + random.below(2),
        5..=20 => {
            if let Some(last) = arguments[1].last_mut() {
                *last = b"0123456789"[random.below(10)];
            }
        }
        _ => {}
    }
}

fn answer(random: &mut Random, last: &mut Vec<u8>) {
    match random.below(30) {
        0 => *last = b"$-1\r\n".to_vec(),
        1 => *last = b"+OK\r\n".to_vec(),
        2 => *last = bulk("x".repeat([0, 1, 5, 9, 10, 12, 400, 1_000][random.below(8)])),
        3 => *last = format!(":{}\r\n", random.below(1_000)).into_bytes(),
        4 => *last = b"-ERR no\r\n".to_vec(),
        5 => *last = b"*1\r\n$1\r\na\r\n".to_vec(),
        6 => *last = b"-WRONGTYPE not this\r\n".to_vec(),
        7 => *last = b"_\r\n".to_vec(),
        _ => {}
    }
}

/// A pipeline in one segment, in segments of a command each, and in segments cut anywhere.
#[test]
fn random_pipelines_come_to_the_same_command_by_command() {
    let mut random = Random::new(23);
    let settings = [
        KeySettings::new(b":", 1, 32),
        KeySettings::new(b":/", 2, 32),
        KeySettings::new(b":", 1, 4),
        KeySettings {
            hash_tags: 1,
            ..KeySettings::new(b":", 1, 32)
        },
    ];
    let mut seen = [0; 2];
    for round in 0..3_000 {
        let mut wires = [Wire::begun(), Wire::begun(), Wire::begun()];
        for wire in &mut wires {
            wire.settings = settings[round % 4];
        }
        let mut arguments = ["GET", "cart:1", "value"].map(Into::into);
        let (mut count, mut reply) = (2, bulk("value"));
        for _ in 0..2 {
            let mut requests = Vec::new();
            let mut replies = Vec::new();
            for _ in 0..1 + random.below(60) {
                next(&mut random, &mut arguments, &mut count);
                answer(&mut random, &mut reply);
                requests.push(command(&arguments[..count]));
                replies.push(reply.clone());
            }
            // Either side speaks at two moments.
            let [asked, answered] = [(); 2].map(|()| random.below(requests.len() + 1));
            for (direction, pieces) in [
                (Direction::In, &requests[..asked]),
                (Direction::In, &requests[asked..]),
                (Direction::Out, &replies[..answered]),
                (Direction::Out, &replies[answered..]),
            ] {
                for wire in &mut wires {
                    wire.wait(3);
                }
                let all = pieces.concat();
                if all.is_empty() {
                    continue;
                }
                let [one, each, cut] = &mut wires;
                one.send(direction, &all);
                seen[direction as usize] += u32::from(expected(one)[direction as usize]);
                for piece in pieces {
                    each.send(direction, piece);
                }
                let (head, tail) = all.split_at(random.below(all.len()));
                for piece in [head, tail] {
                    if !piece.is_empty() {
                        cut.send(direction, piece);
                    }
                }
            }
        }
        let [one, each, cut] = &wires;
        for (other, name) in [(each, "each"), (cut, "cut")] {
            assert_eq!(one.books(), other.books(), "round {round}, {name}");
            for row in one.books().rows.keys() {
                let (one, other) = (one.counters.details(row), other.counters.details(row));
                assert_eq!(one, other, "round {round}, {name}, {row}");
            }
        }
    }
    assert!(seen.iter().all(|segments| *segments > 1_000), "{seen:?}");
}
