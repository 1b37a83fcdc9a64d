//! Variants of the samples: what an operator could write instead.

use serde_json::json;
use testbed::Sample;
use testbed::sample::yaml;

use crate::setup::Pki;

pub trait Variant {
    /// Takes any peer certificate, so that those that Envoy would refuse are seen in use.
    fn accepting_untrusted(self) -> Self;
    /// Takes clients without a certificate.
    fn accepting_anonymous(self) -> Self;
    /// Has Envoy treat the XFCC header in this way, and write leaf and chain where it writes.
    fn xfcc(self, mode: &str) -> Self;
    /// Has Envoy speak mTLS to the servers of this cluster, which it need not verify.
    fn mtls_to(self, cluster: &str, pki: &Pki) -> Self;
    /// Opens a new connection to the server for each request.
    fn one_request_per_server_connection(self) -> Self;
    /// Has the module's HTTP filter stand among those of every cluster instead of the listeners'.
    fn behind_router(self) -> Self;
}

impl Variant for Sample {
    fn accepting_untrusted(self) -> Self {
        self.insert(
            "validation_context",
            "trust_chain_verification",
            "ACCEPT_UNTRUSTED",
        )
        .remove("match_typed_subject_alt_names")
    }

    fn accepting_anonymous(self) -> Self {
        self.replace("require_client_certificate", false)
    }

    fn xfcc(self, mode: &str) -> Self {
        let details = json!({"cert": true, "chain": true, "subject": true, "uri": true});
        self.set("HttpConnectionManager", "forward_client_cert_details", mode)
            .set(
                "HttpConnectionManager",
                "set_current_client_cert_details",
                details,
            )
    }

    fn mtls_to(self, cluster: &str, pki: &Pki) -> Self {
        let transport_socket = yaml(json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {
                    "tls_certificates": [{
                        "certificate_chain": { "filename": pki.directory().join("tls.crt") },
                        "private_key": { "filename": pki.directory().join("tls.key") },
                    }],
                },
            },
        }));
        self.edit(|node| {
            if let Some(node) = node.as_mapping_mut()
                && node.contains_key("load_assignment")
                && node.get("name").is_some_and(|name| name == cluster)
            {
                node.insert("transport_socket".into(), transport_socket.clone());
            }
        })
    }

    fn behind_router(self) -> Self {
        const WASM: &str = "envoy.filters.http.wasm";
        let mut ours = None;
        let sample = self.edit(|node| {
            let filters = node.get_mut("http_filters");
            if let Some(filters) = filters.and_then(|filters| filters.as_sequence_mut()) {
                let found = filters.iter().find(|filter| filter["name"] == WASM);
                ours = found.cloned().or(ours.take());
                filters.retain(|filter| filter["name"] != WASM);
            }
        });
        let codec = yaml(json!({
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
            },
        }));
        let mut options = yaml(json!({
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http_protocol_options": {} },
        }));
        options["http_filters"] = vec![ours.unwrap_or_default(), codec].into();
        let mut protocol_options = yaml(json!({}));
        protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] = options;
        sample.edit(|node| {
            if let Some(cluster) = node.as_mapping_mut()
                && cluster.contains_key("load_assignment")
            {
                let key = "typed_extension_protocol_options";
                cluster.insert(key.into(), protocol_options.clone());
            }
        })
    }

    fn one_request_per_server_connection(self) -> Self {
        let options = yaml(json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": { "max_requests_per_connection": 1 },
                "explicit_http_config": { "http_protocol_options": {} },
            },
        }));
        self.edit(|node| {
            if let Some(cluster) = node.as_mapping_mut()
                && cluster.contains_key("load_assignment")
            {
                cluster.insert("typed_extension_protocol_options".into(), options.clone());
            }
        })
    }
}
