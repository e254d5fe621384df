//! The architecture is a test: which crate may know which, and who alone may name a library.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// What each package may depend on among our own. A package that is not listed fails the test.
const ALLOWED: &[(&str, &[&str])] = &[
    ("events", &[]),
    ("amm", &[]),
    ("lending", &[]),
    ("abi", &["events"]),
    ("market", &["events", "amm", "lending"]),
    ("bus", &["events"]),
    ("journal", &["events", "bus"]),
    ("actor", &["bus"]),
    ("node", &[]),
    ("simulation", &["events", "node", "market", "amm", "abi"]),
    ("ingest", &["events", "actor", "bus", "journal", "node", "abi"]),
    ("decoder", &["events", "actor", "bus", "abi"]),
    ("oracle", &["events", "actor", "bus", "abi", "market", "node"]),
    ("state", &["events", "actor", "bus", "abi", "market", "node", "simulation", "journal"]),
    ("detectors", &["events", "actor", "bus", "market", "amm", "lending", "simulation"]),
    ("executor", &["events", "actor", "bus", "abi", "market", "node", "simulation", "journal"]),
    ("telemetry", &["events", "bus"]),
    ("reference", &[]),
    ("xtask", &[]),
];

/// Packages that stand above the crates and may use any of them.
const ABOVE: &[&str] = &["bench", "supervisor", "minimal", "tests"];

/// Libraries that only the named packages may use.
const RESERVED: &[(&str, &[&str])] = &[
    ("bincode", &["journal"]),
    ("ractor", &["actor", "supervisor"]),
    ("tokio-tungstenite", &["node", "reference"]),
    ("hyper-util", &["node"]),
    ("revm", &["simulation", "reference"]),
];

fn workspace() -> Metadata {
    MetadataCommand::new().no_deps().exec().expect("cargo metadata runs in a workspace")
}

fn short(name: &str) -> Option<&str> {
    name.strip_prefix("headwater-")
}

fn violations(package: &Package, kind: DependencyKind, allowed: &BTreeSet<&str>) -> Vec<String> {
    let own = package.dependencies.iter().filter(|dependency| dependency.kind == kind);
    own.filter_map(|dependency| short(&dependency.name))
        .filter(|name| !allowed.contains(name))
        .map(|name| format!("{} depends on {name} ({kind})", package.name))
        .collect()
}

#[test]
fn no_crate_knows_more_than_the_design_allows() {
    let table: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut found = Vec::new();
    for package in workspace().workspace_packages() {
        let name = short(&package.name).expect("packages are named headwater-<folder>");
        if ABOVE.contains(&name) {
            continue;
        }
        let Some(allowed) = table.get(name) else {
            found.push(format!("{name} is not in the table"));
            continue;
        };
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        found.extend(violations(package, DependencyKind::Normal, &allowed));
        found.extend(violations(package, DependencyKind::Build, &allowed));
        // A judge may be asked in a unit test; it never asks back.
        let with_judges = allowed.iter().copied().chain(["reference"]).collect();
        let in_tests = if name == "reference" { &allowed } else { &with_judges };
        found.extend(violations(package, DependencyKind::Development, in_tests));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_judges_know_no_headwater_crate() {
    let metadata = workspace();
    let judges = metadata
        .workspace_packages()
        .into_iter()
        .find(|package| *package.name == "headwater-reference")
        .expect("the judges are a package of the workspace");
    let known: Vec<_> =
        judges.dependencies.iter().filter(|dependency| dependency.name.starts_with("headwater")).collect();
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn a_reserved_library_is_used_where_it_is_reserved_for() {
    let mut found = Vec::new();
    for package in workspace().workspace_packages() {
        let name = short(&package.name).expect("packages are named headwater-<folder>");
        for dependency in &package.dependencies {
            let reserved = RESERVED.iter().find(|(library, _)| *library == dependency.name);
            if reserved.is_some_and(|(_, users)| !users.contains(&name)) {
                found.push(format!("{name} uses {}", dependency.name));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_package_is_named_after_its_folder() {
    for package in workspace().workspace_packages() {
        let folder =
            package.manifest_path.parent().and_then(|path| path.file_name()).expect("it has a folder");
        assert_eq!(short(&package.name), Some(folder));
    }
}

#[test]
fn every_dependency_is_declared_once_in_the_workspace() {
    let root = workspace().workspace_root;
    for package in workspace().workspace_packages() {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest can be read");
        let own: Vec<_> = manifest.lines().filter(|line| line.contains("version = \"")).collect();
        assert!(own.is_empty(), "{} states versions of its own: {own:?} (in {root})", package.name);
    }
}
