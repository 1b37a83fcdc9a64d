//! `mtls_watch_configuration_errors` tells of the configurations in force.

use std::rc::Rc;

use mtls_watch_core::config::Config;
use mtls_watch_core::inspector::{ConnectionWatch, Event, Inspector, RequestWatch};
use mtls_watch_core::metrics::counters::Registry;

use crate::fake_host::{FakeHost, Proxy};

/// Configurations in one VM.
struct Vm {
    proxy: Rc<Proxy>,
    registry: Rc<Registry>,
}

impl Vm {
    fn new() -> Self {
        let (proxy, registry) = (Proxy::new(), Rc::default());
        Self { proxy, registry }
    }

    fn load(&self, plugin: &str, errors: usize) -> Rc<Inspector> {
        let inspector = Inspector::new(Config::default(), Rc::clone(&self.registry));
        let host = FakeHost::knowing_nothing(&self.proxy).with("plugin_name", plugin);
        inspector.start(&host, errors);
        Rc::new(inspector)
    }

    fn tick_at(&self, seconds: i64, configurations: &[&Inspector]) {
        self.proxy.set_clock(seconds);
        for configuration in configurations {
            configuration.tick(&FakeHost::knowing_nothing(&self.proxy));
        }
    }

    fn told(&self) -> Option<u64> {
        self.proxy.value("mtls_watch_configuration_errors", &[])
    }
}

/// Envoy has connections with the first one, and takes it back without loading it again.
#[test]
fn a_configuration_that_is_taken_back_is_in_force_from_its_next_connection_on() {
    type Meeting = fn(&Vm, &Rc<Inspector>);
    let connection: Meeting = |vm, inspector| {
        let mut watch = ConnectionWatch::new(Rc::clone(inspector));
        watch.on(&FakeHost::new(&vm.proxy), Event::DownstreamData);
    };
    let request: Meeting = |vm, inspector| {
        RequestWatch::begin(inspector, &FakeHost::new(&vm.proxy));
    };
    for meet in [connection, request] {
        let vm = Vm::new();
        let good = vm.load("mesh", 0);
        vm.tick_at(5, &[&good]);
        let wrong = vm.load("mesh", 2);
        assert_eq!(vm.told(), Some(2));
        for seconds in [10, 15] {
            vm.tick_at(seconds, &[&good, &wrong]);
            assert_eq!(vm.told(), Some(2));
        }
        meet(&vm, &good);
        vm.tick_at(20, &[&good, &wrong]);
        assert_eq!(vm.told(), Some(0));
        vm.tick_at(25, &[&good, &wrong]);
        assert_eq!(vm.told(), Some(0));
    }
}

/// Also where the clock was ahead when the one before met a connection, and was set back since.
#[test]
fn a_clock_that_was_ahead_does_not_keep_a_configuration_in_force() {
    let vm = Vm::new();
    let wrong = vm.load("mesh", 2);
    vm.tick_at(1000, &[&wrong]);
    ConnectionWatch::new(Rc::clone(&wrong)).on(&FakeHost::new(&vm.proxy), Event::DownstreamData);
    vm.tick_at(1005, &[&wrong]);
    vm.proxy.set_clock(10);
    let right = vm.load("mesh", 0);
    for seconds in [15, 20, 25] {
        vm.tick_at(seconds, &[&wrong, &right]);
    }
    assert_eq!(vm.told(), Some(0));
}

#[test]
fn of_several_plugins_the_worst_is_told_for_as_long_as_it_is_there() {
    for [first, second] in [[3, 0], [0, 3]] {
        let vm = Vm::new();
        let (first, second) = (vm.load("mesh", first), vm.load("namespace", second));
        vm.tick_at(5, &[&first, &second]);
        assert_eq!(vm.told(), Some(3));
    }
    let vm = Vm::new();
    let (wrong, right) = (vm.load("mesh", 3), vm.load("namespace", 0));
    vm.tick_at(5, &[&wrong, &right]);
    vm.tick_at(60, &[&right]);
    assert_eq!(vm.told(), Some(3));
    vm.tick_at(70, &[&right]);
    assert_eq!(vm.told(), Some(0));
}

/// Plugins of two VMs know nothing of each other, and write one gauge.
#[test]
fn errors_of_one_vm_are_told_though_another_has_none() {
    let (one, registry) = (Vm::new(), Rc::default());
    let other = Vm {
        proxy: Rc::clone(&one.proxy),
        registry,
    };
    let wrong = one.load("mesh", 2);
    one.tick_at(5, &[&wrong]);
    let right = other.load("namespace", 0);
    assert_eq!(one.told(), Some(0));
    for seconds in [10, 15] {
        one.tick_at(seconds, &[&wrong]);
        other.tick_at(seconds, &[&right]);
        assert_eq!(one.told(), Some(2));
    }
    let mended = one.load("mesh", 0);
    for seconds in [20, 25] {
        one.tick_at(seconds, &[&wrong, &mended]);
        other.tick_at(seconds, &[&right]);
        assert_eq!(one.told(), Some(0));
    }
}
