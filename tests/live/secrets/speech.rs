//! Saying something that holds a secret, whole and in every pair of pieces.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use stormglass_tests::resp::{Connection, Reply, frame};

/// After it, what was sent is a segment of its own: without delay on loopback it has arrived.
const PAUSE: Duration = Duration::from_micros(100);

/// Longer than a token, and than the meter's window of the head of a key.
pub(super) const LENGTH: usize = 32;

/// Sends a command and takes whatever is the answer.
pub(super) fn say(connection: &mut Connection, words: &[&str]) -> Result<Reply> {
    connection.call(&bytes(words))
}

/// A command as it goes over the wire.
pub(super) fn written(words: &[&str]) -> Vec<u8> {
    frame(&bytes(words))
}

/// Sends the same command again and again, as two segments with the cut at each byte, and once byte by byte.
pub(super) fn say_in_pieces(connection: &mut Connection, command: &[u8]) -> Result<()> {
    for cut in 1..command.len() {
        send(connection, &command[..cut])?;
        send(connection, &command[cut..])?;
        connection.receive()?;
    }
    for byte in command.chunks(1) {
        send(connection, byte)?;
    }
    connection.receive()?;
    Ok(())
}

/// Sends bytes as a segment.
pub(super) fn send(connection: &mut Connection, bytes: &[u8]) -> Result<()> {
    connection.send_bytes(bytes)?;
    sleep(PAUSE);
    Ok(())
}

fn bytes<'a>(words: &'a [&str]) -> Vec<&'a [u8]> {
    words.iter().map(|word| word.as_bytes()).collect()
}
