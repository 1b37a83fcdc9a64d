//! The attributes of a stream or connection, in Envoy's encoding.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::pki::Certificate;

pub const INBOUND: i64 = 1;
pub const OUTBOUND: i64 = 2;

/// Envoy never gives an id twice.
static LAST_CONNECTION: AtomicI64 = AtomicI64::new(0);

/// What `proxy_get_property` answers, by path. Paths are written with dots; the first one parts
/// the segments, so that `filter_state.a.b` is the filter state object `a.b`.
#[derive(Clone, Default)]
pub struct Attributes(BTreeMap<Vec<u8>, Vec<u8>>);

impl Attributes {
    /// An HTTP stream on a connection without TLS, on a listener of no stated direction. A clone is
    /// a further request on that connection.
    pub fn http() -> Self {
        Self::network().text("request.protocol", "HTTP/1.1")
    }

    /// A connection without TLS, on a listener of no stated direction.
    pub fn network() -> Self {
        Self::default()
            .reconnected()
            .flag("connection.mtls", false)
            .integer("xds.listener_direction", 0)
    }

    pub fn direction(self, direction: i64) -> Self {
        self.integer("xds.listener_direction", direction)
    }

    /// The same on a connection of its own.
    pub fn reconnected(self) -> Self {
        let id = LAST_CONNECTION.fetch_add(1, Ordering::Relaxed) + 1;
        self.integer("connection.id", id)
    }

    /// The client has shown this certificate to an inbound listener.
    pub fn client(self, certificate: &Certificate) -> Self {
        self.direction(INBOUND)
            .flag("connection.mtls", true)
            .text("connection.tls_version", "TLSv1.3")
            .certificate("connection", certificate)
    }

    /// The server has shown this certificate to an outbound listener's cluster.
    pub fn server(self, certificate: &Certificate) -> Self {
        self.direction(OUTBOUND)
            .text("upstream.tls_version", "TLSv1.3")
            .text("upstream.address", "192.0.2.7:443")
            .text(
                "upstream.uri_san_local_certificate",
                "spiffe://cluster.local/ns/shop/sa/web",
            )
            .certificate("upstream", certificate)
    }

    /// A handshake with the client that was refused, with or without a certificate to read.
    pub fn refused(self, certificate: Option<&Certificate>, reason: &str) -> Self {
        let refused = self
            .direction(INBOUND)
            .text("connection.transport_failure_reason", reason);
        match certificate {
            Some(certificate) => refused.certificate("connection", certificate),
            None => refused,
        }
    }

    fn certificate(self, side: &str, certificate: &Certificate) -> Self {
        self.text(&format!("{side}.peer_certificate"), certificate.pem())
            .text(
                &format!("{side}.sha256_peer_certificate_digest"),
                certificate.digest(),
            )
    }

    pub fn text(self, path: &str, value: impl Into<Vec<u8>>) -> Self {
        self.raw(path, value)
    }

    pub fn flag(self, path: &str, value: bool) -> Self {
        self.raw(path, [u8::from(value)])
    }

    pub fn integer(self, path: &str, value: i64) -> Self {
        self.raw(path, value.to_le_bytes())
    }

    pub fn raw(mut self, path: &str, value: impl Into<Vec<u8>>) -> Self {
        self.0.insert(encode(path), value.into());
        self
    }

    pub fn without(mut self, path: &str) -> Self {
        self.0.remove(&encode(path));
        self
    }

    /// The request comes by behind the router, among the filters of a cluster.
    pub fn behind_router(self) -> Self {
        self.flag("test.behind_router", true)
    }

    pub fn is_behind_router(&self) -> bool {
        self.0.contains_key(&encode("test.behind_router"))
    }

    pub fn is_http(&self) -> bool {
        self.0.contains_key(&encode("request.protocol"))
    }

    pub fn get(&self, encoded: &[u8]) -> Option<&Vec<u8>> {
        self.0.get(encoded)
    }

    /// The paths present, with dots.
    pub fn paths(&self) -> Vec<String> {
        self.0.keys().map(|path| decode(path)).collect()
    }
}

/// The path as it goes over the wire: segments joined with a zero byte.
fn encode(path: &str) -> Vec<u8> {
    path.replacen('.', "\0", 1).into_bytes()
}

/// The path as documentation writes it.
pub fn decode(encoded: &[u8]) -> String {
    String::from_utf8_lossy(encoded).replace('\0', ".")
}
