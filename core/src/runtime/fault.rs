//! Named steps at which a fault test kills the process.

use rustix::process::{Signal, getpid, kill_process};

/// Marks a step. Does nothing unless the binary was built with the `failpoints` feature of the
/// `fail` crate, which only tests do, and `FAILPOINTS` asks for the step with the action `return`:
/// then the process dies of SIGKILL right here, as in a crash.
#[allow(unused_variables, reason = "without the feature nothing is left of the macro")]
pub fn step(name: &str) {
    // SIGKILL and not exit: nothing may be flushed, closed or unwound, as after a power cut.
    fail::fail_point!(name, |_| die());
}

#[allow(dead_code, reason = "without the feature nothing is left of the macro")]
fn die() {
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
}
