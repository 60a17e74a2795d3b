//! What a row keeps beside commands and bytes: sizes, durations, errors, hits and misses.

use std::collections::BTreeMap;

use agent_common::abi::{Direction, duration_bucket, size_bucket};

use crate::{
    resp::{bulk, words},
    wire::Wire,
};

/// Milliseconds in units of 256 ns.
fn units(milliseconds: u64) -> u32 {
    (milliseconds * 1_000_000 / 256) as u32
}

/// The buckets of these sizes, with how many are in each.
fn sizes(sizes: &[usize]) -> BTreeMap<u32, u64> {
    let mut buckets = BTreeMap::new();
    for size in sizes {
        *buckets.entry(size_bucket(*size as u32)).or_default() += 1;
    }
    buckets
}

fn durations(milliseconds: &[u64]) -> BTreeMap<u32, u64> {
    let mut buckets = BTreeMap::new();
    for time in milliseconds {
        *buckets.entry(duration_bucket(units(*time))).or_default() += 1;
    }
    buckets
}

#[test]
fn whole_commands_and_replies_are_counted_by_size_however_they_are_cut() {
    let value = "v".repeat(5_000);
    let set = words(&format!("SET cart:1 {value}"));
    let get = words("GET cart:1");
    let reply = bulk(&value);
    for piece in [usize::MAX, 1_460, 700, 1] {
        let mut wire = Wire::from_start();
        for part in [set.clone(), get.clone(), get.clone()].concat().chunks(piece) {
            wire.request(part);
        }
        for part in [b"+OK\r\n", &reply[..], b"$-1\r\n"].concat().chunks(piece) {
            wire.reply(part);
        }
        let details = wire.counters.details("cart");
        assert_eq!(
            details.request_sizes,
            sizes(&[set.len(), get.len(), get.len()]),
            "{piece}"
        );
        assert_eq!(details.reply_sizes, sizes(&[5, reply.len(), 5]), "{piece}");
    }
}

#[test]
fn a_command_lasts_from_its_last_header_to_the_first_byte_of_its_reply() {
    let mut wire = Wire::from_start();
    let set = words("SET cart:1 0123456789");
    // The value's header is in the second part.
    wire.request(&set[..20]);
    wire.wait(100);
    wire.request(&set[20..set.len() - 3]);
    wire.wait(30);
    wire.request(&set[set.len() - 3..]);
    wire.wait(10);
    wire.reply("+O");
    wire.wait(500);
    wire.reply("K\r\n");
    let details = wire.counters.details("cart");
    assert_eq!(details.durations, durations(&[40]));
    assert_eq!(details.duration_units, u64::from(units(40)));
}

#[test]
fn commands_of_one_segment_have_their_own_replies_moments() {
    let mut wire = Wire::from_start();
    wire.request([words("GET cart:1"), words("GET cart:2"), words("GET stock:1")].concat());
    wire.wait(1);
    wire.request(words("GET cart:3"));
    wire.wait(1);
    wire.reply("$-1\r\n$-1\r\n");
    wire.wait(5);
    wire.reply("$-1\r\n$-1\r\n");
    assert_eq!(wire.counters.details("cart").durations, durations(&[2, 2, 6]));
    assert_eq!(wire.counters.details("stock").durations, durations(&[7]));
}

#[test]
fn waiting_for_somebody_else_is_no_duration() {
    for (line, counts) in [
        ("BLPOP cart:1 0", 0),
        ("XREAD BLOCK 1000 STREAMS cart:1 $", 0),
        ("XREAD COUNT 10 STREAMS cart:1 0", 1),
        ("XREADGROUP GROUP block c STREAMS cart:1 >", 1),
        ("LPOP cart:1", 1),
    ] {
        let mut wire = Wire::from_start();
        wire.request(words(line));
        wire.wait(3);
        wire.reply("*-1\r\n");
        let details = wire.counters.details("cart");
        assert_eq!(details.durations.values().sum::<u64>(), counts, "{line}");
        assert_eq!(details.reply_sizes, sizes(&[5]), "{line}");
    }
}

#[test]
fn errors_are_counted_by_word_wherever_they_stand_and_however_they_are_cut() {
    let replies = "-WRONGTYPE Operation\r\n-MOVED 3999 127.0.0.1:6381\r\n*2\r\n-OOM no\r\n:1\r\n-ERR\r\n-oops\r\n!5\r\nERR x\r\n";
    let expected: BTreeMap<&str, u64> = [
        ("ERR", 1),
        ("MOVED", 1),
        ("OOM", 1),
        ("WRONGTYPE", 1),
        ("other", 2),
    ]
    .into();
    for piece in [usize::MAX, 7, 1] {
        let mut wire = Wire::from_start();
        wire.request(words("GET cart:1").repeat(6));
        for part in replies.as_bytes().chunks(piece) {
            wire.reply(part);
        }
        let details = wire.counters.details("cart");
        assert_eq!(details.errors, expected, "{piece}");
        assert_eq!(wire.books().unattributed(Direction::Out), 0);
    }
}

#[test]
fn nil_is_a_miss_and_anything_else_a_hit_for_reads_only() {
    let mut wire = Wire::from_start();
    for (line, reply) in [
        ("GET cart:1", &b"$-1\r\n"[..]),
        ("GET cart:1", b"_\r\n"),
        ("GET cart:1", b"$0\r\n\r\n"),
        (
            "MGET cart:1 cart:2 cart:3",
            b"*3\r\n$1\r\na\r\n$-1\r\n$1\r\nb\r\n",
        ),
        ("HMGET cart:1 a b", b"*2\r\n_\r\n$1\r\nb\r\n"),
        ("ZSCORE cart:1 a", b",1.5\r\n"),
        ("SET cart:1 a NX", b"$-1\r\n"),
        ("LPOP cart:1", b"$-1\r\n"),
        ("GET cart:1", b"-WRONGTYPE Operation\r\n"),
        ("GET cart:1 2", b"-ERR wrong number of arguments\r\n"),
        ("MULTI", b"+OK\r\n"),
        ("GET cart:1", b"+QUEUED\r\n"),
        ("DISCARD", b"+OK\r\n"),
        ("LRANGE cart:1 0 1", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
    ] {
        wire.request(words(line));
        wire.reply(reply);
    }
    let details = wire.counters.details("cart");
    assert_eq!((details.hits, details.misses), (6, 4));
}

#[test]
fn too_many_moments_share_one_and_that_is_counted() {
    let mut wire = Wire::from_start();
    for _ in 0..20 {
        wire.request(words("GET cart:1"));
        wire.wait(1);
    }
    wire.reply("$-1\r\n".repeat(20));
    let details = wire.counters.details("cart");
    assert_eq!(details.durations.values().sum::<u64>(), 20);
    assert_eq!(wire.books().losses.get("coarse_reply"), Some(&12));
    assert!(details.duration_units >= (1..=20).map(|time| u64::from(units(time))).sum());
}

#[test]
fn the_longest_declared_prefix_is_the_row_of_a_key_without_delimiter() {
    let mut wire = Wire::from_start();
    wire.counters.declared = vec![b"cart-".to_vec(), b"cart-eu-".to_vec()];
    wire.settings.declared = 1;
    for key in [
        "cart-17",
        "cart-eu-17",
        "cart-",
        "cart",
        "cart-17:x",
        "{cart-17}x",
        "other",
    ] {
        wire.request(words(&format!("DEL {key}")));
        wire.reply(":0\r\n");
    }
    let commands = |row| wire.books().row(row).commands;
    assert_eq!(
        ["cart-", "cart-eu-", "(none)", "cart-17"].map(commands),
        [2, 1, 2, 2]
    );
}

#[test]
fn nothing_of_a_segment_stays_in_the_window() {
    let mut wire = Wire::from_start();
    for part in words("SET cart:1 secret-value-secret-value").chunks(9) {
        wire.request(part);
        assert!(wire.window_is_clean(), "{part:?}");
    }
    for part in bulk("secret-value").chunks(5) {
        wire.reply(part);
        assert!(wire.window_is_clean(), "{part:?}");
    }
}
