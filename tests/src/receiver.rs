//! A receiver of HTTP requests: what alerts are sent to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::poll;

/// Largest body in bytes.
const BODY_BYTES: usize = 1 << 20;

/// A request that was taken.
#[derive(Debug, Clone)]
pub struct Received {
    /// When it was whole.
    pub at: SystemTime,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, as it came.
    pub bytes: Vec<u8>,
    /// Its body, read.
    pub body: Value,
}

impl Received {
    /// The value of a header; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }
}

/// Takes every request until it is dropped; one connection after the other.
pub struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Received>>>,
    thread: Option<JoinHandle<()>>,
    end: Arc<Mutex<End>>,
}

/// How the thread is told that it is over.
#[derive(Default)]
struct End {
    over: bool,
    current: Option<TcpStream>,
}

impl Receiver {
    /// Listens on a port that nobody has.
    pub fn start() -> Result<Self> {
        Self::start_at(0)
    }

    /// Listens on this port.
    pub fn start_at(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).context("cannot listen")?;
        let address = listener.local_addr()?;
        let requests = Arc::new(Mutex::new(Vec::new()));
        let end = Arc::new(Mutex::new(End::default()));
        let (taken, ending) = (Arc::clone(&requests), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                {
                    let mut end = lock(&ending);
                    if end.over {
                        return;
                    }
                    end.current = stream.try_clone().ok();
                }
                // A connection that breaks off is the sender's affair: it sends again.
                _ = serve(stream, &taken);
            }
        });
        Ok(Self {
            address,
            requests,
            thread: Some(thread),
            end,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.requests).clone()
    }

    /// Waits until there are at least so many.
    pub fn wait_for(&self, count: usize, within: Duration) -> Result<Vec<Received>> {
        poll::until(&format!("{count} requests"), within, || {
            let received = self.received();
            Ok((received.len() >= count).then_some(received))
        })
        .with_context(|| format!("received: {:#?}", self.received()))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut end = lock(&self.end);
        end.over = true;
        if let Some(current) = end.current.take() {
            _ = current.shutdown(Shutdown::Both);
        }
        drop(end);
        // Wakes the thread where it waits for the next connection.
        _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, requests: &Mutex<Vec<Received>>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ") {
                headers.push((name.to_ascii_lowercase(), value.to_owned()));
            }
        }
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.context("no content-length")?.1.parse()?;
        let mut bytes = vec![0; length.min(BODY_BYTES)];
        reader.read_exact(&mut bytes)?;
        lock(requests).push(Received {
            at: SystemTime::now(),
            headers,
            body: serde_json::from_slice(&bytes)?,
            bytes,
        });
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
