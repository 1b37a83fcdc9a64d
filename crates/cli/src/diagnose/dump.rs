//! An Envoy config dump as TLS contexts: which certificate each listener and cluster shows, and whom it accepts.
//!
//! Read from `/config_dump`, whole or in parts, and from `istioctl proxy-config secret -o json`, which writes the same
//! messages with other keys. What is not known of a message is passed over; an entry that cannot be read is counted.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use mtls_watch_x509::crl::RevocationList;
use mtls_watch_x509::pem;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde_json::Value;

use super::matcher::{Matcher, StringMatcher, TypedMatcher};

use super::target::{
    Anchors, Bundle, Certificate, Chain, Context, PlacedList, Role, Seen, Trust, Versions,
};

/// How what stands in a context itself is called.
const INLINE: &str = "<inline>";

/// An entry, or what is none.
enum Lenient<T> {
    Known(T),
    Unknown,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(serde_json::from_value(value).map_or(Self::Unknown, Self::Known))
    }
}

type List<T> = Vec<Lenient<T>>;

/// A dump. What `istioctl` writes is one kind of config of it.
#[derive(Deserialize)]
struct Root {
    configs: Option<Vec<Config>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    #[serde(alias = "staticSecrets")]
    static_secrets: List<SecretEntry>,
    #[serde(alias = "dynamicActiveSecrets")]
    dynamic_active_secrets: List<SecretEntry>,
    #[serde(alias = "dynamicWarmingSecrets")]
    dynamic_warming_secrets: List<SecretEntry>,
    #[serde(alias = "staticListeners")]
    static_listeners: List<ListenerEntry>,
    #[serde(alias = "dynamicListeners")]
    dynamic_listeners: List<ListenerEntry>,
    #[serde(alias = "staticClusters")]
    static_clusters: List<ClusterEntry>,
    #[serde(alias = "dynamicActiveClusters")]
    dynamic_active_clusters: List<ClusterEntry>,
}

#[derive(Deserialize)]
struct SecretEntry {
    name: Option<String>,
    secret: Option<Secret>,
}

#[derive(Deserialize)]
struct Secret {
    name: Option<String>,
    #[serde(alias = "tlsCertificate")]
    tls_certificate: Option<TlsCertificate>,
    #[serde(alias = "validationContext")]
    validation_context: Option<ValidationContext>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct TlsCertificate {
    #[serde(alias = "certificateChain")]
    certificate_chain: Option<DataSource>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct DataSource {
    filename: Option<String>,
    #[serde(alias = "inlineString")]
    inline_string: Option<String>,
    #[serde(alias = "inlineBytes")]
    inline_bytes: Option<String>,
    #[serde(alias = "environmentVariable")]
    environment_variable: Option<String>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct ValidationContext {
    #[serde(alias = "trustedCa")]
    trusted_ca: Option<DataSource>,
    crl: Option<DataSource>,
    #[serde(alias = "matchTypedSubjectAltNames")]
    match_typed_subject_alt_names: Vec<TypedMatcher>,
    #[serde(alias = "matchSubjectAltNames")]
    match_subject_alt_names: Vec<StringMatcher>,
    #[serde(alias = "verifyCertificateHash")]
    verify_certificate_hash: Vec<String>,
    #[serde(alias = "verifyCertificateSpki")]
    verify_certificate_spki: Vec<String>,
    #[serde(alias = "allowExpiredCertificate")]
    allow_expired_certificate: bool,
    #[serde(alias = "onlyVerifyLeafCertCrl")]
    only_verify_leaf_cert_crl: bool,
    #[serde(alias = "trustChainVerification")]
    trust_chain_verification: Option<String>,
    #[serde(alias = "maxVerifyDepth")]
    max_verify_depth: Option<IgnoredAny>,
    #[serde(alias = "customValidatorConfig")]
    custom_validator_config: Option<Validator>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct Validator {
    #[serde(alias = "typedConfig")]
    typed_config: ValidatorConfig,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct ValidatorConfig {
    #[serde(alias = "trustDomains")]
    trust_domains: Vec<TrustDomain>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct TrustDomain {
    name: String,
    #[serde(alias = "trustBundle")]
    trust_bundle: DataSource,
}

#[derive(Deserialize)]
struct ListenerEntry {
    listener: Option<Listener>,
    #[serde(alias = "activeState")]
    active_state: Option<ListenerState>,
}

#[derive(Deserialize)]
struct ListenerState {
    listener: Option<Listener>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Listener {
    name: String,
    #[serde(alias = "filterChains")]
    filter_chains: Vec<FilterChain>,
    #[serde(alias = "defaultFilterChain")]
    default_filter_chain: Option<FilterChain>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FilterChain {
    #[serde(alias = "transportSocket")]
    transport_socket: Option<TransportSocket>,
}

#[derive(Deserialize)]
struct ClusterEntry {
    cluster: Option<Cluster>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cluster {
    name: String,
    #[serde(alias = "transportSocket")]
    transport_socket: Option<TransportSocket>,
    #[serde(alias = "transportSocketMatches")]
    transport_socket_matches: Vec<SocketMatch>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SocketMatch {
    #[serde(alias = "transportSocket")]
    transport_socket: Option<TransportSocket>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TransportSocket {
    #[serde(alias = "typedConfig")]
    typed_config: Option<TlsContext>,
}

/// `UpstreamTlsContext` or `DownstreamTlsContext`; of any other transport socket nothing is found.
#[derive(Deserialize, Default)]
#[serde(default)]
struct TlsContext {
    #[serde(alias = "commonTlsContext")]
    common_tls_context: Option<CommonTlsContext>,
    #[serde(alias = "requireClientCertificate")]
    require_client_certificate: bool,
    #[serde(alias = "autoSniSanValidation")]
    auto_sni_san_validation: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CommonTlsContext {
    #[serde(alias = "tlsParams")]
    tls_params: TlsParams,
    #[serde(alias = "tlsCertificates")]
    tls_certificates: Vec<TlsCertificate>,
    #[serde(alias = "tlsCertificateSdsSecretConfigs")]
    tls_certificate_sds_secret_configs: Vec<SdsConfig>,
    #[serde(alias = "validationContext")]
    validation_context: Option<ValidationContext>,
    #[serde(alias = "validationContextSdsSecretConfig")]
    validation_context_sds_secret_config: Option<SdsConfig>,
    #[serde(alias = "combinedValidationContext")]
    combined_validation_context: Option<Combined>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct SdsConfig {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Combined {
    #[serde(alias = "defaultValidationContext")]
    default_validation_context: ValidationContext,
    #[serde(alias = "validationContextSdsSecretConfig")]
    validation_context_sds_secret_config: Option<SdsConfig>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TlsParams {
    #[serde(alias = "tlsMinimumProtocolVersion")]
    tls_minimum_protocol_version: Option<String>,
    #[serde(alias = "tlsMaximumProtocolVersion")]
    tls_maximum_protocol_version: Option<String>,
}

/// What a dump tells.
#[derive(Default)]
pub(super) struct Dump {
    chains: BTreeMap<String, Option<Rc<Chain>>>,
    validations: BTreeMap<String, ValidationContext>,
    /// Secrets that nobody has supplied.
    pub(super) warming: Vec<String>,
    pub(super) contexts: Vec<Context>,
    /// Entries that could not be read.
    pub(super) unreadable: usize,
    /// Where certificates are that the dump only names.
    pub(super) elsewhere: Vec<String>,
    bundles: Vec<Rc<Bundle>>,
    /// Texts with certificates: many contexts have one bundle.
    texts: HashMap<Vec<u8>, Vec<Certificate>>,
    has_places: bool,
}

/// Whether JSON is, or begins like, what is read here.
pub(super) fn is_dump(text: &[u8]) -> bool {
    let head = text.get(..text.len().min(4096)).unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let keys = [
        "\"configs\"",
        "\"dynamicActiveSecrets\"",
        "\"dynamic_active_secrets\"",
        "\"staticSecrets\"",
        "\"static_secrets\"",
        "\"dynamicWarmingSecrets\"",
    ];
    head.trim_start().starts_with('{') && keys.iter().any(|key| head.contains(key))
}

fn read_configs(text: &[u8]) -> Result<Vec<Config>, String> {
    let configs = match serde_json::from_slice(text) {
        Ok(Root {
            configs: Some(configs),
        }) => Ok(configs),
        Ok(Root { configs: None }) => serde_json::from_slice(text).map(|config| vec![config]),
        Err(error) => Err(error),
    };
    configs.map_err(|error| match error.is_eof() {
        true => format!("it ends in the middle ({error})"),
        false => format!("not the JSON of a config dump ({error})"),
    })
}

impl Dump {
    /// Reads dumps, each of which may have a part: secrets first, for the others name them.
    ///
    /// # Errors
    /// What is wrong with the JSON.
    pub(super) fn read(texts: &[&[u8]]) -> Result<Self, String> {
        let mut configs = Vec::new();
        for text in texts {
            configs.extend(read_configs(text)?);
        }
        let mut dump = Self::default();
        for config in &mut configs {
            dump.add_secrets(config);
        }
        for config in configs {
            dump.add_listeners(config.static_listeners);
            dump.add_listeners(config.dynamic_listeners);
            dump.add_clusters(config.static_clusters);
            dump.add_clusters(config.dynamic_active_clusters);
        }
        if !dump.has_places {
            dump.pair_secrets();
        }
        dump.name_warming();
        Ok(dump)
    }

    fn known<T>(&mut self, list: List<T>) -> Vec<T> {
        let mut known = Vec::new();
        for entry in list {
            match entry {
                Lenient::Known(entry) => known.push(entry),
                Lenient::Unknown => self.unreadable = self.unreadable.saturating_add(1),
            }
        }
        known
    }

    fn add_secrets(&mut self, config: &mut Config) {
        let warming = std::mem::take(&mut config.dynamic_warming_secrets);
        for entry in self.known(warming) {
            let name = entry.name.or(entry.secret.and_then(|secret| secret.name));
            self.warming.extend(name);
        }
        let lists = [
            &mut config.static_secrets,
            &mut config.dynamic_active_secrets,
        ];
        for list in lists {
            for entry in self.known(std::mem::take(list)) {
                self.add_secret(entry);
            }
        }
    }

    fn add_secret(&mut self, entry: SecretEntry) {
        let Some(secret) = entry.secret else { return };
        let Some(name) = entry.name.or(secret.name) else {
            return;
        };
        if let Some(certificate) = secret.tls_certificate {
            let chain = self.chain(&name, &certificate);
            self.chains.insert(name, chain);
        } else if let Some(validation) = secret.validation_context {
            self.validations.insert(name, validation);
        }
    }

    /// What came later is no longer missing.
    fn name_warming(&mut self) {
        let (chains, validations) = (&self.chains, &self.validations);
        self.warming
            .retain(|name| !chains.contains_key(name) && !validations.contains_key(name));
        self.warming.sort();
        self.warming.dedup();
    }

    fn chain(&mut self, place: &str, certificate: &TlsCertificate) -> Option<Rc<Chain>> {
        let source = certificate.certificate_chain.as_ref()?;
        let certificates = self.certificates(source)?;
        Some(Rc::new(Chain {
            place: place.to_owned(),
            certificates,
        }))
    }

    /// The certificates that are inline; `None`: they are elsewhere.
    fn certificates(&mut self, source: &DataSource) -> Option<Vec<Certificate>> {
        let Some(text) = source.content() else {
            let place = source
                .filename
                .clone()
                .or(source.environment_variable.clone());
            self.elsewhere
                .extend(place.filter(|place| !self.elsewhere.contains(place)));
            return None;
        };
        let read = |text: &Vec<u8>| {
            let ders = pem::certificates(text);
            let found = ders.map(|der| Certificate::new(der.map_err(|error| error.to_string())));
            found.collect()
        };
        let known = self.texts.entry(text);
        let found: &Vec<Certificate> = known.or_insert_with_key(read);
        Some(found.clone())
    }

    fn bundle(&mut self, place: &str, source: &DataSource) -> Option<Rc<Bundle>> {
        let bundle = Bundle {
            place: place.to_owned(),
            certificates: self.certificates(source)?,
        };
        if let Some(known) = self.bundles.iter().find(|known| ***known == bundle) {
            return Some(Rc::clone(known));
        }
        let bundle = Rc::new(bundle);
        self.bundles.push(Rc::clone(&bundle));
        Some(bundle)
    }

    fn add_listeners(&mut self, list: List<ListenerEntry>) {
        for entry in self.known(list) {
            self.has_places = true;
            let listener = entry
                .listener
                .or(entry.active_state.and_then(|state| state.listener));
            let Some(listener) = listener else { continue };
            let chains = listener
                .filter_chains
                .into_iter()
                .chain(listener.default_filter_chain);
            for socket in chains.filter_map(|chain| chain.transport_socket) {
                self.add_context(Role::Server, &listener.name, socket);
            }
        }
    }

    fn add_clusters(&mut self, list: List<ClusterEntry>) {
        for entry in self.known(list) {
            self.has_places = true;
            let Some(cluster) = entry.cluster else {
                continue;
            };
            let matches = cluster.transport_socket_matches.into_iter();
            let sockets = matches
                .filter_map(|it| it.transport_socket)
                .chain(cluster.transport_socket);
            for socket in sockets {
                self.add_context(Role::Client, &cluster.name, socket);
            }
        }
    }

    fn add_context(&mut self, role: Role, place: &str, socket: TransportSocket) {
        let Some(tls) = socket.typed_config else {
            return;
        };
        let Some(common) = tls.common_tls_context else {
            return;
        };
        let mut trust = self.trust(&common);
        if let (true, Seen::Yes(trust)) = (tls.auto_sni_san_validation, &mut trust) {
            trust.not_judged.push("auto_sni_san_validation");
        }
        let context = Context {
            role,
            places: vec![place.to_owned()],
            chain: self.shown(&common),
            trust,
            requires_certificate: role == Role::Server && tls.require_client_certificate,
            versions: common.tls_params.versions(),
        };
        match self
            .contexts
            .iter_mut()
            .find(|known| is_same(known, &context))
        {
            Some(known) if known.places.iter().any(|it| it == place) => {}
            Some(known) => known.places.extend(context.places),
            None => self.contexts.push(context),
        }
    }

    /// The certificate that a context shows. Of several (RSA and EC) the first is judged.
    fn shown(&mut self, common: &CommonTlsContext) -> Seen<Option<Rc<Chain>>> {
        if let Some(certificate) = common.tls_certificates.first() {
            return match self.chain(INLINE, certificate) {
                Some(chain) => Seen::Yes(Some(chain)),
                None => Seen::not(elsewhere(certificate.certificate_chain.as_ref())),
            };
        }
        let Some(SdsConfig { name }) = common.tls_certificate_sds_secret_configs.first() else {
            return Seen::Yes(None);
        };
        match self.chains.get(name) {
            Some(Some(chain)) => Seen::Yes(Some(Rc::clone(chain))),
            Some(None) => Seen::not(format!("secret {name}: the dump names a file only")),
            None => Seen::not(format!("secret {name}: it is not in the dump")),
        }
    }

    fn trust(&mut self, common: &CommonTlsContext) -> Seen<Trust> {
        let combined = common.combined_validation_context.as_ref();
        let sds = combined
            .and_then(|it| it.validation_context_sds_secret_config.as_ref())
            .or(common.validation_context_sds_secret_config.as_ref());
        let own = combined
            .map(|it| &it.default_validation_context)
            .or(common.validation_context.as_ref())
            .cloned();
        let Some(SdsConfig { name }) = sds else {
            return self.trust_of(INLINE, &own.unwrap_or_default());
        };
        match self.validations.get(name).cloned() {
            Some(validation) => self.trust_of(name, &merged(own.unwrap_or_default(), validation)),
            None => Seen::not(format!("secret {name}: it is not in the dump")),
        }
    }

    fn trust_of(&mut self, place: &str, validation: &ValidationContext) -> Seen<Trust> {
        let domains = validation.custom_validator_config.as_ref();
        let domains = domains.map(|validator| &validator.typed_config.trust_domains);
        let anchors = match (domains, &validation.trusted_ca) {
            (Some(domains), _) if !domains.is_empty() => {
                let mut bundles = Vec::new();
                for domain in domains {
                    let Some(bundle) = self.bundle(place, &domain.trust_bundle) else {
                        return Seen::not(elsewhere(Some(&domain.trust_bundle)));
                    };
                    bundles.push((domain.name.clone(), bundle));
                }
                Anchors::TrustDomains(bundles)
            }
            (_, Some(source)) => match self.bundle(place, source) {
                Some(bundle) => Anchors::Bundle(bundle),
                None => return Seen::not(elsewhere(Some(source))),
            },
            (_, None) => Anchors::Anyone,
        };
        let typed = validation.match_typed_subject_alt_names.iter().cloned();
        let untyped = validation.match_subject_alt_names.iter().cloned();
        let crl = validation.crl.as_ref();
        let lists = crl
            .and_then(DataSource::content)
            .map(|text| lists(place, &text));
        let mut not_judged = validation.not_judged();
        if crl.is_some() && lists.is_none() {
            not_judged.push("crl (in a file)");
        }
        Seen::Yes(Trust {
            anchors,
            matchers: typed
                .map(Matcher::from)
                .chain(untyped.map(Matcher::from))
                .collect(),
            not_judged,
            lists: lists.unwrap_or_default(),
            lists_are_for_leaf: validation.only_verify_leaf_cert_crl,
        })
    }

    /// Secrets alone, without the listeners and clusters that use them: a chain and the bundle that goes with it.
    fn pair_secrets(&mut self) {
        let chains: Vec<(String, Option<Rc<Chain>>)> = self
            .chains
            .iter()
            .map(|(name, chain)| (name.clone(), chain.clone()))
            .collect();
        let names: Vec<String> = self.validations.keys().cloned().collect();
        for (name, chain) in chains {
            let beside = [
                format!("{name}-cacert"),
                "ROOTCA".to_owned(),
                "ALL".to_owned(),
            ];
            let wanted = beside.iter().find(|wanted| names.contains(wanted));
            let bundle = match (wanted, &*names) {
                (Some(wanted), _) => Some(wanted.clone()),
                (None, [only]) => Some(only.clone()),
                _ => None,
            };
            let trust =
                match bundle.and_then(|name| Some((self.validations.get(&name).cloned()?, name))) {
                    Some((validation, name)) => self.trust_of(&name, &validation),
                    None if names.is_empty() => Seen::not("there is no trust bundle in it"),
                    None => Seen::not(
                        "it has several trust bundles, and not the listeners that use them",
                    ),
                };
            self.contexts.push(Context {
                role: Role::Either,
                places: vec![format!("secret {name}")],
                chain: match chain {
                    Some(chain) => Seen::Yes(Some(chain)),
                    None => Seen::not(format!("secret {name}: the dump names a file only")),
                },
                trust,
                requires_certificate: true,
                versions: Versions::default(),
            });
        }
        if self.contexts.is_empty() {
            for name in names {
                let Some(validation) = self.validations.get(&name).cloned() else {
                    continue;
                };
                let trust = self.trust_of(&name, &validation);
                self.contexts.push(bundle_alone(&name, trust));
            }
        }
    }
}

/// A bundle without a certificate of its own.
pub(super) fn bundle_alone(place: &str, trust: Seen<Trust>) -> Context {
    Context {
        role: Role::Either,
        places: vec![place.to_owned()],
        chain: Seen::not("there is only a trust bundle in it"),
        trust,
        requires_certificate: true,
        versions: Versions::default(),
    }
}

fn elsewhere(source: Option<&DataSource>) -> String {
    let place = source.and_then(|it| it.filename.as_ref().or(it.environment_variable.as_ref()));
    match place {
        Some(place) => {
            format!("it is in {place}, which Envoy does not show: give that file as a target")
        }
        None => "the dump does not have it".to_owned(),
    }
}

/// Two contexts that decide alike.
fn is_same(known: &Context, other: &Context) -> bool {
    let trust = |context: &Context| {
        context.trust.seen().map(|trust| {
            let bundles: Vec<*const Bundle> = trust
                .anchors
                .bundles()
                .into_iter()
                .map(Rc::as_ptr)
                .collect();
            let matchers: Vec<String> = trust.matchers.iter().map(Matcher::to_string).collect();
            (
                bundles,
                matchers,
                trust.not_judged.clone(),
                trust.lists.clone(),
            )
        })
    };
    let chain = |context: &Context| context.chain.seen().cloned();
    known.role == other.role
        && known.requires_certificate == other.requires_certificate
        && known.versions == other.versions
        && chain(known) == chain(other)
        && trust(known) == trust(other)
}

/// As Envoy merges the two: the secret over the context (`MergeFrom`: lists are joined).
fn merged(own: ValidationContext, secret: ValidationContext) -> ValidationContext {
    let joined = |own: Vec<String>, secret: Vec<String>| [own, secret].concat();
    ValidationContext {
        trusted_ca: secret.trusted_ca.or(own.trusted_ca),
        crl: secret.crl.or(own.crl),
        match_typed_subject_alt_names: [
            own.match_typed_subject_alt_names,
            secret.match_typed_subject_alt_names,
        ]
        .concat(),
        match_subject_alt_names: [own.match_subject_alt_names, secret.match_subject_alt_names]
            .concat(),
        verify_certificate_hash: joined(
            own.verify_certificate_hash,
            secret.verify_certificate_hash,
        ),
        verify_certificate_spki: joined(
            own.verify_certificate_spki,
            secret.verify_certificate_spki,
        ),
        allow_expired_certificate: own.allow_expired_certificate
            || secret.allow_expired_certificate,
        only_verify_leaf_cert_crl: own.only_verify_leaf_cert_crl
            || secret.only_verify_leaf_cert_crl,
        trust_chain_verification: secret
            .trust_chain_verification
            .or(own.trust_chain_verification),
        max_verify_depth: secret.max_verify_depth.or(own.max_verify_depth),
        custom_validator_config: secret
            .custom_validator_config
            .or(own.custom_validator_config),
    }
}

impl ValidationContext {
    /// Settings that change the decision and are not judged here.
    fn not_judged(&self) -> Vec<&'static str> {
        let accepts_untrusted =
            self.trust_chain_verification.as_deref() == Some("ACCEPT_UNTRUSTED");
        let is_unknown_validator = self
            .custom_validator_config
            .as_ref()
            .is_some_and(|validator| validator.typed_config.trust_domains.is_empty());
        let all = [
            (
                "verify_certificate_hash",
                !self.verify_certificate_hash.is_empty(),
            ),
            (
                "verify_certificate_spki",
                !self.verify_certificate_spki.is_empty(),
            ),
            ("allow_expired_certificate", self.allow_expired_certificate),
            (
                "trust_chain_verification: ACCEPT_UNTRUSTED",
                accepts_untrusted,
            ),
            ("max_verify_depth", self.max_verify_depth.is_some()),
            ("custom_validator_config", is_unknown_validator),
        ];
        all.into_iter()
            .filter(|(_, is_set)| *is_set)
            .map(|(name, _)| name)
            .collect()
    }
}

impl DataSource {
    /// What is inline.
    fn content(&self) -> Option<Vec<u8>> {
        match (&self.inline_string, &self.inline_bytes) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(base64)) => pem::decode_base64(base64.as_bytes()).ok(),
            (None, None) => None,
        }
    }
}

impl TlsParams {
    fn versions(&self) -> Versions {
        let number = |version: &Option<String>| match version.as_deref()? {
            "TLSv1_0" => Some(0),
            "TLSv1_1" => Some(1),
            "TLSv1_2" => Some(2),
            "TLSv1_3" => Some(3),
            _ => None,
        };
        Versions {
            minimum: number(&self.tls_minimum_protocol_version),
            maximum: number(&self.tls_maximum_protocol_version),
        }
    }
}

impl Dump {
    /// The certificates that stand in the contexts themselves.
    pub(super) fn inline_keys(
        &self,
    ) -> std::collections::BTreeSet<mtls_watch_core::own::admin::CertificateKey> {
        let chains = self
            .contexts
            .iter()
            .filter_map(|it| it.chain.seen())
            .flatten();
        let chains = chains.flat_map(|chain| &chain.certificates);
        let bundles = self.bundles.iter().flat_map(|bundle| &bundle.certificates);
        chains.chain(bundles).filter_map(Certificate::key).collect()
    }
}

/// The revocation lists of a text with blocks of PEM. What cannot be read is left out: Envoy does not load it.
fn lists(place: &str, text: &[u8]) -> Vec<PlacedList> {
    let ders = pem::revocation_lists(text);
    let lists = ders.filter_map(|der| RevocationList::read(&der).ok());
    let placed = lists.map(|list| PlacedList {
        place: place.to_owned(),
        list,
    });
    placed.collect()
}
