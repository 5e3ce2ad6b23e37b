//! Slack: an incoming webhook, or a bot that can also edit its messages and answer below them.
//!
//! With a bot an incident is one thread: its opening is the message, which is edited as the
//! incident changes; what is worth a sound is said below it. A webhook can only add messages.
//!
//! Slack takes one message a second for a channel or a webhook, says `Retry-After` when it wants a
//! pause, and refuses blocks beyond its documented sizes whole; so everything is cut to fit
//! (<https://docs.slack.dev/reference/block-kit/blocks>).

use std::time::Duration;

use async_trait::async_trait;
use logweir_incident::{
    channel::{Endpoint, RateLimit, SlackConfig, slack::SlackEndpoints},
    notification::NotificationKind,
    render::{template::Templates, view::View},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    CallSteps, Channel, ChannelLimits, Failure, Form, Message, Network, Receipt, SendError,
    acknowledgement::{Acknowledgement, acknowledgement},
    http::{Post, Response},
    slack_errors::{is_code, refused},
};
use crate::render::slack_blocks::{blocks, fallback_text};

/// Time between messages: Slack's second, and a margin for the way there.
pub const SLACK_RATE: RateLimit = RateLimit { every: Duration::from_millis(1_100), burst: 1 };
/// Incidents that may wait at once; more become one message. At one a second more is a flood.
const DIGEST_OVER: usize = 5;

/// Posts to Slack.
pub struct Slack {
    config: SlackConfig,
    endpoints: SlackEndpoints,
    templates: Templates,
    network: Network,
}

/// What later messages need: the channel's id and the first message's time.
fn thread(channel: &str, ts: &str) -> String {
    format!("{channel} {ts}")
}

impl Slack {
    /// Checks the settings; calls nothing.
    pub fn new(
        config: SlackConfig,
        templates: Templates,
        network: Network,
    ) -> Result<Self, String> {
        let endpoints = config.endpoints()?;
        Ok(Self { config, endpoints, templates, network })
    }

    async fn call(
        &self,
        target: &Endpoint,
        body: &Value,
        message: &Message<'_>,
        steps: &mut CallSteps,
    ) -> Result<Response, SendError> {
        // The address of a webhook is its own secret: there is no token then.
        let bearer = Some(self.config.bot_token.reveal()).filter(|token| !token.is_empty());
        let post = Post { target, headers: Vec::new(), bearer, body: body.to_string() };
        self.network.post(post, message, steps).await?.check_status()
    }

    /// Calls a method of the API, whose errors come with status 200.
    async fn method(
        &self,
        target: &Endpoint,
        body: &Value,
        message: &Message<'_>,
        steps: &mut CallSteps,
    ) -> Result<Posted, SendError> {
        let response = self.call(target, body, message, steps).await?;
        let Ok(returned) = serde_json::from_str::<Returned>(&response.body) else {
            return Err(unsaid(format!("answered no JSON: {}", response.words())));
        };
        match returned {
            Returned { ok: true, channel, ts, .. } => {
                Ok(Posted { channel: channel.unwrap_or_default(), ts: ts.unwrap_or_default() })
            }
            Returned { error, .. } => Err(refused(&error.unwrap_or_default(), response.pause)),
        }
    }

    /// As a bot: edits the message that opened the incident where a change needs no sound, and
    /// posts a new one otherwise.
    async fn as_bot(
        &self,
        (post, update): (&Endpoint, &Endpoint),
        message: &Message<'_>,
        content: Value,
        steps: &mut CallSteps,
    ) -> Result<Receipt, SendError> {
        let kind = message.notification.kind;
        let opening = message.thread.and_then(|thread| thread.split_once(' '));
        if let Some((channel, ts)) = opening
            && matches!(kind, NotificationKind::Updated | NotificationKind::Resolved)
        {
            let mut edit = content.clone();
            edit["channel"] = channel.into();
            edit["ts"] = ts.into();
            let edited = self.method(update, &edit, message, steps).await;
            let is_gone = match &edited {
                Ok(_) => false,
                // Somebody deleted it, or it may no longer be edited: it is posted anew.
                Err(error) if error.failure == Failure::Rejected => true,
                Err(_) => return edited.map(|_| Receipt::default()),
            };
            if kind == NotificationKind::Updated && !is_gone {
                let words = "edited the first message".into();
                return Ok(Receipt { thread: message.thread.map(str::to_owned), words });
            }
            // The end is also posted, as an edit makes no sound; Slack counts both calls.
            if !is_gone {
                tokio::time::sleep(SLACK_RATE.every).await;
            }
        }
        let mut anew = content;
        anew["channel"] =
            opening.map_or(self.config.channel.as_str(), |(channel, _)| channel).into();
        // Slack would call the link to fetch a preview, and show a login page.
        anew["unfurl_links"] = false.into();
        anew["metadata"] =
            json!({ "event_type": "logweir_notice", "event_payload": { "key": message.key } });
        if let Some((_, ts)) = opening {
            anew["thread_ts"] = ts.into();
            // What is worth a sound is also shown in the channel, as few follow a thread.
            anew["reply_broadcast"] =
                matches!(kind, NotificationKind::Escalated | NotificationKind::Reminder).into();
        }
        let posted = self.method(post, &anew, message, steps).await?;
        let first = match message.thread {
            Some(thread) => Some(thread.to_owned()),
            // A digest is no incident's: to edit it for one would take away the others.
            None if kind == NotificationKind::Digest => None,
            None => Some(thread(&posted.channel, &posted.ts)),
        };
        Ok(Receipt { thread: first, words: format!("posted at {}", posted.ts) })
    }
}

#[async_trait]
impl Channel for Slack {
    fn limits(&self) -> ChannelLimits {
        ChannelLimits { rate: SLACK_RATE, digest_over: Some(DIGEST_OVER) }
    }

    async fn send(
        &self,
        message: &Message<'_>,
        steps: &mut CallSteps,
    ) -> Result<Receipt, SendError> {
        let view = View::new(message.notification, message.key, message.is_test);
        let content = match message.form {
            Form::Full => {
                let blocks = blocks(&view, &self.templates);
                json!({ "text": fallback_text(&view), "blocks": blocks })
            }
            Form::Plain => json!({ "text": fallback_text(&view) }),
        };
        match &self.endpoints {
            SlackEndpoints::Webhook(target) => {
                let response = self.call(target, &content, message, steps).await?;
                taken_by_webhook(&response)?;
                Ok(Receipt { thread: None, words: response.words() })
            }
            SlackEndpoints::Bot { post, update } => {
                self.as_bot((post, update), message, content, steps).await
            }
        }
    }
}

/// A webhook of Slack's says `ok` and nothing else of a message that it took; what imitates Slack
/// (Mattermost, Rocket.Chat, Discord) says so too, or in JSON.
fn taken_by_webhook(response: &Response) -> Result<(), SendError> {
    let word = response.body.trim();
    match acknowledgement(response) {
        Acknowledgement::Taken => Ok(()),
        _ if is_code(word) => Err(refused(word, response.pause)),
        Acknowledgement::Failed(error) => Err(error),
        Acknowledgement::Unsaid => {
            Err(unsaid(format!("answered {} without `ok`: {}", response.status, response.words())))
        }
    }
}

/// A proxy's page with status 200: what became of the message nobody knows.
fn unsaid(text: String) -> SendError {
    let failing = Failure::Failing { pause: None };
    SendError { may_have_arrived: true, ..SendError::new(failing, text) }
}

/// What Slack's methods return.
#[derive(Deserialize)]
struct Returned {
    ok: bool,
    error: Option<String>,
    channel: Option<String>,
    ts: Option<String>,
}

/// A message that Slack took.
struct Posted {
    /// The channel's id.
    channel: String,
    /// The message's time, which is its id within the channel.
    ts: String,
}
