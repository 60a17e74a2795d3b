//! Segments that are one command or one reply are dealt with at once, and come to the same as token by token.

use agent_common::abi::Direction::{self, In, Out};

use crate::{
    books::Books,
    capture::Capture,
    fragments::Random,
    resp::{bulk, command, words},
    wire::Wire,
};

/// The same, dealing with nothing at once.
fn piecewise(mut wire: Wire) -> Wire {
    wire.piecewise = true;
    wire
}

/// What becomes of a command and its reply, each in a segment: which of them were dealt with at once, and the books.
fn exchanged(mut wire: Wire, request: &[u8], reply: &[u8]) -> ([u32; 2], Books) {
    wire.request(request);
    wire.wait(3);
    wire.reply(reply);
    (wire.at_once, wire.books())
}

#[test]
fn what_is_ordinary_and_whole_is_dealt_with_at_once() {
    let long = "x".repeat(1_024);
    let longest = "x".repeat(40_000);
    let key = "k:".repeat(30);
    for (request, reply, at_once) in [
        (words("GET cart:1"), bulk("value"), [1, 1]),
        (words("get cart:1"), bulk(""), [1, 1]),
        (words("GET cart"), b"$-1\r\n".to_vec(), [1, 1]),
        (words("GET {cart}:1"), b"_\r\n".to_vec(), [1, 1]),
        (words("INCR cart:1"), b":17\r\n".to_vec(), [1, 1]),
        (words("SET cart:1 value"), b"+OK\r\n".to_vec(), [1, 1]),
        (words(&format!("SET cart:1 {long}")), b"+OK\r\n".to_vec(), [1, 1]),
        (words(&format!("SET cart:1 {longest}")), bulk(&longest), [1, 1]),
        (words(&format!("GET {key}")), bulk(&long), [1, 1]),
        // Two arguments behind the key, or none that is the key.
        (words("SET cart:1 value NX"), b"+OK\r\n".to_vec(), [0, 1]),
        (words("PING"), b"+PONG\r\n".to_vec(), [0, 1]),
        (words("EVAL x 1 cart:1"), b":1\r\n".to_vec(), [0, 1]),
        (
            words("MGET cart:1 cart:2"),
            b"*2\r\n$-1\r\n$-1\r\n".to_vec(),
            [1, 0],
        ),
        // The key does not end in what is looked at.
        (
            words(&format!("SET {} value", "k:".repeat(60))),
            b"+OK\r\n".to_vec(),
            [0, 1],
        ),
        // Names that the table does not know, or that change how the connection goes on.
        (words("GETT cart:1"), b"-ERR unknown command\r\n".to_vec(), [0, 0]),
        (
            words("SUBSCRIBE cart:1"),
            b"*3\r\n$9\r\nsubscribe\r\n$6\r\ncart:1\r\n:1\r\n".to_vec(),
            [0, 0],
        ),
        (words("CLIENT SETNAME cart"), b"+OK\r\n".to_vec(), [0, 0]),
        (words("GET cart:1"), b"-WRONGTYPE Operation\r\n".to_vec(), [1, 0]),
        (b"GET cart:1\r\n".to_vec(), bulk("value"), [0, 1]),
        // More or less than one.
        (
            [words("GET cart:1"), words("GET cart:2")].concat(),
            bulk("value"),
            [0, 1],
        ),
        (
            [words("GET cart:1"), b"*".to_vec()].concat(),
            bulk("value"),
            [0, 1],
        ),
        (
            words("GET cart:1"),
            [bulk("value"), b"$".to_vec()].concat(),
            [1, 0],
        ),
    ] {
        let shown = request[..request.len().min(60)].escape_ascii().to_string();
        let (counted, books) = exchanged(Wire::begun(), &request, &reply);
        assert_eq!(counted, at_once, "{shown}");
        let (counted, expected) = exchanged(piecewise(Wire::begun()), &request, &reply);
        assert_eq!(counted, [0; 2]);
        assert_eq!(books, expected, "{shown}");
        let mut wire = Wire::begun();
        wire.request(&request);
        assert!(wire.window_is_clean(), "{shown}");
    }
}

#[test]
fn a_connection_with_something_special_about_it_is_not() {
    let exchange = |wire: Wire| exchanged(wire, &words("GET cart:1"), &bulk("value")).0;
    assert_eq!(exchange(Wire::begun()), [1, 1]);
    let mut wire = Wire::begun();
    assert!(wire.connection.is_unserved());
    wire.request(words("GET cart:1"));
    assert!(!wire.connection.is_unserved(), "it has asked for data");
    assert_eq!(exchange(Wire::from_start()), [0, 1], "its first command");
    let mut wire = Wire::begun();
    wire.refuse_loads = true;
    assert_eq!(exchange(wire), [0, 0], "nothing can be read");
    let mut wire = Wire::begun();
    wire.request(&words("MULTI")[..4]);
    assert_eq!(exchange(wire), [0, 0], "inside a command");
    let mut wire = Wire::begun();
    wire.request(b"*");
    assert_eq!(exchange(wire), [0, 0], "inside its first token");
    let mut wire = Wire::begun();
    let (first, second) = (words("GET cart:1"), words("GET cart:2"));
    let next = wire.sent(In).wrapping_add(first.len() as u32);
    wire.segment(In, next, &second);
    wire.segment(
        In,
        wire.sent(In).wrapping_sub((first.len() + second.len()) as u32),
        &first,
    );
    assert_eq!(wire.at_once, [0, 0], "what came early is read behind it");
    let mut wire = Wire::begun();
    wire.request(words("MULTI"));
    wire.reply("+OK\r\n");
    assert_eq!(exchange(wire), [0, 2], "a reply inside MULTI is no value");
    let mut wire = Wire::begun();
    wire.request(words("CLIENT REPLY SKIP"));
    assert_eq!(exchange(wire), [0, 0], "nobody answers it");
    let mut wire = Wire::begun();
    wire.request(words("MONITOR"));
    wire.reply("+OK\r\n");
    assert_eq!(exchange(wire), [1, 0]);
    assert_eq!(exchange(Wire::mid_stream()), [0, 0]);
    let mut wire = Wire::begun();
    wire.lose(In, 20);
    assert_eq!(exchange(wire), [0, 0], "behind a hole");
    let mut wire = Wire::begun();
    wire.request(words("GET cart:1"));
    wire.reply("$100\r\n");
    assert_eq!(exchange(wire), [2, 0], "inside a reply");
    let mut wire = Wire::begun();
    wire.request(words("GET cart:1"));
    wire.reply("+");
    assert_eq!(exchange(wire), [2, 0], "inside its first token");
    let mut wire = Wire::begun();
    wire.lose(Out, 20);
    assert_eq!(exchange(wire), [1, 0], "behind a hole");
}

#[test]
fn every_recorded_conversation_comes_to_the_same_piecewise() {
    let mut at_once = [0; 2];
    for capture in Capture::all() {
        let mut wires = [capture.wire(), piecewise(capture.wire())];
        for wire in &mut wires {
            for (direction, bytes) in &capture.turns {
                wire.send(*direction, bytes);
            }
        }
        assert_eq!(wires[0].books(), wires[1].books(), "{}", capture.name);
        for direction in Direction::ALL {
            at_once[direction as usize] += wires[0].at_once[direction as usize];
        }
    }
    assert!(at_once.iter().all(|segments| *segments > 50), "{at_once:?}");
}

#[test]
fn rows_that_were_taken_away_are_remembered_no_longer() {
    for prefix in ["cart", "carts-of-everybody"] {
        let mut wire = Wire::begun();
        for key in ["other:1", &format!("{prefix}:1")] {
            wire.request(command(&["GET", key]));
            wire.reply("$-1\r\n");
        }
        wire.counters.take_rows_away();
        wire.settings.generation += 1;
        wire.request(command(&["GET", &format!("{prefix}:1")]));
        assert_eq!(wire.books().row(prefix).commands, 1, "{prefix}");
    }
}

/// Moments, too: which the model of random conversations knows nothing of.
#[test]
fn random_exchanges_come_to_the_same_piecewise() {
    let mut random = Random::new(11);
    let mut wires = [Wire::begun(), piecewise(Wire::begun())];
    for _ in 0..20_000 {
        let tenants = ["t", "tenant-"][random.below(2)];
        let key = format!("{tenants}{}:{}", random.below(20), random.below(1_000));
        let value = "x".repeat([0, 1, 9, 10, 99, 100, 999, 1_000, 20_000][random.below(9)]);
        let (request, reply) = match random.below(6) {
            0 => (command(&["SET", &key, &value]), b"+OK\r\n".to_vec()),
            1 => (command(&["GET", &key]), bulk(&value)),
            2 => (command(&["GET", &key]), b"$-1\r\n".to_vec()),
            3 => (
                command(&["INCR", &key]),
                format!(":{}\r\n", value.len()).into_bytes(),
            ),
            4 => (command(&["BLPOP", &key, "0"]), b"*-1\r\n".to_vec()),
            _ => (command(&["DEL", &key, &key]), b":0\r\n".to_vec()),
        };
        let (asks, answers) = (1 + random.below(3), random.below(40) as u64);
        for wire in &mut wires {
            for _ in 0..asks {
                wire.request(&request);
                wire.wait(answers);
            }
            for _ in 0..asks {
                wire.reply(&reply);
            }
        }
    }
    let [one, other] = &wires;
    assert_eq!(one.books(), other.books());
    for row in one.books().rows.keys() {
        assert_eq!(one.counters.details(row), other.counters.details(row), "{row}");
    }
    let [requests, replies] = one.at_once;
    assert!(requests > 30_000 && replies > 30_000, "{requests} {replies}");
}
