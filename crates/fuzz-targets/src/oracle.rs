//! What another X.509 parser makes of a certificate.

use mtls_watch_x509::{Certificate, ExtendedKeyUsage, KeyUsage};
use x509_cert::TbsCertificate;
use x509_cert::der::oid::{AssociatedOid, ObjectIdentifier, db::rfc5280};
use x509_cert::der::{Decode, Encode as _, Result};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    self, AuthorityKeyIdentifier, BasicConstraints, SubjectAltName, SubjectKeyIdentifier,
};

/// The facts that two parsers can be compared by.
#[derive(Debug, PartialEq, Eq)]
pub struct Oracle {
    validity: (i64, i64),
    subject: Vec<u8>,
    issuer: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<ExtendedKeyUsage>,
    is_ca: bool,
}

impl Oracle {
    /// Reads a certificate, strictly: all that matters here must be in order.
    pub fn read(der: &[u8]) -> Result<Self> {
        let content = content(der)?;
        // It must be readable, too.
        extension::<SubjectAltName>(&content)?;
        let authority = extension::<AuthorityKeyIdentifier>(&content)?;
        let authority = authority.and_then(|authority| authority.key_identifier);
        let constraints = extension::<BasicConstraints>(&content)?;
        let seconds = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs() as i64;
        let validity = &content.validity;
        Ok(Self {
            validity: (seconds(&validity.not_before), seconds(&validity.not_after)),
            subject: content.subject.to_der()?,
            issuer: content.issuer.to_der()?,
            subject_key_id: extension::<SubjectKeyIdentifier>(&content)?
                .map(|id| id.0.into_bytes())
                .filter(|id| !id.is_empty()),
            authority_key_id: authority
                .map(|id| id.into_bytes())
                .filter(|id| !id.is_empty()),
            key_usage: extension::<pkix::KeyUsage>(&content)?.map(|usage| KeyUsage {
                digital_signature: usage.digital_signature(),
                cert_sign: usage.key_cert_sign(),
            }),
            extended_key_usage: extension::<pkix::ExtendedKeyUsage>(&content)?.map(|usage| {
                let has = |oid: ObjectIdentifier| usage.0.contains(&oid);
                ExtendedKeyUsage {
                    server_auth: has(rfc5280::ID_KP_SERVER_AUTH),
                    client_auth: has(rfc5280::ID_KP_CLIENT_AUTH),
                }
            }),
            is_ca: constraints.is_some_and(|constraints| constraints.ca),
        })
    }

    /// The same facts as mtls-watch has them.
    pub fn of(certificate: &Certificate) -> Self {
        let links = &certificate.links;
        let id = |id: &Option<Box<[u8]>>| id.as_ref().map(|id| id.to_vec());
        Self {
            validity: (certificate.not_before.0, certificate.not_after.0),
            subject: links.subject.to_vec(),
            issuer: links.issuer.to_vec(),
            subject_key_id: id(&links.subject_key_id),
            authority_key_id: id(&links.authority_key_id),
            key_usage: certificate.key_usage,
            extended_key_usage: certificate.extended_key_usage,
            is_ca: certificate.is_ca,
        }
    }
}

/// The URIs and DNS names of a certificate that must be readable, as the command line writes them.
pub fn subject_alt_names(der: &[u8]) -> Vec<String> {
    let names = extension::<SubjectAltName>(&content(der).unwrap()).unwrap();
    let name = |name: &GeneralName| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(format!("URI:{uri}")),
        GeneralName::DnsName(dns) => Some(format!("DNS:{dns}")),
        _ => None,
    };
    names.map_or(Vec::new(), |names| {
        names.0.iter().filter_map(name).collect()
    })
}

/// The serial number in hex, without a zero in front that is there for the sign only.
pub fn serial(der: &[u8]) -> String {
    let serial = content(der).unwrap().serial_number;
    let digits = serial.as_bytes().iter();
    let hex: String = digits.map(|byte| format!("{byte:02x}")).collect();
    hex.strip_prefix("00").unwrap_or(&hex).to_owned()
}

fn content(der: &[u8]) -> Result<TbsCertificate> {
    Ok(x509_cert::Certificate::from_der(der)?.tbs_certificate)
}

fn extension<'a, T: Decode<'a> + AssociatedOid>(content: &'a TbsCertificate) -> Result<Option<T>> {
    Ok(content.get::<T>()?.map(|(_, extension)| extension))
}
