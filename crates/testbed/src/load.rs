//! Steady load between the workloads, and an account of every request.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Client;
use anyhow::{Context, Result, bail};

/// Between two requests of one workload to another.
const PAUSE: Duration = Duration::from_millis(100);

/// Clients that come at the same time, see [`crowd`].
const CLIENTS: usize = 4;

/// Has clients of these numbers come, several at a time.
///
/// # Errors
/// The first one of a client, after which those that would come behind it do not.
///
/// # Panics
/// If `come` does.
pub fn crowd(numbers: &Range<u32>, come: impl Fn(u32) -> Result<()> + Sync) -> Result<()> {
    let one_after_the_other = |first: usize| {
        let mut numbers = numbers.clone().skip(first).step_by(CLIENTS);
        numbers.try_for_each(&come)
    };
    thread::scope(|scope| {
        let one_after_the_other = &one_after_the_other;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || one_after_the_other(client)))
            .collect();
        let mut results = clients.into_iter().map(|client| client.join());
        results.try_for_each(|result| result.expect("no panic"))
    })
}

/// One workload calling another.
pub struct Edge {
    caller: &'static str,
    called: &'static str,
    /// Where the caller's sidecar takes its requests.
    port: u16,
    sent: AtomicU64,
    failures: Mutex<Vec<Failure>>,
}

/// A request that was not answered with 200.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When.
    pub at: Instant,
    /// Who called.
    pub caller: &'static str,
    /// Who was called.
    pub called: &'static str,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            caller,
            called,
            what,
            ..
        } = self;
        write!(f, "{caller} to {called}: {what}")
    }
}

impl Edge {
    /// An edge on which nothing has been sent.
    pub fn new(caller: &'static str, called: &'static str, port: u16) -> Self {
        Self {
            caller,
            called,
            port,
            sent: AtomicU64::new(0),
            failures: Mutex::default(),
        }
    }

    fn send(&self) {
        if let Err(what) = request(self.port) {
            let failure = Failure {
                at: Instant::now(),
                caller: self.caller,
                called: self.called,
                what: format!("{what:#}"),
            };
            self.failures().push(failure);
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn failures(&self) -> MutexGuard<'_, Vec<Failure>> {
        // A list has no broken state.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn request(port: u16) -> Result<()> {
    let response = Client::plaintext().get(port, "/", &[])?;
    match response.status {
        200 => Ok(()),
        status => bail!("{status} {}", response.text()),
    }
}

/// How much each edge had sent at some time.
#[derive(Clone, Debug)]
pub struct Mark(Vec<Counts>);

#[derive(Clone, Copy, Debug)]
struct Counts {
    sent: u64,
    failed: usize,
}

/// The load. Dropping it ends it.
pub struct Load {
    edges: Arc<[Edge]>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts to send on every edge, ten times a second.
    pub fn start(edges: Vec<Edge>) -> Self {
        Self::start_every(PAUSE, edges)
    }

    /// The same with this pause between two requests of an edge.
    pub fn start_every(pause: Duration, edges: Vec<Edge>) -> Self {
        let edges: Arc<[Edge]> = edges.into();
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..edges.len()).map(|index| {
            let (edges, stop) = (Arc::clone(&edges), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    edges[index].send();
                    thread::sleep(pause);
                }
            })
        });
        Self {
            threads: threads.collect(),
            edges,
            stop,
        }
    }

    /// Before anything was sent.
    pub fn beginning(&self) -> Mark {
        let nothing = Counts { sent: 0, failed: 0 };
        Mark(vec![nothing; self.edges.len()])
    }

    /// How much has been sent so far.
    pub fn mark(&self) -> Mark {
        let counts = |edge: &Edge| {
            // In this order a failure in between counts as one since.
            let failed = edge.failures().len();
            let sent = edge.sent.load(Ordering::Relaxed);
            Counts { sent, failed }
        };
        Mark(self.edges.iter().map(counts).collect())
    }

    /// The requests since then.
    pub fn sent(&self, since: &Mark) -> u64 {
        self.sent_by_edge(since).sum()
    }

    /// The requests since then of the edge that has sent the fewest.
    pub fn least_sent(&self, since: &Mark) -> u64 {
        self.sent_by_edge(since).min().unwrap_or(0)
    }

    fn sent_by_edge(&self, since: &Mark) -> impl Iterator<Item = u64> {
        let edges = self.edges.iter().zip(&since.0);
        edges.map(|(edge, then)| edge.sent.load(Ordering::Relaxed) - then.sent)
    }

    /// The requests since then that failed, in no particular order.
    pub fn failures(&self, since: &Mark) -> Vec<Failure> {
        let edges = self.edges.iter().zip(&since.0);
        let failures = edges.flat_map(|(edge, then)| {
            let failures = edge.failures();
            failures
                .iter()
                .skip(then.failed)
                .cloned()
                .collect::<Vec<_>>()
        });
        failures.collect()
    }

    /// Ends the load. Returns all that was sent.
    ///
    /// # Errors
    /// If a part of it ended before.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok().context("the load broke off")?;
        }
        Ok(self
            .edges
            .iter()
            .map(|edge| edge.sent.load(Ordering::Relaxed))
            .sum())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
