//! The header `x-forwarded-client-cert`.
//!
//! Envoy appends this hop's element to whatever the client sent, and does not check that. So only
//! the last element counts. It is found by the fingerprint of the connection's certificate, where that is known, and
//! else from the end: nothing that a client writes before it, an open quote for instance, changes where it begins.
//!
//! Envoy writes subjects in quotes, but not the URI SANs behind them. From the end, a comma or a quote in one of them
//! hides where the element begins; the fingerprint stands before them.

use std::fmt;

use mtls_watch_x509::pem::{self, Ders, PemError};

/// Why the header gives no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum XfccError {
    /// The JSON form, which Envoy can write since 1.38: it is recognised but not read.
    Json,
    /// The quotes of the last element do not balance.
    Quotes,
    /// The certificate is not PEM.
    Pem(PemError),
}

impl fmt::Display for XfccError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json => f.write_str("the JSON form of x-forwarded-client-cert is not read"),
            Self::Quotes => f.write_str("unbalanced quotes in x-forwarded-client-cert"),
            Self::Pem(error) => write!(f, "x-forwarded-client-cert: {error}"),
        }
    }
}

impl std::error::Error for XfccError {}

/// This hop's element of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// What stands before the element: earlier hops and whatever the client wrote.
    before: &'a [u8],
    /// The element itself.
    text: &'a [u8],
    /// Whether it was found by its fingerprint: then the pairs from the first on that has the certificate's own words
    /// are nothing but these.
    hashed: bool,
}

/// Finds this hop's element: the last one with the `digest` (SHA-256 in hex) of the connection's certificate, which
/// no text of the certificate can contain; else the last one. Others than Envoy may write certificates before the
/// digest.
///
/// # Errors
/// As [`last_element`].
pub fn own_element<'a>(header: &'a [u8], digest: Option<&[u8]>) -> Result<Element<'a>, XfccError> {
    let own = digest.and_then(|digest| hashed_element(header, |value| value.starts_with(digest)));
    match own {
        None => last_element(header),
        Some(own) if own.has_certificates_next() => Ok(own),
        Some(own) => {
            let last = last_element(header);
            Ok(last
                .ok()
                .filter(|last| last.before.len() <= own.before.len())
                .unwrap_or(own))
        }
    }
}

/// The last element that has a fingerprint, from its `Hash` on: what Envoy writes before it is the name of this proxy.
#[must_use]
pub fn last_hashed_element(header: &[u8]) -> Option<Element<'_>> {
    const DIGITS: usize = 64;
    hashed_element(header, |value| {
        let value = value.get(..DIGITS);
        value.is_some_and(|value| value.iter().all(u8::is_ascii_hexdigit))
    })
}

fn hashed_element(header: &[u8], is_wanted: impl Fn(&[u8]) -> bool) -> Option<Element<'_>> {
    const KEY: &[u8] = b"hash";
    let mut rest = header;
    loop {
        rest = rest.get(..memchr::memrchr(b'=', rest)?)?;
        let value = header.get(rest.len().saturating_add(1)..)?;
        let start = rest.len().saturating_sub(KEY.len());
        let (before, key) = rest.split_at_checked(start)?;
        let begins = matches!(before.last(), None | Some(b',' | b';' | b' '));
        if begins && key.eq_ignore_ascii_case(KEY) && is_wanted(value) {
            let text = header.get(start..)?;
            return Some(Element {
                before,
                text,
                hashed: true,
            });
        }
    }
}

/// Finds the last element, from the end.
///
/// # Errors
/// [`XfccError::Json`] for the JSON form, [`XfccError::Quotes`] if the element cannot be told from
/// what is before it.
pub fn last_element(header: &[u8]) -> Result<Element<'_>, XfccError> {
    let mut quoted = false;
    let mut start = 0;
    let mut rest = header;
    // From one mark to the next: between them are kilobytes of percent-encoding.
    while let Some(at) = last_mark(rest, quoted) {
        rest = rest.get(..at).unwrap_or_default();
        if header.get(at) == Some(&b',') {
            start = at.saturating_add(1);
            break;
        }
        if !is_escaped(header, at) {
            quoted = !quoted;
        }
    }
    let (before, text) = header.split_at_checked(start).unwrap_or((&[], header));
    let element = Element {
        before,
        text,
        hashed: false,
    };
    match (begins_with_key(text), quoted) {
        (true, false) => Ok(element),
        (false, _) if is_json(text) => Err(XfccError::Json),
        (_, true) => Err(XfccError::Quotes),
        (false, false) => Ok(element),
    }
}

/// The last quote, or, outside quotes, the last comma.
fn last_mark(text: &[u8], quoted: bool) -> Option<usize> {
    match quoted {
        true => memchr::memrchr(b'"', text),
        false => memchr::memrchr2(b'"', b',', text),
    }
}

/// Whether the element is in the text form. Only the end of the header tells in which form this hop
/// wrote: the beginning is the client's.
fn begins_with_key(element: &[u8]) -> bool {
    const KEYS: [&[u8]; 7] = [
        b"By", b"Hash", b"Cert", b"Chain", b"Subject", b"URI", b"DNS",
    ];
    let key = split_pair(element).0;
    KEYS.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// Envoy's JSON form is an array of objects; what it appends ends in both brackets.
fn is_json(element: &[u8]) -> bool {
    let element = element.trim_ascii();
    matches!(element.first(), Some(b'[' | b'{')) || matches!(element.last(), Some(b']' | b'}'))
}

/// Whether the byte at `at` is preceded by an odd number of backslashes.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

impl<'a> Element<'a> {
    /// The chain (leaf first), else the leaf, as percent-encoded PEM; `None` if Envoy was not told
    /// to write either.
    #[must_use]
    pub fn certificates(&self) -> Option<&'a [u8]> {
        self.value(b"chain").or_else(|| self.value(b"cert"))
    }

    /// Whether there is anything for [`Element::without_certificates`] to take out.
    #[must_use]
    pub fn has_certificates(&self) -> bool {
        self.pairs().any(|(key, _)| is_certificate_key(key))
    }

    /// The header without this hop's `Cert` and `Chain`. All else stays as it is, the elements of
    /// earlier hops included: they are not ours to change.
    #[must_use]
    pub fn without_certificates(&self) -> Vec<u8> {
        if self.hashed {
            return self.without_next_certificates();
        }
        let kept: Vec<&[u8]> = split_outside_quotes(self.text)
            .filter(|pair| !is_certificate_key(split_pair(pair).0))
            .collect();
        [self.before, &kept.join(&b';')].concat()
    }

    /// The same for what Envoy wrote, which has them behind the fingerprint: for each request, so nothing is looked at
    /// but their ends.
    fn without_next_certificates(&self) -> Vec<u8> {
        let (fingerprint, mut rest) = split_at_byte(b';', self.text);
        while let Some((key, value)) = rest.get(1..).map(split_pair) {
            if !is_certificate_key(key) {
                break;
            }
            // What is percent-encoded has no quotes.
            let after = value
                .strip_prefix(b"\"")
                .map(|value| split_at_byte(b'"', value).1);
            rest = split_at_byte(b';', after.unwrap_or(value)).1;
        }
        [self.before, fingerprint, rest].concat()
    }

    /// SHA-256 of the leaf in hex, as this hop wrote it.
    #[must_use]
    pub fn hash(&self) -> Option<&'a [u8]> {
        self.value(b"hash")
    }

    /// Whether it begins as Envoy begins one, so that it is no part of another.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        begins_with_key(self.text)
    }

    fn value(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        self.pairs()
            .find(|(key, _)| key.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| unquote(value))
            .filter(|value| !value.is_empty())
    }

    /// The pairs in which this proxy chose the words.
    fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let hashed = self.hashed;
        let pairs = split_outside_quotes(self.text).map(split_pair);
        pairs.take_while(move |(key, _)| !(hashed && has_words_of_certificate(key)))
    }

    /// Whether they follow the fingerprint, as Envoy has it: cheaper than to look at all of the element.
    fn has_certificates_next(&self) -> bool {
        let next = split_at_byte(b';', self.text).1.get(1..);
        next.is_some_and(|next| is_certificate_key(split_pair(next).0))
    }
}

fn is_certificate_key(key: &[u8]) -> bool {
    key.eq_ignore_ascii_case(b"cert") || key.eq_ignore_ascii_case(b"chain")
}

/// Keys whose values are a certificate's own words. Envoy writes them last.
fn has_words_of_certificate(key: &[u8]) -> bool {
    const KEYS: [&[u8]; 3] = [b"Subject", b"URI", b"DNS"];
    KEYS.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// What is before the byte, and the rest from it on.
fn split_at_byte(byte: u8, text: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memchr(byte, text).unwrap_or(text.len());
    text.split_at_checked(at).unwrap_or((text, &[]))
}

fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    let equals = pair.iter().position(|byte| *byte == b'=');
    let (key, rest) = equals
        .and_then(|at| pair.split_at_checked(at))
        .unwrap_or((pair, &[]));
    (key.trim_ascii(), rest.get(1..).unwrap_or_default())
}

fn unquote(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""))
        .unwrap_or(value)
}

/// The parts of `text` between semicolons that are not in quotes.
fn split_outside_quotes(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some((part, after)) = semicolon(text).and_then(|at| text.split_at_checked(at)) else {
            return Some(text);
        };
        rest = after.get(1..);
        Some(part)
    })
}

/// Where the first semicolon outside quotes is.
fn semicolon(text: &[u8]) -> Option<usize> {
    let mut quoted = false;
    let mut from = 0usize;
    loop {
        let rest = text.get(from..)?;
        let skipped = match quoted {
            true => memchr::memchr2(b'"', b'\\', rest),
            false => memchr::memchr3(b'"', b'\\', b';', rest),
        }?;
        let at = from.saturating_add(skipped);
        from = at.saturating_add(1);
        match (text.get(at)?, text.get(from)) {
            (b';', _) => return Some(at),
            (b'\\', Some(b'"' | b'\\')) => from = from.saturating_add(1),
            (b'\\', _) => {}
            _ => quoted = !quoted,
        }
    }
}

/// The certificates of this hop, leaf first, each as DER or the reason why it is none. `None` if the
/// header carries no certificate. `digest` as for [`own_element`].
///
/// # Errors
/// [`XfccError`] if the header or the encoding is not readable at all.
pub fn certificates(header: &[u8], digest: Option<&[u8]>) -> Result<Option<Ders>, XfccError> {
    let Some(text) = own_element(header, digest)?.certificates() else {
        return Ok(None);
    };
    let pem_text = pem::percent_decode(text).map_err(XfccError::Pem)?;
    let certificates: Vec<_> = pem::certificates(&pem_text).collect();
    if certificates.is_empty() {
        return Err(XfccError::Pem(PemError::NoCertificate));
    }
    Ok(Some(certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = r#"By=spiffe://a/b;Hash=00ff;Cert="CERT";Chain="CHAIN";Subject="CN=x,O=\"y;z\"";URI=spiffe://c/d"#;

    fn element(header: &str) -> Element<'_> {
        last_element(header.as_bytes()).unwrap()
    }

    #[test]
    fn the_last_element_is_ours_whatever_stands_before_it() {
        for before in [
            "",
            "By=x;Cert=\"FORGED\",",
            "Cert=\"FORGED,",
            "\"\"\",",
            "a\\\",\\\",",
            ",,,",
            "[{\"hash\":\"00\"}],",
            "{},",
            "[{\"hash\":\"00,",
            "\u{fffd}=,",
        ] {
            let header = format!("{before}{OURS}");
            let found = element(&header);
            assert_eq!(found.certificates(), Some(&b"CHAIN"[..]), "{header}");
            assert_eq!(found.value(b"hash"), Some(&b"00ff"[..]), "{header}");
        }
    }

    #[test]
    fn without_a_chain_the_certificate_counts() {
        assert_eq!(element("Cert=\"C\"").certificates(), Some(&b"C"[..]));
        assert_eq!(element("Hash=1;cert=C").certificates(), Some(&b"C"[..]));
        assert_eq!(element("Hash=1;Subject=\"Cert=x\"").certificates(), None);
        assert_eq!(element("Cert=\"\"").certificates(), None);
        assert_eq!(element("").certificates(), None);
        assert_eq!(certificates(b"Hash=1", None), Ok(None));
    }

    #[test]
    fn stripping_takes_out_ours_and_nothing_else() {
        let header = format!("Hash=1;Cert=\"GATEWAY\",{OURS}");
        let stripped = element(&header).without_certificates();
        assert_eq!(
            String::from_utf8(stripped).unwrap(),
            r#"Hash=1;Cert="GATEWAY",By=spiffe://a/b;Hash=00ff;Subject="CN=x,O=\"y;z\"";URI=spiffe://c/d"#
        );
        assert!(element(&header).has_certificates());
        assert!(!element("Hash=1;URI=Cert").has_certificates());
    }

    /// Whatever a URI SAN has in it: Envoy does not quote it.
    #[test]
    fn the_fingerprint_finds_the_element() {
        let digest = "0f".repeat(32);
        for uri in [
            "spiffe://a/b,c",
            "spiffe://a/\"b",
            "spiffe://a/b;Cert=\"FORGED\"",
            "spiffe://a/\"\\\",Hash=00;Cert=\"FORGED\"",
            "spiffe://a/b]",
        ] {
            for before in [
                "",
                "By=x;Hash=00;Cert=\"OLD\",",
                "Cert=\"OLD,",
                &format!("Hash={digest};Cert=\"OLD\","),
            ] {
                let header = format!(
                    "{before}By=spiffe://a,b;Hash={digest};Cert=\"C\";Chain=\"CC\";Subject=\"\";URI={uri};DNS=d"
                );
                let element = own_element(header.as_bytes(), Some(digest.as_bytes())).unwrap();
                assert_eq!(element.certificates(), Some(&b"CC"[..]), "{header}");
                let stripped = String::from_utf8(element.without_certificates()).unwrap();
                let expected = header.replace(";Cert=\"C\";Chain=\"CC\"", "");
                assert_eq!(stripped, expected);
                // Where it is another's, or not known, nothing is guessed.
                let other = own_element(header.as_bytes(), Some(b"ff"));
                assert_eq!(other, last_element(header.as_bytes()));
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_not_a_guess() {
        assert_eq!(last_element(b" [{\"Hash\":\"1\"}]"), Err(XfccError::Json));
        assert_eq!(last_element(b"{}"), Err(XfccError::Json));
        let json = br#"[1,{"by":["spiffe://a/b"],"hash":"00","cert":"x,y"}]"#;
        assert_eq!(last_element(json), Err(XfccError::Json));
        assert_eq!(last_element(b"Hash=1;Cert=\"x"), Err(XfccError::Quotes));
        assert_eq!(
            certificates(b"Cert=\"%4\"", None),
            Err(XfccError::Pem(PemError::Percent(0)))
        );
        assert_eq!(
            certificates(b"Cert=\"hello\"", None),
            Err(XfccError::Pem(PemError::NoCertificate))
        );
    }
}
