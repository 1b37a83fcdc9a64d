//! Certificate authorities and the leaves they issue: sound ones by default, and every defect
//! that mtls-watch is to find on request.

pub mod fixtures;
pub mod handmade;
pub mod issuers;
mod key;
pub mod lax;

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, IsCa, Issuer, OtherNameValue, RevokedCertParams, SanType,
    SerialNumber,
};
use rsa::rand_core::{OsRng, RngCore};
use rustls_pki_types::CertificateDer;
use tempfile::NamedTempFile;
use time::OffsetDateTime;

pub use key::{Key, KeyKind};
pub use rcgen::{ExtendedKeyUsagePurpose as ExtendedKeyUsage, KeyUsagePurpose as KeyUsage};

/// Seconds in a minute, to write lifetimes with.
pub const MINUTE: i64 = 60;
/// Seconds in an hour, to write lifetimes with.
pub const HOUR: i64 = 60 * MINUTE;
/// Seconds in a day, to write lifetimes with.
pub const DAY: i64 = 24 * HOUR;

/// The current time in Unix seconds.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// From when to when a certificate is valid, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// First second of validity.
    pub not_before: i64,
    /// Last second of validity.
    pub not_after: i64,
}

impl Lifetime {
    /// A lifetime relative to the current time, both ends in seconds: `(-HOUR, 10 * DAY)`.
    pub fn from_now(not_before: i64, not_after: i64) -> Self {
        let now = now();
        Self {
            not_before: now + not_before,
            not_after: now + not_after,
        }
    }

    /// One that began an hour ago and lasts another `days`; negative: it has run out.
    pub fn days(days: i64) -> Self {
        let began = if days < 0 { days * DAY - DAY } else { -HOUR };
        Self::from_now(began, days * DAY)
    }

    fn apply(self, params: &mut CertificateParams) -> Result<()> {
        params.not_before = OffsetDateTime::from_unix_timestamp(self.not_before)?;
        params.not_after = OffsetDateTime::from_unix_timestamp(self.not_after)?;
        Ok(())
    }
}

/// A certificate authority.
#[derive(Clone, Debug)]
pub struct Ca {
    params: CertificateParams,
    key: Key,
    /// Its own certificate first, its root last.
    path: Vec<CertificateDer<'static>>,
}

impl Ca {
    /// Starts a self-signed CA: valid for ten years, keyCertSign and cRLSign, no EKU.
    pub fn root(common_name: &str) -> CaBuilder {
        CaBuilder::new(None, common_name)
    }

    /// Starts a CA that this one signs, with the same defaults, but valid as long as this one.
    pub fn subordinate(&self, common_name: &str) -> CaBuilder {
        CaBuilder::new(Some(self.clone()), common_name)
    }

    /// Starts a leaf that this CA signs.
    pub fn leaf(&self) -> LeafBuilder {
        LeafBuilder::new(Some(self.clone()))
    }

    /// The CA's certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.path[0]
    }

    /// The CA's certificate as PEM.
    pub fn pem(&self) -> String {
        to_pem(&self.path[..1])
    }

    /// The key, to renew the CA under the same one: `Ca::root(name).key(old.key())`.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The subject key identifier, lower case hex. Its first eight digits are in the CA's name
    /// in the metrics.
    pub fn key_identifier(&self) -> String {
        let identifier = self.params.key_identifier(&self.key);
        identifier
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// A revocation list of this CA that names `revoked`, as PEM; it is valid for a day.
    ///
    /// # Errors
    /// If the CA may not sign one (cRLSign).
    pub fn revocation_list(&self, revoked: &[&Identity]) -> Result<String> {
        self.revocation_list_for(Lifetime::days(1), revoked)
    }

    /// The same, valid from when to when.
    ///
    /// # Errors
    /// As [`Ca::revocation_list`], and if the lifetime is outside the years 0 to 9999.
    pub fn revocation_list_for(&self, valid: Lifetime, revoked: &[&Identity]) -> Result<String> {
        let this_update = OffsetDateTime::from_unix_timestamp(valid.not_before)?;
        let entry = |identity: &&Identity| RevokedCertParams {
            serial_number: identity.serial.clone(),
            revocation_time: this_update,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update,
            next_update: OffsetDateTime::from_unix_timestamp(valid.not_after)?,
            crl_number: random_serial(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: self.params.key_identifier_method.clone(),
        };
        let der = list.signed_by(&self.issuer())?.der().to_vec();
        Ok(pem_block("X509 CRL", der))
    }

    fn lifetime(&self) -> Lifetime {
        Lifetime {
            not_before: self.params.not_before.unix_timestamp(),
            not_after: self.params.not_after.unix_timestamp(),
        }
    }

    fn issuer(&self) -> Issuer<'_, &Key> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// Settings of a CA to be issued.
#[derive(Clone, Debug)]
pub struct CaBuilder {
    parent: Option<Ca>,
    params: CertificateParams,
    lifetime: Lifetime,
    key: KeyChoice,
}

impl CaBuilder {
    fn new(parent: Option<Ca>, common_name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsage::KeyCertSign, KeyUsage::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let lifetime = parent.as_ref().map(Ca::lifetime);
        Self {
            parent,
            params,
            lifetime: lifetime.unwrap_or(Lifetime::days(3650)),
            key: KeyChoice::default(),
        }
    }

    /// Valid from when to when.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The extended key usages; none: no such extension.
    pub fn extended_key_usages(mut self, usages: &[ExtendedKeyUsage]) -> Self {
        self.params.extended_key_usages = usages.to_vec();
        self
    }

    /// The key usages; none: no such extension.
    pub fn key_usages(mut self, usages: &[KeyUsage]) -> Self {
        self.params.key_usages = usages.to_vec();
        self
    }

    /// Leaves cA false: a certificate that must not sign others, and does.
    pub fn without_ca_flag(mut self) -> Self {
        self.params.is_ca = IsCa::ExplicitNoCa;
        self
    }

    /// One more extension, with this value as DER.
    pub fn extension_with(mut self, oid: &[u64], critical: bool, value: &[u8]) -> Self {
        let extensions = &mut self.params.custom_extensions;
        extensions.push(custom_extension(oid, critical, value));
        self
    }

    /// At most this many CAs may follow below it.
    pub fn path_length(mut self, length: u8) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
        self
    }

    /// This serial number, big-endian, instead of a random one.
    pub fn serial_number(mut self, number: &[u8]) -> Self {
        self.params.serial_number = Some(number.to_vec().into());
        self
    }

    /// A new key of this kind.
    pub fn key_kind(mut self, kind: KeyKind) -> Self {
        self.key = KeyChoice::Generate(kind);
        self
    }

    /// This key instead of a new one.
    pub fn key(mut self, key: &Key) -> Self {
        self.key = KeyChoice::Given(key.clone());
        self
    }

    /// Issues the CA's certificate.
    ///
    /// # Errors
    /// If the lifetime is outside the years 0 to 9999, or key generation fails.
    pub fn issue(mut self) -> Result<Ca> {
        self.lifetime.apply(&mut self.params)?;
        self.params.serial_number.get_or_insert_with(random_serial);
        let key = self.key.take()?;
        let (certificate, above) = match &self.parent {
            None => (self.params.self_signed(&key)?, Vec::new()),
            Some(parent) => (
                self.params.signed_by(&key, &parent.issuer())?,
                parent.path.clone(),
            ),
        };
        let path = [vec![certificate.into()], above].concat();
        Ok(Ca {
            params: self.params,
            key,
            path,
        })
    }
}

/// The usual mesh PKI: a root, an intermediate and the CA that issues workload certificates.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// `Root CA`, self-signed.
    pub root: Ca,
    /// `Intermediate CA`, signed by the root.
    pub intermediate: Ca,
    /// `Issuing CA`, signed by the intermediate.
    pub issuing: Ca,
}

impl Hierarchy {
    /// Issues all three, valid for ten years.
    ///
    /// # Errors
    /// As [`CaBuilder::issue`].
    pub fn new() -> Result<Self> {
        let root = Ca::root("Root CA").issue()?;
        let intermediate = root.subordinate("Intermediate CA").issue()?;
        let issuing = intermediate.subordinate("Issuing CA").issue()?;
        Ok(Self {
            root,
            intermediate,
            issuing,
        })
    }

    /// Starts a leaf of the issuing CA.
    pub fn leaf(&self) -> LeafBuilder {
        self.issuing.leaf()
    }

    /// The trust bundle that holds the root.
    pub fn trust_bundle(&self) -> TrustBundle {
        TrustBundle::of([&self.root])
    }
}

/// Settings of a leaf to be issued.
///
/// By default what a mesh's CA issues, but for the names: P-256, a day's lifetime that began an
/// hour ago, digitalSignature and keyEncipherment, serverAuth and clientAuth, cA false, empty
/// subject, no SAN, AKI of the issuer.
#[derive(Clone, Debug)]
pub struct LeafBuilder {
    issuer: Option<Ca>,
    params: CertificateParams,
    lifetime: Lifetime,
    key: KeyChoice,
    names: Vec<Name>,
    sha1: bool,
    version_1: bool,
}

#[derive(Clone, Debug)]
enum Name {
    Uri(String),
    Dns(String),
    Ip(IpAddr),
    Email(String),
    Upn(String),
}

impl LeafBuilder {
    fn new(issuer: Option<Ca>) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Self {
            issuer,
            params,
            lifetime: Lifetime::days(1),
            key: KeyChoice::default(),
            names: Vec::new(),
            sha1: false,
            version_1: false,
        }
    }

    /// Starts a leaf that signs itself.
    pub fn self_signed() -> Self {
        Self::new(None)
    }

    /// The subject's common name.
    pub fn common_name(mut self, name: &str) -> Self {
        self.params
            .distinguished_name
            .push(DnType::CommonName, name);
        self
    }

    /// The subject's organization.
    pub fn organization(mut self, name: &str) -> Self {
        let subject = &mut self.params.distinguished_name;
        subject.push(DnType::OrganizationName, name);
        self
    }

    /// One more URI SAN; a SPIFFE ID is one.
    pub fn uri(mut self, uri: &str) -> Self {
        self.names.push(Name::Uri(uri.to_owned()));
        self
    }

    /// One more DNS SAN.
    pub fn dns(mut self, name: &str) -> Self {
        self.names.push(Name::Dns(name.to_owned()));
        self
    }

    /// One more IP SAN.
    pub fn ip(mut self, address: IpAddr) -> Self {
        self.names.push(Name::Ip(address));
        self
    }

    /// One more e-mail SAN.
    pub fn email(mut self, address: &str) -> Self {
        self.names.push(Name::Email(address.to_owned()));
        self
    }

    /// One more otherName SAN with a user principal name, as Active Directory writes it.
    pub fn user_principal_name(mut self, name: &str) -> Self {
        self.names.push(Name::Upn(name.to_owned()));
        self
    }

    /// The subject's serialNumber, which devices have (IEEE 802.1AR).
    pub fn serial_attribute(mut self, number: &str) -> Self {
        let subject = &mut self.params.distinguished_name;
        subject.push(DnType::CustomDnType(vec![2, 5, 4, 5]), number);
        self
    }

    /// An extension of this OID, which nobody knows.
    pub fn extension(mut self, oid: &[u64], critical: bool) -> Self {
        let mut extension = CustomExtension::from_oid_content(oid, vec![5, 0]);
        extension.set_criticality(critical);
        self.params.custom_extensions.push(extension);
        self
    }

    /// Valid from when to when.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The extended key usages; none: no such extension.
    pub fn extended_key_usages(mut self, usages: &[ExtendedKeyUsage]) -> Self {
        self.params.extended_key_usages = usages.to_vec();
        self
    }

    /// The key usages; none: no such extension.
    pub fn key_usages(mut self, usages: &[KeyUsage]) -> Self {
        self.params.key_usages = usages.to_vec();
        self
    }

    /// One more extension, with this value as DER.
    pub fn extension_with(mut self, oid: &[u64], critical: bool, value: &[u8]) -> Self {
        let extensions = &mut self.params.custom_extensions;
        extensions.push(custom_extension(oid, critical, value));
        self
    }

    /// Sets cA true, which no leaf should.
    pub fn ca_flag(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    /// Leaves the authority key identifier out.
    pub fn without_authority_key_identifier(mut self) -> Self {
        self.params.use_authority_key_identifier_extension = false;
        self
    }

    /// This serial number, big-endian, instead of a random one.
    pub fn serial_number(mut self, number: &[u8]) -> Self {
        self.params.serial_number = Some(number.to_vec().into());
        self
    }

    /// Has the CA sign with SHA-1. Its key must be an RSA key.
    pub fn sha1_signature(mut self) -> Self {
        self.sha1 = true;
        self
    }

    /// In X.509 version 1, without extensions. The CA's key must not be RSA.
    pub fn version_1(mut self) -> Self {
        self.version_1 = true;
        self
    }

    /// A new key of this kind.
    pub fn key_kind(mut self, kind: KeyKind) -> Self {
        self.key = KeyChoice::Generate(kind);
        self
    }

    /// This key instead of a new one.
    pub fn key(mut self, key: &Key) -> Self {
        self.key = KeyChoice::Given(key.clone());
        self
    }

    /// Issues the leaf.
    ///
    /// # Errors
    /// If a SAN is not ASCII, the lifetime is outside the years 0 to 9999, or key generation
    /// fails.
    pub fn issue(mut self) -> Result<Identity> {
        self.lifetime.apply(&mut self.params)?;
        let serial = self.params.serial_number.get_or_insert_with(random_serial);
        let serial = serial.clone();
        self.params.subject_alt_names = san_types(&self.names)?;
        let key = self.key.take()?;
        let (mut leaf, above) = match &self.issuer {
            None => (self.params.self_signed(&key)?.into(), Vec::new()),
            Some(ca) => (
                CertificateDer::from(self.params.signed_by(&key, &ca.issuer())?),
                ca.path.clone(),
            ),
        };
        let signer = self.issuer.as_ref().map_or(&key, |ca| &ca.key);
        if self.sha1 {
            leaf = signed_with_sha1(&leaf, signer)?;
        }
        if self.version_1 {
            leaf = lax::signed_again(&leaf, &lax::version_1(&leaf), signer)?.into();
        }
        let (root, chain) = match above.split_last() {
            Some((root, below)) => (Some(root.clone()), below.to_vec()),
            None => (None, Vec::new()),
        };
        Ok(Identity {
            leaf,
            chain,
            root,
            key,
            serial,
        })
    }
}

/// A leaf with its key and the certificates that lead to its root: what a peer presents.
#[derive(Clone, Debug)]
pub struct Identity {
    leaf: CertificateDer<'static>,
    /// The CAs between leaf and root, issuing CA first.
    chain: Vec<CertificateDer<'static>>,
    root: Option<CertificateDer<'static>>,
    key: Key,
    serial: SerialNumber,
}

impl Identity {
    /// The leaf.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.leaf
    }

    /// The private key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What is presented in a handshake: the leaf first, then its CAs.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        [vec![self.leaf.clone()], self.chain.clone()].concat()
    }

    /// The leaf as PEM.
    pub fn leaf_pem(&self) -> String {
        to_pem([&self.leaf])
    }

    /// [`Identity::chain`] as PEM.
    pub fn chain_pem(&self) -> String {
        to_pem(&self.chain())
    }

    /// The private key as PKCS#8 PEM.
    ///
    /// # Errors
    /// As [`Key::pkcs8_der`].
    pub fn key_pem(&self) -> Result<String> {
        self.key.pkcs8_pem()
    }

    /// The same identity, presenting its root as well.
    pub fn with_root(mut self) -> Self {
        self.chain.extend(self.root.take());
        self
    }

    /// The same identity, presenting nothing but the leaf.
    pub fn leaf_only(mut self) -> Self {
        self.chain.clear();
        self
    }

    /// The same identity, presenting these after the leaf.
    pub fn sending(mut self, certificates: &[&CertificateDer<'static>]) -> Self {
        self.chain = certificates.iter().map(|der| (*der).clone()).collect();
        self
    }

    /// The same identity with its leaf edited, and signed again by `ca` as it is now.
    ///
    /// # Errors
    /// If the CA's key is RSA.
    pub fn with_leaf(mut self, der: &[u8], ca: &Ca) -> Result<Self> {
        self.leaf = lax::signed_again(&self.leaf, der, &ca.key)?.into();
        Ok(self)
    }

    /// The same key, presenting a chain (DER, leaf first) that is not of it: a handshake gets as far as the signature.
    pub fn showing(mut self, leaf: Vec<u8>, chain: Vec<Vec<u8>>) -> Self {
        self.leaf = leaf.into();
        self.chain = chain.into_iter().map(Into::into).collect();
        self
    }

    /// The same identity, but its leaf's signature does not verify.
    pub fn with_bad_signature(mut self) -> Self {
        let mut der = self.leaf.to_vec();
        if let Some(last) = der.last_mut() {
            *last ^= 1;
        }
        self.leaf = der.into();
        self
    }

    /// The same identity with `from` for `to` in its leaf, which must be as long; the signature
    /// does not verify any more. For what no library writes.
    pub fn with_replaced(mut self, from: &[u8], to: &[u8]) -> Self {
        assert_eq!(from.len(), to.len(), "lengths are part of the encoding");
        let mut der = self.leaf.to_vec();
        for at in 0..=der.len().saturating_sub(from.len()) {
            if der[at..].starts_with(from) {
                der[at..at + to.len()].copy_from_slice(to);
            }
        }
        self.leaf = der.into();
        self
    }

    /// Writes `tls.crt` (the chain) and `tls.key` into `directory`, replacing what is there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_to(&self, directory: &Path) -> Result<IdentityFiles> {
        Ok(IdentityFiles {
            certificate: write(directory, "tls.crt", &self.chain_pem())?,
            key: write(directory, "tls.key", &self.key_pem()?)?,
        })
    }
}

/// Where an identity was written.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    /// `tls.crt`, the chain as PEM.
    pub certificate: PathBuf,
    /// `tls.key`, the key as PKCS#8 PEM.
    pub key: PathBuf,
}

/// The roots that a peer trusts.
#[derive(Clone, Debug, Default)]
pub struct TrustBundle {
    roots: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// A bundle of these CAs' own certificates.
    pub fn of<'a>(cas: impl IntoIterator<Item = &'a Ca>) -> Self {
        Self {
            roots: cas.into_iter().map(|ca| ca.der().clone()).collect(),
        }
    }

    /// A bundle of these certificates, leaves as well.
    pub fn of_certificates(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Self {
        Self {
            roots: certificates.into_iter().collect(),
        }
    }

    /// The certificates.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The certificates as one PEM text.
    pub fn pem(&self) -> String {
        to_pem(&self.roots)
    }

    /// Writes `ca.crt` into `directory`, replacing what is there.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_to(&self, directory: &Path) -> Result<PathBuf> {
        write(directory, "ca.crt", &self.pem())
    }
}

#[derive(Clone, Debug)]
enum KeyChoice {
    Generate(KeyKind),
    Given(Key),
}

impl Default for KeyChoice {
    fn default() -> Self {
        Self::Generate(KeyKind::default())
    }
}

impl KeyChoice {
    fn take(&self) -> Result<Key> {
        match self {
            Self::Generate(kind) => Key::generate(*kind),
            Self::Given(key) => Ok(key.clone()),
        }
    }
}

fn san_types(names: &[Name]) -> Result<Vec<SanType>> {
    let san_type = |name: &Name| {
        Ok(match name {
            Name::Uri(uri) => SanType::URI(uri.as_str().try_into()?),
            Name::Dns(dns) => SanType::DnsName(dns.as_str().try_into()?),
            Name::Ip(address) => SanType::IpAddress(*address),
            Name::Email(address) => SanType::Rfc822Name(address.as_str().try_into()?),
            Name::Upn(name) => SanType::OtherName((
                vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3],
                OtherNameValue::Utf8String(name.clone()),
            )),
        })
    };
    names.iter().map(san_type).collect()
}

fn custom_extension(oid: &[u64], critical: bool, value: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, value.to_vec());
    extension.set_criticality(critical);
    extension
}

fn random_serial() -> SerialNumber {
    let mut serial = [0; 16];
    OsRng.fill_bytes(&mut serial);
    serial.to_vec().into()
}

/// The same certificate, signed with SHA-1 instead of SHA-256: rcgen does not sign with it.
fn signed_with_sha1(der: &[u8], signer: &Key) -> Result<CertificateDer<'static>> {
    // The algorithm identifiers of PKCS#1 (RFC 8017, appendix C) differ in their last byte.
    const SHA256_WITH_RSA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
    const SHA1_BYTE: u8 = 0x05;
    let mut der = der.to_vec();
    for at in 0..der.len() - SHA256_WITH_RSA.len() {
        if der[at..].starts_with(&SHA256_WITH_RSA) {
            der[at + SHA256_WITH_RSA.len() - 1] = SHA1_BYTE;
        }
    }
    let signature = signer.sign_with_sha1(to_be_signed(&der)?)?;
    let end = der.len();
    der[end - signature.len()..].copy_from_slice(&signature);
    Ok(der.into())
}

/// The first element within a certificate's outer sequence. Both have lengths of two bytes.
fn to_be_signed(certificate: &[u8]) -> Result<&[u8]> {
    let Some([0x30, 0x82, high, low]) = certificate.get(4..8) else {
        bail!("a certificate of an unusual size");
    };
    let end = 8 + usize::from(u16::from_be_bytes([*high, *low]));
    certificate.get(4..end).context("a certificate cut short")
}

/// Certificates as PEM, one after the other, in their order.
pub fn to_pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let block = |der: &CertificateDer| pem_block("CERTIFICATE", der.to_vec());
    certificates.into_iter().map(block).collect()
}

pub(crate) fn pem_block(label: &str, der: Vec<u8>) -> String {
    let line_ending = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), line_ending)
}

/// Writes by renaming: Envoy never sees half a file, and reloads on nothing but a rename.
fn write(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(&path)
        .with_context(|| format!("{}: cannot write", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(der: &[u8], needle: &[u8]) -> bool {
        der.windows(needle.len()).any(|window| window == needle)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    #[test]
    fn lifetimes_reach_from_1950_to_9999() -> Result<()> {
        let lifetime = Lifetime {
            not_before: -631_152_000,
            not_after: 253_402_300_799,
        };
        let leaf = LeafBuilder::self_signed().lifetime(lifetime).issue()?;
        assert!(contains(leaf.der(), b"500101000000Z"));
        assert!(contains(leaf.der(), b"99991231235959Z"));
        Ok(())
    }

    #[test]
    fn key_identifiers_tell_cas_of_one_name_apart() -> Result<()> {
        let old = Ca::root("Root CA").issue()?;
        let new = Ca::root("Root CA").issue()?;
        let renewed = Ca::root("Root CA").key(old.key()).issue()?;
        assert_ne!(old.key_identifier(), new.key_identifier());
        assert_eq!(old.key_identifier(), renewed.key_identifier());
        assert_ne!(old.der(), renewed.der());
        Ok(())
    }

    #[test]
    fn the_authority_key_identifier_is_that_of_the_issuer() -> Result<()> {
        let ca = Ca::root("Root CA").issue()?;
        let identifier = bytes(&ca.key_identifier());
        assert!(contains(ca.der(), &identifier));
        assert!(contains(ca.leaf().issue()?.der(), &identifier));
        let without = ca.leaf().without_authority_key_identifier().issue()?;
        assert!(!contains(without.der(), &identifier));
        Ok(())
    }

    #[test]
    fn chains_begin_with_the_leaf_and_stop_below_the_root() -> Result<()> {
        let hierarchy = Hierarchy::new()?;
        let leaf = hierarchy.leaf().issue()?;
        let (issuing, intermediate) = (hierarchy.issuing.der(), hierarchy.intermediate.der());
        let chain = [leaf.der(), issuing, intermediate].map(Clone::clone);
        assert_eq!(leaf.chain(), chain);
        assert_eq!(
            leaf.clone().with_root().chain().last(),
            Some(hierarchy.root.der())
        );
        assert_eq!(leaf.clone().leaf_only().chain(), chain[..1]);
        Ok(())
    }
}
