//! Envoys with one listener that ends TLS and one cluster that begins it, and the command line over their admin
//! interface.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::{Client, Identity, TrustBundle};

/// One side: the certificate that it shows, and whom it accepts.
#[derive(Clone, Debug)]
pub struct Side {
    pub identity: Option<Identity>,
    pub bundle: TrustBundle,
    /// `match_typed_subject_alt_names`.
    pub matchers: Value,
    /// What else its validation context has.
    pub validation: Value,
    /// `tls_params`.
    pub parameters: Value,
}

impl Side {
    pub fn new(identity: &Identity, bundle: &TrustBundle) -> Self {
        Self {
            identity: Some(identity.clone()),
            bundle: bundle.clone(),
            matchers: json!([]),
            validation: json!({}),
            parameters: json!({}),
        }
    }

    fn context(&self) -> Result<Value> {
        let mut validation = json!({
            "trusted_ca": {"inline_string": self.bundle.pem()},
            "match_typed_subject_alt_names": self.matchers,
        });
        for (key, value) in self.validation.as_object().into_iter().flatten() {
            validation[key] = value.clone();
        }
        let mut context = json!({"validation_context": validation, "tls_params": self.parameters});
        if let Some(identity) = &self.identity {
            context["tls_certificates"] = json!([{
                "certificate_chain": {"inline_string": identity.chain_pem()},
                "private_key": {"inline_string": identity.key_pem()?},
            }]);
        }
        Ok(context)
    }

    /// A transport socket that ends TLS and wants a certificate.
    fn downstream(&self) -> Result<Value> {
        Ok(json!({"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": self.context()?,
        }}))
    }

    fn upstream(&self) -> Result<Value> {
        Ok(json!({"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": self.context()?,
        }}))
    }
}

/// An address of 127.0.0.1, or of a path.
pub fn address(place: &str) -> Value {
    match place.parse::<u16>() {
        Ok(port) => json!({"socket_address": {"address": "127.0.0.1", "port_value": port}}),
        Err(_) => json!({"pipe": {"path": place}}),
    }
}

/// A listener that echoes what comes over mTLS.
pub fn server(name: &str, place: &str, side: &Side) -> Result<Value> {
    Ok(json!({
        "name": name,
        "traffic_direction": "INBOUND",
        "address": address(place),
        "filter_chains": [{
            "filters": [{"name": "echo", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo",
            }}],
            "transport_socket": side.downstream()?,
        }],
    }))
}

/// A listener in plaintext, on a free port, and the cluster that it leads to over mTLS.
pub fn client(name: &str, to: &str, side: &Side) -> Result<(Value, Value)> {
    let listener = json!({
        "name": format!("to-{name}"),
        "traffic_direction": "OUTBOUND",
        "address": address("0"),
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tcp", "cluster": name, "max_connect_attempts": 1,
        }}]}],
    });
    let endpoint = json!({"endpoint": {"address": address(to)}});
    let cluster = json!({
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": side.upstream()?,
    });
    Ok((listener, cluster))
}

pub fn bootstrap(listeners: &[Value], clusters: &[Value]) -> String {
    json!({
        "admin": {"address": address("0")},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
    .to_string()
}

/// Whether a handshake completes, and something comes back.
pub fn is_accepted(port: u16) -> bool {
    let answered = Client::plaintext()
        .tcp(port)
        .and_then(|mut connection| connection.echo(b"hello"));
    answered.is_ok()
}

/// What `mtls-watch diagnose -o json` says.
pub fn diagnose(arguments: &[&str]) -> Result<(Value, u8)> {
    let all = ["mtls-watch", "diagnose", "-o", "json"]
        .iter()
        .chain(arguments);
    let output = mtls_watch_cli::execute(all.map(|it| (*it).to_owned()));
    ensure!(output.complaint.is_empty(), "{}", output.complaint);
    Ok((serde_json::from_str(&output.text)?, output.code))
}
