//! Leaves as issuers make them that nobody has configured much: their names, usages, lifetimes and extensions.

use crate::fixtures::{NOW, PKI};
use crate::{DAY, ExtendedKeyUsage, HOUR, KeyUsage, LeafBuilder, Lifetime, MINUTE};

use ExtendedKeyUsage::{ClientAuth, EmailProtection, ServerAuth};

/// What issued it, whether it names a client, and the leaf.
pub type Default = (&'static str, bool, LeafBuilder);

/// The template of Microsoft's CA by which a certificate was made: szOID_CERTIFICATE_TEMPLATE, and the SID of its
/// owner.
const AD_CS_TEMPLATE: &[u64] = &[1, 3, 6, 1, 4, 1, 311, 21, 7];
const AD_CS_SID: &[u64] = &[1, 3, 6, 1, 4, 1, 311, 25, 2];
/// The provisioner of step-ca.
const STEP_PROVISIONER: &[u64] = &[1, 3, 6, 1, 4, 1, 37476, 9000, 64, 1];
/// crlDistributionPoints.
const CRL: &[u64] = &[2, 5, 29, 31];

/// The leaves of Istio, Linkerd, SPIRE, cert-manager, Consul, step-ca, ACM PCA and AD CS.
pub fn default_leaves() -> Vec<Default> {
    let lasting = |before: i64, for_: i64| Lifetime {
        not_before: NOW - before,
        not_after: NOW - before + for_,
    };
    let leaf = |before, for_| PKI.leaf().lifetime(lasting(before, for_));
    let day = |before| leaf(before, DAY);
    let linkerd = "web.shop.serviceaccount.identity.linkerd.cluster.local";
    let consul = "11111111-2222-3333-4444-555555555555.consul";
    let efs = ExtendedKeyUsage::Other(vec![1, 3, 6, 1, 4, 1, 311, 10, 3, 4]);
    let ad_cs = |years: i64| {
        let leaf = leaf(10 * MINUTE, years * 365 * DAY + DAY);
        leaf.extension(AD_CS_TEMPLATE, false).extension(CRL, false)
    };
    let spire = leaf(10, HOUR).organization("SPIRE").key_usages(&[
        KeyUsage::DigitalSignature,
        KeyUsage::KeyEncipherment,
        KeyUsage::KeyAgreement,
    ]);
    vec![
        (
            "Istio",
            true,
            day(2 * MINUTE).uri("spiffe://cluster.local/ns/shop/sa/web"),
        ),
        ("Linkerd", true, day(20).common_name(linkerd).dns(linkerd)),
        ("SPIRE", true, spire.uri("spiffe://example.org/web")),
        (
            "cert-manager",
            true,
            leaf(0, 90 * DAY)
                .common_name("web.shop.svc")
                .dns("web.shop.svc")
                .extended_key_usages(&[]),
        ),
        (
            "Consul",
            true,
            leaf(MINUTE, 3 * DAY)
                .uri(&format!("spiffe://{consul}/ns/default/dc/dc1/svc/web"))
                .dns(&format!("web.svc.default.{consul}")),
        ),
        (
            "step-ca",
            true,
            day(MINUTE)
                .common_name("web.shop")
                .dns("web.shop")
                .key_usages(&[KeyUsage::DigitalSignature])
                .extension(STEP_PROVISIONER, false),
        ),
        (
            "ACM PCA",
            true,
            leaf(HOUR, 395 * DAY)
                .common_name("web.shop")
                .dns("web.shop")
                .extension(CRL, false),
        ),
        (
            "AD CS, computer",
            true,
            ad_cs(1)
                .common_name("web.ad.test")
                .dns("web.ad.test")
                .extended_key_usages(&[ClientAuth, ServerAuth])
                .extension(AD_CS_SID, false),
        ),
        (
            "AD CS, user",
            true,
            ad_cs(1)
                .common_name("Jane")
                .email("jane@ad.test")
                .user_principal_name("jane@ad.test")
                .extended_key_usages(&[efs, EmailProtection, ClientAuth])
                .extension(AD_CS_SID, false),
        ),
        (
            "AD CS, web server",
            false,
            ad_cs(2)
                .common_name("*.ad.test")
                .dns("*.ad.test")
                .extended_key_usages(&[ServerAuth]),
        ),
    ]
}
