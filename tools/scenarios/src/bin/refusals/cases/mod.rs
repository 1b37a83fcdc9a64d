//! The scenarios, with what is to be said of each.

mod clients;
mod servers;
mod sound;

use crate::materials::Shown;
use crate::scenario::{Limit, Scenario, Truth, Verdict};

/// All of them. Those of one setup need not stand together.
pub fn all() -> Vec<Scenario> {
    let mut all = clients::that_refuse_this_proxy();
    all.extend(clients::that_are_refused());
    all.extend(clients::that_speak_otherwise());
    all.extend(servers::that_are_refused());
    all.extend(servers::that_refuse_this_proxy());
    all.extend(servers::that_refuse_the_client_hello());
    all.extend(sound::clients());
    all.extend(sound::servers());
    all
}

const fn refused(says: &'static str, hint: &'static str) -> Verdict {
    Verdict {
        says,
        hint,
        named: None,
        limits: &[],
    }
}

impl Verdict {
    /// The line names the refused certificate.
    const fn of(self, shown: Shown) -> Self {
        Self {
            named: Some(shown),
            ..self
        }
    }

    const fn but(self, limits: &'static [(Limit, &'static str)]) -> Self {
        Self { limits, ..self }
    }
}

impl From<Verdict> for Truth {
    fn from(verdict: Verdict) -> Self {
        Self::Refused(verdict)
    }
}
