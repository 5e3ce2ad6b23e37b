//! An address that is called to say that we live.

use logweir_incident::{channel::Endpoint, notification::NotificationKind, sample};

use super::{Message, Network, SendError, Steps, http::Post};

/// Says that this process lives.
#[derive(Clone)]
pub struct Ping {
    target: Endpoint,
    network: Network,
}

impl Ping {
    /// Calls this address; what is wrong with it is said in words.
    pub fn new(url: &str, network: Network) -> Result<Self, String> {
        Ok(Self { target: Endpoint::new(url, true)?, network })
    }

    /// Posts an empty body once.
    pub async fn call(&self) -> Result<(), SendError> {
        let notification = sample::notification(NotificationKind::Updated);
        let post =
            Post { target: &self.target, headers: Vec::new(), bearer: None, body: String::new() };
        let message = Message::new(&notification);
        let response = self.network.post(post, &message, &mut Steps::default()).await?;
        response.check_status().map(drop)
    }
}
