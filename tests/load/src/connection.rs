//! A connection of the client library over a socket of our own: bound to a source address, its bytes counted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisResult};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ledger::{Account, Bytes};

/// How long a connection or a reply may take. Longer than the library's 500 ms, so that a busy machine breaks no count.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who a connection says it is.
pub(crate) struct Identity {
    pub(crate) source: Ipv4Addr,
    /// For CLIENT SETNAME.
    pub(crate) name: String,
    pub(crate) resp3: bool,
}

/// One connection. [`Connection::close`] it: dropping it loses its count.
pub(crate) struct Connection {
    library: MultiplexedConnection,
    driver: JoinHandle<()>,
    bytes: Arc<Bytes>,
}

impl Connection {
    /// Connects, and lets the library introduce itself. The account gets the bytes of the introduction.
    pub(crate) async fn open(
        target: SocketAddr,
        identity: &Identity,
        account: &Account,
    ) -> RedisResult<Self> {
        let bytes = Arc::new(Bytes::default());
        let socket = CountedSocket {
            stream: connect(target, identity.source).await?,
            bytes: Arc::clone(&bytes),
        };
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let settings = RedisConnectionInfo::default().set_protocol(match identity.resp3 {
            true => ProtocolVersion::RESP3,
            false => ProtocolVersion::RESP2,
        });
        let opening = MultiplexedConnection::new_with_config(&settings, socket, config);
        let (library, driver) = timeout(PATIENCE, opening).await.map_err(timed_out)??;
        let mut connection = Self {
            library,
            driver: tokio::spawn(driver),
            bytes,
        };
        let mut set_name = redis::cmd("CLIENT");
        set_name.arg("SETNAME").arg(&identity.name);
        set_name.exec_async(&mut connection.library).await?;
        account.opened(&connection.bytes);
        Ok(connection)
    }

    /// Sends commands in one write and waits for all replies.
    pub(crate) async fn send(&mut self, commands: &Pipeline) -> RedisResult<()> {
        commands.exec_async(&mut self.library).await
    }

    /// Closes the socket. The account gets the bytes since it was opened.
    pub(crate) async fn close(self, account: &Account) {
        // The driver closes the socket once nobody can send any more. It only fails by being cancelled.
        drop(self.library);
        let _ = self.driver.await;
        account.closed(&self.bytes);
    }
}

async fn connect(target: SocketAddr, source: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let stream = timeout(PATIENCE, socket.connect(target))
        .await
        .map_err(timed_out)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn timed_out(_: tokio::time::error::Elapsed) -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// A stream that counts what goes through it.
struct CountedSocket {
    stream: TcpStream,
    bytes: Arc<Bytes>,
}

impl AsyncRead for CountedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.bytes.received(buffer.filled().len() - before);
        done
    }
}

impl AsyncWrite for CountedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = done {
            self.bytes.sent(written);
        }
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
