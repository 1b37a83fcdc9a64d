//! The Grafana dashboards, of all proxies and of one: that they are sound as they stand, that their panels have data, and that
//! none asks for more than a screen of a large fleet.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::fleet::SOUND_NAMESPACE;
use testbed::stats::eventually;
use testbed::{Fleet, Prometheus};

use crate::files::read;
use crate::rules::{is_metric, metrics};

const FLEET: &str = "envoy-config/grafana/mtls-watch.json";
const PROXY: &str = "envoy-config/grafana/mtls-watch-proxy.json";
const DASHBOARDS: [&str; 2] = [FLEET, PROXY];
/// Labels of which a large fleet has more values than a screen has lines.
const MANY: [&str; 10] = [
    "namespace",
    "pod",
    "instance",
    "identity",
    "ca",
    "issuer",
    "workload",
    "secret",
    "certificate",
    "trust_domain",
];
/// A rotation is seen at the poll after the next, and its margin at the scrape after that.
const DEADLINE: Duration = Duration::from_secs(60);

/// What must be empty where all is well. Everything else must not.
const EMPTY_IN_HEALTH: [&str; 8] = [
    "Refused handshakes",
    "Refused handshakes since the proxies started",
    "Faults of peers that are let in",
    "Faults of the proxies' own certificates",
    "Blind spots since the proxies started",
    "Refused handshakes of this proxy",
    "Faults of its own certificates",
    "Faults of its peers since it started",
];
/// What must be 0 where all is well, and not 0 elsewhere.
const ZERO_IN_HEALTH: [&str; 4] = [
    "End within 24 h",
    "End within 7 days",
    "End within 30 days",
    "Connections without a client certificate, by proxy",
];
/// CAs are no namespace's.
const OF_THE_MESH: [&str; 1] = ["Every CA, from the root down"];

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
        .replace("$identity", &identities(namespace))
        .replace("$cluster", ".*")
        .replace("$instance", ".*")
        .replace("$pod", ".*");
    assert!(!text.contains('$'), "{text}");
    text
}

/// The identities of a namespace.
fn identities(namespace: &str) -> String {
    match namespace {
        ".*" => namespace.to_owned(),
        name => format!(".*/ns/{name}/.*"),
    }
}

fn dashboard(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap()
}

/// All but the rows' headings.
fn panels(file: &str) -> Vec<Panel> {
    let dashboard = dashboard(file);
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let panels = panels.filter(|panel| panel["type"] != "row");
    panels
        .map(|panel| Panel {
            title: panel["title"].as_str().unwrap().to_owned(),
            body: panel.clone(),
        })
        .collect()
}

fn titles(file: &str) -> Vec<String> {
    let dashboard = dashboard(file);
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let rows = panels.filter(|panel| panel["type"] == "row");
    rows.map(|row| row["title"].as_str().unwrap().to_owned())
        .collect()
}

fn variables(file: &str) -> Vec<String> {
    let dashboard = dashboard(file);
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    variables
        .map(|variable| variable["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_dashboards_have_what_links_to_them_rely_on() {
    for (file, uid) in [(FLEET, "mtls-watch"), (PROXY, "mtls-watch-proxy")] {
        let dashboard = dashboard(file);
        assert_eq!(dashboard["uid"], uid);
        assert_eq!(dashboard["schemaVersion"], 42);
        // An exported dashboard has one, and importing it would then overwrite another's.
        assert!(dashboard["id"].is_null());
    }
    assert_eq!(
        variables(FLEET),
        ["datasource", "cluster", "namespace", "identity", "runbooks"]
    );
    assert_eq!(
        variables(PROXY),
        [
            "datasource",
            "cluster",
            "namespace",
            "pod",
            "instance",
            "identity",
            "runbooks"
        ]
    );
    assert_eq!(
        titles(FLEET),
        [
            "Will anything break?",
            "Who is refused, and why?",
            "The hierarchy",
            "Rotation in progress",
            "From permissive to strict",
            "mtls-watch itself",
        ]
    );
    assert_eq!(titles(PROXY), ["The certificate", "The proxy", "Its peers"]);
}

/// The links of a panel's columns, by column.
fn links(panel: &Panel) -> Vec<(String, String)> {
    let overrides = panel.body["fieldConfig"]["overrides"]
        .as_array()
        .unwrap()
        .iter();
    let mut links = Vec::new();
    for one in overrides {
        let properties = one["properties"].as_array().unwrap().iter();
        for property in properties.filter(|property| property["id"] == "links") {
            let url = property["value"][0]["url"].as_str().unwrap().to_owned();
            links.push((one["matcher"]["options"].as_str().unwrap().to_owned(), url));
        }
    }
    links
}

/// An alert leads to its runbook, a certificate to the proxies that have it, and a pod to its own page; by variables and
/// columns that are there.
#[test]
fn the_columns_lead_on() {
    let mut led = BTreeSet::new();
    for panel in DASHBOARDS.iter().flat_map(|file| panels(file)) {
        let organized = panel.body["transformations"].to_string();
        for (column, url) in links(&panel) {
            led.insert(column);
            if let Some((_, column)) = url.split_once("${runbooks}${__data.fields.") {
                assert!(
                    organized.contains(&format!(":\"{}\"", column.trim_end_matches("}.md"))),
                    "{url}"
                );
                continue;
            }
            assert!(url.starts_with("/d/mtls-watch-proxy?"), "{url}");
            for part in url.split("&var-").skip(1) {
                let (name, value) = part.split_once('=').unwrap();
                assert!(
                    variables(PROXY).iter().any(|variable| variable == name),
                    "{url}"
                );
                if let Some(column) = value.strip_prefix("${__data.fields.") {
                    let column = column.split([':', '}']).next().unwrap();
                    assert!(
                        organized.contains(&format!(":\"{column}\"")),
                        "{}: {url}",
                        panel.title
                    );
                }
            }
        }
    }
    let expected = ["Alert", "Certificate", "Instance", "Pod"].map(str::to_owned);
    assert_eq!(led, expected.into());
    let constant = dashboard(FLEET)["templating"]["list"][4]["query"].clone();
    assert_eq!(constant, crate::rules::RUNBOOKS);
}

/// The labels that a query keeps: those of every `by`, if it is aggregated at all.
fn kept(query: &str) -> Option<BTreeSet<&str>> {
    let aggregated = [
        "count(",
        "sum(",
        "max by",
        "min by",
        "sum by",
        "count by",
        "sort_desc(",
        "histogram_quantile(",
    ];
    if !aggregated
        .iter()
        .any(|begin| query.trim_start().starts_with(begin))
    {
        return None;
    }
    let outer = query
        .split("by (")
        .nth(1)
        .map_or("", |rest| rest.split(')').next().unwrap());
    let scalar = query.starts_with("count(") || query.starts_with("sum(");
    Some(if scalar {
        BTreeSet::new()
    } else {
        outer.split(", ").collect()
    })
}

/// Eight thousand proxies are no more lines than eighty: a query takes the first of many, or aggregates them away.
#[test]
fn no_query_grows_with_the_fleet() {
    for panel in DASHBOARDS.iter().flat_map(|file| panels(file)) {
        for query in panel.queries() {
            if query.contains("topk(") || query.contains("bottomk(") {
                let begin = query.trim_start();
                assert!(
                    begin.starts_with("topk(") || begin.starts_with("bottomk("),
                    "{}: {query}",
                    panel.title
                );
                continue;
            }
            // One fleet has one rotation.
            if query == "mtls_rotation_old_ca_removable:bool" {
                continue;
            }
            let kept = kept(query).unwrap_or_else(|| panic!("{}: {query}", panel.title));
            assert!(
                MANY.iter().all(|label| !kept.contains(label)),
                "{}: {query}",
                panel.title
            );
        }
    }
}

#[test]
fn every_panel_is_explained_and_asks_the_chosen_data_source() {
    let mut ids = BTreeSet::new();
    for (file, panel) in DASHBOARDS
        .iter()
        .flat_map(|file| panels(file).into_iter().map(move |panel| (file, panel)))
    {
        let title = &panel.title;
        assert!(
            ids.insert((file, panel.body["id"].as_u64().unwrap())),
            "{title}"
        );
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
    for file in DASHBOARDS {
        no_panel_of_this_one_does(file);
    }
}

fn no_panel_of_this_one_does(file: &str) {
    let mut taken = BTreeSet::new();
    for panel in dashboard(file)["panels"].as_array().unwrap() {
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
    let panels: Vec<Panel> = DASHBOARDS.iter().flat_map(|file| panels(file)).collect();
    for title in [&EMPTY_IN_HEALTH[..], &ZERO_IN_HEALTH[..], &OF_THE_MESH[..]].concat() {
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
        } else if !OF_THE_MESH.contains(&title) {
            ensure!(
                values.iter().any(|values| !values.is_empty()),
                "{title}: {values:?}"
            );
        }
    }
    Ok(())
}
