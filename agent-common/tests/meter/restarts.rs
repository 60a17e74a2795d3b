//! Starting in the middle of a stream, and starting again: never on a guess, never with somebody else's bytes.

use agent_common::abi::Direction::{In, Out};

use crate::{
    resp::{bulk, words},
    wire::Wire,
};

/// Longer than a server's silence must be.
const PAUSE_MILLISECONDS: u64 = 5;

/// A request and its reply, with the pause before it that a client makes which has nothing to do.
fn exchange(wire: &mut Wire, request: &str, reply: impl AsRef<[u8]>) {
    wire.wait(PAUSE_MILLISECONDS);
    wire.request(words(request));
    wire.reply(reply);
}

/// A connection that was there before the meter, and whose server has just spoken.
fn met() -> Wire {
    let mut wire = Wire::mid_stream();
    wire.reply("$-1\r\n");
    wire
}

#[test]
fn a_connection_met_in_mid_stream_counts_from_a_quiet_point_on() {
    let mut wire = Wire::mid_stream();
    exchange(&mut wire, "GET cart:1", "$-1\r\n");
    assert!(
        wire.books().rows.is_empty(),
        "the server has not been heard before it"
    );
    for _ in 0..4 {
        exchange(&mut wire, "GET cart:1", "$-1\r\n");
    }
    let before = wire.books();
    exchange(&mut wire, "GET stock:1", bulk("hello"));
    exchange(&mut wire, "GET cart:1", "$-1\r\n");
    let books = wire.books();
    assert_eq!(books.row("stock").commands, 1, "{books:?}");
    assert_eq!(books.row("stock").bytes_out, 11, "{books:?}");
    assert_eq!(
        books.row("cart").bytes_out - before.row("cart").bytes_out,
        5,
        "{books:?}"
    );
    assert_eq!(books.unattributed, before.unattributed, "in step for good");
    assert!(
        books
            .unattributed
            .keys()
            .all(|(_, reason)| *reason == "mid_stream"),
        "{books:?}"
    );
}

#[test]
fn nothing_begins_where_the_client_spoke_last() {
    // The rest of a value that looks like commands: all of it belongs to one SET.
    let mut wire = Wire::mid_stream();
    for part in [
        "*1\r\n$4\r\nPING\r\n",
        "*2\r\n$3\r\nGET\r\n$6\r\nspy:12\r\n",
        "$3\r\nabc\r\n",
        "-ERR\r\n",
        "+OK\r\n",
        ":1\r\n",
    ] {
        wire.wait(PAUSE_MILLISECONDS);
        wire.request(part);
        wire.wait(PAUSE_MILLISECONDS);
        wire.request(part);
    }
    let books = wire.books();
    assert!(books.rows.is_empty(), "{books:?}");
    assert_eq!(books.unattributed.len(), 1);
}

#[test]
fn only_a_known_command_begins_anew() {
    for part in [
        "$3\r\nabc\r\n",
        "-ERR no\r\n",
        "+OK\r\n",
        ":1\r\n",
        "PING\r\n",
        "\r\n",
        "*0\r\n",
        "*-1\r\n",
        "*1\r\n$4\r\nEVIL\r\n",
        "*1\r\n",
        "*2\r\n$3\r\nGE",
        "*2\r\n:1\r\n",
        "*x\r\n",
        "*2\r\n$3\r\nget:x\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "*0\r\n*2\r\n$3\r\nGET\r\n$6\r\nspy:12\r\n",
    ] {
        let mut wire = met();
        for _ in 0..3 {
            wire.wait(PAUSE_MILLISECONDS);
            wire.request(part);
            wire.wait(PAUSE_MILLISECONDS);
            wire.reply("$-1\r\n");
        }
        let books = wire.books();
        assert!(books.rows.is_empty(), "{part:?}: {books:?}");
        assert_eq!(books.total(In), 3 * part.len() as u64, "{part:?}");
    }
}

#[test]
fn nothing_begins_while_the_server_may_owe_replies() {
    // A client with a pipeline of two: the server has always spoken last, and never answered everything.
    let mut wire = met();
    for _ in 0..50 {
        wire.request(words("GET cart:1"));
        wire.reply(bulk("of stock"));
        wire.request(words("GET stock:1"));
        wire.reply(bulk("of cart, which is longer"));
    }
    assert!(wire.books().rows.is_empty(), "{:?}", wire.books());
}

#[test]
fn a_reply_that_a_restart_did_not_expect_ends_it() {
    let mut wire = met();
    wire.wait(PAUSE_MILLISECONDS);
    // The server was slow, and still owes a reply from before.
    wire.request(words("GET cart:1"));
    wire.reply([bulk("owed"), bulk("of cart")].concat());
    wire.wait(PAUSE_MILLISECONDS);
    wire.request(words("GET stock:1"));
    let books = wire.books();
    assert!(
        books.rows.values().all(|counts| counts.bytes_out == 0),
        "{books:?}"
    );
}

#[test]
fn a_prefix_is_not_made_known_before_it_is_certain() {
    let mut wire = met();
    wire.wait(PAUSE_MILLISECONDS);
    wire.request(words("GET spy:1"));
    wire.reply("$-1\r\n");
    assert!(!wire.counters.knows_prefixes());
}

#[test]
fn messages_to_a_subscriber_are_not_replies_to_its_ping() {
    let mut wire = met();
    let message = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n";
    for _ in 0..3 {
        wire.wait(PAUSE_MILLISECONDS);
        wire.request(words("PING"));
        wire.reply([message, "*2\r\n$4\r\npong\r\n$0\r\n\r\n", message].concat());
    }
    assert!(wire.books().rows.is_empty(), "{:?}", wire.books());
    // A subscription says what the connection is.
    for channel in ["sport", "cart"] {
        wire.wait(PAUSE_MILLISECONDS);
        wire.request(words(&format!("SUBSCRIBE {channel}")));
        wire.reply(
            [
                message,
                &format!(
                    "*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:2\r\n",
                    channel.len()
                ),
                message,
            ]
            .concat(),
        );
    }
    let before = wire.books().row("(pubsub)");
    wire.wait(PAUSE_MILLISECONDS);
    wire.request(words("PING"));
    wire.reply([message, "*2\r\n$4\r\npong\r\n$0\r\n\r\n", message].concat());
    let books = wire.books();
    assert_eq!(
        books.row("(pubsub)").bytes_out - before.bytes_out,
        2 * message.len() as u64,
        "{books:?}"
    );
    assert_eq!(books.row("(keyless)").bytes_out, 20, "{books:?}");
}

#[test]
fn a_replica_met_in_mid_stream_is_known_by_its_acknowledgements() {
    let mut wire = met();
    wire.wait(PAUSE_MILLISECONDS);
    let acknowledgement = words("REPLCONF ACK 123456");
    let stream = words("SET cart:1 x");
    wire.request(&acknowledgement);
    wire.reply(&stream);
    wire.request(&acknowledgement);
    let books = wire.books();
    assert_eq!(
        books.row("(replication)").bytes_in,
        2 * acknowledgement.len() as u64,
        "{books:?}"
    );
    assert_eq!(books.row("(replication)").bytes_out, stream.len() as u64);
    assert_eq!(books.rows.len(), 1);
}

#[test]
fn behind_a_hole_counting_goes_on_from_a_quiet_point() {
    let mut wire = Wire::from_start();
    exchange(&mut wire, "GET cart:1", "$-1\r\n");
    wire.lose(In, 31);
    for _ in 0..4 {
        exchange(&mut wire, "GET cart:1", "$-1\r\n");
    }
    let before = wire.books();
    exchange(&mut wire, "GET stock:1", bulk("hello"));
    let books = wire.books();
    assert_eq!(books.row("stock").bytes_out, 11, "{books:?}");
    assert_eq!(books.unattributed, before.unattributed);
    assert!(
        books.unattributed.keys().all(|(_, reason)| *reason == "hole"),
        "{books:?}"
    );
}

#[test]
fn an_unexpected_reply_ends_the_matching() {
    let mut wire = Wire::from_start();
    wire.request(words("GET cart:1"));
    wire.reply([bulk("one"), bulk("two")].concat());
    wire.request(words("GET stock:1"));
    wire.reply(bulk("three"));
    let books = wire.books();
    assert_eq!(books.row("cart").bytes_out, 9);
    assert_eq!(
        books.unattributed[&(Out, "unexpected_reply")],
        9 + 11,
        "{books:?}"
    );
    assert_eq!(books.row("stock").bytes_out, 0);
}

#[test]
fn what_waited_before_a_loss_is_not_answered_after_it() {
    let mut wire = Wire::from_start();
    // Three tenants wait; the meter misses a segment; the client goes quiet and comes back.
    wire.request([words("GET cart:1"), words("GET stock:1"), words("GET session:1")].concat());
    wire.lose(Out, 15);
    wire.reply("+OK\r\n");
    for _ in 0..3 {
        exchange(&mut wire, "GET order:1", bulk("hello"));
    }
    let books = wire.books();
    for tenant in ["cart", "stock", "session"] {
        assert_eq!(books.row(tenant).bytes_out, 0, "{books:?}");
    }
    assert!(books.row("order").bytes_out > 0, "{books:?}");
}

#[test]
fn encrypted_streams_are_never_read() {
    let mut wire = Wire::from_start();
    wire.request(b"\x16\x03\x01\x00\x05hello");
    wire.reply(b"\x16\x03\x03\x00\x05hello");
    exchange(&mut wire, "GET cart:1", "$-1\r\n");
    exchange(&mut wire, "GET cart:1", "$-1\r\n");
    let books = wire.books();
    assert!(books.rows.is_empty(), "{books:?}");
    assert!(
        books.unattributed.keys().all(|(_, reason)| *reason == "tls"),
        "{books:?}"
    );
}

#[test]
fn commands_inside_a_value_do_not_count_as_waiting() {
    // Two commands in the rest of a value, one reply to the SET that they belong to.
    let mut wire = Wire::mid_stream();
    wire.request("the middle of a value");
    for part in ["*2\r\n$3\r\nGET\r\n$6\r\nspy:12\r\n", "*1\r\n$6\r\nDBSIZE\r\n"] {
        wire.wait(PAUSE_MILLISECONDS);
        wire.request(part);
    }
    wire.reply("+OK\r\n");
    for _ in 0..4 {
        exchange(&mut wire, "GET cart:1", "$-1\r\n");
    }
    let books = wire.books();
    assert!(books.row("cart").bytes_out > 0, "{books:?}");
    assert_eq!(books.rows.len(), 1, "{books:?}");
}

/// A pipelining client whose server is slow: `owed` replies are always outstanding when the connection is met. Each
/// beat is how long it is quiet before a request and before a reply.
fn slow_server(beats: &[(u64, u64)]) -> Wire {
    let mut wire = met();
    let mut owed = bulk("of a command before the meter");
    for (tenant, (before_request, before_reply)) in beats.iter().enumerate() {
        wire.wait(*before_request);
        wire.request(words(&format!("GET tenant-{tenant}:1")));
        wire.wait(*before_reply);
        wire.reply(&owed);
        owed = bulk(format!("of tenant {tenant}"));
    }
    wire
}

#[test]
fn a_stretch_begins_only_behind_silence() {
    let wire = slow_server(&[(0, 0), (PAUSE_MILLISECONDS, 0), (0, 0), (0, 0)]);
    assert!(wire.books().rows.is_empty(), "{:?}", wire.books());
}

#[test]
fn a_stretch_is_good_only_behind_silence() {
    let wire = slow_server(&[(PAUSE_MILLISECONDS, 0), (0, 0), (0, 0), (0, 0)]);
    assert!(wire.books().rows.is_empty(), "{:?}", wire.books());
}

#[test]
fn a_restart_forgets_subscribed_mode() {
    let mut wire = Wire::from_start();
    exchange(
        &mut wire,
        "SUBSCRIBE news",
        "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n",
    );
    // The meter misses that the client leaves it.
    wire.lose(In, 20);
    wire.lose(Out, 20);
    let array = "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n";
    for _ in 0..4 {
        exchange(&mut wire, "MGET cart:1 cart:2 cart:3", array);
    }
    let before = wire.books();
    exchange(&mut wire, "MGET cart:1 cart:2 cart:3", array);
    let books = wire.books();
    assert_eq!(books.row("(pubsub)"), before.row("(pubsub)"));
    assert_eq!(
        books.row("cart").bytes_out - before.row("cart").bytes_out,
        array.len() as u64,
        "{books:?}"
    );
}

#[test]
fn a_stretch_on_trial_that_missed_a_reply_begins_anew() {
    // A reply from before egress was attached leaves a command waiting: it must not wait for ever.
    let mut wire = Wire::mid_stream();
    wire.request([words("GET cart:1"), words("GET cart:2")].concat());
    wire.reply("$-1\r\n");
    for _ in 0..3 {
        wire.wait(2_000);
        wire.request(words("GET stock:1"));
        wire.reply(bulk("hello"));
    }
    let books = wire.books();
    assert!(books.row("stock").commands >= 1, "{books:?}");
    assert_eq!(
        books.row("stock").bytes_out,
        11 * books.row("stock").commands,
        "{books:?}"
    );
    assert_eq!(books.rows.len(), 1, "{books:?}");
}

#[test]
fn a_stretch_on_trial_waits_for_a_slow_reply() {
    let mut wire = met();
    wire.wait(PAUSE_MILLISECONDS);
    wire.request(words("GET cart:1"));
    for round in 0..4 {
        // The server answers later than the client speaks again, and says something else in between.
        wire.reply(">2\r\n$10\r\ninvalidate\r\n_\r\n");
        wire.wait(PAUSE_MILLISECONDS);
        wire.request(words(&format!("GET tenant-{round}:1")));
        wire.reply(bulk("of the command before"));
    }
    let books = wire.books();
    assert!(
        books.rows.values().all(|counts| counts.bytes_out == 0),
        "{books:?}"
    );
}

#[test]
fn a_stretch_is_not_judged_in_the_middle_of_a_command() {
    let mut wire = met();
    exchange(&mut wire, "GET cart:1", "$-1\r\n");
    let set = words(&format!("SET cart:1 {}", "v".repeat(500)));
    wire.request(&set[..200]);
    wire.reply(">2\r\n$10\r\ninvalidate\r\n_\r\n");
    wire.wait(PAUSE_MILLISECONDS);
    wire.request(&set[200..]);
    assert!(wire.books().rows.is_empty(), "{:?}", wire.books());
}
