//! The floor that `make bench` shows beside the module (`benches/bare-filter`) makes the same host calls.

use std::path::Path;
use std::process::Command;

use wasmtime::Result;

use crate::attributes::Attributes;
use crate::host::{Proxy, Worker};
use crate::pki::Certificate;

const BARE_FILTER: &str = "target/wasm32-wasip1/release/bare_filter.wasm";
const BUILD: [&str; 5] = ["build", "--release", "--quiet", "-p", "bare-filter"];

#[test]
fn bare_filter_makes_the_host_calls_of_the_module() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Command::new(env!("CARGO"))
        .args(BUILD)
        .args(["--target", "wasm32-wasip1"])
        .current_dir(root)
        .env_remove("CARGO_TARGET_DIR")
        .status()?;
    assert!(built.success(), "cargo cannot build the bare filter");
    let client = Certificate::workload("spiffe://cluster.local/ns/shop/sa/pay");
    let mut module = Proxy::new().worker("")?;
    let mut bare = Proxy::new().worker_of(&root.join(BARE_FILTER))?;
    let http = Attributes::http().client(&client);
    let network = Attributes::network().client(&client);
    // The first sight of a client is not what the floor is about.
    for worker in [&mut module, &mut bare] {
        worker.exchange(&http)?;
        worker.connection(&network)?;
    }
    let new_connection = http.clone().reconnected();
    type Event<'a> = &'a dyn Fn(&mut Worker) -> Result<()>;
    let events: [(&str, Event); 3] = [
        ("new", &|worker| worker.exchange(&new_connection).map(drop)),
        ("known", &|worker| {
            worker.exchange(&new_connection).map(drop)
        }),
        ("tcp", &|worker| {
            worker.connection(&network.clone().reconnected()).map(drop)
        }),
    ];
    for (name, event) in events {
        let [calls, floor] = [&mut module, &mut bare].map(|worker| {
            worker.take_calls();
            let (entries, answers) = (worker.entries(), worker.answers());
            event(worker).expect("an event");
            (
                worker.entries() - entries,
                worker.answers() - answers,
                worker.take_calls(),
            )
        });
        assert_eq!(calls, floor, "{name}");
    }
    Ok(())
}
