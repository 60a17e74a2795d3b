//! `stormglass run`.

use std::{io::IsTerminal as _, process::ExitCode, sync::mpsc::sync_channel};

use anyhow::{Context as _, Result, bail};
use stormglass::{config::Configuration, daemon, kernel, privileges};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{LogFormat, RunArguments, doctor};

pub(super) fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let configuration = Configuration::load(arguments.config.config.as_deref())?;
    start_log(arguments)?;
    for warning in &configuration.settings.warnings {
        tracing::warn!("{warning}");
    }
    let unmet = doctor::unmet(&kernel::check_requirements());
    if !unmet.is_empty() {
        bail!("this host cannot run stormglass\n{}", unmet.join("\n"));
    }
    privileges::seal().context("cannot forbid new privileges")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let mut hang_up = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
        // One request that waits is as good as many.
        let (reload, reloads) = sync_channel(1);
        let shutdown = async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return tracing::info!("SIGTERM: ending"),
                    _ = interrupt.recv() => return tracing::info!("SIGINT: ending"),
                    _ = hang_up.recv() => {
                        tracing::info!("SIGHUP: reading the configuration again");
                        let _ = reload.try_send(());
                    }
                }
            }
        };
        daemon::run(configuration, reloads, shutdown).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn start_log(arguments: &RunArguments) -> Result<()> {
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(&arguments.log_level))
        .with_context(|| {
            format!(
                "--log-level {}: use error, warn, info, debug or trace",
                arguments.log_level
            )
        })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
