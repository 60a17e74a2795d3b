//! Sizes and durations: every command and reply in its bucket.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use stormglass_tests::agent::Agent;
use stormglass_tests::exposition::{Scrape, whole};
use stormglass_tests::ledger::Opening;
use stormglass_tests::resp::{Connection, frame};
use stormglass_tests::server::{Plan, Server};

/// Relative error that the API's durations may have.
const DURATION_ERROR: f64 = 0.125;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_size_is_in_its_bucket() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with("[[tenant]]\nname = \"checkout\"\nprefixes = [\"cart\"]\n")?;
    let mut opening = Opening::at(&agent, &server)?;

    let mut sizes = Sizes::default();
    let mut connection = server.connect()?;
    for value in [16, 1 << 10, 64 << 10] {
        for _ in 0..20 {
            sizes.ask(&mut connection, &[b"SET", b"cart:1", &vec![b'x'; value]])?;
            sizes.ask(&mut connection, &[b"GET", b"cart:1"])?;
        }
    }
    // Commands that are as long as a bound says, and a byte longer.
    for bound in [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20] {
        for length in [bound, bound + 1] {
            let value = vec![b'y'; length - overhead(length)?];
            ensure!(frame(&[b"SET", b"cart:1", &value]).len() == length);
            sizes.ask(&mut connection, &[b"SET", b"cart:1", &value])?;
        }
    }
    sizes.ask(&mut connection, &[b"SET", b"cart:1", b"z"])?;
    sizes.pipeline(&mut connection, 500)?;

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    let row = account.counted.prefixes["cart"];
    assert_eq!(row.commands, sizes.requests.len() as u64);
    let scrape = agent.scrape()?;
    let requests = Histogram::of(&scrape, "request_bytes", &server, "checkout")?;
    requests.assert_holds(&sizes.requests, row.bytes_in);
    let replies = Histogram::of(&scrape, "reply_bytes", &server, "checkout")?;
    replies.assert_holds(&sizes.replies, row.bytes_out);

    let tenant = tenant(&agent, "checkout")?;
    for (name, sizes) in [
        ("request_bytes", &mut sizes.requests),
        ("reply_bytes", &mut sizes.replies),
    ] {
        sizes.sort_unstable();
        for (quantile, thousandths) in [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)] {
            let rank = (sizes.len() * thousandths).div_ceil(1000);
            let expected = sizes[rank - 1].next_power_of_two();
            assert_eq!(tenant[name][quantile], expected, "{name} {quantile}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_command_that_takes_long_is_in_the_bucket_of_its_duration() -> Result<()> {
    let server = Plan::valkey()?.config("enable-debug-command yes\n").start()?;
    // What has no key is a tenant's here: nobody else sends it.
    let agent = Agent::start_with("[[tenant]]\nname = \"sleepers\"\nprefixes = [\"(keyless)\"]\n")?;
    agent.sees(&server.label())?;
    let mut connection = server.connect()?;
    // Each lies between what the server slept and what the client waited.
    let mut ranges = Vec::new();
    for (times, seconds) in [(20, 0.01), (5, 0.05), (1, 0.3)] {
        for _ in 0..times {
            let asked = Instant::now();
            connection.ask(&[b"DEBUG", b"SLEEP", seconds.to_string().as_bytes()])?;
            ranges.push((seconds, asked.elapsed().as_secs_f64()));
        }
    }

    let histogram = Histogram::of(&agent.scrape()?, "request_duration_seconds", &server, "sleepers")?;
    assert_eq!(histogram.count, ranges.len() as u64);
    let (least, most) = ranges
        .iter()
        .fold((0.0, 0.0), |sum, range| (sum.0 + range.0, sum.1 + range.1));
    // 256 ns each: durations are whole units.
    let units = 256e-9 * ranges.len() as f64;
    ensure!(
        (least - units..most + units).contains(&histogram.sum),
        "{} is not between {least} and {most}",
        histogram.sum
    );
    for (bound, count) in &histogram.buckets {
        let surely = ranges.iter().filter(|(_, most)| most < bound).count() as u64;
        let perhaps = ranges.iter().filter(|(least, _)| least < bound).count() as u64;
        ensure!(
            (surely..=perhaps).contains(count),
            "{count} are shorter than {bound}, not {surely} to {perhaps}: {ranges:?}"
        );
    }
    let tenant = tenant(&agent, "sleepers")?;
    for (quantile, (least, most)) in [("p50", ranges[12]), ("p90", ranges[23]), ("p999", ranges[25])] {
        let read = tenant["duration_seconds"][quantile]
            .as_f64()
            .context("no quantile")?;
        // The client's wait may have been that of another one of the same sleep.
        let longest = ranges.iter().filter(|range| range.0 == least);
        let most = longest.fold(most, |most, range| most.max(range.1));
        ensure!(
            (least * (1.0 - DURATION_ERROR)..=most * (1.0 + DURATION_ERROR)).contains(&read),
            "{quantile} is {read}, not {least} to {most}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_answered_command_has_a_duration_unless_it_waits_for_others() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(
        "[[tenant]]\nname = \"checkout\"\nprefixes = [\"cart\"]\n[[tenant]]\nname = \"queues\"\nprefixes = [\"queue\"]\n",
    )?;
    let mut opening = Opening::at(&agent, &server)?;
    let started = Instant::now();
    let mut connection = server.connect()?;
    for _ in 0..300 {
        connection.ask(&[b"INCR", b"cart:1"])?;
    }
    Sizes::default().pipeline(&mut connection, 700)?;
    connection.ask(&[b"XREAD", b"COUNT", b"1", b"STREAMS", b"cart:stream", b"0"])?;
    let elapsed = started.elapsed();

    // One that waits in vain, one that is served by another client, one that need not wait.
    let waited = Instant::now();
    connection.ask(&[b"BLPOP", b"queue:1", b"1"])?;
    ensure!(waited.elapsed() >= Duration::from_millis(900), "it did not wait");
    connection.send(&[b"BLPOP", b"queue:1", b"10"])?;
    server.connect()?.ask(&[b"LPUSH", b"queue:1", b"a", b"b"])?;
    connection.receive()?;
    connection.ask(&[b"BLPOP", b"queue:1", b"1"])?;
    connection.ask(&[b"XREAD", b"BLOCK", b"20", b"STREAMS", b"queue:stream", b"0"])?;

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    let scrape = agent.scrape()?;
    let histogram = Histogram::of(&scrape, "request_duration_seconds", &server, "checkout")?;
    assert_eq!(histogram.count, account.counted.commands("cart"));
    assert_eq!(histogram.count, 1_001);
    // The commands of a pipeline wait together.
    let most = elapsed.as_secs_f64() * 700.0;
    ensure!((0.0..most).contains(&histogram.sum), "{histogram:?}");
    // Of five commands of the queues LPUSH alone has a duration.
    assert_eq!(account.counted.commands("queue"), 5);
    let queues = Histogram::of(&scrape, "request_duration_seconds", &server, "queues")?;
    assert_eq!(queues.count, 1);
    ensure!(queues.sum < 0.5, "{queues:?}");
    Ok(())
}

/// Bytes of `SET cart:1` beside the value, for a command of `length` bytes.
fn overhead(length: usize) -> Result<usize> {
    let with = |value: usize| frame(&[b"SET", b"cart:1", &vec![b'y'; value]]).len();
    let found = (0..length).rev().take(64).find(|value| with(*value) == length);
    Ok(length - found.with_context(|| format!("no command has {length} bytes"))?)
}

/// Sizes in bytes of what went over the wire.
#[derive(Default)]
struct Sizes {
    requests: Vec<u64>,
    replies: Vec<u64>,
}

impl Sizes {
    fn ask(&mut self, connection: &mut Connection, words: &[&[u8]]) -> Result<()> {
        let before = (connection.sent(), connection.received());
        connection.ask(words)?;
        self.requests.push(connection.sent() - before.0);
        self.replies.push(connection.received() - before.1);
        Ok(())
    }

    /// Commands of two sizes in turn, at once.
    fn pipeline(&mut self, connection: &mut Connection, commands: usize) -> Result<()> {
        let kinds = [
            frame(&[b"STRLEN", b"cart:1"]),
            frame(&[b"SET", b"cart:2", &[b'x'; 100]]),
        ];
        let all: Vec<_> = (0..commands).map(|number| &kinds[number % 2]).collect();
        connection.send_bytes(&all.iter().copied().flatten().copied().collect::<Vec<u8>>())?;
        for command in all {
            let before = connection.received();
            connection.receive()?;
            self.requests.push(command.len() as u64);
            self.replies.push(connection.received() - before);
        }
        Ok(())
    }
}

/// One histogram of `stormglass_tenant_*`.
#[derive(Debug)]
struct Histogram {
    /// Bound and cumulative count, ascending, without the open one.
    buckets: Vec<(f64, u64)>,
    count: u64,
    sum: f64,
}

impl Histogram {
    fn of(scrape: &Scrape, name: &str, server: &Server, tenant: &str) -> Result<Self> {
        let label = server.label();
        let labels = [("server", &*label), ("tenant", tenant)];
        let part = |suffix| scrape.value(&format!("stormglass_tenant_{name}_{suffix}"), &labels);
        let mut buckets = Vec::new();
        for (labels, count) in scrape.series(&format!("stormglass_tenant_{name}_bucket"), &labels) {
            buckets.push((labels["le"].parse::<f64>()?, whole(count)));
        }
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let open = buckets.pop().with_context(|| format!("{tenant} has no {name}"))?;
        let count = whole(part("count").context("no count")?);
        ensure!(open == (f64::INFINITY, count), "{open:?} is not all {count}");
        Ok(Self {
            buckets,
            count,
            sum: part("sum").context("no sum")?,
        })
    }

    fn assert_holds(&self, sizes: &[u64], bytes: u64) {
        for (bound, count) in &self.buckets {
            let expected = sizes.iter().filter(|size| **size as f64 <= *bound).count() as u64;
            assert_eq!(*count, expected, "at most {bound}");
        }
        assert_eq!(self.count, sizes.len() as u64);
        assert_eq!(
            (whole(self.sum), bytes),
            (sizes.iter().sum::<u64>(), sizes.iter().sum::<u64>())
        );
    }
}

/// A tenant of the API.
fn tenant(agent: &Agent, name: &str) -> Result<Value> {
    let (_, page) = agent.get("/api/v1/tenants")?;
    let page: Value = serde_json::from_str(&page)?;
    let mut tenants = page["tenants"].as_array().into_iter().flatten();
    tenants
        .find(|tenant| tenant["tenant"] == name)
        .cloned()
        .with_context(|| format!("no tenant {name} in {page}"))
}
