//! Random fleets in random rotations, judged twice: by `rotation-status`, which sees what the proxies publish, and
//! by a model of TLS, which sees everything.

mod fleet;
mod scrape;
mod tls;

use std::env;
use std::fs;

use mtls_watch_cli::execute;
use serde_json::Value;
use tempfile::TempDir;

use self::fleet::{Fleet, Kind};
use self::tls::Universe;
use crate::metrics::AT;
use crate::run::{reasons, verdict, verdicts};

/// Fleets in each property, about. `make soak-gates` takes 10,000 (`MODEL_FLEETS`).
fn number() -> u64 {
    let asked = env::var("MODEL_FLEETS").ok();
    asked.map_or(300, |number| number.parse().unwrap())
}

/// What the command says about a fleet.
fn ask(fleet: &Fleet, universe: &Universe, folder: &TempDir) -> Value {
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let mut arguments: Vec<String> = ["mtls-watch", "rotation-status", "--at", AT]
        .iter()
        .chain(&["--format", "json", "--observe", "1s"])
        .map(|argument| (*argument).to_owned())
        .collect();
    let (old, new) = fleet.names(universe);
    arguments.extend(["--old".to_owned(), old, "--new".to_owned(), new]);
    if fleet.has_cas {
        arguments.extend(["--cas".to_owned(), write("cas.pem", &universe.pem)]);
    }
    for proxy in &fleet.proxies {
        let name = &proxy.name;
        let text = scrape::latest(fleet, proxy, universe);
        arguments.push(format!("{name}={}", write(name, &text)));
        if fleet.has_before {
            let text = scrape::earlier(proxy);
            let file = write(&format!("{name}.before"), &text);
            arguments.extend(["--before".to_owned(), format!("{name}={file}")]);
        }
    }
    let output = execute(&arguments);
    assert_eq!(output.complaint, "");
    serde_json::from_str(&output.text).unwrap()
}

/// No gate says yes when a handshake fails, or would fail after the step that the gate allows.
#[test]
fn no_gate_says_yes_when_tls_says_no() {
    let universe = Universe::new();
    let folder = TempDir::new().unwrap();
    let (mut open, mut fails) = ([0; 6], [0; 6]);
    for seed in 0..number() {
        let fleet = Fleet::random(seed, &universe);
        let report = ask(&fleet, &universe, &folder);
        for gate in 1..=5 {
            let wrong = fleet.failure(gate, &universe);
            let is_open = verdict(&report, gate) == "open";
            open[gate as usize] += u64::from(is_open);
            fails[gate as usize] += u64::from(wrong.is_some());
            if let (true, Some(wrong)) = (is_open, wrong) {
                panic!("seed {seed}, gate {gate}: yes, and {wrong}\n{fleet:#?}\n{report:#}");
            }
        }
    }
    // A command that always, or never, says yes would pass unnoticed.
    println!("of {} fleets open: {open:?}, failing: {fails:?}", number());
    for gate in 1..=5 {
        assert!(open[gate] * 20 > number(), "gate {gate}: {open:?}");
        assert!(fails[gate] * 20 > number(), "gate {gate}: {fails:?}");
    }
}

/// In a rotation in the right order each gate opens when it is its turn.
#[test]
fn each_gate_opens_in_its_turn() {
    let universe = Universe::new();
    let folder = TempDir::new().unwrap();
    for seed in 0..number() / 6 {
        for phase in 0..=5 {
            let fleet = Fleet::clean(seed, phase);
            let report = ask(&fleet, &universe, &folder);
            let found = verdicts(&report).into_iter();
            let mut found: Vec<bool> = found.map(|verdict| verdict == "open").collect();
            if (fleet.kind, phase, fleet.has_cas) == (Kind::Root, 3, false) {
                // What stands above a CA that signs no own leaf any more, only certificates tell.
                found[1] = true;
            }
            let expected = match (fleet.kind, phase) {
                // The root above both stays.
                (Kind::Issuing, 0 | 1) => [true, true, false, false, false],
                // Every leaf stands under both certificates.
                (Kind::Reissue, 0) => [false, true, false, false, false],
                (Kind::Reissue, _) => [true; 5],
                (_, 0) => [false, true, false, false, false],
                (_, 1 | 2) => [true, true, false, false, false],
                (_, 3) => [true, true, true, false, false],
                _ => [true; 5],
            };
            let why: Vec<_> = (1..=5).map(|gate| reasons(&report, gate)).collect();
            assert_eq!(
                found, expected,
                "seed {seed}, phase {phase}: {why:#?}\n{fleet:#?}"
            );
        }
    }
}
