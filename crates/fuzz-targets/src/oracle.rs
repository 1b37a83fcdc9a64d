//! What another X.509 parser makes of a certificate.

use mtls_watch_x509::{Certificate, ExtendedKeyUsage, KeyUsage};
use x509_cert::TbsCertificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::BitString;
use x509_cert::der::oid::{AssociatedOid, ObjectIdentifier, db::rfc5280};
use x509_cert::der::{Any, Decode, Encode as _, ErrorKind, Result, Tag, Tagged as _};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    self, AuthorityKeyIdentifier, BasicConstraints, SubjectAltName, SubjectKeyIdentifier,
};

/// The facts that two parsers can be compared by.
#[derive(Debug, PartialEq, Eq)]
pub struct Oracle {
    version: u32,
    serial: Vec<u8>,
    validity: (i64, i64),
    is_self_issued: bool,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<ExtendedKeyUsage>,
    is_ca: bool,
}

impl Oracle {
    /// Reads a certificate, strictly: all that matters here must be in order, as BoringSSL wants it.
    pub fn read(der: &[u8]) -> Result<Self> {
        let certificate = x509_cert::Certificate::from_der(der)?;
        if !is_in_order(&certificate)? {
            return Err(ErrorKind::Failed.into());
        }
        let content = certificate.tbs_certificate;
        // It must be readable, too.
        extension::<SubjectAltName>(&content)?;
        let authority = extension::<AuthorityKeyIdentifier>(&content)?;
        let authority = authority.and_then(|authority| authority.key_identifier);
        let constraints = extension::<BasicConstraints>(&content)?;
        if constraints
            .as_ref()
            .is_some_and(|found| found.path_len_constraint.is_some() && !found.ca)
        {
            return Err(ErrorKind::Failed.into());
        }
        let seconds = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs() as i64;
        let validity = &content.validity;
        Ok(Self {
            version: content.version as u32 + 1,
            serial: content.serial_number.as_bytes().to_vec(),
            is_self_issued: content.subject == content.issuer,
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
                crl_sign: usage.crl_sign(),
                critical: is_critical(&content, pkix::KeyUsage::OID),
            }),
            extended_key_usage: extension::<pkix::ExtendedKeyUsage>(&content)?.map(|usage| {
                let has = |oid: ObjectIdentifier| usage.0.contains(&oid);
                ExtendedKeyUsage {
                    server_auth: has(rfc5280::ID_KP_SERVER_AUTH),
                    client_auth: has(rfc5280::ID_KP_CLIENT_AUTH),
                    code_signing: has(rfc5280::ID_KP_CODE_SIGNING),
                    ocsp_signing: has(rfc5280::ID_KP_OCSP_SIGNING),
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
            version: certificate.version,
            serial: certificate.serial.to_vec(),
            is_self_issued: certificate.is_self_issued(),
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

fn is_critical(content: &TbsCertificate, oid: ObjectIdentifier) -> bool {
    let extensions = content.extensions.iter().flatten();
    extensions
        .filter(|extension| extension.extn_id == oid)
        .any(|extension| extension.critical)
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

/// Whether a name has a value that is no text. Envoy takes some of these, and OpenSSL takes others.
pub fn has_odd_names(der: &[u8]) -> bool {
    content(der).is_ok_and(|content| {
        let names = [&content.subject, &content.issuer].into_iter();
        let mut attributes = names
            .flat_map(|name| &name.0)
            .flat_map(|part| part.0.iter());
        attributes.any(|attribute| !is_text(&attribute.value))
    })
}

/// What BoringSSL checks beyond x509-cert: extensions are of version 3, names have texts, object identifiers and
/// bits are encoded in one way only.
fn is_in_order(certificate: &x509_cert::Certificate) -> Result<bool> {
    let content = &certificate.tbs_certificate;
    let extensions = content.extensions.as_deref().unwrap_or_default();
    let right_version = extensions.is_empty() || content.version == Version::V3;
    let names = [&content.subject, &content.issuer];
    let parts: Vec<_> = names.iter().flat_map(|name| &name.0).collect();
    let attributes: Vec<_> = parts.iter().flat_map(|part| part.0.iter()).collect();
    let right_names = parts.iter().all(|part| !part.0.is_empty())
        && attributes.iter().all(|attribute| is_text(&attribute.value));
    let key = &content.subject_public_key_info;
    let key_usage = extensions
        .iter()
        .find(|extension| extension.extn_id == pkix::KeyUsage::OID)
        .map(|extension| BitString::from_der(extension.extn_value.as_bytes()))
        .transpose()?;
    let mut bits = [&certificate.signature].into_iter().chain(&key_usage);
    let right_bits = bits.all(has_zeros_behind) && key.subject_public_key.unused_bits() == 0;
    let algorithms = [
        &certificate.signature_algorithm,
        &content.signature,
        &key.algorithm,
    ];
    let purposes = extension::<pkix::ExtendedKeyUsage>(content)?.map(|usage| usage.0);
    let mut oids: Vec<ObjectIdentifier> = purposes.unwrap_or_default();
    oids.extend(attributes.iter().map(|attribute| attribute.oid));
    oids.extend(extensions.iter().map(|extension| extension.extn_id));
    for algorithm in algorithms {
        oids.push(algorithm.oid);
        let parameters = algorithm.parameters.iter();
        for value in parameters.filter(|value| value.tag() != Tag::Null) {
            oids.push(value.decode_as()?);
        }
    }
    Ok(right_version && right_names && right_bits && oids.iter().all(is_minimal))
}

/// Whether the bits of the last byte that are not used are 0 (X.690, section 11.2.1).
fn has_zeros_behind(bits: &BitString) -> bool {
    let last = bits.raw_bytes().last();
    last.is_none_or(|last| last.trailing_zeros() >= u32::from(bits.unused_bits()))
}

/// Whether no number of an object identifier begins with zeros (X.690, section 8.19.2).
fn is_minimal(oid: &ObjectIdentifier) -> bool {
    let bytes = oid.as_bytes();
    let starts = [0].iter().chain(bytes).map(|before| before & 0x80 == 0);
    !starts
        .zip(bytes)
        .any(|(at_start, byte)| at_start && *byte == 0x80)
}

/// Whether a value of a name is a text in an encoding that CAs use, and one.
fn is_text(value: &Any) -> bool {
    let content = value.value();
    match value.tag() {
        Tag::Utf8String => str::from_utf8(content).is_ok(),
        Tag::BmpString => {
            let (units, rest) = content.as_chunks::<2>();
            let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
            rest.is_empty()
                && !units
                    .into_iter()
                    .any(|unit| (0xd800..0xe000).contains(&unit))
        }
        Tag::PrintableString | Tag::TeletexString | Tag::Ia5String => true,
        _ => false,
    }
}

fn content(der: &[u8]) -> Result<TbsCertificate> {
    Ok(x509_cert::Certificate::from_der(der)?.tbs_certificate)
}

fn extension<'a, T: Decode<'a> + AssociatedOid>(content: &'a TbsCertificate) -> Result<Option<T>> {
    Ok(content.get::<T>()?.map(|(_, extension)| extension))
}
