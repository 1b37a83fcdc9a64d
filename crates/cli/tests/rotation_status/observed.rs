//! What is observed outweighs what is deduced, and what is old is not known.

use std::fs;

use tempfile::TempDir;

use crate::metrics::{NEW, NEW_ROOT, NOW, OLD, OLD_ROOT, Sidecar};
use crate::run::{after, command, json, reasons, text, verdict, verdicts};

const ROOTS: [&str; 4] = ["--old", OLD_ROOT, "--new", NEW_ROOT];

/// Everything is well, by what is deduced.
fn ready(issuer: &str, anchor: &str) -> Sidecar {
    Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .bundle("ROOTCA", NEW_ROOT, "1a1a1a1a", true)
        .workload(issuer, &[anchor])
}

#[test]
fn a_refused_leaf_of_a_ca_in_question_shuts_every_gate() {
    let well = ready(NEW, NEW_ROOT);
    assert_eq!(json(&ROOTS, &[("client", &well)]).0, 0);
    let before = well
        .clone()
        .failures("outbound", "own", "rejected_by_peer", 5);
    let now = well
        .clone()
        .failures("outbound", "own", "rejected_by_peer", 317);
    let (code, report) = after(&ROOTS, &[("client", &now)], &[("client", &before)]);
    assert_eq!((code, verdicts(&report)), (1, vec!["closed"; 5]));
    assert_eq!(
        reasons(&report, 2),
        [format!(
            "client: as a client it was refused 312 times since the scrape before; its leaf (default) is signed by {NEW}"
        )]
    );
    // No more of it: a counter never goes back.
    assert_eq!(after(&ROOTS, &[("client", &now)], &[("client", &now)]).0, 0);
    // A proxy that has restarted in between counts from 0.
    let restarted = well
        .clone()
        .failures("outbound", "own", "rejected_by_peer", 2);
    assert_eq!(
        after(&ROOTS, &[("client", &restarted)], &[("client", &now)]).0,
        1
    );
    // A series appears with the first failure.
    assert_eq!(
        after(&ROOTS, &[("client", &now)], &[("client", &well)]).0,
        1
    );
    // Without a rotation, too.
    assert_eq!(after(&[], &[("client", &now)], &[("client", &before)]).0, 1);
}

#[test]
fn a_leaf_of_another_ca_is_no_matter_of_this_rotation() {
    let egress = ready("Other_Root:44444444", "Other_Root:44444444")
        .bundle("other", "Other_Root:44444444", "44444444", true)
        .own("root_ca", "other", "Other_Root:44444444", true);
    let before = egress
        .clone()
        .failures("outbound", "own", "rejected_by_peer", 5);
    let now = egress
        .clone()
        .failures("outbound", "own", "rejected_by_peer", 9);
    let web = ready(NEW, NEW_ROOT);
    let fleet = [("egress", &now), ("web", &web)];
    assert_eq!(after(&ROOTS, &fleet, &[("egress", &before)]).0, 0);
}

/// One scrape does not tell whether that goes on.
#[test]
fn with_one_scrape_what_was_refused_once_is_unknown() {
    let once = ready(NEW, NEW_ROOT).failures("outbound", "own", "rejected_by_peer", 5);
    let (code, report) = json(&ROOTS, &[("client", &once)]);
    assert_eq!((code, verdicts(&report)), (1, vec!["unknown"; 5]));
    assert!(reasons(&report, 1)[0].contains("see --before"));
}

#[test]
fn a_proxy_that_refuses_servers_opens_no_gate() {
    let before = ready(NEW, NEW_ROOT).failures("outbound", "own", "unknown_ca", 5);
    let now = ready(NEW, NEW_ROOT).failures("outbound", "own", "unknown_ca", 6);
    let (_, report) = after(&ROOTS, &[("web", &now)], &[("web", &before)]);
    assert_eq!(verdicts(&report), vec!["unknown"; 5]);
}

#[test]
fn refused_clients_may_be_strangers() {
    let before = ready(NEW, NEW_ROOT).refused(3);
    let now = ready(NEW, NEW_ROOT).refused(9);
    let (code, report) = after(&ROOTS, &[("web", &now)], &[("web", &before)]);
    assert_eq!((code, verdicts(&report)), (0, vec!["open"; 5]));
    let warning = report["warnings"][0].clone();
    assert_eq!(warning["proxy"], "web");
    assert_eq!(
        warning["what"],
        "has refused clients for unknown_ca 6 times since the scrape before: if its log names clients of this mesh, stop"
    );
    let shown = text(&ROOTS, &[("web", &now)]);
    assert!(
        shown
            .stdout
            .contains("\n! web: has refused clients for unknown_ca 9 times since it started")
    );
    // Anyone can refuse a server.
    let strangers = ready(NEW, NEW_ROOT).failures("inbound", "none", "rejected_by_peer", 9);
    let (code, report) = json(&ROOTS, &[("web", &strangers)]);
    assert_eq!((code, report["warnings"].as_array().unwrap().len()), (0, 0));
}

#[test]
fn an_earlier_scrape_must_be_of_one_of_the_proxies() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("web");
    fs::write(&file, ready(NEW, NEW_ROOT).text()).unwrap();
    let web = format!("web={}", file.display());
    let run = command(&["--before", &web.replace("web=", "cart="), &web], b"");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("--before cart: no proxy is called so"));
}

/// A poll that fails leaves the gauges as they were.
#[test]
fn what_was_read_long_ago_is_not_known() {
    let polled = |age: i64| {
        ready(NEW, NEW_ROOT).line(&format!("mtls_watch_hierarchy_poll_age_seconds {age}"))
    };
    assert_eq!(json(&ROOTS, &[("web", &polled(300))]).0, 0);
    let (code, report) = json(&ROOTS, &[("web", &polled(301))]);
    assert_eq!((code, verdicts(&report)), (1, vec!["unknown"; 5]));
    assert!(reasons(&report, 1)[0].contains("was not read lately"));
    let longer = [&ROOTS[..], &["--stale", "1h"]].concat();
    assert_eq!(json(&longer, &[("web", &polled(301))]).0, 0);
    let ticked = |ago: i64| {
        let at = NOW - ago;
        ready(NEW, NEW_ROOT).line(&format!("mtls_watch_last_tick_timestamp_seconds {at}"))
    };
    assert_eq!(json(&ROOTS, &[("web", &ticked(60))]).0, 0);
    let (_, report) = json(&ROOTS, &[("web", &ticked(3600))]);
    assert_eq!(verdicts(&report), vec!["unknown"; 5]);
}

/// For up to 15 minutes a child adds its parent's gauges to its own.
#[test]
fn a_hot_restart_is_not_mistaken_for_more_of_anything() {
    let twice = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let doubled = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            format!("{series} {}", 2 * value.parse::<i64>().unwrap())
        });
        doubled.fold(Sidecar::default(), |sidecar, line| sidecar.line(&line))
    };
    let dated = ready(NEW, NEW_ROOT)
        .dates("ROOTCA", NEW_ROOT, "1a1a1a1a", (-10, 3650))
        .dates("ROOTCA", OLD_ROOT, "0a0a0a0a", (-3650, 10));
    assert_eq!(json(&ROOTS, &[("web", &twice(dated.text()))]).0, 0);
    // The parent trusted the new CA, and the child has lost it.
    let parent_only = twice(ready(OLD, OLD_ROOT).text());
    let text = parent_only.text().replace(
        "ca=\"Root_CA:1a1a1a1a\",certificate=\"1a1a1a1a\"} 2",
        "ca=\"Root_CA:1a1a1a1a\",certificate=\"1a1a1a1a\"} 1",
    );
    let lost = Sidecar::default().line(&text);
    assert_eq!(verdict(&json(&ROOTS, &[("web", &lost)]).1, 1), "unknown");
    // A time to come is one that both have seen.
    let seen = twice(ready(NEW, NEW_ROOT).seen(OLD_ROOT, 40).text());
    assert_eq!(verdict(&json(&ROOTS, &[("web", &seen)]).1, 4), "closed");
}
