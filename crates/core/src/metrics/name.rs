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
    let allowed = |byte| ALLOWED.get(usize::from(byte)) == Some(&true);
    if text.len() <= MAX_VALUE_BYTES && text.bytes().all(allowed) {
        return Cow::Borrowed(text);
    }
    let mut value: String = text
        .chars()
        .take(MAX_VALUE_BYTES.saturating_add(1))
        .map(|c| match u8::try_from(c) {
            Ok(byte) if allowed(byte) => c,
            _ => '_',
        })
        .collect();
    if value.len() > MAX_VALUE_BYTES {
        value.truncate(MAX_VALUE_BYTES - DIGEST_SUFFIX_BYTES);
        value.push('~');
        let digest = Sha256::digest(text);
        hex::push(&mut value, digest.get(..4).unwrap_or(&digest));
    }
    Cow::Owned(value)
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
