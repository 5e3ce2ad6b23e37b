//! The arrows between the crates point one way.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

/// Each crate, and the crates of this workspace that it may name. No arrow runs the other way.
const ARROWS: [(&str, &[&str]); 13] = [
    ("logweir-proto", &[]),
    ("logweir-core", &["logweir-proto"]),
    ("logweir-queue", &["logweir-core"]),
    ("logweir-storage", &["logweir-core"]),
    ("logweir-detect", &["logweir-core"]),
    (
        "logweir-server",
        &["logweir-alerting", "logweir-core", "logweir-proto", "logweir-queue", "logweir-storage"],
    ),
    ("logweir-processor", &["logweir-core", "logweir-queue", "logweir-storage", "logweir-detect"]),
    ("logweir-alerting", &["logweir-core", "logweir-storage"]),
    ("logweir-sdk", &["logweir-proto"]),
    (
        "logweir",
        &[
            "logweir-alerting",
            "logweir-core",
            "logweir-detect",
            "logweir-processor",
            "logweir-proto",
            "logweir-queue",
            "logweir-sdk",
            "logweir-server",
            "logweir-storage",
        ],
    ),
    ("logweir-example-payments", &["logweir-sdk"]),
    // For tests and benchmarks: whom it starts, it knows by their addresses.
    ("logweir-testkit", &[]),
    (
        "logweir-bench",
        &["logweir", "logweir-core", "logweir-proto", "logweir-sdk", "logweir-testkit"],
    ),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
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
    let metadata = metadata();
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
