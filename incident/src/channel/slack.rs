//! How Slack is reached: by an incoming webhook, or as a bot.

use serde::{Deserialize, Serialize};

use super::Endpoint;
use crate::secret::Secret;

/// Where Slack's methods are, unless a channel names a proxy.
const API_URL: &str = "https://slack.com/api";

/// How to reach Slack: a webhook's URL, or a bot's token and a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackConfig {
    /// The address of an incoming webhook, which is a secret: whoever has it can post.
    pub webhook_url: Secret,
    /// The token of a bot with the scope `chat:write`.
    pub bot_token: Secret,
    /// The channel that the bot posts to: its id, or `#name`.
    pub channel: String,
    /// Slack's API, if it is not `https://slack.com/api`, such as a proxy.
    pub api_url: Option<String>,
    /// Whether addresses with `http` are taken too.
    pub allow_http: bool,
}

/// The addresses that a Slack channel calls.
#[derive(Clone)]
pub enum SlackEndpoints {
    /// An incoming webhook: messages can only be added.
    Webhook(Endpoint),
    /// A bot: messages can be edited, too.
    Bot {
        /// The method `chat.postMessage`.
        post: Endpoint,
        /// The method `chat.update`.
        update: Endpoint,
    },
}

impl SlackConfig {
    /// The addresses to call; an error says what is missing or contradicts itself.
    pub fn endpoints(&self) -> Result<SlackEndpoints, String> {
        // With both it would be a guess which of them somebody meant.
        match (self.webhook_url.is_empty(), self.bot_token.is_empty()) {
            (false, true) => {
                let webhook = Endpoint::new(self.webhook_url.reveal(), self.allow_http)?;
                Ok(SlackEndpoints::Webhook(webhook))
            }
            (true, false) if self.channel.is_empty() => {
                Err("a bot needs a `channel`, its id or `#name`".into())
            }
            (true, false) => Ok(SlackEndpoints::Bot {
                post: self.method("chat.postMessage")?,
                update: self.method("chat.update")?,
            }),
            _ => Err("set either `webhook_url`, or `bot_token` and `channel`".into()),
        }
    }

    fn method(&self, name: &str) -> Result<Endpoint, String> {
        let api = self.api_url.as_deref().unwrap_or(API_URL).trim_end_matches('/');
        Endpoint::new(&format!("{api}/{name}"), self.allow_http)
    }
}
