//! Tenant b, who has one valid token and means ill.
//!
//! All of its clients run on one thread of lower priority than the servers and tenant a: they stand
//! for machines elsewhere, and what is measured is what a server does to a, not what is left of the
//! processor on the machine of the test.

mod case;
mod ingest;
mod query;
mod rules;
mod wire;

use std::{sync::Arc, thread, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::sleep,
};
use tonic::{Status, transport::Channel};

pub use case::Case;

use super::{client, tally::Tally, target::Target};

/// How much the priority is lowered, of 19 at most.
const NICENESS: i32 = 5;
/// How long an abuse goes on before it is measured what others notice of it.
const HEAD_START: Duration = Duration::from_secs(1);
/// After a refusal, so that a client of its own does not take a whole core to be refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(2);

/// What every client of tenant b has. Clones are one.
#[derive(Clone)]
pub(super) struct Abuser {
    endpoint: Arc<str>,
    token: Arc<str>,
    pub(super) tally: Tally,
}

impl Abuser {
    pub(super) fn new(target: &Target) -> Self {
        let (endpoint, token) = (target.endpoint.as_str().into(), target.token_b.as_str().into());
        Self { endpoint, token, tally: Tally::default() }
    }

    /// The same with nothing counted.
    pub(super) fn afresh(&self) -> Self {
        Self { tally: Tally::default(), ..self.clone() }
    }

    /// Stores what the cases read.
    pub(super) async fn set_up(&self) -> Result<(), Status> {
        ingest::store_a_week(self).await
    }

    fn address(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    fn channel(&self) -> Channel {
        client::channel(&self.endpoint)
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        client::request(message, &self.token)
    }

    /// Has so many workers, on so many connections, do something again and again for ever.
    async fn repeat<F>(
        &self,
        connections: usize,
        workers: usize,
        act: impl Fn(Self, Channel, u64) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = Result<(), Status>> + Send,
    {
        let channels: Vec<Channel> = (0..connections).map(|_| self.channel()).collect();
        let mut running = JoinSet::new();
        for worker in 0..workers {
            let (abuser, channel, act) =
                (self.clone(), channels[worker % connections].clone(), act.clone());
            running.spawn(async move {
                for round in 0.. {
                    let number = round * workers as u64 + worker as u64;
                    let answer = act(abuser.clone(), channel.clone(), number).await;
                    abuser.tally.note(&answer);
                    if answer.is_err() {
                        sleep(REFUSED_PAUSE).await;
                    }
                }
            });
        }
        running.join_all().await;
    }
}

/// A case that goes on until it is stopped.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    thread: thread::JoinHandle<()>,
}

impl Running {
    /// Begins, and waits until it is the abuse that it is meant to be.
    pub(super) async fn start(case: Case, abuser: Abuser) -> Self {
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
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        crate::blocking(move || {
            if let Err(panic) = self.thread.join() {
                std::panic::resume_unwind(panic);
            }
        })
        .await;
    }
}
