//! A proxy on which scenarios take place one after the other, and what is counted and logged of each.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::envoy::free_port;
use testbed::servers::ServerTls;
use testbed::stats::{DEADLINE, eventually};
use testbed::{Client, Envoy, Server, TlsVersion};

use crate::materials::{Materials, Shown, own};
use crate::programs::{Served, answer};
use crate::scenario::{Peer, Release, Scenario, Setup, Truth};
use crate::setups::STRICT;

const FAILURES: &str = "mtls_handshake_failures_total";
const LINE: &str = "mtls-watch: handshake refused ";
/// How long it may take until a refusal is counted.
const SOON: Duration = Duration::from_secs(3);
/// What one service of the outbound sample consists of.
const SERVICE: [&str; 4] = ["outbound_http", "outbound_tcp", "peer_http", "peer_tcp"];

/// What was seen of a scenario.
pub struct Outcome {
    /// `holder reason layer`; nothing if nothing was counted.
    pub said: String,
    /// What is not as expected.
    pub wrong: Option<String>,
}

/// A running proxy.
pub struct Stage<'a> {
    envoy: Envoy,
    materials: &'a Materials,
    release: Release,
    services: Vec<Service>,
    _app: Server,
}

/// How a scenario gets at the proxy: a client by the first port only.
struct Service {
    listeners: Vec<u16>,
    /// Where the proxy looks for the server.
    server: u16,
}

impl<'a> Stage<'a> {
    /// Starts a proxy for these scenarios, which are all of one setup.
    pub fn start(
        setup: Setup,
        scenarios: &[&Scenario],
        materials: &'a Materials,
        release: Release,
    ) -> Result<Self> {
        let app = Server::http_echo(None)?;
        materials.serve(&own(&materials.cas).issue()?)?;
        let mut sample = (setup.sample)(materials)?.upstream("app", app.port());
        let mut servers = Vec::new();
        if !setup.is_inbound {
            for number in 0..scenarios.len() {
                let (suffix, port) = (format!("-{number}"), free_port()?);
                sample = sample.with_copies(&SERVICE, &suffix);
                for cluster in ["peer_http", "peer_tcp"] {
                    sample = sample.upstream(&format!("{cluster}{suffix}"), port);
                }
                servers.push(port);
            }
        }
        let envoy = sample.start(1).with_context(|| setup.name)?;
        let port = |listener: &str| envoy.listener_port(listener);
        let services = match setup.is_inbound {
            true => vec![Service {
                listeners: vec![port("inbound")?],
                server: 0,
            }],
            false => {
                let service = |(number, server)| {
                    let listeners = [
                        port(&format!("outbound_http-{number}"))?,
                        port(&format!("outbound_tcp-{number}"))?,
                    ];
                    Ok(Service {
                        listeners: listeners.to_vec(),
                        server,
                    })
                };
                servers
                    .into_iter()
                    .enumerate()
                    .map(service)
                    .collect::<Result<_>>()?
            }
        };
        let stage = Self {
            envoy,
            materials,
            release,
            services,
            _app: app,
        };
        stage.meet_a_client(setup)?;
        Ok(stage)
    }

    /// What signed the first client is known here from then on.
    fn meet_a_client(&self, setup: Setup) -> Result<()> {
        if setup.key() == STRICT.key() {
            let port = self.services.first().and_then(|it| it.listeners.first());
            let client = Client::mtls(self.materials.identity(Shown::Sound)?);
            client.get(*port.context("no port")?, "/", &[])?;
        }
        Ok(())
    }

    /// Has one happen. `number`: its place among those of this proxy.
    pub fn play(&self, number: usize, scenario: &Scenario) -> Result<Outcome> {
        let before = self.seen()?;
        let service = self.services.get(number).or(self.services.first());
        let service = service.context("no service")?;
        let result = self.act(service, scenario);
        self.wait_for_silence()?;
        let (expected, _) = scenario.truth.on(self.release, scenario.setup.is_inbound);
        let is_it = |seen: &Seen| {
            let counted = seen.counted(&expected) - before.counted(&expected);
            let is_enough = match (expected.is_empty(), scenario.times) {
                (true, _) => true,
                (false, 0) => counted > 0.0,
                (false, times) => counted == f64::from(times),
            };
            is_enough && seen.others(&expected) == before.others(&expected)
        };
        let _ = eventually(SOON, || {
            ensure!(is_it(&self.seen()?), "not yet");
            Ok(())
        });
        let after = self.seen()?;
        let mut wrong = Vec::new();
        if let Err(error) = result {
            wrong.push(format!("{error:#}"));
        }
        if !is_it(&after) {
            wrong.push(format!("expected {expected:?}"));
        }
        let lines = after.lines.get(before.lines.len()..).unwrap_or_default();
        if let Err(error) = self.check_lines(scenario, &expected, lines) {
            wrong.push(format!("{error:#}"));
        }
        Ok(Outcome {
            said: after.since(&before),
            wrong: (!wrong.is_empty()).then(|| wrong.join("; ")),
        })
    }

    fn act(&self, service: &Service, scenario: &Scenario) -> Result<()> {
        let is_sound = matches!(scenario.truth, Truth::Sound);
        let port = service.listeners.first().context("no port")?;
        let _server = match &scenario.peer {
            Peer::Client(client) => {
                let answer = client.request(*port, self.materials)?;
                ensure!(answer.is_ok() == is_sound, "answer: {answer:?}");
                return Ok(());
            }
            Peer::Clients(_, visit) => return visit(*port, self.materials),
            Peer::Nobody => None,
            Peer::Server(server) => Some(server.start(service.server, self.materials)?),
            Peer::Script(shown, steps) => {
                let tls = shown
                    .map(|shown| self.materials.identity(shown))
                    .transpose()?;
                let tls = tls.map(|identity| {
                    let trust = self.materials.cas.trust_bundle();
                    ServerTls::new(identity)
                        .requiring_client_certificate(&trust)
                        .version(TlsVersion::V1_3)
                });
                Some(Served::Here(Server::script_at(service.server, steps, tls)?))
            }
        };
        for port in &service.listeners {
            let answer = answer(Client::plaintext().get(*port, "/", &[]));
            if matches!(scenario.peer, Peer::Server(_)) {
                ensure!(answer.is_ok() == is_sound, "answer: {answer:?}");
            }
        }
        Ok(())
    }

    /// Waits until all clients have gone, so that all of their connections is known.
    fn wait_for_silence(&self) -> Result<()> {
        eventually(DEADLINE, || {
            let stats = self.envoy.stats()?;
            let active = stats.sum("envoy_listener_downstream_cx_active", &[]);
            ensure!(active == 0.0, "{active} clients are still there");
            Ok(())
        })
    }

    fn seen(&self) -> Result<Seen> {
        let stats = self.envoy.stats()?;
        let words = |series: &testbed::stats::Series| {
            let words = ["holder", "reason", "layer"].map(|label| series.label(label));
            words.join(" ")
        };
        let log = self.envoy.log();
        let lines = log.lines().filter_map(|line| line.split_once(LINE));
        Ok(Seen {
            counts: stats
                .series(FAILURES)
                .into_iter()
                .map(|it| (words(it), it.value))
                .collect(),
            lines: lines.map(|(_, line)| line.to_owned()).collect(),
        })
    }

    /// The lines say what was counted, with the right hint, and name whom they can.
    fn check_lines(&self, scenario: &Scenario, expected: &str, lines: &[String]) -> Result<()> {
        let Truth::Refused(verdict) = &scenario.truth else {
            ensure!(lines.is_empty(), "a line: {lines:?}");
            return Ok(());
        };
        ensure!(expected.is_empty() == lines.is_empty(), "lines: {lines:?}");
        for line in lines {
            let (about, hint) = line.split_once(" hint=").context("no hint")?;
            // What is limited has its own hint.
            if expected == verdict.says && self.release >= (1, 38) {
                ensure!(
                    hint.contains(verdict.hint),
                    "no {:?} in {hint}",
                    verdict.hint
                );
            }
            if let Some(shown) = verdict.named
                && self.release >= (1, 38)
            {
                let named = format!(" identity=\"{}\"", shown.identity());
                ensure!(about.contains(&named), "no{named} in {about}");
            }
        }
        Ok(())
    }
}

/// The failures of a proxy up to now.
struct Seen {
    counts: BTreeMap<String, f64>,
    lines: Vec<String>,
}

impl Seen {
    fn counted(&self, words: &str) -> f64 {
        self.counts.get(words).copied().unwrap_or_default()
    }

    fn others(&self, words: &str) -> f64 {
        let others = self.counts.iter().filter(|(it, _)| *it != words);
        others.map(|(_, count)| count).sum()
    }

    fn since(&self, before: &Self) -> String {
        let grown = self
            .counts
            .iter()
            .filter(|(words, count)| before.counted(words) < **count);
        let words: Vec<&str> = grown.map(|(words, _)| words.as_str()).collect();
        words.join(", ")
    }
}
