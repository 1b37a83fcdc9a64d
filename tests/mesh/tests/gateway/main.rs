//! Scenario G: a real Envoy Gateway and a real cert-manager, asserted at Prometheus. They need `make test-gateway`.
//!
//! All scenarios use one Gateway, one after the other, in the order of a user: installation, what may go wrong with it, a
//! rotation, renewals, removal. One that is run by itself begins with what it needs.

mod clients;
mod gates;
mod page;
mod policies;
mod renewal;

use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use mesh_tests::gateway::GATEWAY;
use mesh_tests::gateway::page::Page;
use mesh_tests::gateway::shop::Shop;

static SHOP: OnceLock<Shop> = OnceLock::new();

/// The Gateway without the module, unless a scenario has installed it.
fn shop() -> Result<&'static Shop> {
    if SHOP.get().is_none() {
        let shop = Shop::start()?;
        SHOP.get_or_init(|| shop);
    }
    SHOP.get().context("no shop")
}

/// The Gateway with the module, as the first steps of the page say.
fn installed() -> Result<&'static Shop> {
    let shop = shop()?;
    if shop.object("envoyextensionpolicy", "mtls-watch").is_err() {
        Page::checkout()?.install(|_| Ok(()))?;
    }
    Ok(shop)
}

/// With the network filter as well.
fn installed_for_connections() -> Result<&'static Shop> {
    let shop = installed()?;
    if shop.object("envoypatchpolicy", "mtls-watch").is_err() {
        Page::checkout()?.follow("Clients that are refused", |_| Ok(()))?;
    }
    Ok(shop)
}

fn main() -> ExitCode {
    let scenarios = [
        page::INSTALLATION,
        policies::SCENARIOS,
        clients::SCENARIOS,
        gates::SCENARIOS,
        renewal::SCENARIOS,
        page::REMOVAL,
    ];
    mesh_tests::runner::main_on(GATEWAY, &scenarios.concat())
}
