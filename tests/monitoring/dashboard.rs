//! The Grafana dashboard: that it is sound as it stands, and that its panels have data.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::fleet::SOUND_NAMESPACE;
use testbed::stats::eventually;
use testbed::{Fleet, Prometheus};

use crate::files::read;
use crate::rules::{is_metric, metrics};

const DASHBOARD: &str = "envoy-config/grafana/mtls-watch.json";
const VARIABLES: [&str; 4] = ["datasource", "cluster", "namespace", "instance"];
/// A rotation is seen at the poll after the next, and its margin at the scrape after that.
const DEADLINE: Duration = Duration::from_secs(60);

/// What must be empty where all is well. Everything else must not.
const EMPTY_IN_HEALTH: [&str; 5] = [
    "Refused handshakes",
    "Refused handshakes since the proxies started",
    "Faults of peers that are let in",
    "Faults of the proxies' own certificates",
    "Blind spots since the proxies started",
];
/// What must be 0 where all is well, and not 0 elsewhere.
const ZERO_IN_HEALTH: [&str; 4] = [
    "End within 24 h",
    "End within 7 days",
    "End within 30 days",
    "Connections without a client certificate, by workload",
];

struct Panel {
    title: String,
    body: Value,
}

impl Panel {
    fn queries(&self) -> Vec<&str> {
        let targets = self.body["targets"].as_array().into_iter().flatten();
        targets
            .map(|target| target["expr"].as_str().unwrap())
            .collect()
    }

    /// The values that Grafana would get for each query, of this namespace.
    fn values(&self, prometheus: &Prometheus, namespace: &str) -> Result<Vec<Vec<f64>>> {
        let queries = self.queries().into_iter();
        let values = queries.map(|query| {
            let found = prometheus.query(&interpolated(query, namespace))?;
            let numbers = found.iter().map(|series| series.value);
            anyhow::Ok(numbers.filter(|number| !number.is_nan()).collect())
        });
        values
            .collect::<Result<_>>()
            .with_context(|| self.title.clone())
    }
}

/// The query with its variables replaced as Grafana does it: "All" is `.*`, for a data source that is
/// scraped every second.
fn interpolated(query: &str, namespace: &str) -> String {
    let text = query
        .replace("$__rate_interval", "15s")
        .replace("$__range", "1m")
        .replace("$namespace", namespace)
        .replace("$cluster", ".*")
        .replace("$instance", ".*");
    assert!(!text.contains('$'), "{text}");
    text
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

/// All but the rows' headings.
fn panels() -> Vec<Panel> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let panels = panels.filter(|panel| panel["type"] != "row");
    panels
        .map(|panel| Panel {
            title: panel["title"].as_str().unwrap().to_owned(),
            body: panel.clone(),
        })
        .collect()
}

#[test]
fn the_dashboard_has_what_links_to_it_rely_on() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "mtls-watch");
    assert_eq!(dashboard["schemaVersion"], 42);
    // An exported dashboard has one, and importing it would then overwrite another's.
    assert!(dashboard["id"].is_null());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, VARIABLES);
    let rows: Vec<&str> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|panel| panel["title"].as_str().unwrap())
        .collect();
    assert_eq!(
        rows,
        [
            "Will anything break?",
            "Who is refused, and why?",
            "The hierarchy",
            "Rotation in progress",
            "From permissive to strict",
            "mtls-watch itself",
        ]
    );
}

#[test]
fn every_panel_is_explained_and_asks_the_chosen_data_source() {
    let mut ids = BTreeSet::new();
    for panel in panels() {
        let title = &panel.title;
        assert!(ids.insert(panel.body["id"].as_u64().unwrap()), "{title}");
        assert!(
            panel.body["description"]
                .as_str()
                .is_some_and(|text| text.ends_with('.')),
            "{title}"
        );
        assert_eq!(panel.body["datasource"]["uid"], "${datasource}", "{title}");
        assert!(!panel.queries().is_empty(), "{title}");
        for query in panel.queries() {
            for name in metrics(query) {
                assert!(is_metric(name), "{title}: {name}");
            }
        }
    }
}

#[test]
fn no_panel_covers_another() {
    let mut taken = BTreeSet::new();
    for panel in dashboard()["panels"].as_array().unwrap() {
        let of = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(of("x") + of("w") <= 24, "{}", panel["title"]);
        for x in of("x")..of("x") + of("w") {
            for y in of("y")..of("y") + of("h") {
                assert!(taken.insert((x, y)), "{}", panel["title"]);
            }
        }
    }
}

/// Every query of every panel, against this fleet: over all of it, and of the namespace in which all is
/// well.
pub fn shows(fleet: &Fleet, prometheus: &Prometheus) -> Result<()> {
    fleet.renew()?;
    let panels = panels();
    for title in [&EMPTY_IN_HEALTH[..], &ZERO_IN_HEALTH[..]].concat() {
        assert!(panels.iter().any(|panel| panel.title == title), "{title}");
    }
    eventually(DEADLINE, || {
        fleet.drive()?;
        panels.iter().try_for_each(|panel| {
            let values = panel.values(prometheus, ".*")?;
            ensure!(
                values.iter().all(|values| !values.is_empty()),
                "{}: {values:?}",
                panel.title
            );
            if ZERO_IN_HEALTH.contains(&panel.title.as_str()) {
                ensure!(
                    values[0].iter().any(|value| *value > 0.0),
                    "{}: {values:?}",
                    panel.title
                );
            }
            Ok(())
        })
    })?;
    for panel in &panels {
        let title = panel.title.as_str();
        let values = panel.values(prometheus, SOUND_NAMESPACE)?;
        if EMPTY_IN_HEALTH.contains(&title) {
            ensure!(values.iter().all(Vec::is_empty), "{title}: {values:?}");
        } else if ZERO_IN_HEALTH.contains(&title) {
            ensure!(
                values[0].iter().all(|value| *value == 0.0),
                "{title}: {values:?}"
            );
        } else {
            ensure!(
                values.iter().any(|values| !values.is_empty()),
                "{title}: {values:?}"
            );
        }
    }
    Ok(())
}
