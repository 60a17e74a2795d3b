//! Secrets in replies that are cut anywhere: no real server cuts them where a test wants.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use stormglass_tests::ports;
use stormglass_tests::resp::frame;
use stormglass_tests::secrets::Secrets;

use super::search::Watched;
use super::speech::LENGTH;

/// After it, what was sent is a segment of its own.
const PAUSE: Duration = Duration::from_micros(100);

/// Most of a reply that waits for its rest.
const TOKEN_BYTES: usize = 24;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn nothing_of_replies_is_left_wherever_segments_cut_them() -> Result<()> {
    let port = ports::free_port()?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let watched = Watched::start(&format!("[discovery]\nports = [{port}]\n"))?;
    watched.agent.scrape_until("this process in /metrics", |scrape| {
        scrape
            .servers()
            .into_iter()
            .any(|name| name.ends_with(&format!(":{port}")))
    })?;
    let mut secrets = Secrets::default();
    let mut open = Vec::new();
    for reply in replies(&mut secrets) {
        open.push(in_pieces(&listener, &reply)?);
    }
    let kept = unfinished(&listener, &mut secrets, &mut open)?;

    watched
        .maps(&[Pid::this()])?
        .assert_waiting(&secrets, &kept, TOKEN_BYTES)?;
    for talk in &mut open {
        talk.reply(b"\r\n")?;
    }
    let states = watched.states(&[Pid::this()])?;
    ensure!(
        states >= open.len(),
        "only {states} states of connections were read"
    );
    watched.look(&[Pid::this()])?.assert_nothing(&secrets);
    drop(open);
    watched.maps(&[Pid::this()])?.assert_nothing(&secrets);
    watched.end(&secrets)
}

/// Replies of every type.
fn replies(secrets: &mut Secrets) -> Vec<Vec<u8>> {
    [
        ("status", "+", "\r\n"),
        ("error", "-", "\r\n"),
        ("error behind a word", "-ERR ", "\r\n"),
        ("error behind a long word", "-NOMASTERLINK ", "\r\n"),
        ("string", "$32\r\n", "\r\n"),
        ("verbatim string", "=36\r\ntxt:", "\r\n"),
        ("long error", "!36\r\nERR ", "\r\n"),
        ("number", ",", "\r\n"),
        ("big number", "(", "\r\n"),
        ("value in a map", "%1\r\n+name\r\n$32\r\n", "\r\n"),
        ("key of a map", "%1\r\n+", "\r\n:1\r\n"),
        ("element", "*2\r\n:1\r\n$32\r\n", "\r\n"),
        ("error in an array", "*2\r\n:1\r\n-", "\r\n"),
        ("member", "~1\r\n$32\r\n", "\r\n"),
        ("attribute", "|1\r\n+key\r\n$32\r\n", "\r\n:1\r\n"),
        ("push", ">2\r\n+invalidate\r\n*1\r\n$32\r\n", "\r\n:1\r\n"),
        (
            "message",
            ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$32\r\n",
            "\r\n:1\r\n",
        ),
        (
            "confirmed channel",
            ">3\r\n$9\r\nsubscribe\r\n$32\r\n",
            "\r\n:1\r\n:1\r\n",
        ),
        ("what confirms", ">3\r\n$12\r\n", "\r\n$4\r\nnews\r\n:1\r\n:1\r\n"),
        ("no reply", "?", "\r\n"),
        ("length", "$", "\r\n"),
        ("number of elements", "*", "\r\n"),
        ("reply behind the reply", ":1\r\n+", "\r\n"),
    ]
    .into_iter()
    .map(|(what, before, after)| format!("{before}{}{after}", secrets.make(what, LENGTH)).into())
    .collect()
}

/// The same reply on connections of their own, cut at each byte, and byte by byte. Returns the last one.
fn in_pieces(listener: &TcpListener, reply: &[u8]) -> Result<Talk> {
    for cut in 1..reply.len() {
        let mut talk = Talk::begin(listener)?;
        talk.ask(&[b"GET", b"cart:1"])?;
        talk.reply(&reply[..cut])?;
        talk.reply(&reply[cut..])?;
    }
    let mut talk = Talk::begin(listener)?;
    talk.ask(&[b"GET", b"cart:1"])?;
    for byte in reply.chunks(1) {
        talk.reply(byte)?;
    }
    Ok(talk)
}

/// Replies of which a part is sent. Returns those of which a token waits for its rest, in the connection's state.
fn unfinished(listener: &TcpListener, secrets: &mut Secrets, open: &mut Vec<Talk>) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    for (what, before, waits) in [
        ("half a string", "$32\r\n", false),
        ("half a verbatim string", "=36\r\ntxt:", false),
        ("half a status", "+", false),
        ("half an error", "-ERR ", false),
        ("some letters of an error", "-", true),
    ] {
        let secret = secrets.make(what, LENGTH);
        let part = if waits { 12 } else { LENGTH / 2 };
        let mut talk = Talk::begin(listener)?;
        talk.ask(&[b"GET", b"cart:1"])?;
        talk.reply(format!("{before}{}", &secret[..part]).as_bytes())?;
        open.push(talk);
        if waits {
            kept.push(what.to_owned());
        }
    }
    Ok(kept)
}

/// Both ends of a connection.
struct Talk {
    client: TcpStream,
    server: TcpStream,
}

impl Talk {
    fn begin(listener: &TcpListener) -> Result<Self> {
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_nodelay(true)?;
            end.set_read_timeout(Some(Duration::from_secs(5)))?;
        }
        Ok(Self { client, server })
    }

    fn ask(&mut self, words: &[&[u8]]) -> Result<()> {
        let command = frame(words);
        self.client.write_all(&command)?;
        self.server
            .read_exact(&mut vec![0; command.len()])
            .context("the command does not arrive")
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<()> {
        self.server.write_all(bytes)?;
        self.client
            .read_exact(&mut vec![0; bytes.len()])
            .context("the reply does not arrive")?;
        sleep(PAUSE);
        Ok(())
    }
}
