//! Every question of every panel, with its variables chosen.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use stormglass_dashboards::shipped::{self, Panel, Query};
use stormglass_tests::prometheus::Prometheus;

/// How many seconds before now are shown.
const SHOWN: f64 = 60.0;

/// What is chosen.
const HOST: &str = "host-1:9466";
const TENANT: &str = "cart";

/// Questions without an answer on this stage, by dashboard, panel and number, and why.
const EMPTY: [(&str, &str, usize, &str); 3] = [
    (
        "agent",
        "Time of one run",
        0,
        "kernel.bpf_stats_enabled is 0: no runs are counted",
    ),
    ("agent", "Kubernetes", 0, "no API server is asked"),
    ("agent", "Kubernetes", 1, "no API server is asked"),
];

/// Asks all of them, and says which have no answer though they should, or have one though they should not.
pub(super) fn ask(prometheus: &Prometheus, server: &str) -> Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)?
        .as_secs_f64()
        .floor();
    let (mut wrong, mut answers) = (Vec::new(), json!({}));
    let mut asked = 0;
    let mut empty = BTreeSet::new();
    for panel in shipped::panels()? {
        answers[panel.board][panel.json["id"].to_string()] = json!([]);
        for (number, query) in panel.queries.iter().enumerate() {
            asked += 1;
            let listed = EMPTY.iter().any(|(board, title, index, _)| {
                (*board, *title, *index) == (panel.board, &*panel.title, number)
            });
            let answer = answer(prometheus, &panel, query, server, now)?;
            let has_answer = is_answered(&answer);
            answers[panel.board][panel.json["id"].to_string()]
                .as_array_mut()
                .context("a list")?
                .push(answer.into());
            if listed == has_answer {
                wrong.push(format!(
                    "{}: {}, question {number}: {}",
                    panel.board,
                    panel.title,
                    if listed { "is answered" } else { "no answer" }
                ));
            }
            if !has_answer {
                empty.insert((panel.board, panel.title.clone(), number));
            }
        }
    }
    println!("{asked} questions of panels, {} without an answer", empty.len());
    if let Some(path) = std::env::var_os("STORMGLASS_ANSWERS") {
        let storms = "max by (server, instance, kind) (stormglass_storm_active) == 1";
        let one = json!({"instance": HOST, "server": server});
        let shown = json!({
            "from": now - SHOWN, "to": now, "boards": answers,
            "storms": prometheus.query_range(storms, now - SHOWN, now)?,
            "chosen": {"server": one, "incident": one, "tenant": {"tenant": TENANT}},
        });
        std::fs::write(path, shown.to_string())?;
    }
    ensure!(empty.len() <= EMPTY.len() && wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// What a question is answered, with its variables chosen.
fn answer(
    prometheus: &Prometheus,
    panel: &Panel,
    query: &Query,
    server: &str,
    now: f64,
) -> Result<Vec<Value>> {
    let is_of_one = ["server", "incident"].contains(&panel.board);
    let (instance, server) = if is_of_one { (HOST, server) } else { (".*", ".*") };
    let expression = query
        .expression
        .replace("$__rate_interval", "5s")
        .replace("$__range", "60s")
        .replace("$cluster", ".*")
        .replace("$instance", instance)
        .replace("$server", server)
        .replace("$tenant", TENANT)
        .replace("$workload", ".*")
        .replace("$link", "125000000");
    if query.is_instant {
        prometheus.query(&expression)
    } else {
        prometheus.query_range(&expression, now - SHOWN, now)
    }
}

fn is_answered(series: &[Value]) -> bool {
    series.iter().any(|series| {
        let values = series["values"].as_array().into_iter().flatten();
        values.chain([&series["value"]]).any(is_number)
    })
}

fn is_number(sample: &Value) -> bool {
    sample[1].as_str().is_some_and(|value| value != "NaN")
}
