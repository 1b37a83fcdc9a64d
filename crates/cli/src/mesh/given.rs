//! Certificates of CAs that are given in files (`--cas`).

use mtls_watch_x509::describe::describe;
use mtls_watch_x509::{self as x509, pem};

use super::ancestry::{DIGITS, Known};
use crate::Error;

/// Reads PEM files.
///
/// # Errors
/// [`Error`] names the file and the certificate that cannot be read, is no CA, or is not signed by the CA that it names.
pub(crate) fn read(files: &[String]) -> Result<Vec<Known>, Error> {
    let mut certificates = Vec::new();
    for file in files {
        let found = cas_of(&crate::read(file)?);
        let found = found.map_err(|reason| Error::Content(format!("{file}: {reason}")))?;
        certificates.extend(found);
    }
    Known::check_signatures(&certificates).map_err(Error::Content)?;
    Ok(certificates)
}

fn cas_of(text: &[u8]) -> Result<Vec<Known>, String> {
    let read = |(index, der): (usize, Result<Vec<u8>, pem::PemError>)| {
        let known = der
            .map_err(|error| error.to_string())
            .and_then(|der| ca_of(&der));
        known.map_err(|error| format!("certificate {}: {error}", index.saturating_add(1)))
    };
    let found: Result<Vec<Known>, String> = pem::certificates(text).enumerate().map(read).collect();
    match found? {
        none if none.is_empty() => Err("no certificate: expected PEM".to_owned()),
        found => Ok(found),
    }
}

fn ca_of(der: &[u8]) -> Result<Known, String> {
    let certificate = x509::parse(der).map_err(|error| error.to_string())?;
    let description = describe(der).map_err(|error| error.to_string())?;
    match certificate.is_ca {
        true => Ok(Known {
            certificate,
            der: der.to_vec(),
            digits: description.sha256.chars().take(DIGITS).collect(),
        }),
        false => Err("not a CA".to_owned()),
    }
}
