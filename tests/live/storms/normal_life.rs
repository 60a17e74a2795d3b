//! What happens every day.

use std::time::Duration;

use anyhow::Result;
use stormglass_tests::crowd::Crowd;

use super::stage::{Site, Stage, live};

/// Clients ask, a fleet is deployed pod by pod, a batch comes and goes.
pub(super) fn nothing_is_found(stage: &Stage, server: &Site) -> Result<()> {
    let mut cart = Crowd::new(server.port, 71, 60);
    cart.arrive(10)?;
    stage.learn(server, &mut [&mut cart])?;
    for pod in 0..15 {
        cart.renew(10 * pod, 10)?;
        live(&mut [&mut cart], Duration::from_millis(1_000));
    }
    let mut batch = Crowd::new(server.port, 72, 30);
    batch.open(10)?;
    live(&mut [&mut cart, &mut batch], Duration::from_secs(10));
    batch.leave();
    live(&mut [&mut cart], Duration::from_secs(5));
    stage.assert_silent(server)
}
