//! Revocation lists of a validation context, as far as they decide: who is on them, and until when they hold.

use mtls_watch_x509::describe::serial;
use mtls_watch_x509::pem;
use mtls_watch_x509::time::UnixTime;
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode, Encode};

use super::target::RevocationList;

/// The lists of a text with blocks of PEM. What cannot be read is left out: Envoy does not load it.
pub(super) fn lists(place: &str, text: &[u8]) -> Vec<RevocationList> {
    let text = String::from_utf8_lossy(text).replace("X509 CRL", "CERTIFICATE");
    let ders = pem::certificates(text.as_bytes()).filter_map(Result::ok);
    ders.filter_map(|der| list(place, &der)).collect()
}

fn list(place: &str, der: &[u8]) -> Option<RevocationList> {
    let list = CertificateList::from_der(der).ok()?.tbs_cert_list;
    let revoked = list.revoked_certificates.iter().flatten();
    Some(RevocationList {
        place: place.to_owned(),
        issuer: list.issuer.to_der().ok()?,
        next_update: list.next_update.map(|time| {
            let seconds = time.to_unix_duration().as_secs();
            UnixTime(i64::try_from(seconds).unwrap_or(i64::MAX))
        }),
        revoked: revoked
            .map(|entry| serial(entry.serial_number.as_bytes()))
            .collect(),
    })
}
