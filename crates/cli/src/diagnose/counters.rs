//! What Envoy, and the module in it, have counted of handshakes that failed.

use std::collections::BTreeMap;
use std::time::Duration;

/// What is asked for: an expression for the admin interface's `/stats?filter=`.
pub(super) const FILTER: &str = concat!(
    r"(\.ssl\..*(fail|error)|\.ssl\.no_certificate|sds\..*(update_rejected|init_fetch_timeout|update_failure)",
    r"|no_filter_chain_match|mtls_handshake_failures_total)"
);

/// How the module's counter of refused handshakes is called, behind its labels.
const FAILURES: &str = "mtls_handshake_failures_total";

/// Counters by their names, as Envoy's `/stats` writes them.
pub(super) type Values = BTreeMap<String, u64>;

/// Counters, and how much they have gone up of late.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    pub(super) values: Values,
    /// The values some time before that.
    pub(super) before: Option<(Duration, Values)>,
}

/// A counter that is not 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// What was counted, as people read it.
    pub(super) name: String,
    pub(super) what: &'static str,
    pub(super) total: u64,
    /// Since it was looked at first; `None`: it was looked at once.
    pub(super) increase: Option<u64>,
}

/// Reads lines of `/stats`: `name: value`.
pub(super) fn parse(text: &str) -> Option<Values> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

impl Counters {
    /// Those that are not 0, the module's last: it says why.
    pub(super) fn counted(&self) -> Vec<Count> {
        let mut counted: Vec<Count> = self.values.iter().filter_map(|it| self.count(it)).collect();
        counted.sort_by_key(|count| count.name.starts_with(FAILURES));
        counted
    }

    fn count(&self, (name, value): (&String, &u64)) -> Option<Count> {
        let before = self.before.as_ref();
        let increase = before.map(|(_, before)| match before.get(name).copied().unwrap_or(0) {
            // The proxy has restarted in between.
            before if before > *value => *value,
            before => value.saturating_sub(before),
        });
        let (name, what) = meaning(name)?;
        (*value > 0).then_some(Count {
            name,
            what,
            total: *value,
            increase,
        })
    }
}

/// What a counter is about, by the end of its name.
fn meaning(name: &str) -> Option<(String, &'static str)> {
    if let Some(labels) = name.strip_suffix(FAILURES) {
        return Some((
            module_name(labels),
            "handshakes that failed, as the module saw them",
        ));
    }
    let what = match name.rsplit('.').next()? {
        "fail_verify_error" => "certificates of peers that it refused",
        "fail_verify_san" => "certificates of peers with another name than expected",
        "fail_verify_cert_hash" => "certificates of peers that are not the pinned ones",
        "fail_verify_no_cert" => "clients that showed no certificate where one is required",
        "connection_error" => {
            "handshakes that failed for another cause, the other side's refusal among them"
        }
        "no_certificate" => "connections on which the peer showed no certificate",
        "update_rejected" => "secrets that Envoy has rejected",
        "update_failure" => "attempts to fetch a secret that failed",
        "init_fetch_timeout" => "secrets that did not come in time",
        "no_filter_chain_match" => {
            "connections for which there is no filter chain, such as plaintext under STRICT"
        }
        _ if name.contains(".ssl.") => "TLS failures",
        _ => return None,
    };
    Some((name.to_owned(), what))
}

/// `mtls_handshake_failures_total{direction="inbound",…}` of what the module calls it in Envoy.
fn module_name(labels: &str) -> String {
    let labels = labels.strip_prefix("wasmcustom.").unwrap_or(labels);
    let pairs = labels
        .split(";.;")
        .filter_map(|pair| pair.split_once("=.="));
    let pairs: Vec<String> = pairs
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    format!("{FAILURES}{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "wasmcustom.direction=.=inbound;.;layer=.=workload;.;holder=.=peer;.;reason=.=expired;.;mtls_handshake_failures_total";

    fn counters(text: &str, before: Option<&str>) -> Counters {
        Counters {
            values: parse(text).unwrap(),
            before: before.map(|text| (Duration::from_secs(10), parse(text).unwrap())),
        }
    }

    #[test]
    fn what_is_not_zero_is_named() {
        let text = format!(
            "{MODULE}: 2\nlistener.a:1.ssl.fail_verify_error: 3\nlistener.a:1.ssl.connection_error: 0\n"
        );
        let counted = counters(&text, None).counted();
        let names: Vec<&str> = counted.iter().map(|count| &*count.name).collect();
        assert_eq!(
            names,
            [
                "listener.a:1.ssl.fail_verify_error",
                "mtls_handshake_failures_total{direction=\"inbound\",layer=\"workload\",holder=\"peer\",reason=\"expired\"}",
            ]
        );
        assert_eq!((counted[0].total, counted[0].increase), (3, None));
    }

    #[test]
    fn what_went_up_is_told_from_what_once_was() {
        let increase = |now: &str, before: &str| counters(now, Some(before)).counted()[0].increase;
        assert_eq!(
            increase("a.ssl.connection_error: 5", "a.ssl.connection_error: 3"),
            Some(2)
        );
        assert_eq!(
            increase("a.ssl.connection_error: 5", "a.ssl.connection_error: 5"),
            Some(0)
        );
        assert_eq!(increase("a.ssl.connection_error: 5", ""), Some(5));
        assert_eq!(
            increase("a.ssl.connection_error: 1", "a.ssl.connection_error: 7"),
            Some(1)
        );
    }

    #[test]
    fn other_text_is_no_stats() {
        assert_eq!(parse("<html>\n"), None);
        assert_eq!(parse("a: b"), None);
        assert_eq!(parse(""), Some(Values::new()));
    }
}
