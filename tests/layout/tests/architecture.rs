//! The arrows of docs/architecture.md: crates use those below them, and no modules of a crate use each other in
//! a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cargo_metadata::{Metadata, MetadataCommand};
use syn::visit::{self, Visit};

/// Every crate of the workspace, each above all that it may use. docs/architecture.md has the picture.
const FLOORS: [&str; 18] = [
    // Certificates for tests.
    "pki",
    // A reader of Prometheus text, and text in columns.
    "exposition",
    "columns",
    // The product.
    "mtls-watch-x509",
    "mtls-watch-core",
    "mtls-watch-cli",
    // What tests and tools stand on.
    "fuzz-targets",
    "testbed",
    // The project itself.
    "layout",
    // Tools.
    "bare-filter",
    "empty-filter",
    "postlink",
    "release",
    "scenarios",
    "bench-core",
    // The module with the tests of tests/, which need all of the above.
    "deploy",
    "mesh-tests",
    "mtls-watch",
];

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"));
    command.no_deps().exec().unwrap()
}

#[test]
fn crates_use_those_below_them() {
    let metadata = metadata();
    let floor = |name: &str| {
        let floor = FLOORS.iter().position(|known| *known == name);
        floor.unwrap_or_else(|| panic!("{name} has no place in FLOORS"))
    };
    for package in metadata.workspace_packages() {
        let used = package.dependencies.iter().filter(|it| it.path.is_some());
        for dependency in used {
            assert!(
                floor(&dependency.name) < floor(&package.name),
                "{} uses {}, which stands above it",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn the_core_knows_no_host_and_only_one_crate_knows_each_library() {
    let metadata = metadata();
    for (library, owner) in [
        ("proxy-wasm", "mtls-watch"),
        ("x509-parser", "mtls-watch-x509"),
        ("clap", "mtls-watch-cli"),
    ] {
        let product = [
            "mtls-watch-x509",
            "mtls-watch-core",
            "mtls-watch-cli",
            "mtls-watch",
        ];
        for package in metadata.workspace_packages() {
            let uses = package.dependencies.iter().any(|it| it.name == library);
            let may = *package.name == owner || !product.contains(&package.name.as_str());
            assert!(may || !uses, "{} uses {library}", package.name);
        }
    }
}

/// Of the children of each module, with all that is below them, none use each other in a circle.
#[test]
fn modules_use_each_other_in_no_circle() {
    let metadata = metadata();
    let mut circles = Vec::new();
    for package in metadata.workspace_packages() {
        for target in &package.targets {
            let root = target.src_path.as_std_path();
            if !target.is_lib() && !target.is_bin() && !target.is_cdylib() {
                continue;
            }
            let modules = Modules::of(root);
            for (parent, arrows) in modules.arrows() {
                let circle = circle(&arrows).map(|circle| circle.join(" -> "));
                circles.extend(circle.map(|it| format!("{} {parent:?}: {it}", target.name)));
            }
        }
    }
    assert!(circles.is_empty(), "{circles:#?}");
}

/// A test of the test: what it is to find.
#[test]
fn a_circle_is_found() {
    let arrows = |pairs: &[(&str, &str)]| {
        let mut arrows = Arrows::new();
        for (from, to) in pairs {
            arrows
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        arrows
    };
    assert_eq!(circle(&arrows(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = circle(&arrows(&[("a", "b"), ("b", "c"), ("c", "b")]));
    assert_eq!(found.unwrap(), ["b", "c", "b"]);
}

type Module = Vec<String>;
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The modules of a crate, each with the paths within the crate that its code names.
struct Modules(BTreeMap<Module, BTreeSet<Module>>);

impl Modules {
    fn of(root: &Path) -> Self {
        let mut modules = Self(BTreeMap::new());
        modules.read(root, &[], root.parent().unwrap());
        modules
    }

    /// Reads a file, and those of its modules.
    fn read(&mut self, file: &Path, module: &[String], folder: &Path) {
        let code = syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap();
        let mut named = Named {
            module: module.to_vec(),
            paths: BTreeSet::new(),
            children: Vec::new(),
        };
        named.visit_file(&code);
        self.0.insert(module.to_vec(), named.paths);
        for child in named.children {
            let path = [module, std::slice::from_ref(&child)].concat();
            let flat = folder.join(format!("{child}.rs"));
            let nested = folder.join(&child).join("mod.rs");
            let below = folder.join(&child);
            match flat.is_file() {
                true => self.read(&flat, &path, &below),
                false => self.read(&nested, &path, &below),
            }
        }
    }

    /// For each module: which of its children use which others.
    fn arrows(&self) -> BTreeMap<Module, Arrows> {
        let mut all = BTreeMap::<Module, Arrows>::new();
        for (user, paths) in &self.0 {
            for used in paths.iter().filter_map(|path| self.module_of(path)) {
                let common = user.iter().zip(&used).take_while(|(a, b)| a == b).count();
                // A module and those in it are one.
                if let (Some(from), Some(to)) = (user.get(common), used.get(common)) {
                    let arrows = all.entry(user[..common].to_vec()).or_default();
                    arrows.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        all
    }

    /// The module in which a path ends.
    fn module_of(&self, path: &[String]) -> Option<Module> {
        let prefixes = (1..=path.len()).rev().map(|length| path[..length].to_vec());
        prefixes
            .into_iter()
            .find(|prefix| self.0.contains_key(prefix))
    }
}

/// What the code of one file names.
struct Named {
    module: Module,
    paths: BTreeSet<Module>,
    children: Vec<String>,
}

impl Named {
    fn add(&mut self, path: &[String]) {
        let mut absolute = self.module.clone();
        let mut rest = path;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" => absolute.clear(),
                "self" => {}
                "super" => {
                    absolute.pop();
                }
                _ => break,
            }
            rest = after;
        }
        // A path that begins otherwise is of another crate, or of an item that was imported.
        if rest.len() < path.len() {
            absolute.extend_from_slice(rest);
            self.paths.insert(absolute);
        }
    }

    fn add_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(before, tree);
                }
            }
        }
    }
}

impl<'a> Visit<'a> for Named {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.add(&segments.collect::<Vec<_>>());
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        // Modules with their code inline are the unit tests.
        if item.content.is_none() {
            self.children.push(item.ident.to_string());
        }
    }
}

/// Names that lead from one back to it.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    fn walk(arrows: &Arrows, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        let last = path.last().unwrap().clone();
        for next in arrows.get(&last).into_iter().flatten() {
            if let Some(start) = path.iter().position(|known| known == next) {
                path.push(next.clone());
                path.drain(..start);
                return true;
            }
            if done.contains(next) {
                continue;
            }
            path.push(next.clone());
            if walk(arrows, path, done) {
                return true;
            }
            path.pop();
        }
        done.insert(last);
        false
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|start| {
        let mut path = vec![start.clone()];
        walk(arrows, &mut path, &mut done).then_some(path)
    })
}
