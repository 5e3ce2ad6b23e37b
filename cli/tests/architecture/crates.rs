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
        &["logweir-core", "logweir-incident", "logweir-proto", "logweir-queue", "logweir-storage"],
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
    // For tests and benchmarks: whom it starts, it knows by their addresses.
    ("logweir-testkit", &["logweir-proto"]),
    (
        "logweir-bench",
        &["logweir-core", "logweir-loadgen", "logweir-proto", "logweir-sdk", "logweir-testkit"],
    ),
];

pub(super) fn metadata(more: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
        .args(more)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn names(list: &Value, keep: impl Fn(&Value) -> bool) -> BTreeSet<&str> {
    let items = list.as_array().expect("a list").iter();
    items.filter(|item| keep(item)).map(|item| item["name"].as_str().expect("a name")).collect()
}

#[test]
fn no_crate_names_one_that_it_may_not() {
    let metadata = metadata(&["--no-deps"]);
    let packages = &metadata["packages"];
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names(packages, |_| true), known, "a new crate belongs in the table above");
    for package in packages.as_array().expect("a list") {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) = ARROWS.iter().find(|(known, _)| *known == name).expect("it is known");
        let named = names(&package["dependencies"], |dependency| {
            known.contains(dependency["name"].as_str().expect("a name"))
                && dependency["kind"].is_null()
        });
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let surplus: Vec<&&str> = named.difference(&allowed).collect();
        assert!(surplus.is_empty(), "{name} must not depend on {surplus:?}");
    }
}

fn id(node: &Value) -> &str {
    node["id"].as_str().expect("an id")
}

/// The ids of all that a package of the workspace is built from, itself included.
fn built_from<'a>(resolve: &'a Value, name: &str) -> BTreeSet<&'a str> {
    let nodes = resolve["nodes"].as_array().expect("a list");
    let is_it = |node: &&Value| id(node).contains(&format!("/{name}#"));
    let mut found = BTreeSet::new();
    let mut left: Vec<&str> = vec![id(nodes.iter().find(is_it).expect("it is there"))];
    while let Some(next) = left.pop() {
        if !found.insert(next) {
            continue;
        }
        let node = nodes.iter().find(|node| id(node) == next).expect("it is there");
        let named = node["deps"].as_array().expect("a list").iter();
        let is_normal = |dependency: &&Value| {
            let kinds = dependency["dep_kinds"].as_array().expect("a list");
            kinds.iter().any(|kind| kind["kind"].is_null())
        };
        left.extend(named.filter(is_normal).map(|of| of["pkg"].as_str().expect("an id")));
    }
    found
}

#[test]
fn a_server_is_built_without_what_calls_outside() {
    let metadata = metadata(&[]);
    let of_server = built_from(&metadata["resolve"], "server");
    let of_alerting = built_from(&metadata["resolve"], "alerting");
    // Mail, and whoever sends it.
    for part in ["#lettre@", "/alerting#"] {
        assert!(of_alerting.iter().any(|id| id.contains(part)), "alerting is built from {part}");
        let surplus: Vec<&&str> = of_server.iter().filter(|id| id.contains(part)).collect();
        assert!(surplus.is_empty(), "the server must not be built from {surplus:?}");
    }
}
