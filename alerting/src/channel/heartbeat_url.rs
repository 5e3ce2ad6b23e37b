//! The address outside that is called while this process lives.

use logweir_incident::{channel::Endpoint, example, notification::NotificationKind};

use super::{CallSteps, Message, Network, SendError, http::Post};

/// The address to call, and the network to call it through.
#[derive(Clone)]
pub struct HeartbeatUrl {
    target: Endpoint,
    network: Network,
}

impl HeartbeatUrl {
    /// Takes the address, plain HTTP allowed; an error says in words what is wrong with it.
    pub fn new(url: &str, network: Network) -> Result<Self, String> {
        Ok(Self { target: Endpoint::new(url, true)?, network })
    }

    /// Posts an empty body once.
    pub async fn call(&self) -> Result<(), SendError> {
        // A post belongs to a message, whose lease is checked; a heartbeat has none, and any
        // message will do.
        let notification = example::notification(NotificationKind::Updated);
        let post =
            Post { target: &self.target, headers: Vec::new(), bearer: None, body: String::new() };
        let message = Message::new(&notification);
        let response = self.network.post(post, &message, &mut CallSteps::default()).await?;
        response.check_status().map(drop)
    }
}
