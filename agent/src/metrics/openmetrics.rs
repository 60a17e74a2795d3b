//! OpenMetrics 1.0 text. The `prometheus` crate writes Prometheus text only; the differences are few: families of counters
//! are named without `_total`, units have a line of their own, quotes in help texts are escaped, bounds are floats.

use std::io::{self, Write};

use prometheus::proto::{Metric as Sample, MetricFamily, MetricType};

/// Writes one family, without its head lines if it is a later piece of one already `begun`. `unit` is declared where the
/// family's name ends with it, which is where the format allows it.
pub(super) fn encode(family: &MetricFamily, unit: &str, begun: bool, out: &mut Vec<u8>) -> io::Result<()> {
    let kind = family.get_field_type();
    let name = match kind {
        MetricType::COUNTER => family.name().trim_end_matches("_total"),
        _ => family.name(),
    };
    if !begun {
        head(family, name, unit, out)?;
    }
    for sample in family.get_metric() {
        match kind {
            MetricType::COUNTER => {
                let value = sample.get_counter().get_value();
                line(out, name, "_total", labels(sample), value)?;
            }
            MetricType::HISTOGRAM => histogram(out, name, sample)?,
            _ => line(out, name, "", labels(sample), sample.get_gauge().get_value())?,
        }
    }
    Ok(())
}

fn head(family: &MetricFamily, name: &str, unit: &str, out: &mut Vec<u8>) -> io::Result<()> {
    let kind = format!("{:?}", family.get_field_type()).to_lowercase();
    writeln!(out, "# TYPE {name} {kind}")?;
    if name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')) {
        writeln!(out, "# UNIT {name} {unit}")?;
    }
    write!(out, "# HELP {name} ")?;
    escape(family.help(), out)?;
    out.write_all(b"\n")
}

fn histogram(out: &mut Vec<u8>, name: &str, sample: &Sample) -> io::Result<()> {
    let histogram = sample.get_histogram();
    let mut bucket_below = |bound: &str, count: f64| {
        let labels = labels(sample).chain([("le", bound)]);
        line(out, name, "_bucket", labels, count)
    };
    for bucket in histogram.get_bucket() {
        bucket_below(&canonical(bucket.upper_bound()), bucket.cumulative_count() as f64)?;
    }
    let count = histogram.get_sample_count() as f64;
    bucket_below("+Inf", count)?;
    line(out, name, "_count", labels(sample), count)?;
    line(out, name, "_sum", labels(sample), histogram.get_sample_sum())
}

fn labels(sample: &Sample) -> impl Iterator<Item = (&str, &str)> {
    sample.get_label().iter().map(|pair| (pair.name(), pair.value()))
}

/// A bound as OpenMetrics wants it: Go's `%g`, with `.0` where that has neither point nor exponent. Prometheus writes all
/// bounds so, whichever format they came in.
fn canonical(bound: f64) -> String {
    let scientific = format!("{bound:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{bound:?}"),
    }
}

/// One sample, as both formats write it.
fn line<'a>(
    out: &mut Vec<u8>,
    name: &str,
    suffix: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    value: f64,
) -> io::Result<()> {
    series(out, name, suffix, labels)?;
    writeln!(out, " {value}")
}

/// The part of a sample before its value, as both formats write it.
pub(super) fn series<'a>(
    out: &mut Vec<u8>,
    name: &str,
    suffix: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) -> io::Result<()> {
    out.write_all(name.as_bytes())?;
    out.write_all(suffix.as_bytes())?;
    let mut separator = b"{";
    for (name, value) in labels {
        out.write_all(separator)?;
        out.write_all(name.as_bytes())?;
        out.write_all(b"=\"")?;
        escape(value, out)?;
        out.write_all(b"\"")?;
        separator = b",";
    }
    if separator == b"," {
        out.write_all(b"}")?;
    }
    Ok(())
}

/// Escapes backslash, quote and line feed; everything else is written as it is.
fn escape(text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    // Nearly always there is none: all bytes looked at, without a branch for each.
    let is_special = |byte| matches!(byte, b'\\' | b'"' | b'\n');
    if !text.bytes().fold(false, |found, byte| found | is_special(byte)) {
        return out.write_all(text.as_bytes());
    }
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        let (plain, special) = rest.split_at(at);
        out.write_all(plain.as_bytes())?;
        out.write_all(match special.as_bytes().first() {
            Some(b'\n') => b"\\n",
            Some(b'"') => b"\\\"",
            _ => b"\\\\",
        })?;
        rest = &special[1..];
    }
    out.write_all(rest.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_prometheus_writes_them() {
        for (bound, text) in [
            (1.0, "1.0"),
            (16_384.0, "16384.0"),
            (262_144.0, "262144.0"),
            (1_048_576.0, "1.048576e+06"),
            (67_108_864.0, "6.7108864e+07"),
            (0.000_016_384, "1.6384e-05"),
            (0.000_131_072, "0.000131072"),
            (34.359_738_368, "34.359738368"),
            (1e10, "1e+10"),
        ] {
            assert_eq!(canonical(bound), text);
        }
    }
}
