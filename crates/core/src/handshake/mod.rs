//! Why a handshake failed: from Envoy's text, and from the certificate that was refused, to a cause
//! and a cure.

mod alert;
mod envoy;
mod reason;
mod settle;
mod stacks;
mod verification;
mod words;

use std::borrow::Cow;

use strum::{IntoStaticStr, VariantArray};

use mtls_watch_x509::chain::Layer;

pub use envoy::classify;
pub use reason::Reason;
pub use settle::{Known, settle};
pub use stacks::{explain, phrases};

/// Whose thing must be changed for a refused handshake to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum Holder {
    /// The peer's: its leaf, or the chain that it sent.
    Peer,
    /// This proxy's: its certificate, its trust bundle or its CRL.
    Own,
    /// No certificate is concerned, or Envoy does not tell.
    None,
}

impl Holder {
    /// All values.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A handshake that did not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// Layer of the certificate at fault; `None` where none is, or where it is not known.
    pub layer: Option<Layer>,
    /// Whose thing must be changed.
    pub holder: Holder,
    /// What to change, in one sentence.
    pub hint: Cow<'static, str>,
}

impl Failure {
    /// A failure with the reason's own hint.
    #[must_use]
    pub fn new(reason: Reason, layer: Option<Layer>) -> Self {
        Self {
            reason,
            layer,
            holder: reason.holder(),
            hint: Cow::Borrowed(reason.hint()),
        }
    }

    /// The label value of the layer.
    #[must_use]
    pub fn layer_label(&self) -> &'static str {
        self.layer.map_or(NO_LAYER, Layer::as_str)
    }
}

/// Label value of `layer` where no certificate is concerned.
pub const NO_LAYER: &str = "none";
