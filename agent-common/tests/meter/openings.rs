//! How commands begin is remembered: that changes nothing of what is counted.

use agent_common::abi::{KNOWN_OPENINGS, KeySettings, Row};

use crate::{
    fragments::Random,
    resp::{command, words},
    wire::Wire,
};

fn remembered(wire: &mut Wire) -> usize {
    wire.openings().iter().filter(|known| known.tag != 0).count()
}

#[test]
fn what_says_the_row_is_remembered_and_used() {
    let mut wire = Wire::begun();
    for _ in 0..2 {
        wire.request(words("GET other:1"));
        wire.reply("$-1\r\n");
        wire.request(words("SET cart:1 value"));
        wire.reply("+OK\r\n");
    }
    assert_eq!(remembered(&mut wire), 2, "one for either");
    // What is remembered is believed.
    let tags: Vec<u32> = wire
        .openings()
        .iter()
        .map(|known| known.tag)
        .filter(|tag| *tag != 0)
        .collect();
    for known in wire.openings() {
        known.tag = match known.tag {
            0 => 0,
            tag => tags.iter().sum::<u32>() - tag,
        };
    }
    wire.request(words("GET other:2"));
    wire.reply("$-1\r\n");
    let books = wire.books();
    assert_eq!([books.row("cart").commands, books.row("other").commands], [3, 2]);
}

#[test]
fn nothing_is_remembered_where_later_bytes_have_a_say() {
    let plain = KeySettings::new(b":", 1, 32);
    let tags = |hash_tags| KeySettings { hash_tags, ..plain };
    for (request, settings, expected) in [
        ("GET cart:1", plain, 1),
        ("SET cart:1 x:y", plain, 1),
        ("HGETALL a-prefix-of-17-by:1", plain, 1),
        // The delimiter is the 41st byte.
        ("GET a-prefix-of-22-bytes--:1", plain, 0),
        // It is the value's, or none.
        ("SET cart x:y", plain, 0),
        ("GET cart", plain, 0),
        // The prefix is empty, or too long.
        ("GET :cart", plain, 0),
        ("GET cart:1", KeySettings::new(b":", 1, 3), 0),
        ("GET cart:1", KeySettings::new(b":", 1, 4), 1),
        // The next delimiter counts, too.
        ("GET a:b:c", KeySettings::new(b":", 2, 32), 0),
        ("GET {a}:b", tags(1), 0),
        ("GET {a}:b", tags(0), 1),
        // Delimiters of the protocol's own lines.
        ("GET ca3rt", KeySettings::new(b"3", 1, 32), 1),
        ("GET cart:1", KeySettings::new(b"\r", 1, 32), 0),
        ("HGETALL cart:1", KeySettings::new(b"$", 1, 32), 0),
        // Not a segment that is dealt with at once.
        ("SET cart:1 value NX", plain, 0),
        ("GETT cart:1", plain, 0),
    ] {
        let mut wire = Wire::begun();
        wire.settings = settings;
        wire.request(words(request));
        assert_eq!(remembered(&mut wire), expected, "{request} {settings:?}");
    }
}

#[test]
fn the_class_is_that_of_when_it_is_counted() {
    for remembered in [false, true] {
        let mut wire = Wire::begun();
        for class in [2, 0] {
            wire.connection.class = class;
            if remembered {
                wire.request(words("GET cart:1"));
                wire.reply("$-1\r\n");
            }
        }
        let before = wire.books();
        wire.meanwhile = Some(2);
        wire.request(words("GET cart:1"));
        let rows = wire.books().since(&before).rows;
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["cart of 2"], "{remembered}");
    }
}

/// They are found by more of the key than what comes before a delimiter.
#[test]
fn declared_prefixes_are_not_remembered() {
    for (request, longest) in [
        ("GET cart-1", 32),
        ("SET cart-1 secret:1", 32),
        ("GET :cart:1", 32),
        ("GET cart-1:1", 3),
    ] {
        let mut wire = Wire::begun();
        wire.settings = KeySettings {
            declared: 1,
            ..KeySettings::new(b":", 1, longest)
        };
        wire.counters.declared = vec![b"cart-".to_vec(), b":cart".to_vec()];
        wire.request(words(request));
        let rows = wire.books().rows;
        assert!(rows.keys().any(|row| row.contains("cart")), "{request}: {rows:?}");
        assert_eq!(remembered(&mut wire), 0, "{request}");
    }
}

#[test]
fn a_prefix_without_a_row_of_its_own_is_not_remembered() {
    let mut wire = Wire::begun();
    wire.counters.room = Some(0);
    wire.request(words("GET cart:1"));
    assert_eq!(remembered(&mut wire), 0);
    assert_eq!(wire.books().row(Row::LABELS[Row::OTHER as usize]).commands, 1);
}

/// More kinds of commands than can be remembered, on connections of changing classes, keys cut in changing ways.
#[test]
fn nothing_is_counted_otherwise_than_without() {
    const BYTES: &[u8] = b"aab:-{}1";
    let mut random = Random::new(5);
    let mut wires = [Wire::begun(), Wire::begun()];
    wires[1].piecewise = true;
    let mut most = 0;
    for round in 0..400_u32 {
        let delimiters: &[u8] = [&b":"[..], b":-", b"-1", b"1"][random.below(4)];
        let longest = [32, 32, 4][random.below(3)];
        let hash_tags = random.below(2) as u32;
        let class = random.below(3) as u16;
        let settings = KeySettings {
            hash_tags,
            generation: round,
            ..KeySettings::new(delimiters, 1 + random.below(5) as u32 / 4, longest)
        };
        for wire in &mut wires {
            wire.settings = settings;
            wire.connection.class = class;
        }
        for _ in 0..100 {
            let name = ["GET", "SET", "INCR", "HGETALL"][random.below(4)];
            let mut text = |longest| {
                let length = random.below(longest);
                (0..length)
                    .map(|_| BYTES[random.below(BYTES.len())] as char)
                    .collect::<String>()
            };
            let (key, value) = (text(26), text(12));
            let mut arguments = vec![name, &key];
            if name == "SET" {
                arguments.push(&value);
            }
            let request = command(&arguments);
            for wire in &mut wires {
                wire.request(&request);
                wire.reply("$-1\r\n");
            }
        }
        most = most.max(remembered(&mut wires[0]));
    }
    assert!(most > KNOWN_OPENINGS / 2, "{most}");
    assert_eq!(wires[0].books(), wires[1].books());
    assert!(wires[0].at_once[0] > 10_000, "{:?}", wires[0].at_once);
}
