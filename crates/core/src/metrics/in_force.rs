//! How many errors the configurations in force have.
//!
//! Envoy takes a configuration of before back without telling the module, while connections are open that have it. So of
//! the configurations of a plugin the one that has met the latest connection is in force.

use std::cell::Cell;

use mtls_watch_x509::time::{Seconds, UnixTime};

/// After so long without a tick a configuration is gone.
const GONE: Seconds = Seconds(60);

/// The configurations in force in one VM.
#[derive(Default)]
pub struct InForce {
    /// Each with the time of its latest tick.
    configurations: Cell<Vec<(Configuration, UnixTime)>>,
    told: Cell<usize>,
}

/// A configuration that ticks.
#[derive(Clone, Copy)]
pub struct Configuration {
    /// The name of its plugin, hashed.
    pub plugin: u64,
    /// How many errors it has.
    pub errors: usize,
    /// When it was loaded, or met the latest connection.
    pub met: UnixTime,
}

impl Configuration {
    /// When it met the latest connection; long ago, if a clock that was ahead says so and has been set back since.
    fn met_before(&self, now: UnixTime) -> UnixTime {
        match self.met > now {
            true => UnixTime::default(),
            false => self.met,
        }
    }
}

impl InForce {
    /// A configuration is loaded.
    pub fn loaded(&self, errors: usize) {
        self.told.set(errors);
    }

    /// A configuration ticks. The most errors that one in force has, to be told: also again if it has some, for another VM
    /// of the proxy, which this one knows nothing of, may have told since that it has none.
    pub fn ticked(&self, ticking: Configuration, now: UnixTime) -> Option<usize> {
        let mut configurations = self.configurations.take();
        configurations.retain(|(known, ticked)| {
            let is_later = known.met_before(now) > ticking.met_before(now);
            now.since(*ticked) < GONE && (known.plugin != ticking.plugin || is_later)
        });
        let mut plugins = configurations.iter().map(|(known, _)| known.plugin);
        if !plugins.any(|plugin| plugin == ticking.plugin) {
            configurations.push((ticking, now));
        }
        let errors = configurations.iter().map(|(known, _)| known.errors);
        let most = errors.max().unwrap_or_default();
        self.configurations.set(configurations);
        (self.told.replace(most) != most || most > 0).then_some(most)
    }
}
