//! Path building and verification as BoringSSL does them, with Envoy's flags: the first certificate of the right
//! name and key is taken, the bundle's before the peer's, and whatever is in the bundle is an anchor.

use pki::Ca;

/// A CA: a name and a key.
pub type CaId = usize;
/// The index of a certificate in the universe.
pub type CertId = usize;

/// A certificate of a CA.
#[derive(Clone, Debug)]
pub struct Cert {
    pub subject: CaId,
    pub issuer: CaId,
    /// As in the label `certificate`.
    pub digits: String,
}

/// All CAs and certificates that there are.
#[derive(Debug)]
pub struct Universe {
    /// The CAs as in labels.
    pub names: Vec<String>,
    pub certs: Vec<Cert>,
    pub pem: String,
}

pub const OLD: CaId = 0;
pub const NEW: CaId = 1;
pub const OLD_ISSUING: CaId = 2;
pub const NEW_ISSUING: CaId = 3;
pub const OTHER_ISSUING: CaId = 4;
pub const ZONE: CaId = 5;
pub const ZONE_ISSUING: CaId = 6;
pub const STRANGER: CaId = 7;
/// How many there are.
pub const CAS: CaId = 8;

/// Old root, and the same again with the same key.
pub const OLD_SELF: CertId = 0;
pub const OLD_AGAIN: CertId = 8;
pub const NEW_SELF: CertId = 1;
/// The new root, signed by the old one.
pub const NEW_BY_OLD: CertId = 9;

impl Universe {
    pub fn new() -> Self {
        let old = Ca::root("Old Root").issue().unwrap();
        let new = Ca::root("New Root").issue().unwrap();
        let zone = old.subordinate("Zone CA").issue().unwrap();
        let cas = [
            Ca::root("Old Root").key(old.key()).issue().unwrap(),
            old.subordinate("New Root").key(new.key()).issue().unwrap(),
            old.subordinate("Old CA").issue().unwrap(),
            new.subordinate("New CA").issue().unwrap(),
            old.subordinate("Other CA").issue().unwrap(),
            zone.subordinate("Zone Issuing CA").issue().unwrap(),
            Ca::root("Stranger").issue().unwrap(),
        ];
        let [
            again,
            by_old,
            old_issuing,
            new_issuing,
            other,
            zone_issuing,
            stranger,
        ] = &cas;
        let all = [
            (&old, "Old Root", OLD, OLD),
            (&new, "New Root", NEW, NEW),
            (old_issuing, "Old CA", OLD_ISSUING, OLD),
            (new_issuing, "New CA", NEW_ISSUING, NEW),
            (other, "Other CA", OTHER_ISSUING, OLD),
            (&zone, "Zone CA", ZONE, OLD),
            (zone_issuing, "Zone Issuing CA", ZONE_ISSUING, ZONE),
            (stranger, "Stranger", STRANGER, STRANGER),
            (again, "Old Root", OLD, OLD),
            (by_old, "New Root", NEW, OLD),
        ];
        let name = |(ca, name, ..): &(&Ca, &str, CaId, CaId)| {
            format!("{}:{}", name.replace(' ', "_"), &ca.key_identifier()[..8])
        };
        Self {
            names: all[..CAS].iter().map(name).collect(),
            certs: all
                .iter()
                .map(|(ca, _, subject, issuer)| Cert {
                    subject: *subject,
                    issuer: *issuer,
                    digits: digits(ca),
                })
                .collect(),
            pem: all.iter().map(|(ca, ..)| ca.pem()).collect(),
        }
    }

    pub fn is_self_signed(&self, cert: CertId) -> bool {
        self.certs[cert].subject == self.certs[cert].issuer
    }

    /// Whether a CA is `top` or stands under it, by any certificate.
    pub fn is_below(&self, ca: CaId, top: CaId) -> bool {
        let above = |cert: &&Cert| cert.subject == ca && cert.issuer != ca;
        let mut above = self.certs.iter().filter(above);
        ca == top || above.any(|cert| self.is_below(cert.issuer, top))
    }

    /// The anchor in `bundle` to which a leaf leads; `None`: none. Dates do not matter.
    pub fn anchor(&self, bundle: &[CertId], leaf: &Leaf) -> Option<CertId> {
        self.path(bundle, leaf, &[]).map(|path| path.anchor)
    }

    /// Whether a peer with this bundle accepts the leaf.
    pub fn accepts(
        &self,
        bundle: &[CertId],
        lists: &[List],
        leaf: &Leaf,
        ended: &[CertId],
    ) -> bool {
        let Some(mut path) = self.path(bundle, leaf, ended) else {
            return false;
        };
        // From an anchor that is no root BoringSSL goes on to one, as far as the bundle leads.
        let mut top = path.anchor;
        let mut is_valid = !ended.contains(&top);
        while !self.is_self_signed(top) {
            let issuer = self.certs[top].issuer;
            path.signers.push(issuer);
            let of_it = |cert: &&CertId| self.certs[**cert].subject == issuer;
            let Some(next) = bundle.iter().find(of_it) else {
                break;
            };
            top = *next;
            is_valid &= !ended.contains(&top);
        }
        // If there is any list, each certificate of the path must have a valid one of its issuer, whose certificate is
        // on the path as well (measured).
        let has_list = |ca: &CaId| lists.iter().any(|list| list.ca == *ca && list.is_valid);
        let is_listed = self.is_self_signed(top) && path.signers.iter().all(has_list);
        is_valid && (lists.is_empty() || is_listed)
    }

    fn path(&self, bundle: &[CertId], leaf: &Leaf, ended: &[CertId]) -> Option<Path> {
        let mut signers = vec![leaf.issuer];
        for _ in 0..10 {
            let issuer = *signers.last()?;
            let of_it = |cert: &&CertId| self.certs[**cert].subject == issuer;
            if let Some(anchor) = bundle.iter().find(of_it).copied() {
                return Some(Path { signers, anchor });
            }
            let sent = leaf.chain.iter().find(of_it)?;
            if ended.contains(sent) || self.is_self_signed(*sent) {
                return None;
            }
            signers.push(self.certs[*sent].issuer);
        }
        None
    }
}

/// The way from a leaf to its anchor, and the CAs that have signed something on it.
struct Path {
    signers: Vec<CaId>,
    anchor: CertId,
}

/// A revocation list that names nobody.
#[derive(Clone, Debug)]
pub struct List {
    pub ca: CaId,
    pub is_valid: bool,
}

fn digits(ca: &Ca) -> String {
    let der = mtls_watch_x509::describe::describe(ca.der()).unwrap();
    der.sha256[..8].to_owned()
}

/// A leaf with what is sent along.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub issuer: CaId,
    pub chain: Vec<CertId>,
}
