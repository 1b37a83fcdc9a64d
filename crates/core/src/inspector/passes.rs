//! Passes: how a request of a busy connection is let through with next to no work.
//!
//! To learn which connection a request came on, Envoy enters the VM once more for memory to put the
//! answer into. That is dearer than all else together. A connection that sends many requests, and of
//! whose client there is nothing to say but `ok`, gets a pass: filter state of the connection, empty,
//! with the name of the present round. Whether that is there costs no memory.
//!
//! A round ends after five minutes, or when one of its holders no longer is `ok`. Then all of its passes
//! are void, for the next round has another name. Names come round again, for Envoy forgets none while
//! the connection lasts; a pass that was replaced is void for good.

use std::cell::Cell;
use std::rc::Rc;

use super::peer::{Peer, Posture};
use crate::host::Host;
use mtls_watch_x509::time::{Seconds, UnixTime};

/// Requests of a connection in one round from which on it is worth a pass.
const BUSY: u32 = 16;

/// Seconds that a round lasts at most.
const ROUND: Seconds = Seconds(300);

/// Names of rounds: as many as there are rounds in [`REST`], and some for rounds that end early.
const NAMES: usize = 32;

/// Seconds for which a name rests: twice the time after which Envoy, unless told otherwise, closes a
/// connection without requests. One that was silent for longer could have its old pass honoured for
/// the rest of a round that happens to have the same name.
const REST: Seconds = Seconds(7200);

/// Seconds by which a round may last longer, because a tick is late.
const LATE: Seconds = Seconds(60);

/// What a pass says once it is void. Anything but nothing.
const VOID: &[u8] = b"void";

/// The passes that one inspector gives.
pub(super) struct Passes {
    names: Vec<Name>,
    /// Index of the present round's name.
    present: Cell<Option<usize>>,
    begun: Cell<UnixTime>,
    /// When the first holder's posture changes, exclusive.
    until: Cell<UnixTime>,
    /// Whether that may be before the round ends: then every request asks for the time.
    near: Cell<bool>,
    /// Whether a pass has been used since the last tick.
    used: Cell<bool>,
    holders: Cell<Vec<Rc<Peer>>>,
}

/// The name of one round at a time.
struct Name {
    text: String,
    /// Whether Envoy has been told to keep it with the connection.
    declared: Cell<bool>,
    /// From when on it may be used again.
    rested: Cell<UnixTime>,
}

/// A connection's part in it.
#[derive(Default)]
pub(super) struct Pass {
    /// The round that its last request without a pass was in, by when that had begun.
    round: Cell<UnixTime>,
    /// How many it had in that round.
    requests: Cell<u32>,
    /// Index of the name that it was given last.
    name: Cell<Option<usize>>,
}

impl Passes {
    /// Passes that no other inspector, before or beside this one, takes for its own.
    pub(super) fn new(prefix: &str) -> Self {
        let name = |number: usize| Name {
            text: format!("{prefix}.{number}"),
            declared: Cell::default(),
            rested: Cell::default(),
        };
        Self {
            names: (0..NAMES).map(name).collect(),
            present: Cell::default(),
            begun: Cell::default(),
            until: Cell::default(),
            near: Cell::default(),
            used: Cell::default(),
            holders: Cell::default(),
        }
    }

    /// Whether the request that is being handled came on a connection with a pass.
    pub(super) fn covers(&self, host: &impl Host, now: impl FnOnce() -> UnixTime) -> bool {
        let Some(name) = self.present.get().and_then(|index| self.names.get(index)) else {
            return false;
        };
        if self.near.get() && !self.lasts(now()) {
            return false;
        }
        let has_pass = host.is_filter_state_empty(&name.text);
        if has_pass {
            self.used.set(true);
        }
        has_pass
    }

    /// A request without a pass has shown that there is nothing to say of the client but `ok`, for as
    /// long as `posture` holds. Gives its connection one, if that is worth it.
    pub(super) fn consider(
        &self,
        host: &dyn Host,
        pass: &Pass,
        peer: &Rc<Peer>,
        posture: &Posture,
    ) {
        let Some(present) = self.present.get() else {
            return;
        };
        if pass.round.replace(self.begun.get()) != self.begun.get() {
            pass.requests.set(0);
        }
        pass.requests.set(pass.requests.get().saturating_add(1));
        if pass.requests.get() == BUSY {
            self.give(host, pass, present);
            self.until.set(self.until.get().min(posture.until()));
            self.near.set(self.is_near());
            let mut holders = self.holders.take();
            if !holders.iter().any(|holder| Rc::ptr_eq(holder, peer)) {
                holders.push(Rc::clone(peer));
            }
            self.holders.set(holders);
        }
    }

    fn give(&self, host: &dyn Host, pass: &Pass, present: usize) {
        let text = |index: usize| self.names.get(index).map(|name| name.text.as_str());
        if let Some(before) = pass.name.replace(Some(present)).and_then(text) {
            host.set_filter_state(before, VOID);
        }
        if let Some(name) = text(present) {
            host.set_filter_state(name, b"");
        }
    }

    /// At a tick: who passed by is seen, and a new round begins when the present one is over. Only then
    /// can Envoy be told of a name, for that takes the plugin's own context.
    pub(super) fn tick(&self, host: &dyn Host, now: UnixTime) {
        if self.used.take() {
            let holders = self.holders.take();
            for holder in &holders {
                holder.saw(now);
            }
            self.holders.set(holders);
        }
        if self.present.get().is_some() && self.lasts(now) && now < self.begun.get().plus(ROUND) {
            return;
        }
        self.end(now);
        self.begin(host, now);
    }

    fn end(&self, now: UnixTime) {
        self.holders.take();
        if let Some(name) = self.present.take().and_then(|index| self.names.get(index)) {
            name.rested.set(now.plus(REST));
        }
    }

    /// Without a name that has rested there is no round.
    fn begin(&self, host: &dyn Host, now: UnixTime) {
        let next = self.names.iter().position(|name| name.rested.get() <= now);
        let Some((index, name)) = next.and_then(|index| Some((index, self.names.get(index)?)))
        else {
            return;
        };
        if !name.declared.get() && !host.declare_connection_state(&name.text) {
            return;
        }
        name.declared.set(true);
        self.present.set(Some(index));
        self.begun.set(now);
        self.until.set(UnixTime::NEVER);
        self.near.set(false);
    }

    fn lasts(&self, now: UnixTime) -> bool {
        self.begun.get() <= now && now < self.until.get()
    }

    fn is_near(&self) -> bool {
        self.until.get() < self.begun.get().plus(ROUND).plus(LATE)
    }
}
