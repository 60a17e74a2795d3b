//! Conversations to measure, written here.

use agent_common::abi::Direction;

/// Pipelines per stream: enough that one is a small part of it.
const TURNS: usize = 50;

/// What is measured at once.
pub(crate) struct Stream {
    /// Also the name of the measurement.
    pub(crate) name: &'static str,
    /// Commands, or messages where there are more of them.
    pub(crate) messages: u64,
    pub(crate) conversations: Vec<Conversation>,
    /// The meter attributes every byte.
    pub(crate) is_clean: bool,
}

/// One connection.
pub(crate) struct Conversation {
    pub(crate) mid_stream: bool,
    /// What one side sent at once, in order.
    pub(crate) turns: Vec<(Direction, Vec<u8>)>,
}

impl Stream {
    pub(crate) fn bytes(&self) -> u64 {
        let turns = self.conversations.iter().flat_map(|one| &one.turns);
        turns.map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

impl Conversation {
    /// All that one side sent.
    pub(crate) fn side(&self, side: Direction) -> Vec<u8> {
        let turns = self.turns.iter().filter(|(direction, _)| *direction == side);
        turns.flat_map(|(_, bytes)| bytes.iter().copied()).collect()
    }
}

/// What clients do most.
pub(crate) fn synthetic() -> Vec<Stream> {
    vec![
        pipelines("get 16 B, P1", 1, |at| get(&key("key", at), 16)),
        pipelines("get 16 B, P16", 16, |at| get(&key("key", at), 16)),
        pipelines("get 16 B, P100", 100, |at| get(&key("key", at), 16)),
        pipelines("set 16 B, P1", 1, |at| set(&key("key", at), 16)),
        pipelines("set 16 B, P100", 100, |at| set(&key("key", at), 16)),
        pipelines("get 1 KiB, P100", 100, |at| get(&key("key", at), 1024)),
        pipelines("set 1 KiB, P100", 100, |at| set(&key("key", at), 1024)),
        pipelines("get 16 B, P100, 4 tenants", 100, |at| {
            let tenant = ["cart", "session", "idx", "pay-eu"][at % 4];
            get(&key(tenant, at), 16)
        }),
        pipelines("mget of 10, 16 B, P16", 16, mget),
        pipelines("sadd of 1,000", 1, sadd),
        pipelines("hgetall of 1,000, RESP3", 1, hgetall),
        messages(),
    ]
}

/// Turns of `depth` commands, then all their replies.
fn pipelines(name: &'static str, depth: usize, exchange: impl Fn(usize) -> (Vec<u8>, Vec<u8>)) -> Stream {
    let mut turns = Vec::new();
    for turn in 0..TURNS {
        let exchanges: Vec<_> = (0..depth).map(|at| exchange(turn * depth + at)).collect();
        let (commands, replies): (Vec<_>, Vec<_>) = exchanges.into_iter().unzip();
        turns.push((Direction::In, commands.concat()));
        turns.push((Direction::Out, replies.concat()));
    }
    Stream {
        name,
        messages: (TURNS * depth) as u64,
        conversations: vec![Conversation {
            mid_stream: false,
            turns,
        }],
        is_clean: true,
    }
}

/// A subscriber that listens.
fn messages() -> Stream {
    let message = array(&[b"message".to_vec(), b"news:sport".to_vec(), vec![b'm'; 64]]);
    let per_turn = 20;
    let mut turns = vec![
        (
            Direction::In,
            array(&[b"SUBSCRIBE".to_vec(), b"news:sport".to_vec()]),
        ),
        (
            Direction::Out,
            b"*3\r\n$9\r\nsubscribe\r\n$10\r\nnews:sport\r\n:1\r\n".to_vec(),
        ),
    ];
    turns.extend((0..TURNS).map(|_| (Direction::Out, message.repeat(per_turn))));
    Stream {
        name: "pub/sub messages",
        messages: (TURNS * per_turn) as u64,
        conversations: vec![Conversation {
            mid_stream: false,
            turns,
        }],
        is_clean: true,
    }
}

fn get(key: &[u8], value_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    (
        array(&[b"GET".to_vec(), key.to_vec()]),
        bulk(&vec![b'v'; value_bytes]),
    )
}

fn set(key: &[u8], value_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let command = array(&[b"SET".to_vec(), key.to_vec(), vec![b'v'; value_bytes]]);
    (command, b"+OK\r\n".to_vec())
}

fn mget(at: usize) -> (Vec<u8>, Vec<u8>) {
    let mut words = vec![b"MGET".to_vec()];
    words.extend((0..10).map(|index| key("key", at + index)));
    (array(&words), array(&vec![vec![b'v'; 16]; 10]))
}

fn sadd(at: usize) -> (Vec<u8>, Vec<u8>) {
    let mut words = vec![b"SADD".to_vec(), key("key", at)];
    words.extend((0..1000).map(|member| format!("member-{member}").into_bytes()));
    (array(&words), b":1000\r\n".to_vec())
}

/// A map as only RESP3 has it.
fn hgetall(at: usize) -> (Vec<u8>, Vec<u8>) {
    let mut reply = b"%1000\r\n".to_vec();
    for field in 0..1000 {
        reply.extend(bulk(format!("field-{field}").as_bytes()));
        reply.extend(bulk(b"value"));
    }
    (array(&[b"HGETALL".to_vec(), key("key", at)]), reply)
}

/// As valkey-benchmark writes them.
fn key(prefix: &str, at: usize) -> Vec<u8> {
    format!("{prefix}:{at:012}").into_bytes()
}

fn array(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| bytes.extend(bulk(word)));
    bytes
}

fn bulk(value: &[u8]) -> Vec<u8> {
    let mut bytes = format!("${}\r\n", value.len()).into_bytes();
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
    bytes
}
