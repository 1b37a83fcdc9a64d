//! Some two hundred certificates and chains, each put before three judges: OpenSSL, a real Envoy, and `mtls-watch
//! inspect --trusted`. The last must say what Envoy does: whether it accepts the peer, and for what reason not.
//! docs/oracles.md has the table; where OpenSSL says otherwise, it has the reason, too.

mod cases;
mod limbo;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use mtls_watch_core::handshake;
use mtls_watch_core::terms;
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use testbed::pki::to_pem;
use testbed::servers::ServerTls;
use testbed::stats::eventually;
use testbed::{Client, Envoy, Server, TlsVersion, workspace_root};

use cases::Case;

/// Where `openssl verify` and Envoy judge differently, by a part of the case's name: why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "key usage key",
        "`openssl verify` sees no handshake, which the peer must sign",
    ),
    (
        "Ed25519 key",
        "`openssl verify` sees no handshake; Envoy offers no Ed25519, unless `signature_algorithms` names it",
    ),
    (
        "P-384 key",
        "`openssl verify` sees no handshake; as a client Envoy speaks TLS 1.2, with P-256 and X25519 only",
    ),
    (
        "root: ",
        "OpenSSL looks at the extensions of the anchor, BoringSSL at its dates and name constraints only",
    ),
    (
        "renewed, expired one first",
        "BoringSSL takes the first CA that fits by name and key, OpenSSL one that is valid",
    ),
    (
        "host name in CN, no SAN",
        "BoringSSL refuses host names in the CN below name constraints",
    ),
    (
        "DNS excluded, wildcard above",
        "BoringSSL excludes a wildcard that covers an excluded name",
    ),
    (
        "name constraints: IP",
        "BoringSSL has no name constraints on IP addresses: a name of the type is refused",
    ),
    (
        "policy required",
        "`openssl verify` checks policies with `-policy_check` only",
    ),
    (
        "length in ",
        "OpenSSL reads lengths in more bytes than they need",
    ),
    (
        "version",
        "OpenSSL does not compare the version with the extensions",
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// The case is a client of Envoy.
    Inbound,
    /// The case is a server of Envoy.
    Outbound,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    fn term(self) -> terms::Direction {
        match self {
            Self::Inbound => terms::Direction::Inbound,
            Self::Outbound => terms::Direction::Outbound,
        }
    }
}

/// A case in a direction, and what was said of it: `None` for accepted, else the reason.
struct Row {
    name: String,
    direction: Direction,
    openssl: Option<String>,
    envoy: Option<Refusal>,
    ours: Option<String>,
}

/// What Envoy says.
struct Refusal {
    words: String,
    /// The reason, as the module has it.
    reason: &'static str,
}

#[test]
fn three_judges_of_two_hundred_certificates() -> Result<()> {
    let cases = all()?;
    let directory = TempDir::new()?;
    let servers = servers(&cases)?;
    let bootstrap = bootstrap(&cases, &servers, &directory);
    let arguments = ["--file-flush-interval-msec", "50"];
    let envoy = Envoy::start_with(&bootstrap.to_string(), 1, &arguments)?;
    let mut rows = Vec::new();
    for (index, (case, direction)) in cases.iter().enumerate() {
        let context = || format!("{} {}", case.name, direction.as_str());
        rows.push(Row {
            name: case.name.clone(),
            direction: *direction,
            openssl: openssl(case, *direction, &directory)?,
            envoy: asked(&envoy, index, case, *direction, &directory).with_context(context)?,
            ours: ours(case, *direction, None, &directory).with_context(context)?,
        });
    }
    ensure!(rows.len() >= 200, "{} rows", rows.len());
    compare(&rows)?;
    document(&rows)
}

/// Chains are put in both directions; of what is wrong with a single certificate one is enough.
fn all() -> Result<Vec<(Case, Direction)>> {
    let mut all = Vec::new();
    for case in cases::chains()? {
        all.push((case.clone(), Direction::Inbound));
        all.push((case, Direction::Outbound));
    }
    let malformed = cases::malformed()?.into_iter();
    all.extend(malformed.map(|case| (case, Direction::Inbound)));
    Ok(all)
}

/// A server for each case that is one.
fn servers(cases: &[(Case, Direction)]) -> Result<Vec<Option<Server>>> {
    let server = |(case, direction): &(Case, Direction)| match direction {
        Direction::Inbound => Ok(None),
        Direction::Outbound => Server::tcp_echo(Some(ServerTls::new(&case.peer))).map(Some),
    };
    cases.iter().map(server).collect()
}

fn name(index: usize) -> String {
    format!("case-{index}")
}

/// A listener for each case. For a client it asks for a certificate and sends back what comes; for a server it passes
/// on what comes. Each writes the reason of a refusal into a file of its own.
fn bootstrap(
    cases: &[(Case, Direction)],
    servers: &[Option<Server>],
    directory: &TempDir,
) -> Value {
    let mut listeners = Vec::new();
    let mut clusters = Vec::new();
    let proxy = cases.first().map(|(case, _)| case.peer.clone());
    let own = proxy.map(|own| {
        json!({
            "certificate_chain": {"inline_string": own.chain_pem()},
            "private_key": {"inline_string": own.key_pem().unwrap()},
        })
    });
    for (index, (case, direction)) in cases.iter().enumerate() {
        let name = name(index);
        let validation = json!({"trusted_ca": {"inline_string": case.bundle.pem()}});
        let reason = match direction {
            Direction::Inbound => "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%\n",
            Direction::Outbound => "%UPSTREAM_TRANSPORT_FAILURE_REASON%\n",
        };
        let log = json!([{"name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": directory.path().join(&name),
            "log_format": {"text_format_source": {"inline_string": reason}},
        }}]);
        let mut chain = json!({"filters": [{"name": "tcp", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tcp", "cluster": name, "max_connect_attempts": 1,
        }}]});
        if *direction == Direction::Inbound {
            chain = json!({
                "filters": [{"name": "echo", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo",
                }}],
                "transport_socket": {"name": "tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "require_client_certificate": true,
                    "common_tls_context": {"tls_certificates": [own], "validation_context": validation},
                }},
            });
        }
        listeners.push(json!({
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "access_log": log,
            "filter_chains": [chain],
        }));
        if let Some(server) = &servers[index] {
            let address =
                json!({"socket_address": {"address": "127.0.0.1", "port_value": server.port()}});
            clusters.push(json!({
                "name": name,
                "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
                "transport_socket": {"name": "tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "common_tls_context": {"validation_context": validation},
                }},
            }));
        }
    }
    json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// What a real handshake says: the reason of Envoy's text, as the module has it.
fn asked(
    envoy: &Envoy,
    index: usize,
    case: &Case,
    direction: Direction,
    directory: &TempDir,
) -> Result<Option<Refusal>> {
    let port = envoy.listener_port(&name(index))?;
    let client = match direction {
        Direction::Inbound => Client::mtls(&case.peer).version(TlsVersion::V1_3),
        Direction::Outbound => Client::plaintext(),
    };
    let answered = client
        .tcp(port)
        .and_then(|mut connection| connection.echo(b"hello"));
    if answered.is_ok() {
        return Ok(None);
    }
    let log = directory.path().join(name(index));
    let text = eventually(Duration::from_secs(10), || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines()
            .next()
            .map(str::to_owned)
            .context("no line yet")
    })?;
    // A peer that has no key for the signatures that Envoy offers hangs up by itself.
    let failure = handshake::classify(&text, direction.term());
    let text = text
        .replace("TLS_error:|", "")
        .replace(":TLS_error_end", "");
    // An access log has no spaces.
    let words = text.rsplit(':').next().unwrap_or_default();
    let words = match words.starts_with('_') {
        true => words.replace('_', " "),
        false => words.to_owned(),
    };
    Ok(Some(Refusal {
        words: match words.trim() {
            "-" => "the peer gives up".to_owned(),
            words => words.to_owned(),
        },
        reason: failure.map_or("other", |failure| failure.reason.as_str()),
    }))
}

/// What the command line says, as of now or of another time.
fn ours(
    case: &Case,
    direction: Direction,
    at: Option<&str>,
    directory: &TempDir,
) -> Result<Option<String>> {
    let (chain, bundle) = (
        directory.path().join("chain.pem"),
        directory.path().join("bundle.pem"),
    );
    fs::write(&chain, case.peer.chain_pem())?;
    fs::write(&bundle, case.bundle.pem())?;
    let arguments = [
        "mtls-watch",
        "inspect",
        "--format",
        "json",
        "--direction",
        direction.as_str(),
        "--trusted",
    ];
    let files = [&bundle, &chain].map(|file| file.to_string_lossy().into_owned());
    let time = at.map(|at| format!("--at={at}"));
    let arguments = arguments
        .iter()
        .map(|argument| (*argument).to_owned())
        .chain(files)
        .chain(time);
    let output = mtls_watch_cli::execute(arguments);
    if output.code == 2 {
        return Ok(Some("malformed_certificate".to_owned()));
    }
    let report: Value = serde_json::from_str(&output.text)?;
    match (&report["trusted"], &report["untrusted"]["reason"]) {
        (Value::Bool(true), Value::Null) => Ok(None),
        (Value::Bool(false), Value::String(reason)) => Ok(Some(reason.clone())),
        _ => bail!("{report}"),
    }
}

/// What `openssl verify` says, told to verify as Envoy does.
fn openssl(case: &Case, direction: Direction, directory: &TempDir) -> Result<Option<String>> {
    let file = |name: &str, text: String| -> Result<String> {
        let path = directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let chain = case.peer.chain();
    let purpose = match direction {
        Direction::Inbound => "sslclient",
        Direction::Outbound => "sslserver",
    };
    let leaf = file("leaf.pem", to_pem(&chain[..1]))?;
    let bundle = file("bundle.pem", case.bundle.pem())?;
    let mut command = Command::new(std::env::var("OPENSSL").unwrap_or("openssl".to_owned()));
    command.args([
        "verify",
        "-partial_chain",
        "-no-CApath",
        "-purpose",
        purpose,
        "-CAfile",
        &bundle,
    ]);
    if chain.len() > 1 {
        command.args(["-untrusted", &file("untrusted.pem", to_pem(&chain[1..]))?]);
    }
    let output = command.arg(leaf).output()?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text
        .lines()
        .find_map(|line| line.split_once("lookup: "))
        .map(|(_, words)| words);
    Ok(Some(line.unwrap_or("cannot be read").to_owned()))
}

/// The same reason, as far as Envoy's text without the certificate tells: of a purpose it does not say which usage,
/// and of some causes nothing. A peer whose key is of no use shows no certificate.
fn is_same(envoy: Option<&str>, ours: Option<&str>) -> bool {
    const PURPOSE: [&str; 3] = ["client_auth_missing", "server_auth_missing", "key_usage"];
    match (envoy, ours) {
        (Some("other" | "verify_failed"), Some(_))
        | (Some("no_certificate"), Some("no_shared_cipher"))
        | (None, None) => true,
        (Some(envoy), Some(ours)) => {
            envoy == ours || PURPOSE.contains(&envoy) && PURPOSE.contains(&ours)
        }
        _ => false,
    }
}

fn difference(row: &Row) -> Option<&'static str> {
    let explained = DIFFERENCES.iter().find(|(name, _)| row.name.contains(name));
    explained.map(|(_, why)| *why)
}

fn compare(rows: &[Row]) -> Result<()> {
    let mut unexplained = Vec::new();
    let mut used = BTreeSet::new();
    for row in rows {
        let Row {
            name,
            direction,
            openssl,
            envoy,
            ours,
        } = row;
        let reason = envoy.as_ref().map(|refusal| refusal.reason);
        let words = envoy.as_ref().map(|refusal| &refusal.words);
        if !is_same(reason, ours.as_deref()) {
            unexplained.push(format!(
                "{name} {}: Envoy {reason:?} {words:?}, mtls-watch {ours:?}",
                direction.as_str()
            ));
        }
        if openssl.is_some() != envoy.is_some() {
            match difference(row) {
                Some(why) => drop(used.insert(why)),
                None => unexplained.push(format!(
                    "{name} {}: Envoy {words:?}, OpenSSL {openssl:?}",
                    direction.as_str()
                )),
            }
        }
    }
    let unused = DIFFERENCES.iter().filter(|(_, why)| !used.contains(why));
    unexplained
        .extend(unused.map(|(name, _)| format!("{name}: explained, but there is no difference")));
    ensure!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    Ok(())
}

/// The table of docs/oracles.md, compared with what it should be, or, with UPDATE_DOCS set, written.
fn document(rows: &[Row]) -> Result<()> {
    let path = workspace_root().join("docs/oracles.md");
    let page = fs::read_to_string(&path)?;
    let (before, rest) = page
        .split_once("<!-- oracles:begin -->\n")
        .context("begin marker")?;
    let (found, after) = rest
        .split_once("<!-- oracles:end -->")
        .context("end marker")?;
    let mut table = "| certificate or chain | peer | Envoy | mtls-watch | OpenSSL | why they differ |\n|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let peer = match row.direction {
            Direction::Inbound => "client",
            Direction::Outbound => "server",
        };
        let accepted = || "accepted".to_owned();
        let envoy = row
            .envoy
            .as_ref()
            .map_or_else(accepted, |refusal| refusal.words.clone());
        let ours = row.ours.clone().unwrap_or_else(accepted);
        let differs = row.openssl.is_some() != row.envoy.is_some();
        let why = difference(row).filter(|_| differs).unwrap_or_default();
        let openssl = row.openssl.as_ref().map_or("accepted", |_| "refused");
        writeln!(
            table,
            "| {} | {peer} | {} | {} | {openssl} | {why} |",
            row.name, envoy, ours
        )?;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(
            &path,
            format!("{before}<!-- oracles:begin -->\n{table}<!-- oracles:end -->{after}"),
        )?;
        return Ok(());
    }
    ensure!(
        found == table,
        "docs/oracles.md is stale: UPDATE_DOCS=1 cargo test --test envoy oracle"
    );
    Ok(())
}
