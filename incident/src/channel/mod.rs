//! A channel's settings, as they are kept, and what is known of its destination.

pub mod breaker;
pub mod email;
pub mod endpoint;
pub mod rate_limit;
pub mod slack;
pub mod stored_state;
pub mod webhook;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    breaker::{Breaker, BreakerState},
    email::{EmailConfig, Encryption},
    endpoint::Endpoint,
    rate_limit::{RateLimit, RateLimiter},
    slack::SlackConfig,
    stored_state::ChannelState,
    webhook::WebhookConfig,
};
use crate::{
    example,
    notification::NotificationKind,
    render::{
        template::{Markup, TemplateError, Templates, render},
        view::View,
    },
    secret::{MASK, Secret},
};

/// Fields that are never shown.
const SECRETS: [&str; 6] =
    ["webhook_url", "bot_token", "password", "url", "signing_secret", "bearer_token"];

/// A channel's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    /// Its name, unique within the tenant, by which rules name it.
    pub name: String,
    /// How it is reached.
    pub kind: ChannelKind,
    /// Its own wording, as templates.
    #[serde(default)]
    pub templates: Templates,
    /// The channel that is told while this one is down; without one, any other default channel.
    #[serde(default)]
    pub fallback: Option<String>,
    /// Whether it is told of incidents whose rule names no channel.
    #[serde(default)]
    pub is_default: bool,
}

/// How a channel is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// Slack.
    Slack(SlackConfig),
    /// Mail.
    Email(EmailConfig),
    /// A webhook: JSON to any receiver.
    Webhook(WebhookConfig),
}

impl ChannelConfig {
    /// The settings as they may be shown: secrets that are set are masked.
    pub fn masked(&self) -> Value {
        // By the fields' names, whatever the kind, so that a new kind of channel is masked from the
        // first day.
        let mut shown = serde_json::to_value(self).unwrap_or_default();
        if let Some(kinds) = shown["kind"].as_object_mut() {
            for fields in kinds.values_mut().filter_map(Value::as_object_mut) {
                for (name, value) in fields {
                    if SECRETS.contains(&name.as_str())
                        && value.as_str().is_some_and(|text| !text.is_empty())
                    {
                        *value = MASK.into();
                    }
                }
            }
        }
        shown
    }

    /// Whether a channel can be made of the settings; an error says in words what is wrong and what
    /// to do.
    pub fn check(&self) -> Result<(), String> {
        if self.is_masked() {
            return Err("a secret is masked; set it anew, since the address changed".into());
        }
        // Before the addresses: a template is what people get wrong most, and it is tried without a
        // call.
        try_templates(self)?;
        match &self.kind {
            ChannelKind::Slack(slack) => slack.endpoints().map(drop),
            ChannelKind::Email(email) => email.correspondents().map(drop),
            ChannelKind::Webhook(webhook) => webhook.endpoint().map(drop),
        }
    }

    fn is_masked(&self) -> bool {
        let secrets = match &self.kind {
            ChannelKind::Slack(slack) => vec![&slack.webhook_url, &slack.bot_token],
            ChannelKind::Email(email) => vec![&email.password],
            ChannelKind::Webhook(hook) => vec![&hook.url, &hook.signing_secret, &hook.bearer_token],
        };
        secrets.iter().any(|secret| secret.reveal() == MASK)
    }

    /// Fills secrets that somebody left masked with those of `old`: whoever changes a channel's
    /// name need not know its password.
    pub fn keep_secrets(&mut self, old: &Self) {
        // Only for the same destination: whoever changed the address and left the mask would else
        // have a secret, which they never saw, sent to a server of their own.
        let mask = |secret: &Secret| secret.reveal() == MASK;
        match (&mut self.kind, &old.kind) {
            (ChannelKind::Slack(new), ChannelKind::Slack(old)) => {
                if mask(&new.webhook_url) {
                    new.webhook_url = old.webhook_url.clone();
                }
                // A token goes only where it went before.
                if mask(&new.bot_token) && new.api_url == old.api_url {
                    new.bot_token = old.bot_token.clone();
                }
            }
            (ChannelKind::Email(new), ChannelKind::Email(old))
                if mask(&new.password) && (&new.host, new.port) == (&old.host, old.port) =>
            {
                new.password = old.password.clone();
            }
            (ChannelKind::Webhook(new), ChannelKind::Webhook(old)) => {
                let same_url = mask(&new.url) || new.url == old.url;
                if mask(&new.url) {
                    new.url = old.url.clone();
                }
                if mask(&new.signing_secret) && same_url {
                    new.signing_secret = old.signing_secret.clone();
                }
                if mask(&new.bearer_token) && same_url {
                    new.bearer_token = old.bearer_token.clone();
                }
            }
            _ => {}
        }
    }
}

/// Fills the templates with a made-up incident, so that a mistake shows when it is made.
fn try_templates(config: &ChannelConfig) -> Result<(), String> {
    let markup = match &config.kind {
        ChannelKind::Slack(_) => Markup::Slack,
        ChannelKind::Email(_) => Markup::Text,
        ChannelKind::Webhook(_) => Markup::Json,
    };
    let notification = example::notification(NotificationKind::Opened);
    let view = View::new(&notification, &notification.key, true);
    let words = |error: TemplateError| error.to_string();
    // A title has no markup anywhere: a header of Slack and a subject show what is in it as it is.
    if let Some(title) = &config.templates.title {
        render(title, Markup::Text, &view).map_err(words)?;
    }
    if let Some(body) = &config.templates.body {
        let filled = render(body, markup, &view).map_err(words)?;
        if markup == Markup::Json {
            serde_json::from_str::<Value>(&filled)
                .map_err(|error| format!("template: what it prints is no JSON: {error}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(url: &str, secret: &str) -> ChannelConfig {
        let kind = ChannelKind::Webhook(WebhookConfig {
            url: Secret::new(url),
            signing_secret: Secret::new(secret),
            bearer_token: Secret::default(),
            allow_http: false,
        });
        let templates = Templates::default();
        ChannelConfig { name: "hook".into(), kind, templates, fallback: None, is_default: true }
    }

    #[test]
    fn secrets_are_masked_and_kept_only_where_they_went_before() {
        let old = webhook("https://a.example/token", "signs");
        let shown = old.masked().to_string();
        assert!(!shown.contains("a.example") && !shown.contains("signs"), "{shown}");
        assert!(!format!("{old:?}").contains("signs"));
        let mut renamed: ChannelConfig = serde_json::from_str(&shown).unwrap();
        renamed.keep_secrets(&old);
        assert_eq!(renamed, old);
        let mut moved = webhook("https://evil.example/", MASK);
        moved.keep_secrets(&old);
        assert!(moved.is_masked());
    }

    #[test]
    fn a_mistake_in_a_template_shows_when_it_is_made() {
        let mut config = webhook("https://a.example/", "");
        config.templates.body = Some(r#"{"summary": {{ title }} }"#.into());
        assert!(try_templates(&config).unwrap_err().contains("no JSON"));
        config.templates.body = Some(r#"{"summary": "{{ title }}"}"#.into());
        assert_eq!(try_templates(&config), Ok(()));
        config.templates.title = Some("{{ titel }}".into());
        assert!(try_templates(&config).unwrap_err().contains("undefined value"));
    }
}
