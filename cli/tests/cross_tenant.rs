//! No rpc tells one tenant anything of another. A short form by default; `make faults` runs the long
//! one and prints its seed, and `LOGWEIR_FAULT_SEED` repeats one.

mod support;

use std::path::PathBuf;

use support::oracle::{Form, form};
use testkit::cross_tenant::{Options, run};

const CALLS_LONG: u64 = 1_000_000;

fn check(is_distributed: bool, calls_short: u64) {
    let Form { seed, is_long } = form();
    let options = Options {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_logweir")),
        is_distributed,
        calls: if is_long { CALLS_LONG } else { calls_short },
        compares_counts: is_long && !is_distributed,
        seed: Some(seed),
    };
    let report = testkit::wait(run(options));
    println!("{report}");
    assert!(report.findings.is_empty(), "{} findings", report.findings.len());
}

#[test]
fn no_rpc_tells_one_tenant_of_another() {
    check(false, 4_000);
}

#[test]
fn no_rpc_tells_one_tenant_of_another_where_there_are_many_processes() {
    check(true, 1_000);
}
