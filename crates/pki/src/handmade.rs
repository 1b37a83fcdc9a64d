//! Certificates written by hand, for what no library issues. Their signature is not one; nothing
//! here verifies it.

pub const UTF8_STRING: u8 = 12;
pub const PRINTABLE_STRING: u8 = 19;
pub const TELETEX_STRING: u8 = 20;
pub const UNIVERSAL_STRING: u8 = 28;
pub const BMP_STRING: u8 = 30;

/// 1.2.840.113549.1.1, the arc of RSA.
const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];

pub const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
pub const ORGANIZATION: [u8; 3] = [0x55, 4, 10];

/// The extensions, by the last arc under id-ce.
pub const SUBJECT_KEY_ID: u8 = 14;
pub const KEY_USAGE: u8 = 15;
pub const SUBJECT_ALT_NAME: u8 = 17;
pub const BASIC_CONSTRAINTS: u8 = 19;
pub const AUTHORITY_KEY_ID: u8 = 35;
pub const EXTENDED_KEY_USAGE: u8 = 37;

/// A certificate to be written; the default is a plain leaf of `CN=issuer` to `CN=subject`.
pub struct Handmade {
    /// The encoded version: one less than its number; `None` is version 1.
    pub version: Option<u8>,
    pub serial: Vec<u8>,
    pub issuer: Vec<u8>,
    /// From and to, each a whole element.
    pub validity: [Vec<u8>; 2],
    pub subject: Vec<u8>,
    pub key: Vec<u8>,
    pub signature_algorithm: Vec<u8>,
    /// Parameters of the signature algorithm, a whole element.
    pub signature_parameters: Vec<u8>,
    pub extensions: Vec<Vec<u8>>,
}

impl Default for Handmade {
    fn default() -> Self {
        Self {
            version: Some(2),
            serial: vec![1],
            issuer: name(&[(&COMMON_NAME, UTF8_STRING, b"issuer")]),
            validity: [utc_time("270101000000Z"), utc_time("280101000000Z")],
            subject: name(&[(&COMMON_NAME, UTF8_STRING, b"subject")]),
            key: ed25519(),
            signature_algorithm: rsa(11),
            signature_parameters: vec![5, 0],
            extensions: Vec::new(),
        }
    }
}

impl Handmade {
    pub fn der(&self) -> Vec<u8> {
        let version = self.version.map(|version| tlv(0xa0, tlv(2, [version])));
        let extensions = match self.extensions.is_empty() {
            true => Vec::new(),
            false => tlv(0xa3, sequence(&self.extensions)),
        };
        let algorithm = algorithm(&self.signature_algorithm, &self.signature_parameters);
        let to_be_signed = sequence(&[
            version.unwrap_or_default(),
            tlv(2, &self.serial),
            algorithm.clone(),
            self.issuer.clone(),
            sequence(&self.validity),
            self.subject.clone(),
            self.key.clone(),
            extensions,
        ]);
        sequence(&[to_be_signed, algorithm, bit_string(&[0; 64])])
    }

    /// The certificate with an extension that fills it up to `size` bytes.
    pub fn of_size(mut self, size: usize) -> Vec<u8> {
        // From here on the lengths of all enclosing elements take three bytes.
        const LONG: usize = 300;
        let position = self.extensions.len();
        self.extensions.push(extension(99, &[0; LONG]));
        let filler = size - self.der().len() + LONG;
        self.extensions[position] = extension(99, &vec![0; filler]);
        self.der()
    }
}

/// Tag, length, value.
pub fn tlv(tag: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let length = match u8::try_from(value.len()) {
        Ok(short @ 0..128) => vec![short],
        Ok(long) => vec![0x81, long],
        Err(_) => {
            let bytes = value.len().to_be_bytes();
            let significant: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            [vec![0x80 | significant.len() as u8], significant].concat()
        }
    };
    [&[tag], &*length, value].concat()
}

/// `YYMMDDHHMMSSZ`: from 1950 to 2049.
pub fn utc_time(text: &str) -> Vec<u8> {
    tlv(23, text)
}

/// `YYYYMMDDHHMMSSZ`.
pub fn generalized_time(text: &str) -> Vec<u8> {
    tlv(24, text)
}

pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, parts.concat())
}

pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(3, [&[0], bytes].concat())
}

/// A distinguished name: type, string type and text of each attribute.
pub fn name(attributes: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
    let attribute = |(oid, tag, text): &(&[u8], u8, &[u8])| {
        tlv(0x31, sequence(&[tlv(6, oid), tlv(*tag, text)]))
    };
    sequence(&attributes.iter().map(attribute).collect::<Vec<_>>())
}

/// An extension of id-ce around `value`.
pub fn extension(arc: u8, value: &[u8]) -> Vec<u8> {
    sequence(&[tlv(6, [0x55, 0x1d, arc]), tlv(4, value)])
}

/// The same, marked critical.
pub fn critical(arc: u8, value: &[u8]) -> Vec<u8> {
    sequence(&[tlv(6, [0x55, 0x1d, arc]), tlv(1, [0xff]), tlv(4, value)])
}

/// subjectAltName of URIs.
pub fn uris(uris: &[&str]) -> Vec<u8> {
    let names: Vec<_> = uris.iter().map(|uri| tlv(0x86, uri)).collect();
    extension(SUBJECT_ALT_NAME, &sequence(&names))
}

/// extKeyUsage of these purposes of id-kp.
pub fn purposes(arcs: &[u8]) -> Vec<u8> {
    let purpose = |arc: &u8| tlv(6, [0x2b, 6, 1, 5, 5, 7, 3, *arc]);
    let purposes: Vec<_> = arcs.iter().map(purpose).collect();
    extension(EXTENDED_KEY_USAGE, &sequence(&purposes))
}

/// The OID of an algorithm under 1.2.840.113549.1.1.
pub fn rsa(arc: u8) -> Vec<u8> {
    [&RSA[..], &[arc]].concat()
}

fn algorithm(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    sequence(&[tlv(6, oid), parameters.to_vec()])
}

fn ed25519() -> Vec<u8> {
    public_key(&[0x2b, 0x65, 0x70], &[], &[7; 32])
}

/// SubjectPublicKeyInfo of that algorithm.
pub fn public_key(oid: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    sequence(&[algorithm(oid, parameters), bit_string(key)])
}

/// SubjectPublicKeyInfo of an elliptic curve, with a point of `bytes` a coordinate.
pub fn elliptic_curve(curve: &[u8], bytes: usize) -> Vec<u8> {
    const ID_EC_PUBLIC_KEY: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    let point = [vec![4], vec![7; 2 * bytes]].concat();
    public_key(&ID_EC_PUBLIC_KEY, &tlv(6, curve), &point)
}

/// SubjectPublicKeyInfo of an RSA key of exactly so many bits.
pub fn rsa_key(bits: usize) -> Vec<u8> {
    // The modulus: its highest bit set, and no more than it has.
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] = 0xff >> (modulus.len() * 8 - bits);
    if bits.is_multiple_of(8) {
        modulus.insert(0, 0);
    }
    let key = sequence(&[tlv(2, modulus), tlv(2, [1, 0, 1])]);
    public_key(&rsa(1), &[5, 0], &key)
}
