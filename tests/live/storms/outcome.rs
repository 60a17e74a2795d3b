//! What came of a scene.

use std::fs::OpenOptions;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use stormglass_load::storms::Course;

/// What came of a scene, for whoever compares many.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) scene: String,
    pub(super) seed: u64,
    pub(super) course: Option<Course>,
    /// What was found at its server.
    pub(super) storms: Vec<Value>,
    /// When somebody was told of one of the scene's kind, in milliseconds since 1970 began.
    pub(super) told_ms: Option<u64>,
    /// When somebody was told that it is led by whom it is.
    pub(super) named_ms: Option<u64>,
    /// What the first message said, if that was another kind or another culprit.
    pub(super) first_called: Option<String>,
    /// Why it is not what it has to be.
    pub(super) failure: Option<String>,
}

impl Outcome {
    /// Appends it to the file that `STORMGLASS_OUTCOMES` names.
    pub(super) fn write(&self) -> Result<()> {
        let Ok(path) = std::env::var("STORMGLASS_OUTCOMES") else {
            return Ok(());
        };
        let line = json!({
            "scene": self.scene,
            "seed": self.seed,
            "course": self.course,
            "storms": self.storms.iter().map(summary).collect::<Vec<_>>(),
            "told_ms": self.told_ms,
            "named_ms": self.named_ms,
            "first_called": self.first_called,
            "failure": self.failure,
        });
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {path}"))?;
        writeln!(file, "{line}").with_context(|| format!("cannot write {path}"))
    }
}

fn summary(storm: &Value) -> Value {
    json!({
        "kind": storm["kind"],
        "kinds": storm["kinds"],
        "culprit": storm["culprits"][0]["name"],
        "onset_ms": storm["onset"],
        "found_ms": storm["found"],
        "ended_ms": storm["ended"],
        "summary": storm["summary"],
    })
}
