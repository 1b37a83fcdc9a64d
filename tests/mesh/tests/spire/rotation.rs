//! A CA of SPIRE's is rotated under load by the commands of docs/ca-rotation-spire.md.

use anyhow::{Context, Result, ensure};
use mesh_tests::documented::{Session, commands_of_section};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::spire::gates::Rotation;
use mesh_tests::spire::server::{Agent, Server, Settings};
use mesh_tests::spire::shop::Shop;
use mesh_tests::spire::workload::Plan;
use mesh_tests::{DEADLINE, eventually, workspace_root};

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[holds("rotation::by_hand", by_hand)];

const PAGE: &str = "docs/ca-rotation-spire.md";
const MEMBERS: [&str; 4] = ["bank", "cart", "pay", "web"];

/// Each way to ask SPIRE's agent for the secrets. `bank` is on a node of its own.
fn plans<'a>(server: &'a Server, first: &'a Agent, second: &'a Agent) -> [Plan<'a>; 4] {
    [
        Plan::of("web", server, first),
        Plan {
            leaf: "spiffe://example.org/cart",
            bundle: "spiffe://example.org",
            ..Plan::of("cart", server, first)
        },
        Plan {
            is_plain: true,
            ..Plan::of("pay", server, first)
        },
        Plan {
            bundle: "ALL",
            ..Plan::of("bank", server, second)
        },
    ]
}

/// What a step's row of the page's table says of the five gates, a letter for each.
fn row(step: &str) -> Result<String> {
    let text = std::fs::read_to_string(workspace_root().join(PAGE))?;
    let begin = format!("| {step} |");
    let row = text.lines().find(|line| line.starts_with(&begin));
    let row = row.with_context(|| format!("{PAGE} has no row of {step:?}"))?;
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let letters = cells.iter().rev().take(5).rev();
    Ok(letters.map(|cell| &cell[..1]).collect::<Vec<_>>().join(" "))
}

/// After which command of the page which row of its table holds.
const STEPS: [(&str, &str); 5] = [
    ("--gate 1", "prepare"),
    ("--gate 2", "activate"),
    ("--gate 3", "taint"),
    ("--gate 4", "quiet"),
    ("x509 revoke", "revoke"),
];

/// In the right order no request fails, and no alert fires.
fn by_hand() -> Result<()> {
    let server = Server::start(&Settings::of("rotation::by_hand"))?;
    let first = server.node("one", &["cart", "pay", "web"], &[])?;
    let second = server.node("two", &["bank"], &[])?;
    let shop = Shop::start(&plans(&server, &first, &second))?;
    let mut session = Session::new(server.folder().to_owned()).with_programs(server.bin());
    let mut steps = STEPS.iter().peekable();
    for command in commands_of_section(PAGE, "By hand")? {
        match command.starts_with("PROXIES=") {
            true => session.set("PROXIES", &shop.proxies().join(" ")),
            false => give(&mut session, &command)?,
        }
        let step = steps.next_if(|(words, _)| command.contains(words));
        if let Some((_, step)) = step {
            rotation(&server, &shop, &session).expect(step, &row(step)?)?;
        }
    }
    ensure!(steps.next().is_none(), "{PAGE} has lost commands");
    shop.nothing_is_wrong()
}

/// A command of the page. What it asks may take its time to be so; an hour of silence is a quarter of a minute here.
fn give(session: &mut Session, command: &str) -> Result<()> {
    if session.assigns(command)? {
        return Ok(());
    }
    let hasty = command.replace("--recent 1h", "--recent 15s");
    eventually(DEADLINE, || session.run(&hasty)).map(drop)
}

/// As the page names the two CAs.
fn rotation<'a>(server: &'a Server, shop: &'a Shop, session: &Session) -> Rotation<'a> {
    let name = |variable| format!("SPIFFE:{}", &session.value(variable)[..8]);
    let cas = server.folder().join("cas.pem").display().to_string();
    let words = ["--old".to_owned(), name("OLD"), "--new".to_owned(), name("NEW")];
    Rotation {
        server,
        shop,
        members: &MEMBERS,
        new: session.value("NEW").to_owned(),
        question: [&words[..], &["--cas".to_owned(), cas]].concat(),
    }
}
