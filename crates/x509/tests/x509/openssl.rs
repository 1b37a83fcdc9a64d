//! What OpenSSL makes of a certificate, by its command line.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mtls_watch_x509::describe::describe;
use mtls_watch_x509::time::UnixTime;
use mtls_watch_x509::{self as x509, KeyAlgorithm};
use regex::Regex;

/// The facts that a text of OpenSSL can be compared by.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    version: u32,
    serial: String,
    not_before: UnixTime,
    not_after: UnixTime,
    is_self_issued: bool,
    is_ca: bool,
    key_usage: Option<Vec<&'static str>>,
    extended_key_usage: Option<Vec<String>>,
    subject_alt_names: Vec<String>,
    subject_key_id: Option<String>,
    authority_key_id: Option<String>,
    /// 0 where OpenSSL does not say.
    key_bits: u32,
}

/// The usages in OpenSSL's words and in RFC 5280's.
const KEY_USAGES: [(&str, &str); 9] = [
    ("Digital Signature", "digitalSignature"),
    ("Non Repudiation", "nonRepudiation"),
    ("Key Encipherment", "keyEncipherment"),
    ("Data Encipherment", "dataEncipherment"),
    ("Key Agreement", "keyAgreement"),
    ("Certificate Sign", "keyCertSign"),
    ("CRL Sign", "cRLSign"),
    ("Encipher Only", "encipherOnly"),
    ("Decipher Only", "decipherOnly"),
];
const PURPOSES: [(&str, &str); 7] = [
    ("TLS Web Server Authentication", "serverAuth"),
    ("TLS Web Client Authentication", "clientAuth"),
    ("Code Signing", "codeSigning"),
    ("E-mail Protection", "emailProtection"),
    ("Time Stamping", "timeStamping"),
    ("OCSP Signing", "OCSPSigning"),
    ("Any Extended Key Usage", "anyExtendedKeyUsage"),
];

impl Facts {
    /// As OpenSSL reads it; `None` if it does not.
    pub fn by_openssl(der: &[u8]) -> Option<Self> {
        let show = [
            "x509", "-inform", "DER", "-noout", "-text", "-dates", "-serial",
        ];
        let more = [
            "-dateopt",
            "iso_8601",
            "-nameopt",
            "RFC2253",
            "-certopt",
            "no_sigdump",
        ];
        let hashes = ["-subject_hash", "-issuer_hash"];
        // Long numbers go on in the next line.
        let text = run(&[&show[..], &more, &hashes].concat(), der)?.replace("\\\n", "");
        let find = |pattern: &str| {
            let found = Regex::new(pattern).unwrap().captures(&text)?;
            Some(found[1].trim().to_owned())
        };
        let extension = |name: &str| find(&format!("X509v3 {name}: (?:critical)?\n *(.*)\n"));
        let list = |text: String| text.split(", ").map(str::to_owned).collect::<Vec<_>>();
        let time = |name| {
            let text = find(&format!("{name}=(.*)")).unwrap();
            text.parse().unwrap()
        };
        let key_id = |name| {
            let id = extension(name)?;
            let id = id
                .trim_start_matches("keyid:")
                .replace(':', "")
                .to_lowercase();
            id.chars()
                .all(|digit| digit.is_ascii_hexdigit())
                .then_some(id)
        };
        let names = |words: &str| {
            let found = PURPOSES.iter().find(|(theirs, _)| *theirs == words);
            found.map_or(words, |(_, ours)| ours).to_owned()
        };
        let hashes: Vec<&str> = text.lines().rev().take(2).collect();
        Some(Self {
            version: find(r"Version: (\d)")?.parse().ok()?,
            serial: find("serial=(.*)")?.to_lowercase(),
            not_before: time("notBefore"),
            not_after: time("notAfter"),
            is_self_issued: hashes[0] == hashes[1],
            is_ca: extension("Basic Constraints").is_some_and(|text| text.contains("CA:TRUE")),
            key_usage: extension("Key Usage").map(|text| {
                let words = list(text);
                let has = |(theirs, _): &&(&str, &str)| words.iter().any(|word| word == theirs);
                KEY_USAGES
                    .iter()
                    .filter(has)
                    .map(|(_, ours)| *ours)
                    .collect()
            }),
            extended_key_usage: extension("Extended Key Usage")
                .map(|text| list(text).iter().map(|word| names(word)).collect()),
            subject_alt_names: extension("Subject Alternative Name")
                .map(|text| list(text).iter().map(|name| general_name(name)).collect())
                .unwrap_or_default(),
            subject_key_id: key_id("Subject Key Identifier"),
            authority_key_id: key_id("Authority Key Identifier"),
            key_bits: find(r"Public-Key: \((\d+) bit").map_or(0, |bits| bits.parse().unwrap()),
        })
    }

    /// The same facts as mtls-watch has them.
    pub fn of(der: &[u8]) -> Result<Self, x509::ParseError> {
        let facts = x509::parse(der)?;
        let words = describe(der)?;
        let id = |id: &Option<Box<[u8]>>| id.as_ref().map(|id| pki::fixtures::hex(id));
        Ok(Self {
            version: facts.version,
            serial: words.serial,
            not_before: facts.not_before,
            not_after: facts.not_after,
            is_self_issued: facts.is_self_issued(),
            is_ca: facts.is_ca,
            key_usage: words.key_usage,
            extended_key_usage: words.extended_key_usage,
            subject_alt_names: words.subject_alt_names,
            subject_key_id: id(&facts.links.subject_key_id),
            authority_key_id: id(&facts.links.authority_key_id),
            key_bits: match facts.public_key.algorithm {
                KeyAlgorithm::Rsa | KeyAlgorithm::Ec => facts.public_key.bits,
                _ => 0,
            },
        })
    }
}

/// A name of OpenSSL's list as mtls-watch writes it.
fn general_name(name: &str) -> String {
    let (kind, value) = name.trim().split_once(':').unwrap_or((name, ""));
    match kind {
        "IP Address" => {
            let address: std::net::IpAddr = value.parse().unwrap_or_else(|_| v6(value));
            format!("IP:{address}")
        }
        "Registered ID" => format!("RID:{value}"),
        "othername" => format!(
            "otherName:{}",
            value.trim().split(':').next().unwrap_or_default()
        ),
        _ => name.trim().to_owned(),
    }
}

/// OpenSSL writes the groups of an address without leaving any out.
fn v6(text: &str) -> std::net::IpAddr {
    let groups: Vec<u16> = text
        .split(':')
        .map(|group| u16::from_str_radix(group, 16).unwrap())
        .collect();
    <[u16; 8]>::try_from(groups).unwrap().into()
}

/// A certificate that `openssl req -x509` issues with these arguments. Its key is thrown away.
pub fn issue(arguments: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key.pem");
    let request = [
        "req",
        "-x509",
        "-nodes",
        "-outform",
        "DER",
        "-subj",
        "/CN=subject",
    ];
    let all = [&request[..], &["-keyout", path(&key)], arguments].concat();
    let output = openssl().args(&all).output().expect(MISSING);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    output.stdout
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

const MISSING: &str = "no openssl: run `make tools`";

/// `OPENSSL` if set, else what `make tools` has provided, else that of the PATH. The testbed, which knows
/// all tools, is too large for this crate.
fn openssl() -> Command {
    let provided = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/openssl");
    let given = env::var_os("OPENSSL").filter(|path| !path.is_empty());
    Command::new(match given {
        Some(path) => path.into(),
        None if provided.is_file() => provided,
        None => PathBuf::from("openssl"),
    })
}

/// What OpenSSL prints; `None` if it fails.
fn run(arguments: &[&str], input: &[u8]) -> Option<String> {
    let mut openssl = openssl();
    openssl
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = openssl.spawn().expect(MISSING);
    // Whoever does not want it all has closed the pipe.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
