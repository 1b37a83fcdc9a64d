//! This proxy's own certificates and trust bundle, over Envoy's admin interface.
//!
//! Peers on the wire show what they send. The rest of the hierarchy is in the proxy itself: its own
//! chain and every CA it trusts. One VM of the proxy is elected to ask for them.

pub mod admin;
mod der_list;
mod directory;
mod missing;
pub mod parts;
mod peers;
mod places;
mod poller;
mod public;
mod reply;
mod revocation;
pub mod secret;
mod series;
mod signing;
mod succession;

pub use directory::{Directory, DirectoryKeeper};
pub use missing::missing_secrets;
pub use poller::{Poller, Reply};
