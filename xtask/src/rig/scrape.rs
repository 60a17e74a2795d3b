//! A page of /metrics, read as Prometheus would.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

/// All samples of one page.
pub(crate) struct Scrape {
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    /// Reads the Prometheus text format.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).with_context(|| format!("cannot read the metrics line {line:?}")));
        Ok(Self {
            samples: samples.collect::<Result<_>>()?,
        })
    }

    /// Servers that have a row.
    pub(crate) fn servers(&self) -> BTreeSet<String> {
        self.by("stormglass_connections", "server", &[])
            .into_keys()
            .collect()
    }

    /// Sum of all samples of `name` that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.matching(name, labels).map(Sample::count).sum()
    }

    /// The first sample of `name` that has these labels, as it is.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.matching(name, labels).next().map(|sample| sample.value)
    }

    /// The samples of `name` that have these labels, added up by the value of the label `key`.
    pub(crate) fn by(&self, name: &str, key: &str, labels: &[(&str, &str)]) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for sample in self.matching(name, labels) {
            if let Some(value) = sample.label(key) {
                *sums.entry(value.to_owned()).or_default() += sample.count();
            }
        }
        sums
    }

    /// Pairs of label values of the samples of `name`, in the page's order.
    pub(crate) fn pairs(&self, name: &str, first: &str, second: &str) -> Vec<(String, String)> {
        self.matching(name, &[])
            .filter_map(|sample| Some((sample.label(first)?.to_owned(), sample.label(second)?.to_owned())))
            .collect()
    }

    fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|&(key, value)| sample.label(key) == Some(value))
        })
    }
}

impl Sample {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .iter()
            .find_map(|(name, value)| (name == key).then_some(value.as_str()))
    }

    /// Counts are whole numbers below 2^53.
    fn count(&self) -> u64 {
        self.value as u64
    }
}

/// `name{key="value",...} 12`
fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}')?)?),
        None => (head, Vec::new()),
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

fn labels(mut text: &str) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        labels.push((key.to_owned(), value));
        text = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(labels)
}

/// The text up to the closing quote, escapes resolved, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP bytes Bytes.
# TYPE bytes counter
bytes{server="a",prefix="cart",direction="in"} 7
bytes{server="a",prefix="say \"hi\", {you}\\",direction="in"} 5
bytes{server="b",prefix="cart",direction="in"} 100
up 1
"#;

    #[test]
    fn samples_are_added_up_by_label() {
        let scrape = Scrape::parse(PAGE).unwrap();
        assert_eq!(scrape.sum("bytes", &[("server", "a"), ("direction", "in")]), 12);
        assert_eq!(scrape.sum("up", &[]), 1);
        assert_eq!(scrape.by("bytes", "server", &[])["b"], 100);
        assert_eq!(scrape.value("bytes", &[("server", "b")]), Some(100.0));
        assert_eq!(scrape.value("bytes", &[("server", "c")]), None);
    }

    #[test]
    fn escaped_label_values_are_read() {
        let scrape = Scrape::parse(PAGE).unwrap();
        assert_eq!(scrape.by("bytes", "prefix", &[])[r#"say "hi", {you}\"#], 5);
    }

    #[test]
    fn a_line_that_is_no_sample_is_an_error_that_shows_it() {
        let error = Scrape::parse("bytes{server=\"a} 1").err().unwrap();
        assert!(error.to_string().contains("bytes{server"), "{error}");
    }
}
