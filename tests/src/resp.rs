//! Connections that speak RESP and know how many bytes went each way.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

/// How long a server may take for a reply.
const PATIENCE: Duration = Duration::from_secs(20);

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`.
    Simple(String),
    /// `-ERR ...`.
    Error(String),
    /// `:1`.
    Integer(i64),
    /// A string, or nothing.
    Bulk(Option<Vec<u8>>),
    /// Several, or nothing.
    Array(Option<Vec<Reply>>),
    /// RESP3: nothing.
    Null,
    /// RESP3: `#t`.
    Boolean(bool),
    /// RESP3: a fraction or a big number, as it is written.
    Number(String),
    /// RESP3: a string with its format, as in `txt:...`.
    Verbatim(Vec<u8>),
    /// RESP3: keys and values.
    Map(Vec<(Reply, Reply)>),
    /// RESP3: several, without order.
    Set(Vec<Reply>),
    /// RESP3: what nobody asked for, or a confirmation of SUBSCRIBE.
    Push(Vec<Reply>),
}

impl Reply {
    /// The text of a string.
    pub fn text(self) -> Result<String> {
        match self {
            Self::Simple(text) => Ok(text),
            Self::Bulk(Some(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            // Its first four bytes are its format and a colon.
            Self::Verbatim(bytes) => {
                Ok(String::from_utf8_lossy(bytes.get(4..).unwrap_or_default()).into_owned())
            }
            other => bail!("expected a string, the server answered {other:?}"),
        }
    }
}

/// A connection to a server.
pub struct Connection {
    stream: BufReader<TcpStream>,
    sent: u64,
    received: u64,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("cannot connect to {address}"))?;
        Self::over(stream)
    }

    /// Connects from `source`, any address of the host's own.
    pub fn open_from(source: Ipv4Addr, server: SocketAddrV4) -> Result<Self> {
        Self::open_prepared(server, |socket| {
            bind(
                socket.as_raw_fd(),
                &SockaddrIn::from(SocketAddrV4::new(source, 0)),
            )
            .with_context(|| format!("cannot use {source} as source"))
        })
    }

    /// Connects by a socket that `prepare` has done something to before.
    pub fn open_prepared(server: SocketAddrV4, prepare: impl FnOnce(&OwnedFd) -> Result<()>) -> Result<Self> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        prepare(&socket)?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(server))
            .with_context(|| format!("cannot connect to {server}"))?;
        Self::over(socket.into())
    }

    /// Uses a connected socket.
    pub fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            sent: 0,
            received: 0,
        })
    }

    /// Sends a command and waits for its reply.
    pub fn call(&mut self, words: &[&[u8]]) -> Result<Reply> {
        self.send(words)?;
        self.receive()
    }

    /// Sends a command and insists on a reply that is no error.
    pub fn ask(&mut self, words: &[&[u8]]) -> Result<Reply> {
        match self.call(words)? {
            Reply::Error(error) => bail!("the server refused: {error}"),
            reply => Ok(reply),
        }
    }

    /// Sends a command as an array of bulk strings.
    pub fn send(&mut self, words: &[&[u8]]) -> Result<()> {
        self.send_bytes(&frame(words))
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).context("cannot send")?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    /// Reads one reply.
    pub fn receive(&mut self) -> Result<Reply> {
        let line = self.line()?;
        let Some((kind, rest)) = line.split_at_checked(1) else {
            bail!("the server sent an empty line");
        };
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse()?),
            "$" => Reply::Bulk(self.bulk(rest)?),
            "*" => Reply::Array(self.array(rest)?),
            "_" => Reply::Null,
            "#" => Reply::Boolean(rest == "t"),
            "," | "(" => Reply::Number(rest.to_owned()),
            "=" => Reply::Verbatim(self.bulk(rest)?.context("a verbatim string without length")?),
            "!" => {
                let text = self.bulk(rest)?.context("an error without length")?;
                Reply::Error(String::from_utf8_lossy(&text).into_owned())
            }
            "%" => Reply::Map(self.pairs(rest)?),
            "~" => Reply::Set(self.array(rest)?.context("a set without length")?),
            ">" => Reply::Push(self.array(rest)?.context("a push without length")?),
            "|" => {
                self.pairs(rest)?;
                self.receive()?
            }
            _ => bail!("the server sent {line:?}, which is not RESP"),
        })
    }

    /// Reads whatever comes until nothing has come for `quiet`, or the server has closed the connection. Returns how
    /// many bytes came.
    pub fn drain(&mut self, quiet: Duration) -> Result<u64> {
        self.stream.get_ref().set_read_timeout(Some(quiet))?;
        let before = self.received;
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(length) => self.received += length as u64,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(error).context("cannot read what comes"),
            }
        }
        self.stream.get_ref().set_read_timeout(Some(PATIENCE))?;
        Ok(self.received - before)
    }

    /// Reads so many bytes of replies, whatever they say.
    pub fn skip(&mut self, bytes: u64) -> Result<()> {
        let mut rest = (&mut self.stream).take(bytes);
        let skipped = std::io::copy(&mut rest, &mut std::io::sink()).context("cannot read replies")?;
        self.received += skipped;
        ensure!(skipped == bytes, "the server closed the connection");
        Ok(())
    }

    /// Bytes sent since it was opened.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes received since it was opened.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    fn bulk(&mut self, length: &str) -> Result<Option<Vec<u8>>> {
        let Ok(length) = usize::try_from(length.parse::<i64>()?) else {
            return Ok(None);
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).context("no rest of a reply")?;
        self.received += bytes.len() as u64;
        bytes.truncate(length);
        Ok(Some(bytes))
    }

    fn array(&mut self, length: &str) -> Result<Option<Vec<Reply>>> {
        let Ok(length) = usize::try_from(length.parse::<i64>()?) else {
            return Ok(None);
        };
        (0..length)
            .map(|_| self.receive())
            .collect::<Result<_>>()
            .map(Some)
    }

    fn pairs(&mut self, length: &str) -> Result<Vec<(Reply, Reply)>> {
        (0..length.parse::<usize>()?)
            .map(|_| Ok((self.receive()?, self.receive()?)))
            .collect()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).context("no reply")?;
        self.received += length as u64;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => bail!("the server closed the connection after {line:?}"),
        }
    }
}

/// A command as it goes over the wire.
#[must_use]
pub fn frame(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A connection to somebody who says `answer`, whatever he hears, and tells how many bytes he has heard.
    fn listener(answer: &'static [u8]) -> Result<(Connection, thread::JoinHandle<std::io::Result<usize>>)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(answer)?;
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard)
        });
        Ok((Connection::open(address)?, server))
    }

    #[test]
    fn both_directions_are_counted_to_the_byte() -> Result<()> {
        let answer = b"*3\r\n$5\r\nab\r\nc\r\n$-1\r\n:7\r\n";
        let (mut connection, server) = listener(answer)?;
        let reply = connection.call(&[b"GET", b"a:1"])?;
        assert_eq!(
            reply,
            Reply::Array(Some(vec![
                Reply::Bulk(Some(b"ab\r\nc".to_vec())),
                Reply::Bulk(None),
                Reply::Integer(7)
            ]))
        );
        assert_eq!(connection.received(), answer.len() as u64);
        let sent = connection.sent();
        drop(connection);
        assert_eq!(server.join().expect("the server ran")? as u64, sent);
        Ok(())
    }

    #[test]
    fn resp3_is_read_to_the_end_of_each_value() -> Result<()> {
        let answer = b"%1\r\n+a\r\n~2\r\n_\r\n#t\r\n|1\r\n+ttl\r\n:9\r\n=6\r\ntxt:ab\r\n>2\r\n,1.5\r\n(7\r\n!3\r\nERR\r\nrest";
        let (mut connection, _server) = listener(answer)?;
        let inner = Reply::Set(vec![Reply::Null, Reply::Boolean(true)]);
        let key = Reply::Simple("a".into());
        assert_eq!(connection.receive()?, Reply::Map(vec![(key, inner)]));
        assert_eq!(connection.receive()?, Reply::Verbatim(b"txt:ab".to_vec()));
        let numbers = ["1.5", "7"].map(|number| Reply::Number(number.into()));
        assert_eq!(connection.receive()?, Reply::Push(numbers.to_vec()));
        assert_eq!(connection.receive()?, Reply::Error("ERR".into()));
        assert_eq!(connection.drain(Duration::from_millis(100))?, 4);
        assert_eq!(connection.received(), answer.len() as u64);
        Ok(())
    }
}
