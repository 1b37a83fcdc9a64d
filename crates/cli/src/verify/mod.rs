//! Whether Envoy would accept a peer's chain with a trust bundle: path building and path validation as BoringSSL has
//! them, which Envoy's default validator calls (`X509_verify_cert` with `X509_V_FLAG_PARTIAL_CHAIN` and the purpose
//! `ssl_client` or `ssl_server`).
//!
//! BoringSSL builds one path and does not go back: of several CAs that may have signed a certificate it takes the
//! first, by names, key identifiers and keyCertSign alone. Whether that CA has expired, or its key does not fit, is
//! seen afterwards, and then the peer is refused, though another CA of the bundle would have done. No library for Rust
//! decides so; the steps here are those of crypto/x509/x509_vfy.cc, in its order, over RustCrypto's signatures.

mod certificate;
mod name;
mod names;
mod path;
mod policy;
mod signature;

use mtls_watch_core::handshake::{Holder, Reason};
use mtls_watch_core::terms::{Direction, Layer};
use mtls_watch_x509::time::UnixTime;

use certificate::Certificate;

/// Why a chain would be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// As in `mtls_handshake_failures_total`.
    pub(crate) reason: Reason,
    /// How far above the leaf the certificate stands that is refused.
    pub(crate) depth: usize,
    /// Its layer, as its depth tells.
    pub(crate) layer: Layer,
    /// Whose thing must be changed.
    pub(crate) holder: Holder,
    /// What exactly is wrong, in words.
    pub(crate) detail: String,
}

/// Verifies what a peer sends (leaf first) against the CAs of a bundle (in the order of the file), as DER. `Ok` has
/// the path that was found, leaf first, as DER.
///
/// # Errors
/// The [`Refusal`] that Envoy would write first.
pub(crate) fn verify(
    sent: &[Vec<u8>],
    bundle: &[Vec<u8>],
    direction: Direction,
    now: UnixTime,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut parsed = Vec::new();
    for (depth, der) in sent.iter().enumerate() {
        let certificate = Certificate::read(der).map_err(|detail| Refusal {
            reason: Reason::MalformedCertificate,
            depth,
            layer: layer(depth, None),
            holder: Holder::Peer,
            detail,
        })?;
        parsed.push(certificate);
    }
    // Envoy does not load a bundle with a certificate that it cannot read; what is said of the bundle says so.
    let anchors = bundle.iter().filter_map(|der| Certificate::read(der).ok());
    let anchors = path::Anchors::new(anchors.collect());
    let path = path::verify(&parsed, &anchors, direction, now)?;
    if let Some(leaf) = parsed.first() {
        leaf.can_sign_a_handshake(direction)
            .map_err(|(reason, detail)| Refusal {
                reason,
                depth: 0,
                layer: Layer::Workload,
                holder: Holder::Peer,
                detail,
            })?;
    }
    Ok(path)
}

/// Whether the key of one certificate has signed another, both as DER; `None` if one of them cannot be read.
pub(crate) fn has_signed(issuer: &[u8], certificate: &[u8]) -> Option<bool> {
    let [issuer, certificate] = [issuer, certificate].map(|der| Certificate::read(der).ok());
    Some(signature::verify(&certificate?, &issuer?).is_ok())
}

/// Why a leaf would be refused in the handshake for its key, whoever signed it.
pub(crate) fn refused_key(leaf: &[u8], direction: Direction) -> Option<String> {
    let refusal = Certificate::read(leaf)
        .ok()?
        .can_sign_a_handshake(direction);
    let is_key = |(reason, detail)| (reason == Reason::NoSharedCipher).then_some(detail);
    refusal.err().and_then(is_key)
}

/// The layer at a depth of a path, as the module tells it from Envoy's words.
fn layer(depth: usize, certificate: Option<&Certificate>) -> Layer {
    match depth {
        0 => Layer::Workload,
        _ if certificate.is_some_and(Certificate::is_self_issued) => Layer::RootCa,
        1 => Layer::IssuingCa,
        _ => Layer::IntermediateCa,
    }
}
