//! Label values: an alphabet that no delimiter is part of, and a bounded length.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use mtls_watch_x509::hex;

/// Longest label value in bytes.
pub const MAX_VALUE_BYTES: usize = 200;
/// Which bytes stay as they are. A table, for every identity that is met goes through it.
#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "evaluated when the module is built"
)]
const ALLOWED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b'~' | b':' | b'/' | b'@' | b'+' | b'-');
        byte += 1;
    }
    table
};

/// `~` and eight hex digits.
const DIGEST_SUFFIX_BYTES: usize = 9;

/// Makes a text fit to be a label value: characters outside `[A-Za-z0-9._~:/@+-]` become `_`; what is
/// longer than 200 bytes is cut and ends in `~` and the first 8 hex digits of the SHA-256 of the whole
/// text, so that different values stay different.
#[must_use]
pub fn label_value(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_VALUE_BYTES && is_plain(text) {
        return Cow::Borrowed(text);
    }
    let value = replaced(text);
    Cow::Owned(match value.len() > MAX_VALUE_BYTES {
        true => with_digest(value, text),
        false => value,
    })
}

/// The same for an identity, of which no two may share a value: it ends in the digits wherever it is not the whole text,
/// and where it looks as if it were not.
#[must_use]
pub fn identity_value(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_VALUE_BYTES && is_plain(text) && !ends_in_digest(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(with_digest(replaced(text), text))
}

fn is_allowed(byte: u8) -> bool {
    ALLOWED.get(usize::from(byte)) == Some(&true)
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(is_allowed)
}

fn ends_in_digest(text: &str) -> bool {
    let start = text.len().checked_sub(DIGEST_SUFFIX_BYTES);
    let end = start.and_then(|start| text.as_bytes().get(start..));
    matches!(end, Some([b'~', digits @ ..]) if digits.iter().all(u8::is_ascii_hexdigit))
}

/// As much of the text as may be needed, in the alphabet of label values.
fn replaced(text: &str) -> String {
    let characters = text.chars().take(MAX_VALUE_BYTES.saturating_add(1));
    characters
        .map(|c| match u8::try_from(c) {
            Ok(byte) if is_allowed(byte) => c,
            _ => '_',
        })
        .collect()
}

fn with_digest(mut value: String, text: &str) -> String {
    value.truncate(MAX_VALUE_BYTES - DIGEST_SUFFIX_BYTES);
    value.push('~');
    let digest = Sha256::digest(text);
    hex::push(&mut value, digest.get(..4).unwrap_or(&digest));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_allowed() {
        let id = "spiffe://cluster.local/ns/a_b/sa/x~1@y+z-0";
        assert!(matches!(label_value(id), Cow::Borrowed(same) if same == id));
    }

    #[test]
    fn replaces_each_other_character() {
        assert_eq!(label_value("a;.;b=.=c \"é\n"), "a_._b_._c____");
        assert_eq!(label_value(""), "");
    }

    #[test]
    fn keeps_identities_apart() {
        let same = "spiffe://cluster.local/ns/a_b/sa/x~1";
        assert!(matches!(identity_value(same), Cow::Borrowed(it) if it == same));
        let long = format!("spiffe://{}", "x".repeat(200));
        assert_eq!(identity_value(&long), label_value(&long));
        let digest = format!("{:x}", Sha256::digest("支付服务"));
        let pay = format!("____~{}", &digest[..8]);
        assert_eq!(identity_value("支付服务"), pay);
        let names = [
            "支付服务",
            "订单系统",
            "____",
            "a b",
            "a_b",
            "*.x",
            "_.x",
            &pay,
            "",
            " ",
        ];
        let values: std::collections::HashSet<_> = names.map(identity_value).into();
        assert_eq!(values.len(), names.len(), "{values:?}");
    }

    #[test]
    fn cuts_long_values_and_keeps_them_apart() {
        let exact = "x".repeat(200);
        assert_eq!(label_value(&exact), exact);
        let a = label_value(&"x".repeat(201)).into_owned();
        let b = label_value(&format!("{}y", "x".repeat(200))).into_owned();
        assert_eq!((a.len(), b.len()), (200, 200));
        assert_ne!(a, b);
        assert_eq!(a.as_bytes().get(191), Some(&b'~'));
        // SHA-256 of 201 times "x" begins with these digits.
        let digest = format!("{:x}", Sha256::digest("x".repeat(201)));
        assert!(a.ends_with(&digest[..8]));
        let wide = label_value(&"é".repeat(150)).into_owned();
        assert_eq!(wide, "_".repeat(150));
    }
}
