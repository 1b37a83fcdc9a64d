//! Elements of ASN.1, with lengths as BER writes them, too: what is wrong with a certificate is the parser's to say.

/// An element: its identifier, its content, and all of it.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) identifier: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

/// The three parts of a certificate: what is signed, the algorithm, the signature.
pub(crate) fn parts(certificate: &[u8]) -> Option<[Element<'_>; 3]> {
    let (certificate, _) = element(certificate)?;
    elements(certificate.content).try_into().ok()
}

/// The elements of a content, as far as they can be read.
pub(crate) fn elements(mut content: &[u8]) -> Vec<Element<'_>> {
    let mut found = Vec::new();
    while let Some((first, rest)) = element(content) {
        found.push(first);
        content = rest;
    }
    found
}

/// The first element, and what follows it; `None` if it does not end.
pub(crate) fn element(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&identifier, rest) = input.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..0x80 => (usize::from(length), rest),
        0x80 => return None,
        _ => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = digits.iter().try_fold(0usize, |sum, digit| {
                sum.checked_mul(256)?.checked_add(usize::from(*digit))
            })?;
            (length, rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let whole = input.get(..input.len() - rest.len())?;
    let element = Element {
        identifier,
        content,
        whole,
    };
    Some((element, rest))
}
