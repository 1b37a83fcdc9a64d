//! What this proxy's own certificates come to in metrics.

use std::borrow::Cow;

use strum::VariantArray;

use super::admin::ServedContext;
use super::places::Places;
use super::public::is_public;
use super::secret::{Dates, FullCertificate, OwnCertificate, Role, Secret};
use super::succession::{InUse, Succession};
use super::{directory, missing, revocation, signing};
use crate::hash::HashMap;
use crate::host::{Host, MetricKind, Version};
use crate::metrics::admission::OTHER;
use crate::metrics::counters::{Counter, Registry};
use crate::metrics::name;
use crate::metrics::{
    self, Ca, Certificate, Identity, OWN_CRL_NEXT_UPDATE, OWN_CRL_NUMBER, OWN_CRL_THIS_UPDATE,
    OWN_FINDINGS, OWN_IGNORED_FINDINGS, OWN_ISSUER, OWN_NOT_AFTER, OWN_NOT_BEFORE, OWN_PRESENT,
    OWN_ROTATION_MARGIN, OWN_ROTATIONS, OWN_TRUST_ANCHOR, OwnLabels, ReadResult, TRUST_BUNDLE_CA,
};
use crate::policy::{self, Judgement};
use crate::terms::Source;
use crate::terms::Thresholds;
use crate::terms::{Acceptance, Finding, Findings};
use mtls_watch_x509::chain::{self, Layer, Member};
use mtls_watch_x509::crl;
use mtls_watch_x509::crl::RevocationList;
use mtls_watch_x509::hex;
use mtls_watch_x509::time::UnixTime;

/// Series that may go back to 0, for whichever VM is elected next, one a line.
const ROSTER: &str = "mtls_watch/own/roster";
/// How many certificates had no series of their own at the last poll.
const FOLDED: &str = "mtls_watch/own/folded";

/// What the end of a certificate comes to.
const OF_END: Findings =
    enumset::enum_set!(Finding::Expired | Finding::ExpiresCritical | Finding::ExpiresWarning);

/// The series of one poll, and their values.
#[derive(Default)]
struct Values(HashMap<String, u64>);

impl Values {
    fn set(&mut self, series: String, value: u64) {
        self.0.insert(series, value);
    }

    /// What it has come to.
    fn add(&mut self, series: String, number: u64) -> u64 {
        let value = self.0.entry(series).or_default();
        *value = value.saturating_add(number);
        *value
    }

    /// So many certificates have that finding, which counts unless it is accepted.
    fn add_finding(
        &mut self,
        (layer, secret): (Option<Layer>, metrics::Secret<'_>),
        finding: Finding,
        accepted: Findings,
        number: u64,
    ) {
        let metric = match accepted.contains(finding) {
            true => &OWN_IGNORED_FINDINGS,
            false => &OWN_FINDINGS,
        };
        self.add(metric.series((layer, secret, finding)), number);
    }

    /// A series that was 1, or more, before and is not there now.
    fn set_0_if_absent(&mut self, series: &str) {
        self.0.entry(series.to_owned()).or_default();
    }
}

/// Writes the metrics of what was found, and the directory of CAs.
// Not inlined: the largest function sets the memory that the module takes to compile.
#[inline(never)]
pub(super) fn update(
    host: &dyn Host,
    registry: &Registry,
    thresholds: &Thresholds,
    now: UnixTime,
    found: &Found<'_>,
) {
    let secrets = found.secrets;
    for secret in secrets {
        count_read(host, registry, secret);
    }
    let hierarchy = Hierarchy::new(found);
    let mut rows = hierarchy.rows(thresholds, now);
    fold(host, registry, &mut rows);
    let mut passing = Values::default();
    for row in &rows {
        row.write(&mut passing);
    }
    hierarchy.write_revocation(&rows, thresholds, now, &mut passing);
    for secret in secrets.iter().filter(|it| it.role == Role::Unknown) {
        let label = hierarchy.label(secret);
        let accepted = Acceptance::of_names(found.ignore, None, &[&label]);
        let labels = (None, metrics::Secret(&label));
        passing.add_finding(labels, Finding::SecretWarming, accepted, 1);
    }
    write_leaves(
        host,
        registry,
        (&hierarchy, &rows),
        (found, now),
        &mut passing,
    );
    let lasting = dates(&rows);
    write(host, registry, &lasting);
    write_roster(host, registry, passing);
    let is_whole = found.is_whole && secrets.iter().all(Secret::is_known_in_full);
    let chain: Vec<&[u8]> = hierarchy.cas_of_chains().collect();
    let leaves = secrets.iter().filter_map(Secret::leaf);
    let leaves: Vec<_> = leaves.map(|leaf| leaf.fingerprint).collect();
    directory::publish(host, &leaves, &chain, hierarchy.cas_of_bundles(), is_whole);
    missing::publish(host, secrets);
}

/// How the newest leaf of each secret stands: rejected or in use, and by whom it is signed.
#[inline(never)]
fn write_leaves(
    host: &dyn Host,
    registry: &Registry,
    (hierarchy, rows): (&Hierarchy<'_>, &[Row<'_>]),
    (found, now): (&Found<'_>, UnixTime),
    passing: &mut Values,
) {
    for chain in hierarchy.newest_chains() {
        let Some(leaf) = chain.leaf() else { continue };
        let label = hierarchy.label(chain);
        let has_place = |row: &Row<'_>| row.rank.is_leaf() && row.secret == label && !row.is_folded;
        let shown = match rows.iter().any(has_place) {
            true => &*label,
            false => OTHER,
        };
        let secret = metrics::Secret(shown);
        if hierarchy.is_rejected(leaf) {
            let layer = Some(Layer::Workload);
            let accepted = Acceptance::of_names(found.ignore, layer, &[&leaf.facts.identity]);
            passing.add_finding((layer, secret), Finding::RotationRejected, accepted, 1);
        } else {
            let key = hierarchy.key(chain, leaf);
            note_rotation(host, registry, (&key, shown), leaf, now);
        }
        set_signers(passing, hierarchy, found.secrets, (chain, leaf), shown);
    }
}

/// Under which CA of each bundle a leaf stands, and which CA signed it.
fn set_signers(
    passing: &mut Values,
    hierarchy: &Hierarchy<'_>,
    secrets: &[Secret],
    (chain, leaf): (&Secret, &FullCertificate),
    secret: &str,
) {
    let secret = metrics::Secret(secret);
    for ca in signing::anchors(chain, &hierarchy.bundles_beside(leaf)) {
        passing.set(OWN_TRUST_ANCHOR.series((secret, Ca(&ca))), 1);
    }
    if let Some(ca) = signing::issuer(&leaf.facts, secrets) {
        passing.set(OWN_ISSUER.series((secret, Ca(&ca))), 1);
    }
}

/// What a poll has found.
pub(super) struct Found<'a> {
    /// The secrets, and what `/certs` tells of besides.
    pub secrets: &'a [Secret],
    /// Which leaf is used beside which CAs.
    pub contexts: &'a [ServedContext],
    /// Whether Envoy has answered every question.
    pub is_whole: bool,
    /// Findings that are accepted.
    pub ignore: &'a [Acceptance],
}

/// The secrets of a poll, and what of them signs or is trusted. A certificate that comes with a chain and signs
/// nothing there is not in it.
struct Hierarchy<'a> {
    chains: Vec<Chain<'a>>,
    /// Public ones are left out.
    bundles: Vec<&'a Secret>,
    /// The revocation lists of bundles. Peers have the same.
    lists: Vec<&'a RevocationList>,
    domains: Vec<&'a str>,
    contexts: &'a [ServedContext],
    ignore: &'a [Acceptance],
}

struct Chain<'a> {
    secret: &'a Secret,
    links: Vec<&'a FullCertificate>,
}

impl<'a> Hierarchy<'a> {
    fn new(found: &Found<'a>) -> Self {
        let secrets = found.secrets;
        let chains = secrets.iter().filter(|secret| secret.role == Role::Chain);
        let chains = chains.map(|secret| Chain {
            secret,
            links: signing::links(secret),
        });
        let bundles = secrets.iter().filter(|secret| secret.role == Role::Bundle);
        let lists = secrets.iter().flat_map(|secret| &secret.revocation_lists);
        Self {
            chains: chains.collect(),
            bundles: bundles.filter(|secret| !is_public(secret)).collect(),
            lists: lists.map(AsRef::as_ref).collect(),
            domains: secrets
                .iter()
                .filter_map(Secret::own_trust_domain)
                .collect(),
            contexts: found.contexts,
            ignore: found.ignore,
        }
    }

    /// The bundles by which peers are verified that this leaf is shown to; all, where Envoy does not tell.
    fn bundles_beside(&self, leaf: &FullCertificate) -> Vec<&'a Secret> {
        let leaf = leaf.key();
        let mut beside: Vec<&'a Secret> = Vec::new();
        for context in self.contexts.iter().filter(|it| it.leaves.contains(&leaf)) {
            let is_whole = |bundle: &&&Secret| context.trusts(bundle) == Some(Trust::Whole);
            let is_there = |bundle: &&&Secret| context.trusts(bundle).is_some();
            let whole: Vec<&'a Secret> = self.bundles.iter().filter(is_whole).copied().collect();
            match whole.is_empty() {
                true => beside.extend(self.bundles.iter().filter(is_there)),
                false => beside.extend(whole),
            }
        }
        match beside.is_empty() {
            true => self.bundles.clone(),
            false => beside,
        }
    }

    /// Whether no TLS context serves this leaf, but an older one of its identity: Envoy has refused the new
    /// one, and says so nowhere else.
    fn is_rejected(&self, leaf: &FullCertificate) -> bool {
        let key = leaf.key();
        let is_older = |certificate: &OwnCertificate| match certificate {
            OwnCertificate::Dates(served) => {
                served.identity.as_ref() == Some(&leaf.facts.identity)
                    && served.not_before < leaf.facts.not_before
            }
            OwnCertificate::Full(_) => false,
        };
        let mut served = self
            .chains
            .iter()
            .flat_map(|chain| &chain.secret.certificates);
        !self
            .contexts
            .iter()
            .any(|context| context.leaves.contains(&key))
            && served.any(is_older)
    }

    /// How a secret is called in metrics.
    fn label(&self, secret: &'a Secret) -> Cow<'a, str> {
        secret.label(&self.domains)
    }

    /// Of several secrets of one label and identity the one whose leaf began last: the others are about to go.
    fn newest_chains(&self) -> impl Iterator<Item = &'a Secret> {
        let mut newest: Vec<(String, &'a Secret)> = Vec::new();
        let began = |secret: &Secret| secret.leaf().map(|leaf| leaf.facts.not_before);
        for chain in &self.chains {
            let Some(leaf) = chain.secret.leaf() else {
                continue;
            };
            let key = self.key(chain.secret, leaf);
            match newest.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) if began(chain.secret) > began(known) => *known = chain.secret,
                Some(_) => {}
                None => newest.push((key, chain.secret)),
            }
        }
        newest.into_iter().map(|(_, secret)| secret)
    }

    /// By what a leaf stays the same at a rotation.
    fn key(&self, secret: &'a Secret, leaf: &FullCertificate) -> String {
        let label = self.label(secret);
        match label.starts_with('<') {
            // What is inline in TLS contexts has one name for all.
            true => format!("{label} {}", leaf.facts.identity),
            false => label.into_owned(),
        }
    }

    /// Every certificate that signs or is trusted, judged.
    #[inline(never)]
    fn rows(&self, thresholds: &Thresholds, now: UnixTime) -> Vec<Row<'a>> {
        let in_use = InUse::new(
            self.chains
                .iter()
                .flat_map(|chain| chain.links.iter().copied()),
        );
        let mut rows = Vec::new();
        for chain in &self.chains {
            let members = chain::link(facts(chain.links.iter().copied()));
            let judgements = policy::judge_own(&members, thresholds);
            for ((member, judgement), link) in members.iter().zip(judgements).zip(&chain.links) {
                let mut row = self.row(chain.secret, member, link, judgement.at(now));
                if !InUse::outlives_issuers(&link.facts, &self.bundles) {
                    row.findings.remove(Finding::OutlivesIssuer);
                }
                if member.layer != Layer::Workload
                    && InUse::is_superseded_in_chain(link, &self.bundles, now)
                {
                    row.findings = row.findings.difference(OF_END);
                }
                row.rank = self.rank(chain.secret, member.layer, link);
                rows.push(row);
            }
            self.push_passengers(&mut rows, chain);
            self.push_others(&mut rows, chain.secret, thresholds, now);
        }
        for bundle in &self.bundles {
            let beside = self.of_one_name(bundle);
            let members = self.trusted(bundle);
            let judgements = policy::judge_own(&members, thresholds);
            let cas = bundle.full().enumerate();
            for ((member, judgement), (place, ca)) in members.iter().zip(judgements).zip(cas) {
                let mut row = self.row(bundle, member, ca, judgement.at(now));
                match in_use.succession(place, ca, bundle, now) {
                    Succession::Done => row.findings = row.findings.difference(OF_END),
                    Succession::UnderWay => {
                        row.findings.remove(Finding::ExpiresWarning);
                    }
                    Succession::None => {}
                }
                let has_it = |other: &&Secret| other.full().any(|other| other == ca);
                row.is_trusted_ca = beside.iter().all(has_it);
                row.rank = self.rank(bundle, member.layer, ca);
                rows.push(row);
            }
            self.push_others(&mut rows, bundle, thresholds, now);
        }
        demote_twice(&mut rows);
        rows
    }

    fn row(
        &self,
        secret: &'a Secret,
        member: &Member,
        full: &FullCertificate,
        mut findings: Findings,
    ) -> Row<'a> {
        if self.lists.iter().any(|list| list.revokes(&full.facts)) {
            findings.insert(Finding::RevokedOwn);
        }
        let (not_before, not_after) = (full.facts.not_before, full.facts.not_after);
        let is_ca = member.layer != Layer::Workload;
        Row {
            layer: Some(member.layer),
            secret: self.label(secret),
            identity: match member.layer {
                Layer::Workload => name::identity_value(&member.identity()).into_owned(),
                _ => member.identity().into_owned(),
            },
            certificate: is_ca.then(|| digits(full)),
            dates: Some((not_before, not_after)),
            findings,
            accepted: Acceptance::of(self.ignore, member),
            unreadable: 0,
            is_trusted_ca: false,
            is_folded: false,
            rank: Rank::Ca,
        }
    }

    /// The other bundles of the same name: of a listener that is replaced, or of a secret that is named after its
    /// content. Which of them a peer meets is not known, so trusted is what all of them have.
    fn of_one_name(&self, bundle: &'a Secret) -> Vec<&'a Secret> {
        let label = self.label(bundle);
        let is_other = |other: &&&Secret| {
            other.trust_domain == bundle.trust_domain
                && other.certificates != bundle.certificates
                && self.label(other) == label
        };
        self.bundles.iter().filter(is_other).copied().collect()
    }

    /// The certificates that come with a chain and sign nothing there. Nobody asks for them, so nothing about them is found.
    fn push_passengers(&self, rows: &mut Vec<Row<'a>>, chain: &Chain<'a>) {
        let passengers = chain.secret.full();
        for passenger in passengers.filter(|full| !chain.links.contains(full)) {
            let layer = match passenger.facts.is_self_issued() {
                true => Layer::RootCa,
                false => Layer::IntermediateCa,
            };
            let certificate = passenger.facts.clone();
            let member = Member {
                layer,
                issuer: None,
                certificate,
            };
            let mut row = self.row(chain.secret, &member, passenger, Findings::empty());
            row.findings = Findings::empty();
            row.rank = Rank::Again;
            rows.push(row);
        }
    }

    /// The certificates of which only `/certs` is known, and those that could not be read.
    fn push_others(
        &self,
        rows: &mut Vec<Row<'a>>,
        secret: &'a Secret,
        thresholds: &Thresholds,
        now: UnixTime,
    ) {
        for certificate in &secret.certificates {
            if let OwnCertificate::Dates(dates) = certificate {
                rows.push(self.dated(dates, secret, thresholds, now));
            }
        }
        if secret.unreadable > 0 {
            rows.push(self.unreadable(secret));
        }
    }

    /// Of a CA of which only `/certs` is known not even the name and the layer are. It is judged as the CAs that
    /// live shortest.
    fn dated(
        &self,
        dates: &Dates,
        secret: &'a Secret,
        thresholds: &Thresholds,
        now: UnixTime,
    ) -> Row<'a> {
        let Dates {
            not_before,
            not_after,
            ..
        } = *dates;
        let identity = dates.identity.clone();
        // `/certs` has of each chain the leaf only, and of a bundle CAs.
        let (layer, rank) = match secret.role {
            Role::Chain => (Layer::Workload, Rank::of_leaf(identity.as_deref())),
            Role::Bundle | Role::Unknown => (Layer::IssuingCa, Rank::Ca),
        };
        let judgement = Judgement::of_validity(not_before, not_after, layer, thresholds);
        let layer = (secret.role == Role::Chain).then_some(layer);
        let identity = identity.unwrap_or_else(|| format!("serial:{}", dates.serial));
        Row {
            accepted: Acceptance::of_names(self.ignore, layer, &[&identity]),
            layer,
            secret: self.label(secret),
            identity,
            certificate: None,
            dates: Some((not_before, not_after)),
            findings: judgement.at(now),
            unreadable: 0,
            is_trusted_ca: secret.role == Role::Bundle,
            is_folded: false,
            rank,
        }
    }

    fn unreadable(&self, secret: &'a Secret) -> Row<'a> {
        let layer = match secret.role {
            Role::Chain if secret.leaf_unreadable => Layer::Workload,
            Role::Chain => Layer::IssuingCa,
            Role::Bundle | Role::Unknown => Layer::RootCa,
        };
        Row {
            accepted: Acceptance::of_names(self.ignore, Some(layer), &["unknown"]),
            layer: Some(layer),
            secret: self.label(secret),
            identity: Finding::Unreadable.as_str().to_owned(),
            certificate: None,
            dates: None,
            findings: Finding::Unreadable.into(),
            unreadable: u64::try_from(secret.unreadable).unwrap_or(u64::MAX),
            is_trusted_ca: false,
            is_folded: false,
            rank: Rank::Leaf,
        }
    }

    /// The CAs of a bundle, each for itself: a bundle is no chain.
    fn trusted(&self, bundle: &Secret) -> Vec<Member> {
        let signs_a_leaf = |ca: &mtls_watch_x509::Certificate| {
            let mut leaves = self.chains.iter().filter_map(|chain| chain.secret.leaf());
            leaves.any(|leaf| leaf.facts.names_as_issuer(ca))
        };
        let member = |certificate: mtls_watch_x509::Certificate| Member {
            layer: if certificate.is_self_issued() {
                Layer::RootCa
            } else if signs_a_leaf(&certificate) {
                Layer::IssuingCa
            } else {
                Layer::IntermediateCa
            },
            issuer: None,
            certificate,
        };
        facts(bundle.full()).into_iter().map(member).collect()
    }

    /// The revocation lists that Envoy goes by.
    #[inline(never)]
    fn write_revocation(
        &self,
        rows: &[Row<'_>],
        thresholds: &Thresholds,
        now: UnixTime,
        passing: &mut Values,
    ) {
        let has_lists = |bundle: &&&'a Secret| !bundle.revocation_lists.is_empty();
        for bundle in self.bundles.iter().filter(has_lists) {
            let label = self.label(bundle);
            let has_place = |row: &Row<'_>| row.secret == label && !row.is_folded;
            let secret = metrics::Secret(match rows.iter().any(has_place) {
                true => &label,
                false => OTHER,
            });
            for list in crl::in_force(&bundle.revocation_lists, now) {
                if let Some(finding) = revocation::finding(list, thresholds, now) {
                    passing.add(OWN_FINDINGS.series((None, secret, finding)), 1);
                }
                if secret.0 == OTHER {
                    continue;
                }
                let ca = list.issuer_ca();
                let labels = (secret, Ca(&ca));
                let next_update = list.next_update.map(UnixTime::gauge);
                let this_update = Some(list.this_update.gauge());
                for (metric, value) in [
                    (&OWN_CRL_NEXT_UPDATE, next_update),
                    (&OWN_CRL_THIS_UPDATE, this_update),
                    (&OWN_CRL_NUMBER, list.number),
                ] {
                    if let Some(value) = value {
                        passing.set(metric.series(labels), value);
                    }
                }
            }
        }
    }

    fn rank(&self, secret: &Secret, layer: Layer, certificate: &FullCertificate) -> Rank {
        if layer == Layer::Workload {
            return Rank::of_leaf(Some(&certificate.facts.identity));
        }
        let is_above = |chain: &Chain<'_>| {
            let signs = |link: &&FullCertificate| link.facts.names_as_issuer(&certificate.facts);
            chain.secret.own_trust_domain().is_some() && chain.links.iter().any(signs)
        };
        match self.chains.iter().any(is_above) {
            true => Rank::CaOfWorkload,
            false if secret.role == Role::Chain => Rank::CaOfChain,
            false => Rank::Ca,
        }
    }

    /// Every CA that signs in a chain and is known as it is.
    fn cas_of_chains(&self) -> impl Iterator<Item = &'a [u8]> {
        let of_chains = self.chains.iter().flat_map(|chain| {
            // Without the leaf it cannot be told who signs.
            let others = chain.secret.full().filter(|_| chain.secret.leaf_unreadable);
            chain.links.iter().skip(1).copied().chain(others)
        });
        of_chains.map(|ca| ca.der.as_slice())
    }

    /// Every CA that is trusted and is known as it is. A bundle can have more than the directory holds.
    fn cas_of_bundles(&self) -> impl Iterator<Item = &'a [u8]> {
        let trusted = self.bundles.iter().flat_map(|bundle| bundle.full());
        trusted.map(|ca| ca.der.as_slice())
    }
}

/// How much of what a TLS context trusts a bundle is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Whole,
    /// The first CA, which is all that Envoy before 1.40 tells; or one trust domain of several.
    Part,
}

impl ServedContext {
    fn trusts(&self, bundle: &Secret) -> Option<Trust> {
        let mut cas = bundle.certificates.iter().map(OwnCertificate::key);
        let is_part = match bundle.trust_domain {
            Some(_) => bundle.full().all(|ca| self.cas.contains(&ca.key())),
            None => self.cas.len() == 1 && cas.next().as_ref() == self.cas.first(),
        };
        let is_same = bundle.certificates.len() == self.cas.len()
            && bundle
                .certificates
                .iter()
                .all(|ca| self.cas.contains(&ca.key()));
        match (is_same, is_part) {
            (true, _) => Some(Trust::Whole),
            (false, true) => Some(Trust::Part),
            (false, false) => None,
        }
    }
}

fn facts<'a>(
    certificates: impl Iterator<Item = &'a FullCertificate>,
) -> Vec<mtls_watch_x509::Certificate> {
    certificates.map(|full| full.facts.clone()).collect()
}

/// The label value by which certificates of one CA are told apart.
fn digits(full: &FullCertificate) -> String {
    let mut digits = String::with_capacity(8);
    hex::push(
        &mut digits,
        full.fingerprint.first_chunk::<4>().map_or(&[], |it| it),
    );
    digits
}

/// Who gets a place first: what the proxy shows as a workload and what stands above that, then whatever else it
/// shows, then what it trusts besides. A CA that is in several secrets takes further places when all others
/// have theirs.
#[derive(Clone, Copy, PartialEq, Eq, VariantArray)]
enum Rank {
    Workload,
    CaOfWorkload,
    Leaf,
    CaOfChain,
    Ca,
    Again,
}

impl Rank {
    const ALL: &'static [Self] = Self::VARIANTS;
    const OF_CAS: [Self; 3] = [Self::CaOfWorkload, Self::CaOfChain, Self::Ca];

    fn of_leaf(identity: Option<&str>) -> Self {
        match identity.and_then(mtls_watch_x509::spiffe::trust_domain) {
            Some(_) => Self::Workload,
            None => Self::Leaf,
        }
    }

    fn is_leaf(self) -> bool {
        matches!(self, Self::Workload | Self::Leaf)
    }
}

/// Puts the CAs that are in an earlier row, too, to the end.
fn demote_twice(rows: &mut [Row<'_>]) {
    let mut seen = Values::default();
    for rank in Rank::OF_CAS {
        // A CA is worth more in the bundle, where it is trusted.
        for is_trusted in [true, false] {
            let of_rank = |row: &&mut Row<'_>| row.rank == rank && row.is_trusted_ca == is_trusted;
            for row in rows.iter_mut().filter(of_rank) {
                if let Some(certificate) = &row.certificate
                    && seen.add(certificate.clone(), 1) > 1
                {
                    row.rank = Rank::Again;
                }
            }
        }
    }
}

/// Has the certificates that get no place share the series of `other`.
#[inline(never)]
fn fold(host: &dyn Host, registry: &Registry, rows: &mut [Row<'_>]) {
    let in_order = Rank::ALL.iter().flat_map(|rank| {
        let of_rank = rows.iter().filter(|row| row.rank == *rank);
        of_rank.map(Row::place)
    });
    let places = Places::assign(host, in_order);
    let mut folded: u64 = 0;
    for row in rows {
        row.is_folded = !places.has(&row.place());
        folded = folded.saturating_add(u64::from(row.is_folded));
    }
    let (before, _) = host.shared(FOLDED);
    let before = before.and_then(|bytes| bytes.try_into().ok());
    let before = before.map_or(0, u64::from_le_bytes);
    for _ in before..folded {
        registry.count(host, Counter::SeriesOverflow);
    }
    if folded != before {
        host.share(FOLDED, &folded.to_le_bytes(), Version(0));
    }
}

/// The dates of the certificates; of several of one name those of the one that ends first.
#[inline(never)]
fn dates(rows: &[Row<'_>]) -> Values {
    let mut dates = Values::default();
    for row in rows {
        let Some((not_before, not_after)) = row.dates else {
            continue;
        };
        let labels = row.labels();
        let (end, series) = (not_after.gauge(), OWN_NOT_AFTER.series(labels));
        if dates.0.get(&series).is_none_or(|known| end < *known) {
            dates.set(series, end);
            dates.set(OWN_NOT_BEFORE.series(labels), not_before.gauge());
        }
    }
    dates
}

/// One certificate of this proxy, judged; or those of a secret that could not be read.
struct Row<'a> {
    layer: Option<Layer>,
    secret: Cow<'a, str>,
    identity: String,
    certificate: Option<String>,
    /// Not before, not after.
    dates: Option<(UnixTime, UnixTime)>,
    findings: Findings,
    /// Those that are accepted, should it have them.
    accepted: Findings,
    /// How many this row stands for, where they could not be read.
    unreadable: u64,
    is_trusted_ca: bool,
    /// It has no series of its own.
    is_folded: bool,
    rank: Rank,
}

impl Row<'_> {
    fn place(&self) -> String {
        OWN_PRESENT.series(self.own_labels())
    }

    fn own_labels(&self) -> OwnLabels<'_> {
        (
            self.layer,
            metrics::Secret(&self.secret),
            Identity(&self.identity),
            self.certificate.as_deref().map(Certificate),
        )
    }

    fn labels(&self) -> OwnLabels<'_> {
        match self.is_folded {
            true => (self.layer, metrics::Secret(OTHER), Identity(OTHER), None),
            false => self.own_labels(),
        }
    }

    fn write(&self, passing: &mut Values) {
        let labels = self.labels();
        let (layer, secret, Identity(identity), certificate) = labels;
        if self.dates.is_some() {
            passing.set(OWN_PRESENT.series(labels), 1);
        }
        for finding in self.findings.iter() {
            let number = self.unreadable.max(1);
            passing.add_finding((layer, secret), finding, self.accepted, number);
        }
        if self.is_trusted_ca {
            passing.set(
                TRUST_BUNDLE_CA.series((secret, Ca(identity), certificate)),
                1,
            );
        }
    }
}

#[inline(never)]
fn count_read(host: &dyn Host, registry: &Registry, secret: &Secret) {
    for _ in &secret.certificates {
        registry.count(host, Counter::Inspection(Source::Hierarchy, ReadResult::Ok));
    }
    for _ in 0..secret.unreadable {
        registry.count(
            host,
            Counter::Inspection(Source::Hierarchy, ReadResult::Unreadable),
        );
    }
}

/// Compares the leaf of a secret, with its key and its label, with the one that was there at the last
/// poll, by whichever VM.
#[inline(never)]
fn note_rotation(
    host: &dyn Host,
    registry: &Registry,
    (secret, label): (&str, &str),
    leaf: &FullCertificate,
    now: UnixTime,
) {
    let key = format!("mtls_watch/own/leaf/{secret}");
    let mut current = leaf.fingerprint.to_vec();
    current.extend_from_slice(&leaf.facts.not_after.0.to_le_bytes());
    let (before, _) = host.shared(&key);
    if before.as_deref() == Some(&current) {
        return;
    }
    host.share(&key, &current, Version(0));
    let Some(before) = before else { return };
    let rotations = registry.named(
        host,
        MetricKind::Counter,
        OWN_ROTATIONS.series((metrics::Secret(label),)),
    );
    if let Some(rotations) = rotations {
        host.increment(rotations);
    }
    let not_after = before
        .last_chunk()
        .map(|bytes| UnixTime(i64::from_le_bytes(*bytes)));
    let margin = OWN_ROTATION_MARGIN.series((metrics::Secret(label),));
    if let (Some(not_after), Some(margin)) = (
        not_after,
        registry.named(host, MetricKind::Histogram, margin),
    ) {
        host.record(margin, not_after.since(now).gauge());
    }
}

fn write(host: &dyn Host, registry: &Registry, values: &Values) {
    for (series, value) in &values.0 {
        if let Some(id) = registry.named(host, MetricKind::Gauge, series.clone()) {
            host.record(id, *value);
        }
    }
}

/// Writes gauges of what is there now, and 0 to those of what is no longer. Which ones were ever
/// written is shared, for a VM that takes over.
#[inline(never)]
fn write_roster(host: &dyn Host, registry: &Registry, mut values: Values) {
    let (roster, _) = host.shared(ROSTER);
    let roster = String::from_utf8(roster.unwrap_or_default()).unwrap_or_default();
    for series in roster.lines() {
        values.set_0_if_absent(series);
    }
    write(host, registry, &values);
    // All of the roster are among the values: if there are more of these, some are new.
    if values.0.len() != roster.lines().count() {
        let names: Vec<&str> = values.0.keys().map(String::as_str).collect();
        host.share(ROSTER, names.join("\n").as_bytes(), Version(0));
    }
}
