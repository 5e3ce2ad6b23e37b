//! A signed JSON document to any receiver.
//!
//! The document is a contract, described in `docs/channels.md`. The signature covers the moment and
//! the body, so that a receiver can refuse what was changed or is played again later; the key, in
//! `Idempotency-Key` and in the body, is the same whenever the same is said again.

use std::time::Duration;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit as _, Mac as _};
use logweir_core::runtime::clock::Clock;
use logweir_incident::{
    channel::{Endpoint, RateLimit, WebhookConfig},
    incident::IncidentState,
    notification::Notification,
    render::{
        template::{Markup, Templates, render},
        view::View,
    },
};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    CallSteps, Channel, ChannelLimits, Form, Message, Network, Receipt, SendError,
    acknowledgement::{Acknowledgement, acknowledgement},
    http::Post,
};

/// The version of the document, which receivers check.
const FORMAT_VERSION: u32 = 1;
/// Twenty at once, then a hundred a minute, as `docs/channels.md` says to receivers.
const WEBHOOK_RATE: RateLimit = RateLimit { every: Duration::from_millis(600), burst: 20 };

/// Posts JSON.
pub struct Webhook {
    config: WebhookConfig,
    target: Endpoint,
    templates: Templates,
    network: Network,
    clock: Clock,
}

impl Webhook {
    /// Checks the settings; calls nothing.
    pub fn new(
        config: WebhookConfig,
        templates: Templates,
        network: Network,
        clock: Clock,
    ) -> Result<Self, String> {
        let target = config.endpoint()?;
        Ok(Self { config, target, templates, network, clock })
    }

    fn body(&self, message: &Message<'_>) -> String {
        let view = View::new(message.notification, message.key, message.is_test);
        let Some(template) = self.templates.body.as_deref().filter(|_| message.form == Form::Full)
        else {
            return document(message.notification, &view, None).to_string();
        };
        let rendered = render(template, Markup::Json, &view).map_err(|error| error.to_string());
        // A template may print what is no JSON only for some incident: then the usual document
        // goes, with the mistake in it.
        let parsed = rendered.and_then(|text| match serde_json::from_str::<Value>(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(format!("template: what it prints is no JSON: {error}")),
        });
        parsed.unwrap_or_else(|why| document(message.notification, &view, Some(why)).to_string())
    }
}

#[async_trait]
impl Channel for Webhook {
    fn limits(&self) -> ChannelLimits {
        // A machine wants each incident by itself, however many there are.
        ChannelLimits { rate: WEBHOOK_RATE, digest_over: None }
    }

    async fn send(
        &self,
        message: &Message<'_>,
        steps: &mut CallSteps,
    ) -> Result<Receipt, SendError> {
        let body = self.body(message);
        let seconds = (self.clock)().as_unix_seconds();
        let mut headers = vec![
            ("idempotency-key", message.key.to_owned()),
            ("x-logweir-timestamp", seconds.to_string()),
        ];
        if !self.config.signing_secret.is_empty() {
            // Over the very bytes that are sent: a receiver that parses them first cannot check it.
            let signature = sign(self.config.signing_secret.reveal(), seconds, &body);
            headers.push(("x-logweir-signature", signature));
        }
        let bearer = Some(self.config.bearer_token.reveal()).filter(|token| !token.is_empty());
        let post = Post { target: &self.target, headers, bearer, body };
        let response = self.network.post(post, message, steps).await?.check_status()?;
        // Silence is consent here: most receivers say nothing, or something of their own.
        if let Acknowledgement::Failed(error) = acknowledgement(&response) {
            return Err(error);
        }
        Ok(Receipt { thread: None, words: format!("{}: {}", response.status, response.words()) })
    }
}

/// `v1=` and the hexadecimal HMAC-SHA256 of the seconds, a dot and the body.
pub fn sign(secret: &str, unix_seconds: i64, body: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    // The moment is signed with the body, or an old message could be played again with a new one.
    mac.update(format!("{unix_seconds}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

/// The document that is posted, as `docs/channels.md` describes it; `template_error` says why the
/// channel's own one is not.
fn document(notification: &Notification, view: &View, template_error: Option<String>) -> Value {
    let incident = &notification.incident;
    let status = match incident.state {
        IncidentState::Resolved => "resolved",
        _ => "firing",
    };
    json!({
        "version": FORMAT_VERSION,
        "key": view.key,
        "kind": view.kind,
        "status": status,
        "severity": view.severity,
        "is_test": view.is_test,
        "at_unix_nano": notification.at,
        "title": view.headline(),
        "text": view.text,
        "link": view.link,
        "incident": incident,
        "others": notification.others,
        "count": notification.count,
        "template_error": template_error,
    })
}
