//! The five steps, each a function of what was seen to what it says: expiry, chain, names, usage, counters.

mod chain;
mod counters;
mod expiry;
mod names;
mod subject;
mod usage;

use super::line::Said;

pub(super) use subject::{Judge, Judged, Subject};

/// All steps of a target, in their order.
pub(super) fn all(subject: &Subject<'_>) -> Vec<Said> {
    vec![
        expiry::said(subject),
        chain::said(subject),
        names::said(subject),
        usage::said(subject),
        counters::said(subject),
    ]
}
