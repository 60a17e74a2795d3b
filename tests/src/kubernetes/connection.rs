//! The double's connections: one request each, then it closes.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use rustls::{ServerConnection, StreamOwned};

use super::{Entry, PAUSE, Request, Shared, answers, answers::Answer};

pub(super) fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.ended.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) if !shared.is_gone() => {
                let shared = Arc::clone(shared);
                // An error is the client gone, or one that does not trust the certificate: what the tests look for at its end.
                thread::spawn(move || serve(stream, &shared));
            }
            // Dropped: the connection breaks at once.
            Ok(_) => {}
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nonblocking(false)?;
    match &shared.tls {
        None => answer(stream, shared),
        Some(config) => {
            let connection = ServerConnection::new(Arc::clone(config))?;
            answer(StreamOwned::new(connection, stream), shared)
        }
    }
}

fn answer(mut stream: impl Read + Write, shared: &Shared) -> Result<()> {
    let (request, token) = read_request(&mut stream)?;
    let (answer, opened) = {
        let mut state = shared.state();
        state.requests.push(request.clone());
        (Answer::new(&request, &token, &mut state), state.log.len())
    };
    match answer {
        Answer::Whole { code, header, body } => {
            let length = body.len();
            head(
                &mut stream,
                code,
                &format!("{header}content-length: {length}\r\n"),
            )?;
            stream.write_all(body.as_bytes())?;
        }
        Answer::Event(event) => {
            head(&mut stream, 200, "transfer-encoding: chunked\r\n")?;
            chunk(&mut stream, &answers::line(&event))?;
            stream.write_all(b"0\r\n\r\n")?;
        }
        Answer::Watch { behind } => {
            head(&mut stream, 200, "transfer-encoding: chunked\r\n")?;
            let watch = Watch {
                request,
                behind,
                opened,
            };
            watch.follow(&mut stream, shared)?;
        }
    }
    Ok(stream.flush()?)
}

/// The request, and the token that it came with.
fn read_request(stream: &mut impl Read) -> Result<(Request, String)> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().context("no request")??;
    let mut words = first.split(' ').map(ToOwned::to_owned);
    let request = Request {
        method: words.next().context("no method")?,
        target: words.next().context("no target")?,
        at: Instant::now(),
    };
    let mut token = String::new();
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                token = value.trim_start_matches("Bearer ").to_owned();
            }
            Some(_) => {}
        }
    }
    Ok((request, token))
}

fn head(stream: &mut impl Write, code: u16, lines: &str) -> Result<()> {
    let head =
        format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\n{lines}\r\n");
    stream.write_all(head.as_bytes())?;
    Ok(stream.flush()?)
}

fn chunk(stream: &mut impl Write, bytes: &[u8]) -> Result<()> {
    let mut whole = format!("{:x}\r\n", bytes.len()).into_bytes();
    whole.extend_from_slice(bytes);
    whole.extend_from_slice(b"\r\n");
    stream.write_all(&whole)?;
    Ok(stream.flush()?)
}

/// A watch that is open.
struct Watch {
    request: Request,
    /// The version behind which it begins.
    behind: u64,
    /// How much had happened when it began.
    opened: usize,
}

impl Watch {
    fn follow(&self, stream: &mut impl Write, shared: &Shared) -> Result<()> {
        let mut next = 0;
        while !shared.is_gone() {
            let entry = shared.state().log.get(next).cloned();
            match entry {
                None => {
                    thread::sleep(PAUSE);
                    continue;
                }
                Some(Entry::Change { version, event }) => {
                    if version > self.behind && answers::wants(&self.request, &event["object"]) {
                        chunk(stream, &answers::line(&event))?;
                    }
                }
                // Was for those that were open then.
                Some(_) if next < self.opened => {}
                Some(Entry::Bytes(bytes)) => chunk(stream, &bytes)?,
                Some(Entry::End { whole }) => {
                    if whole {
                        stream.write_all(b"0\r\n\r\n")?;
                    }
                    return Ok(());
                }
            }
            next += 1;
        }
        Ok(())
    }
}
