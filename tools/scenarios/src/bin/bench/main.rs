//! `make bench`: what mtls-watch costs in a real Envoy, beside what else one could run there.
//!
//! One Envoy for each variant, all of them up all the time; in every round each of them gets the same
//! load in turn. What counts is the CPU time of its worker threads, which waiting for a busy machine
//! does not add to. `QUICK=1` runs one short round of everything: it shows that the bench works, and
//! no more. `ONLY=requests`, `connections`, `workers` or `start` measures that alone. `VARIANTS=http,lua`
//! measures these, in more rounds. `BEFORE` names another module to compare with.

mod figures;
mod load;
mod process;
mod report;
mod variants;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustls::ClientConfig;
use tempfile::TempDir;
use testbed::{Client, Envoy, Hierarchy};

use figures::{Figure, Figures, quantile};
use load::{Load, Stream};
use variants::Variant;

const LISTENER: &str = "inbound";

/// Different client certificates that new connections are made with.
pub const POPULATIONS: [usize; 3] = [1, 100, 10_000];

/// Keep-alive connections of an Envoy under load.
const CONNECTIONS: usize = 16;

/// How long, and how often.
struct Plan {
    rounds: usize,
    /// Requests on each keep-alive connection, for each worker, before the first round.
    warm_up: usize,
    /// Requests of a round on each keep-alive connection.
    requests: usize,
    /// New connections of a round.
    connections: usize,
    /// Requests of a round one by one, at a fixed rate.
    paced_requests: u32,
    starts: usize,
}

impl Plan {
    const FULL: Plan = Plan {
        // Many and short: what disturbs the machine for a second is in few of them, and in all variants.
        rounds: 27,
        warm_up: 20_000,
        requests: 333,
        connections: 333,
        paced_requests: 667,
        starts: 5,
    };
    /// For a few variants.
    const THOROUGH: Plan = Plan {
        rounds: 72,
        ..Self::FULL
    };
    const QUICK: Plan = Plan {
        rounds: 1,
        warm_up: 20,
        requests: 20,
        connections: 20,
        paced_requests: 50,
        starts: 1,
    };
}

/// Time between two requests at the fixed rate, 2000 a second.
const PERIOD: Duration = Duration::from_micros(500);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let quick = env::var_os("QUICK").is_some_and(|value| !value.is_empty());
    let plan = match (quick, Variant::chosen().len()) {
        (true, _) => Plan::QUICK,
        (false, ..=3) => Plan::THOROUGH,
        (false, _) => Plan::FULL,
    };
    let bench = Bench::new()?;
    let mut figures = Figures::default();
    let only = env::var("ONLY").unwrap_or_default();
    let wanted = |part| only.is_empty() || only == part;
    if wanted("start") {
        for round in 1..=plan.starts {
            progress("start-up and memory", round, plan.starts);
            bench.starts(&mut figures)?;
        }
    }
    if wanted("requests") || wanted("connections") {
        bench.one_worker(&plan, wanted, &mut figures)?;
    }
    if wanted("workers") {
        bench.two_workers(&plan, &mut figures)?;
    }
    report::write(&figures, quick)
}

fn progress(what: &str, round: usize, rounds: usize) {
    eprintln!("bench: {what}: round {round} of {rounds}");
}

fn progress_of_warm_up(variant: Variant) {
    eprintln!("bench: warming up: {}", variant.name());
}

/// An Envoy under test.
struct Subject {
    variant: Variant,
    envoy: Envoy,
    port: u16,
    streams: Vec<Stream>,
}

struct Bench {
    certificates: TempDir,
    clients: Vec<Arc<ClientConfig>>,
    load: Load,
}

impl Bench {
    fn new() -> Result<Self> {
        let certificates = tempfile::tempdir()?;
        let pki = Hierarchy::new()?;
        pki.leaf()
            .dns("localhost")
            .issue()?
            .write_to(certificates.path())?;
        pki.trust_bundle().write_to(certificates.path())?;
        // One key for all: only the certificates must differ.
        let key = pki.leaf().issue()?.key().clone();
        let client = |number| {
            let identity = format!("spiffe://cluster.local/ns/shop/sa/w{number:05}");
            let identity = pki.leaf().uri(&identity).key(&key).issue()?;
            Client::mtls(&identity).tls_config()?.context("no TLS")
        };
        let most = POPULATIONS.into_iter().max().unwrap_or(1);
        Ok(Self {
            certificates,
            clients: (0..most).map(client).collect::<Result<_>>()?,
            load: Load::new()?,
        })
    }

    fn start(&self, variant: Variant, workers: u32) -> Result<Subject> {
        let sample = variant.sample(self.certificates.path())?;
        let envoy = sample.start(workers).context(variant.name())?;
        let port = envoy.listener_port(LISTENER)?;
        Ok(Subject {
            variant,
            envoy,
            port,
            streams: Vec::new(),
        })
    }

    /// Envoys that come and go: what loading the module takes, and what a worker holds.
    fn starts(&self, figures: &mut Figures) -> Result<()> {
        const MEGABYTE: f64 = 1e6;
        for variant in Variant::chosen() {
            let mut memory = Vec::new();
            for workers in [1, 2] {
                let begin = Instant::now();
                let subject = self.start(variant, workers)?;
                let elapsed = begin.elapsed();
                let pid = subject.envoy.pid();
                let cpu = process::cpu_time(pid)?;
                if workers == 1 {
                    figures.add(Figure::Start, variant, cpu.as_secs_f64() * 1e3);
                    figures.add(Figure::StartElapsed, variant, elapsed.as_secs_f64() * 1e3);
                    let (series, bytes) = scrape(&subject.envoy)?;
                    figures.add(Figure::SeriesAtRest, variant, series);
                    figures.add(Figure::ScrapeAtRest, variant, bytes);
                }
                let streams = self.load.open(subject.port, &self.clients[..CONNECTIONS])?;
                self.load.keep_alive(streams, 20)?;
                memory.push(process::resident_memory(pid)? as f64 / MEGABYTE);
            }
            figures.add(Figure::Memory, variant, memory[0]);
            figures.add(Figure::MemoryPerWorker, variant, memory[1] - memory[0]);
        }
        Ok(())
    }

    /// The Envoys on one CPU, the load on another.
    fn one_worker(
        &self,
        plan: &Plan,
        wanted: impl Fn(&'static str) -> bool,
        figures: &mut Figures,
    ) -> Result<()> {
        let mut subjects = self.warm(1, plan)?;
        let cpus = std::thread::available_parallelism()?.get();
        let pinned = cpus > 1;
        if pinned {
            process::pin_this_thread(&(1..cpus).collect::<Vec<_>>())?;
            for subject in &subjects {
                process::pin(subject.envoy.pid(), &[0])?;
            }
        }
        let rounds_of = |part| if wanted(part) { plan.rounds } else { 0 };
        for round in 1..=rounds_of("requests") {
            progress("requests, one worker", round, plan.rounds);
            for subject in in_turn(&mut subjects, round) {
                let cpu = self.requests(subject, plan)?;
                figures.add(Figure::Request { workers: 1 }, subject.variant, cpu);
            }
            for subject in in_turn(&mut subjects, round) {
                self.latency(subject, plan, figures)?;
            }
        }
        for round in 1..=rounds_of("connections") {
            progress("new connections", round, plan.rounds);
            for certificates in POPULATIONS {
                for subject in in_turn(&mut subjects, round) {
                    let cpu = self.connections(subject, plan, certificates, round)?;
                    figures.add(Figure::Connection { certificates }, subject.variant, cpu);
                }
            }
        }
        for subject in &subjects {
            let memory = process::resident_memory(subject.envoy.pid())? as f64 / 1e6;
            figures.add(Figure::MemoryAtEnd, subject.variant, memory);
            let (series, bytes) = scrape(&subject.envoy)?;
            figures.add(Figure::SeriesAtEnd, subject.variant, series);
            figures.add(Figure::ScrapeAtEnd, subject.variant, bytes);
        }
        if pinned {
            process::pin_this_thread(&(0..cpus).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn two_workers(&self, plan: &Plan, figures: &mut Figures) -> Result<()> {
        let mut subjects = self.warm(2, plan)?;
        for round in 1..=plan.rounds {
            progress("requests, two workers", round, plan.rounds);
            for subject in in_turn(&mut subjects, round) {
                let cpu = self.requests(subject, plan)?;
                figures.add(Figure::Request { workers: 2 }, subject.variant, cpu);
            }
        }
        Ok(())
    }

    /// All variants, as they are after some minutes of traffic: V8 compiles a function again, with more
    /// care, when it has run a hundred thousand times or so.
    fn warm(&self, workers: u32, plan: &Plan) -> Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        for variant in Variant::chosen() {
            let mut subject = self.start(variant, workers)?;
            let streams = self.load.open(subject.port, &self.clients[..CONNECTIONS])?;
            progress_of_warm_up(variant);
            let requests = plan.warm_up * usize::try_from(workers)?;
            subject.streams = self.load.keep_alive(streams, requests)?;
            subjects.push(subject);
        }
        Ok(subjects)
    }

    /// Microseconds of CPU time for a request.
    fn requests(&self, subject: &mut Subject, plan: &Plan) -> Result<f64> {
        let streams = std::mem::take(&mut subject.streams);
        let requests = streams.len() * plan.requests;
        let before = process::worker_cpu_time(subject.envoy.pid())?;
        subject.streams = self.load.keep_alive(streams, plan.requests)?;
        let after = process::worker_cpu_time(subject.envoy.pid())?;
        Ok((after - before).as_secs_f64() * 1e6 / requests as f64)
    }

    /// Microseconds of CPU time for a connection with one request. With many certificates, every
    /// round takes those that were not used for longest.
    fn connections(
        &self,
        subject: &Subject,
        plan: &Plan,
        certificates: usize,
        round: usize,
    ) -> Result<f64> {
        let population = self.clients[..certificates].iter().cycle();
        let clients: Vec<_> = population
            .skip(round * plan.connections % certificates)
            .take(plan.connections)
            .cloned()
            .collect();
        let before = process::worker_cpu_time(subject.envoy.pid())?;
        self.load.reconnect(subject.port, clients)?;
        let after = process::worker_cpu_time(subject.envoy.pid())?;
        Ok((after - before).as_secs_f64() * 1e6 / plan.connections as f64)
    }

    fn latency(&self, subject: &mut Subject, plan: &Plan, figures: &mut Figures) -> Result<()> {
        let stream = subject.streams.first_mut().context("a connection")?;
        let latencies = self.load.latencies(stream, PERIOD, plan.paced_requests)?;
        let mut latencies: Vec<_> = latencies.iter().map(|l| l.as_secs_f64() * 1e6).collect();
        latencies.sort_by(f64::total_cmp);
        let of = |share| quantile(&latencies, share).context("no latencies");
        figures.add(Figure::LatencyMedian, subject.variant, of(0.5)?);
        figures.add(Figure::Latency99, subject.variant, of(0.99)?);
        Ok(())
    }
}

/// How many series of the module a scrape has, and how many of its bytes.
fn scrape(envoy: &Envoy) -> Result<(f64, f64)> {
    let text = envoy.admin_get("/stats/prometheus")?;
    let lines: Vec<_> = text.lines().filter(|line| line.contains("mtls_")).collect();
    let series = lines.iter().filter(|line| !line.starts_with('#')).count();
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    Ok((series as f64, bytes as f64))
}

/// All subjects, another one first in each round.
fn in_turn(subjects: &mut [Subject], round: usize) -> impl Iterator<Item = &mut Subject> {
    let first = round % subjects.len();
    let (before, after) = subjects.split_at_mut(first);
    after.iter_mut().chain(before)
}
