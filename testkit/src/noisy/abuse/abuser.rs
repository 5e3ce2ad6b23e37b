//! A client of tenant b, and what all of them do alike.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tonic::{Status, transport::Channel};

use crate::noisy::{client, tally::Tally, target::Target};

/// After a refusal, so that a client of its own does not take a whole core to be refused.
pub(super) const REFUSED_PAUSE: Duration = Duration::from_millis(2);

/// What every client of tenant b has. Clones are one.
#[derive(Clone)]
pub(in crate::noisy) struct Abuser {
    pub(super) endpoint: Arc<str>,
    pub(super) token: Arc<str>,
    pub(in crate::noisy) tally: Tally,
}

impl Abuser {
    pub(in crate::noisy) fn new(target: &Target) -> Self {
        let (endpoint, token) = (target.endpoint.as_str().into(), target.token_b.as_str().into());
        Self { endpoint, token, tally: Tally::default() }
    }

    /// The same with nothing counted.
    pub(in crate::noisy) fn afresh(&self) -> Self {
        Self { tally: Tally::default(), ..self.clone() }
    }

    pub(super) fn address(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    pub(super) fn channel(&self) -> Channel {
        client::channel(&self.endpoint)
    }

    pub(super) fn request<T>(&self, message: T) -> tonic::Request<T> {
        client::request(message, &self.token)
    }

    /// Has so many workers, on so many connections, do something again and again for ever.
    pub(super) async fn repeat<F>(
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
