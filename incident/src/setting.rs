//! The kinds of what a tenant sets, by the names under which they are stored.

/// See [`Rule`](crate::rule::Rule).
pub const RULE: &str = "rule";
/// See [`ChannelConfig`](crate::channel::ChannelConfig).
pub const CHANNEL: &str = "channel";
/// See [`Silence`](crate::suppression::Silence).
pub const SILENCE: &str = "silence";
/// See [`Policy`](crate::policy::Policy); a tenant has one, of the name [`POLICY`].
pub const POLICY: &str = "policy";
