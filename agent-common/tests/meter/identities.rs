//! Who the client is, by what its stream says and the server accepts.

use agent_common::abi::{Direction::In, NAME_KINDS};

use crate::{resp::words, wire::Wire};

/// User, client name, library, version and database, as a connection is known.
fn known(wire: &Wire) -> (Vec<String>, u32) {
    let identity = wire.counters.identity;
    let name = |kind: usize| match identity.names[kind] {
        0 => String::new(),
        number => String::from_utf8_lossy(wire.counters.names[number as usize - 1].bytes()).into_owned(),
    };
    ((0..NAME_KINDS).map(name).collect(), identity.database)
}

fn assert_known(wire: &Wire, expected: [&str; NAME_KINDS], database: u32) {
    assert_eq!(known(wire), (expected.map(str::to_owned).to_vec(), database));
}

#[test]
fn what_clients_say_when_they_connect_is_known_however_it_is_cut() {
    let said = [
        words("HELLO 3 AUTH checkout-svc secret SETNAME checkout-api-7d9f8b6c5d-x2x4z"),
        words("CLIENT SETINFO LIB-NAME valkey-py"),
        words("client setinfo lib-ver 6.2.0"),
        words("SELECT 12"),
    ]
    .concat();
    for piece in 1..=said.len() {
        let mut wire = Wire::from_start();
        for part in said.chunks(piece) {
            wire.request(part);
        }
        assert_known(&wire, [""; 4], 0);
        wire.reply("%1\r\n$5\r\nproto\r\n:3\r\n+OK\r\n+OK\r\n+OK\r\n");
        assert_known(
            &wire,
            [
                "checkout-svc",
                "checkout-api-7d9f8b6c5d-x2x4z",
                "valkey-py",
                "6.2.0",
            ],
            12,
        );
        assert!(wire.connection.speaks_resp3());
    }
}

#[test]
fn passwords_are_no_names() {
    for line in [
        "AUTH secret",
        "AUTH user secret",
        "HELLO 3 AUTH user secret",
        "HELLO 2 SETNAME name AUTH user secret",
        "HELLO 3 AUTH secret",
        "HELLO AUTH user secret",
        "AUTH user secret more",
    ] {
        for piece in [1, 7, 1_000] {
            let mut wire = Wire::from_start();
            for part in words(line).chunks(piece) {
                wire.request(part);
            }
            wire.reply("+OK\r\n");
            let names = &wire.counters.names;
            assert!(
                names
                    .iter()
                    .all(|name| !name.bytes().windows(6).any(|part| part == b"secret")),
                "{line}"
            );
        }
    }
}

#[test]
fn what_the_server_refuses_is_not_so() {
    let mut wire = Wire::from_start();
    wire.request(words("AUTH alice right"));
    wire.reply("+OK\r\n");
    wire.request(words("CLIENT SETNAME first"));
    wire.reply("+OK\r\n");
    wire.request(
        [
            words("AUTH bob wrong"),
            words("CLIENT SETNAME second"),
            words("SELECT 99"),
        ]
        .concat(),
    );
    wire.reply("-WRONGPASS invalid username-password pair\r\n+OK\r\n-ERR DB index is out of range\r\n");
    assert_known(&wire, ["alice", "second", "", ""], 0);
    wire.request(words("HELLO 3 AUTH bob wrong SETNAME third"));
    wire.reply("-WRONGPASS invalid username-password pair\r\n");
    assert_known(&wire, ["alice", "second", "", ""], 0);
}

#[test]
fn a_name_can_be_taken_back_and_a_password_alone_is_the_default_users() {
    let mut wire = Wire::from_start();
    wire.request([words("AUTH alice right"), words("CLIENT SETNAME first")].concat());
    wire.reply("+OK\r\n+OK\r\n");
    wire.request(b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$0\r\n\r\n*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n");
    wire.reply("+OK\r\n+OK\r\n");
    assert_known(&wire, [""; 4], 0);
    assert_eq!(wire.counters.identity.settled_fields, 0b11);
}

#[test]
fn reset_makes_the_client_nobody_and_leaves_its_library() {
    let mut wire = Wire::from_start();
    wire.request(
        [
            words("AUTH alice right"),
            words("CLIENT SETNAME first"),
            words("CLIENT SETINFO LIB-NAME lib"),
            words("SELECT 3"),
            words("RESET"),
        ]
        .concat(),
    );
    wire.reply("+OK\r\n+OK\r\n+OK\r\n+OK\r\n+RESET\r\n");
    assert_known(&wire, ["", "", "lib", ""], 0);
}

#[test]
fn long_names_are_cut_and_counted() {
    let name = "n".repeat(60);
    for (length, counted) in [(32, 0), (33, 0), (47, 0), (48, 0), (49, 1), (60, 1)] {
        for piece in [1, 16, 1_000] {
            let mut wire = Wire::from_start();
            for part in words(&format!("CLIENT SETNAME {}", &name[..length])).chunks(piece) {
                wire.request(part);
            }
            wire.reply("+OK\r\n");
            assert_known(&wire, ["", &name[..length.min(48)], "", ""], 0);
            let books = wire.books();
            assert_eq!(
                books.losses.get("name_cut").copied().unwrap_or_default(),
                counted,
                "{length}"
            );
        }
    }
}

#[test]
fn what_is_not_followed_is_counted() {
    let unread = |wire: &Wire| {
        wire.books()
            .losses
            .get("identity_unread")
            .copied()
            .unwrap_or_default()
    };
    let mut wire = Wire::from_start();
    wire.request(b"AUTH alice right\r\nCLIENT SETNAME inline-name\r\n");
    wire.reply("+OK\r\n+OK\r\n");
    assert_known(&wire, ["", "inline-name", "", ""], 0);
    assert_eq!(unread(&wire), 1, "a user inline");
    wire.request([words("MULTI"), words("CLIENT SETNAME later"), words("EXEC")].concat());
    wire.reply("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    assert_eq!(unread(&wire), 2, "inside MULTI");
    wire.request([words("CLIENT REPLY OFF"), words("CLIENT SETNAME unheard")].concat());
    assert_eq!(unread(&wire), 3, "with replies off");
}

#[test]
fn more_than_fits_at_once_is_counted_and_the_rest_stays_in_order() {
    let mut wire = Wire::from_start();
    let many: Vec<u8> = (0..12)
        .flat_map(|number| words(&format!("SELECT {number}")))
        .collect();
    wire.request(many);
    wire.reply("+OK\r\n".repeat(12));
    assert_known(&wire, [""; 4], 7);
    assert_eq!(wire.books().losses.get("identity_unread"), Some(&4));
    wire.request(words("SELECT 15"));
    wire.reply("+OK\r\n");
    assert_known(&wire, [""; 4], 15);
}

#[test]
fn claims_that_a_hole_left_unanswered_are_never_accepted() {
    let mut wire = Wire::from_start();
    wire.request(words("CLIENT SETNAME lost"));
    wire.lose(In, 100);
    wire.request(words("GET cart:1"));
    wire.reply("+OK\r\n");
    wire.reply("$-1\r\n");
    assert_known(&wire, [""; 4], 0);
}
