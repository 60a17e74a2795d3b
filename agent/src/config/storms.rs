//! `[storms.*]`: what is looked for, and how much of it is a storm.

use serde::Deserialize;
use toml::Spanned;

use super::check::{Result, bounded, refuse_later};
use super::error::Source;
use super::raw::Later;
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
    /// `[storms.connection_growth]`.
    pub connection_growth: ConnectionGrowth,
}

impl Storms {
    /// Kinds that this version looks for.
    pub const KINDS: [Kind; 5] = [
        Kind::ReconnectChurn,
        Kind::ColdReconnect,
        Kind::MaxclientsRejection,
        Kind::AcceptQueueSaturation,
        Kind::ConnectionGrowth,
    ];

    /// Whether a kind is looked for.
    #[must_use]
    pub const fn is_enabled(&self, kind: Kind) -> bool {
        match kind {
            Kind::ReconnectChurn => self.reconnect_churn.enabled,
            Kind::ColdReconnect => self.cold_reconnect.enabled,
            Kind::MaxclientsRejection => self.maxclients_rejection.enabled,
            Kind::AcceptQueueSaturation => self.accept_queue_saturation.enabled,
            Kind::ConnectionGrowth => self.connection_growth.enabled,
            Kind::RetryAmplification
            | Kind::BandwidthSaturation
            | Kind::OversizedValues
            | Kind::HotPrefix
            | Kind::ErrorBurst => false,
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
        connections: Floor = 50,
        /// A smaller share of the connections held is no storm.
        share_percent: Percent = 12,
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

/// The section as serde reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStorms {
    reconnect_churn: RawReconnectChurn,
    cold_reconnect: RawColdReconnect,
    maxclients_rejection: RawMaxclientsRejection,
    accept_queue_saturation: RawAcceptQueueSaturation,
    connection_growth: RawConnectionGrowth,
    retry_amplification: Later,
    bandwidth_saturation: Later,
    oversized_values: Later,
    hot_prefix: Later,
    error_burst: Later,
}

/// Checks the section.
pub(super) fn storms(file: &Source<'_>, raw: &RawStorms) -> Result<Storms> {
    refuse_later(
        file,
        &[
            ("[storms.retry_amplification]", &raw.retry_amplification),
            ("[storms.bandwidth_saturation]", &raw.bandwidth_saturation),
            ("[storms.oversized_values]", &raw.oversized_values),
            ("[storms.hot_prefix]", &raw.hot_prefix),
            ("[storms.error_burst]", &raw.error_burst),
        ],
    )?;
    Ok(Storms {
        reconnect_churn: raw.reconnect_churn.check(file)?,
        cold_reconnect: raw.cold_reconnect.check(file)?,
        maxclients_rejection: raw.maxclients_rejection.check(file)?,
        accept_queue_saturation: raw.accept_queue_saturation.check(file)?,
        connection_growth: raw.connection_growth.check(file)?,
    })
}
