//! What random conversations have found: the smallest case of each, against the model. Those that the meter still gets
//! wrong are ignored; a test that passes is to lose its `#[ignore]`, and its gap in `random/gaps.rs` is to be closed.

use agent_common::abi::{
    Direction::{self, In, Out},
    KeySettings,
};

use crate::{
    books::Books,
    model::{self, places::Keys},
    resp::{bulk, words},
    wire::Wire,
};

const KEYS: Keys = Keys {
    delimiters: b":",
    depth: 1,
    longest: 32,
};

/// Sends the turns in their order, and compares with the model.
fn check(turns: &[(Direction, Vec<u8>)]) {
    let mut wire = Wire::from_start();
    wire.settings = KeySettings::new(KEYS.delimiters, KEYS.depth as u32, KEYS.longest as u32);
    for (direction, bytes) in turns {
        wire.send(*direction, bytes);
    }
    assert_eq!(wire.books(), model(turns));
}

fn model(turns: &[(Direction, Vec<u8>)]) -> Books {
    let stream = |wanted| -> Vec<u8> {
        let turns = turns.iter().filter(|(direction, _)| *direction == wanted);
        turns.flat_map(|(_, bytes)| bytes.clone()).collect()
    };
    model::books(&stream(In), &stream(Out), &KEYS)
}

fn ask(line: &str) -> (Direction, Vec<u8>) {
    (In, words(line))
}

fn answer(bytes: impl AsRef<[u8]>) -> (Direction, Vec<u8>) {
    (Out, bytes.as_ref().to_vec())
}

/// A confirmation, or a message, in the form of a version.
fn frame(version: u8, name: &str, channel: &str, last: &str) -> (Direction, Vec<u8>) {
    let kind = if version == 2 { '*' } else { '>' };
    let head = format!("{kind}3\r\n");
    answer([head.as_bytes(), &bulk(name), &bulk(channel), last.as_bytes()].concat())
}

#[test]
fn a_subscriber_without_shard_channels_has_its_channels() {
    check(&[
        ask("SUBSCRIBE news"),
        frame(2, "subscribe", "news", ":1\r\n"),
        ask("SSUBSCRIBE shard"),
        frame(2, "ssubscribe", "shard", ":1\r\n"),
        ask("SUNSUBSCRIBE shard"),
        frame(2, "sunsubscribe", "shard", ":0\r\n"),
        frame(2, "message", "news", "$2\r\nhi\r\n"),
        ask("PING"),
        answer("*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
    ]);
}

#[test]
fn a_subscription_behind_an_unsubscription_from_some_is_confirmed_by_its_own_name() {
    check(&[
        ask("PSUBSCRIBE n*"),
        frame(2, "psubscribe", "n*", ":1\r\n"),
        ask("UNSUBSCRIBE"),
        answer("*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:1\r\n"),
        ask("SUBSCRIBE news"),
        frame(2, "subscribe", "news", ":2\r\n"),
        ask("PING"),
        answer("*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
    ]);
}

#[test]
fn a_subscriber_that_changes_to_resp2_stays_one() {
    check(&[
        ask("HELLO 3"),
        answer("%1\r\n$5\r\nproto\r\n:3\r\n"),
        ask("SUBSCRIBE news"),
        frame(3, "subscribe", "news", ":1\r\n"),
        ask("HELLO 2"),
        answer("*2\r\n$5\r\nproto\r\n:2\r\n"),
        frame(2, "message", "news", "$2\r\nhi\r\n"),
        ask("PING"),
        answer("*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
    ]);
}

#[test]
fn a_slot_that_is_given_away_confirms_no_subscription() {
    check(&[
        ask("SSUBSCRIBE shard"),
        frame(2, "ssubscribe", "shard", ":1\r\n"),
        ask("SUBSCRIBE news"),
        frame(2, "sunsubscribe", "shard", ":0\r\n"),
        frame(2, "subscribe", "news", ":1\r\n"),
        frame(2, "message", "news", "$2\r\nhi\r\n"),
    ]);
}

#[test]
fn a_second_monitor_is_not_answered() {
    check(&[
        ask("MONITOR"),
        answer("+OK\r\n"),
        ask("MONITOR"),
        ask("GET cart:1"),
        answer("-ERR Replica can't interact with the keyspace\r\n"),
        ask("RESET"),
        answer("+RESET\r\n"),
        ask("GET stock:1"),
        answer("$-1\r\n"),
    ]);
}

#[test]
fn behind_reset_a_reply_in_words_is_no_line_of_monitor() {
    check(&[
        ask("MONITOR"),
        answer("+OK\r\n"),
        ask("RESET"),
        answer("+RESET\r\n"),
        ask("EVAL return_{ok='1x'} 1 cart:1"),
        answer("+1x\r\n"),
        ask("GET stock:1"),
        answer("$-1\r\n"),
    ]);
}

#[test]
fn any_negative_count_is_an_empty_command() {
    let mut wire = Wire::from_start();
    wire.request("*-5\r\n");
    wire.request(words("GET cart:1"));
    wire.reply("$-1\r\n");
    let books = wire.books();
    assert_eq!(books.row("cart").bytes_out, 5, "{books:?}");
    assert!(books.unattributed.is_empty(), "{books:?}");
}

#[test]
fn in_single_quotes_only_the_quote_is_escaped() {
    // Valkey's words are: EVAL, `return 1 -- \' x`, 1, cart:1.
    check(&[
        (In, b"EVAL 'return 1 -- \\\\' x' 1 cart:1\r\n".to_vec()),
        answer(":1\r\n"),
    ]);
}

#[test]
fn what_was_read_before_a_hole_is_lost_to_the_hole() {
    let mut wire = Wire::from_start();
    wire.request("*2\r\n$3\r\nGET\r\n$6\r\nca");
    wire.lose(In, 6);
    wire.request(words("GET cart:1"));
    let books = wire.books();
    assert!(
        books.unattributed.keys().all(|(_, reason)| *reason == "hole"),
        "{books:?}"
    );
}

#[test]
fn a_segment_of_empty_lines_has_not_too_many_tokens() {
    let mut wire = Wire::from_start();
    wire.request("\n".repeat(65_000));
    wire.request(words("GET cart:1"));
    wire.reply("$-1\r\n");
    assert_eq!(wire.books().row("cart").bytes_out, 5, "{:?}", wire.books());
}

#[test]
fn early_segments_that_are_stepped_over_give_their_places_back() {
    let mut wire = Wire::from_start();
    wire.request("\r\n");
    let start = wire.sent(In);
    let send =
        |wire: &mut Wire, from: usize, bytes: &[u8]| wire.segment(In, start.wrapping_add(from as u32), bytes);
    let set = words(&format!("SET cart:1 {}", "v".repeat(300)));
    let get = words("GET stock:1");
    let value = set.len() - 302;
    // The end of it all is early from the beginning on; six more are at a time, for a moment.
    send(&mut wire, 3 * set.len() + 9, &get[9..]);
    for from in [0, set.len(), 2 * set.len()] {
        send(&mut wire, from, &set[..value - 1]);
        for early in 1..=6 {
            send(&mut wire, from + value + 20 * early, b"v");
        }
        send(&mut wire, from + value - 1, &set[value - 1..value]);
        send(&mut wire, from + value + 200, &set[value + 200..]);
    }
    send(&mut wire, 3 * set.len(), &get[..9]);
    let books = wire.books();
    assert_eq!(
        (books.row("cart").commands, books.row("stock").commands),
        (3, 1),
        "{books:?}"
    );
}

#[test]
fn a_pong_whose_ping_was_missed_is_no_message() {
    let mut wire = Wire::from_start();
    wire.request(words("SUBSCRIBE news"));
    wire.reply("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    let before = wire.books().row("(pubsub)").bytes_out;
    wire.lose(In, 14);
    wire.reply("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    assert_eq!(
        wire.books().row("(pubsub)").bytes_out,
        before,
        "{:?}",
        wire.books()
    );
}

#[test]
fn a_subscription_that_shows_too_late_is_not_waited_for() {
    let mut wire = Wire::from_start();
    let request = words("SUBSCRIBE a-channel-with-a-long-name-of-more-than-48-bytes-in-all");
    wire.request(&request[..request.len() - 1]);
    wire.lose(In, 1);
    wire.reply(
        ">3\r\n$9\r\nsubscribe\r\n$55\r\na-channel-with-a-long-name-of-more-than-48-bytes-in-all\r\n:1\r\n",
    );
    for tenant in ["cart", "stock", "session"] {
        wire.request(words(&format!("GET {tenant}:1")));
        wire.reply(bulk(tenant));
    }
    let books = wire.books();
    for tenant in ["cart", "stock", "session"] {
        let most = bulk(tenant).len() as u64;
        assert!(
            [0, most].contains(&books.row(tenant).bytes_out),
            "{tenant}: {books:?}"
        );
    }
}

#[test]
#[ignore = "what is confirmed inside the reply to EXEC is not seen"]
fn a_subscription_in_a_transaction_is_one() {
    let mut wire = Wire::from_start();
    wire.request([words("MULTI"), words("SUBSCRIBE news"), words("EXEC")].concat());
    wire.reply("+OK\r\n+QUEUED\r\n*1\r\n*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    wire.reply("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    let books = wire.books();
    assert!(books.unattributed.is_empty(), "{books:?}");
}

#[test]
fn behind_client_reply_matching_goes_on() {
    check(&[
        ask("CLIENT REPLY SKIP"),
        ask("GET cart:1"),
        ask("GET stock:1"),
        answer("$-1\r\n"),
        ask("CLIENT REPLY OFF"),
        ask("GET cart:1"),
        ask("CLIENT REPLY ON"),
        answer("+OK\r\n"),
        ask("GET cart:1"),
        answer("$-1\r\n"),
    ]);
}

#[test]
fn a_restart_behind_a_loss_in_the_replies_waits_for_silence() {
    let mut wire = Wire::from_start();
    wire.request(words("GET cart:1"));
    wire.reply([bulk("one"), bulk("two")].concat());
    assert_eq!(
        wire.connection.shared.sync(),
        0,
        "the second reply answers nothing"
    );
    wire.request(words("GET stock:1"));
    assert_eq!(
        wire.connection.shared.sync(),
        0,
        "the server has only just spoken"
    );
}

#[test]
#[ignore = "CLIENT REPLY is taken for granted"]
fn client_reply_of_a_subscriber_is_refused() {
    check(&[
        ask("SUBSCRIBE news"),
        frame(2, "subscribe", "news", ":1\r\n"),
        ask("CLIENT REPLY SKIP"),
        answer("-ERR Can't execute 'client|reply'\r\n"),
        ask("PING"),
        answer("*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
    ]);
}

#[test]
#[ignore = "a blank line is taken for an empty one"]
fn a_blank_line_is_not_what_client_reply_skips() {
    check(&[
        ask("CLIENT REPLY SKIP"),
        (In, b" \t\r\n".to_vec()),
        ask("GET cart:1"),
        ask("GET stock:1"),
        answer("$-1\r\n"),
    ]);
}

#[test]
fn an_empty_line_is_what_client_reply_skips() {
    check(&[
        ask("CLIENT REPLY SKIP"),
        (In, b"\r\n".to_vec()),
        ask("GET cart:1"),
        answer("$-1\r\n"),
    ]);
}

#[test]
#[ignore = "MULTI is taken for granted"]
fn client_reply_behind_a_refused_multi_is_in_no_transaction() {
    check(&[
        ask("MULTI"),
        answer("-NOPERM User u has no permissions to run the 'multi' command\r\n"),
        ask("CLIENT REPLY SKIP"),
        ask("GET cart:1"),
        ask("GET stock:1"),
        answer("$-1\r\n"),
    ]);
}

#[test]
#[ignore = "a push finds the second MONITOR in front of its own command"]
fn a_subscription_behind_a_second_monitor_is_confirmed() {
    check(&[
        ask("HELLO 3"),
        answer("%1\r\n$5\r\nproto\r\n:3\r\n"),
        ask("MONITOR"),
        answer("+OK\r\n"),
        ask("MONITOR"),
        ask("SUBSCRIBE news"),
        frame(3, "subscribe", "news", ":1\r\n"),
        ask("GET cart:1"),
        answer("-ERR Replica can't interact with the keyspace\r\n"),
    ]);
}

#[test]
#[ignore = "confirmations of one name are not counted"]
fn an_unsubscription_behind_one_from_all_has_a_confirmation_of_its_own() {
    check(&[
        ask("SUBSCRIBE news"),
        frame(2, "subscribe", "news", ":1\r\n"),
        ask("PSUBSCRIBE n*"),
        frame(2, "psubscribe", "n*", ":2\r\n"),
        ask("PUNSUBSCRIBE"),
        frame(2, "punsubscribe", "n*", ":1\r\n"),
        ask("PUNSUBSCRIBE n*"),
        frame(2, "punsubscribe", "n*", ":1\r\n"),
        ask("PING"),
        answer("*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
    ]);
}

#[test]
#[ignore = "what is in the overflown queue has no version"]
fn hello_changes_the_version_in_a_full_queue_too() {
    let mut wire = Wire::from_start();
    wire.counters.spills = false;
    wire.request(words("HELLO 3"));
    wire.reply("%1\r\n$5\r\nproto\r\n:3\r\n");
    for number in 0..20 {
        wire.request(words(&format!("GET tenant-{number}:1")));
    }
    wire.request(words("HELLO 2"));
    wire.reply("_\r\n".repeat(20));
    wire.reply("*2\r\n$5\r\nproto\r\n:2\r\n");
    wire.request(words("SUBSCRIBE news"));
    wire.reply("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    wire.reply("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    assert!(wire.books().unattributed.is_empty(), "{:?}", wire.books());
}

#[test]
#[ignore = "confirmations of one name are not told apart"]
fn a_slot_that_is_given_away_confirms_no_sunsubscribe() {
    check(&[
        ask("SSUBSCRIBE shard"),
        frame(2, "ssubscribe", "shard", ":1\r\n"),
        ask("SUNSUBSCRIBE"),
        frame(2, "sunsubscribe", "shard", ":0\r\n"),
        answer("*3\r\n$12\r\nsunsubscribe\r\n$-1\r\n:0\r\n"),
        ask("GET cart:1"),
        answer("$-1\r\n"),
    ]);
}

#[test]
#[ignore = "a connection that is met counts as silent"]
fn a_connection_that_is_met_is_tried_behind_silence_alone() {
    // Two commands were on their way when it was met; then the server is slow once.
    let mut wire = Wire::mid_stream();
    wire.request(words("GET stock:1"));
    wire.reply(bulk("of a command before the meter"));
    wire.wait(5);
    wire.request(words("GET cart:1"));
    wire.reply(bulk("of stock, which is much longer than what cart gets"));
    wire.reply("$-1\r\n");
    assert!(wire.books().row("cart").bytes_out <= 5, "{:?}", wire.books());
}

#[test]
#[ignore = "whatever has a length is taken for a value"]
fn an_error_with_a_length_is_no_hit() {
    let mut wire = Wire::from_start();
    wire.request(words("GET cart:1"));
    wire.reply("!5\r\nERR x\r\n");
    let details = wire.counters.details("cart");
    assert_eq!((details.hits, details.misses), (0, 0));
}

#[test]
fn migrate_of_several_keys_has_its_first_one_behind_keys() {
    let several = b"MIGRATE 10.0.0.2 6379 \"\" 0 5000 COPY AUTH2 someone kEYs keys cart:1 stock:2\r\n";
    check(&[(In, several.to_vec()), answer("+OK\r\n")]);
    let none = b"MIGRATE 10.0.0.2 6379 \"\" 0 5000 REPLACE\r\n";
    check(&[(In, none.to_vec()), answer("-ERR syntax error\r\n")]);
    let one = ask("MIGRATE 10.0.0.2 6379 cart:1 0 5000 KEYS stock:1");
    check(&[one, answer("+OK\r\n")]);
    let array = b"*8\r\n$7\r\nMIGRATE\r\n$1\r\nh\r\n$1\r\n1\r\n$0\r\n\r\n$1\r\n0\r\n$1\r\n1\r\n$4\r\nKEYS\r\n$6\r\ncart:1\r\n";
    for cut in 1..array.len() {
        let parts = array.split_at(cut);
        check(&[(In, parts.0.to_vec()), (In, parts.1.to_vec()), answer("+OK\r\n")]);
    }
}
