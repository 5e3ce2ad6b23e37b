//! The whole shop, with the binaries that were built for the tests; `make sdks` prepares the other
//! two services.

use std::{path::Path, process::Command};

#[test]
fn a_checkout_is_found_in_all_three_services_by_its_trace() {
    let payments = Path::new(env!("CARGO_BIN_EXE_logweir-example-payments"));
    let build = payments.parent().expect("it lies in a folder");
    let python = build.with_file_name("sdks").join("python/bin/python");
    assert!(python.exists(), "{} is missing: run `make sdks`", python.display());
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../run.sh"))
        .arg("once")
        .env("PAYMENTS_BINARY", payments)
        .env("LOGWEIR_BINARY", build.join("logweir"))
        .env("PYTHON", python)
        .output()
        .expect("the script runs");
    let [shown, said] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{said}");
    for message in
        ["checkout begins", "costs 115 EUR", "card declined", "was not paid", "checkout failed"]
    {
        assert!(shown.contains(message), "{message:?} is not in {shown}\n{said}");
    }
}
