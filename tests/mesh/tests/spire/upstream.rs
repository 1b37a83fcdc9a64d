//! SPIRE under a root of one's own (`UpstreamAuthority`), which is replaced.

use std::fs;

use anyhow::Result;
use mesh_tests::documented::Session;
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::spire::server::{Server, Settings};
use mesh_tests::spire::shop::Shop;
use mesh_tests::spire::workload::Plan;
use pki::Ca;

use crate::page::{Rehearsal, Section};

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[holds(
    "upstream::the_root_is_replaced",
    the_root_is_replaced,
)];

const SECTION: Section = Section {
    heading: "Under an upstream authority",
    steps: &[
        ("--gate 1", "prepare"),
        ("--gate 2", "activate"),
        ("--gate 3", "taint"),
        ("--gate 4", "quiet"),
        ("upstreamauthority revoke", "revoke"),
    ],
    quiet: "quiet",
};

/// By the commands of the page, with bundles in both shapes. No request fails, no alert fires.
fn the_root_is_replaced() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, common_name) in [("root", "Example Root"), ("new-root", "Next Example Root")] {
        let root = Ca::root(common_name).issue()?;
        let file = |extension| folder.path().join(format!("{name}.{extension}"));
        fs::write(file("pem"), root.pem())?;
        fs::write(file("key"), root.key().pkcs8_pem()?)?;
    }
    let settings = Settings {
        upstream: Some(folder.path()),
        ..Settings::of("upstream::the_root_is_replaced")
    };
    let server = Server::start(&settings)?;
    let agent = server.node("one", &["web", "pay"], &[])?;
    let plain = Plan {
        is_plain: true,
        ..Plan::of("pay", &server, &agent)
    };
    let shop = Shop::start(&[Plan::of("web", &server, &agent), plain])?;
    let rehearsal = Rehearsal {
        section: &SECTION,
        server: &server,
        shop: &shop,
        members: &["pay", "web"],
        folder: folder.path(),
        names: |session: &Session| ["OLD", "NEW", "CA"].map(|name| session.value(name).to_owned()),
    };
    rehearsal.run()?;
    shop.nothing_is_wrong()
}
