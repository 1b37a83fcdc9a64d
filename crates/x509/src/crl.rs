//! Certificate revocation lists (RFC 5280, section 5).

use crate::certificate::Certificate;
use crate::error::ParseError;
use crate::extension::authority_key_id;
use crate::name;
use crate::strict::{INTEGER, SEQUENCE, element, only};
use crate::structure::{self, extension_list, time};
use crate::time::UnixTime;

/// Identifier of `[0]`, which holds the extensions.
const EXTENSIONS: u8 = 0xa0;

/// What a CA says of the certificates that it has revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// DER of the CA's name.
    issuer: Box<[u8]>,
    authority_key_id: Option<Box<[u8]>>,
    /// CRL number (section 5.2.3); `None` without one, and of one that has more than 64 bits.
    pub number: Option<u64>,
    /// When it was issued. BoringSSL refuses everyone while that lies ahead.
    pub this_update: UnixTime,
    /// When the next one is due at the latest: after that BoringSSL refuses everyone. `None`: it says nothing.
    pub next_update: Option<UnixTime>,
    /// DER of the entries: a list may have thousands.
    entries: Box<[u8]>,
}

impl RevocationList {
    /// Reads a list. Its signature, and extensions other than number and authority key identifier, are not
    /// looked at.
    ///
    /// # Errors
    /// [`ParseError`] if it is no list.
    // Not x509-parser's: it keeps each entry with its extensions.
    pub fn read(der: &[u8]) -> Result<Self, ParseError> {
        let list = only(der, SEQUENCE)?;
        let (_, tbs) = element(list, SEQUENCE)?;
        let (rest, _) = element(tbs, INTEGER).unwrap_or((tbs, &[]));
        let (rest, _) = element(rest, SEQUENCE)?;
        let (rest, issuer) = structure::name(rest)?;
        let (rest, this_update) = time(rest)?;
        let (rest, next_update) = match time(rest) {
            Ok((rest, next)) => (rest, Some(next)),
            Err(_) => (rest, None),
        };
        let (rest, entries) = element(rest, SEQUENCE).unwrap_or((rest, &[]));
        let mut list = Self {
            issuer: issuer.into(),
            authority_key_id: None,
            number: None,
            this_update,
            next_update,
            entries: entries.into(),
        };
        if !rest.is_empty() {
            list.read_extensions(rest)?;
        }
        Ok(list)
    }

    fn read_extensions(&mut self, rest: &[u8]) -> Result<(), ParseError> {
        for extension in extension_list(rest, EXTENSIONS)? {
            match extension.oid {
                [0x55, 0x1d, 20] => self.number = number(only(extension.value, INTEGER)?),
                [0x55, 0x1d, 35] => {
                    self.authority_key_id = authority_key_id(extension.value)?.map(Into::into);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The CA that issued it, named as [`Certificate::subject_ca`] names it.
    #[must_use]
    pub fn issuer_ca(&self) -> String {
        name::ca_name(&self.issuer, self.authority_key_id.as_deref())
    }

    /// Whether both are of one CA.
    #[must_use]
    pub fn has_issuer_of(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.authority_key_id == other.authority_key_id
    }

    /// Whether it is of the CA that issued this certificate, as far as name and key identifier tell.
    #[must_use]
    pub fn is_of_issuer_of(&self, certificate: &Certificate) -> bool {
        let links = &certificate.links;
        let is_other_key = match (&self.authority_key_id, &links.authority_key_id) {
            (Some(own), Some(other)) => own != other,
            _ => false,
        };
        self.issuer == links.issuer && !is_other_key
    }

    /// Whether this certificate is on it.
    #[must_use]
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        self.is_of_issuer_of(certificate)
            && self.serials().any(|serial| *serial == *certificate.serial)
    }

    /// Contents of the serial numbers.
    fn serials(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.entries;
        std::iter::from_fn(move || {
            let (after, entry) = element(rest, SEQUENCE).ok()?;
            rest = after;
            Some(element(entry, INTEGER).ok()?.1)
        })
    }
}

/// Of several lists of one CA the one that BoringSSL goes by (`get_crl_sk`): one that is valid, and of these the
/// newest.
pub fn in_force<L: AsRef<RevocationList>>(lists: &[L], now: UnixTime) -> impl Iterator<Item = &L> {
    let rank = move |list: &RevocationList| {
        let end = list.next_update.unwrap_or(UnixTime::NEVER);
        (list.this_update <= now && now <= end, list.this_update)
    };
    let is_surpassed = move |list: &RevocationList| {
        let mut others = lists.iter().map(AsRef::as_ref);
        others.any(|other| other.has_issuer_of(list) && rank(other) > rank(list))
    };
    lists
        .iter()
        .filter(move |list| !is_surpassed(list.as_ref()))
}

/// The number in the content of an INTEGER, if it is not negative and has at most 64 bits.
fn number(content: &[u8]) -> Option<u64> {
    let digits = match content {
        [0x80..=0xff, ..] => return None,
        [0, digits @ ..] => digits,
        digits => digits,
    };
    let fits = digits.len() <= 8;
    fits.then(|| {
        let append = |number: u64, digit: &u8| number << 8 | u64::from(*digit);
        digits.iter().fold(0, append)
    })
}
