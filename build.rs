//! Link options of the module.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        // The default is 1 MiB, in each worker of each sidecar. The deepest there is, JSON nested to
        // the parser's limit, needs between 16 and 32 KiB. The stack comes first in memory: one that is too
        // deep traps, and overwrites nothing.
        println!("cargo::rustc-cdylib-link-arg=-zstack-size=262144");
    }
}
