//! SPIFFE IDs and X.509-SVIDs, by the standards of the SPIFFE project (SPIFFE-ID, X509-SVID).

use std::fmt;

use crate::usage::KeyUsage;

/// Longest SPIFFE ID in bytes (SPIFFE-ID, section 2.3).
const MAX_ID_BYTES: usize = 2048;
/// Longest trust domain in bytes (SPIFFE-ID, section 2.1).
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// Whether a certificate is an X.509-SVID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Svid {
    /// No `spiffe:` URI SAN: the rules do not apply.
    No,
    /// The rules for a leaf are kept.
    Valid,
    /// It has a `spiffe:` URI SAN, but a rule for leaves is broken.
    Invalid(InvalidSvid),
}

/// Which rule for X.509-SVID leaves is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidSvid {
    /// More than one URI SAN (X509-SVID, section 2).
    SeveralUris,
    /// The ID is longer than 2048 bytes.
    TooLong,
    /// The trust domain is empty, too long or has other characters than `a-z 0-9 . - _`.
    TrustDomain,
    /// The path is empty, or a segment is empty, `.`, `..` or has other characters than
    /// `A-Z a-z 0-9 . - _`.
    Path,
    /// A leaf with cA true (X509-SVID, section 4.1).
    IsCa,
    /// No key usage, or not marked critical (X509-SVID, section 4.3).
    KeyUsage,
    /// A leaf with keyCertSign or cRLSign (X509-SVID, section 4.3).
    CaKeyUsage,
}

impl fmt::Display for InvalidSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SeveralUris => "more than one URI SAN",
            Self::TooLong => "SPIFFE ID longer than 2048 bytes",
            Self::TrustDomain => "invalid trust domain",
            Self::Path => "invalid path",
            Self::IsCa => "cA is true in a leaf",
            Self::KeyUsage => "no key usage that is marked critical",
            Self::CaKeyUsage => "keyCertSign or cRLSign in a leaf",
        })
    }
}

/// Whether a URI SAN claims to be a SPIFFE ID. The scheme is compared as URIs do (RFC 3986, section
/// 3.1), so that `SPIFFE://` is a claim, though not a valid one.
#[must_use]
pub fn is_spiffe_uri(uri: &str) -> bool {
    uri.get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// Judges a leaf by its URI SANs and what it may be used for.
#[must_use]
pub fn judge(uris: &[&str], is_ca: bool, key_usage: Option<KeyUsage>) -> Svid {
    let Some(id) = uris.iter().find(|uri| is_spiffe_uri(uri)) else {
        return Svid::No;
    };
    if uris.len() > 1 {
        return Svid::Invalid(InvalidSvid::SeveralUris);
    }
    if is_ca {
        return Svid::Invalid(InvalidSvid::IsCa);
    }
    match validate_id(id).and_then(|()| validate_key_usage(key_usage)) {
        Ok(()) => Svid::Valid,
        Err(broken) => Svid::Invalid(broken),
    }
}

/// The trust domain of a SPIFFE ID, of a workload or of the domain itself; `None` if it is none.
#[must_use]
pub fn trust_domain(id: &str) -> Option<&str> {
    let rest = id.strip_prefix("spiffe://")?;
    let domain = rest.split_once('/').map_or(rest, |(domain, _)| domain);
    (!domain.is_empty()).then_some(domain)
}

/// That a leaf may sign handshakes is not asked here: it is wanted of every leaf.
fn validate_key_usage(usage: Option<KeyUsage>) -> Result<(), InvalidSvid> {
    match usage {
        Some(usage) if usage.cert_sign || usage.crl_sign => Err(InvalidSvid::CaKeyUsage),
        Some(KeyUsage { critical: true, .. }) => Ok(()),
        Some(_) | None => Err(InvalidSvid::KeyUsage),
    }
}

/// Checks the SPIFFE ID of a workload: `spiffe://<trust domain>/<path>`.
///
/// # Errors
/// Names the rule that is broken.
pub fn validate_id(id: &str) -> Result<(), InvalidSvid> {
    if id.len() > MAX_ID_BYTES {
        return Err(InvalidSvid::TooLong);
    }
    let rest = id.as_bytes().strip_prefix(b"spiffe://");
    let mut segments = rest.unwrap_or_default().split(|byte| *byte == b'/');
    let trust_domain = segments.next().unwrap_or_default();
    let domain_ok = !trust_domain.is_empty()
        && trust_domain.len() <= MAX_TRUST_DOMAIN_BYTES
        && trust_domain
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'));
    if !domain_ok {
        return Err(InvalidSvid::TrustDomain);
    }
    // Without a path there is one empty segment.
    let first = segments.next().unwrap_or_default();
    if valid_segment(first) && segments.all(valid_segment) {
        Ok(())
    } else {
        Err(InvalidSvid::Path)
    }
}

fn valid_segment(segment: &[u8]) -> bool {
    !matches!(segment, b"" | b"." | b"..")
        && segment
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: KeyUsage = KeyUsage {
        digital_signature: true,
        cert_sign: false,
        crl_sign: false,
        critical: true,
    };

    fn judge(uris: &[&str], is_ca: bool) -> Svid {
        super::judge(uris, is_ca, Some(USAGE))
    }

    #[test]
    fn the_key_usage_of_an_svid_is_critical_and_not_that_of_a_ca() {
        let (cert_sign, crl_sign) = (true, true);
        for (usage, broken) in [
            (None, InvalidSvid::KeyUsage),
            (
                Some(KeyUsage {
                    critical: false,
                    ..USAGE
                }),
                InvalidSvid::KeyUsage,
            ),
            (
                Some(KeyUsage { cert_sign, ..USAGE }),
                InvalidSvid::CaKeyUsage,
            ),
            (
                Some(KeyUsage { crl_sign, ..USAGE }),
                InvalidSvid::CaKeyUsage,
            ),
        ] {
            let svid = super::judge(&["spiffe://a/b"], false, usage);
            assert_eq!(svid, Svid::Invalid(broken), "{usage:?}");
            assert_eq!(super::judge(&["https://a/b"], false, usage), Svid::No);
        }
    }

    #[test]
    fn the_trust_domain_is_the_first_part() {
        for (id, domain) in [
            ("spiffe://example.org/ns/shop", Some("example.org")),
            ("spiffe://example.org", Some("example.org")),
            ("spiffe:///ns/shop", None),
            ("https://example.org/ns", None),
            ("example.org", None),
        ] {
            assert_eq!(trust_domain(id), domain, "{id}");
        }
    }

    #[test]
    fn accepts_the_ids_of_workloads() {
        for id in [
            "spiffe://cluster.local/ns/shop/sa/pay",
            "spiffe://a/b",
            "spiffe://trust_domain-1/a.b/..c/Z_9",
        ] {
            assert_eq!(judge(&[id], false), Svid::Valid, "{id}");
        }
    }

    #[test]
    fn names_the_broken_rule() {
        for (id, broken) in [
            ("spiffe://", InvalidSvid::TrustDomain),
            ("spiffe:///a", InvalidSvid::TrustDomain),
            ("spiffe:a", InvalidSvid::TrustDomain),
            ("SPIFFE://a/b", InvalidSvid::TrustDomain),
            ("spiffe://Cluster.local/a", InvalidSvid::TrustDomain),
            ("spiffe://a:80/b", InvalidSvid::TrustDomain),
            ("spiffe://u@a/b", InvalidSvid::TrustDomain),
            ("spiffe://a", InvalidSvid::Path),
            ("spiffe://a/", InvalidSvid::Path),
            ("spiffe://a/b/", InvalidSvid::Path),
            ("spiffe://a//b", InvalidSvid::Path),
            ("spiffe://a/../b", InvalidSvid::Path),
            ("spiffe://a/b?q", InvalidSvid::Path),
            ("spiffe://a/b#f", InvalidSvid::Path),
            ("spiffe://a/b%41", InvalidSvid::Path),
        ] {
            assert_eq!(judge(&[id], false), Svid::Invalid(broken), "{id}");
        }
        let long = format!("spiffe://a/{}", "b".repeat(MAX_ID_BYTES));
        assert_eq!(judge(&[&long], false), Svid::Invalid(InvalidSvid::TooLong));
        let domain = format!("spiffe://{}/b", "a".repeat(256));
        assert_eq!(
            judge(&[&domain], false),
            Svid::Invalid(InvalidSvid::TrustDomain)
        );
    }

    #[test]
    fn an_svid_has_one_uri_and_is_no_ca() {
        let id = "spiffe://a/b";
        assert_eq!(judge(&[], false), Svid::No);
        assert_eq!(judge(&["https://a/b", "urn:x"], true), Svid::No);
        assert_eq!(
            judge(&["https://a/b", id], false),
            Svid::Invalid(InvalidSvid::SeveralUris)
        );
        assert_eq!(judge(&[id], true), Svid::Invalid(InvalidSvid::IsCa));
    }
}
