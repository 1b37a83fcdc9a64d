//! The judgement: every finding, on either side, to the second.

use std::sync::LazyLock;

use mtls_watch_core::config::Config;
use mtls_watch_core::policy::{self, Judgement};
use mtls_watch_core::terms::Thresholds;
use mtls_watch_core::terms::{Direction, Finding, Findings, Status};
use mtls_watch_x509::chain::{self, Layer};
use mtls_watch_x509::spiffe::{InvalidSvid, Svid};
use mtls_watch_x509::time::{Seconds, UnixTime};
use mtls_watch_x509::{
    Certificate, ExtendedKeyUsage, KeyAlgorithm, KeyUsage, PublicKey, SignatureDigest,
};
use pki::{DAY, HOUR, LeafBuilder};
use proptest::prelude::*;

use Direction::{Inbound, Outbound};
use Finding::{
    CaFlagMissing, CertSignMissing, ClientAuthMissing, ConnectionOutlivesCertificate,
    CriticalExtensionUnknown, DefaultIssuer, DigitalSignatureMissing, Expired, ExpiresCritical,
    ExpiresWarning, ExtendedKeyUsageAbsent, LeafIsCa, NotYetValid, OutlivesIssuer, SelfSignedLeaf,
    ServerAuthMissing, SpiffeIdInvalid, SubjectAltNameMissing, Unreadable, UsageExcessive,
    ValidityReversed, ValidityTooLong, Version1, WeakKey, WeakSignature, WildcardClient,
};

use crate::{at, facts};
use pki::fixtures::{NOW, PKI, leaf, workload};
use pki::handmade::Handmade;

/// No finding.
const NOTHING: [Finding; 0] = [];

/// The facts of a sound chain up to its root, leaf first, with a SPIFFE ID or without.
fn sound(with_spiffe_id: bool) -> [Certificate; 4] {
    let leaf = match with_spiffe_id {
        true => workload(),
        false => leaf().dns("pay.test"),
    };
    let leaf = leaf.issue().unwrap();
    let cas = [&PKI.issuing, &PKI.intermediate, &PKI.root].map(|ca| facts(ca.der()));
    let [issuing, intermediate, root] = cas;
    [facts(leaf.der()), issuing, intermediate, root]
}

fn judge(chain: &[Certificate], direction: Direction) -> Vec<Judgement> {
    let chain = chain::link(chain.to_vec());
    policy::judge(&chain, direction, &Thresholds::default())
}

/// The findings of each certificate now.
fn found(chain: &[Certificate], direction: Direction) -> Vec<Vec<Finding>> {
    let judged = judge(chain, direction);
    let now = |judgement: &Judgement| judgement.at(at(0)).iter().collect();
    judged.iter().map(now).collect()
}

#[test]
fn a_sound_chain_has_no_findings() {
    for &direction in Direction::ALL {
        for with_spiffe_id in [true, false] {
            let none: Vec<Vec<Finding>> = vec![vec![]; 4];
            assert_eq!(found(&sound(with_spiffe_id), direction), none);
        }
    }
}

const fn usages(server_auth: bool, client_auth: bool) -> Option<ExtendedKeyUsage> {
    Some(ExtendedKeyUsage {
        server_auth,
        client_auth,
        code_signing: false,
        ocsp_signing: false,
    })
}

#[test]
fn a_client_needs_client_auth_a_server_server_auth_and_a_workload_both() {
    type Row<'a> = (
        Option<ExtendedKeyUsage>,
        &'a [Finding],
        &'a [Finding],
        &'a [Finding],
    );
    let rows: [Row<'_>; 5] = [
        // extended key usage, and the findings of: a client, a server, a mesh workload
        (usages(true, true), &[], &[], &[]),
        (
            usages(false, true),
            &[],
            &[ServerAuthMissing],
            &[ServerAuthMissing],
        ),
        (
            usages(true, false),
            &[ClientAuthMissing],
            &[],
            &[ClientAuthMissing],
        ),
        // Neither: also what anyExtendedKeyUsage alone comes to.
        (
            usages(false, false),
            &[ClientAuthMissing],
            &[ServerAuthMissing],
            &[ClientAuthMissing, ServerAuthMissing],
        ),
        (
            None,
            &[ExtendedKeyUsageAbsent],
            &[ExtendedKeyUsageAbsent],
            &[ExtendedKeyUsageAbsent],
        ),
    ];
    for (extended_key_usage, client, server, workload) in rows {
        for (with_spiffe_id, direction, expected) in [
            (false, Inbound, client),
            (false, Outbound, server),
            (true, Inbound, workload),
            (true, Outbound, workload),
        ] {
            let mut chain = sound(with_spiffe_id);
            chain[0].extended_key_usage = extended_key_usage;
            assert_eq!(
                found(&chain, direction)[0],
                expected,
                "{direction:?} {with_spiffe_id}"
            );
        }
    }
}

#[test]
fn any_extended_key_usage_stands_for_neither_client_nor_server() {
    let any = |leaf: LeafBuilder| {
        let leaf = leaf.extended_key_usages(&[pki::ExtendedKeyUsage::Any]);
        facts(leaf.dns("pay.test").issue().unwrap().der())
    };
    assert_eq!(any(leaf()).extended_key_usage, usages(false, false));
    assert_eq!(found(&[any(leaf())], Inbound)[0], [ClientAuthMissing]);
    assert_eq!(found(&[any(leaf())], Outbound)[0], [ServerAuthMissing]);
}

#[test]
fn a_ca_with_extended_key_usages_must_allow_what_the_leaf_must() {
    for layer in 1..4 {
        for (with_spiffe_id, direction, expected) in [
            (false, Inbound, vec![ClientAuthMissing]),
            (false, Outbound, vec![ServerAuthMissing]),
            (true, Inbound, vec![ClientAuthMissing, ServerAuthMissing]),
            (true, Outbound, vec![ClientAuthMissing, ServerAuthMissing]),
        ] {
            let mut chain = sound(with_spiffe_id);
            chain[layer].extended_key_usage = usages(false, false);
            assert_eq!(
                found(&chain, direction)[layer],
                expected,
                "{layer} {direction:?}"
            );
            chain[layer].extended_key_usage = usages(true, true);
            assert_eq!(
                found(&chain, direction)[layer],
                NOTHING,
                "{layer} {direction:?}"
            );
        }
    }
}

const fn key_usage(digital_signature: bool, cert_sign: bool) -> Option<KeyUsage> {
    Some(KeyUsage {
        digital_signature,
        cert_sign,
        crl_sign: false,
        critical: true,
    })
}

/// A defect, and what is found at each certificate of a chain in which it alone has it.
type Defect = (fn(&mut Certificate), [&'static [Finding]; 4]);

#[test]
fn every_other_defect_is_found_at_its_certificate_in_either_direction() {
    let defects: [Defect; 9] = [
        (
            |it| it.key_usage = key_usage(false, true),
            [&[DigitalSignatureMissing, UsageExcessive], &[], &[], &[]],
        ),
        (
            |it| it.key_usage = key_usage(true, false),
            [
                &[],
                &[CertSignMissing],
                &[CertSignMissing],
                &[CertSignMissing],
            ],
        ),
        (|it| it.key_usage = None, [&[]; 4]),
        (
            |it| it.is_ca = !it.is_ca,
            [
                &[LeafIsCa],
                &[CaFlagMissing],
                &[CaFlagMissing],
                &[CaFlagMissing],
            ],
        ),
        (|it| it.public_key = rsa(2047), [&[WeakKey]; 4]),
        (|it| it.public_key = rsa(2048), [&[]; 4]),
        (|it| it.public_key = ec(224), [&[WeakKey]; 4]),
        (|it| it.public_key = ec(256), [&[]; 4]),
        (
            |it| it.spiffe = Svid::Invalid(InvalidSvid::Path),
            [&[SpiffeIdInvalid], &[], &[], &[]],
        ),
    ];
    for defect in defects {
        assert_found_at_its_certificate(defect);
    }
}

fn assert_found_at_its_certificate((spoil, expected): Defect) {
    for (with_spiffe_id, direction) in [
        (true, Inbound),
        (true, Outbound),
        (false, Inbound),
        (false, Outbound),
    ] {
        for position in 0..4 {
            let mut chain = sound(with_spiffe_id);
            spoil(&mut chain[position]);
            let mut all = [&[][..]; 4];
            all[position] = expected[position];
            assert_eq!(
                found(&chain, direction),
                all,
                "at {position}: {:?}",
                chain[position]
            );
        }
    }
}

#[test]
fn a_weak_signature_is_found_where_it_is_verified() {
    // Nobody verifies a root's signature over itself.
    let layers: [&[Finding]; 4] = [&[WeakSignature], &[WeakSignature], &[WeakSignature], &[]];
    let digests: [Defect; 3] = [
        (|it| it.signature_digest = SignatureDigest::Md2, layers),
        (|it| it.signature_digest = SignatureDigest::Md5, layers),
        (|it| it.signature_digest = SignatureDigest::Sha1, layers),
    ];
    for defect in digests {
        assert_found_at_its_certificate(defect);
    }
}

#[test]
fn nobody_verifies_the_signature_of_a_root_over_itself() {
    let mut chain = sound(false);
    chain[3].signature_digest = SignatureDigest::Sha1;
    assert_eq!(found(&chain, Inbound)[3], NOTHING);
    // A new key of the same CA, which the old one has signed.
    chain[3].links.authority_key_id = Some([7; 20].into());
    assert_eq!(found(&chain, Inbound)[3], [WeakSignature]);
}

const fn rsa(bits: u32) -> PublicKey {
    PublicKey {
        algorithm: KeyAlgorithm::Rsa,
        bits,
    }
}

const fn ec(bits: u32) -> PublicKey {
    PublicKey {
        algorithm: KeyAlgorithm::Ec,
        bits,
    }
}

#[test]
fn a_short_edwards_key_is_not_weak() {
    let mut chain = sound(false);
    chain[0].public_key = PublicKey {
        algorithm: KeyAlgorithm::Ed25519,
        bits: 256,
    };
    assert_eq!(found(&chain, Inbound)[0], NOTHING);
}

#[test]
fn a_version_1_root_cannot_carry_the_ca_flag() {
    let name = Handmade::default().issuer;
    let old = |issuer: Vec<u8>| {
        let handmade = Handmade {
            version: None,
            subject: name.clone(),
            issuer,
            ..Handmade::default()
        };
        facts(&handmade.der())
    };
    let [mut leaf, ..] = sound(false);
    (leaf.links.issuer, leaf.links.authority_key_id) = (name.clone().into(), None);
    let root = old(name.clone());
    assert!(!found(&[leaf.clone(), root], Inbound)[1].contains(&CaFlagMissing));
    // The leaf names either as its issuer.
    let subordinate = old(ANOTHER_NAME.to_vec());
    assert!(found(&[leaf, subordinate], Inbound)[1].contains(&CaFlagMissing));
}

/// Some other name.
const ANOTHER_NAME: [u8; 2] = [0x30, 0];

#[test]
fn whatever_outlives_its_issuer_is_found_by_the_second() {
    for position in 0..3 {
        for (excess, expected) in [(0, &[][..]), (1, &[OutlivesIssuer])] {
            let mut chain = sound(true);
            chain[position].not_after = chain[position + 1].not_after.plus(Seconds(excess));
            let found = judge(&chain, Inbound)[position].at(at(0));
            let found = found.difference(Findings::only(ValidityTooLong));
            assert_eq!(Vec::from_iter(found), expected, "{position}");
        }
    }
}

#[test]
fn nothing_outlives_an_issuer_that_is_not_there() {
    let [mut leaf, _, intermediate, root] = sound(true);
    leaf.not_after = root.not_after.plus(Seconds::ONE);
    leaf.not_before = leaf.not_after.minus(Seconds::DAY);
    let found = found(&[leaf, intermediate, root], Inbound);
    assert_eq!(found[0], [NotYetValid]);
}

#[test]
fn what_is_never_judged_has_no_judgement() {
    assert_eq!(judge(&[], Inbound), []);
}

/// When each finding of time begins for a certificate: with how many seconds left.
fn assert_boundaries(layer: Layer, lifetime: i64, warning: i64, critical: i64) {
    let mut chain = sound(true);
    let position = layer as usize;
    let not_before = UnixTime(NOW);
    let not_after = not_before.plus(Seconds(lifetime));
    chain[position].not_before = not_before;
    chain[position].not_after = not_after;
    let judged = judge(&chain, Inbound)[position];
    let at = |time: UnixTime| {
        let in_time = OutlivesIssuer | ValidityTooLong;
        judged
            .at(time)
            .difference(in_time)
            .iter()
            .collect::<Vec<_>>()
    };
    let left = |seconds| at(not_after.minus(Seconds(seconds)));
    let case = format!("{layer:?} {lifetime}");
    assert_eq!(at(not_before.minus(Seconds::ONE)), [NotYetValid], "{case}");
    assert_eq!(at(not_before), NOTHING, "{case}");
    assert_eq!(left(warning), NOTHING, "{case}");
    assert_eq!(left(warning - 1), [ExpiresWarning], "{case}");
    assert_eq!(left(critical), [ExpiresWarning], "{case}");
    assert_eq!(left(critical - 1), [ExpiresCritical], "{case}");
    assert_eq!(left(0), [ExpiresCritical], "{case}");
    assert_eq!(left(-1), [Expired], "{case}");
}

#[test]
fn a_day_s_certificate_warns_below_six_hours_and_is_critical_below_three() {
    assert_boundaries(Layer::Workload, 24 * HOUR, 6 * HOUR, 3 * HOUR);
}

#[test]
fn long_lived_certificates_go_by_days_and_short_lived_ones_by_shares() {
    for (layer, warning_days, critical_days, warning_share, critical_share) in [
        (Layer::Workload, 21, 7, 25, 12.5),
        (Layer::IssuingCa, 30, 7, 16, 8.0),
        (Layer::IntermediateCa, 60, 30, 16, 8.0),
        (Layer::RootCa, 180, 90, 16, 8.0),
    ] {
        assert_boundaries(layer, 3650 * DAY, warning_days * DAY, critical_days * DAY);
        let short = 1000 * HOUR;
        let critical = (short as f64 * critical_share / 100.0) as i64;
        assert_boundaries(layer, short, short * warning_share / 100, critical);
    }
    assert_boundaries(Layer::Workload, 365 * DAY, 21 * DAY, 7 * DAY);
}

#[test]
fn a_share_that_is_no_whole_second_is_not_rounded_down() {
    // A quarter of 86399 s is 21599.75 s, an eighth 10799.875 s: 21599 and 10799 are below.
    assert_boundaries(Layer::Workload, 24 * HOUR - 1, 6 * HOUR, 3 * HOUR);
}

#[test]
fn an_expired_certificate_is_not_also_about_to_expire() {
    let mut chain = sound(true);
    chain[0].not_after = at(-1);
    assert_eq!(found(&chain, Inbound)[0], [Expired]);
}

#[test]
fn a_certificate_that_ends_before_it_begins_is_first_too_young_and_then_too_old() {
    let mut chain = sound(true);
    (chain[0].not_before, chain[0].not_after) = (at(DAY), at(0));
    let judged = judge(&chain, Inbound)[0];
    assert!(judged.at(at(0)).contains(NotYetValid));
    assert!(judged.at(at(1)).contains(Expired));
}

#[test]
fn a_certificate_from_1950_to_9999_is_judged_like_any_other() {
    const END_OF_9999: UnixTime = UnixTime(253_402_300_799);
    let mut chain = sound(true);
    chain[0].not_before = UnixTime(-631_152_000);
    chain[0].not_after = END_OF_9999;
    let judged = judge(&chain, Inbound)[0];
    let left = |seconds| judged.at(END_OF_9999.minus(Seconds(seconds)));
    assert!(!left(21 * DAY).contains(ExpiresWarning));
    assert!(left(21 * DAY - 1).contains(ExpiresWarning));
    assert!(left(-1).contains(Expired));
}

#[test]
fn the_worst_finding_makes_the_status() {
    let by_status: [(Status, &[Finding]); 5] = [
        (
            Status::Ok,
            &[ExtendedKeyUsageAbsent, ConnectionOutlivesCertificate],
        ),
        (
            Status::Warning,
            &[
                ExpiresWarning,
                OutlivesIssuer,
                WeakKey,
                WeakSignature,
                Unreadable,
                ValidityReversed,
                ValidityTooLong,
                DefaultIssuer,
                SelfSignedLeaf,
                SubjectAltNameMissing,
                Version1,
                WildcardClient,
                CriticalExtensionUnknown,
                UsageExcessive,
                Finding::CertificateShared,
                Finding::OwnCertificatePresented,
                Finding::SerialReused,
                Finding::SessionUnverified,
                Finding::RotationRejected,
                Finding::SecretWarming,
                Finding::CrlExpiring,
                Finding::RevokedOwn,
            ],
        ),
        (
            Status::Critical,
            &[
                ExpiresCritical,
                ClientAuthMissing,
                ServerAuthMissing,
                DigitalSignatureMissing,
                LeafIsCa,
                CaFlagMissing,
                CertSignMissing,
                SpiffeIdInvalid,
            ],
        ),
        (Status::NotYetValid, &[NotYetValid]),
        (Status::Expired, &[Expired]),
    ];
    assert_eq!(Status::of_certified(true, Findings::empty()), Status::Ok);
    let listed: usize = by_status.iter().map(|(_, findings)| findings.len()).sum();
    assert_eq!(listed, Finding::ALL.len());
    for (rank, (status, findings)) in by_status.iter().enumerate() {
        for finding in *findings {
            assert_eq!(Status::of_finding(*finding), *status, "{finding:?}");
            for (_, lesser) in &by_status[..rank] {
                let both = lesser.iter().chain([finding]).copied();
                assert_eq!(
                    Status::of_certified(true, both.collect::<Findings>()),
                    *status,
                    "{finding:?}"
                );
            }
        }
    }
}

static SOUND_LEAF: LazyLock<Certificate> =
    LazyLock::new(|| facts(workload().issue().unwrap().der()));

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn between_two_changes_nothing_changes(
        begin in -1000..1000i64,
        lifetime in -10..3000i64,
        (warning, critical) in (0..100u32, 0..100u32),
        share in 0.0..1.0f64,
    ) {
        let json = format!(
            r#"{{"thresholds": {{"workload": {{"warning": "{}%", "critical": "{}%"}}}}}}"#,
            warning.max(critical), warning.min(critical),
        );
        let config = Config::parse(json.as_bytes()).unwrap();
        let mut leaf = SOUND_LEAF.clone();
        leaf.not_before = at(begin);
        leaf.not_after = at(begin + lifetime);
        let judged = policy::judge(&chain::link(vec![leaf]), Inbound, &config.thresholds)[0];

        let mut now = at(-2000);
        while now < UnixTime::NEVER {
            let change = judged.next_change(now);
            prop_assert!(change > now);
            // After the certificate's end nothing happens: a late moment stands for never.
            let last = change.min(at(10_000)).minus(Seconds::ONE);
            let between = now.plus(Seconds((last.since(now).0 as f64 * share) as i64));
            for moment in [between, last] {
                prop_assert_eq!(judged.at(moment), judged.at(now));
            }
            now = change;
        }
    }
}
