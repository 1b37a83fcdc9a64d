//! Pairs of a client and a server. Each fault is put to either side, so that the other one meets it.

use anyhow::Result;
use serde_json::{Value, json};
use testbed::pki::{
    CaBuilder, DAY, ExtendedKeyUsage, HOUR, KeyKind, KeyUsage, LeafBuilder, Lifetime,
};
use testbed::{Ca, Hierarchy, Identity, TrustBundle};

use crate::proxies::Side;

/// The words of the verdict with the fault on the client's side, and on the server's.
type Words = [Option<&'static str>; 2];

/// A client and a server, and what is wrong.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub client: Side,
    pub server: Side,
    /// The word of the verdict; `None`: they accept each other.
    pub word: Option<&'static str>,
}

/// On which side the fault is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Client,
    Server,
}

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/pay";
/// What no CA of the world issues: 1.3.6.1.4.1.99999.1.
const UNKNOWN: &[u64] = &[1, 3, 6, 1, 4, 1, 99999, 1];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];

/// The parts of a sound mesh, and the side that a fault is put to.
struct Mesh {
    cas: Hierarchy,
    cases: Vec<Case>,
}

/// All of them.
///
/// # Errors
/// If a certificate cannot be issued.
pub fn all() -> Result<Vec<Case>> {
    let mut mesh = Mesh {
        cas: Hierarchy::new()?,
        cases: Vec::new(),
    };
    mesh.leaves()?;
    mesh.chains()?;
    mesh.bundles()?;
    mesh.names()?;
    mesh.settings()?;
    Ok(mesh.cases)
}

impl Mesh {
    fn leaf(&self, on: On) -> LeafBuilder {
        self.cas.leaf().uri(match on {
            On::Client => CLIENT,
            On::Server => SERVER,
        })
    }

    fn sound(&self, on: On) -> Result<Side> {
        Ok(Side::new(&self.leaf(on).issue()?, &self.cas.trust_bundle()))
    }

    /// The same fault on either side.
    fn both(
        &mut self,
        name: &str,
        words: Words,
        side: impl Fn(&Self, On) -> Result<Side>,
    ) -> Result<()> {
        let client = Case {
            name: format!("{name}, client"),
            client: side(self, On::Client)?,
            server: self.sound(On::Server)?,
            word: words[0],
        };
        let server = Case {
            name: format!("{name}, server"),
            client: self.sound(On::Client)?,
            server: side(self, On::Server)?,
            word: words[1],
        };
        self.cases.extend([client, server]);
        Ok(())
    }

    /// Leaves of the sound hierarchy.
    fn leaves(&mut self) -> Result<()> {
        use ExtendedKeyUsage::{Any, ClientAuth, ServerAuth};
        type Make = fn(LeafBuilder) -> LeafBuilder;
        let same = |word| [Some(word), Some(word)];
        let leaves: [(&str, Words, Make); 14] = [
            ("sound", [None, None], |leaf| leaf),
            ("expired", same("expired"), |leaf| {
                leaf.lifetime(Lifetime::days(-1))
            }),
            ("not yet valid", same("not_yet_valid"), |leaf| {
                leaf.lifetime(Lifetime::from_now(DAY, 2 * DAY))
            }),
            // As a client it is refused; as a server it is not, and would be as a client.
            (
                "serverAuth alone",
                [Some("client_auth_missing"), None],
                |leaf| leaf.extended_key_usages(&[ServerAuth]),
            ),
            (
                "clientAuth alone",
                [None, Some("server_auth_missing")],
                |leaf| leaf.extended_key_usages(&[ClientAuth]),
            ),
            (
                "any usage",
                [Some("client_auth_missing"), Some("client_auth_missing")],
                |leaf| leaf.extended_key_usages(&[Any]),
            ),
            ("no usage extension", [None, None], |leaf| {
                leaf.extended_key_usages(&[])
            }),
            (
                "keyEncipherment alone",
                same("digital_signature_missing"),
                |leaf| // Envoy loads no such EC certificate.
                leaf.key_kind(KeyKind::Rsa2048).key_usages(&[KeyUsage::KeyEncipherment]),
            ),
            ("no key usage", [None, None], |leaf| leaf.key_usages(&[])),
            ("cA true", [None, None], LeafBuilder::ca_flag),
            ("RSA key", [None, None], |leaf| {
                leaf.key_kind(KeyKind::Rsa2048)
            }),
            ("P-384 key", [None, Some("no_shared_cipher")], |leaf| {
                leaf.key_kind(KeyKind::P384)
            }),
            (
                "critical extension",
                same("critical_extension_unknown"),
                |leaf| leaf.extension_with(UNKNOWN, true, &[5, 0]),
            ),
            (
                "no AKI",
                [None, None],
                LeafBuilder::without_authority_key_identifier,
            ),
        ];
        for (name, words, make) in leaves {
            self.both(name, words, |mesh, on| {
                Ok(Side::new(
                    &make(mesh.leaf(on)).issue()?,
                    &mesh.cas.trust_bundle(),
                ))
            })?;
        }
        Ok(())
    }

    fn presenting(
        &mut self,
        name: &str,
        words: Words,
        identity: impl Fn(&Self, Identity) -> Result<Identity>,
    ) -> Result<()> {
        self.both(name, words, |mesh, on| {
            let identity = identity(mesh, mesh.leaf(on).issue()?)?;
            Ok(Side::new(&identity, &mesh.cas.trust_bundle()))
        })
    }

    /// Of another issuing CA below the sound intermediate.
    fn below(
        &mut self,
        name: &str,
        words: Words,
        ca: impl Fn(CaBuilder) -> CaBuilder,
    ) -> Result<()> {
        let issuing = ca(self.cas.intermediate.subordinate("App CA")).issue()?;
        self.both(name, words, |mesh, on| {
            let uri = match on {
                On::Client => CLIENT,
                On::Server => SERVER,
            };
            Ok(Side::new(
                &issuing.leaf().uri(uri).issue()?,
                &mesh.cas.trust_bundle(),
            ))
        })
    }

    fn chains(&mut self) -> Result<()> {
        let same = |word| [Some(word), Some(word)];
        let sound = [None, None];
        self.presenting("leaf alone", same("unknown_ca"), |_, leaf| {
            Ok(leaf.leaf_only())
        })?;
        self.presenting("with root", sound, |_, leaf| Ok(leaf.with_root()))?;
        self.presenting("other order", sound, |mesh, leaf| {
            Ok(leaf.sending(&[mesh.cas.intermediate.der(), mesh.cas.issuing.der()]))
        })?;
        self.presenting("a CA twice", sound, |mesh, leaf| {
            let cas = &mesh.cas;
            Ok(leaf.sending(&[cas.issuing.der(), cas.issuing.der(), cas.intermediate.der()]))
        })?;
        self.presenting("an unrelated CA with it", sound, |mesh, leaf| {
            let other = Ca::root("Unrelated").lifetime(Lifetime::days(-1)).issue()?;
            Ok(leaf.sending(&[
                other.der(),
                mesh.cas.issuing.der(),
                mesh.cas.intermediate.der(),
            ]))
        })?;
        self.presenting("issuing CA missing", same("unknown_ca"), |mesh, leaf| {
            Ok(leaf.sending(&[mesh.cas.intermediate.der()]))
        })?;
        self.presenting("forged", same("bad_signature"), |_, leaf| {
            Ok(leaf.with_bad_signature())
        })?;
        self.below("issuing CA expired", same("expired"), |ca| {
            ca.lifetime(Lifetime::days(-1))
        })?;
        self.below("issuing CA not yet valid", same("not_yet_valid"), |ca| {
            ca.lifetime(Lifetime::from_now(HOUR, DAY))
        })?;
        let server_only = [ExtendedKeyUsage::ServerAuth];
        self.below(
            "issuing CA for servers",
            [Some("client_auth_missing"), None],
            |ca| ca.extended_key_usages(&server_only),
        )?;
        self.below(
            "issuing CA without cA",
            same("ca_flag_missing"),
            CaBuilder::without_ca_flag,
        )?;
        self.below("issuing CA without keyCertSign", same("unknown_ca"), |ca| {
            ca.key_usages(&[KeyUsage::CrlSign])
        })?;
        self.below("name constraint kept", sound, |ca| {
            ca.extension_with(NAME_CONSTRAINTS, true, &permitted_uri("cluster.local"))
        })?;
        self.below("name constraint broken", same("name_mismatch"), |ca| {
            ca.extension_with(NAME_CONSTRAINTS, true, &permitted_uri("other.local"))
        })?;
        let last = self
            .cas
            .intermediate
            .subordinate("Last CA")
            .path_length(0)
            .issue()?;
        let deep = last.subordinate("Deep CA").issue()?;
        self.both("too deep", same("path_length"), |mesh, on| {
            let uri = match on {
                On::Client => CLIENT,
                On::Server => SERVER,
            };
            Ok(Side::new(
                &deep.leaf().uri(uri).issue()?,
                &mesh.cas.trust_bundle(),
            ))
        })?;
        self.both("self-signed", same("self_signed"), |mesh, _| {
            let own = LeafBuilder::self_signed()
                .common_name("me")
                .uri(CLIENT)
                .issue()?;
            Ok(Side::new(&own, &mesh.cas.trust_bundle()))
        })?;
        Ok(())
    }

    /// Bundles: the fault is in what one side trusts.
    fn bundles(&mut self) -> Result<()> {
        let same = |word| [Some(word), Some(word)];
        let new = Ca::root("Root CA").issue()?;
        let renewed = Ca::root("Root CA").key(self.cas.root.key()).issue()?;
        let ended = Ca::root("Root CA")
            .key(self.cas.root.key())
            .lifetime(Lifetime::days(-1))
            .issue()?;
        let stranger = Ca::root("Strange CA").issue()?;
        let root = self.cas.root.clone();
        let (issuing, intermediate) = (self.cas.issuing.clone(), self.cas.intermediate.clone());
        let sound = [None, None];
        let bundles: [(&str, Words, Vec<&Ca>); 8] = [
            ("trusts a stranger", same("unknown_ca"), vec![&stranger]),
            (
                "trusts another key of the name",
                same("unknown_ca"),
                vec![&new],
            ),
            ("trusts both keys of the name", sound, vec![&new, &root]),
            ("trusts the renewed root", sound, vec![&renewed]),
            ("ended root first", same("expired"), vec![&ended, &renewed]),
            ("ended root last", sound, vec![&renewed, &ended]),
            ("trusts the issuing CA alone", sound, vec![&issuing]),
            (
                "trusts the intermediate CA and an ended stranger",
                sound,
                vec![&intermediate, &stranger],
            ),
        ];
        for (name, words, cas) in bundles {
            self.both(name, words, |mesh, on| {
                Ok(Side::new(
                    &mesh.leaf(on).issue()?,
                    &TrustBundle::of(cas.iter().copied()),
                ))
            })?;
        }
        let revoked = self.leaf(On::Client).issue()?;
        let lists = |of_leaf: String, rest: &Self| -> Result<String> {
            let above = [&rest.cas.intermediate, &rest.cas.root];
            let above: Result<Vec<String>> =
                above.iter().map(|ca| ca.revocation_list(&[])).collect();
            Ok(of_leaf + &above?.concat())
        };
        let ended = Lifetime::from_now(-2 * DAY, -DAY);
        let whole = lists(self.cas.issuing.revocation_list(&[&revoked])?, self)?;
        let old = lists(self.cas.issuing.revocation_list_for(ended, &[])?, self)?;
        let early = Lifetime::from_now(DAY, 2 * DAY);
        let early = lists(self.cas.issuing.revocation_list_for(early, &[])?, self)?;
        let replaced = old.clone() + &whole;
        let partial = self.cas.issuing.revocation_list(&[])?;
        let client = Side::new(&revoked, &self.cas.trust_bundle());
        for (name, word, client, list, leaf_only) in [
            ("revoked", Some("revoked"), client, &whole, false),
            (
                "another one revoked",
                None,
                self.sound(On::Client)?,
                &whole,
                false,
            ),
            (
                "list has ended",
                Some("crl_expiring"),
                self.sound(On::Client)?,
                &old,
                false,
            ),
            (
                "list that is not valid yet",
                Some("revoked"),
                self.sound(On::Client)?,
                &early,
                false,
            ),
            (
                "list that has ended beside its successor",
                None,
                self.sound(On::Client)?,
                &replaced,
                false,
            ),
            (
                "list of the issuing CA alone",
                Some("revoked"),
                self.sound(On::Client)?,
                &partial,
                false,
            ),
            (
                "list of the issuing CA, for leaves",
                None,
                self.sound(On::Client)?,
                &partial,
                true,
            ),
        ] {
            let mut server = self.sound(On::Server)?;
            server.validation =
                json!({"crl": {"inline_string": list}, "only_verify_leaf_cert_crl": leaf_only});
            self.cases.push(Case {
                name: name.to_owned(),
                client,
                server,
                word,
            });
        }
        Ok(())
    }

    /// What one side asks of the other's names.
    fn names(&mut self) -> Result<()> {
        let uri = |matcher: Value| json!([{"san_type": "URI", "matcher": matcher}]);
        let dns = |name: &str| json!([{"san_type": "DNS", "matcher": {"exact": name}}]);
        let mismatch = Some("name_mismatch");
        for (name, word, matchers) in [
            (
                "its trust domain",
                None,
                uri(json!({"prefix": "spiffe://cluster.local/"})),
            ),
            (
                "another trust domain",
                mismatch,
                uri(json!({"prefix": "spiffe://other.local/"})),
            ),
            ("its identity", None, uri(json!({"exact": SERVER}))),
            ("another identity", mismatch, uri(json!({"exact": CLIENT}))),
            (
                "an expression",
                None,
                uri(json!({"safe_regex": {"regex": "spiffe://.*/sa/pay"}})),
            ),
            (
                "an expression for a part",
                mismatch,
                uri(json!({"safe_regex": {"regex": "/sa/pay"}})),
            ),
            (
                "a suffix in capitals",
                mismatch,
                uri(json!({"suffix": "/sa/PAY"})),
            ),
            (
                "a suffix in whatever case",
                None,
                uri(json!({"suffix": "/sa/PAY", "ignore_case": true})),
            ),
            ("its host name", None, dns("pay.shop.test")),
            (
                "a host name below its wildcard",
                None,
                dns("x.pay.shop.test"),
            ),
            (
                "a host name too deep below its wildcard",
                mismatch,
                dns("y.x.pay.shop.test"),
            ),
            ("another host name", mismatch, dns("cart.shop.test")),
        ] {
            let leaf = self
                .leaf(On::Server)
                .dns("pay.shop.test")
                .dns("*.pay.shop.test")
                .issue()?;
            let mut client = self.sound(On::Client)?;
            client.matchers = matchers;
            self.cases.push(Case {
                name: format!("client asks for {name}"),
                client,
                server: Side::new(&leaf, &self.cas.trust_bundle()),
                word,
            });
        }
        let mut server = self.sound(On::Server)?;
        server.matchers = uri(json!({"prefix": "spiffe://other.local/"}));
        self.cases.push(Case {
            name: "server asks for another trust domain".to_owned(),
            client: self.sound(On::Client)?,
            server,
            word: mismatch,
        });
        Ok(())
    }

    fn settings(&mut self) -> Result<()> {
        let mut without = self.sound(On::Client)?;
        without.identity = None;
        self.cases.push(Case {
            name: "client without a certificate".to_owned(),
            client: without,
            server: self.sound(On::Server)?,
            word: Some("no_certificate"),
        });
        let one_three = json!({"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"});
        for (name, word, is_client_new) in [
            ("TLS 1.3 at both", None, true),
            (
                "TLS 1.3 at the server alone",
                Some("protocol_version"),
                false,
            ),
        ] {
            let (mut client, mut server) = (self.sound(On::Client)?, self.sound(On::Server)?);
            server.parameters = one_three.clone();
            if is_client_new {
                client.parameters = one_three.clone();
            }
            self.cases.push(Case {
                name: name.to_owned(),
                client,
                server,
                word,
            });
        }
        Ok(())
    }
}

/// Name constraints that permit URIs of one host.
fn permitted_uri(host: &str) -> Vec<u8> {
    use testbed::pki::handmade::{sequence, tlv};
    const URI: u8 = 0x86;
    const PERMITTED: u8 = 0xa0;
    let subtree = sequence(&[tlv(URI, host.as_bytes())]);
    sequence(&[tlv(PERMITTED, &subtree)])
}
