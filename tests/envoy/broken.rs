//! Modules that cannot load, for whatever reason there may be, and what Envoy does then (docs/reliability.md). Every sample
//! has `failure_policy: FAIL_OPEN`, which makes no difference to this.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use testbed::envoy::free_port;
use testbed::stats::{DEADLINE, eventually};
use testbed::{Envoy, Server, module};

use crate::delivery::Delivery;
use crate::setup::{CONNECTIONS, INBOUND, Pki, Proxy, REQUESTS};

/// What is wrong with a module.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Its start traps.
    Traps,
    /// It imports what this Envoy does not have.
    Imports,
    /// It wants more memory than a VM may have.
    Memory,
    /// It is cut off.
    Cut,
}

const FAULTS: [Fault; 4] = [Fault::Traps, Fault::Imports, Fault::Memory, Fault::Cut];

impl Fault {
    /// The module of this build with that fault.
    fn module(self, pki: &Pki) -> Result<PathBuf> {
        let bytes = fs::read(module::path()?)?;
        let path = pki.directory().join(format!("{self:?}.wasm"));
        let broken = match self {
            Self::Cut => bytes.get(..bytes.len() / 2).context("a module")?.to_vec(),
            _ => self.edit(walrus::Module::from_buffer(&bytes)?)?,
        };
        fs::write(&path, broken)?;
        Ok(path)
    }

    fn edit(self, mut module: walrus::Module) -> Result<Vec<u8>> {
        match self {
            Self::Traps => {
                let start = module.exports.get_func("proxy_on_vm_start")?;
                let body = module.funcs.get_mut(start).kind.unwrap_local_mut();
                body.builder_mut().func_body().unreachable_at(0);
            }
            Self::Imports => {
                let nothing = module.types.add(&[], &[]);
                module.add_import_func("env", "proxy_no_such_function", nothing);
            }
            Self::Memory => {
                let memory = module.memories.iter_mut().next().context("a memory")?;
                memory.initial = 65_536;
            }
            Self::Cut => {}
        }
        Ok(module.emit_wasm())
    }
}

/// Envoy does not start with it, as little as with a filter that it does not know. The policy is for what happens later.
#[test]
fn modules_in_a_bootstrap_keep_envoy_from_starting() -> Result<()> {
    for fault in FAULTS {
        let pki = Pki::new()?;
        let sample = pki.sample("http.yaml")?.module(&fault.module(&pki)?);
        let error = Envoy::validate(&sample.yaml()?)
            .expect_err("taken")
            .to_string();
        ensure!(
            error.contains("Unable to create Wasm plugin"),
            "{fault:?}: {error}"
        );
    }
    Ok(())
}

/// Whatever runs goes on, and its requests are still counted. Over LDS a new listener is not opened. Over ECDS it is, and
/// where the filter should be there is a hole: each request gets 500, each connection is closed.
#[test]
fn modules_replace_none_that_runs() -> Result<()> {
    for (file, counter) in [("http.yaml", REQUESTS), ("network.yaml", CONNECTIONS)] {
        for delivery in [Delivery::Lds, Delivery::Ecds] {
            for fault in [Fault::Traps, Fault::Imports] {
                let context = || format!("{fault:?} over {delivery:?} in {file}");
                update(file, counter, delivery, fault).with_context(context)?;
                begin(file, delivery, fault).with_context(context)?;
            }
        }
    }
    Ok(())
}

/// A module that runs, and then one that cannot load.
fn update(file: &str, counter: &str, delivery: Delivery, fault: Fault) -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::http_echo(None)?;
    let sample = pki.sample(file)?.listen("inbound", free_port()?);
    let sample = sample.upstream("app", server.port());
    delivery.deliver(pki.directory(), &sample)?;
    let watching = delivery.watching(pki.directory(), sample.clone());
    let proxy = Proxy::start(watching, ("inbound", "app"), server, 1)?;
    proxy.get(&pki.client()?)?;
    delivery.deliver(pki.directory(), &sample.module(&fault.module(&pki)?))?;
    eventually(DEADLINE, || {
        let (_, refused) = delivery.updates(&proxy.stats()?);
        ensure!(refused == 1.0, "{refused} updates were refused");
        Ok(())
    })?;
    proxy.get(&pki.client()?)?;
    proxy.wait_for(counter, &[INBOUND, ok_of(counter)], 2.0)
}

/// The label value of a client in which nothing is wrong.
fn ok_of(counter: &str) -> (&'static str, &'static str) {
    match counter {
        REQUESTS => ("status", "ok"),
        _ => ("security", "mtls"),
    }
}

/// A new Envoy, whose module cannot load.
fn begin(file: &str, delivery: Delivery, fault: Fault) -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::http_echo(None)?;
    let sample = pki.sample(file)?.listen("inbound", free_port()?);
    let sample = sample.upstream("app", server.port());
    delivery.deliver(
        pki.directory(),
        &sample.clone().module(&fault.module(&pki)?),
    )?;
    let envoy = delivery.watching(pki.directory(), sample).start(1)?;
    let answer = || pki.client()?.get(envoy.listener_port("inbound")?, "/", &[]);
    match (delivery, file) {
        (Delivery::Lds, _) => ensure!(envoy.listener_port("inbound").is_err(), "a listener"),
        (Delivery::Ecds, "http.yaml") => ensure!(answer()?.status == 500, "{:?}", answer()),
        (Delivery::Ecds, _) => ensure!(answer().is_err(), "{:?}", answer()),
    }
    Ok(())
}
