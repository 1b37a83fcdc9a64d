//! Name constraints (RFC 5280, section 4.2.1.10), as BoringSSL matches them (crypto/x509/v3_ncons.cc): no IP
//! addresses, and a URI's host must be a domain name, with which not every SPIFFE ID complies.

use x509_cert::ext::pkix::NameConstraints;
use x509_cert::ext::pkix::name::GeneralName;

use super::certificate::Certificate;
use super::name::{canonical, text};

type Outcome = Result<(), String>;

/// Most names times constraints (`NAME_CONSTRAINTS_check`).
const MAX_COMPARISONS: usize = 1 << 20;

/// Checks each certificate of a path against the constraints of all above it.
///
/// # Errors
/// The depth of the certificate that breaks one, and how.
pub(super) fn check(path: &[&Certificate]) -> Result<(), (usize, String)> {
    let mut constrained = false;
    for (depth, certificate) in path.iter().enumerate().rev() {
        if depth > 0 && certificate.is_self_issued() {
            continue;
        }
        let above = path.iter().skip(depth.saturating_add(1)).rev();
        for constraints in above.filter_map(|ca| ca.name_constraints.as_ref()) {
            constrained = true;
            of_certificate(certificate, constraints).map_err(|detail| (depth, detail))?;
        }
    }
    match path.first() {
        Some(leaf) if constrained && leaf.alt_names.is_none() && has_host_name(leaf) => Err((
            0,
            "a host name in the common name, no SAN, and a CA above has name constraints"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

fn of_certificate(certificate: &Certificate, constraints: &NameConstraints) -> Outcome {
    let count = |subtrees: &Option<Vec<_>>| subtrees.as_ref().map_or(0, Vec::len);
    let attributes: usize = certificate
        .subject
        .0
        .iter()
        .map(|relative| relative.0.len())
        .sum();
    let names = attributes + certificate.alt_names.as_ref().map_or(0, Vec::len);
    let subtrees = count(&constraints.permitted_subtrees) + count(&constraints.excluded_subtrees);
    if names.saturating_mul(subtrees) > MAX_COMPARISONS {
        return Err(format!(
            "{names} names and {subtrees} name constraints: more than BoringSSL compares"
        ));
    }
    if !certificate.subject.0.is_empty() {
        let subject = GeneralName::DirectoryName(certificate.subject.clone());
        matches(&subject, constraints, false)?;
        for address in subject_texts(certificate, "1.2.840.113549.1.9.1") {
            let address = x509_cert::der::asn1::Ia5String::new(&address)
                .map_err(|_| format!("e-mail address {address} is not ASCII"))?;
            matches(&GeneralName::Rfc822Name(address), constraints, true)?;
        }
    }
    let names = certificate.alt_names.iter().flatten();
    names
        .into_iter()
        .try_for_each(|name| matches(name, constraints, false))
}

/// The texts of an attribute of the subject.
fn subject_texts(certificate: &Certificate, oid: &str) -> Vec<String> {
    let attributes = certificate
        .subject
        .0
        .iter()
        .flat_map(|relative| relative.0.iter());
    let wanted = attributes.filter(|attribute| attribute.oid.to_string() == oid);
    wanted
        .filter_map(|attribute| text(&attribute.value))
        .collect()
}

/// `x509v3_looks_like_dns_name`: labels of letters, digits, `-`, `_` and `:`.
fn has_host_name(leaf: &Certificate) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':'))
    };
    let is_host = |name: &String| {
        let name = name.strip_suffix('.').unwrap_or(name);
        let name = name.strip_prefix("*.").unwrap_or(name);
        name.split('.').all(is_label)
    };
    subject_texts(leaf, "2.5.4.3").iter().any(is_host)
}

/// One name against the subtrees of its type: one of the permitted, none of the excluded (`nc_match`).
fn matches(name: &GeneralName, constraints: &NameConstraints, ignore_case: bool) -> Outcome {
    let of_type =
        |subtrees: &Option<Vec<x509_cert::ext::pkix::constraints::name::GeneralSubtree>>| {
            let subtrees = subtrees.iter().flatten();
            let same = subtrees.filter(|subtree| {
                std::mem::discriminant(&subtree.base) == std::mem::discriminant(name)
            });
            same.cloned().collect::<Vec<_>>()
        };
    let (permitted, excluded) = (
        of_type(&constraints.permitted_subtrees),
        of_type(&constraints.excluded_subtrees),
    );
    if permitted
        .iter()
        .chain(&excluded)
        .any(|subtree| subtree.minimum != 0 || subtree.maximum.is_some())
    {
        return Err("name constraints with minimum or maximum".to_owned());
    }
    let mut is_permitted = permitted.is_empty();
    for subtree in &permitted {
        is_permitted = is_permitted || is_within(name, &subtree.base, false, false)?;
    }
    if !is_permitted {
        return Err(format!(
            "{} is outside the permitted names of a CA above",
            words(name)
        ));
    }
    for subtree in &excluded {
        if is_within(name, &subtree.base, true, ignore_case)? {
            return Err(format!(
                "{} is among the excluded names of a CA above",
                words(name)
            ));
        }
    }
    Ok(())
}

fn words(name: &GeneralName) -> String {
    match name {
        GeneralName::DnsName(name) => format!("DNS:{name}"),
        GeneralName::Rfc822Name(name) => format!("email:{name}"),
        GeneralName::UniformResourceIdentifier(uri) => format!("URI:{uri}"),
        GeneralName::DirectoryName(name) => format!("the subject {name}"),
        _ => "a SAN".to_owned(),
    }
}

/// Whether a name is below a base of its type (`nc_match_single`).
fn is_within(
    name: &GeneralName,
    base: &GeneralName,
    excluding: bool,
    ignore_case: bool,
) -> Result<bool, String> {
    match (name, base) {
        (GeneralName::DirectoryName(name), GeneralName::DirectoryName(base)) => {
            Ok(canonical(name).starts_with(&canonical(base)))
        }
        (GeneralName::DnsName(name), GeneralName::DnsName(base)) => {
            Ok(is_dns_within(name.as_str(), base.as_str(), excluding))
        }
        (GeneralName::Rfc822Name(name), GeneralName::Rfc822Name(base)) => {
            is_address_within(name.as_str(), base.as_str(), ignore_case)
        }
        (
            GeneralName::UniformResourceIdentifier(name),
            GeneralName::UniformResourceIdentifier(base),
        ) => is_uri_within(name.as_str(), base.as_str()),
        _ => Err(
            "a name constraint of a type that BoringSSL does not know, such as IP addresses"
                .to_owned(),
        ),
    }
}

fn has_suffix(text: &str, suffix: &str) -> bool {
    let start = text.len().checked_sub(suffix.len());
    let end = start.and_then(|start| text.get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

fn is_dns_within(name: &str, base: &str, excluding: bool) -> bool {
    if base.is_empty() {
        return true;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let base = base.strip_suffix('.').unwrap_or(base);
    if excluding
        && let (Some(parent), Some((_, base_parent))) =
            (name.strip_prefix("*."), base.split_once('.'))
        && parent.eq_ignore_ascii_case(base_parent)
    {
        return true;
    }
    match base.starts_with('.') {
        true => has_suffix(name, base),
        false => name.eq_ignore_ascii_case(base) || has_suffix(name, &format!(".{base}")),
    }
}

fn is_address_within(address: &str, base: &str, ignore_case: bool) -> Result<bool, String> {
    let unreadable = || format!("e-mail address {address} cannot be matched with name constraints");
    let is_local = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c))
    };
    let is_domain = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
    };
    let (local, domain) = address.split_once('@').ok_or_else(unreadable)?;
    if !is_local(local) || !is_domain(domain) {
        return Err(unreadable());
    }
    match base.split_once('@') {
        Some((base_local, base_domain)) => {
            if !is_local(base_local) || !is_domain(base_domain) {
                return Err(unreadable());
            }
            let same = match ignore_case {
                true => local.eq_ignore_ascii_case(base_local),
                false => local == base_local,
            };
            Ok(same && domain.eq_ignore_ascii_case(base_domain))
        }
        None if !is_domain(base) => Err(unreadable()),
        None if base.starts_with('.') => Ok(has_suffix(domain, base)),
        None => Ok(domain.eq_ignore_ascii_case(base)),
    }
}

fn is_uri_within(uri: &str, base: &str) -> Result<bool, String> {
    let host = uri_host(uri).ok_or_else(|| {
        format!(
            "URI:{uri} has no domain name for a host, which a CA's name constraints on URIs require"
        )
    })?;
    let base = base.strip_suffix('.').unwrap_or(base);
    if !is_domain_name(base.strip_prefix('.').unwrap_or(base)) {
        return Err(format!("name constraint URI:{base} is no domain name"));
    }
    Ok(match base.starts_with('.') {
        true => has_suffix(host, base),
        false => host.eq_ignore_ascii_case(base),
    })
}

/// The host of a URI (`nc_get_valid_uri_host`).
fn uri_host(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let authority = rest.strip_prefix("//").filter(|_| is_scheme)?;
    let authority = authority.split(['/', '?', '#']).next()?;
    let host = match authority.split_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        Some(_) => return None,
        None => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    is_domain_name(host).then_some(host)
}

/// `nc_uri_is_fqdn`: labels of letters, digits and hyphens, the last of them no number.
fn is_domain_name(host: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_label = |label: &str| {
        label.len() <= 63
            && is_end(label.chars().next())
            && is_end(label.chars().last())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = match hexadecimal {
        Some(digits) => digits.chars().all(|c| c.is_ascii_hexdigit()),
        None => last.chars().all(|c| c.is_ascii_digit()),
    };
    host.split('.').all(is_label) && !is_number
}
