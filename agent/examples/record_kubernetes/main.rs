//! Records what a real API server says to the agent's watcher: `tests/captures/README.md` says how.
//!
//! ```text
//! cargo run -p stormglass --example record_kubernetes -- --apiserver FILE --etcd FILE [NAME]...
//! ```
#![forbid(unsafe_code)]

mod pods;
mod scenarios;
mod stage;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use stormglass_tests::kubernetes::cluster::Programs;

/// Records what a real API server says to the agent's watcher.
#[derive(Parser)]
struct Arguments {
    /// A kube-apiserver.
    #[arg(long)]
    apiserver: PathBuf,
    /// An etcd that it can work with.
    #[arg(long)]
    etcd: PathBuf,
    /// Which recordings to make; all of them if none is named.
    names: Vec<String>,
}

fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let programs = Programs {
        apiserver: arguments.apiserver,
        etcd: arguments.etcd,
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures/kubernetes");
    for (name, record) in scenarios::ALL {
        if arguments.names.is_empty() || arguments.names.iter().any(|wanted| wanted == name) {
            eprintln!("recording {name}");
            let file = folder.join(format!("{name}.jsonl"));
            record(&programs, &file).with_context(|| format!("recording {name}"))?;
        }
    }
    Ok(())
}
