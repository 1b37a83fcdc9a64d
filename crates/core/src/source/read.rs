//! From a source to certificates: asks Envoy, decodes, parses, and says what could not be read.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::xfcc;
use crate::config::Config;
use crate::host::Host;
use crate::terms::Direction;
use crate::terms::Source;
use mtls_watch_x509::chain::Layer;
use mtls_watch_x509::hex;
use mtls_watch_x509::pem::{self, Ders, PemError};
use mtls_watch_x509::{self as x509, Certificate, ParseError};

/// SHA-256 of a certificate's DER.
pub type Fingerprint = [u8; 32];

/// Most certificates of one peer that are looked at. Path building in BoringSSL stops far below.
pub const MAX_CHAIN: usize = 16;

/// Value of a filter state object that was written before the handshake was over.
const EMPTY_OPERATOR: &[u8] = b"-";

/// Why a certificate could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The peer has a certificate, but no source gives it: an Envoy below 1.38 without filter state
    /// or XFCC set up.
    NoSource,
    /// The text is not PEM.
    Pem(PemError),
    /// The bytes are not a certificate.
    Parse(ParseError),
    /// The header is not readable.
    Xfcc(xfcc::XfccError),
    /// The header's certificate is not the one of this connection: it was not written by this
    /// Envoy.
    NotThisPeer,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSource => f.write_str(
                "this Envoy gives no certificate: use Envoy 1.38 or later, filter state or XFCC",
            ),
            Self::Pem(error) => error.fmt(f),
            Self::Parse(error) => error.fmt(f),
            Self::Xfcc(error) => error.fmt(f),
            Self::NotThisPeer => f.write_str(
                "x-forwarded-client-cert shows another certificate than this connection's: it is forwarded, not set, by this proxy",
            ),
        }
    }
}

impl std::error::Error for ReadError {}

/// What was read of one peer.
#[derive(Debug, Default)]
pub struct Reading {
    /// The certificates that could be read, leaf first; empty if the leaf could not.
    pub certificates: Vec<Certificate>,
    /// The DER of each of them.
    pub ders: Vec<Vec<u8>>,
    /// How many certificates each source gave.
    pub read: Vec<Source>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// A certificate that could not be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Where it stood.
    pub source: Source,
    /// Its layer, as far as its position tells.
    pub layer: Layer,
    /// Why.
    pub error: ReadError,
}

/// Where a peer's certificates may be found.
pub struct PeerCertificates<'a> {
    /// The proxy.
    pub host: &'a dyn Host,
    /// Which sources, in which order.
    pub config: &'a Config,
    /// On which side the peer is.
    pub direction: Direction,
    /// Fingerprint of the peer's leaf as Envoy says.
    pub fingerprint: Option<&'a Fingerprint>,
    /// The header `x-forwarded-client-cert`, where there is one.
    pub xfcc: Option<&'a [u8]>,
}

impl PeerCertificates<'_> {
    /// Reads the peer's certificates from the first source that gives a readable leaf. Where that
    /// source has the leaf only, the header may add the rest of the chain of the very same leaf.
    #[must_use]
    pub fn read(&self) -> Reading {
        let mut reading = Reading::default();
        for source in &self.config.certificate_sources {
            match self.ask(*source) {
                Ok(None) => {}
                Ok(Some(ders)) => {
                    reading.take_from(*source, ders, 0);
                    if reading.certificates.len() == 1 {
                        self.add_chain(&mut reading, *source);
                    }
                }
                Err(error) => reading.fail(*source, Layer::Workload, error),
            }
            if !reading.certificates.is_empty() {
                return reading;
            }
        }
        if let (true, Some(first)) = (
            reading.unreadable.is_empty(),
            self.config.certificate_sources.first(),
        ) {
            reading.fail(*first, Layer::Workload, ReadError::NoSource);
        }
        reading
    }

    fn ask(&self, source: Source) -> Result<Option<Ders>, ReadError> {
        let text = match (source, self.direction) {
            (Source::Attribute, Direction::Inbound) => {
                self.host.property(&["connection", "peer_certificate"])
            }
            (Source::Attribute, Direction::Outbound) => {
                self.host.property(&["upstream", "peer_certificate"])
            }
            (Source::FilterState, Direction::Inbound) => self
                .host
                .property(&["filter_state", &self.config.filter_state_key])
                .filter(|value| value != EMPTY_OPERATOR),
            (Source::Xfcc, Direction::Inbound) => return self.ask_xfcc(),
            _ => None,
        };
        let Some(text) = text else { return Ok(None) };
        let text = pem::percent_decode(&text).map_err(ReadError::Pem)?;
        let ders: Ders = pem::certificates(&text).take(MAX_CHAIN).collect();
        match ders.is_empty() {
            true => Err(ReadError::Pem(PemError::NoCertificate)),
            false => Ok(Some(ders)),
        }
    }

    /// The header is believed only if its leaf is the one of this connection: a proxy that forwards
    /// the header, rather than setting it, forwards whatever a client wrote.
    fn ask_xfcc(&self) -> Result<Option<Ders>, ReadError> {
        let Some(header) = self.xfcc else {
            return Ok(None);
        };
        let Some(mut ders) = self.certificates_of(header).map_err(ReadError::Xfcc)? else {
            return Ok(None);
        };
        ders.truncate(MAX_CHAIN);
        match (leaf_of(&ders), self.fingerprint) {
            (Some(leaf), Some(fingerprint)) if fingerprint_of(leaf) != *fingerprint => {
                Err(ReadError::NotThisPeer)
            }
            _ => Ok(Some(ders)),
        }
    }

    fn certificates_of(&self, header: &[u8]) -> Result<Option<Ders>, xfcc::XfccError> {
        // As the header has it.
        let digest = self.fingerprint.map(|fingerprint| {
            let mut digits = String::new();
            hex::push(&mut digits, fingerprint);
            digits
        });
        xfcc::certificates(header, digest.as_deref().map(str::as_bytes))
    }

    fn add_chain(&self, reading: &mut Reading, source: Source) {
        let configured = self.config.certificate_sources.contains(&Source::Xfcc);
        if source == Source::Xfcc || self.direction == Direction::Outbound || !configured {
            return;
        }
        let chain = self.xfcc.map(|header| self.certificates_of(header));
        if let Some(Ok(Some(mut ders))) = chain
            && leaf_of(&ders) == reading.ders.first().map(Vec::as_slice)
        {
            ders.truncate(MAX_CHAIN);
            reading.take_from(Source::Xfcc, ders, 1);
        }
    }
}

fn leaf_of(ders: &Ders) -> Option<&[u8]> {
    ders.first()?.as_deref().ok()
}

/// SHA-256 of a certificate's DER.
#[must_use]
pub fn fingerprint_of(der: &[u8]) -> Fingerprint {
    Sha256::digest(der).into()
}

impl Reading {
    /// Takes the certificates from position `first` on. Without a leaf the rest says nothing of this
    /// peer.
    fn take_from(&mut self, source: Source, ders: Ders, first: usize) {
        for (position, der) in ders.into_iter().enumerate().skip(first) {
            let parsed = der.map_err(ReadError::Pem).and_then(|der| {
                let certificate = x509::parse(&der).map_err(ReadError::Parse)?;
                Ok((certificate, der))
            });
            match parsed {
                // Sent twice, as some servers do with their leaf.
                Ok((_, der)) if self.ders.contains(&der) => {}
                Ok((certificate, der)) => {
                    self.certificates.push(certificate);
                    self.ders.push(der);
                    self.read.push(source);
                }
                Err(error) => {
                    self.fail(source, layer_at(position), error);
                    if position == 0 {
                        return;
                    }
                }
            }
        }
    }

    fn fail(&mut self, source: Source, layer: Layer, error: ReadError) {
        self.unreadable.push(Unreadable {
            source,
            layer,
            error,
        });
    }
}

/// Layer of a certificate of which only the position is known: peers send leaf, issuer, issuer's
/// issuer (RFC 8446, section 4.4.2).
fn layer_at(position: usize) -> Layer {
    match position {
        0 => Layer::Workload,
        1 => Layer::IssuingCa,
        _ => Layer::IntermediateCa,
    }
}
