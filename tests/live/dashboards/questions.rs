//! Every question of every panel, variable and annotation, with its variables chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use stormglass_dashboards::shipped::{self, Variable};
use stormglass_tests::prometheus::Prometheus;

/// How many seconds before now are shown.
const SHOWN: f64 = 60.0;

/// What is chosen.
const CLUSTER: &str = "eu-1";
const HOST: &str = "host-1:9466";
const TENANT: &str = "cart";
const WORKLOAD: &str = "cart-api";

/// Questions without an answer on this stage, by dashboard, panel and number, and why.
const EMPTY: [(&str, &str, usize, &str); 2] = [
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
            let expression = chosen(&query.expression, panel.board, server);
            let answer = if query.is_instant {
                prometheus.query(&expression)?
            } else {
                prometheus.query_range(&expression, now - SHOWN, now)?
            };
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
    wrong.extend(variables(prometheus, server, now)?);
    wrong.extend(annotations(prometheus, server, now)?);
    ensure!(empty.len() <= EMPTY.len() && wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// What is wrong with variables: each has to offer what is chosen.
fn variables(prometheus: &Prometheus, server: &str, now: f64) -> Result<Vec<String>> {
    let choices = BTreeMap::from([
        ("cluster", CLUSTER),
        ("instance", HOST),
        ("server", server),
        ("tenant", TENANT),
        ("workload", WORKLOAD),
    ]);
    let (variables, mut wrong) = (shipped::variables()?, Vec::new());
    for variable in &variables {
        let values = values(prometheus, variable, server, now)?;
        let choice = choices.get(&*variable.name).context("nothing is chosen")?;
        if !values.contains(*choice) {
            let Variable { board, name, .. } = variable;
            wrong.push(format!("{board}: ${name} offers {values:?}, not {choice}"));
        }
    }
    ensure!(!variables.is_empty(), "no variables");
    println!("{} questions of variables", variables.len());
    Ok(wrong)
}

/// What a variable offers: Grafana asks so for `label_values(SERIES, LABEL)`.
fn values(prometheus: &Prometheus, variable: &Variable, server: &str, now: f64) -> Result<BTreeSet<String>> {
    let address = format!(
        "http://127.0.0.1:{}/api/v1/label/{}/values",
        prometheus.port(),
        variable.label
    );
    let text = ureq::get(&address)
        .query("match[]", chosen(&variable.series, variable.board, server))
        .query("start", (now - SHOWN).to_string())
        .query("end", now.to_string())
        .call()?
        .body_mut()
        .read_to_string()?;
    let page: Value = serde_json::from_str(&text)?;
    let values = page["data"].as_array().context("no values")?.iter();
    Ok(values
        .filter_map(|value| Some(value.as_str()?.to_owned()))
        .collect())
}

/// What is wrong with annotations: each has to find a storm, and to be able to say where and of which kind it is.
fn annotations(prometheus: &Prometheus, server: &str, now: f64) -> Result<Vec<String>> {
    let (annotations, mut wrong) = (shipped::annotations()?, Vec::new());
    for annotation in &annotations {
        let expression = chosen(&annotation.expression, annotation.board, server);
        let storms = prometheus.query_range(&expression, now - SHOWN, now)?;
        let is_named = |storm: &Value| {
            let labels = ["kind", "server", "instance"].map(|label| &storm["metric"][label]);
            labels.iter().all(|label| label.is_string())
        };
        if !is_answered(&storms) || !storms.iter().all(is_named) {
            wrong.push(format!("{}: storms are {storms:?}", annotation.board));
        }
    }
    ensure!(!annotations.is_empty(), "no annotations");
    println!("{} questions of annotations", annotations.len());
    Ok(wrong)
}

/// A question with its variables chosen.
fn chosen(expression: &str, board: &str, server: &str) -> String {
    let is_of_one = ["server", "incident"].contains(&board);
    let (instance, server) = if is_of_one { (HOST, server) } else { (".*", ".*") };
    expression
        .replace("$__rate_interval", "5s")
        .replace("$__range", "60s")
        .replace("$cluster", ".*")
        .replace("$instance", instance)
        .replace("$server", server)
        .replace("$tenant", TENANT)
        .replace("$workload", ".*")
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
