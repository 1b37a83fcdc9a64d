//! What people have in hand, as certificates: files that `kubectl`, `istioctl`, `spire-server` and Envoy's admin
//! interface write, PEM in every disguise, DER, PKCS#7, PKCS#12, and headers that carry a client's certificate.
//!
//! A shape is told by its content, never by the name of a file. What is found keeps its place in the input, so that
//! a report can say where a certificate came from.

mod der;
mod document;
mod pem;
mod pkcs12;
mod text;
mod xfcc;

use thiserror::Error;

use mtls_watch_x509::pem::PemError;

pub(crate) use text::decode;

/// Certificates that stand together: a chain or a trust bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Where in the input they stand, such as `Secret shop/pay tls.crt`; `None` where they are all there is.
    pub(crate) place: Option<String>,
    /// What the place says that they are for.
    pub(crate) purpose: Purpose,
    /// Each as DER, or why it is none, in the order of the input.
    pub(crate) certificates: Vec<Result<Vec<u8>, String>>,
}

/// What certificates are for, as far as their place tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A leaf, and the CAs that are sent with it.
    Chain,
    /// The CAs that are trusted.
    Bundle,
    /// The place does not say.
    Unknown,
}

/// Why an input gives no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum InputError {
    #[error(
        "no certificate: expected PEM, DER, PKCS#7, PKCS#12, a Secret, a config dump or an XFCC header"
    )]
    Nothing,
    #[error("no certificate: the input is empty")]
    Empty,
    #[error("no certificate, only a private key")]
    OnlyKey,
    #[error(
        "no certificate, but a certificate signing request (show it with `openssl req -noout -text -in FILE`)"
    )]
    Request,
    #[error(
        "no certificate, but a revocation list (show it with `openssl crl -noout -text -in FILE`)"
    )]
    RevocationList,
    #[error("no certificate, but a public key")]
    PublicKey,
    #[error(
        "a Java keystore: convert it with `keytool -importkeystore -srckeystore FILE -destkeystore FILE.p12 -deststoretype PKCS12`"
    )]
    JavaKeyStore,
    #[error(
        "PKCS#7 in an encoding that is not DER: convert it with `openssl pkcs7 -inform DER -in FILE -print_certs`"
    )]
    Pkcs7,
    #[error("PKCS#12: {0}; `openssl pkcs12 -legacy -nokeys -in FILE` may convert it")]
    Pkcs12(String),
    #[error("PKCS#12: the password is wrong, or one is needed: give it with --password-file")]
    Password,
    #[error(
        "Envoy's /certs has dates and names only: use `/config_dump?resource=dynamic_active_secrets`"
    )]
    DatesOnly,
    #[error("{0} has no certificate in it")]
    Document(&'static str),
    #[error("not the JSON that it begins as: {0}")]
    Json(String),
    #[error("x-forwarded-client-cert: {0}")]
    Xfcc(&'static str),
    #[error(transparent)]
    Pem(#[from] PemError),
}

/// Reads the certificates of an input of any shape.
///
/// # Errors
/// [`InputError`] if there is none. A certificate that cannot be read does not hide the others.
pub(crate) fn read(input: &[u8], password: &str) -> Result<Vec<Group>, InputError> {
    if input.iter().all(u8::is_ascii_whitespace) {
        return Err(InputError::Empty);
    }
    if let Some(certificates) = der::read(input, password)? {
        return Ok(alone(certificates));
    }
    text::read(&decode(input), password)
}

/// One group that is all there is.
fn alone(certificates: Vec<Result<Vec<u8>, String>>) -> Vec<Group> {
    vec![Group {
        place: None,
        purpose: Purpose::Unknown,
        certificates,
    }]
}
