//! How a receiver of JSON is reached.

use serde::{Deserialize, Serialize};

use super::Endpoint;
use crate::secret::Secret;

/// How to reach a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The address to post to. It may have a token in its path, and so is a secret.
    pub url: Secret,
    /// The key that messages are signed with; empty to sign none.
    #[serde(default)]
    pub signing_secret: Secret,
    /// A token that is sent as `Authorization: Bearer`; empty for none.
    #[serde(default)]
    pub bearer_token: Secret,
    /// Whether an address with `http` is taken too.
    #[serde(default)]
    pub allow_http: bool,
}

impl WebhookConfig {
    /// The address to call; an error says what is wrong with it.
    pub fn endpoint(&self) -> Result<Endpoint, String> {
        // Checked each time and not once: what is stored may come from an earlier version with
        // other rules.
        Endpoint::new(self.url.reveal(), self.allow_http)
    }
}
