//! docs/architecture.md: which crate uses which, as cargo knows it.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use crate::check_generated;

/// The crates of this project that a crate needs: to be built, or for its tests.
fn used(metadata: &Metadata, package: &Package, kind: DependencyKind) -> String {
    let ours = |name: &str| {
        let mut packages = metadata.workspace_packages().into_iter();
        packages.any(|package| package.name.as_str() == name)
    };
    let dependencies = package.dependencies.iter();
    let of_kind = dependencies.filter(|dependency| dependency.kind == kind);
    let mut names: Vec<String> = of_kind
        .filter(|dependency| ours(&dependency.name))
        .map(|dependency| format!("`{}`", dependency.name))
        .collect();
    names.sort();
    match names.is_empty() {
        true => "–".to_owned(),
        false => names.join(", "),
    }
}

/// The folder of a crate, from the root of the project.
pub(crate) fn folder(metadata: &Metadata, package: &Package) -> String {
    let folder = package.manifest_path.parent().unwrap();
    let folder = folder.strip_prefix(&metadata.workspace_root).unwrap();
    match folder.as_str() {
        "" => "src".to_owned(),
        folder => folder.to_owned(),
    }
}

pub(crate) fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().exec().unwrap()
}

#[test]
fn the_table_of_crates() {
    let metadata = metadata();
    let mut rows: Vec<String> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            format!(
                "| `{}` | `{}` | {} | {} |\n",
                folder(&metadata, package),
                package.name,
                used(&metadata, package, DependencyKind::Normal),
                used(&metadata, package, DependencyKind::Development),
            )
        })
        .collect();
    rows.sort();
    let table = format!(
        "| folder | crate | uses | in its tests also |\n|---|---|---|---|\n{}",
        rows.concat()
    );
    check_generated("docs/architecture.md", "crates", &table);
}
