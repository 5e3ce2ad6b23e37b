//! The arrows between the crates point one way.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

/// Each crate, and the crates of this workspace that it may name. No arrow runs the other way.
const ARROWS: [(&str, &[&str]); 18] = [
    ("logweir-proto", &[]),
    ("logweir-core", &["logweir-proto"]),
    ("logweir-queue", &["logweir-core"]),
    ("logweir-storage", &["logweir-core", "logweir-incident"]),
    ("logweir-analysis", &["logweir-core"]),
    ("logweir-parse", &["logweir-core"]),
    (
        "logweir-server",
        &[
            "logweir-core",
            "logweir-incident",
            "logweir-parse",
            "logweir-proto",
            "logweir-queue",
            "logweir-storage",
        ],
    ),
    (
        "logweir-processor",
        &["logweir-analysis", "logweir-core", "logweir-parse", "logweir-queue", "logweir-storage"],
    ),
    ("logweir-incident", &["logweir-core"]),
    ("logweir-alerting", &["logweir-core", "logweir-incident", "logweir-storage"]),
    ("logweir-sdk", &["logweir-proto"]),
    ("logweir-ship", &["logweir-core", "logweir-parse", "logweir-proto", "logweir-sdk"]),
    ("logweir-loadgen", &["logweir-core", "logweir-proto", "logweir-sdk", "logweir-ship"]),
    (
        "logweir-evaluate",
        &[
            "logweir-alerting",
            "logweir-core",
            "logweir-analysis",
            "logweir-incident",
            "logweir-loadgen",
            "logweir-parse",
            "logweir-processor",
            "logweir-ship",
        ],
    ),
    (
        "logweir",
        &[
            "logweir-alerting",
            "logweir-core",
            "logweir-evaluate",
            "logweir-incident",
            "logweir-loadgen",
            "logweir-parse",
            "logweir-processor",
            "logweir-proto",
            "logweir-queue",
            "logweir-sdk",
            "logweir-server",
            "logweir-ship",
            "logweir-storage",
        ],
    ),
    ("logweir-example-payments", &["logweir-sdk"]),
    // For tests and benchmarks: whom it starts, it knows by their addresses, and what they can be asked
    // by the contract.
    ("logweir-testkit", &["logweir-proto"]),
    (
        "logweir-bench",
        &["logweir-core", "logweir-loadgen", "logweir-proto", "logweir-sdk", "logweir-testkit"],
    ),
];

/// The packages of the workspace.
pub(super) fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--no-deps"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut printed: Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = printed["packages"].take();
    serde_json::from_value(packages).expect("a list")
}

fn names(list: &[Value], keep: impl Fn(&Value) -> bool) -> BTreeSet<&str> {
    let items = list.iter();
    items.filter(|item| keep(item)).map(|item| item["name"].as_str().expect("a name")).collect()
}

#[test]
fn no_crate_names_one_that_it_may_not() {
    let packages = packages();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names(&packages, |_| true), known, "a new crate belongs in the table above");
    for package in &packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) = ARROWS.iter().find(|(known, _)| *known == name).expect("it is known");
        let dependencies = package["dependencies"].as_array().expect("a list");
        let named = names(dependencies, |dependency| {
            known.contains(dependency["name"].as_str().expect("a name"))
                && dependency["kind"].is_null()
        });
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let surplus: Vec<&&str> = named.difference(&allowed).collect();
        assert!(surplus.is_empty(), "{name} must not depend on {surplus:?}");
    }
}

/// The names of all that a package of the workspace is built from on this machine, itself included.
// Not by `cargo metadata`, which wants to have what other platforms are built from as well.
fn built_from(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
        .args(["--package", package])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo tree prints text");
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn a_server_is_built_without_what_calls_outside() {
    let [of_server, of_alerting] = ["logweir-server", "logweir-alerting"].map(built_from);
    // Mail, and whoever sends it.
    for part in ["lettre", "logweir-alerting"] {
        assert!(of_alerting.contains(part), "alerting is built from {part}");
        assert!(!of_server.contains(part), "the server must not be built from {part}");
    }
}
