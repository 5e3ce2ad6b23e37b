//! What metrics may say. `/metrics` needs no token: a tenant's name in it, or a name that a tenant
//! chose, would tell anybody who is there, and how they do.

use std::{fs, path::Path};

use crate::{crates::packages, modules::files_below};

/// How a label is written with a metric, and in a list of labels.
const LABELS: [&str; 6] = [
    "\"tenant\" =>",
    "(\"tenant\",",
    "\"channel\" =>",
    "\"rule\" =>",
    "\"service\" => service",
    "\"instance\" => instance",
];

#[test]
fn no_metric_names_a_tenant_or_what_it_named() {
    let mut files = Vec::new();
    for package in packages() {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let sources = manifest.with_file_name("src");
        if sources.exists() {
            files_below(&sources, &mut files);
        }
    }
    let names_tenant = |file: &&_| {
        let text = fs::read_to_string(file).expect("a source file is text");
        LABELS.iter().any(|label| text.contains(label))
    };
    assert!(files.len() > 300, "only {} files were found", files.len());
    assert_eq!(
        files.iter().filter(names_tenant).collect::<Vec<_>>(),
        Vec::<&std::path::PathBuf>::new()
    );
}
