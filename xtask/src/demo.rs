//! `cargo xtask demo`.

use anyhow::{Result, bail};
use clap::Args;

use crate::lab::Lab;

/// What `cargo xtask demo` can be told.
#[derive(Args)]
pub(crate) struct Options {}

/// Shows Stormglass at work.
pub(crate) fn run(_lab: &Lab, _options: &Options) -> Result<()> {
    bail!("there is no demo yet; run `cargo xtask build`, then target/release/stormglass")
}
