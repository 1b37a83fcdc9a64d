//! Certificates in one value of shared data: each DER behind its length.

/// Adds a certificate to a list, unless that gets longer than `limit` bytes.
pub(super) fn append(list: &mut Vec<u8>, der: &[u8], limit: usize) -> bool {
    let Ok(length) = u32::try_from(der.len()) else {
        return false;
    };
    if list.len().saturating_add(der.len()) > limit {
        return false;
    }
    list.extend_from_slice(&length.to_le_bytes());
    list.extend_from_slice(der);
    true
}

/// The certificates of a list.
pub(super) fn ders(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = list.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (der, rest) = rest.split_at_checked(length)?;
        list = rest;
        Some(der)
    })
}
