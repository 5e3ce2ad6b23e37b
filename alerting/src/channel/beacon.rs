//! An address that is called to say that we live.

use super::{
    Message, Network, SendError, Steps,
    http::{Post, Target},
};
use crate::{notice::NoticeKind, sample};

/// Says that this process lives.
#[derive(Clone)]
pub struct Beacon {
    target: Target,
    network: Network,
}

impl Beacon {
    /// Calls this address; what is wrong with it is said in words.
    pub fn new(url: &str, network: Network) -> Result<Self, String> {
        Ok(Self { target: Target::new(url, true)?, network })
    }

    /// Posts an empty body once.
    pub async fn call(&self) -> Result<(), SendError> {
        let notice = sample::notice(NoticeKind::Updated);
        let post =
            Post { target: &self.target, headers: Vec::new(), bearer: None, body: String::new() };
        let message = Message::new(&notice);
        let answer = self.network.post(post, &message, &mut Steps::default()).await?;
        answer.verdict().map(drop)
    }
}
