//! What a channel is given to send.

use std::time::Instant;

use logweir_incident::notification::Notification;

/// The form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// With markup, worded as set for the channel.
    #[default]
    Full,
    /// Text alone: the full form was refused.
    Plain,
}

/// One message to send.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What it is about.
    pub notification: &'a Notification,
    /// The same whenever the same is sent again, so that receivers can tell a repeat.
    pub key: &'a str,
    /// What the channel returned when the incident was opened on it.
    pub thread: Option<&'a str>,
    /// The form to send it in.
    pub form: Form,
    /// Whether it says that it is only a test.
    pub is_test: bool,
    /// Nothing may be sent after this moment: this process may no longer be the one that sends.
    pub not_after: Option<Instant>,
}

impl<'a> Message<'a> {
    /// A message that says `notification` by itself.
    pub fn new(notification: &'a Notification) -> Self {
        let (form, key) = (Form::Full, notification.key.as_str());
        Self { notification, key, thread: None, form, is_test: false, not_after: None }
    }
}
