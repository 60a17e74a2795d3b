//! Whose a connection is by its user, client name or address: which rows its bytes go to.

use agent_common::abi::NameKind;

use crate::{books::Counts, resp::words, wire::Wire};

const OK: &str = "+OK\r\n";

const CONFIRMATION: &str = "*3\r\n$9\r\nsubscribe\r\n$7\r\nchannel\r\n:1\r\n";

const MESSAGE: &str = "*3\r\n$7\r\nmessage\r\n$7\r\nchannel\r\n$1\r\nx\r\n";

/// Gives the name that the client claimed last a class.
fn set_class(wire: &mut Wire, class: u16) {
    let number = wire.counters.names.len() as u32;
    wire.counters.classes.insert(number, class);
}

fn counts(wire: &Wire, row: &str) -> Counts {
    wire.books().rows.get(row).copied().unwrap_or_default()
}

fn commands(wire: &Wire, row: &str) -> u64 {
    counts(wire, row).commands
}

#[test]
fn a_connection_of_a_class_has_rows_of_its_own_for_everything() {
    let mut wire = Wire::from_start();
    wire.counters.address_class = 7;
    for (line, reply) in [
        ("SET cart:1 x", OK),
        ("GET flat", "$-1\r\n"),
        ("PING", "+PONG\r\n"),
        ("PUBLISH channel x", ":0\r\n"),
        ("SUBSCRIBE channel", CONFIRMATION),
    ] {
        wire.request(words(line));
        wire.reply(reply);
    }
    wire.reply(MESSAGE);
    let books = wire.books();
    let names: Vec<&str> = books.rows.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["(keyless) of 7", "(none) of 7", "(pubsub) of 7", "cart of 7"]
    );
    assert_eq!(commands(&wire, "(pubsub) of 7"), 2);
    assert_eq!(
        counts(&wire, "(pubsub) of 7").bytes_out,
        (":0\r\n".len() + CONFIRMATION.len() + MESSAGE.len()) as u64
    );
}

#[test]
fn a_user_counts_from_the_segment_behind_the_reply_on() {
    let mut wire = Wire::from_start();
    wire.request(words("SET cart:1 x"));
    wire.reply(OK);
    wire.request(words("AUTH alice secret"));
    set_class(&mut wire, 1);
    wire.reply(OK);
    wire.request(words("SET cart:1 x"));
    wire.reply(OK);
    wire.request(words("AUTH bob secret"));
    set_class(&mut wire, 2);
    // Not yet bob, and then refused.
    wire.request(words("SET cart:1 x"));
    wire.reply("-WRONGPASS\r\n+OK\r\n");
    wire.request(words("SET cart:1 x"));
    wire.reply(OK);
    wire.request(words("AUTH bob secret"));
    wire.reply(OK);
    wire.request(words("SET cart:1 x"));
    wire.reply(OK);
    assert_eq!(
        [
            "cart",
            "(keyless)",
            "cart of 1",
            "(keyless) of 1",
            "cart of 2",
            "(keyless) of 2"
        ]
        .map(|row| commands(&wire, row)),
        [1, 1, 3, 2, 1, 0]
    );
    assert_eq!(counts(&wire, "cart of 1").bytes_out, 3 * OK.len() as u64);
    // The reply that makes it so is that of the command before.
    assert_eq!(counts(&wire, "(keyless)").bytes_out, OK.len() as u64);
}

#[test]
fn reset_ends_what_a_user_had() {
    let mut wire = Wire::from_start();
    wire.request(words("AUTH alice secret"));
    set_class(&mut wire, 1);
    wire.reply(OK);
    wire.request(words("RESET"));
    wire.reply("+RESET\r\n");
    wire.request(words("SET cart:1 x"));
    wire.reply(OK);
    assert_eq!(["cart", "cart of 1"].map(|row| commands(&wire, row)), [1, 0]);
}

#[test]
fn other_rules_hold_from_the_next_segment_on() {
    let mut wire = Wire::from_start();
    wire.request(words("SET cart:1 x"));
    wire.counters.address_class = 5;
    wire.reply(OK);
    wire.request(words("SET cart:1 x"));
    wire.reply(OK);
    assert_eq!(["cart", "cart of 5"].map(|row| commands(&wire, row)), [2, 0]);
    wire.settings.class_generation += 1;
    // Cut in the middle: the row of the key has all of it.
    let command = words("SET cart:1 x");
    wire.request(&command[..command.len() - 3]);
    wire.request(&command[command.len() - 3..]);
    wire.reply(OK);
    assert_eq!(["cart", "cart of 5"].map(|row| commands(&wire, row)), [2, 1]);
    assert_eq!(counts(&wire, "cart of 5").bytes_in, command.len() as u64);
}

#[test]
fn a_user_goes_before_a_client_name_and_that_before_an_address() {
    let mut wire = Wire::from_start();
    wire.counters.address_class = 9;
    wire.request(words("CLIENT SETNAME worker"));
    set_class(&mut wire, 8);
    wire.reply(OK);
    wire.request(words("PING"));
    wire.reply(OK);
    wire.request(words("AUTH alice secret"));
    set_class(&mut wire, 7);
    wire.reply(OK);
    wire.request(words("PING"));
    wire.reply(OK);
    assert_eq!(
        [9, 8, 7].map(|class| commands(&wire, &format!("(keyless) of {class}"))),
        [1, 2, 1]
    );
    assert_eq!(wire.counters.identity.names[NameKind::User as usize], 2);
}

#[test]
fn a_replica_that_logs_in_has_a_row_of_its_class() {
    let mut wire = Wire::from_start();
    wire.counters.address_class = 3;
    wire.request(words("PSYNC ? -1"));
    wire.reply("+CONTINUE\r\n*1\r\n$4\r\nPING\r\n");
    wire.request(b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n");
    let row = counts(&wire, "(replication) of 3");
    assert!(row.bytes_in > 60 && row.bytes_out > 20, "{row:?}");
}
