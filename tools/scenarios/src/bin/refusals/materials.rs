//! The certificates of all scenarios, as files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pki::{DAY, ExtendedKeyUsage, HOUR, KeyKind, KeyUsage, LeafBuilder};
use tempfile::TempDir;
use testbed::{Ca, Hierarchy, Identity, Lifetime, TrustBundle};

/// What a client or a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// A certificate in which nothing is wrong.
    Sound,
    Expired,
    NotYetValid,
    /// For serverAuth only.
    ServerOnly,
    /// For clientAuth only.
    ClientOnly,
    AnyUsage,
    /// keyEncipherment alone.
    EnciphersOnly,
    /// Without the CAs between the leaf and the root.
    LeafAlone,
    SelfSigned,
    /// Under a root that nobody knows, with its CA.
    Stranger,
    /// Under another CA of the same name as the one that everybody knows.
    Namesake,
    OfExpiredCa,
    OfServerOnlyCa,
    /// Below a CA that allows no CA below it.
    TooDeep,
    /// Of a CA without cA.
    OfNoCa,
    /// Of another trust domain, and the usual CA.
    OtherDomain,
    /// On the list of revoked certificates.
    Revoked,
    /// With a critical extension that nobody knows.
    CriticalExtension,
    /// Sound, with an RSA key.
    Rsa,
    /// Sound, with a key on P-384.
    P384,
}

impl Shown {
    const ALL: [Self; 20] = [
        Self::Sound,
        Self::Expired,
        Self::NotYetValid,
        Self::ServerOnly,
        Self::ClientOnly,
        Self::AnyUsage,
        Self::EnciphersOnly,
        Self::LeafAlone,
        Self::SelfSigned,
        Self::Stranger,
        Self::Namesake,
        Self::OfExpiredCa,
        Self::OfServerOnlyCa,
        Self::TooDeep,
        Self::OfNoCa,
        Self::OtherDomain,
        Self::Revoked,
        Self::CriticalExtension,
        Self::Rsa,
        Self::P384,
    ];

    /// Its SPIFFE ID.
    pub fn identity(self) -> String {
        match self {
            Self::OtherDomain => "spiffe://far.example/ns/shop/sa/pay".to_owned(),
            other => format!("spiffe://cluster.local/ns/shop/sa/{}", other.name()),
        }
    }

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Whom a client or a server trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Everybody; a server does not ask for a certificate.
    Anybody,
    /// The root of all.
    Root,
    /// A root that nobody has a certificate of.
    Strange,
}

/// The files of an identity, all PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// Leaf and CAs.
    pub chain: PathBuf,
    pub key: PathBuf,
    pub leaf: PathBuf,
    /// The CAs without the leaf.
    pub above: PathBuf,
    /// Chain and key in one file.
    pub all: PathBuf,
}

pub struct Materials {
    pub cas: Hierarchy,
    identities: BTreeMap<Shown, Identity>,
    directory: TempDir,
}

impl Materials {
    pub fn new() -> Result<Self> {
        let cas = Hierarchy::new()?;
        let directory = TempDir::new()?;
        let strange = Ca::root("Strange Root").issue()?;
        let mut identities = BTreeMap::new();
        for shown in Shown::ALL {
            let identity = issue(shown, &cas, &strange)?;
            write(&identity, &directory.path().join(shown.name()))?;
            identities.insert(shown, identity);
        }
        let this = Self {
            cas,
            identities,
            directory,
        };
        fs::write(this.bundle(Trust::Root), this.cas.trust_bundle().pem())?;
        fs::write(
            this.bundle(Trust::Strange),
            TrustBundle::of([&Ca::root("Nobody's Root").issue()?]).pem(),
        )?;
        Ok(this)
    }

    /// The proxy's own files, as a sample names them: `tls.crt`, `tls.key`, `ca.crt`.
    pub fn proxy(&self) -> PathBuf {
        self.directory.path().join("proxy")
    }

    /// Has proxies that start from now on show this.
    pub fn serve(&self, own: &Identity) -> Result<()> {
        write(own, &self.proxy())?;
        self.cas.trust_bundle().write_to(&self.proxy()).map(drop)
    }

    pub fn identity(&self, shown: Shown) -> Result<&Identity> {
        self.identities.get(&shown).context("not issued")
    }

    pub fn files(&self, shown: Shown) -> Files {
        let file = |name: &str| self.directory.path().join(shown.name()).join(name);
        Files {
            chain: file("tls.crt"),
            key: file("tls.key"),
            leaf: file("leaf.crt"),
            above: file("above.crt"),
            all: file("all.pem"),
        }
    }

    pub fn bundle(&self, trust: Trust) -> PathBuf {
        self.directory.path().join(match trust {
            Trust::Anybody | Trust::Root => "root.crt",
            Trust::Strange => "strange.crt",
        })
    }

    /// A directory for a program that wants one.
    pub fn scratch(&self) -> Result<TempDir> {
        Ok(TempDir::new_in(self.directory.path())?)
    }
}

/// What the proxy shows: peers may look for a name.
pub fn own(cas: &Hierarchy) -> LeafBuilder {
    cas.leaf()
        .common_name("proxy")
        .uri("spiffe://cluster.local/ns/shop/sa/proxy")
        .dns("localhost")
}

fn write(identity: &Identity, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    identity.write_to(directory)?;
    let file = |name: &str| directory.join(name);
    fs::write(file("leaf.crt"), identity.leaf_pem())?;
    let chain = identity.chain();
    fs::write(file("above.crt"), pki::to_pem(chain.iter().skip(1)))?;
    let all = identity.chain_pem() + &identity.key_pem()?;
    fs::write(file("all.pem"), all)?;
    Ok(())
}

fn issue(shown: Shown, cas: &Hierarchy, strange: &Ca) -> Result<Identity> {
    let named = |leaf: LeafBuilder| {
        leaf.common_name(&shown.name())
            .uri(&shown.identity())
            .dns("localhost")
    };
    let leaf = || named(cas.leaf());
    let below = |name: &str| cas.intermediate.subordinate(name);
    let of = |ca: &Ca| named(ca.leaf()).issue();
    let expired = Lifetime::from_now(-2 * HOUR, -HOUR);
    match shown {
        Shown::Sound | Shown::OtherDomain | Shown::Revoked => leaf().issue(),
        Shown::Expired => leaf().lifetime(expired).issue(),
        Shown::NotYetValid => leaf().lifetime(Lifetime::from_now(DAY, 2 * DAY)).issue(),
        Shown::ServerOnly => usages(leaf(), ExtendedKeyUsage::ServerAuth),
        Shown::ClientOnly => usages(leaf(), ExtendedKeyUsage::ClientAuth),
        Shown::AnyUsage => usages(leaf(), ExtendedKeyUsage::Any),
        Shown::EnciphersOnly => leaf().key_usages(&[KeyUsage::KeyEncipherment]).issue(),
        Shown::LeafAlone => Ok(leaf().issue()?.leaf_only()),
        Shown::SelfSigned => named(LeafBuilder::self_signed()).issue(),
        Shown::Stranger => of(&strange.subordinate("Strange CA").issue()?),
        Shown::Namesake => of(&strange.subordinate("Issuing CA").issue()?),
        Shown::OfExpiredCa => of(&below("Old CA").lifetime(expired).issue()?),
        Shown::OfServerOnlyCa => of(&below("Server CA")
            .extended_key_usages(&[ExtendedKeyUsage::ServerAuth])
            .issue()?),
        Shown::TooDeep => {
            let last = below("Last CA").path_length(0).issue()?;
            of(&last.subordinate("Deep CA").issue()?)
        }
        Shown::OfNoCa => of(&below("No CA").without_ca_flag().issue()?),
        // Of the 1.3.6.1.4.1.99999 arc, which nobody has.
        Shown::CriticalExtension => leaf()
            .extension(&[1, 3, 6, 1, 4, 1, 99_999, 1], true)
            .issue(),
        Shown::Rsa => leaf().key_kind(KeyKind::Rsa2048).issue(),
        Shown::P384 => leaf().key_kind(KeyKind::P384).issue(),
    }
}

fn usages(leaf: LeafBuilder, usage: ExtendedKeyUsage) -> Result<Identity> {
    leaf.extended_key_usages(&[usage]).issue()
}
