//! One tenant cannot hurt another, in the real binary. A short form by default: a few cases, of which
//! only counts are looked at, since times mean nothing in a debug build beside other tests. `make
//! faults` runs all of them and holds their times and memory to the floor.

mod support;

use std::{path::Path, time::Duration};

use support::oracle::form;
use testkit::noisy::{self, Case, Operation, Options, Report};

const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(30);
/// One of each kind: what the transport must bear, what is sent, and what is asked, over gRPC and over
/// plain HTTP.
const SHORT_CASES: [Case; 7] = [
    Case::AnnouncedBodies,
    Case::RapidReset,
    Case::IngestFlood,
    Case::PushFlood,
    Case::SubstringSearches,
    Case::HttpSearches,
    Case::WebSocketTails,
];

fn try_cases(distributed: bool, short_cases: &[Case]) {
    let is_long = form().is_long;
    let (length, cases) =
        if is_long { (LONG, Case::ALL.to_vec()) } else { (SHORT, short_cases.to_vec()) };
    let binary = Path::new(env!("CARGO_BIN_EXE_logweir")).to_owned();
    let report = noisy::run(&Options { binary, distributed, length, cases });
    nothing_failed(&report);
    if is_long {
        assert_eq!(report.missed_floors(), [""; 0]);
    }
}

fn nothing_failed(report: &Report) {
    assert_eq!(report.failures(), [""; 0]);
    assert_eq!(report.no_abuse(), [""; 0]);
    for operation in Operation::ALL {
        for phase in report.cases.iter().map(|one| &one.samples).chain([&report.quiet]) {
            assert!(phase.of(operation).successes() > 0, "nothing was measured of {operation}");
        }
    }
}

#[test]
fn a_tenant_is_not_hurt_by_another_in_one_process() {
    try_cases(false, &SHORT_CASES);
}

#[test]
fn a_tenant_is_not_hurt_by_another_in_many_processes() {
    try_cases(true, &[Case::IngestFlood]);
}
