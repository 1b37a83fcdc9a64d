//! Which VMs of a proxy are alive.

use std::rc::Rc;

use crate::fake_host::Proxy;
use crate::worker::Worker;
use pki::fixtures::NOW;
use serde_json::json;

const WORKERS: &str = "mtls_watch_workers";
const LAST_TICK: &str = "mtls_watch_last_tick_timestamp_seconds";

fn workers(proxy: &Proxy) -> Option<u64> {
    proxy.value(WORKERS, &[])
}

/// Lets these workers tick every five seconds, from one time to another.
fn run(proxy: &Rc<Proxy>, workers: &[&Worker], from: i64, to: i64) {
    for seconds in (from..=to).step_by(5) {
        proxy.set_clock(seconds);
        workers.iter().for_each(|worker| worker.tick());
    }
}

#[test]
fn every_worker_that_ticks_is_counted_and_one_that_is_dead_is_not() {
    let proxy = Proxy::new();
    let [one, other] = [(); 2].map(|()| Worker::new(&proxy));
    assert_eq!(workers(&proxy), None);
    run(&proxy, &[&one, &other], 0, 30);
    assert_eq!(workers(&proxy), Some(2));
    run(&proxy, &[&one], 35, 50);
    assert_eq!(workers(&proxy), Some(2), "it may tick yet");
    run(&proxy, &[&one], 55, 60);
    assert_eq!(workers(&proxy), Some(1));
    assert_eq!(proxy.value(LAST_TICK, &[]), Some((NOW + 60) as u64));
    // It was only slow.
    run(&proxy, &[&one, &other], 65, 65);
    assert_eq!(workers(&proxy), Some(2));
}

/// Envoy's main thread has a VM that ticks and sees no traffic. That there is one shows in a canary: it is
/// configured, and never ticks.
#[test]
fn the_main_threads_vm_is_no_worker() {
    let proxy = Proxy::new();
    drop(Worker::new(&proxy));
    let [main, one, other] = [(); 3].map(|()| Worker::new(&proxy));
    run(&proxy, &[&main, &one, &other], 0, 60);
    assert_eq!(workers(&proxy), Some(2));
    run(&proxy, &[&main], 65, 120);
    assert_eq!(workers(&proxy), Some(0));
}

#[test]
fn a_vm_with_two_plugins_is_one() {
    let proxy = Proxy::new();
    let mut worker = Worker::new(&proxy);
    run(&proxy, &[&worker], 0, 30);
    worker.configure_again(json!({"log_repeat": "2h"}));
    run(&proxy, &[&worker], 35, 60);
    assert_eq!(workers(&proxy), Some(1));
}

#[test]
fn a_clock_that_was_ahead_keeps_no_dead_vm_alive() {
    let proxy = Proxy::new();
    let [one, other] = [(); 2].map(|()| Worker::new(&proxy));
    proxy.set_clock(86_400);
    other.tick();
    run(&proxy, &[&one], 0, 60);
    assert_eq!(workers(&proxy), Some(1));
}

#[test]
fn shared_data_that_somebody_else_wrote_is_survived() {
    let proxy = Proxy::new();
    let worker = Worker::new(&proxy);
    worker.tick();
    proxy.garble_shared_data();
    run(&proxy, &[&worker], 5, 60);
    assert_eq!(workers(&proxy), Some(1));
}
