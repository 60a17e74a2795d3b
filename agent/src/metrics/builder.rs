//! Samples into the scrape's text. The first of a metric goes by way of a `prometheus` family, which writes the head lines;
//! further ones of counters and gauges are written at once: a host may have 65,536 clients, and a sample of the crate costs
//! eight allocations. In debug builds, and so in every test, a sample whose labels are not those of the table stops the test.

use std::io::{self, Write as _};

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType,
};
use prometheus::{Encoder as _, TextEncoder};

use super::table::{Kind, Metric};
use super::{Format, openmetrics};

/// Counts from here on are rounded to floats: 2^53.
const LEAST_ROUNDED: u64 = 1 << f64::MANTISSA_DIGITS;

/// Samples of histograms held before they are written: pieces keep a scrape's memory near that of its text.
const PIECE: usize = 64;

/// One metric on its way into a scrape.
pub(super) struct Family<'a> {
    metric: &'static Metric,
    format: Format,
    text: &'a mut Vec<u8>,
    samples: Vec<Sample>,
    /// Whether head lines are written.
    begun: bool,
    result: prometheus::Result<()>,
}

impl<'a> Family<'a> {
    pub(super) fn new(metric: &'static Metric, format: Format, text: &'a mut Vec<u8>) -> Self {
        Self {
            metric,
            format,
            text,
            samples: Vec::new(),
            begun: false,
            result: Ok(()),
        }
    }

    /// A sample of a counter or gauge. Counts beyond 2^53 lose their last digits: all values of Prometheus are floats.
    pub(super) fn count(&mut self, labels: &[(&str, &str)], value: u64) {
        // The digits of a whole number are the same, and written in a fraction of the time.
        if self.begun && value < LEAST_ROUNDED {
            self.line(labels, |text| {
                text.push(b' ');
                text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
                text.push(b'\n');
                Ok(())
            });
        } else {
            self.value(labels, value as f64);
        }
    }

    /// A sample of a counter or gauge.
    pub(super) fn value(&mut self, labels: &[(&str, &str)], value: f64) {
        if self.begun {
            self.line(labels, |text| writeln!(text, " {value}"));
        } else {
            self.first(labels, value);
        }
    }

    /// Writes a sample that is not the first.
    fn line(&mut self, labels: &[(&str, &str)], write_value: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        debug_assert_ne!(self.metric.kind, Kind::Histogram, "{}", self.metric.name);
        self.check(labels);
        let series = openmetrics::series(self.text, self.metric.name, "", labels.iter().copied());
        if let Err(error) = series.and_then(|()| write_value(self.text))
            && self.result.is_ok()
        {
            self.result = Err(error.into());
        }
    }

    fn first(&mut self, labels: &[(&str, &str)], value: f64) {
        debug_assert_ne!(self.metric.kind, Kind::Histogram, "{}", self.metric.name);
        self.check(labels);
        let mut sample = sample(labels);
        match self.metric.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
        }
        self.samples.push(sample);
        self.write();
    }

    /// A sample of a histogram. `buckets` are upper bounds with their own counts (not cumulative), ascending;
    /// `beyond` is the count above the last bound.
    pub(super) fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        buckets: impl Iterator<Item = (f64, u64)>,
        beyond: u64,
        sum: f64,
    ) {
        debug_assert_eq!(self.metric.kind, Kind::Histogram, "{}", self.metric.name);
        let mut total = 0;
        let cumulative = buckets.map(|(upper_bound, count)| {
            total += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(upper_bound);
            bucket.set_cumulative_count(total);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(cumulative.collect());
        histogram.set_sample_count(total + beyond);
        histogram.set_sample_sum(sum);
        self.check(labels);
        let mut sample = sample(labels);
        sample.set_histogram(histogram);
        self.samples.push(sample);
        if self.samples.len() >= PIECE {
            self.write();
        }
    }

    /// Writes what is left. A metric without samples writes nothing.
    pub(super) fn finish(mut self) -> prometheus::Result<()> {
        self.write();
        self.result
    }

    fn write(&mut self) {
        if self.samples.is_empty() || self.result.is_err() {
            self.samples.clear();
            return;
        }
        let family = self.take();
        self.result = match self.format {
            Format::Text => write_text(&family, self.begun, self.text),
            Format::OpenMetrics => {
                openmetrics::encode(&family, self.metric.unit, self.begun, self.text).map_err(Into::into)
            }
        };
        self.begun = true;
    }

    fn take(&mut self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.metric.name.into());
        family.set_help(self.metric.help.into());
        family.set_field_type(match self.metric.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(std::mem::take(&mut self.samples));
        family
    }

    fn check(&self, labels: &[(&str, &str)]) {
        debug_assert!(
            labels.iter().map(|(name, _)| name).eq(self.metric.labels),
            "{} has the labels {:?}, not {labels:?}",
            self.metric.name,
            self.metric.labels,
        );
    }
}

fn sample(labels: &[(&str, &str)]) -> Sample {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value((*value).into());
        pair
    });
    Sample::from_label(pairs.collect())
}

/// The encoder writes the head lines, HELP and TYPE, for each family it is given; `begun` takes those of a later piece
/// out again.
fn write_text(family: &MetricFamily, begun: bool, text: &mut Vec<u8>) -> prometheus::Result<()> {
    let start = text.len();
    TextEncoder::new().encode(std::slice::from_ref(family), text)?;
    if begun {
        let head = text[start..]
            .split_inclusive(|byte| *byte == b'\n')
            .take(2)
            .map(<[u8]>::len)
            .sum::<usize>();
        text.drain(start..start + head);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    fn family(text: &mut Vec<u8>) -> Family<'_> {
        Family::new(&table::TENANT_COMMANDS, Format::Text, text)
    }

    #[test]
    fn a_metric_of_many_samples_has_its_head_once_and_every_sample() {
        for format in [Format::Text, Format::OpenMetrics] {
            for samples in [0, 1, 2, 1_000] {
                let mut text = Vec::new();
                let mut family = Family::new(&table::TENANT_COMMANDS, format, &mut text);
                for n in 0..samples {
                    family.count(&[("server", "s"), ("tenant", &format!("t{n}"))], n as u64);
                }
                family.finish().expect("written");
                let text = String::from_utf8(text).expect("UTF-8");
                let (head, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('#'));
                let heads = if format == Format::Text { 2 } else { 3 };
                assert_eq!(
                    (head.len(), lines.len()),
                    (if samples == 0 { 0 } else { heads }, samples)
                );
                for (n, line) in lines.iter().enumerate() {
                    let sample =
                        format!("stormglass_tenant_commands_total{{server=\"s\",tenant=\"t{n}\"}} {n}");
                    assert_eq!(*line, sample);
                }
            }
        }
    }

    #[test]
    fn further_samples_are_written_as_the_crate_writes_the_first() {
        for value in [0.0, 0.1, 1e300, f64::NAN, f64::INFINITY, 9_007_199_254_740_993.0] {
            for tenant in ["t", "", "a\\b", "\"", "\n\n", "\\\"\n\\", "ä\u{0}"] {
                let mut text = Vec::new();
                let mut family = family(&mut text);
                for _ in 0..2 {
                    family.value(&[("server", "s"), ("tenant", tenant)], value);
                }
                family.finish().expect("written");
                let text = String::from_utf8(text).expect("UTF-8");
                let lines: Vec<&str> = text.split_inclusive('\n').skip(2).collect();
                assert_eq!((lines.len(), lines[0]), (2, lines[1]));
            }
        }
    }

    #[test]
    fn counts_are_written_as_the_floats_that_they_are() {
        for count in [0, 1, 10, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, 1 << 60, u64::MAX] {
            let mut text = Vec::new();
            let mut family = family(&mut text);
            for _ in 0..2 {
                family.count(&[("server", "s"), ("tenant", "t")], count);
            }
            family.finish().expect("written");
            let text = String::from_utf8(text).expect("UTF-8");
            let lines: Vec<&str> = text.lines().skip(2).collect();
            assert_eq!((lines.len(), lines[0]), (2, lines[1]));
        }
    }

    #[test]
    #[should_panic(expected = "stormglass_tenant_commands_total has the labels")]
    fn a_sample_with_a_missing_label_is_refused() {
        family(&mut Vec::new()).count(&[("server", "a")], 1);
    }

    #[test]
    #[should_panic(expected = "stormglass_tenant_commands_total has the labels")]
    fn a_sample_with_labels_in_another_order_is_refused() {
        family(&mut Vec::new()).count(&[("tenant", "a"), ("server", "a")], 1);
    }
}
