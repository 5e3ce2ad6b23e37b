//! One case at work, on a thread of its own.

use std::{thread, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    time::sleep,
};

use super::{abuser::Abuser, case::Case};

/// How much the priority is lowered, of 19 at most.
const NICENESS: i32 = 5;
/// How long an abuse goes on before it is measured what others notice of it.
const HEAD_START: Duration = Duration::from_secs(1);

/// A case that goes on until it is stopped.
pub(in crate::noisy) struct Running {
    stop: watch::Sender<bool>,
    thread: thread::JoinHandle<()>,
}

impl Running {
    /// Begins, and waits until it is the abuse that it is meant to be.
    pub(in crate::noisy) async fn start(case: Case, abuser: Abuser) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let (ready, is_ready) = oneshot::channel();
        let thread = thread::spawn(move || {
            // Of this thread alone: on Linux each has its own.
            rustix::process::nice(NICENESS).expect("priorities may be lowered");
            crate::wait(async {
                case.prepare(&abuser).await;
                // Nobody waits any more if the trial has failed.
                ready.send(()).ok();
                let abuse = async {
                    case.run(&abuser).await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = abuse => {}
                    stopped = stopped.wait_for(|stopped| *stopped) => drop(stopped),
                }
                case.undo(&abuser).await;
            });
        });
        // Failed if it has panicked, which is told when it is stopped.
        is_ready.await.ok();
        sleep(HEAD_START).await;
        Self { stop, thread }
    }

    /// Ends everything that it has open.
    pub(in crate::noisy) async fn stop(self) {
        self.stop.send_replace(true);
        crate::blocking(move || {
            if let Err(panic) = self.thread.join() {
                std::panic::resume_unwind(panic);
            }
        })
        .await;
    }
}
