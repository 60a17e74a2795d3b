//! redis-rs.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use redis::{Client, Cmd, Connection, PushInfo, PushKind, Value, cmd, pipe};
use stormglass_tests::poll;

use super::{Sent, Told};

const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of the values.
const SIZES: [usize; 6] = [1, 10, 1_000, 16_384, 100_000, 1 << 20];

/// What a subscriber hears, and how often.
const MESSAGE: [u8; 300] = [b'n'; 300];
const MESSAGES: usize = 50;

/// Keys that are read, and changed by somebody else.
const TRACKED: usize = 20;

/// Sends what the other clients send as well, in RESP2 and in RESP3.
pub(crate) fn drive(server: SocketAddr) -> Result<Told> {
    let mut told = Told::default();
    for (protocol, prefix) in [(2, "rs2"), (3, "rs3")] {
        let place = Place { server, protocol };
        let mut keyed = Keyed::new(&place, prefix)?;
        let mut other = Keyed::new(&place, prefix)?;
        values(&mut keyed)?;
        shapes(&mut keyed)?;
        scripts(&mut keyed)?;
        pipelines(&mut keyed)?;
        transactions(&mut keyed, &mut other)?;
        blocking(&mut keyed, &mut other)?;
        told.pushed += subscriptions(&place, &mut keyed)?;
        told.pushed += tracking(&place, &mut keyed, &mut other)?;
        keyed.add(&other);
        told.rows.insert(prefix.to_owned(), keyed.sent());

        let mut known = Keyed::new(&place, &format!("{prefix}k"))?;
        let bytes_out = Some(self::known(&mut known)?);
        let sent = Sent {
            bytes_out,
            ..known.sent()
        };
        told.rows.insert(known.prefix, sent);
    }
    Ok(told)
}

/// Where to, and how.
struct Place {
    server: SocketAddr,
    protocol: u8,
}

impl Place {
    fn connect(&self) -> Result<Connection> {
        let client = Client::open(format!("redis://{}/?protocol=resp{}", self.server, self.protocol))?;
        let connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }
}

/// A connection that sends commands on keys of one prefix, and counts them.
struct Keyed {
    connection: Connection,
    prefix: String,
    commands: u64,
    bytes: u64,
}

impl Keyed {
    fn new(place: &Place, prefix: &str) -> Result<Self> {
        Ok(Self {
            connection: place.connect()?,
            prefix: prefix.to_owned(),
            commands: 0,
            bytes: 0,
        })
    }

    fn key(&self, name: impl std::fmt::Display) -> String {
        format!("{}:{name}", self.prefix)
    }

    /// Sends a command on a key of the prefix.
    fn call(&mut self, command: &Cmd) -> Result<Value> {
        self.count(command);
        command.query(&mut self.connection).map_err(Into::into)
    }

    /// Sends commands on keys of the prefix at once, as a transaction or not.
    fn pipeline(&mut self, commands: Vec<Cmd>, atomic: bool) -> Result<Value> {
        let mut pipeline = pipe();
        if atomic {
            pipeline.atomic();
        }
        for command in commands {
            self.count(&command);
            pipeline.add_command(command);
        }
        pipeline.query(&mut self.connection).map_err(Into::into)
    }

    fn count(&mut self, command: &Cmd) {
        self.commands += 1;
        self.bytes += command.get_packed_command().len() as u64;
    }

    fn add(&mut self, other: &Self) {
        self.commands += other.commands;
        self.bytes += other.bytes;
    }

    fn sent(&self) -> Sent {
        Sent {
            commands: Some(self.commands),
            bytes_in: Some(self.bytes),
            bytes_out: None,
        }
    }
}

/// Each size there and back.
fn values(keyed: &mut Keyed) -> Result<()> {
    for size in SIZES {
        let (key, value) = (keyed.key(size), vec![b'r'; size]);
        keyed.call(cmd("SET").arg(&key).arg(&value))?;
        ensure!(keyed.call(cmd("GET").arg(&key))? == Value::BulkString(value));
    }
    Ok(())
}

/// Replies of every shape: status, integer, null, array, nested array, map, double, error.
fn shapes(keyed: &mut Keyed) -> Result<()> {
    for round in 0..100 {
        keyed.call(cmd("SET").arg(keyed.key("text")).arg(round))?;
        keyed.call(cmd("INCR").arg(keyed.key("number")))?;
        keyed.call(cmd("GET").arg(keyed.key("missing")))?;
        keyed.call(cmd("HSET").arg(keyed.key("hash")).arg(&["a", "1", "b", "2"]))?;
        keyed.call(cmd("HGETALL").arg(keyed.key("hash")))?;
        keyed.call(cmd("ZADD").arg(keyed.key("zset")).arg(&["1.5", "m"]))?;
        keyed.call(
            cmd("ZRANGE")
                .arg(keyed.key("zset"))
                .arg(&["0", "-1", "WITHSCORES"]),
        )?;
        keyed.call(
            cmd("XADD")
                .arg(keyed.key("stream"))
                .arg(&["MAXLEN", "20", "*", "f", "v"]),
        )?;
        keyed.call(
            cmd("XREVRANGE")
                .arg(keyed.key("stream"))
                .arg(&["+", "-", "COUNT", "3"]),
        )?;
        ensure!(
            keyed.call(cmd("INCR").arg(keyed.key("hash"))).is_err(),
            "a hash cannot be incremented"
        );
    }
    Ok(())
}

fn scripts(keyed: &mut Keyed) -> Result<()> {
    let script = "return {1, {redis.call('INCRBY', KEYS[1], ARGV[1]), 'three'}}";
    for _ in 0..20 {
        keyed.call(cmd("EVAL").arg(script).arg(1).arg(keyed.key("number")).arg(7))?;
    }
    let failing = "return redis.call('INCR', KEYS[1])";
    let failed = keyed.call(cmd("EVAL").arg(failing).arg(1).arg(keyed.key("hash")));
    ensure!(failed.is_err(), "a hash cannot be incremented");
    Ok(())
}

/// Pipelines, the longest longer than a segment.
fn pipelines(keyed: &mut Keyed) -> Result<()> {
    for length in [2, 16, 100, 1_000] {
        for _ in 0..10 {
            let commands = (0..length).map(|at| {
                let key = keyed.key(format_args!("piped:{}", at / 2));
                if at % 2 == 0 { set(&key, at) } else { get(&key) }
            });
            keyed.pipeline(commands.collect(), false)?;
        }
    }
    Ok(())
}

/// MULTI and EXEC have no key; what is between them has. One is aborted because a key was changed, one is discarded.
fn transactions(keyed: &mut Keyed, other: &mut Keyed) -> Result<()> {
    let increments = (0..50).map(|_| {
        let mut command = cmd("INCR");
        command.arg(keyed.key("transaction"));
        command
    });
    keyed.pipeline(increments.collect(), true)?;
    let key = keyed.key("watched");
    for change in [false, true] {
        keyed.call(cmd("WATCH").arg(&key))?;
        keyed.call(&get(&key))?;
        if change {
            other.call(&set(&key, 1))?;
        }
        let reply = keyed.pipeline(vec![set(&key, 2)], true)?;
        ensure!((reply == Value::Nil) == change, "EXEC answers {reply:?}");
    }
    cmd("MULTI").exec(&mut keyed.connection)?;
    keyed.call(&get(&key))?;
    cmd("DISCARD").exec(&mut keyed.connection).map_err(Into::into)
}

/// A pop that waits, one that waits in vain.
fn blocking(keyed: &mut Keyed, other: &mut Keyed) -> Result<()> {
    let queue = keyed.key("queue");
    thread::scope(|scope| {
        let pushed = scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            other.call(cmd("RPUSH").arg(&queue).arg("job"))
        });
        let popped = keyed.call(cmd("BLPOP").arg(&queue).arg(PATIENCE.as_secs()))?;
        ensure!(popped != Value::Nil, "nothing is popped");
        pushed.join().map_or_else(|_| Ok(()), |pushed| pushed.map(|_| ()))
    })?;
    let popped = keyed.call(cmd("BLPOP").arg(&queue).arg("0.02"))?;
    ensure!(popped == Value::Nil, "{popped:?} is popped");
    Ok(())
}

/// Messages, by channel and by pattern. Returns their bytes.
fn subscriptions(place: &Place, keyed: &mut Keyed) -> Result<u64> {
    let (channel, pattern) = (format!("{}-news", keyed.prefix), format!("{}-*", keyed.prefix));
    let patterns: usize = cmd("PUBSUB").arg("NUMPAT").query(&mut keyed.connection)?;
    let mut connection = place.connect()?;
    let mut subscriber = connection.as_pubsub();
    subscriber.subscribe(&[&*channel, "unheard"])?;
    subscriber.psubscribe(&pattern)?;
    // In RESP3 nobody waits for the confirmations, and on a bad link they take their time.
    poll::until_true("the subscriptions", PATIENCE, || {
        let (_, listeners): (String, usize) = cmd("PUBSUB")
            .arg("NUMSUB")
            .arg(&channel)
            .query(&mut keyed.connection)?;
        let now: usize = cmd("PUBSUB").arg("NUMPAT").query(&mut keyed.connection)?;
        Ok(listeners == 1 && now > patterns)
    })?;
    for _ in 0..MESSAGES {
        let heard: usize = cmd("PUBLISH")
            .arg(&channel)
            .arg(&MESSAGE)
            .query(&mut keyed.connection)?;
        ensure!(heard == 2, "{heard} subscriptions heard");
    }
    for _ in 0..2 * MESSAGES {
        ensure!(subscriber.get_message()?.get_payload_bytes() == MESSAGE);
    }
    // It unsubscribes.
    drop(subscriber);
    cmd("PING").exec(&mut connection)?;
    let message = frame(&[b"message", channel.as_bytes(), &MESSAGE]);
    let by_pattern = frame(&[b"pmessage", pattern.as_bytes(), channel.as_bytes(), &MESSAGE]);
    Ok(MESSAGES as u64 * (message + by_pattern))
}

/// Keys that were read and then changed by somebody else, one after the other. Returns bytes of the invalidations that are
/// in both protocols' forms.
fn tracking(place: &Place, keyed: &mut Keyed, other: &mut Keyed) -> Result<u64> {
    let mut tracked = Keyed::new(place, &keyed.prefix)?;
    let mut listener = Listener::new(place, &mut tracked)?;
    let mut bytes = 0;
    for number in 0..TRACKED {
        let key = tracked.key(format_args!("tracked:{number}"));
        tracked.call(&get(&key))?;
        other.call(&set(&key, number))?;
        listener.hear(&mut tracked, &key)?;
        bytes += "$10\r\ninvalidate\r\n".len() as u64 + frame(&[key.as_bytes()]);
    }
    keyed.add(&tracked);
    Ok(bytes)
}

/// Where invalidations are heard.
enum Listener {
    /// On the connection itself, between replies.
    Pushes(Receiver<PushInfo>),
    /// On another one, which has subscribed to them.
    Redirected(Connection),
}

impl Listener {
    fn new(place: &Place, tracked: &mut Keyed) -> Result<Self> {
        let mut on = cmd("CLIENT");
        on.arg("TRACKING").arg("ON");
        if place.protocol == 3 {
            let (sender, receiver) = mpsc::channel();
            tracked.connection.set_push_sender(sender);
            on.exec(&mut tracked.connection)?;
            return Ok(Self::Pushes(receiver));
        }
        let mut listener = place.connect()?;
        let number: u64 = cmd("CLIENT").arg("ID").query(&mut listener)?;
        cmd("SUBSCRIBE").arg("__redis__:invalidate").exec(&mut listener)?;
        on.arg("REDIRECT").arg(number).exec(&mut tracked.connection)?;
        Ok(Self::Redirected(listener))
    }

    /// Waits for the invalidation of `key`.
    fn hear(&mut self, tracked: &mut Keyed, key: &str) -> Result<()> {
        let heard = match self {
            Self::Pushes(receiver) => {
                let mut pushes = std::iter::from_fn(|| {
                    // Pushes are read on the way to a reply.
                    let _ = cmd("PING").exec(&mut tracked.connection);
                    receiver.recv_timeout(Duration::from_millis(100)).ok()
                });
                let invalidation = pushes
                    .by_ref()
                    .take(100)
                    .find(|push| push.kind == PushKind::Invalidate);
                Value::Array(invalidation.context("no invalidation")?.data)
            }
            Self::Redirected(listener) => listener.recv_response()?,
        };
        ensure!(
            format!("{heard:?}").contains(key),
            "{heard:?} is no invalidation of {key}"
        );
        Ok(())
    }
}

/// Commands whose replies are the same bytes in both protocols. Returns how many.
fn known(keyed: &mut Keyed) -> Result<u64> {
    let mut out = 0;
    for size in [0, 5, 3_000, 70_000] {
        let (key, value) = (keyed.key(size), "k".repeat(size));
        keyed.call(cmd("SET").arg(&key).arg(&value))?;
        keyed.call(&get(&key))?;
        out += "+OK\r\n".len() + format!("${size}\r\n{value}\r\n").len();
    }
    for atomic in [false, true] {
        let appends = (0..50).map(|number| {
            let mut command = cmd("APPEND");
            command.arg(keyed.key("text")).arg("x".repeat(number));
            command
        });
        let reply = keyed.pipeline(appends.collect(), atomic)?;
        let lengths: Vec<u64> = redis::from_redis_value(reply)?;
        out += lengths
            .iter()
            // EXEC has no key, so its reply is another row's.
            .map(|length| {
                if atomic {
                    "+QUEUED\r\n".len()
                } else {
                    format!(":{length}\r\n").len()
                }
            })
            .sum::<usize>();
    }
    Ok(out as u64)
}

fn get(key: &str) -> Cmd {
    let mut command = cmd("GET");
    command.arg(key);
    command
}

fn set(key: &str, value: usize) -> Cmd {
    let mut command = cmd("SET");
    command.arg(key).arg(value);
    command
}

/// Bytes of an array of strings.
fn frame(words: &[&[u8]]) -> u64 {
    stormglass_tests::resp::frame(words).len() as u64
}
