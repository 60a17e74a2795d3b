//! Connections that speak RESP2 and know how many bytes went each way.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
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
}

impl Reply {
    /// The text of a string.
    pub fn text(self) -> Result<String> {
        match self {
            Self::Simple(text) => Ok(text),
            Self::Bulk(Some(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
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
        let socket = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        bind(
            socket.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(source, 0)),
        )
        .with_context(|| format!("cannot use {source} as source"))?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(server))
            .with_context(|| format!("cannot connect to {server} from {source}"))?;
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
            _ => bail!("the server sent {line:?}, which is not RESP2"),
        })
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

    #[test]
    fn both_directions_are_counted_to_the_byte() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let answer = b"*3\r\n$5\r\nab\r\nc\r\n$-1\r\n:7\r\n";
        let server = thread::spawn(move || -> std::io::Result<Vec<u8>> {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(answer)?;
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard)?;
            Ok(heard)
        });
        let mut connection = Connection::open(address)?;
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
        assert_eq!(server.join().expect("the server ran")?.len() as u64, sent);
        Ok(())
    }
}
