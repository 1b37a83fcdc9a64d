//! docs/lints.md: the kinds of lints that zlint and pkilint have, each with a certificate that has the fault, and what
//! `inspect` says of that. The names of all lints are in the folder lints, as `make lints` has asked the two for them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use pki::fixtures::{PKI, lasting, leaf, workload};
use pki::handmade::{Handmade, sequence, tlv, utc_time};
use pki::{Ca, DAY, ExtendedKeyUsage, HOUR, KeyKind, KeyUsage, LeafBuilder, lax};

use crate::cli::{inspect_with, issued};
use crate::project;

const PAGE: &str = "docs/lints.md";
const ZLINT: &str = include_str!("lints/zlint.txt");
const PKILINT: &str = include_str!("lints/pkilint.txt");

/// A kind of lint.
struct Kind {
    /// What is at fault.
    fault: &'static str,
    /// Patterns of the names of its lints; of several kinds that a name fits, the first counts.
    lints: &'static str,
    /// A file that has the fault, and the side that shows it; none, where the kind is of no certificate.
    example: Option<(Vec<u8>, &'static str)>,
    /// Why nothing is said, or what is to be known.
    note: &'static str,
}

fn client(leaf: LeafBuilder) -> Option<(Vec<u8>, &'static str)> {
    Some((issued(leaf).der().to_vec(), "inbound"))
}

fn of(der: Vec<u8>) -> Option<(Vec<u8>, &'static str)> {
    Some((der, "inbound"))
}

fn under(ca: &Ca) -> Option<(Vec<u8>, &'static str)> {
    let leaf = ca.leaf().uri("spiffe://a/b").lifetime(lasting(-HOUR, DAY));
    let chain = [issued(leaf).leaf_pem(), ca.pem()].concat();
    Some((chain.into_bytes(), "inbound"))
}

fn named() -> LeafBuilder {
    leaf().dns("pay.test")
}

fn sound() -> Vec<u8> {
    issued(named()).der().to_vec()
}

fn first(cases: Vec<lax::Case>) -> Option<(Vec<u8>, &'static str)> {
    let (_, der) = cases.into_iter().next().expect("a case");
    of(der)
}

fn kind(
    fault: &'static str,
    lints: &'static str,
    example: Option<(Vec<u8>, &'static str)>,
    note: &'static str,
) -> Kind {
    Kind {
        fault,
        lints,
        example,
        note,
    }
}

const PUBLIC: &str = "a rule of the public web PKI; a mesh's issuer has no such duty";
const NAMES: &str = "Envoy compares names by its matchers; the form of a name is nothing to it";
const TRUSTED: &str = "`inspect --trusted` says what Envoy makes of it; it is no fault by itself";

fn kinds() -> Vec<Kind> {
    let ca = || PKI.intermediate.subordinate("Issuing CA");
    let usages = |usages: &[KeyUsage]| named().key_usages(usages);
    let purposes = |purposes: &[ExtendedKeyUsage]| named().extended_key_usages(purposes);
    let signs = KeyUsage::DigitalSignature;
    let is_client = ExtendedKeyUsage::ClientAuth;
    vec![
        kind(
            "not-after before not-before",
            "e_validity_time_not_positive pkix.certificate_negative_validity_period",
            client(named().lifetime(lasting(HOUR, 2))),
            "",
        ),
        kind(
            "valid for very long",
            "*valid_time_longer_than_* *validity_period_exceeds_* *_too_long_validity cabf.serverauth.root_validity_period_too_long w_sub_cert_sha1_expiration_too_long",
            client(named().lifetime(lasting(-HOUR, 800 * DAY))),
            "from two years on; the web PKI's limits are shorter",
        ),
        kind(
            "backdated, or valid for a short time",
            "e_excessively* cabf.serverauth.root_validity_period_too_short",
            client(named().lifetime(lasting(-90 * DAY, DAY))),
            "a sound certificate may be either",
        ),
        kind(
            "version 1",
            "e_invalid_certificate_version pkix.certificate_version_is_not_v3 cabf.certificate_extensions_missing",
            client(leaf().version_1()),
            "",
        ),
        kind(
            "extensions in version 1",
            "e_cert_extensions_version_not_3 e_cert_unique_identifier_version_*",
            of(lax::version_1(&sound())),
            "",
        ),
        kind(
            "RSA below 2048 bits",
            "e_rsa_mod_less_than_* e_old_*_rsa_mod_less_than_* e_mp_modulus_must_be_2048_* cabf.rsa_modulus_invalid_length googl.prohibited_rsa_modulus_length",
            client(named().key_kind(KeyKind::Rsa1024)),
            "",
        ),
        kind(
            "RSA exponent or factors",
            "*rsa_public_exponent_* e_rsa_exp_negative e_rsa_fermat_factorization e_rsa_no_public_key w_rsa_mod_* e_mp_exponent_* e_mp_modulus_must_be_divisible_by_8 cabf.rsa_exponent_* cabf.rsa_modulus_has_small_prime_factor",
            None,
            "a key is read for its size alone",
        ),
        kind(
            "elliptic curve",
            "e_ec_improper_curves e_ecdsa_small_private_key cabf.ecdsa_key_validation_failed",
            client(named().key_kind(KeyKind::Ed25519)),
            "below 256 bits `weak_key`; other kinds by what Envoy negotiates",
        ),
        kind(
            "signed with SHA-1",
            "e_sub_cert_or_sub_ca_using_sha1 e_signature_algorithm_not_supported",
            client(
                Ca::root("RSA")
                    .key_kind(KeyKind::Rsa2048)
                    .lifetime(lasting(-DAY, 9 * DAY))
                    .issue()
                    .expect("a CA")
                    .leaf()
                    .dns("pay.test")
                    .lifetime(lasting(-HOUR, DAY))
                    .sha1_signature(),
            ),
            "",
        ),
        kind(
            "key usage that does not fit the key",
            "*ecdsa_*ku* *ecc_*k*u* e_rsa_allowed_ku_* *rsa_digitalsignature_and_keyencipherment_present",
            client(usages(&[KeyUsage::KeyEncipherment])),
            "where digitalSignature is missing",
        ),
        kind(
            "other keys and signatures, and how they are written",
            "*dsa_* e_public_key_* *spki* *prohibited_signature_algorithm_encoding *subject_public_key_algorithm_encoding e_algorithm_identifier_* e_tbs_signature_* e_mp_rsassa* pkix.public_key_* pkix.unsupported_algorithm",
            None,
            TRUSTED,
        ),
        kind(
            "signature that does not verify, chain that does not hold",
            "pkix.signature_verification_failed pkix.issuer_and_subject_* *signature_algorithm_mismatch e_cert_sig_alg_not_match_* pkix.certificate_subject_has_policy_not_in_issuer *root_subject_issuer_name_encoding_not_equal *root_aki_ski_not_equal e_cert_issued_by_compromised_*",
            None,
            "`inspect --trusted` says what Envoy makes of it; without a bundle nothing is verified",
        ),
        kind(
            "serial number",
            "e_serial_number_* pkix.certificate_serial_number_out_of_range",
            client(named().serial_number(&[1])),
            "by itself nothing; a number of two keys is `serial_reused` in a proxy",
        ),
        kind(
            "extension twice",
            "e_ext_duplicate_extension pkix.duplicate_extension",
            first(lax::repeated_extensions(&sound())),
            "",
        ),
        kind(
            "length or value that is no DER",
            "e_cert_ext_invalid_der e_basic_constr_invalid_der e_ext_cannot_be_empty_sequence itu.invalid_asn1_syntax base.unhandled_exception e_*_ku_encoding e_key_usage_incorrect_length",
            first(lax::long_lengths(&sound())),
            "",
        ),
        kind(
            "time without seconds, or not in UTC",
            "e_utc_time_* e_generalized_time_* pkix.*time_incorrect_syntax pkix.invalid_time_syntax pkix.validity_period_end_value_missing",
            first(lax::times(&sound())),
            "",
        ),
        kind(
            "kind of time",
            "e_wrong_time_format_pre2050 pkix.wrong_time_useful_type",
            of(Handmade {
                validity: [
                    utc_time("260101000000Z"),
                    pki::handmade::generalized_time("20280101000000Z"),
                ],
                ..Handmade::default()
            }
            .der()),
            "Envoy reads both; of this certificate other things are said",
        ),
        kind(
            "no subject alternative name",
            "e_ext_san_missing e_ext_san_no_entries *subject_altname_extension_absent",
            client(leaf().common_name("pay")),
            "",
        ),
        kind(
            "wildcard",
            "*wildcard*",
            client(leaf().dns("*.test")),
            "of a client",
        ),
        kind(
            "internal names and reserved addresses",
            "*reserved_*ip *arpa* *internal_domain* *internal_ip* *internal_names *reverse_zone*",
            client(leaf().dns("pay")),
            "the names of a mesh are internal",
        ),
        kind(
            "labels of DNS names",
            "*dnsname* e_ext_san_dns_* *san_dns_name_* e_ext_san_space_dns_name e_international_dns_* *underscore* *domain_name* *plabel* n_san_iana_*",
            client(leaf().dns("a_b..test")),
            NAMES,
        ),
        kind(
            "issuer alternative name",
            "*_ian_* pkix.issuer_alt_name_*",
            None,
            "nobody reads it",
        ),
        kind(
            "name constraints, pathLen",
            "*name_constraint* *path_len_constraint_* *pathlen*",
            None,
            TRUSTED,
        ),
        kind(
            "URI, e-mail and IP names",
            "e_ext_san_uri_* e_ext_san_rfc822_* *email_* *rfc822* pkix.ip_address_* pkix.*uri_* n_suspicious_chars_* e_ext_san_*_present e_ext_san_empty_name *prohibited_san_type *user_principal_name*",
            client(leaf().uri("spiffe://Bad/x")),
            "of SPIFFE IDs alone; otherwise the form of a name is nothing to Envoy",
        ),
        kind(
            "leaf with cA",
            "e_sub_cert_not_is_ca *subscriber_basic_constraints_ca_bit_set",
            client(named().ca_flag()),
            "",
        ),
        kind(
            "CA without cA",
            "e_ca_is_ca *ca_basic_constraints_ca_bit_not_set *root_basic_constraints_ca_not_present *.basic_constraints_extension_absent",
            under(&ca().without_ca_flag().issue().expect("a CA")),
            "",
        ),
        kind(
            "CA without keyCertSign",
            "e_ca_key_cert_sign_not_set *ca_certificate_required_ku_missing pkix.ca_certificate_keycertsign_*",
            under(&ca().key_usages(&[KeyUsage::CrlSign]).issue().expect("a CA")),
            "",
        ),
        kind(
            "leaf that may sign certificates",
            "*cert_sign_* e_sub_cert_key_usage_crl_sign_bit_set pkix.ee_certificate_keycertsign_* *subscriber_prohibited_ku_present",
            client(usages(&[signs, KeyUsage::KeyCertSign])),
            "",
        ),
        kind(
            "no extended key usage",
            "e_sub_cert_eku_missing n_sub_ca_eku_missing *extended_key_usage_extension_absent",
            client(purposes(&[])),
            "",
        ),
        kind(
            "no key usage",
            "e_ca_key_usage_missing e_root_ca_key_usage_present w_missing_key_usage *key_usage_extension_absent pkix.ca_certificate_no_ku_extension *required_ku_missing *recommended_ku_missing",
            client(workload().key_usages(&[])),
            "of a SPIFFE leaf; others may be without",
        ),
        kind(
            "CA without cRLSign, key usage or basic constraints not critical",
            "e_ca_crl_sign_not_set *key_usage_*critical* *basic_constraints_*critical *ca_digital_signature_not_set *no_digital_signature_bit *ca_certificate_prohibited_ku_present *discouraged_ku_present *key_usage_without_bits pkix.*ku_*set *key_usage_and_extended_key_usage_inconsistent *non_critical_basic_* *non_critical_key_usage_*",
            under(
                &ca()
                    .key_usages(&[KeyUsage::KeyCertSign])
                    .issue()
                    .expect("a CA"),
            ),
            "Envoy asks for none of it",
        ),
        kind(
            "extended key usage marked critical",
            "e_eku_critical w_eku_critical_improperly *eku_critical *critical_extended_key_usage_extension",
            client(purposes(&[]).extension_with(
                &[2, 5, 29, 37],
                true,
                &sequence(&[tlv(6, [0x2b, 6, 1, 5, 5, 7, 3, 2])]),
            )),
            "Envoy accepts it",
        ),
        kind(
            "anyExtendedKeyUsage",
            "*anyeku* n_sub_ca_eku_not_technically_constrained",
            client(purposes(&[ExtendedKeyUsage::Any])),
            "it stands for nothing to BoringSSL",
        ),
        kind(
            "extended key usage without client or server",
            "e_sub_cert_eku_server_auth_client_auth_missing *serverauth_eku_absent",
            client(purposes(&[ExtendedKeyUsage::EmailProtection])),
            "",
        ),
        kind(
            "more extended key usages",
            "*eku_extra_values *_eku_present e_sub_cert_eku_check e_ca_invalid_eku e_client_auth_not_allowed e_root_ca_extended_key_usage_present *extended_key_usage_extension_present",
            client(purposes(&[is_client, ExtendedKeyUsage::CodeSigning])),
            "codeSigning and OCSPSigning",
        ),
        kind(
            "key identifiers",
            "*authority_key_id* *key_identifier* pkix.aki_* *skid_*",
            client(named().without_authority_key_identifier()),
            "issuers are then told by their names",
        ),
        kind(
            "certificate policies",
            "*policy* *policies* e_cab_* *cps_uri*",
            None,
            TRUSTED,
        ),
        kind(
            "revocation and issuer information",
            "*crl* *aia_* *authority_info* *distribution_point* *revocation_information* *info_access*",
            None,
            "Envoy does not fetch anything: CRLs come with its configuration",
        ),
        kind(
            "extension marked critical that must not be, or not critical that must be",
            "*critical*",
            client(named().extension(&[2, 5, 29, 18], true)),
            "those that BoringSSL does not know",
        ),
        kind(
            "unique identifiers",
            "*unique_identifier* *unique_id_present",
            None,
            "nobody reads them",
        ),
        kind(
            "extensions that nobody expects",
            "*unknown_extension_present",
            client(named().extension(&[1, 2, 3], false)),
            "nothing, unless it is critical",
        ),
        kind(
            "subject: empty, blanks, lengths, character sets, country",
            "*subject_* e_subj_* *_dn_* *rdn* *common_name* *_attribute* *country* *organization* *name_must* *postal* *province* *street* *latin1* *html* *issuer_field_empty pkix.name_* e_utf8_replacement_* *attribute_value_*",
            client(named().common_name(" pay ")),
            NAMES,
        ),
    ]
}

/// Kinds that are of no certificate of mTLS. They come first: their lints have words of others in their names.
fn kinds_elsewhere() -> Vec<Kind> {
    vec![
        kind(
            "revocation lists, OCSP",
            "e_crl_* e_cab_crl_* e_ocsp_* e_this_update_* e_cs_crl* cabf.arl_* cabf.crl_* pkix.crl_* pkix.ocsp_* *.ocsp_responder.*",
            None,
            "of no certificate; see [own-certificates.md](own-certificates.md)",
        ),
        kind(
            "EV, QC statements, S/MIME, code signing, Tor",
            "e_ev_* *qcstatem_* e_smime_* w_smime_* e_cs_* *onion* *etsi_* cabf.ev_guidelines.* cabf.smime.* etsi.* ts_119_* googl.gmail.* iso.lei.* adbe.* pkix.smime_* pkix.smtp* *_tor_* e_adobe_* *smime* e_mailbox_* e_single_email_* e_commonname_mailbox_validated e_legal_entity_identifier e_legacy_generation_* e_invalid_individual_identity e_org_validated_* e_registration_scheme_* n_mp_allowed_eku e_cabf_org_identifier_* *organization_identifier* pkix.prohibited_qualified_statement_present e_key_usage_presence e_rsa_key_usage_* e_*_other_key_usages e_ecpublickey_key_usages e_edwardspublickey_key_usages e_san_shall_be_present",
            None,
            "other uses than mTLS",
        ),
        kind("certificate transparency", "*sct_* *precert*", None, PUBLIC),
    ]
}

/// The findings, or that it cannot be read, or that Envoy refuses it.
fn said(example: &(Vec<u8>, &str)) -> String {
    let (file, direction) = example;
    let run = inspect_with(&["--format", "json", "--direction", direction], file);
    let Ok(report) = serde_json::from_str::<serde_json::Value>(&run.stdout) else {
        return "cannot be read, as in Envoy".to_owned();
    };
    let certificates = report["certificates"].as_array().expect("certificates");
    let findings = certificates.iter().flat_map(|certificate| {
        let findings = certificate["findings"].as_array().expect("findings");
        findings
            .iter()
            .map(|finding| format!("`{}`", finding.as_str().expect("a name")))
    });
    let mut said: Vec<String> = findings.collect();
    said.dedup();
    let notes = report["notes"].as_array().into_iter().flatten();
    let is_refused = |note: &serde_json::Value| note.to_string().contains("Envoy refuses");
    if notes.filter(|note| is_refused(note)).count() > 0 {
        said.push("a note: Envoy refuses it".to_owned());
    }
    match said.is_empty() {
        true => "–".to_owned(),
        false => said.join(", "),
    }
}

/// Whether a name fits a pattern, in which `*` stands for anything.
fn fits(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            let mut ends = (0..=name.len()).filter_map(|from| name.get(from..));
            ends.any(|end| fits(end, rest))
        }),
    }
}

/// The lints of each kind: of zlint, and of pkilint.
fn sorted(kinds: &[Kind]) -> Vec<[Vec<&'static str>; 2]> {
    let mut sorted: Vec<[Vec<&str>; 2]> = kinds.iter().map(|_| Default::default()).collect();
    let mut unused: BTreeSet<_> = kinds
        .iter()
        .flat_map(|kind| kind.lints.split(' ').map(|pattern| (kind.fault, pattern)))
        .collect();
    for (linter, names) in [ZLINT, PKILINT].into_iter().enumerate() {
        for name in names.lines() {
            let of_kind = |kind: &Kind| {
                let mut patterns = kind.lints.split(' ');
                let pattern = patterns.find(|pattern| fits(name, pattern))?;
                unused.remove(&(kind.fault, pattern));
                Some(())
            };
            let position = kinds.iter().map(of_kind).position(|found| found.is_some());
            let position = position.unwrap_or_else(|| panic!("{name}: of no kind"));
            sorted[position][linter].push(name);
        }
    }
    assert!(unused.is_empty(), "patterns of no lint: {unused:?}");
    sorted
}

#[test]
fn every_lint_is_of_a_kind_and_the_page_says_what_inspect_says_of_it() {
    let mut kinds_in_order = kinds_elsewhere();
    let elsewhere = kinds_in_order.len();
    kinds_in_order.extend(kinds());
    let mut all: Vec<_> = sorted(&kinds_in_order)
        .into_iter()
        .zip(kinds_in_order)
        .collect();
    all.rotate_left(elsewhere);
    let mut table =
        "| fault | zlint | pkilint | `mtls-watch inspect` | |\n|---|---|---|---|---|\n".to_owned();
    let mut names = "\n## Every lint\n\n".to_owned();
    for ([zlint, pkilint], kind) in all {
        let Kind { fault, note, .. } = kind;
        let said = kind.example.as_ref().map_or("–".to_owned(), said);
        assert!(
            said != "–" || !note.is_empty(),
            "{fault}: nothing, and no reason"
        );
        let (of_zlint, of_pkilint) = (zlint.len(), pkilint.len());
        let _ = writeln!(
            table,
            "| {fault} | {of_zlint} | {of_pkilint} | {said} | {note} |"
        );
        let lints = [zlint, pkilint].concat().join("`, `");
        let _ = writeln!(names, "- {fault}: `{lints}`");
    }
    table.push_str(&names);
    let page = fs::read_to_string(project(PAGE)).expect("the page");
    let (begin, end) = ("<!-- lints:begin -->\n", "<!-- lints:end -->");
    let (before, rest) = page.split_once(begin).expect("a begin marker");
    let (found, after) = rest.split_once(end).expect("an end marker");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let page = format!("{before}{begin}{table}{end}{after}");
        fs::write(project(PAGE), page).expect("a page that can be written");
        return;
    }
    assert_eq!(found, table, "{PAGE} is stale: run `make docs`");
}
