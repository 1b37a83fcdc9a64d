//! The steps that the pages tell: what they run and what they apply is there.

use std::fs;

use anyhow::{Result, ensure};
use testbed::workspace_root;

const PAGES: [&str; 10] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/install-envoy-gateway.md",
    "docs/install-envoy.md",
    "docs/install-istio.md",
    "docs/monitoring.md",
    "docs/operations.md",
    "docs/releasing.md",
    "envoy-config/istio/README.md",
];

/// What follows `words` in a page, up to the end of the word.
fn after<'a>(page: &'a str, words: &str) -> Vec<&'a str> {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '`' | ',' | ';' | ')');
    let found = page
        .split(words)
        .skip(1)
        .filter_map(|rest| rest.split(is_end).next());
    found.collect()
}

#[test]
fn what_the_steps_run_and_apply_is_there() -> Result<()> {
    let root = workspace_root();
    let makefiles = ["Makefile", "tools/mesh/mesh.mk"];
    let makefiles = makefiles.map(|file| fs::read_to_string(root.join(file)));
    let makefile = makefiles.into_iter().collect::<Result<String, _>>()?;
    let (mut targets, mut paths) = (0, 0);
    for page in PAGES {
        let text = fs::read_to_string(root.join(page))?;
        for target in after(&text, "$ make ")
            .into_iter()
            .chain(after(&text, "`make "))
        {
            ensure!(
                makefile.contains(&format!("\n{target}:")),
                "{page}: make {target}"
            );
            targets += 1;
        }
        for flag in ["apply -k ", "delete -k ", "apply -f ", "--values "] {
            for path in after(&text, flag)
                .into_iter()
                .filter(|path| path.contains('/'))
            {
                let path = root.join(path);
                let there = if flag.contains("-k") {
                    path.join("kustomization.yaml")
                } else {
                    path
                };
                ensure!(there.is_file(), "{page}: {}", there.display());
                paths += 1;
            }
        }
    }
    ensure!(
        targets >= 8 && paths >= 6,
        "{targets} targets, {paths} paths"
    );
    Ok(())
}
