//! Random conversations: any commands, any replies, any order of segments that TCP may bring; compared with the model.

use std::fmt;

use agent_common::abi::Direction;
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    books::Books,
    fragments::{Random, pieces},
    model,
    resp::{command, string},
    wire::Wire,
};

/// A command, what is pushed to the client ahead of its reply, and the reply.
#[derive(Clone)]
struct Exchange {
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "> {}  < {}",
            self.request.escape_ascii(),
            self.reply.escape_ascii()
        )
    }
}

/// What one side sends at once. Before some the connection is quiet, and nothing is owed.
struct Turn {
    direction: Direction,
    bytes: Vec<u8>,
    pause: bool,
}

/// What happens next: so many commands are sent, so many are answered.
#[derive(Debug, Clone, Copy)]
struct Beat {
    sent: usize,
    answered: usize,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn books_are_those_of_the_model(
        exchanges in vec(exchange(), 1..40),
        beats in vec(beat(), 1..20),
        seed in any::<u64>(),
    ) {
        let turns = turns(&exchanges, &beats);
        let expected = expected(&turns);
        prop_assert_eq!(in_order(&turns, |bytes| vec![bytes]), expected.clone());
        let mut random = Random::new(seed);
        prop_assert_eq!(in_order(&turns, |bytes| pieces(bytes, &mut random)), expected);
    }

    #[test]
    fn retransmissions_change_nothing(
        exchanges in vec(exchange(), 1..20),
        beats in vec(beat(), 1..10),
        seed in any::<u64>(),
    ) {
        let turns = turns(&exchanges, &beats);
        let mut random = Random::new(seed);
        let mut wire = Wire::with_sequences(random.word() as u32, u32::MAX - 20);
        let mut sent = [Vec::new(), Vec::new()];
        for Turn { direction, bytes, .. } in &turns {
            for piece in pieces(bytes, &mut random) {
                let sent: &mut Vec<u8> = &mut sent[*direction as usize];
                sent.extend(piece);
                // The segment begins earlier than it need, or all of it was there before.
                let again = random.below(sent.len().min(100) + 1);
                let start = sent.len() - piece.len().max(again);
                let sequence = wire.sent(*direction).wrapping_sub((sent.len() - piece.len() - start) as u32);
                wire.segment(*direction, sequence, &sent[start..]);
                if random.below(3) == 0 {
                    wire.segment(*direction, sequence, &sent[start..start + 1 + random.below(sent.len() - start)]);
                }
            }
        }
        prop_assert_eq!(wire.books(), expected(&turns));
    }

    #[test]
    fn nothing_is_attributed_wrongly_behind_a_loss(
        exchanges in vec(exchange(), 1..20),
        beats in vec(beat(), 1..10),
        seed in any::<u64>(),
    ) {
        let turns = turns(&exchanges, &beats);
        let expected = expected(&turns);
        let mut random = Random::new(seed);
        let mut wire = if seed % 2 == 0 { Wire::from_start() } else { Wire::mid_stream() };
        for Turn { direction, bytes, pause } in &turns {
            wire.wait(if *pause { 5 } else { 0 });
            for piece in pieces(bytes, &mut random) {
                if random.below(20) == 0 {
                    wire.lose(*direction, piece.len() as u32);
                } else {
                    wire.send(*direction, piece);
                }
            }
        }
        for (row, counts) in wire.books().rows {
            let most = expected.row(&row);
            prop_assert!(counts.commands <= most.commands, "{row}: {counts:?}, of {most:?}");
            prop_assert!(counts.bytes_in <= most.bytes_in, "{row}: {counts:?}, of {most:?}");
            prop_assert!(counts.bytes_out <= most.bytes_out, "{row}: {counts:?}, of {most:?}");
        }
    }

    #[test]
    fn any_bytes_at_all_stay_in_the_books(
        segments in vec((any::<bool>(), noise()), 1..30),
        mid_stream in any::<bool>(),
    ) {
        let mut wire = if mid_stream { Wire::mid_stream() } else { Wire::from_start() };
        for (out, bytes) in segments {
            // The wire checks after each segment that every byte is accounted for.
            wire.send(if out { Direction::Out } else { Direction::In }, &bytes);
        }
    }
}

fn in_order<'a>(turns: &'a [Turn], mut cut: impl FnMut(&'a [u8]) -> Vec<&'a [u8]>) -> Books {
    let mut wire = Wire::from_start();
    for Turn { direction, bytes, .. } in turns {
        for piece in cut(bytes) {
            wire.send(*direction, piece);
        }
    }
    wire.books()
}

fn expected(turns: &[Turn]) -> Books {
    let stream = |wanted| -> Vec<u8> {
        turns
            .iter()
            .filter(|turn| turn.direction == wanted)
            .flat_map(|turn| turn.bytes.clone())
            .collect()
    };
    model::books(&stream(Direction::In), &stream(Direction::Out))
}

/// Puts the exchanges into an order in which a client and a server could speak. At most eight commands wait, so that
/// the queue of runs does not overflow.
fn turns(exchanges: &[Exchange], beats: &[Beat]) -> Vec<Turn> {
    let (mut sent, mut answered) = (0, 0);
    let mut turns = Vec::new();
    for beat in beats.iter().cycle().take(exchanges.len() * 4 + 4) {
        let pause = sent == answered;
        let most = exchanges.len().min(answered + 8);
        let to = most.min(sent + beat.sent).max(sent);
        let requests: Vec<u8> = exchanges[sent..to]
            .iter()
            .flat_map(|exchange| exchange.request.clone())
            .collect();
        sent = to;
        let to = sent.min(answered + beat.answered);
        let replies: Vec<u8> = exchanges[answered..to]
            .iter()
            .flat_map(|exchange| exchange.reply.clone())
            .collect();
        answered = to;
        turns.push(Turn {
            direction: Direction::In,
            bytes: requests,
            pause,
        });
        turns.push(Turn {
            direction: Direction::Out,
            bytes: replies,
            pause: false,
        });
    }
    turns
}

fn beat() -> impl Strategy<Value = Beat> {
    (1..8_usize, 1..8_usize).prop_map(|(sent, answered)| Beat { sent, answered })
}

fn exchange() -> impl Strategy<Value = Exchange> {
    prop_oneof![
        12 => (arguments(), pushes(), reply()).prop_map(|(arguments, mut pushed, reply)| {
            pushed.extend(reply);
            Exchange { request: command(&arguments), reply: pushed }
        }),
        2 => (inline(), reply()).prop_map(|(request, reply)| Exchange { request, reply }),
        1 => select(vec![&b"\r\n"[..], b"\n", b"*0\r\n", b"*-1\r\n"])
            .prop_map(|nothing| Exchange { request: nothing.to_vec(), reply: Vec::new() }),
        1 => vec("[a-z]{1,9}", 1..4).prop_map(|channels| subscribe(&channels)),
    ]
}

fn arguments() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let name = |names: &'static [&'static str]| select(names).prop_flat_map(any_case);
    prop_oneof![
        (
            name(&[
                "get",
                "set",
                "mget",
                "del",
                "lrange",
                "json.set",
                "a.very.long.name.of.a.module.command"
            ]),
            key(),
            vec(text(), 0..4)
        )
            .prop_map(|(name, key, rest)| [vec![name, key], rest].concat()),
        (
            name(&["ping", "info", "multi", "exec", "publish"]),
            vec(text(), 0..3)
        )
            .prop_map(|(name, rest)| [vec![name], rest].concat()),
        (text(), 0..3_usize, vec(key(), 3)).prop_map(|(script, count, keys)| {
            [
                vec![b"EVAL".to_vec(), script, count.to_string().into_bytes()],
                keys,
            ]
            .concat()
        }),
        (select(vec!["AND", "or"]), vec(key(), 1..4))
            .prop_map(|(operation, keys)| { [vec![b"bitop".to_vec(), operation.into()], keys].concat() }),
        key().prop_map(|key| vec![b"OBJECT".to_vec(), b"Encoding".to_vec(), key]),
        (vec(select(vec!["COUNT", "2", "BLOCK", "0"]), 0..5), key()).prop_map(|(options, key)| {
            let options = options.into_iter().map(Vec::from).collect();
            [
                vec![b"XREAD".to_vec()],
                options,
                vec![b"Streams".to_vec(), key, b"0".to_vec()],
            ]
            .concat()
        }),
    ]
}

fn any_case(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<bool>(), name.len()).prop_map(move |capitals| {
        let bytes = name.bytes().zip(capitals);
        bytes
            .map(|(byte, capital)| if capital { byte.to_ascii_uppercase() } else { byte })
            .collect()
    })
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let tenant = prop_oneof![
        8 => "(cart|stock|session|pay-[0-9]|[a-z]{31,33}|[a-z]{8}|[a-z]{16})".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
    ];
    prop_oneof![
        6 => (tenant.clone(), text()).prop_map(|(tenant, rest)| [tenant, b":".to_vec(), rest].concat()),
        1 => tenant,
    ]
}

/// Arguments and values: mostly short, often hostile.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..30),
        2 => select(vec![&b"\r\n"[..], b"*1\r\n$4\r\nPING\r\n", b"$-1\r\n", b"0", b"-ERR\r\n", b":", b">2\r\n"]).prop_map(Vec::from),
        1 => (any::<u8>(), 400..1_500_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn inline() -> impl Strategy<Value = Vec<u8>> {
    let end = select(vec!["\n", "\r\n", "  \r\n"]);
    let key = "[a-z]{1,20}(:[a-z0-9]{0,30})?";
    prop_oneof![
        (key, end.clone()).prop_map(|(key, end)| format!("GET {key}{end}").into_bytes()),
        (key, "[!-&(-~]{1,60}", end.clone()).prop_map(|(key, rest, end)| {
            format!(" set  {key}\t{}{end}", rest.replace('"', "q")).into_bytes()
        }),
        end.prop_map(|end| format!("PING{end}").into_bytes()),
    ]
}

fn subscribe(channels: &[String]) -> Exchange {
    let mut arguments = vec![b"SUBSCRIBE".to_vec()];
    let mut reply = Vec::new();
    for (index, channel) in channels.iter().enumerate() {
        arguments.push(channel.clone().into_bytes());
        reply.extend(
            format!(
                ">3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:{}\r\n",
                channel.len(),
                index + 1
            )
            .bytes(),
        );
    }
    Exchange {
        request: command(&arguments),
        reply,
    }
}

fn pushes() -> impl Strategy<Value = Vec<u8>> {
    let push = (0..5_usize, text()).prop_map(|(kind, text)| match kind {
        0 => [&b">2\r\n$10\r\ninvalidate\r\n*1\r\n"[..], &string(b'$', &text)].concat(),
        1 => [&b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n"[..], &string(b'$', &text)].concat(),
        2 => b">2\r\n$10\r\ninvalidate\r\n_\r\n".to_vec(),
        3 => b">2\r\n+tracking-redir-broken\r\n:17\r\n".to_vec(),
        _ => [
            &b">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\na\r\n"[..],
            &string(b'$', &text),
        ]
        .concat(),
    });
    prop_oneof![4 => Just(Vec::new()), 1 => vec(push, 1..3).prop_map(|pushes| pushes.concat())]
}

/// A value of any shape.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        select(vec![
            "+OK\r\n",
            "$-1\r\n",
            "*-1\r\n",
            "_\r\n",
            "#t\r\n",
            "#f\r\n",
            ",inf\r\n",
            ",-1.5e300\r\n",
            "*0\r\n",
            "%0\r\n",
            "~0\r\n",
            "(3492890328409238509324850943850943825024385\r\n",
            "-ERR no such thing\r\n",
            "$0\r\n\r\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        "[ -~]{0,120}".prop_map(|line| format!("+{line}\r\n").into_bytes()),
        (select(b"$!=".to_vec()), text()).prop_map(|(kind, text)| string(kind, &text)),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            (select(b"*~".to_vec()), vec(inner.clone(), 0..5)).prop_map(|(kind, items)| aggregate(
                kind,
                items.len(),
                &items
            )),
            vec((inner.clone(), inner.clone()), 0..3).prop_map(|pairs| {
                let items: Vec<_> = pairs
                    .iter()
                    .map(|(key, value)| [&key[..], value].concat())
                    .collect();
                aggregate(b'%', pairs.len(), &items)
            }),
            (inner.clone(), inner.clone(), inner).prop_map(|(key, value, described)| {
                let attribute = aggregate(b'|', 1, &[key, value]);
                [attribute, described].concat()
            }),
        ]
    })
}

fn aggregate(kind: u8, count: usize, items: &[Vec<u8>]) -> Vec<u8> {
    [&[kind], format!("{count}\r\n").as_bytes(), &items.concat()].concat()
}

/// Bytes that are nearly RESP.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let word = select(vec![
        &b"*1\r\n"[..],
        b"*2\r\n",
        b"$3\r\n",
        b"$4\r\n",
        b"GET\r\n",
        b"PING\r\n",
        b"+OK\r\n",
        b">3\r\n",
        b":0\r\n",
        b"*-1\r\n",
        b"\r\n",
        b"\"",
        b"'",
        b"\\",
        b"SUBSCRIBE a\r\n",
        b"$9\r\nSUBSCRIBE\r\n",
        b"UNSUBSCRIBE\r\n",
        b"RESET\r\n",
        b"MONITOR\r\n",
        b"+1",
        b"PSYNC\n",
        b"|1\r\n",
        b"%1\r\n",
        b"CLIENT REPLY OFF\r\n",
        b"$99999999999999\r\n",
        b"*2147483648\r\n",
        b"$-2\r\n",
        b"\x16\x03",
        b"EVAL x 0 ",
        b"REPLCONF\r\n",
    ]);
    vec(
        prop_oneof![6 => word.prop_map(Vec::from), 1 => vec(any::<u8>(), 0..8)],
        1..12,
    )
    .prop_map(|words| words.concat())
}
