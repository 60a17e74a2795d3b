//! Between a watcher and a real API server: passes on what they say and writes it down.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use serde_json::Value;

use super::{
    PAUSE,
    credentials::Credentials,
    recording::{End, Exchange, Head, Line, Piece},
};
use crate::poll;

/// Longer than any watch that is asked for.
const PATIENCE: Duration = Duration::from_secs(150);

type Upstream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// A recording that is being made. Dropping it closes everything.
pub struct Recorder {
    shared: Arc<Shared>,
    credentials: Credentials,
}

struct Shared {
    server: SocketAddr,
    trusted: Arc<ClientConfig>,
    state: Mutex<State>,
}

struct State {
    file: File,
    began: Instant,
    exchanges: Vec<Exchange>,
    /// Asked for instead of the watcher's own numbers.
    page: u32,
    seconds: u32,
    /// Requests with this in them wait.
    held: Option<&'static str>,
    /// Break the connection so far into the next piece.
    break_at: Option<usize>,
    /// Both sides of what is open.
    open: Vec<TcpStream>,
    ended: bool,
    error: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, line: &Line) -> Result<()> {
        let text = line.write(self.began.elapsed().as_millis());
        match line {
            Line::Get { get, .. } => self.exchanges.push(Exchange {
                get: get.clone(),
                head: None,
                pieces: Vec::new(),
                end: End::Open,
            }),
            Line::Head(of, head) => self.exchanges[*of].head = Some(head.clone()),
            Line::Piece(of, piece) => self.exchanges[*of].pieces.push(piece.clone()),
            Line::End(of, end) => self.exchanges[*of].end = *end,
            Line::About(_) | Line::Done(_) | Line::Pods(_) => {}
        }
        Ok(self.file.write_all(text.as_bytes())?)
    }

    fn cut(&mut self) {
        for stream in self.open.drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Recorder {
    /// Records what passes between whoever comes by its kubeconfig and this server.
    pub fn start(file: &Path, about: Value, server: SocketAddr, trusted: Arc<ClientConfig>) -> Result<Self> {
        let credentials = Credentials::plain()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        credentials.write_kubeconfig(listener.local_addr()?)?;
        listener.set_nonblocking(true)?;
        let mut state = State {
            file: File::create(file).with_context(|| format!("cannot write {}", file.display()))?,
            began: Instant::now(),
            exchanges: Vec::new(),
            page: u32::MAX,
            seconds: u32::MAX,
            held: None,
            break_at: None,
            open: Vec::new(),
            ended: false,
            error: None,
        };
        state.write(&Line::About(about))?;
        let shared = Arc::new(Shared {
            server,
            trusted,
            state: Mutex::new(state),
        });
        let recorder = Self {
            shared: Arc::clone(&shared),
            credentials,
        };
        thread::spawn(move || accept(&listener, &shared));
        Ok(recorder)
    }

    /// A kubeconfig that leads here.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.credentials.kubeconfig()
    }

    /// Writes the token that the kubeconfig names. It is passed on, and not written down.
    pub fn write_token(&self, token: &str) -> Result<()> {
        self.credentials.write_token(token)
    }

    /// Writes down what is done to the server.
    pub fn done(&self, what: &str) -> Result<()> {
        self.shared.state().write(&Line::Done(what.to_owned()))
    }

    /// Lists are asked for in pages of so many, watches for so many seconds: a watcher's own numbers would make long
    /// recordings.
    pub fn shorten(&self, page: u32, seconds: u32) {
        let mut state = self.shared.state();
        (state.page, state.seconds) = (page, seconds);
    }

    /// Lets requests with this in them wait until they are released.
    pub fn hold(&self, held: &'static str) {
        self.shared.state().held = Some(held);
    }

    /// Lets them go.
    pub fn release(&self) {
        self.shared.state().held = None;
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        self.shared.state().cut();
    }

    /// Breaks the connection so many bytes into the next piece of an answer.
    pub fn cut_inside_next(&self, bytes: usize) {
        self.shared.state().break_at = Some(bytes);
    }

    /// Waits until what was said is like this.
    pub fn until(&self, what: &str, condition: impl Fn(&[Exchange]) -> bool) -> Result<()> {
        poll::until_true(what, PATIENCE, || {
            let state = self.shared.state();
            if let Some(error) = &state.error {
                bail!("{error}");
            }
            Ok(condition(&state.exchanges))
        })
    }

    /// The number of requests so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.shared.state().exchanges.len()
    }

    /// Ends the recording with the list of all pods.
    pub fn finish(self, pods: Value) -> Result<()> {
        let mut state = self.shared.state();
        state.ended = true;
        state.write(&Line::Pods(pods))?;
        state.cut();
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended = true;
        state.cut();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.state().ended {
        match listener.accept() {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                thread::spawn(move || {
                    if let Err(error) = serve(&stream, &shared) {
                        let mut state = shared.state();
                        if !state.ended {
                            state.error = Some(format!("{error:#}"));
                        }
                        state.cut();
                    }
                });
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    shared.state().open.push(stream.try_clone()?);
    let mut reader = BufReader::new(stream);
    let mut upstream = None;
    // An error of the watcher's side is that it closed the connection.
    while let Ok(Some(lines)) = head(&mut reader) {
        let end = pass_on(lines, &mut upstream, stream, shared)?;
        if end != End::Whole {
            let _ = stream.shutdown(Shutdown::Both);
            break;
        }
    }
    Ok(())
}

/// One request and its answer.
fn pass_on(
    mut lines: Vec<String>,
    upstream: &mut Option<Upstream>,
    client: &TcpStream,
    shared: &Shared,
) -> Result<End> {
    let get = lines[0].split(' ').nth(1).context("no target")?.to_owned();
    ensure!(lines[0].starts_with("GET "), "not read only: {}", lines[0]);
    let number = {
        let mut state = shared.state();
        let sent = shorten(&get, state.page, state.seconds);
        lines[0] = format!("GET {sent} HTTP/1.1");
        state.write(&Line::Get {
            sent: (sent != get).then_some(sent),
            get,
        })?;
        state.exchanges.len() - 1
    };
    while shared.state().held.is_some_and(|held| lines[0].contains(held)) {
        thread::sleep(PAUSE);
    }
    if upstream.is_none() {
        *upstream = connect(shared)?;
    }
    let end = match upstream {
        None => End::Refused,
        Some(upstream) => {
            let request = lines.join("\r\n") + "\r\n\r\n";
            let sent = upstream.get_mut().write_all(request.as_bytes());
            match sent.and_then(|()| upstream.get_mut().flush()) {
                Ok(()) => answer(upstream, client, shared, number)?,
                Err(_) => End::Broken,
            }
        }
    };
    let mut state = shared.state();
    if !state.ended {
        state.write(&Line::End(number, end))?;
    }
    Ok(end)
}

/// What is asked of the server instead.
fn shorten(get: &str, page: u32, seconds: u32) -> String {
    let Some((path, query)) = get.split_once('?') else {
        return get.to_owned();
    };
    let pairs = query.split('&').map(|pair| {
        let most = match pair.split_once('=') {
            Some(("limit", _)) => page,
            Some(("timeoutSeconds", _)) => seconds,
            _ => return pair.to_owned(),
        };
        let (name, own) = pair.split_once('=').unwrap_or_default();
        let own: u32 = own.parse().unwrap_or(u32::MAX);
        format!("{name}={}", own.min(most))
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// `None`: nobody listens.
fn connect(shared: &Shared) -> Result<Option<Upstream>> {
    let Ok(stream) = TcpStream::connect(shared.server) else {
        return Ok(None);
    };
    stream.set_nodelay(true)?;
    shared.state().open.push(stream.try_clone()?);
    let name = ServerName::IpAddress(shared.server.ip().into());
    let connection = ClientConnection::new(Arc::clone(&shared.trusted), name)?;
    Ok(Some(BufReader::new(StreamOwned::new(connection, stream))))
}

/// The lines of a request or of an answer until the empty one; `None`: there is none.
fn head(reader: &mut impl BufRead) -> Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            ensure!(lines.is_empty(), "the connection broke in a head");
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(lines));
        }
        lines.push(line.to_owned());
    }
}

/// Passes an answer on. The error is one of the recorder; the server's is how it ends.
fn answer(upstream: &mut Upstream, client: &TcpStream, shared: &Shared, number: usize) -> Result<End> {
    let Ok(Some(lines)) = head(upstream) else {
        return Ok(End::Broken);
    };
    let status = lines[0].split(' ').nth(1).context("no status")?.parse()?;
    // The value may be empty.
    let headers = lines[1..].iter().map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    });
    let head = Head {
        status,
        headers: headers.collect::<Option<_>>().context("no header")?,
    };
    let length = head.header("content-length").map(str::parse).transpose()?;
    let body = Body {
        client,
        shared,
        number,
        chunked: head.is_chunked(),
    };
    body.send(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes());
    shared.state().write(&Line::Head(number, head))?;
    if !body.chunked {
        let length = length.context("neither chunks nor a length")?;
        return Ok(body.piece(upstream, length)?.unwrap_or(End::Whole));
    }
    loop {
        let mut line = String::new();
        if !matches!(upstream.read_line(&mut line), Ok(1..)) {
            return Ok(End::Broken);
        }
        let length = usize::from_str_radix(line.trim_end(), 16)?;
        if length > 0
            && let Some(end) = body.piece(upstream, length)?
        {
            return Ok(end);
        }
        if !matches!(upstream.read_line(&mut line), Ok(1..)) {
            return Ok(End::Broken);
        }
        if length == 0 {
            body.send(b"0\r\n\r\n");
            return Ok(End::Whole);
        }
        if body.chunked {
            body.send(b"\r\n");
        }
    }
}

/// The body of an answer on its way.
struct Body<'a> {
    client: &'a TcpStream,
    shared: &'a Shared,
    number: usize,
    chunked: bool,
}

impl Body<'_> {
    /// One piece; how it ends if it ends here.
    fn piece(&self, upstream: &mut impl Read, length: usize) -> Result<Option<End>> {
        let mut bytes = Vec::new();
        // What came before an error is kept.
        let _ = upstream.take(length as u64).read_to_end(&mut bytes);
        let break_at = self.shared.state().break_at.take();
        if let Some(at) = break_at {
            bytes.truncate(at);
        }
        let text = String::from_utf8(bytes).context("not text")?;
        if self.chunked {
            self.send(format!("{length:x}\r\n").as_bytes());
        }
        self.send(text.as_bytes());
        let whole = text.len() == length;
        let mut state = self.shared.state();
        if !state.ended && !text.is_empty() {
            state.write(&Line::Piece(self.number, Piece { text, length }))?;
        }
        Ok((!whole).then_some(End::Broken))
    }

    /// The watcher may have closed the connection: then it asks again, or not.
    fn send(&self, bytes: &[u8]) {
        let _ = (&*self.client).write_all(bytes);
    }
}
