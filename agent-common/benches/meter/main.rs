//! The RESP meter on the host, beside a RESP crate that parses the same bytes: `cargo xtask bench meter`.
//!
//! The two do not do the same work. The crate finds where every value is; the meter finds where messages end, which prefix
//! a command has and which command a reply belongs to, and adds it up. The comparison says what a budget of nanoseconds
//! means, not who is better.
#![forbid(unsafe_code)]

mod captures;
mod crate_parser;
mod driver;
mod streams;

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};

use crate::{driver::Driver, streams::Stream};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut streams = streams::synthetic();
    streams.extend(captures::streams());
    for stream in &streams {
        measure(&mut criterion, stream);
    }
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, stream: &Stream) {
    let mut driver = Driver::new();
    let counts = driver.run(&stream.conversations);
    assert_eq!(counts.bytes, stream.bytes(), "{}: bytes", stream.name);
    if stream.is_clean {
        assert_eq!(counts.unattributed, 0, "{}: unattributed", stream.name);
    }
    let mut group = criterion.benchmark_group(stream.name);
    group.throughput(Throughput::ElementsAndBytes {
        elements: stream.messages,
        bytes: stream.bytes(),
    });
    group.bench_function("meter", |bencher| {
        bencher.iter(|| driver.run(black_box(&stream.conversations)).bytes);
    });
    if let Some(inputs) = crate_parser::inputs(stream) {
        group.bench_function("redis-protocol", |bencher| {
            bencher.iter(|| crate_parser::parse(black_box(&inputs)));
        });
    }
    group.finish();
}
