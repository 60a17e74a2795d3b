//! Plays a recording of a real API server to a watcher: it has to ask for the same in the same order, and gets the same bytes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};

use super::{
    PAUSE,
    credentials::Credentials,
    recording::{End, Exchange, Recording},
};

/// A server that plays. Dropping it closes everything.
pub struct Player {
    shared: Arc<Shared>,
    credentials: Credentials,
}

struct Shared {
    recording: Recording,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Exchanges that began.
    begun: usize,
    /// Of these, those that were played to their end.
    played: usize,
    /// What was asked for instead of the next.
    wrong: Vec<String>,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Player {
    /// Starts to play from the beginning.
    pub fn start(recording: Recording) -> Result<Self> {
        let credentials = Credentials::plain()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        credentials.write_token("of nobody")?;
        credentials.write_kubeconfig(listener.local_addr()?)?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            recording,
            state: Mutex::default(),
        });
        let player = Self {
            shared: Arc::clone(&shared),
            credentials,
        };
        thread::spawn(move || accept(&listener, &shared));
        Ok(player)
    }

    /// A kubeconfig that leads here.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.credentials.kubeconfig()
    }

    /// Whether everything was asked for and told; an error if something else was asked for.
    pub fn is_at_end(&self) -> Result<bool> {
        let state = self.shared.state();
        if let Some(wrong) = state.wrong.first() {
            bail!("{wrong}");
        }
        Ok(state.played == self.shared.recording.exchanges.len())
    }

    /// How many exchanges were played.
    #[must_use]
    pub fn played(&self) -> usize {
        self.shared.state().played
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.shared.state().ended = true;
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.state().ended {
        match listener.accept() {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                // An error is the watcher gone.
                thread::spawn(move || serve(&stream, &shared));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// As many requests as the watcher sends over this connection, until one is answered by its breaking.
fn serve(stream: &TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(get) = request(&mut reader)? {
        let Some(exchange) = next(&get, shared) else {
            let answer = b"HTTP/1.1 500 Not recorded\r\ncontent-length: 0\r\n\r\n";
            (&*stream).write_all(answer)?;
            continue;
        };
        play(exchange, stream)?;
        shared.state().played += 1;
        match exchange.end {
            End::Whole => {}
            End::Broken | End::Refused => return Ok(stream.shutdown(Shutdown::Both)?),
            End::Open => {
                while !shared.state().ended {
                    thread::sleep(PAUSE);
                }
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What is asked for; `None`: the connection was closed.
fn request(reader: &mut BufReader<&TcpStream>) -> Result<Option<String>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut line = String::new();
    while !matches!(&*line, "\r\n" | "\n") {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
    }
    let get = first.strip_prefix("GET ").context("not read only")?;
    Ok(get.split(' ').next().map(ToOwned::to_owned))
}

/// The next exchange, if it is the one that is asked for.
fn next<'a>(get: &str, shared: &'a Shared) -> Option<&'a Exchange> {
    let mut state = shared.state();
    let number = state.begun;
    let exchange = shared.recording.exchanges.get(number);
    if let Some(exchange) = exchange.filter(|exchange| exchange.get == get) {
        state.begun += 1;
        return Some(exchange);
    }
    let expected = exchange.map_or("nothing more", |exchange| &exchange.get);
    state
        .wrong
        .push(format!("request {number}: {get}\nrecorded was: {expected}"));
    None
}

fn play(exchange: &Exchange, mut stream: &TcpStream) -> Result<()> {
    let Some(head) = &exchange.head else {
        return Ok(());
    };
    let mut text = format!("HTTP/1.1 {} X\r\n", head.status);
    for (name, value) in &head.headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    let chunked = head.is_chunked();
    for piece in &exchange.pieces {
        let mut bytes = Vec::new();
        if chunked {
            bytes.extend(format!("{:x}\r\n", piece.length).into_bytes());
        }
        bytes.extend(piece.text.as_bytes());
        if chunked && piece.length == piece.text.len() {
            bytes.extend(b"\r\n");
        }
        stream.write_all(&bytes)?;
    }
    if chunked && exchange.end == End::Whole {
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}
