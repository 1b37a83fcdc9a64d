//! Certificate policies (RFC 5280, section 6.1): BoringSSL checks them in every path, and they only matter below a CA
//! whose policyConstraints require one.
//!
//! The set of valid policies is kept without the tree of RFC 5280: which of them led to which other is not asked for.

use std::collections::BTreeSet;

use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Decode, Result};
use x509_cert::ext::pkix::{
    CertificatePolicies, InhibitAnyPolicy, PolicyConstraints, PolicyMappings,
};

const ANY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.32.0");

/// What a certificate says of policies.
#[derive(Default)]
pub(super) struct Policies {
    policies: Option<Vec<ObjectIdentifier>>,
    /// Of the issuer, and what stands for it below.
    mappings: Vec<(ObjectIdentifier, ObjectIdentifier)>,
    require_explicit: Option<u32>,
    inhibit_mapping: Option<u32>,
    inhibit_any: Option<u32>,
}

impl Policies {
    /// Takes an extension, if it is one of these.
    pub(super) fn take(&mut self, oid: ObjectIdentifier, value: &[u8]) -> Result<()> {
        match oid {
            CertificatePolicies::OID => {
                let policies = CertificatePolicies::from_der(value)?.0;
                self.policies = Some(
                    policies
                        .iter()
                        .map(|policy| policy.policy_identifier)
                        .collect(),
                );
            }
            PolicyMappings::OID => {
                let mappings = PolicyMappings::from_der(value)?.0;
                let pair = |mapping: &x509_cert::ext::pkix::PolicyMapping| {
                    (mapping.issuer_domain_policy, mapping.subject_domain_policy)
                };
                self.mappings = mappings.iter().map(pair).collect();
            }
            PolicyConstraints::OID => {
                let constraints = PolicyConstraints::from_der(value)?;
                self.require_explicit = constraints.require_explicit_policy;
                self.inhibit_mapping = constraints.inhibit_policy_mapping;
            }
            InhibitAnyPolicy::OID => {
                self.inhibit_any = Some(InhibitAnyPolicy::from_der(value)?.0);
            }
            _ => {}
        }
        Ok(())
    }
}

/// A certificate of a path.
pub(super) struct Step<'a> {
    pub(super) policies: &'a Policies,
    pub(super) is_self_issued: bool,
}

/// Checks the policies of a path (leaf first), from below its anchor down to the leaf.
///
/// # Errors
/// The depth, and what is wrong.
pub(super) fn check(path: &[Step<'_>]) -> std::result::Result<(), (usize, &'static str)> {
    let length = u32::try_from(path.len())
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    let (mut explicit, mut any, mut mapping) = (length, length, length);
    // `None`: any policy.
    let mut valid: Option<BTreeSet<ObjectIdentifier>> = None;
    let below_anchor = path.iter().take(path.len().saturating_sub(1));
    for (depth, certificate) in below_anchor.enumerate().rev() {
        let said = certificate.policies;
        let is_counted = depth == 0 || !certificate.is_self_issued;
        valid = match &said.policies {
            None => Some(BTreeSet::new()),
            Some(policies) => intersection(valid, policies, any > 0 || !is_counted),
        };
        if explicit == 0 && valid.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err((depth, "no policy, and a CA above requires one"));
        }
        if depth > 0 {
            valid = valid.map(|valid| mapped(&valid, &said.mappings, mapping > 0));
        }
        if is_counted {
            explicit = explicit.saturating_sub(1);
            mapping = mapping.saturating_sub(1);
            any = any.saturating_sub(1);
        }
        explicit = explicit.min(said.require_explicit.unwrap_or(u32::MAX));
        mapping = mapping.min(said.inhibit_mapping.unwrap_or(u32::MAX));
        any = any.min(said.inhibit_any.unwrap_or(u32::MAX));
    }
    match explicit == 0 && valid.is_some_and(|valid| valid.is_empty()) {
        true => Err((0, "no policy, and a CA above requires one")),
        false => Ok(()),
    }
}

fn intersection(
    valid: Option<BTreeSet<ObjectIdentifier>>,
    policies: &[ObjectIdentifier],
    any_counts: bool,
) -> Option<BTreeSet<ObjectIdentifier>> {
    let said: BTreeSet<_> = policies
        .iter()
        .copied()
        .filter(|policy| *policy != ANY)
        .collect();
    match (valid, any_counts && policies.contains(&ANY)) {
        (valid, true) => valid,
        (None, false) => Some(said),
        (Some(valid), false) => Some(&valid & &said),
    }
}

fn mapped(
    valid: &BTreeSet<ObjectIdentifier>,
    mappings: &[(ObjectIdentifier, ObjectIdentifier)],
    may_map: bool,
) -> BTreeSet<ObjectIdentifier> {
    let is_mapped = |policy: &ObjectIdentifier| mappings.iter().any(|(from, _)| from == policy);
    let kept = valid.iter().copied().filter(|policy| !is_mapped(policy));
    let into = mappings
        .iter()
        .filter(|(from, _)| may_map && valid.contains(from));
    kept.chain(into.map(|(_, to)| *to)).collect()
}
