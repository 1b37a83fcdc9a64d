//! `mtls-watch`, the command line.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    mtls_watch_cli::run()
}

/// There is no command line in a proxy.
#[cfg(target_arch = "wasm32")]
fn main() {}
