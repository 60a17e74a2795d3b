//! `cargo xtask bench`: what Stormglass costs, and what it finds. Never part of a test.

mod delays;
mod detection;
mod meter;
mod overhead;
mod picture;
mod scrape;
mod statistics;
mod storms;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::lab::Lab;

/// What `cargo xtask bench` can be told.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// The cost on the machine and on the server: pairs of runs without and with the agent, in random order
    Overhead(overhead::Options),
    /// What no program gets below: the least that a packet needs, in the agent's place, in turns with the agent
    Floor(overhead::floor::Options),
    /// How long a scrape takes when a flood has filled every table of the agent
    Scrape(scrape::Options),
    /// The RESP meter alone, on the host, beside a RESP crate that parses the same bytes
    Meter(meter::Options),
    /// Storms on simulated servers: delays, misses, false alarms in months of normal life, beside a z-score of INFO
    Detection(detection::Options),
    /// Storms at real servers, and real normal life: from the onset to the finding, and to whoever is told
    Storms(storms::Options),
}

/// Where benchmarks leave what they found.
fn folder(lab: &Lab) -> Result<PathBuf> {
    let folder = lab.target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Runs one benchmark.
pub(crate) fn run(lab: &Lab, options: &Options) -> Result<()> {
    match &options.bench {
        Bench::Overhead(options) => overhead::run(lab, options),
        Bench::Floor(options) => overhead::floor::run(lab, options),
        Bench::Scrape(options) => scrape::run(lab, options),
        Bench::Meter(options) => meter::run(lab, options),
        Bench::Detection(options) => detection::run(lab, options),
        Bench::Storms(options) => storms::run(lab, options),
    }
}
