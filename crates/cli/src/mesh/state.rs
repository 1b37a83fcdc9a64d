//! The state of each CA, named after SPIRE's authorities.

use super::fleet::{Fleet, Rotation};
use super::trust::Trust;

/// Where a CA stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Trusted, and signs nothing yet.
    Prepared,
    /// Signs.
    Active,
    /// In a bundle or still signing, while a newer CA of the rotation is active.
    Old,
    /// In no bundle, signs nothing.
    Retired,
    /// No series names it: not there yet, or misspelt.
    Unseen,
}

impl State {
    /// As in the table.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Old => "old",
            Self::Retired => "retired",
            Self::Unseen => "unseen",
        }
    }

    /// The state of a CA in the fleet.
    pub(crate) fn of(ca: &str, fleet: &Fleet) -> Self {
        let in_a_bundle = || {
            let mut proxies = fleet.proxies.iter();
            proxies.any(|proxy| proxy.has_in_bundle(ca) == Some(true))
        };
        let signs = fleet.signs(ca) || fleet.ancestry.is_sent(ca);
        if (signs || in_a_bundle()) && is_superseded(ca, fleet) {
            Self::Old
        } else if signs {
            Self::Active
        } else if in_a_bundle() {
            Self::Prepared
        } else if fleet.cas().contains(ca) {
            Self::Retired
        } else if is_trusted_somewhere(ca, fleet) {
            Self::Prepared
        } else {
            Self::Unseen
        }
    }
}

/// An issuing CA that has signed nothing yet stands in no bundle; the CA above it does.
fn is_trusted_somewhere(ca: &str, fleet: &Fleet) -> bool {
    let mut proxies = fleet.proxies.iter();
    proxies.any(|proxy| matches!(fleet.trust(proxy, ca), Trust::Through(_)))
}

/// Whether a newer CA of the rotation is active. Without a rotation named: a CA of the same common name
/// that is valid from a later time.
fn is_superseded(ca: &str, fleet: &Fleet) -> bool {
    match &fleet.rotation {
        Some(Rotation { old, new }) => {
            fleet.ancestry.is_below(ca, &old.ca) == Some(true)
                && fleet.ancestry.is_below(ca, &new.ca) != Some(true)
                && fleet.signs(&new.ca)
        }
        None => {
            let mut cas = fleet.cas().into_iter();
            cas.any(|other| is_successor(other, ca, fleet) && fleet.signs(other))
        }
    }
}

fn is_successor(other: &str, ca: &str, fleet: &Fleet) -> bool {
    let later = fleet.not_before(other) > fleet.not_before(ca);
    common_name(other) == common_name(ca) && later && fleet.not_before(ca).is_some()
}

/// The part of a CA's name before its key.
fn common_name(ca: &str) -> &str {
    ca.rsplit_once(':').map_or(ca, |(name, _)| name)
}
