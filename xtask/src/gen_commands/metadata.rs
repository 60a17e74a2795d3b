//! A server's own description of its commands: the COMMAND reply.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, anyhow, bail};
use redis::Value;

/// A command, or a subcommand (then named `container|sub`).
pub(super) struct Command {
    pub(super) name: String,
    pub(super) first_key: FirstKey,
    pub(super) blocking: bool,
    pub(super) subcommands: Vec<Command>,
}

/// Where the first key is. Arguments are counted from the command's name, which is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstKey {
    None,
    At(i64),
    /// There, or, if that argument is empty, behind the word KEYS.
    AtOrBehindKeys(i64),
    CountAt {
        argument: i64,
        offset: i64,
    },
    AfterStreams(i64),
}

/// Name and version of the server at `address`, and its commands.
pub(super) fn read(address: SocketAddr) -> Result<(String, Vec<Command>)> {
    let client = redis::Client::open(format!("redis://{address}/"))?;
    let mut connection = client.get_connection().context("cannot talk to the server")?;
    let server: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
    let reply: Value = redis::cmd("COMMAND").query(&mut connection)?;
    let commands = list(&reply)?.iter().map(command).collect::<Result<_>>()?;
    Ok((version(&server)?, commands))
}

fn version(info: &str) -> Result<String> {
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name));
    field("valkey_version:")
        .map(|version| format!("Valkey {version}"))
        .context("INFO names no valkey_version: the table is made from Valkey's metadata")
}

fn command(reply: &Value) -> Result<Command> {
    let fields = list(reply)?;
    let [name, _arity, flags, .., specifications, subcommands] = fields else {
        bail!("COMMAND has another layout: {fields:?}")
    };
    let name = text(name)?;
    let first_key = first_key(list(specifications)?).with_context(|| format!("keys of {name}"))?;
    let subcommands = list(subcommands)?.iter().map(command).collect::<Result<_>>()?;
    Ok(Command {
        name,
        first_key,
        blocking: has(list(flags)?, "blocking"),
        subcommands,
    })
}

/// The specification that begins first: at an index where there is one, behind a keyword otherwise.
fn first_key(specifications: &[Value]) -> Result<FirstKey> {
    let mut first: Option<(i64, FirstKey)> = None;
    for specification in specifications {
        let Some((begin, key)) = key(specification)? else {
            continue;
        };
        if first.is_none_or(|(earliest, _)| begin < earliest) {
            first = Some((begin, key));
        }
    }
    Ok(match first {
        Some((_, FirstKey::At(index))) if specifications.iter().any(is_behind_keys) => {
            FirstKey::AtOrBehindKeys(index)
        }
        Some((_, key)) => key,
        None => FirstKey::None,
    })
}

/// One specification as sort position and place. `None`: no key (a channel), or a place that the server itself calls
/// unknown or optional.
fn key(specification: &Value) -> Result<Option<(i64, FirstKey)>> {
    let flags = list(field(specification, "flags")?)?;
    if has(flags, "not_key") {
        return Ok(None);
    }
    let begin = field(specification, "begin_search")?;
    let find = field(specification, "find_keys")?;
    match (
        text(field(begin, "type")?)?.as_str(),
        text(field(find, "type")?)?.as_str(),
    ) {
        ("index", "range") => {
            let index = number(begin, "index")?;
            Ok(Some((index, FirstKey::At(index))))
        }
        ("index", "keynum") => {
            let index = number(begin, "index")?;
            let argument = index + number(find, "keynumidx")?;
            let offset = index + number(find, "firstkey")? - argument;
            Ok(Some((index, FirstKey::CountAt { argument, offset })))
        }
        ("keyword", "range") if text(specification_field(begin, "keyword")?)? == "STREAMS" => Ok(Some((
            i64::MAX,
            FirstKey::AfterStreams(number(begin, "startfrom")?),
        ))),
        // STORE of SORT and GEORADIUS, KEYS of MIGRATE (`is_behind_keys`): another key comes before them.
        ("keyword" | "unknown", _) => Ok(None),
        (begin, find) => bail!("`{begin}` with `{find}` is new; teach it to xtask and to the meter"),
    }
}

/// Whether keys follow the word KEYS.
fn is_behind_keys(specification: &Value) -> bool {
    let keyword =
        field(specification, "begin_search").and_then(|search| specification_field(search, "keyword"));
    keyword.and_then(text).is_ok_and(|keyword| keyword == "KEYS")
}

fn has(flags: &[Value], name: &str) -> bool {
    flags.iter().any(|flag| text(flag).is_ok_and(|flag| flag == name))
}

fn number(search: &Value, name: &str) -> Result<i64> {
    match specification_field(search, name)? {
        Value::Int(number) => Ok(*number),
        other => bail!("`{name}` is not a number: {other:?}"),
    }
}

fn specification_field<'a>(search: &'a Value, name: &str) -> Result<&'a Value> {
    field(field(search, "spec")?, name)
}

/// A field of a map, which RESP2 flattens to a list.
fn field<'a>(map: &'a Value, name: &str) -> Result<&'a Value> {
    list(map)?
        .chunks_exact(2)
        .find_map(|pair| text(&pair[0]).is_ok_and(|key| key == name).then_some(&pair[1]))
        .ok_or_else(|| anyhow!("no field `{name}` in {map:?}"))
}

fn list(value: &Value) -> Result<&[Value]> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        other => bail!("expected a list, got {other:?}"),
    }
}

fn text(value: &Value) -> Result<String> {
    match value {
        Value::BulkString(bytes) => Ok(String::from_utf8(bytes.clone())?),
        Value::SimpleString(text) => Ok(text.clone()),
        other => bail!("expected a text, got {other:?}"),
    }
}
