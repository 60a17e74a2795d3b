//! Samples into `prometheus` families. In debug builds, and so in every test, a sample whose labels are not those of the
//! table stops the test.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType,
};

use super::table::{Kind, Metric};

/// One metric with its samples.
pub(super) struct Family {
    metric: &'static Metric,
    samples: Vec<Sample>,
}

impl Family {
    pub(super) fn new(metric: &'static Metric) -> Self {
        Self {
            metric,
            samples: Vec::new(),
        }
    }

    /// A sample of a counter or gauge. Counts beyond 2^53 lose their last digits: all values of Prometheus are floats.
    pub(super) fn count(&mut self, labels: &[(&str, &str)], value: u64) {
        self.value(labels, value as f64);
    }

    /// A sample of a counter or gauge.
    pub(super) fn value(&mut self, labels: &[(&str, &str)], value: f64) {
        debug_assert_ne!(self.metric.kind, Kind::Histogram, "{}", self.metric.name);
        let mut sample = self.sample(labels);
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
    }

    /// A sample of a histogram. `buckets` are upper bounds with their own counts (not cumulative), ascending;
    /// `beyond` is the count above the last bound.
    pub(super) fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        buckets: impl Iterator<Item = (f64, u64)>,
        beyond: u64,
        sum: u64,
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
        histogram.set_sample_sum(sum as f64);
        let mut sample = self.sample(labels);
        sample.set_histogram(histogram);
        self.samples.push(sample);
    }

    /// `None` without samples.
    pub(super) fn build(self) -> Option<MetricFamily> {
        if self.samples.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.metric.name.into());
        family.set_help(self.metric.help.into());
        family.set_field_type(match self.metric.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(self.samples);
        Some(family)
    }

    fn sample(&self, labels: &[(&str, &str)]) -> Sample {
        debug_assert!(
            labels.iter().map(|(name, _)| name).eq(self.metric.labels),
            "{} has the labels {:?}, not {labels:?}",
            self.metric.name,
            self.metric.labels,
        );
        let pairs = labels.iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).into());
            pair.set_value((*value).into());
            pair
        });
        Sample::from_label(pairs.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    #[should_panic(expected = "stormglass_tenant_commands_total has the labels")]
    fn a_sample_with_a_missing_label_is_refused() {
        Family::new(&table::TENANT_COMMANDS).count(&[("server", "a")], 1);
    }

    #[test]
    #[should_panic(expected = "stormglass_tenant_commands_total has the labels")]
    fn a_sample_with_labels_in_another_order_is_refused() {
        Family::new(&table::TENANT_COMMANDS).count(&[("tenant", "a"), ("server", "a")], 1);
    }
}
