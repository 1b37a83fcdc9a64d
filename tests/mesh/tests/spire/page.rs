//! docs/ca-rotation-spire.md: its commands as they stand there, and what its tables say of the gates.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mesh_tests::documented::{Session, commands_of_section};
use mesh_tests::spire::gates::{HOUR, MOMENT, Rotation};
use mesh_tests::spire::server::Server;
use mesh_tests::spire::shop::Shop;
use mesh_tests::{DEADLINE, eventually, workspace_root};

const PAGE: &str = "docs/ca-rotation-spire.md";

/// A section, and after which of its commands which row of its table holds.
pub(crate) struct Section {
    /// Its heading.
    pub heading: &'static str,
    /// Parts of commands, in their order, and the first words of rows.
    pub steps: &'static [(&'static str, &'static str)],
    /// The row from which on the old CA is quiet.
    pub quiet: &'static str,
}

/// A rotation as a section of the page says.
pub(crate) struct Rehearsal<'a> {
    pub section: &'a Section,
    pub server: &'a Server,
    pub shop: &'a Shop,
    pub members: &'a [&'static str],
    /// Where the commands are given.
    pub folder: &'a Path,
    /// Makes of what the section's commands have assigned how the two CAs are named, and the authority ID of the CA
    /// that will sign.
    pub names: fn(&Session) -> [String; 3],
}

impl Rehearsal<'_> {
    /// Gives each command, and has the gates compared with the rows of the table and with handshakes.
    ///
    /// # Errors
    /// If one fails, or a gate is not as it should be.
    pub(crate) fn run(&self) -> Result<()> {
        let programs = self.server.bin();
        let mut session = Session::new(self.folder.to_owned()).with_programs(programs);
        let mut steps = self.section.steps.iter().peekable();
        let mut recent = HOUR;
        for command in commands_of_section(PAGE, self.section.heading)? {
            match command.starts_with("PROXIES=") {
                true => session.set("PROXIES", &self.shop.proxies().join(" ")),
                false => give(&mut session, &command)?,
            }
            if let Some((_, step)) = steps.next_if(|(words, _)| command.contains(words)) {
                if *step == self.section.quiet {
                    recent = MOMENT;
                }
                let letters = row(self.section.heading, step)?;
                self.rotation(&session, recent).expect(step, &letters)?;
            }
        }
        ensure!(steps.next().is_none(), "{PAGE} has lost commands");
        Ok(())
    }

    fn rotation(&self, session: &Session, recent: &'static str) -> Rotation<'_> {
        let [old, new, authority] = (self.names)(session);
        let cas = self.folder.join("cas.pem").display().to_string();
        let question = ["--old", &old, "--new", &new, "--cas", &cas];
        Rotation {
            server: self.server,
            shop: self.shop,
            members: self.members,
            new: authority,
            question: question.map(str::to_owned).into(),
            recent,
        }
    }
}

/// What a command of the page waits for may take its time. An hour of silence is a quarter of a minute here.
fn give(session: &mut Session, command: &str) -> Result<()> {
    if session.assigns(command)? {
        return Ok(());
    }
    let hasty = command.replace("--recent 1h", &format!("--recent {MOMENT}"));
    match command.starts_with("mtls-watch ") {
        true => eventually(DEADLINE, || session.run(&hasty)).map(drop),
        false => session.run(&hasty).map(drop),
    }
}

/// What a row of the section's table says of the five gates, a letter for each.
fn row(heading: &str, step: &str) -> Result<String> {
    let text = fs::read_to_string(workspace_root().join(PAGE))?;
    let section = text.split_once(&format!("\n## {heading}\n"));
    let section = section.context("no such section")?.1;
    let begin = format!("| {step} |");
    let row = section.lines().find(|line| line.starts_with(&begin));
    let row = row.with_context(|| format!("{PAGE}: {heading} has no row of {step:?}"))?;
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let letters = cells.iter().rev().take(5).rev();
    Ok(letters.map(|cell| &cell[..1]).collect::<Vec<_>>().join(" "))
}
