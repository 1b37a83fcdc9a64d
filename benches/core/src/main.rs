//! `make bench-core`: the core's steps in nanoseconds (criterion), and in instructions, which do not move
//! with the machine's load (valgrind's callgrind counts them).

mod cases;
mod host;

use std::env;
use std::process::Command;

use cases::Case;
use criterion::Criterion;

/// Names the case that is to run once, under valgrind.
const CASE: &str = "MTLS_WATCH_BENCH_CASE";

fn main() {
    let cases = cases::all();
    if let Ok(name) = env::var(CASE) {
        let case = cases.iter().find(|case| case.name == name);
        measured(case.expect("a case of that name"));
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for case in &cases {
        criterion.bench_function(case.name, |bencher| bencher.iter(|| (case.run)()));
    }
    criterion.final_summary();
    for case in &cases {
        println!(
            "{:<28}{:>9} instructions",
            case.name,
            instructions(case.name)
        );
    }
}

/// What callgrind looks at.
#[inline(never)]
fn measured(case: &Case) {
    (case.run)();
}

fn instructions(case: &str) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*measured*"])
        .arg(env::current_exe().expect("this program"))
        .env(CASE, case)
        .output()
        .expect("no valgrind; run `apt-get install valgrind`");
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.unwrap_or_else(|| panic!("valgrind counted nothing:\n{text}"))
}
