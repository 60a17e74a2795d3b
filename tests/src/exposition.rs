//! Reads the Prometheus text format.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

use crate::server::Traffic;

/// Labels of a sample.
pub type Labels = BTreeMap<String, String>;

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    samples: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    /// What a tenant has had at a server.
    #[must_use]
    pub fn tenant(&self, server: &str, tenant: &str) -> Traffic {
        let of = [("server", server), ("tenant", tenant)];
        let bytes = |direction| {
            let labels = [&of[..], &[("direction", direction)]].concat();
            self.count("stormglass_tenant_bytes_total", &labels)
        };
        Traffic {
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            commands: self.count("stormglass_tenant_commands_total", &of),
        }
    }

    /// Reads a page. Two samples of the same series are an error.
    pub fn parse(text: &str) -> Result<Self> {
        let mut samples = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (name, labels, value) = sample(line).with_context(|| format!("cannot read {line:?}"))?;
            if samples.insert((name, labels), value).is_some() {
                bail!("the series of {line:?} is there twice");
            }
        }
        Ok(Self { samples })
    }

    /// The value of the series that has exactly these labels.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|&(label, value)| (label.to_owned(), value.to_owned()))
            .collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// The value of a series that counts something, 0 if it is not there.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.value(name, labels).map_or(0, whole)
    }

    /// Every series of this name that has at least these labels.
    pub fn series<'a>(
        &'a self,
        name: &'a str,
        wanted: &'a [(&str, &str)],
    ) -> impl Iterator<Item = (&'a Labels, f64)> {
        self.samples
            .iter()
            .filter(move |((found, labels), _)| {
                found == name
                    && wanted
                        .iter()
                        .all(|&(label, value)| labels.get(label).is_some_and(|has| has == value))
            })
            .map(|((_, labels), value)| (labels, *value))
    }

    /// Whether any series names this server.
    #[must_use]
    pub fn mentions(&self, server: &str) -> bool {
        self.samples
            .keys()
            .any(|(_, labels)| labels.get("server").is_some_and(|has| has == server))
    }

    /// Every value of the label `server`.
    #[must_use]
    pub fn servers(&self) -> Vec<&str> {
        let mut servers: Vec<_> = self
            .samples
            .keys()
            .filter_map(|(_, labels)| labels.get("server").map(String::as_str))
            .collect();
        servers.sort_unstable();
        servers.dedup();
        servers
    }
}

/// A sample's value as the whole number it stands for.
#[must_use]
pub fn whole(value: f64) -> u64 {
    assert!(
        value >= 0.0 && value.fract() == 0.0,
        "{value} is no count: the sample is negative or has a fraction"
    );
    value as u64
}

/// `name{label="value",...} value`.
fn sample(line: &str) -> Result<(String, Labels, f64)> {
    let name_end = line.find(['{', ' ']).context("no value")?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = rest.split_whitespace().next().context("no value")?;
    Ok((name.to_owned(), labels, value.parse()?))
}

/// Labels up to and including `}`, and what follows.
fn labels(mut rest: &str) -> Result<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (label, after) = rest.split_once("=\"").context("no label")?;
        let (value, after) = quoted(after)?;
        labels.insert(label.to_owned(), value);
        rest = after;
    }
}

/// A string up to its closing quote, and what follows.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => break,
            },
            plain => value.push(plain),
        }
    }
    bail!("a label value does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_total Something.\n# TYPE a_total counter\n\
        a_total{server=\"v:1\",prefix=\"x}\\\"\\\\y\"} 3\na_total{server=\"v:2\",prefix=\"\"} 4e+06\nb 0.5\n";

    #[test]
    fn labels_may_hold_what_the_format_uses() -> Result<()> {
        let scrape = Scrape::parse(PAGE)?;
        assert_eq!(
            scrape.count("a_total", &[("prefix", "x}\"\\y"), ("server", "v:1")]),
            3
        );
        assert_eq!(scrape.value("b", &[]), Some(0.5));
        Ok(())
    }

    #[test]
    fn series_are_chosen_by_some_of_their_labels() -> Result<()> {
        let scrape = Scrape::parse(PAGE)?;
        let values: Vec<_> = scrape
            .series("a_total", &[("server", "v:2")])
            .map(|(_, value)| value)
            .collect();
        assert_eq!(values, [4e6]);
        assert_eq!(scrape.servers(), ["v:1", "v:2"]);
        Ok(())
    }

    #[test]
    fn a_series_that_is_there_twice_is_refused() {
        assert!(Scrape::parse("a{x=\"1\"} 1\na{x=\"1\"} 2\n").is_err());
    }
}
