//! Whether one tenant can hurt another: tenant a works honestly, tenant b abuses the server in ways
//! each of which was once seen to stop everybody else, and what a notices of it is measured against
//! what it measured while b was quiet.
//!
//! Quiet and abuse are measured in one run on one machine, since figures of two runs cannot be
//! compared. Any error that a is answered, and any acknowledged log of it that is not found exactly
//! once, is a failure, whatever the times are.

mod abuse;
mod batch;
mod client;
mod honest;
mod http1;
mod http2;
mod ledger;
mod memory;
mod report;
mod samples;
mod tally;
mod target;

use std::{path::PathBuf, time::Duration};

use tokio::{task::JoinSet, time::sleep};

use abuse::{Abuser, Running};
use honest::Honest;
use memory::{Peak, resident_bytes};
use target::Target;

pub use abuse::Case;
pub use report::{CaseReport, Report};
pub use samples::{Measured, Operation, Samples};
pub use tally::Tally;

/// How long a server has to give back what an abuse took, before it is looked at.
const RECOVERY: Duration = Duration::from_secs(1);
/// Clocks of a log and of a phase are read in different processes of one machine.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(1);

/// What is to be tried.
pub struct Options {
    /// The binary of Logweir.
    pub binary: PathBuf,
    /// Whether it runs as many processes.
    pub distributed: bool,
    /// How long it is measured, quiet and in each case.
    pub length: Duration,
    /// In this order.
    pub cases: Vec<Case>,
}

/// Tries all cases; tells each as soon as it is known.
pub fn run(options: &Options) -> Report {
    crate::wait(async {
        let target = match options.distributed {
            true => Target::distributed(&options.binary).await,
            false => Target::standalone(&options.binary).await,
        };
        Trial::begin(target).await.run(options).await
    })
}

struct Trial {
    target: Target,
    honest: Honest,
    abuser: Abuser,
    /// Tenant a's tail, which goes on over all phases.
    _following: JoinSet<()>,
}

/// What was seen in one phase, and where it began.
struct Phase {
    first_number: u64,
    from_unix_nano: i64,
    samples: Samples,
    resident_peak: u64,
}

impl Trial {
    async fn begin(target: Target) -> Self {
        let honest = Honest::set_up(&target.endpoint, &target.token_a).await;
        let honest = honest.expect("tenant a can begin");
        let abuser = Abuser::new(&target);
        abuse::store_a_week(&abuser).await.expect("tenant b can begin");
        let mut following = JoinSet::new();
        following.spawn(honest.clone().follow());
        honest.until_served().await;
        Self { target, honest, abuser, _following: following }
    }

    async fn run(mut self, options: &Options) -> Report {
        let quiet = self.phase(options.length).await;
        let mistakes = self.audit(&quiet).await;
        let mut report = Report::begin(quiet.samples, mistakes, quiet.resident_peak);
        report.print_quiet();
        for case in &options.cases {
            let one = self.case(*case, options.length).await;
            report.print(&one);
            report.cases.push(one);
        }
        report.mistakes.extend(self.honest.audit(0, 0).await);
        report
    }

    async fn case(&mut self, case: Case, length: Duration) -> CaseReport {
        let abuser = self.abuser.afresh();
        let resident_before = resident_bytes(&self.target.process_ids());
        let running = Running::start(case, abuser.clone()).await;
        let phase = self.phase(length).await;
        running.stop().await;
        sleep(RECOVERY).await;
        let mut mistakes = self.audit(&phase).await;
        mistakes.extend(self.target.ended());
        CaseReport {
            case,
            samples: phase.samples,
            mistakes,
            did: abuser.tally,
            resident_before,
            resident_peak: phase.resident_peak,
            resident_after: resident_bytes(&self.target.process_ids()),
        }
    }

    /// Has tenant a work.
    async fn phase(&self, length: Duration) -> Phase {
        let peak = Peak::default();
        let mut watching = JoinSet::new();
        watching.spawn(peak.clone().watch(self.target.process_ids()));
        let first_number = self.honest.ledger.next();
        let from_unix_nano = batch::before_now(CLOCKS_DIFFER_MAX).cast_signed();
        let samples = self.honest.work(length).await;
        Phase { first_number, from_unix_nano, samples, resident_peak: peak.bytes() }
    }

    /// Looks whether all that a was promised in a phase is there.
    async fn audit(&self, phase: &Phase) -> Vec<String> {
        self.honest.audit(phase.first_number, phase.from_unix_nano).await
    }
}
