//! What a storm of each kind has to be known by.

use anyhow::{Result, ensure};
use serde_json::Value;
use stormglass_load::storms::Kind;
use stormglass_tests::found::figure;

/// Evidence that there has to be, and its least.
fn least(kind: Kind) -> &'static [(&'static str, f64)] {
    match kind {
        Kind::ReconnectChurn => &[("closes_while_a_command_waited", 100.0), ("amplification", 0.5)],
        Kind::ColdReconnect => &[],
        Kind::MaxclientsRejection => &[("rejections", 10.0), ("clients_limit", 100.0)],
        Kind::AcceptQueueSaturation => &[("accept_queue_most", 40.0)],
        Kind::RetryAmplification => &[("amplification", 1.3)],
        Kind::BandwidthSaturation => &[("share_of_limit", 0.8)],
        Kind::OversizedValues => &[("bytes_per_value", 390_000.0)],
        Kind::HotPrefix => &[("others_slower", 2.0)],
        Kind::ConnectionGrowth => &[("time_left", 0.0)],
        Kind::ErrorBurst => &[("errors_wrongtype", 500.0)],
    }
}

/// Whether it has them all.
pub(super) fn check(kind: Kind, storm: &Value) -> Result<()> {
    for (name, least) in least(kind) {
        let value = figure(storm, name);
        ensure!(
            value.is_some_and(|value| value >= *least),
            "{name} is {value:?}, not {least} or more: {storm:#}"
        );
    }
    Ok(())
}
