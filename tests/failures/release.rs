//! What the Envoy under test can tell of a refused handshake. The promises hold as far as that goes;
//! beyond it nothing is guessed.

use std::sync::LazyLock;

use testbed::Envoy;

static RELEASE: LazyLock<(u32, u32)> =
    LazyLock::new(|| Envoy::release().expect("an Envoy is there, and tells its version"));

/// Whether a network filter is told why Envoy refuses a client, and any filter more than that
/// verification has failed: 1.37.
pub fn explains() -> bool {
    *RELEASE >= (1, 37)
}

/// Whether the certificate of a client that Envoy refuses can be read: 1.38.
pub fn shows_clients() -> bool {
    *RELEASE >= (1, 38)
}
