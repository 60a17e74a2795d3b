//! `cargo xtask dashboards render`: what the dashboards look like. There is no Grafana to be had here, so a page of ours draws each panel of
//! the shipped files, by its own type, unit, legend, thresholds and place, from what a real Prometheus answered in the live test, and
//! Chromium makes a picture of it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use stormglass_dashboards::{boards, shipped};

use crate::lab::{Lab, browser};
use crate::process::say;
use crate::test;

/// Width of a picture, and the height of one row of the grid with the space below it, in pixels.
const WIDTH: u32 = 1_500;
const ROW: u64 = 30;

/// What stands above the panels, and below.
const HEAD: u64 = 96;

/// Where the page gets what it shows.
const PLACE: &str = "/*SHOWN*/null";

/// Plays the storms of the live test, unless `answers` has those of an earlier run, and draws all dashboards into docs/dashboards.
pub(crate) fn run(lab: &Lab, answers: Option<&Path>) -> Result<()> {
    browser::ensure_chromium(lab)?;
    let folder = tempfile::tempdir()?;
    let played = folder.path().join("answers.json");
    let answers = match answers {
        Some(path) => path,
        None => {
            test::answers_of_panels(lab, &played)?;
            &played
        }
    };
    let text = fs::read_to_string(answers).with_context(|| format!("cannot read {}", answers.display()))?;
    let answers: Value = serde_json::from_str(&text)?;
    let pictures = lab.workspace().join("docs/dashboards");
    fs::create_dir_all(&pictures)?;
    for board in boards::all() {
        let json = shipped::read(board.name)?;
        let rows = rows(&json);
        let shown = json!({"board": json, "answers": answers["boards"][board.name], "from": answers["from"], "to": answers["to"],
            "storms": answers["storms"], "chosen": answers["chosen"][board.name]});
        // Inside a script, where an end tag would end it.
        let page = include_str!("page.html").replace(PLACE, &shown.to_string().replace("</", "<\\/"));
        let path = folder.path().join(format!("{}.html", board.name));
        fs::write(&path, page)?;
        let height = u32::try_from(HEAD + rows * ROW)?;
        let picture = pictures.join(format!("{}.png", board.name));
        browser::draw(lab, &path, &picture, (WIDTH, height))?;
        say(format!("drawn: {}", picture.display()));
    }
    Ok(())
}

/// Rows of the grid that a dashboard takes.
fn rows(board: &Value) -> u64 {
    let panels = board["panels"].as_array().into_iter().flatten();
    let ends = panels.map(|panel| {
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap_or(0);
        place("y") + place("h")
    });
    ends.max().unwrap_or(0)
}
