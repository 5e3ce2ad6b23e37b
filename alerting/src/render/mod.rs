//! How a notification looks: as Slack's blocks, and as a mail's text and page.

pub(crate) mod email_body;
pub mod slack_blocks;
