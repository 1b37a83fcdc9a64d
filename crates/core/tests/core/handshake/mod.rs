//! Texts of refused handshakes, and what they come to. A row that does not say where its text comes from was recorded
//! from that stack, with the clients and servers of the page docs/handshake-failures.md.

mod envoy;
mod settle;
mod stacks;

use mtls_watch_core::handshake::Failure;

/// `reason layer holder`.
fn verdict(failure: &Failure) -> String {
    let Failure { reason, holder, .. } = failure;
    let words = [reason.as_str(), failure.layer_label(), holder.as_str()];
    words.join(" ")
}
