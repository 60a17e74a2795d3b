//! `[storms.*]`: what is looked for, and how much of it is a storm.

use serde::Deserialize;
use toml::Spanned;

use super::check::{Result, bounded};
use super::error::Source;
use super::settings::Bounded;
use crate::storms::Kind;

/// A share in percent.
pub type Percent = Bounded<1, 100>;
/// Fewer connections, or events, are no storm.
pub type Floor = Bounded<1, 1_000_000>;

/// `[storms]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Storms {
    /// `[storms.reconnect_churn]`.
    pub reconnect_churn: ReconnectChurn,
    /// `[storms.cold_reconnect]`.
    pub cold_reconnect: ColdReconnect,
    /// `[storms.maxclients_rejection]`.
    pub maxclients_rejection: MaxclientsRejection,
    /// `[storms.accept_queue_saturation]`.
    pub accept_queue_saturation: AcceptQueueSaturation,
    /// `[storms.retry_amplification]`.
    pub retry_amplification: RetryAmplification,
    /// `[storms.bandwidth_saturation]`.
    pub bandwidth_saturation: BandwidthSaturation,
    /// `[storms.oversized_values]`.
    pub oversized_values: OversizedValues,
    /// `[storms.hot_prefix]`.
    pub hot_prefix: HotPrefix,
    /// `[storms.connection_growth]`.
    pub connection_growth: ConnectionGrowth,
    /// `[storms.error_burst]`.
    pub error_burst: ErrorBurst,
}

impl Storms {
    /// Whether a kind is looked for.
    #[must_use]
    pub const fn is_enabled(&self, kind: Kind) -> bool {
        match kind {
            Kind::ReconnectChurn => self.reconnect_churn.enabled,
            Kind::ColdReconnect => self.cold_reconnect.enabled,
            Kind::MaxclientsRejection => self.maxclients_rejection.enabled,
            Kind::AcceptQueueSaturation => self.accept_queue_saturation.enabled,
            Kind::ConnectionGrowth => self.connection_growth.enabled,
            Kind::RetryAmplification => self.retry_amplification.enabled,
            Kind::BandwidthSaturation => self.bandwidth_saturation.enabled,
            Kind::OversizedValues => self.oversized_values.enabled,
            Kind::HotPrefix => self.hot_prefix.enabled,
            Kind::ErrorBurst => self.error_burst.enabled,
        }
    }
}

/// Declares the table of one kind: its checked form with defaults, the raw one, and the way between them.
macro_rules! kind {
    ($(#[doc = $doc:literal])+ $name:ident, $raw:ident, $table:literal { $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty = $default:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name {
            /// Whether it is looked for.
            pub enabled: bool,
            $($(#[doc = $field_doc])+ pub $field: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    enabled: true,
                    $($field: const { <$type>::constant($default) },)+
                }
            }
        }

        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $raw {
            enabled: Option<bool>,
            $($field: Option<Spanned<i64>>,)+
        }

        impl $raw {
            fn check(&self, file: &Source<'_>) -> Result<$name> {
                let default = $name::default();
                Ok($name {
                    enabled: self.enabled.unwrap_or(default.enabled),
                    $($field: bounded(file, concat!("storms.", $table, ".", stringify!($field)), self.$field.as_ref(), default.$field)?,)+
                })
            }
        }
    };
}

kind! {
    /// `[storms.reconnect_churn]`.
    ReconnectChurn, RawReconnectChurn, "reconnect_churn" {
        /// Fewer closes with a waiting command are no storm.
        connections: Floor = 30,
        /// A smaller share of the connections held is no storm.
        share_percent: Percent = 5,
    }
}

kind! {
    /// `[storms.cold_reconnect]`.
    ColdReconnect, RawColdReconnect, "cold_reconnect" {
        /// Fewer connections opened anew are no storm.
        connections: Floor = 30,
        /// A smaller share of the connections held is no storm.
        share_percent: Percent = 7,
    }
}

kind! {
    /// `[storms.maxclients_rejection]`.
    MaxclientsRejection, RawMaxclientsRejection, "maxclients_rejection" {
        /// Fewer refusals are no storm.
        rejections: Floor = 5,
    }
}

kind! {
    /// `[storms.accept_queue_saturation]`.
    AcceptQueueSaturation, RawAcceptQueueSaturation, "accept_queue_saturation" {
        /// How full a queue is full.
        queue_percent: Percent = 50,
    }
}

kind! {
    /// `[storms.connection_growth]`.
    ConnectionGrowth, RawConnectionGrowth, "connection_growth" {
        /// Below this share of the clients that the server takes, growth is no storm.
        limit_percent: Percent = 50,
    }
}

kind! {
    /// `[storms.retry_amplification]`.
    RetryAmplification, RawRetryAmplification, "retry_amplification" {
        /// Fewer unanswered commands are no storm.
        commands: Floor = 500,
        /// The same as a share of the commands that the server usually has in a second.
        share_percent: Percent = 50,
    }
}

kind! {
    /// `[storms.bandwidth_saturation]`.
    BandwidthSaturation, RawBandwidthSaturation, "bandwidth_saturation" {
        /// Share of the limit from which on it is near.
        percent: Percent = 80,
        /// The limit in one direction; 0: the speed of the host's link.
        bytes_per_second: Bounded<0, 1_000_000_000_000> = 0,
    }
}

kind! {
    /// `[storms.oversized_values]`.
    OversizedValues, RawOversizedValues, "oversized_values" {
        /// From how many bytes on a value is large.
        bytes: Bounded<1_024, 536_870_912> = 262_144,
        /// Fewer large values are no storm.
        values: Floor = 20,
        /// A smaller share of all bytes is no storm.
        share_percent: Percent = 20,
    }
}

kind! {
    /// `[storms.hot_prefix]`.
    HotPrefix, RawHotPrefix, "hot_prefix" {
        /// Fewer commands per second beyond what is usual are no storm.
        commands: Floor = 1_000,
        /// A smaller share of all commands is no storm.
        share_percent: Percent = 50,
    }
}

kind! {
    /// `[storms.error_burst]`.
    ErrorBurst, RawErrorBurst, "error_burst" {
        /// Fewer error replies are no storm.
        errors: Floor = 50,
        /// The same as a share of the commands that the server usually has in a second.
        share_percent: Percent = 5,
    }
}

/// The section as serde reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStorms {
    reconnect_churn: RawReconnectChurn,
    cold_reconnect: RawColdReconnect,
    maxclients_rejection: RawMaxclientsRejection,
    accept_queue_saturation: RawAcceptQueueSaturation,
    connection_growth: RawConnectionGrowth,
    retry_amplification: RawRetryAmplification,
    bandwidth_saturation: RawBandwidthSaturation,
    oversized_values: RawOversizedValues,
    hot_prefix: RawHotPrefix,
    error_burst: RawErrorBurst,
}

/// Checks the section.
pub(super) fn storms(file: &Source<'_>, raw: &RawStorms) -> Result<Storms> {
    Ok(Storms {
        reconnect_churn: raw.reconnect_churn.check(file)?,
        cold_reconnect: raw.cold_reconnect.check(file)?,
        maxclients_rejection: raw.maxclients_rejection.check(file)?,
        accept_queue_saturation: raw.accept_queue_saturation.check(file)?,
        connection_growth: raw.connection_growth.check(file)?,
        retry_amplification: raw.retry_amplification.check(file)?,
        bandwidth_saturation: raw.bandwidth_saturation.check(file)?,
        oversized_values: raw.oversized_values.check(file)?,
        hot_prefix: raw.hot_prefix.check(file)?,
        error_burst: raw.error_burst.check(file)?,
    })
}
