//! Several plugins of this module in one place: a connection or a request is counted by one of them. They agree in
//! filter state of the connection, for each may have a VM of its own.

use std::cell::Cell;
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _};

use crate::hash::Keyed;
use crate::host::{self, Host};

/// Filter state of a connection among network filters: which of them counts it.
const CONNECTION: &str = "mtls.connection";

/// Filter state of a connection among HTTP filters: a [`Mark`]. With `wasm.` before them both names are so short that
/// Envoy's strings take no memory for them.
pub(super) const REQUESTS: &str = "mtls.requests";

/// One plugin of this module among others.
pub(super) struct Plugin {
    /// No other inspector has the same.
    id: u64,
    /// Of the names that the configuration gives it. The inspector that replaces another has the same.
    name: Cell<u64>,
}

/// What filter state says of a connection's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Of the connection. It stays; no other has the same.
    pub(super) number: u64,
    /// Who counts its requests, and its name.
    owner: u64,
    name: u64,
    /// When the request began at which the owner became it.
    request: u64,
    /// When another plugin asked if the owner is still there; 0 while none does.
    question: u64,
}

/// Whether a plugin counts the requests of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does.
    Counts,
    /// Another does, for as long as that is the owner.
    Leaves { to: u64 },
    /// Another did before this plugin came. Whether it still does was asked; what begins after `since` meets it
    /// if it is there.
    Asks {
        owner: u64,
        question: u64,
        since: u64,
    },
}

impl Plugin {
    /// The plugin of an inspector; `ordinal` differs from that of any other in the same VM.
    pub(super) fn new(ordinal: u64) -> Self {
        Self {
            id: Keyed::default().hash_one(ordinal),
            name: Cell::default(),
        }
    }

    /// Learns how the plugin is called.
    pub(super) fn start(&self, host: &dyn Host) {
        let mut name = DefaultHasher::new();
        for property in ["plugin_name", "plugin_root_id", "plugin_vm_id"] {
            host.property(&[property]).hash(&mut name);
        }
        self.name.set(name.finish());
    }

    /// How it is called, hashed.
    pub(super) fn name(&self) -> u64 {
        self.name.get()
    }

    /// A number that no other plugin has, beyond which it may count its connections.
    pub(super) fn first_number(&self) -> u64 {
        self.id
    }

    /// Whether this plugin counts a connection that it sees for the first time: no other has come before it.
    pub(super) fn takes_connection(&self, host: &dyn Host) -> bool {
        let own = self.id.to_le_bytes();
        match host.property(&[CONNECTION]) {
            Some(owner) => owner == own,
            None => {
                host.set_filter_state(CONNECTION, &own);
                true
            }
        }
    }

    /// Takes the requests of a connection with that number.
    pub(super) fn take(&self, host: &dyn Host, number: u64) -> (u64, Standing) {
        let mark = Mark {
            number,
            owner: self.id,
            name: self.name.get(),
            request: began(host).unwrap_or_default(),
            question: 0,
        };
        mark.write(host);
        (number, Standing::Counts)
    }

    /// Whether nothing has changed on a connection where this plugin stands so: to be known without a host call.
    pub(super) fn stays(&self, standing: Standing, mark: Mark) -> bool {
        match standing {
            Standing::Counts => mark.owner == self.id && mark.question == 0,
            Standing::Leaves { to } => mark.owner == to,
            Standing::Asks { .. } => false,
        }
    }

    /// Where this plugin stands from now on. A second plugin in the same chain sees the mark of the first at the
    /// same request. One that comes later, when Envoy has changed the configuration of a living connection,
    /// asks; the first answers at the next request, or is gone.
    pub(super) fn settle(
        &self,
        host: &dyn Host,
        mark: Mark,
        before: Option<Standing>,
    ) -> (u64, Standing) {
        let Mark { number, owner, .. } = mark;
        if owner == self.id {
            let answer = Mark {
                question: 0,
                ..mark
            };
            answer.write(host);
            return (number, Standing::Counts);
        }
        let request = began(host);
        let standing = match before {
            _ if request == Some(mark.request) => Standing::Leaves { to: owner },
            Some(Standing::Asks {
                owner: asked,
                question,
                since,
            }) if asked == owner => match mark.question == question {
                false => Standing::Leaves { to: owner },
                true if request > Some(since) => return self.take(host, number),
                true => Standing::Asks {
                    owner,
                    question,
                    since,
                },
            },
            _ if mark.name == self.name.get() => return self.take(host, number),
            _ => ask(host, mark),
        };
        (number, standing)
    }
}

/// Asks whether the owner is still there, if no other plugin does already.
fn ask(host: &dyn Host, mark: Mark) -> Standing {
    let since = host.nanoseconds().unwrap_or_default();
    let question = match mark.question {
        0 => since,
        asked => asked,
    };
    if mark.question == 0 {
        Mark { question, ..mark }.write(host);
    }
    Standing::Asks {
        owner: mark.owner,
        question,
        since,
    }
}

/// When the request began, in nanoseconds: no other of the same connection did at that time.
fn began(host: &dyn Host) -> Option<u64> {
    host::integer(host, &["request", "time"])
}

impl Mark {
    /// What filter state says; `None` if it is not of this version of the module.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let ([number, owner, name, request, question], []) = bytes.as_chunks() else {
            return None;
        };
        Some(Self {
            number: u64::from_le_bytes(*number),
            owner: u64::from_le_bytes(*owner),
            name: u64::from_le_bytes(*name),
            request: u64::from_le_bytes(*request),
            question: u64::from_le_bytes(*question),
        })
    }

    fn write(self, host: &dyn Host) {
        let numbers = [
            self.number,
            self.owner,
            self.name,
            self.request,
            self.question,
        ];
        let bytes = numbers.map(u64::to_le_bytes);
        host.set_filter_state(REQUESTS, bytes.as_flattened());
    }
}
