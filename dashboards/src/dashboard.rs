//! Dashboards as Grafana imports them: rows of panels, variables, links to each other, storms as annotations.

use serde_json::{Value, json};

use crate::panel::{Panel, data_source};

const COLUMNS: u32 = 24;

/// A dashboard.
#[derive(Debug)]
pub struct Dashboard {
    /// Its file's name, and the end of its `uid`.
    pub name: &'static str,
    /// What stands above it.
    pub title: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// How far it looks back at first.
    pub from: &'static str,
    /// What people choose, in this order; the data source is chosen first.
    pub variables: Vec<Variable>,
    /// Labels by which a storm belongs on it; none: no storms are shown.
    pub storms: &'static str,
    /// Rows, from top to bottom.
    pub rows: Vec<Row>,
}

/// A row with a heading.
#[derive(Debug)]
pub struct Row {
    /// The heading.
    pub title: &'static str,
    /// From left to right, as many as fit, then below.
    pub panels: Vec<Panel>,
}

/// A row.
#[must_use]
pub fn row(title: &'static str, panels: Vec<Panel>) -> Row {
    Row { title, panels }
}

/// Something that people choose.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// `$name`.
    pub name: &'static str,
    /// What stands before it.
    pub label: &'static str,
    /// Where its values come from.
    pub values: Values,
}

/// Values of a variable.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// Those of a label; several may be chosen, and all are at first.
    Several(&'static str),
    /// Those of a label, one of which is chosen.
    One(&'static str),
}

/// Which cluster.
pub const CLUSTER: Variable = Variable {
    name: "cluster",
    label: "Cluster",
    values: Values::Several("label_values(stormglass_build_info, cluster)"),
};
/// Which hosts.
pub const INSTANCE: Variable = Variable {
    name: "instance",
    label: "Host",
    values: Values::Several("label_values(stormglass_build_info{cluster=~\"$cluster\"}, instance)"),
};

impl Dashboard {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "uid": format!("stormglass-{}", self.name),
            "title": self.title,
            "description": self.description,
            "tags": ["stormglass"],
            "schemaVersion": 41,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "timezone": "browser",
            "time": {"from": self.from, "to": "now"},
            "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m", "15m"]},
            "templating": {"list": self.variables()},
            "annotations": {"list": self.annotations()},
            "links": [{
                "type": "dashboards", "title": "Stormglass", "tags": ["stormglass"], "asDropdown": false, "includeVars": true,
                "keepTime": true, "targetBlank": false, "icon": "external link", "tooltip": "",
            }],
            "panels": self.panels(),
        })
    }

    fn variables(&self) -> Vec<Value> {
        let source = json!({
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0,
            "includeAll": false, "multi": false, "options": [], "regex": "",
        });
        let chosen = self.variables.iter().map(Variable::json);
        std::iter::once(source).chain(chosen).collect()
    }

    fn annotations(&self) -> Vec<Value> {
        let builtin = json!({
            "builtIn": 1, "name": "Annotations & Alerts", "type": "dashboard", "enable": true, "hide": true,
            "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "iconColor": "rgba(0, 211, 255, 1)",
        });
        let storms = (!self.storms.is_empty()).then(|| {
            json!({
                "name": "Storms", "enable": true, "hide": false, "datasource": data_source(), "iconColor": "red",
                "expr": format!("max by (server, instance, kind) (stormglass_storm_active{{{}}}) == 1", self.storms),
                "titleFormat": "{{kind}}", "textFormat": "{{server}} on {{instance}}", "tagKeys": "kind,server",
                "useValueForTime": false, "step": "10s",
            })
        });
        std::iter::once(builtin).chain(storms).collect()
    }

    fn panels(&self) -> Vec<Value> {
        let (mut panels, mut id, mut y) = (Vec::new(), 0, 0);
        for row in &self.rows {
            id += 1;
            panels.push(json!({
                "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }));
            y += 1;
            let (mut x, mut line) = (0, 0);
            for panel in &row.panels {
                if x + panel.width() > COLUMNS {
                    (x, y, line) = (0, y + line, 0);
                }
                id += 1;
                panels.push(panel.json(id, x, y));
                x += panel.width();
                line = line.max(panel.height());
            }
            y += line;
        }
        panels
    }
}

impl Variable {
    fn json(&self) -> Value {
        let (query, several) = match self.values {
            Values::Several(query) => (query, true),
            Values::One(query) => (query, false),
        };
        // It is asked anew when the time changes, since servers come and go.
        let mut variable = json!({
            "name": self.name, "label": self.label, "type": "query", "hide": 0, "options": [], "datasource": data_source(),
            "query": {"query": query, "refId": "variable"}, "definition": query, "refresh": 2, "sort": 7, "regex": "",
            "multi": several, "includeAll": several,
        });
        if several {
            // Series without the label are meant as well.
            variable["allValue"] = ".*".into();
            variable["current"] = json!({"text": "All", "value": "$__all"});
        }
        variable
    }
}
