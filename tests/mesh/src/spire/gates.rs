//! The gates of a rotation, beside what real handshakes say.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::server::Server;
use super::shop::Shop;
use super::workload::Workload;
use crate::kubectl::run;
use crate::rotation::Gates;
use crate::{DEADLINE, eventually};

/// A rotation of the CA with which a server signs.
pub struct Rotation<'a> {
    /// The server.
    pub server: &'a Server,
    /// All whom it concerns.
    pub shop: &'a Shop,
    /// Those of them that have their leaves from that server.
    pub members: &'a [&'static str],
    /// The authority ID of the CA that will sign.
    pub new: String,
    /// What `rotation-status` is asked with: `--old`, `--new`, `--cas`, `--bundle`.
    pub question: Vec<String>,
    /// After how long without the old CA it is quiet, as `--recent` takes it.
    pub recent: &'static str,
}

/// Who comes with a leaf that a server has minted, and runs nowhere.
pub const PROBE: &str = "probe";

/// The command's default.
pub const HOUR: &str = "1h";
/// For nobody waits for an hour here.
pub const MOMENT: &str = "15s";

/// What handshakes say of the first three gates.
#[derive(Debug, PartialEq, Eq)]
struct Handshakes {
    /// Every proxy takes a leaf of the new CA; unknown until that signs.
    takes_the_new: Option<bool>,
    /// Every two proxies reach each other.
    every_pair: bool,
    /// Every proxy shows a leaf of the new CA.
    shows_the_new: bool,
}

impl Rotation<'_> {
    /// Waits until the five gates say this, a letter for each: `y y n n n`. Each time what they say is compared with
    /// handshakes: a gate that is open while they fail is wrong at once, one that is shut may open a moment later.
    ///
    /// # Errors
    /// If a gate is wrong; after the deadline, with what the gates say instead.
    pub fn expect(&self, step: &str, letters: &str) -> Result<Gates> {
        let recent = ["--recent".to_owned(), self.recent.to_owned()];
        let question = [&recent[..], &self.question].concat();
        let mut wrong = Ok(());
        let gates = eventually(DEADLINE, || {
            let gates = Gates::ask(&question, self.shop.proxies())?;
            wrong = self.compare(&gates);
            let said = gates.letters();
            ensure!(
                wrong.is_err() || said == letters,
                "the gates say {said}, not {letters}:\n{}",
                gates.reasons()
            );
            Ok(gates)
        })
        .with_context(|| step.to_owned())?;
        wrong.with_context(|| step.to_owned())?;
        Ok(gates)
    }

    /// What is wrong about gates that are open.
    fn compare(&self, gates: &Gates) -> Result<()> {
        let handshakes = self.handshakes()?;
        let because = || format!("{handshakes:?}, and the gates say {}", gates.letters());
        let Handshakes {
            takes_the_new,
            every_pair,
            shows_the_new,
        } = handshakes;
        let holds = [
            (1, takes_the_new.unwrap_or(true)),
            (2, every_pair),
            (3, shows_the_new),
            (4, shows_the_new),
            (
                5,
                shows_the_new && every_pair && takes_the_new.unwrap_or(true),
            ),
        ];
        for (gate, holds) in holds {
            ensure!(
                !gates.is_open(gate) || holds,
                "gate {gate} is wrong: {}",
                because()
            );
        }
        Ok(())
    }

    fn handshakes(&self) -> Result<Handshakes> {
        let every_pair = self.shop.every_pair().is_ok();
        let leaf = Leaf::mint(self.server)?;
        let answers = self
            .shop
            .workloads
            .iter()
            .map(|workload| leaf.knock(workload));
        let answers = answers.collect::<Result<Vec<_>>>()?;
        let members = answers
            .iter()
            .filter(|answer| self.members.contains(&answer.name));
        let is_new = self.server.authority("active")? == self.new;
        Ok(Handshakes {
            takes_the_new: is_new.then(|| answers.iter().all(|answer| answer.is_let_in)),
            every_pair,
            shows_the_new: members
                .into_iter()
                .all(|answer| answer.authority == self.new),
        })
    }
}

/// A leaf of nobody who runs, signed by the CA that is active now.
struct Leaf {
    files: [String; 3],
}

/// What a proxy says to whoever comes with that leaf.
struct Answer {
    name: &'static str,
    /// With HTTP.
    is_let_in: bool,
    /// The authority that has signed the proxy's own leaf.
    authority: String,
}

impl Leaf {
    fn mint(server: &Server) -> Result<Self> {
        let path = |name: &str| {
            server
                .folder()
                .join("probe")
                .join(name)
                .display()
                .to_string()
        };
        fs::create_dir_all(path(""))?;
        let id = server.id(PROBE);
        server.command(&["x509", "mint", "-spiffeID", &id, "-write", &path("")])?;
        let files = [path("svid.pem"), path("above.pem"), path("key.pem")];
        let [chain, above, _] = &files;
        let chain = fs::read_to_string(chain)?;
        // The leaf is the first.
        let end = "-----END CERTIFICATE-----\n";
        fs::write(above, chain.split_once(end).context("no leaf")?.1)?;
        Ok(Self { files })
    }

    /// Asks for the root page.
    fn knock(&self, workload: &Workload) -> Result<Answer> {
        let [leaf, above, key] = &self.files;
        let address = format!("127.0.0.1:{}", workload.inbound);
        let chain = (fs::metadata(above)?.len() > 0).then_some(["-cert_chain", above]);
        let mut client = Command::new("timeout")
            .arg("10")
            .arg(testbed::tool("openssl")?)
            .args([
                "s_client", "-ign_eof", "-connect", &address, "-cert", leaf, "-key", key,
            ])
            .args(chain.into_iter().flatten())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut input = client.stdin.take().context("no input")?;
        // Where the leaf has been refused there may be nobody to write to.
        input
            .write_all(b"GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
            .ok();
        drop(input);
        let said = client.wait_with_output()?.stdout;
        let said = String::from_utf8_lossy(&said);
        let authority =
            authority_of(&said).with_context(|| format!("{}: {said}", workload.name))?;
        Ok(Answer {
            name: workload.name,
            is_let_in: said.contains("HTTP/1.1 200 OK"),
            authority,
        })
    }
}

/// The authority key identifier of the certificate that OpenSSL prints, in lower case without colons: SPIRE's
/// authority ID.
fn authority_of(said: &str) -> Result<String> {
    let openssl = testbed::tool("openssl")?.display().to_string();
    let extension = ["x509", "-noout", "-ext", "authorityKeyIdentifier"];
    let text = run(&openssl, &extension, Some(said))?;
    let line = text.lines().nth(1).context("no authority key identifier")?;
    let digits = line.trim().trim_start_matches("keyid:").replace(':', "");
    Ok(digits.to_lowercase())
}
