//! Storms of every kind at a real server, and the normal life before and after. Sizes are drawn from a seed; seed 0 is the case that
//! was reported.
//!
//! | file | what it knows |
//! |---|---|
//! | `stage` | the server, whoever is there on any day, and time that passes |
//! | `connections`, `commands` | the storms |
//! | `life` | what happens every day and is no storm |

mod commands;
mod connections;
mod life;
mod stage;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use fastrand::Rng;
use serde::Serialize;

pub use self::life::{Event, Life};
pub use self::stage::now_ms;
use self::stage::{Stage, Usual};
use crate::place::Place;

/// What an agent has to be configured with to tell by name who does what here.
pub const CONFIG: &str = include_str!("storms.toml");

/// The workload of whoever is at a server on any day.
pub const USUAL: &str = "cart-api";

/// The workload of whoever comes besides.
pub const BESIDES: &str = "batch";

/// What a storm is. The names are those of the findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A slow server's clients time out, close and open again at once
    ReconnectChurn,
    /// All connections are replaced within seconds, and nothing is asked
    ColdReconnect,
    /// More clients than the server takes
    MaxclientsRejection,
    /// Handshakes go on while a stopped server accepts nobody
    AcceptQueueSaturation,
    /// A stopped server's clients ask the same again and again
    RetryAmplification,
    /// More bytes than the link carries
    BandwidthSaturation,
    /// Values of a mebibyte where the usual ones have a few bytes
    OversizedValues,
    /// One prefix takes the server, and the others wait
    HotPrefix,
    /// A leak, or a fleet that creeps up, to the most connections that the server takes
    ConnectionGrowth,
    /// Commands that fail
    ErrorBurst,
}

impl Kind {
    /// All of them, in the order in which they lead.
    #[must_use]
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As findings have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReconnectChurn => "reconnect_churn",
            Self::ColdReconnect => "cold_reconnect",
            Self::MaxclientsRejection => "maxclients_rejection",
            Self::AcceptQueueSaturation => "accept_queue_saturation",
            Self::RetryAmplification => "retry_amplification",
            Self::BandwidthSaturation => "bandwidth_saturation",
            Self::OversizedValues => "oversized_values",
            Self::HotPrefix => "hot_prefix",
            Self::ConnectionGrowth => "connection_growth",
            Self::ErrorBurst => "error_burst",
        }
    }

    /// Who leads it, under [`CONFIG`]: a workload, a tenant, or a prefix that no tenant has.
    #[must_use]
    pub fn culprit(self) -> &'static str {
        match self {
            Self::ReconnectChurn | Self::ColdReconnect => USUAL,
            Self::MaxclientsRejection | Self::AcceptQueueSaturation | Self::ConnectionGrowth => BESIDES,
            Self::RetryAmplification => "login",
            Self::BandwidthSaturation | Self::ErrorBurst => "search",
            Self::OversizedValues | Self::HotPrefix => "promo",
        }
    }

    /// Lines of configuration of a server at which it can happen: limits that a test can reach.
    #[must_use]
    pub fn server(self) -> &'static str {
        match self {
            Self::MaxclientsRejection => "maxclients 100\n",
            Self::AcceptQueueSaturation => "tcp-backlog 64\n",
            Self::ConnectionGrowth => "maxclients 600\n",
            _ => "",
        }
    }
}

/// A storm that is about to break out.
pub struct Storm {
    scene: Box<dyn Scene>,
    stage: Stage,
}

/// How large a fleet is, where that is not to be drawn.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Size {
    /// Addresses of the fleet that reconnects (reconnect_churn, cold_reconnect), instead of what is drawn
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub instances: Option<u16>,
    /// Connections of each of them; 19,000 in all at most
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: Option<u16>,
}

/// Most connections of one fleet: what a test may have of a host's ports and files.
pub const CONNECTIONS_AT_MOST: usize = 19_000;

/// How a storm went. Milliseconds since 1970 began.
#[derive(Debug, Clone, Serialize)]
pub struct Course {
    /// What it was.
    pub kind: Kind,
    /// When the first of what makes it one happened.
    pub onset_ms: u64,
    /// When the last did.
    pub over_ms: u64,
    /// From when until when the server answered nobody, if it did not.
    pub mute_ms: Option<(u64, u64)>,
    /// Connections that were opened meanwhile.
    pub opened: u64,
}

/// One kind with its sizes.
trait Scene: Send {
    /// Whoever is at the server on any day.
    fn usual(&self) -> Usual;

    /// What the server has to hold.
    fn prepare(&self, _: &Place) -> Result<()> {
        Ok(())
    }

    /// The storm itself, from its onset to its end.
    fn rage(&self, stage: &mut Stage) -> Result<Course>;
}

impl Storm {
    /// Draws the sizes, and lets whoever is at the server on any day arrive. Seed 0: the case that was reported.
    ///
    /// # Errors
    /// If the server is not one at which this can happen; the message says what is missing.
    pub fn set(kind: Kind, place: Place, seed: u64) -> Result<Self> {
        Self::sized(kind, place, seed, Size::default())
    }

    /// The same with a fleet of this size.
    ///
    /// # Errors
    /// Likewise, and if it is more than a test may have, or the kind has other sizes.
    pub fn sized(kind: Kind, place: Place, seed: u64, size: Size) -> Result<Self> {
        let mut dice = (seed != 0).then(|| Rng::with_seed(seed));
        let scene = scene(kind, &place, &mut dice)?;
        scene.prepare(&place)?;
        let stage = Stage::set(place, &size.of(kind, scene.usual())?, seed)?;
        Ok(Self { scene, stage })
    }

    /// Normal life, for so long.
    pub fn live(&mut self, how_long: Duration) -> Result<()> {
        self.stage.pass(how_long, &mut [])
    }

    /// Lets it break out, and returns once it is over. What was done to the server is undone then, also after an error.
    pub fn break_out(&mut self) -> Result<Course> {
        self.scene.rage(&mut self.stage)
    }
}

impl Size {
    /// Whether anything of it is said.
    #[must_use]
    pub fn is_given(self) -> bool {
        self.instances.is_some() || self.connections.is_some()
    }

    fn of(self, kind: Kind, mut usual: Usual) -> Result<Usual> {
        ensure!(
            !self.is_given() || matches!(kind, Kind::ReconnectChurn | Kind::ColdReconnect),
            "a fleet's size makes reconnect_churn and cold_reconnect; {} has sizes by its server's limits",
            kind.name()
        );
        usual.instances = self.instances.unwrap_or(usual.instances);
        usual.each = self.connections.map_or(usual.each, usize::from);
        let connections = usize::from(usual.instances) * usual.each;
        ensure!(
            connections <= CONNECTIONS_AT_MOST,
            "{connections} connections are more than the {CONNECTIONS_AT_MOST} that a test may have of a host's ports"
        );
        Ok(usual)
    }
}

fn scene(kind: Kind, place: &Place, dice: &mut Option<Rng>) -> Result<Box<dyn Scene>> {
    Ok(match kind {
        Kind::ReconnectChurn => Box::new(connections::Churn::draw(place, dice)),
        Kind::ColdReconnect => Box::new(connections::Night::draw(dice)),
        Kind::MaxclientsRejection => Box::new(connections::Refusal::draw(place, dice)?),
        Kind::AcceptQueueSaturation => Box::new(connections::Queue::draw(place, dice)?),
        Kind::ConnectionGrowth => Box::new(connections::Growth::draw(place, dice)?),
        Kind::RetryAmplification => Box::new(commands::Retries::draw(place, dice)?),
        Kind::BandwidthSaturation => Box::new(commands::Demand::flood(dice)),
        Kind::OversizedValues => Box::new(commands::Demand::large(dice)),
        Kind::HotPrefix => Box::new(commands::Demand::hot(dice)),
        Kind::ErrorBurst => Box::new(commands::Demand::errors(dice)),
    })
}

/// A size: what was reported, or anything in a range.
fn drawn(dice: &mut Option<Rng>, reported: u32, range: std::ops::RangeInclusive<u32>) -> u32 {
    dice.as_mut().map_or(reported, |dice| dice.u32(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_called_what_its_finding_is_called() {
        for kind in Kind::value_variants() {
            let value = kind.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), kind.name());
            assert_eq!(serde_json::json!(kind), kind.name());
        }
    }

    #[test]
    fn a_fleet_is_as_large_as_it_is_said_to_be_and_no_larger_than_a_host_can_have() {
        let of = |kind, instances, connections| {
            let usual = Usual {
                instances: 200,
                each: 10,
                every: None,
            };
            let size = Size {
                instances,
                connections,
            };
            size.of(kind, usual).map(|usual| (usual.instances, usual.each))
        };
        let kind = Kind::ReconnectChurn;
        assert_eq!(of(kind, None, None).unwrap(), (200, 10));
        assert_eq!(of(kind, Some(950), Some(20)).unwrap(), (950, 20));
        assert_eq!(of(kind, Some(7), None).unwrap(), (7, 10));
        assert!(of(kind, Some(951), Some(20)).is_err());
        assert!(of(Kind::HotPrefix, Some(1), None).is_err());
        assert!(of(Kind::HotPrefix, None, None).is_ok());
    }

    #[test]
    fn a_seed_draws_the_same_sizes_again_and_seed_0_the_reported_ones() {
        let sizes = |seed| {
            let mut dice = (seed != 0).then(|| Rng::with_seed(seed));
            [drawn(&mut dice, 200, 80..=250), drawn(&mut dice, 10, 4..=10)]
        };
        assert_eq!(sizes(0), [200, 10]);
        assert_eq!(sizes(7), sizes(7));
        assert!((1..20).any(|seed| sizes(seed) != sizes(seed + 1)));
    }
}
