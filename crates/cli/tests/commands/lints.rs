//! docs/lints.md: the kinds of lints that zlint has, each with a certificate that has the fault, and what `inspect` says
//! of that.

use std::fmt::Write as _;
use std::fs;

use pki::fixtures::{PKI, lasting, leaf, workload};
use pki::handmade::{Handmade, critical, extension, utc_time};
use pki::{Ca, DAY, ExtendedKeyUsage, HOUR, KeyKind, KeyUsage, LeafBuilder, lax};

use crate::cli::{inspect_with, issued};
use crate::project;

const PAGE: &str = "docs/lints.md";

/// A kind of lint.
struct Kind {
    /// What is at fault.
    fault: &'static str,
    /// Lints of zlint that are of that kind, or what their names begin with.
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
            "`e_validity_time_not_positive`",
            client(named().lifetime(lasting(HOUR, 2))),
            "",
        ),
        kind(
            "valid for very long",
            "`e_tls_server_cert_valid_time_longer_than_…`, `e_sub_cert_valid_time_longer_than_…`",
            client(named().lifetime(lasting(-HOUR, 800 * DAY))),
            "from two years on; the web PKI's limits are shorter",
        ),
        kind(
            "version 1",
            "`e_invalid_certificate_version`",
            client(leaf().version_1()),
            "",
        ),
        kind(
            "extensions in version 1",
            "`e_cert_extensions_version_not_3`, `e_cert_unique_identifier_version_…`",
            of(lax::version_1(&sound())),
            "",
        ),
        kind(
            "RSA below 2048 bits",
            "`e_rsa_mod_less_than_2048_bits`, `e_old_sub_c…_rsa_mod_less_than_…`",
            client(named().key_kind(KeyKind::Rsa1024)),
            "",
        ),
        kind(
            "RSA exponent or factors",
            "`e_rsa_public_exponent_…`, `e_rsa_exp_negative`, `e_rsa_fermat_factorization`, `e_rsa_no_public_key`, `w_rsa_mod_…`",
            None,
            "a key is read for its size alone",
        ),
        kind(
            "elliptic curve",
            "`e_ec_improper_curves`, `e_public_key_…`",
            client(named().key_kind(KeyKind::Ed25519)),
            "below 256 bits `weak_key`; other kinds by what Envoy negotiates",
        ),
        kind(
            "signed with SHA-1",
            "`e_sub_cert_or_sub_ca_using_sha1`, `e_signature_algorithm_not_supported`",
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
            "serial number",
            "`e_serial_number_…`, `w_serial_number_low_entropy`",
            client(named().serial_number(&[1])),
            "by itself nothing; a number of two keys is `serial_reused` in a proxy",
        ),
        kind(
            "extension twice",
            "`e_ext_duplicate_extension`",
            first(lax::repeated_extensions(&sound())),
            "",
        ),
        kind(
            "length or value that is no DER",
            "`e_asn1_syntax`, `e_cert_ext_invalid_der`, `e_basic_constr_invalid_der`",
            first(lax::long_lengths(&sound())),
            "",
        ),
        kind(
            "time without seconds, or not in UTC",
            "`e_utc_time_…`, `e_generalized_time_…`",
            first(lax::times(&sound())),
            "",
        ),
        kind(
            "kind of time",
            "`e_wrong_time_format_pre2050`",
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
            "`e_ext_san_missing`, `e_ext_san_no_entries`",
            client(leaf().common_name("pay")),
            "",
        ),
        kind(
            "wildcard",
            "`e_dnsname_…wildcard…`, `w_san_wildcard_not_first`, `w_san_bare_wildcard`",
            client(leaf().dns("*.test")),
            "of a client",
        ),
        kind(
            "labels of DNS names",
            "`e_dnsname_…`, `e_san_dns_name_…`, `w_san_iana_pub_suffix_empty`",
            client(leaf().dns("a_b..test")),
            NAMES,
        ),
        kind(
            "URI, e-mail and IP names",
            "`e_ext_san_uri_…`, `e_ext_san_rfc822_…`, `e_ip_…`",
            client(leaf().uri("spiffe://Bad/x")),
            "of SPIFFE IDs alone; otherwise the form of a name is nothing to Envoy",
        ),
        kind(
            "internal names and reserved addresses",
            "`e_subject_contains_reserved_…`, `e_ext_san_contains_reserved_ip`",
            client(leaf().dns("pay")),
            "the names of a mesh are internal",
        ),
        kind(
            "leaf with cA",
            "`e_sub_cert_not_is_ca`",
            client(named().ca_flag()),
            "",
        ),
        kind(
            "CA without cA",
            "`e_ca_is_ca`",
            under(&ca().without_ca_flag().issue().expect("a CA")),
            "",
        ),
        kind(
            "CA without keyCertSign",
            "`e_ca_key_cert_sign_not_set`",
            under(&ca().key_usages(&[KeyUsage::CrlSign]).issue().expect("a CA")),
            "",
        ),
        kind(
            "CA without cRLSign, key usage not critical",
            "`e_ca_crl_sign_not_set`, `e_ca_key_usage_not_critical`, `e_basic_constraints_not_critical`",
            under(
                &ca()
                    .key_usages(&[KeyUsage::KeyCertSign])
                    .issue()
                    .expect("a CA"),
            ),
            "Envoy asks for none of it",
        ),
        kind(
            "leaf that may sign certificates",
            "`e_sub_cert_key_usage_cert_sign_bit_set`, `e_sub_cert_key_usage_crl_sign_bit_set`",
            client(usages(&[signs, KeyUsage::KeyCertSign])),
            "",
        ),
        kind(
            "no key usage",
            "`e_ca_key_usage_missing`, `w_ext_key_usage_not_critical`",
            client(workload().key_usages(&[])),
            "of a SPIFFE leaf; others may be without",
        ),
        kind(
            "key usage that does not fit the key",
            "`e_ecdsa_ee_invalid_ku`, `e_rsa_allowed_ku_…`",
            client(usages(&[KeyUsage::KeyEncipherment])),
            "where digitalSignature is missing",
        ),
        kind(
            "no extended key usage",
            "`e_sub_cert_eku_missing`",
            client(purposes(&[])),
            "",
        ),
        kind(
            "extended key usage without client or server",
            "`e_sub_cert_eku_server_auth_client_auth_missing`",
            client(purposes(&[ExtendedKeyUsage::EmailProtection])),
            "",
        ),
        kind(
            "anyExtendedKeyUsage",
            "`e_sub_c…_eku_…any…`",
            client(purposes(&[ExtendedKeyUsage::Any])),
            "it stands for nothing to BoringSSL",
        ),
        kind(
            "more extended key usages",
            "`w_sub_cert_eku_extra_values`, `e_ca_invalid_eku`",
            client(purposes(&[is_client, ExtendedKeyUsage::CodeSigning])),
            "codeSigning and OCSPSigning",
        ),
        kind(
            "extension marked critical that must not be",
            "`e_ext_…_critical`, `e_ext_…_marked_critical`",
            client(named().extension(&[2, 5, 29, 18], true)),
            "those that BoringSSL does not know",
        ),
        kind(
            "extended key usage marked critical",
            "`e_eku_critical_improperly`",
            of(Handmade {
                extensions: vec![
                    critical(37, &pki::handmade::purposes(&[2])),
                    extension(17, &pki::handmade::uris(&["a://b"])),
                ],
                ..Handmade::default()
            }
            .der()),
            "Envoy accepts it; of this certificate other things are said",
        ),
        kind(
            "key identifiers",
            "`e_ext_authority_key_identifier_…`, `e_ext_subject_key_identifier_…`",
            client(named().without_authority_key_identifier()),
            "issuers are then told by their names",
        ),
        kind(
            "subject: empty, blanks, lengths, character sets, country",
            "`e_subject_…`, `w_subject_…`, `e_ca_subject_field_empty`, `w_…_dn_…_whitespace`, `e_subject_common_name_…`",
            client(named().common_name(" pay ")),
            NAMES,
        ),
        kind(
            "unique identifiers",
            "`e_cert_contains_unique_identifier`",
            None,
            "nobody reads them",
        ),
        kind(
            "revocation and issuer information",
            "`e_sub_cert_crl_…`, `e_sub_c…_aia_…`, `e_distribution_point_…`",
            None,
            "Envoy does not fetch anything: CRLs come with its configuration",
        ),
        kind(
            "certificate policies",
            "`e_ext_cert_policy_…`, `e_cert_policy_…`, `e_cab_…`",
            None,
            TRUSTED,
        ),
        kind(
            "name constraints, pathLen",
            "`e_ext_name_constraints_…`, `e_path_len_constraint_…`, `e_name_constraint_…`",
            None,
            TRUSTED,
        ),
        kind(
            "certificate transparency",
            "`e_…_sct_…`, `e_precert_…`",
            None,
            PUBLIC,
        ),
        kind(
            "EV, QC statements, S/MIME, code signing, Tor",
            "`e_ev_…`, `e_qcstatem_…`, `e_smime_…`, `e_cs_…`, `e_onion_…`",
            None,
            "other uses than mTLS",
        ),
        kind(
            "revocation lists",
            "`e_crl_…`",
            None,
            "of no certificate; see [own-certificates.md](own-certificates.md)",
        ),
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

#[test]
fn the_page_says_what_inspect_says_of_each_kind() {
    let mut table =
        "| fault | lints of zlint | `mtls-watch inspect` | |\n|---|---|---|---|\n".to_owned();
    for Kind {
        fault,
        lints,
        example,
        note,
    } in kinds()
    {
        let said = example.as_ref().map_or("–".to_owned(), said);
        assert!(
            said != "–" || !note.is_empty(),
            "{fault}: nothing, and no reason"
        );
        let _ = writeln!(table, "| {fault} | {lints} | {said} | {note} |");
    }
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
