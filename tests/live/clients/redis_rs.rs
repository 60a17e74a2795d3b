//! redis-rs.

use std::time::Duration;

use anyhow::Result;
use redis::{Client, Connection, Value, cmd, pipe};

use super::Sent;

const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of the values.
const SIZES: [usize; 6] = [1, 10, 1_000, 16_384, 100_000, 1 << 20];

/// Sends single commands, pipelines and a transaction, in RESP2 and in RESP3.
pub(crate) fn drive(port: u16) -> Result<Sent> {
    let mut sent = Sent::new();
    for (protocol, prefix) in [("resp2", "rs2"), ("resp3", "rs3")] {
        let client = Client::open(format!("redis://127.0.0.1:{port}/?protocol={protocol}"))?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let count = values(&mut connection, prefix)?
            + singles(&mut connection, prefix)?
            + pipelines(&mut connection, prefix)?
            + transaction(&mut connection, prefix)?;
        sent.insert(prefix.to_owned(), count);
    }
    Ok(sent)
}

/// Each size there and back.
fn values(connection: &mut Connection, prefix: &str) -> Result<u64> {
    for size in SIZES {
        let key = format!("{prefix}:value:{size}");
        let value = vec![b'r'; size];
        cmd("SET").arg(&key).arg(&value).query::<()>(connection)?;
        let back: Vec<u8> = cmd("GET").arg(&key).query(connection)?;
        assert_eq!(back, value);
    }
    Ok(2 * SIZES.len() as u64)
}

/// Replies of every shape: status, integer, null, array, nested array, map, double, error.
fn singles(connection: &mut Connection, prefix: &str) -> Result<u64> {
    const ROUNDS: u64 = 200;
    let key = |name: &str| format!("{prefix}:{name}");
    for round in 0..ROUNDS {
        cmd("SET").arg(key("text")).arg(round).query::<()>(connection)?;
        cmd("INCR").arg(key("number")).query::<i64>(connection)?;
        cmd("GET").arg(key("missing")).query::<Value>(connection)?;
        cmd("HSET")
            .arg(key("hash"))
            .arg(&["a", "1", "b", "2"])
            .query::<Value>(connection)?;
        cmd("HGETALL").arg(key("hash")).query::<Value>(connection)?;
        cmd("ZADD")
            .arg(key("zset"))
            .arg(&["1.5", "m"])
            .query::<Value>(connection)?;
        cmd("ZRANGE")
            .arg(key("zset"))
            .arg(&["0", "-1", "WITHSCORES"])
            .query::<Value>(connection)?;
        cmd("XADD")
            .arg(key("stream"))
            .arg(&["*", "f", "v"])
            .query::<Value>(connection)?;
        cmd("XREVRANGE")
            .arg(key("stream"))
            .arg(&["+", "-", "COUNT", "3"])
            .query::<Value>(connection)?;
        let wrong = cmd("INCR").arg(key("hash")).query::<Value>(connection);
        assert!(wrong.is_err(), "a hash cannot be incremented");
    }
    Ok(10 * ROUNDS)
}

/// Pipelines, longer than a segment.
fn pipelines(connection: &mut Connection, prefix: &str) -> Result<u64> {
    const PIPELINES: u64 = 40;
    const LENGTH: u64 = 200;
    for _ in 0..PIPELINES {
        let mut pipeline = pipe();
        for at in 0..LENGTH / 2 {
            let key = format!("{prefix}:piped:{at}");
            pipeline.cmd("SET").arg(&key).arg(at).ignore();
            pipeline.cmd("GET").arg(&key).ignore();
        }
        pipeline.query::<()>(connection)?;
    }
    Ok(PIPELINES * LENGTH)
}

/// MULTI and EXEC have no key; what is between them has.
fn transaction(connection: &mut Connection, prefix: &str) -> Result<u64> {
    let mut transaction = pipe();
    transaction.atomic();
    for _ in 0..10 {
        transaction
            .cmd("INCR")
            .arg(format!("{prefix}:transaction"))
            .ignore();
    }
    transaction.query::<()>(connection)?;
    Ok(10)
}
