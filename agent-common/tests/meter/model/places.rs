//! Where a command's first key is, written by hand from the server's documentation. The meter's own table comes from the
//! server's metadata: the two can be wrong, but hardly in the same way.

/// How prefixes are cut from keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    /// One to four bytes, any of which ends a prefix.
    pub(crate) delimiters: &'static [u8],
    /// How many delimiters deep a prefix goes.
    pub(crate) depth: usize,
    /// Longest prefix in bytes.
    pub(crate) longest: usize,
}

/// What the arguments of a command are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// No key among them.
    Keyless,
    /// The first key is this argument; the name is argument 0.
    Key(usize),
    /// The first key is this argument or, if that is empty, follows the word KEYS.
    KeyOrKeys(usize),
    /// This argument is the number of keys, which follow it.
    Count(usize),
    /// The first key follows the word STREAMS, which is this argument or a later one.
    Streams(usize),
    /// The next word belongs to the name.
    Container(&'static [(&'static str, Form)]),
    /// Channels.
    Channels,
    /// The connection becomes a replica's link.
    Link,
}

use Form::{Channels, Container, Count, Key, KeyOrKeys, Keyless, Link, Streams};

/// The commands that random conversations use, by name.
pub(crate) const COMMANDS: &[(&str, Form)] = &[
    ("get", Key(1)),
    ("set", Key(1)),
    ("mget", Key(1)),
    ("del", Key(1)),
    ("incrbyfloat", Key(1)),
    ("lrange", Key(1)),
    ("blpop", Key(1)),
    ("rename", Key(1)),
    ("zadd", Key(1)),
    ("zrange", Key(1)),
    ("zrangestore", Key(1)),
    ("zunionstore", Key(1)),
    ("sinterstore", Key(1)),
    ("sort", Key(1)),
    ("copy", Key(1)),
    ("georadiusbymember_ro", Key(1)),
    ("geosearchstore", Key(1)),
    ("hset", Key(1)),
    ("hgetall", Key(1)),
    ("pfmerge", Key(1)),
    ("xadd", Key(1)),
    ("xautoclaim", Key(1)),
    ("watch", Key(1)),
    ("getrange", Key(1)),
    ("restore-asking", Key(1)),
    ("bitop", Key(2)),
    ("migrate", KeyOrKeys(3)),
    ("eval", Count(2)),
    ("evalsha_ro", Count(2)),
    ("fcall", Count(2)),
    ("fcall_ro", Count(2)),
    ("zunion", Count(1)),
    ("zinter", Count(1)),
    ("zdiff", Count(1)),
    ("zintercard", Count(1)),
    ("sintercard", Count(1)),
    ("lmpop", Count(1)),
    ("zmpop", Count(1)),
    ("msetex", Count(1)),
    ("blmpop", Count(2)),
    ("bzmpop", Count(2)),
    ("xread", Streams(1)),
    ("xreadgroup", Streams(4)),
    (
        "object",
        Container(&[
            ("encoding", Key(2)),
            ("freq", Key(2)),
            ("help", Keyless),
            ("nothing", Keyless),
        ]),
    ),
    (
        "memory",
        Container(&[("usage", Key(2)), ("stats", Keyless), ("malloc-stats", Keyless)]),
    ),
    (
        "xgroup",
        Container(&[
            ("create", Key(2)),
            ("createconsumer", Key(2)),
            ("delconsumer", Key(2)),
            ("help", Keyless),
        ]),
    ),
    (
        "xinfo",
        Container(&[("stream", Key(2)), ("consumers", Key(2)), ("help", Keyless)]),
    ),
    (
        "client",
        Container(&[
            ("setname", Keyless),
            ("setinfo", Keyless),
            ("tracking", Keyless),
            ("no-evict", Keyless),
            ("reply", Keyless),
            ("list", Keyless),
        ]),
    ),
    ("config", Keyless),
    ("cluster", Keyless),
    ("command", Keyless),
    ("acl", Keyless),
    ("pubsub", Keyless),
    ("info", Keyless),
    ("ping", Keyless),
    ("echo", Keyless),
    ("auth", Keyless),
    ("select", Keyless),
    ("hello", Keyless),
    ("scan", Keyless),
    ("wait", Keyless),
    ("multi", Keyless),
    ("exec", Keyless),
    ("discard", Keyless),
    ("reset", Keyless),
    ("quit", Keyless),
    ("monitor", Keyless),
    ("asking", Keyless),
    ("replconf", Link),
    ("subscribe", Channels),
    ("psubscribe", Channels),
    ("ssubscribe", Channels),
    ("unsubscribe", Channels),
    ("punsubscribe", Channels),
    ("sunsubscribe", Channels),
    ("publish", Channels),
    ("spublish", Channels),
    ("psync", Link),
    ("sync", Link),
];

/// What the words of a command, or the first of them, say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name of its row; none: the words so far do not tell.
    pub(crate) row: Option<String>,
    /// Such a command exists.
    pub(crate) known: bool,
}

/// Where a command belongs.
pub(crate) fn place(words: &[impl AsRef<[u8]>], keys: &Keys) -> Place {
    let Some(name) = words.first() else {
        return Place {
            row: None,
            known: true,
        };
    };
    let form = form_of(COMMANDS, name.as_ref());
    Place {
        row: row(form.unwrap_or(Key(1)), words, keys),
        known: form.is_some(),
    }
}

fn form_of(commands: &[(&str, Form)], name: &[u8]) -> Option<Form> {
    let mut found = commands
        .iter()
        .filter(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    found.next().map(|(_, form)| *form)
}

fn row(form: Form, words: &[impl AsRef<[u8]>], keys: &Keys) -> Option<String> {
    let keyless = || Some("(keyless)".to_owned());
    let word = |index: usize| words.get(index).map(AsRef::as_ref);
    match form {
        Keyless => keyless(),
        Channels => Some("(pubsub)".to_owned()),
        Link => Some("(replication)".to_owned()),
        Key(index) => word(index).map(|key| prefix_row(key, keys)),
        KeyOrKeys(index) if word(index)?.is_empty() => {
            let behind = words.iter().skip(index + 1);
            let keyword = behind
                .clone()
                .position(|word| word.as_ref().eq_ignore_ascii_case(b"keys"));
            match keyword.and_then(|keyword| word(index + keyword + 2)) {
                Some(key) => Some(prefix_row(key, keys)),
                None => keyless(),
            }
        }
        KeyOrKeys(index) => word(index).map(|key| prefix_row(key, keys)),
        Count(index) if word(index)? == b"0" => keyless(),
        Count(index) => word(index + 1).map(|key| prefix_row(key, keys)),
        Streams(from) => {
            let streams = words
                .iter()
                .skip(from)
                .position(|word| word.as_ref().eq_ignore_ascii_case(b"streams"))?;
            word(from + streams + 1).map(|key| prefix_row(key, keys))
        }
        Container(commands) => row(form_of(commands, word(1)?).unwrap_or(Keyless), words, keys),
    }
}

/// The row of a key: what is before its delimiter number `depth`, or before its last one; of a key that begins with a
/// hash tag, the tag's, which is a prefix without a delimiter as well.
fn prefix_row(key: &[u8], keys: &Keys) -> String {
    if let Some(tag) = hash_tag(key) {
        let row = cut_row(tag, keys);
        let whole = row == "(none)" && tag.len() <= keys.longest;
        return if whole {
            tag.escape_ascii().to_string()
        } else {
            row
        };
    }
    cut_row(key, keys)
}

/// What is between the braces in front, if it is something and they close within what is looked at.
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let rest = key[..key.len().min(33)].strip_prefix(b"{")?;
    let end = rest
        .iter()
        .position(|byte| *byte == b'}')
        .filter(|end| *end != 0)?;
    Some(&rest[..end])
}

fn cut_row(key: &[u8], keys: &Keys) -> String {
    // What is further behind is never looked at.
    let head = &key[..key.len().min(33)];
    let places = (0..head.len()).filter(|index| keys.delimiters.contains(&head[*index]));
    let length = places.take(keys.depth).last().unwrap_or_default();
    if length == 0 || length > keys.longest {
        return "(none)".to_owned();
    }
    key[..length].escape_ascii().to_string()
}
