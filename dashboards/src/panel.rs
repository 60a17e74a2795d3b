//! Panels as Grafana writes them: what is the same in all of them is said here once.

use serde_json::{Value, json};

/// Series that a panel shows at most where there may be hundreds: those that were largest in the time shown.
const TOP: u32 = 12;

/// Columns of the grid.
const COLUMNS: u32 = 24;

/// Letters that a legend leaves for the value of a label: what it may well need. Labels that are not listed have 20.
const LETTERS: [(&str, u32); 9] = [
    // An IPv6 address.
    ("client", 39),
    ("direction", 3),
    ("error", 12),
    // A host's name in its network, and the agent's port.
    ("instance", 32),
    ("kind", 24),
    // The kernel keeps no longer ones.
    ("program", 15),
    ("receiver", 18),
    // `namespace/pod:port`.
    ("server", 40),
    ("sink", 12),
];

/// What a legend takes beside letters: for a name's colour and margins, and for a column of figures, in pixels.
const BESIDE_NAME: u32 = 30;
const FIGURE: u32 = 76;

/// Half of a column of the grid on a screen of common width, in pixels: no legend takes more of its panel.
const HALF_COLUMN: u32 = 30;

/// Colours, by what they mean.
pub const GOOD: &str = "green";
/// Worth a look.
pub const WARNING: &str = "orange";
/// Something has to be done.
pub const BAD: &str = "red";
/// Neither good nor bad.
pub const NEUTRAL: &str = "blue";

/// A panel. It is made by [`stat`] and its like, and changed by its methods.
#[derive(Debug, Clone)]
pub struct Panel {
    kind: Kind,
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    width: u32,
    height: u32,
    queries: Vec<Query>,
    steps: Vec<(f64, &'static str)>,
    range: (Option<f64>, Option<f64>),
    none: Option<&'static str>,
    link: Option<Link>,
    columns: Vec<Column>,
    is_stacked: bool,
    is_of_names: bool,
    shows_thresholds: bool,
    dashed: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stat,
    TimeSeries,
    Heatmap,
    Table,
    StateTimeline,
    BarGauge,
}

#[derive(Debug, Clone)]
struct Query {
    expression: String,
    legend: &'static str,
}

/// To another dashboard, with the value of one label, and the host where the server's name alone does not say which.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Whose `uid` it has.
    pub board: &'static str,
    /// What it says.
    pub title: &'static str,
    /// Labels that it takes along, as variables of the same name.
    pub labels: &'static [&'static str],
}

/// A column of a table: the value of a query, or a label of it.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// `Value` of the only query, `Value #A` and so on of several, or the label.
    pub field: &'static str,
    /// What stands above it.
    pub title: &'static str,
    /// Unit; none for labels.
    pub unit: &'static str,
    /// Drawn as a bar up to this, if there is one.
    pub bar: Option<f64>,
}

/// A column of figures.
#[must_use]
pub const fn figure(field: &'static str, title: &'static str, unit: &'static str) -> Column {
    Column {
        field,
        title,
        unit,
        bar: None,
    }
}

/// A column of shares, drawn as bars.
#[must_use]
pub const fn share(field: &'static str, title: &'static str) -> Column {
    Column {
        field,
        title,
        unit: "percentunit",
        bar: Some(1.0),
    }
}

/// A column with a label.
#[must_use]
pub const fn label(field: &'static str, title: &'static str) -> Column {
    figure(field, title, "")
}

/// One figure, with its course behind it.
#[must_use]
pub fn stat(title: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Stat, title, description, 4, 4)
}

/// Curves over time.
#[must_use]
pub fn curves(title: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::TimeSeries, title, description, 12, 8)
}

/// A distribution over time, from a histogram's buckets.
#[must_use]
pub fn heatmap(title: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Heatmap, title, description, 12, 8)
}

/// What is now, as rows.
#[must_use]
pub fn table(title: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Table, title, description, 24, 8)
}

/// Yes or no over time, a line for each.
#[must_use]
pub fn states(title: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::StateTimeline, title, description, 24, 6)
}

/// What is now, as bars.
#[must_use]
pub fn bars(title: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::BarGauge, title, description, 8, 8)
}

/// The series of `query` that `ranking` puts first over the whole time shown: the same ones at every moment, so that curves do not come
/// and go. Both have the same labels.
#[must_use]
pub fn top(query: &str, ranking: &str) -> String {
    format!("{query}\nand topk({TOP}, {ranking})")
}

/// The same of the rate of one counter's series, added up by labels.
#[must_use]
pub fn top_rate(by: &str, series: &str) -> String {
    top(
        &format!("sum by ({by}) (rate({series}[$__rate_interval]))"),
        &format!("sum by ({by}) (increase({series}[$__range] @ end()))"),
    )
}

/// The same of one recorded or exported gauge.
#[must_use]
pub fn top_gauge(query: &str) -> String {
    top(query, &format!("max_over_time({query}[$__range] @ end())"))
}

impl Panel {
    fn new(kind: Kind, title: &'static str, description: &'static str, width: u32, height: u32) -> Self {
        Self {
            kind,
            title,
            description,
            unit: "short",
            width,
            height,
            queries: Vec::new(),
            steps: Vec::new(),
            range: (None, None),
            none: None,
            link: None,
            columns: Vec::new(),
            is_stacked: false,
            is_of_names: false,
            shows_thresholds: false,
            dashed: Vec::new(),
        }
    }

    /// Columns (of 24) and rows that it takes.
    #[must_use]
    pub fn size(mut self, width: u32, height: u32) -> Self {
        (self.width, self.height) = (width, height);
        self
    }

    /// In which unit, by Grafana's names.
    #[must_use]
    pub fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// What it asks, and what a series is called: `{{label}}`.
    #[must_use]
    pub fn ask(mut self, expression: impl Into<String>, legend: &'static str) -> Self {
        self.queries.push(Query {
            expression: expression.into(),
            legend,
        });
        self
    }

    /// From which value on it is worth a look, and when something has to be done.
    #[must_use]
    pub fn limits(mut self, warning: f64, bad: f64) -> Self {
        self.steps = vec![(warning, WARNING), (bad, BAD)];
        self.shows_thresholds = true;
        self
    }

    /// Worth a look from this value on, and never bad.
    #[must_use]
    pub fn worth_a_look(mut self, warning: f64) -> Self {
        self.steps = vec![(warning, WARNING)];
        self
    }

    /// Bad from this value on.
    #[must_use]
    pub fn limit(mut self, bad: f64) -> Self {
        self.steps = vec![(bad, BAD)];
        self.shows_thresholds = true;
        self
    }

    /// Bad below this value.
    #[must_use]
    pub fn at_least(mut self, good: f64) -> Self {
        self.steps = vec![(f64::NEG_INFINITY, BAD), (good, GOOD)];
        self
    }

    /// The axis ends here, whatever the values.
    #[must_use]
    pub fn up_to(mut self, most: f64) -> Self {
        self.range = (Some(0.0), Some(most));
        self
    }

    /// What is said where there is no answer, if that is no fault.
    #[must_use]
    pub fn or_else(mut self, text: &'static str) -> Self {
        self.none = Some(text);
        self
    }

    /// Where a click leads.
    #[must_use]
    pub fn link(mut self, link: Link) -> Self {
        self.link = Some(link);
        self
    }

    /// Columns of a table, in their order.
    #[must_use]
    pub fn columns(mut self, columns: &[Column]) -> Self {
        self.columns = columns.to_vec();
        self
    }

    /// Curves on top of each other: they are parts of a whole.
    #[must_use]
    pub fn stacked(mut self) -> Self {
        self.is_stacked = true;
        self
    }

    /// It shows what a series is called, not its value.
    #[must_use]
    pub fn of_names(mut self) -> Self {
        self.is_of_names = true;
        self
    }

    /// Curves by these legends are limits of the others: grey and dashed.
    #[must_use]
    pub fn dashed(mut self, legends: &[&'static str]) -> Self {
        self.dashed = legends.to_vec();
        self
    }

    /// Width in columns.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width.min(COLUMNS)
    }

    /// Height in rows.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// As JSON, with its number and its place.
    #[must_use]
    pub fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let mut panel = json!({
            "id": id,
            "type": self.type_name(),
            "title": self.title,
            "description": self.description,
            "gridPos": {"x": x, "y": y, "w": self.width(), "h": self.height},
            "datasource": data_source(),
            "targets": self.targets(),
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
            "options": self.options(),
        });
        if self.kind == Kind::Table {
            panel["transformations"] = self.transformations();
        }
        panel
    }

    fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Stat => "stat",
            Kind::TimeSeries => "timeseries",
            Kind::Heatmap => "heatmap",
            Kind::Table => "table",
            Kind::StateTimeline => "state-timeline",
            Kind::BarGauge => "bargauge",
        }
    }

    fn targets(&self) -> Vec<Value> {
        let is_instant = matches!(self.kind, Kind::Table | Kind::BarGauge);
        let format = match self.kind {
            Kind::Heatmap => "heatmap",
            Kind::Table => "table",
            _ => "time_series",
        };
        let targets = self.queries.iter().zip('A'..='Z').map(|(query, letter)| {
            json!({
                "refId": letter,
                "datasource": data_source(),
                "editorMode": "code",
                "expr": query.expression,
                "legendFormat": query.legend,
                "format": format,
                "instant": is_instant,
                "range": !is_instant,
            })
        });
        targets.collect()
    }

    fn defaults(&self) -> Value {
        let mut defaults = json!({
            "unit": self.unit,
            "color": {"mode": self.colours()},
            "thresholds": {"mode": "absolute", "steps": self.threshold_steps()},
            "custom": self.custom(),
        });
        if let (Some(low), Some(high)) = self.range {
            defaults["min"] = low.into();
            defaults["max"] = high.into();
        } else if matches!(self.kind, Kind::TimeSeries | Kind::BarGauge) {
            defaults["min"] = 0.into();
        }
        if let Some(text) = self.none {
            defaults["noValue"] = text.into();
        }
        if let (Some(link), false) = (self.link, self.kind == Kind::Table) {
            defaults["links"] = json!([link.json(|label| format!("${{__field.labels.{label}}}"))]);
        }
        if self.kind == Kind::StateTimeline {
            defaults["mappings"] = json!([{"type": "value", "options": {
                "0": {"text": "calm", "color": "transparent", "index": 0},
                "1": {"text": "storm", "color": BAD, "index": 1},
            }}]);
        }
        defaults
    }

    fn colours(&self) -> &'static str {
        match self.kind {
            Kind::TimeSeries => "palette-classic-by-name",
            _ => "thresholds",
        }
    }

    fn threshold_steps(&self) -> Vec<Value> {
        let base = match self.steps.first() {
            Some((first, _)) if first.is_infinite() => None,
            None => Some(NEUTRAL),
            Some(_) => Some(GOOD),
        };
        let base = base.map(|colour| json!({"value": null, "color": colour}));
        let steps = self.steps.iter().map(|(value, colour)| {
            let value = value.is_finite().then_some(*value);
            json!({"value": value, "color": colour})
        });
        base.into_iter().chain(steps).collect()
    }

    fn custom(&self) -> Value {
        match self.kind {
            Kind::TimeSeries => json!({
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": if self.is_stacked { 40 } else { 8 },
                "showPoints": "never",
                "spanNulls": false,
                "stacking": {"mode": if self.is_stacked { "normal" } else { "none" }, "group": "A"},
                "thresholdsStyle": {"mode": if self.shows_thresholds { "dashed" } else { "off" }},
            }),
            Kind::Table => {
                json!({"align": "auto", "cellOptions": {"type": "auto"}, "filterable": true, "inspect": false})
            }
            Kind::StateTimeline => json!({"fillOpacity": 80, "lineWidth": 0}),
            Kind::Heatmap => json!({"scaleDistribution": {"type": "linear"}}),
            Kind::Stat | Kind::BarGauge => json!({}),
        }
    }

    fn overrides(&self) -> Vec<Value> {
        let columns = self.columns.iter().map(Column::json);
        let mut overrides: Vec<Value> = columns.collect();
        let dashed = self.dashed.iter().map(|legend| {
            json!({"matcher": {"id": "byName", "options": legend}, "properties": [
                {"id": "color", "value": {"mode": "fixed", "fixedColor": "text"}},
                {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
                {"id": "custom.fillOpacity", "value": 0},
                {"id": "custom.stacking", "value": {"mode": "none", "group": "limits"}},
            ]})
        });
        overrides.extend(dashed);
        if let (Some(link), Kind::Table) = (self.link, self.kind) {
            // A link of a table belongs to the cell that names the thing.
            let title = self.columns.iter().find(|column| column.field == link.labels[0]);
            let of_row = link.json(|label| {
                let column = self.columns.iter().find(|column| column.field == label);
                format!(
                    "${{__data.fields[\"{}\"]}}",
                    column.map_or(label, |column| column.title)
                )
            });
            overrides.push(json!({
                "matcher": {"id": "byName", "options": title.map_or(link.labels[0], |column| column.title)},
                "properties": [{"id": "links", "value": [of_row]}],
            }));
        }
        overrides
    }

    fn options(&self) -> Value {
        let reduce = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
        match self.kind {
            Kind::Stat => json!({
                "reduceOptions": reduce, "orientation": "auto", "textMode": if self.is_of_names { "name" } else { "value" },
                "colorMode": if self.is_of_names { "none" } else { "value" },
                "graphMode": if self.is_of_names { "none" } else { "area" }, "justifyMode": "auto", "wideLayout": true, "showPercentChange": false,
                "percentChangeColorMode": "standard",
            }),
            Kind::BarGauge => json!({
                "reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic", "valueMode": "text",
                "namePlacement": "left", "showUnfilled": false, "sizing": "manual", "minVizWidth": 8, "minVizHeight": 16,
                "maxVizHeight": 26, "legend": {"showLegend": false, "displayMode": "list", "placement": "bottom", "calcs": []},
            }),
            Kind::TimeSeries => {
                json!({"legend": self.legend(), "tooltip": {"mode": "multi", "sort": "desc"}})
            }
            Kind::StateTimeline => json!({
                "mergeValues": true, "showValue": "never", "rowHeight": 0.8, "alignValue": "left",
                "legend": {"showLegend": false, "displayMode": "list", "placement": "bottom", "calcs": []},
                "tooltip": {"mode": "single", "sort": "none"},
            }),
            Kind::Heatmap => json!({
                "calculate": false, "cellGap": 1, "showValue": "never",
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "scale": "exponential",
                    "reverse": false, "fill": "dark-orange"},
                "yAxis": {"axisPlacement": "left", "unit": self.unit, "reverse": false},
                "rowsFrame": {"layout": "auto"}, "filterValues": {"le": 1e-9}, "exemplars": {"color": "rgba(255,0,255,0.7)"},
                "legend": {"show": true}, "tooltip": {"mode": "single", "yHistogram": true, "showColorScale": false},
                "cellValues": {"unit": "short"},
            }),
            Kind::Table => json!({
                "showHeader": true, "cellHeight": "sm", "frameIndex": 0, "enablePagination": false,
                "sortBy": self.columns.iter().find(|column| column.field.starts_with("Value")).map_or_else(
                    || json!([]), |column| json!([{"displayName": column.title, "desc": true}])),
            }),
        }
    }

    /// Few series stand below the plot; many are a table at its side, largest first, which scrolls. It is as wide as their names
    /// need, and has the last value beside the largest where there is room.
    fn legend(&self) -> Value {
        let may_be_many = self.queries.iter().any(|query| query.legend.contains("{{"));
        if may_be_many {
            let letters = self.queries.iter().map(|query| letters(query.legend)).max();
            // At 12 pixels a letter is six and a half of them wide, on average.
            let names = (letters.unwrap_or(0) * 13).div_ceil(2) + BESIDE_NAME;
            let (width, calcs) = if names + 2 * FIGURE <= self.width() * HALF_COLUMN {
                (names + 2 * FIGURE, json!(["max", "lastNotNull"]))
            } else {
                (names + FIGURE, json!(["max"]))
            };
            json!({"showLegend": true, "displayMode": "table", "placement": "right", "width": width, "calcs": calcs,
                "sortBy": "Max", "sortDesc": true})
        } else {
            json!({"showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": []})
        }
    }

    /// The answers to all queries side by side, a row for each set of labels.
    fn transformations(&self) -> Value {
        let indices = self.columns.iter().enumerate();
        let order: serde_json::Map<_, _> = indices
            .map(|(index, column)| (column.field.to_owned(), index.into()))
            .collect();
        let names: serde_json::Map<_, _> = self
            .columns
            .iter()
            .map(|column| (column.field.to_owned(), column.title.into()))
            .collect();
        let shown: Vec<_> = self.columns.iter().map(|column| column.field).collect();
        json!([
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": shown}}},
            {"id": "organize", "options": {"indexByName": order, "renameByName": names, "excludeByName": {}}},
        ])
    }
}

/// Letters that a legend's names may well have.
fn letters(legend: &str) -> u32 {
    let of_label = |label: &str| {
        let listed = LETTERS.iter().find(|(name, _)| *name == label);
        listed.map_or(20, |(_, letters)| *letters)
    };
    let mut rest = legend;
    let mut letters = 0;
    while let Some((before, after)) = rest.split_once("{{") {
        let (label, behind) = after.split_once("}}").unwrap_or((after, ""));
        letters += before.chars().count() as u32 + of_label(label);
        rest = behind;
    }
    letters + rest.chars().count() as u32
}

impl Column {
    fn json(&self) -> Value {
        let mut properties = Vec::new();
        if !self.unit.is_empty() {
            properties.push(json!({"id": "unit", "value": self.unit}));
        }
        if let Some(most) = self.bar {
            properties.push(json!({"id": "custom.cellOptions", "value": {"type": "gauge", "mode": "basic"}}));
            properties.push(json!({"id": "min", "value": 0}));
            properties.push(json!({"id": "max", "value": most}));
        }
        json!({"matcher": {"id": "byName", "options": self.title}, "properties": properties})
    }
}

impl Link {
    fn json(&self, value: impl Fn(&str) -> String) -> Value {
        let variables = self
            .labels
            .iter()
            .map(|label| format!("&var-{label}={}", value(label)));
        let variables: String = variables.collect();
        json!({
            "title": self.title,
            "url": format!("/d/stormglass-{}?var-datasource=${{datasource}}{variables}&${{__url_time_range}}", self.board),
            "targetBlank": false,
        })
    }
}

/// The data source that people choose.
#[must_use]
pub fn data_source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}
