//! Secrets in everything that clients of a real server say, and that it says to them.

use std::net::SocketAddrV4;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::socket::{setsockopt, sockopt::RcvBuf};
use stormglass_tests::poll;
use stormglass_tests::resp::{Connection, Reply};
use stormglass_tests::secrets::Secrets;
use stormglass_tests::server::{Plan, Server};

use super::search::Watched;
use super::speech::{LENGTH, say, say_in_pieces, send, written};

/// A prefix without a delimiter, so that a whole key is looked up.
const TABLES: &str = "[[tenant]]\nname = \"declared\"\nprefixes = [\"declared-*\"]\n";

/// Most of a message that waits for its rest.
const TOKEN_BYTES: usize = 48;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn nothing_of_values_passwords_and_keys_behind_their_prefix_is_left() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let mut secrets = Secrets::default();
    let mut early = server.connect()?;
    say(
        &mut early,
        &[
            "SET",
            "cart:1",
            &secrets.make("value from before the agent", LENGTH),
        ],
    )?;
    let watched = Watched::start(TABLES)?;
    watched.agent.sees(&server.label())?;
    let replica = Plan::valkey()?.start()?;
    let servers = [server.id(), replica.id()];

    let mut open = vec![server.connect()?, server.connect()?];
    let mut listeners = listeners(&server, &mut secrets)?;
    say(&mut open[1], &["HELLO", "3"])?;
    for connection in &mut open {
        values(connection, &mut secrets)?;
        keys(connection, &mut secrets)?;
        unknown(connection, &mut secrets)?;
        scripts(connection, &mut secrets)?;
        channels(connection, &mut secrets)?;
        passwords(connection, &server, &mut secrets)?;
    }
    values(&mut early, &mut secrets)?;
    sleep(Duration::from_millis(5));
    passwords(&mut early, &server, &mut secrets)?;
    open.extend([
        early,
        slow_reader(&server, &mut secrets)?,
        nonsense(&server, &mut secrets)?,
    ]);
    replication(&server, &replica, &mut secrets)?;
    for listener in &mut listeners {
        ensure!(
            listener.drain(Duration::from_millis(50))? > 0,
            "a listener has heard nothing"
        );
    }
    open.append(&mut listeners);
    open.extend(unfinished(&watched, &server, &mut secrets)?);

    let states = watched.states(&servers)?;
    ensure!(
        states > open.len(),
        "only {states} states of connections were read"
    );
    watched.look(&servers)?.assert_nothing(&secrets);
    drop(open);
    poll::until_true("the end of the connections", Duration::from_secs(10), || {
        Ok(watched.states(&servers[..1])? <= 1)
    })?;
    watched.look(&servers)?.assert_nothing(&secrets);
    watched.end(&secrets)
}

/// Commands of which one part is sent. Of those whose next token is looked at, that token waits in the connection's state,
/// and nowhere else, until the rest comes; of the others nothing does. Returns those that were completed then.
///
/// Because something must be found here, and a prefix in every kind of place, the search works.
fn unfinished(watched: &Watched, server: &Server, secrets: &mut Secrets) -> Result<Vec<Connection>> {
    let mut all = Vec::new();
    for (what, before, waits) in [
        (
            "half a value",
            "*3\r\n$3\r\nSET\r\n$6\r\ncart:2\r\n$32\r\n",
            false,
        ),
        (
            "half a password",
            "*3\r\n$4\r\nAUTH\r\n$5\r\nalice\r\n$32\r\n",
            false,
        ),
        (
            "half a greeting",
            "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$5\r\nalice\r\n$32\r\n",
            false,
        ),
        ("half an inline value", "SET cart:2 ", false),
        ("half an inline password", "AUTH alice ", false),
        ("half an inline greeting", "HELLO 3 AUTH alice \"", false),
        (
            "half a key behind its prefix",
            "*2\r\n$3\r\nGET\r\n$37\r\ncart:",
            true,
        ),
        ("half a key without delimiter", "*2\r\n$3\r\nGET\r\n$32\r\n", true),
        ("half an inline key", "GET cart:", true),
        ("half a name", "*1\r\n$32\r\n", true),
        ("half an inline name", "", true),
    ] {
        let secret = secrets.make(what, LENGTH);
        let (first, rest) = secret.split_at(LENGTH / 2);
        let mut connection = server.connect()?;
        send(&mut connection, format!("{before}{first}").as_bytes())?;
        all.push((what.to_owned(), connection, waits.then(|| format!("{rest}\r\n"))));
    }
    let mut known = Secrets::default();
    let prefix = known.make("prefix", 20);
    say(&mut server.connect()?, &["GET", &format!("{prefix}:1")])?;
    watched.agent.metrics()?;

    let look = watched.look(&[server.id()])?;
    let waiting = all.iter().filter(|(_, _, rest)| rest.is_some());
    let waiting: Vec<_> = waiting.map(|(what, ..)| what.clone()).collect();
    look.assert_waiting(secrets, &waiting, TOKEN_BYTES)?;
    let finds = look.find(&known);
    for place in ["SG_PREFIXES", "SG_SCRATCH_IN", "/metrics", "memory of the agent"] {
        let found = finds
            .iter()
            .any(|find| find.place.starts_with(place) && find.trace.left == prefix);
        ensure!(found, "the search does not find a prefix in {place}: {finds:#?}");
    }
    let mut completed = Vec::new();
    for (_, mut connection, rest) in all {
        // The clients of the others go away in the middle of it.
        if let Some(rest) = rest {
            send(&mut connection, rest.as_bytes())?;
            connection.receive()?;
            completed.push(connection);
        }
    }
    Ok(completed)
}

/// Values of all types, whole, long, and cut; and what is answered to those who read them.
fn values(connection: &mut Connection, secrets: &mut Secrets) -> Result<()> {
    let value = secrets.make("value", LENGTH);
    let long = secrets.make("long value", LENGTH).repeat(100 << 10 >> 5);
    for words in [
        &["SET", "cart:1", &value] as &[&str],
        &["GET", "cart:1"],
        &["SET", "cart:big", &long],
        &["GET", "cart:big"],
        &["APPEND", "cart:1", &secrets.make("appended value", LENGTH)],
        &[
            "MSET",
            "cart:2",
            &secrets.make("one of several values", LENGTH),
            "cart:3",
            &long,
        ],
        &["MGET", "cart:1", "cart:2", "cart:3"],
        &[
            "HSET",
            "cart:h",
            "field",
            &secrets.make("value of a field", LENGTH),
        ],
        &["HSET", "cart:h", &secrets.make("field", LENGTH), "1"],
        &["HGETALL", "cart:h"],
        &["LPUSH", "cart:l", &secrets.make("element", LENGTH), &long],
        &["LRANGE", "cart:l", "0", "-1"],
        &["SADD", "cart:s", &secrets.make("member", LENGTH)],
        &["SMEMBERS", "cart:s"],
        &["XADD", "cart:x", "*", "field", &secrets.make("entry", LENGTH)],
        &["XRANGE", "cart:x", "-", "+"],
        &["XREAD", "COUNT", "9", "STREAMS", "cart:x", "0"],
        &["ECHO", &secrets.make("echo", LENGTH)],
        &["PING", &secrets.make("ping", LENGTH)],
        &["MULTI"],
        &["SET", "cart:4", &secrets.make("value in a transaction", LENGTH)],
        &["GET", "cart:4"],
        &["EXEC"],
        &["CLIENT", "TRACKING", "ON"],
    ] {
        say(connection, words)?;
    }
    for command in [
        written(&[
            "SET",
            "cart:1",
            &secrets.make("value that a segment cuts", LENGTH),
        ]),
        written(&[
            "HSET",
            "cart:h",
            "field",
            &secrets.make("field that a segment cuts", LENGTH),
        ]),
        written(&["PING", &secrets.make("ping that a segment cuts", LENGTH)]),
        format!(
            "SET cart:1 {}\r\n",
            secrets.make("inline value that a segment cuts", LENGTH)
        )
        .into(),
        format!(
            "SET cart:1 \"\\x00{}\"\r\n",
            secrets.make("quoted value that a segment cuts", LENGTH)
        )
        .into(),
    ] {
        say_in_pieces(connection, &command)?;
    }
    for size in [447, 448, 449, 511, 512, 513, 4096, 70_000] {
        let value = &long[..size];
        let command = written(&["SET", "cart:big", value]);
        for cut in [40, 100, command.len() / 2, command.len() - 20] {
            send(connection, &command[..cut])?;
            send(connection, &command[cut..])?;
            connection.receive()?;
        }
        say(connection, &["GET", "cart:big"])?;
    }
    Ok(())
}

/// Keys, of which no more than the prefix may stay.
fn keys(connection: &mut Connection, secrets: &mut Secrets) -> Result<()> {
    let mut key = |what: &str, before: &str, after: &str| {
        let key = secrets.make(what, LENGTH);
        format!("{before}{key}{after}")
    };
    let keys = [
        key("key behind its prefix", "cart:", ""),
        key("key between delimiters", "cart:", ":1"),
        key("key without delimiter", "", ""),
        key("prefix that is too long", "0", ":1"),
        key(
            "prefix that is much too long",
            "0123456789012345678901234567890123456789",
            ":1",
        ),
        key("key behind a hash tag", "{tenant}:", ""),
        key("key right behind a hash tag", "{tenant}", ""),
        key("key inside a hash tag", "{tenant:", "}:1"),
        key("hash tag that is too long", "{0", "}:1"),
        key("hash tag that does not end", "{tenant:", ""),
        key("key behind a declared prefix", "declared-", ""),
        key("key that is a line", "cart:\n", "\n"),
    ];
    for key in &keys {
        say(connection, &["SET", key, "1"])?;
        say(connection, &["GET", key])?;
        say_in_pieces(connection, &written(&["GET", key]))?;
        say_in_pieces(connection, &written(&["SET", key, "1"]))?;
        if !key.contains('\n') {
            say_in_pieces(connection, format!("GET {key}\r\n").as_bytes())?;
            say_in_pieces(connection, format!("GET '{key}'\r\n").as_bytes())?;
        }
    }
    let further = secrets.make("second key", LENGTH);
    for words in [
        &["MGET", "cart:1", &format!("cart:{further}"), &further] as &[&str],
        &["EVAL", "return 1", "2", "cart:1", &further],
        &["SCAN", "0", "COUNT", "1000"],
        &["KEYS", "*"],
        &["RENAME", &keys[0], &format!("cart:{further}")],
        &["OBJECT", "ENCODING", &further],
        &["XREAD", "STREAMS", "cart:x", &further, "0", "0"],
    ] {
        say(connection, words)?;
    }
    Ok(())
}

/// Names and arguments that mean nothing to the server. Its errors repeat them.
fn unknown(connection: &mut Connection, secrets: &mut Secrets) -> Result<()> {
    let (name, short) = (secrets.make("name", LENGTH), secrets.make("short name", 20));
    let argument = secrets.make("argument of an unknown command", LENGTH);
    for words in [
        &["NO-SUCH-COMMAND", &argument, &argument] as &[&str],
        &["AUHT", &secrets.make("password of a misspelt AUTH", LENGTH)],
        &["CONFIG", "NO-SUCH", &argument],
        &["ACL", &secrets.make("subcommand", LENGTH), &argument],
        &["ACL", &secrets.make("short subcommand", 12)],
        &[&name],
        &[&short, "1"],
        &["GET", "cart:1", &secrets.make("argument too many", LENGTH)],
        &["SET", "cart:1", "1", &secrets.make("option", LENGTH)],
        &[
            "LPUSH",
            "cart:1",
            &secrets.make("value of the wrong type", LENGTH),
        ],
        &["ZUNION", &secrets.make("number of keys", LENGTH), "cart:1"],
        &[
            "XREAD",
            &secrets.make("option of XREAD", LENGTH),
            "STREAMS",
            "cart:x",
            "0",
        ],
    ] {
        say(connection, words)?;
    }
    for command in [
        written(&["NO-SUCH-COMMAND", &argument]),
        written(&["ACL", &argument]),
        written(&[&name]),
        written(&[&short, "1"]),
        format!("{name}\r\n").into(),
        format!("NO-SUCH-COMMAND {argument}\r\n").into(),
        format!("'{short}'\r\n").into(),
    ] {
        say_in_pieces(connection, &command)?;
    }
    Ok(())
}

/// Bodies, arguments, and what they answer: errors and words.
fn scripts(connection: &mut Connection, secrets: &mut Secrets) -> Result<()> {
    let body = format!("return '{}'", secrets.make("script", LENGTH));
    let error = |text: &str| format!("return server.error_reply('{text}')");
    let (long, first) = (
        secrets.make("error", LENGTH),
        secrets.make("first word of an error", LENGTH),
    );
    let short = secrets.make("short first word of an error", 12);
    let status = format!("return server.status_reply('{}')", secrets.make("status", LENGTH));
    let library = secrets.make("library", LENGTH);
    let library =
        format!("#!lua name=library\nserver.register_function('f', function() return '{library}' end)");
    for words in [
        &["EVAL", &body, "0"] as &[&str],
        &[
            "EVAL",
            "return {KEYS[1], ARGV[1]}",
            "1",
            "cart:1",
            &secrets.make("argument of a script", LENGTH),
        ],
        &["EVAL", &error(&format!("MYOWN {long}")), "0"],
        &["EVAL", &error(&first), "0"],
        &["EVAL", &error(&short), "0"],
        &["EVAL", &status, "0"],
        &["EVALSHA", &secrets.make("digest", 40), "0"],
        &["SCRIPT", "LOAD", &body],
        &["FUNCTION", "LOAD", "REPLACE", &library],
        &["FCALL", "f", "0"],
        &["FUNCTION", "LIST", "WITHCODE"],
    ] {
        say(connection, words)?;
    }
    for words in [
        &["EVAL", &body, "0"],
        &["EVAL", &error(&first), "0"],
        &["SCRIPT", "LOAD", &body],
    ] {
        say_in_pieces(connection, &written(words))?;
    }
    Ok(())
}

/// Channels and messages.
fn channels(connection: &mut Connection, secrets: &mut Secrets) -> Result<()> {
    let (channel, message) = (
        secrets.make("nobody's channel", LENGTH),
        secrets.make("message", LENGTH),
    );
    for channel in ["news", &channel, &format!("news:{channel}")] {
        say(connection, &["PUBLISH", channel, &message])?;
        say_in_pieces(connection, &written(&["PUBLISH", channel, &message]))?;
        say(connection, &["SPUBLISH", channel, &message])?;
    }
    Ok(())
}

/// A client that monitors, and subscribers of both protocols. They hear all of the above.
fn listeners(server: &Server, secrets: &mut Secrets) -> Result<Vec<Connection>> {
    let mut listeners = Vec::new();
    let mut monitor = server.connect()?;
    say(&mut monitor, &["MONITOR"])?;
    listeners.push(monitor);
    for protocol in ["2", "3"] {
        let mut subscriber = server.connect()?;
        say(&mut subscriber, &["HELLO", protocol])?;
        let channel = secrets.make("channel", LENGTH);
        let pattern = secrets.make("pattern", LENGTH);
        for words in [
            ["SUBSCRIBE", "news"],
            ["SUBSCRIBE", &channel],
            ["PSUBSCRIBE", &pattern],
            ["PSUBSCRIBE", "*"],
            ["SSUBSCRIBE", "news"],
        ] {
            say(&mut subscriber, &words)?;
        }
        say_in_pieces(&mut subscriber, &written(&["SUBSCRIBE", &channel]))?;
        say_in_pieces(&mut subscriber, &written(&["UNSUBSCRIBE", &channel]))?;
        listeners.push(subscriber);
    }
    let mut tracking = server.connect()?;
    say(&mut tracking, &["HELLO", "3"])?;
    say(&mut tracking, &["CLIENT", "TRACKING", "ON", "BCAST"])?;
    listeners.push(tracking);
    Ok(listeners)
}

/// Passwords in every command that takes one, right and wrong, whole and cut.
fn passwords(connection: &mut Connection, server: &Server, secrets: &mut Secrets) -> Result<()> {
    let (password, wrong) = (
        secrets.make("password", LENGTH),
        secrets.make("wrong password", LENGTH),
    );
    let default = secrets.make("password of everybody", LENGTH);
    let all = ["ON", "~*", "&*", "+@all"];
    say(
        connection,
        &[&["ACL", "SETUSER", "alice", &format!(">{password}")], &all[..]].concat(),
    )?;
    say(
        connection,
        &[
            "ACL",
            "SETUSER",
            "bob",
            "ON",
            &format!(">{}", secrets.make("password of bob", LENGTH)),
        ],
    )?;
    say(
        connection,
        &[
            "ACL",
            "SETUSER",
            "bob",
            &format!("<{}", secrets.make("taken password", LENGTH)),
        ],
    )?;
    say_in_pieces(
        connection,
        &written(&["ACL", "SETUSER", "alice", &format!(">{password}")]),
    )?;
    say(connection, &["CONFIG", "SET", "requirepass", &default])?;
    say(connection, &["CONFIG", "GET", "requirepass"])?;
    say(
        connection,
        &[
            "CONFIG",
            "SET",
            "primaryauth",
            &secrets.make("password of the primary", LENGTH),
        ],
    )?;
    for (user, password) in [("alice", &password), ("alice", &wrong), ("default", &default)] {
        let mut other = server.connect()?;
        for command in [
            written(&["AUTH", user, password]),
            written(&["HELLO", "3", "AUTH", user, password, "SETNAME", "name"]),
            format!("AUTH {user} {password}\r\n").into(),
            format!("AUTH {user} \"{password}\"\r\n").into(),
            format!("HELLO 2 AUTH {user} '{password}'\r\n").into(),
        ] {
            say_in_pieces(&mut other, &command)?;
        }
    }
    let mut other = server.connect()?;
    say_in_pieces(&mut other, &written(&["AUTH", &wrong]))?;
    say_in_pieces(&mut other, &written(&["AUTH", &default]))?;
    say_in_pieces(&mut other, format!("AUTH {default}\r\n").as_bytes())?;
    say(connection, &["CONFIG", "SET", "requirepass", ""])?;
    // Nobody listens on port 1.
    for words in [
        &[
            "MIGRATE",
            "127.0.0.1",
            "1",
            "cart:1",
            "0",
            "50",
            "AUTH",
            &secrets.make("password of MIGRATE", LENGTH),
        ] as &[&str],
        &[
            "MIGRATE",
            "127.0.0.1",
            "1",
            "",
            "0",
            "50",
            "AUTH2",
            "alice",
            &password,
            "KEYS",
            "cart:1",
            "cart:2",
        ],
        &["ACL", "LOG"],
        &["ACL", "GETUSER", "alice"],
    ] {
        say(connection, words)?;
    }
    Ok(())
}

/// A client that asks for much and takes it in sips: the server's segments end where the client's room does.
fn slow_reader(server: &Server, secrets: &mut Secrets) -> Result<Connection> {
    let address = SocketAddrV4::new([127, 0, 0, 1].into(), server.port());
    let mut connection = Connection::open_prepared(address, |socket| Ok(setsockopt(socket, RcvBuf, &2048)?))?;
    let value = secrets.make("value that is read slowly", LENGTH).repeat(40);
    say(&mut connection, &["SET", "cart:slow", &value])?;
    let error = format!(
        "return server.error_reply('MYOWN {}')",
        secrets.make("error that is read slowly", LENGTH)
    );
    let pair = [written(&["GET", "cart:slow"]), written(&["EVAL", &error, "0"])].concat();
    for _ in 0..100 {
        connection.send_bytes(&pair)?;
    }
    for _ in 0..100 {
        ensure!(matches!(connection.receive()?, Reply::Bulk(Some(_))));
        ensure!(matches!(connection.receive()?, Reply::Error(_)));
    }
    Ok(connection)
}

/// What is no protocol: the server answers with an error, or waits, and the meter gives up. And a command whose argument
/// the meter reads although it is no key.
fn nonsense(server: &Server, secrets: &mut Secrets) -> Result<Connection> {
    for (before, after) in [
        ("*", "\r\n"),
        ("*1\r\n$", "\r\n"),
        ("*1\r\n", "\r\n"),
        ("*2\r\n$3\r\nGET\r\n$", "\r\n"),
        ("*2\r\n$3\r\nGET\r\n", "\r\n"),
        ("\u{16}\u{3}\u{1}", ""),
        ("GET \"", "\r\n"),
        ("$32\r\n", "\r\n"),
    ] {
        let bytes = format!(
            "{before}{}{after}",
            secrets.make(&format!("nonsense after {before:?}"), LENGTH)
        );
        for cut in 1..bytes.len() {
            let mut connection = server.connect()?;
            send(&mut connection, &bytes.as_bytes()[..cut])?;
            // The server may have closed it.
            let _ = send(&mut connection, &bytes.as_bytes()[cut..]);
        }
    }
    let mut connection = server.connect()?;
    say(&mut connection, &["CLIENT", "REPLY", &secrets.make("mode", 8)])?;
    Ok(connection)
}

/// All of it goes to a replica, which says a password as well.
fn replication(server: &Server, replica: &Server, secrets: &mut Secrets) -> Result<()> {
    let mut primary = server.connect()?;
    let mut connection = replica.connect()?;
    let password = secrets.make("password of a replica", LENGTH);
    say(&mut primary, &["CONFIG", "SET", "requirepass", &password])?;
    say(&mut connection, &["CONFIG", "SET", "primaryauth", &password])?;
    say(
        &mut connection,
        &["REPLICAOF", "127.0.0.1", &server.port().to_string()],
    )?;
    let value = secrets.make("value for a replica", LENGTH);
    say(&mut primary, &["SET", "cart:replica", &value])?;
    poll::until_true("the value at the replica", Duration::from_secs(20), || {
        Ok(say(&mut connection, &["GET", "cart:replica"])? == Reply::Bulk(Some(value.clone().into())))
    })?;
    say(&mut primary, &["CONFIG", "SET", "requirepass", ""])?;
    Ok(())
}
