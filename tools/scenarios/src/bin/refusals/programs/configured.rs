//! nginx and HAProxy, which take their settings from a file: as clients they stand between a request without TLS and
//! the proxy.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use testbed::envoy::free_port;
use testbed::tool;

use super::client::{Answer, answer};
use super::{Client, Running, Server, Version};
use crate::materials::Materials;

/// Makes the request through nginx.
pub(super) fn through_nginx(client: &Client, port: u16, materials: &Materials) -> Result<Answer> {
    let mut settings = format!(
        "proxy_pass https://127.0.0.1:{port}; proxy_http_version 1.1; proxy_ssl_server_name on; proxy_ssl_name {}; proxy_ssl_protocols TLSv{};",
        client.name,
        client.version.name()
    );
    if let Some(bundle) = client.bundle(materials) {
        settings += &format!(
            "proxy_ssl_verify on; proxy_ssl_verify_depth 9; proxy_ssl_trusted_certificate {};",
            bundle.display()
        );
    }
    if let Some(shown) = client.shows {
        let files = materials.files(shown);
        settings += &format!(
            "proxy_ssl_certificate {}; proxy_ssl_certificate_key {};",
            files.chain.display(),
            files.key.display()
        );
    }
    let here = free_port()?;
    let server = format!("listen 127.0.0.1:{here}; location / {{ {settings} }}");
    let _running = run_nginx(&server, here, materials)?;
    Ok(request(here))
}

/// The same through HAProxy.
pub(super) fn through_haproxy(client: &Client, port: u16, materials: &Materials) -> Result<Answer> {
    let here = free_port()?;
    let frontend = format!("frontend here\n bind 127.0.0.1:{here}\n default_backend proxy\n");
    let server = haproxy_server(client, port, materials);
    let backend = format!("backend proxy\n http-reuse never\n server proxy {server}\n");
    let _running = run_haproxy(&(frontend + &backend), here, materials)?;
    Ok(request(here))
}

/// How HAProxy connects to the proxy: address and TLS of a `server` line.
fn haproxy_server(client: &Client, port: u16, materials: &Materials) -> String {
    let mut server = format!("127.0.0.1:{port} ssl sni str({}) ", client.name);
    server += &match client.bundle(materials) {
        Some(bundle) => format!(
            "verify required verifyhost {} ca-file {} ",
            client.name,
            bundle.display()
        ),
        None => "verify none ".to_owned(),
    };
    if let Some(shown) = client.shows {
        server += &format!("crt {} ", materials.files(shown).all.display());
    }
    server + &versions(client.version)
}

fn versions(version: Version) -> String {
    let version = version.name();
    format!("ssl-min-ver TLSv{version} ssl-max-ver TLSv{version}")
}

/// Starts HAProxy with health checks of the proxy's TLS, one every 200 ms.
pub fn haproxy_checks(client: &Client, port: u16, materials: &Materials) -> Result<Running> {
    let here = free_port()?;
    let frontend = format!("frontend here\n bind 127.0.0.1:{here}\n default_backend proxy\n");
    let server = haproxy_server(client, port, materials);
    let backend = format!("backend proxy\n server proxy {server} check check-ssl inter 200ms\n");
    run_haproxy(&(frontend + &backend), here, materials)
}

/// Starts HAProxy with health checks of the port, without a byte.
pub fn haproxy_port_checks(port: u16, materials: &Materials) -> Result<Running> {
    let here = free_port()?;
    let frontend = format!("frontend here\n bind 127.0.0.1:{here}\n default_backend proxy\n");
    let backend = format!("backend proxy\n server proxy 127.0.0.1:{port} check inter 200ms\n");
    run_haproxy(&(frontend + &backend), here, materials)
}

fn request(port: u16) -> Answer {
    answer(testbed::Client::plaintext().get(port, "/", &[]))
}

/// Starts nginx as the server.
pub(super) fn nginx(server: &Server, port: u16, materials: &Materials) -> Result<Running> {
    let files = materials.files(server.shows);
    let mut settings = format!(
        "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv{};",
        files.chain.display(),
        files.key.display(),
        server.version.name()
    );
    if let Some(bundle) = server.bundle(materials) {
        settings += &format!(
            "ssl_verify_client on; ssl_verify_depth 9; ssl_client_certificate {};",
            bundle.display()
        );
    }
    settings += &server.options.join(" ");
    settings += " location / { return 200 ok; }";
    run_nginx(&settings, port, materials)
}

/// Starts HAProxy as the server.
pub(super) fn haproxy(server: &Server, port: u16, materials: &Materials) -> Result<Running> {
    let files = materials.files(server.shows);
    let mut bind = format!("bind 127.0.0.1:{port} ssl crt {} ", files.all.display());
    if let Some(bundle) = server.bundle(materials) {
        bind += &format!("verify required ca-file {} ", bundle.display());
    }
    bind += &versions(server.version);
    bind += " ";
    bind += &server.options.join(" ");
    let answer = "http-request return status 200 content-type text/plain string ok";
    let frontend = format!("frontend here\n {bind}\n {answer}\n");
    run_haproxy(&frontend, port, materials)
}

fn run_nginx(server: &str, port: u16, materials: &Materials) -> Result<Running> {
    let folder = materials.scratch()?;
    let place = folder.path().display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {place}/{what};"))
        .concat();
    let configuration = format!(
        "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log;\n\
         events {{}}\n\
         http {{ access_log off; {temporary} server {{ {server} }} }}\n"
    );
    let file = written(folder.path(), &configuration)?;
    let mut command = Command::new(tool("nginx")?);
    command.arg("-p").arg(folder.path()).arg("-c").arg(file);
    command.arg("-e").arg(folder.path().join("error.log"));
    Running::start(&mut command, port, Some(folder))
}

fn run_haproxy(sections: &str, port: u16, materials: &Materials) -> Result<Running> {
    let folder = materials.scratch()?;
    let defaults = "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n retries 0\n";
    let file = written(folder.path(), &format!("{defaults}{sections}"))?;
    let mut command = Command::new(tool("haproxy")?);
    command.arg("-db").arg("-f").arg(file);
    Running::start(&mut command, port, Some(folder))
}

fn written(folder: &Path, configuration: &str) -> Result<std::path::PathBuf> {
    let file = folder.join("configuration");
    fs::write(&file, configuration)?;
    Ok(file)
}
