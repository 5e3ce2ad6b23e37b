//! The third stage: which channels are told.
//!
//! "Resolved" goes wherever something was told of its incident, and only there.

use std::collections::{BTreeMap, BTreeSet};

use logweir_core::identity::Tenant;
use logweir_incident::{
    channel::ChannelConfig,
    notification::{Notification, NotificationKind},
};
use logweir_storage::{KeepAlerts, StorageError};

/// By the id of an incident: the channels through which something was told of it.
pub(crate) type ChannelsTold = BTreeMap<String, BTreeSet<String>>;

/// Looks up where something was told of the incidents whose end is to be told.
pub(crate) async fn channels_told(
    alerts: &dyn KeepAlerts,
    tenant: &Tenant,
    notifications: &[Notification],
) -> Result<ChannelsTold, StorageError> {
    let mut told = ChannelsTold::new();
    for notification in notifications.iter().filter(|of| of.kind == NotificationKind::Resolved) {
        let id = &notification.incident.id;
        let stored = alerts.deliveries_of(tenant, id).await?.into_iter();
        told.insert(id.clone(), stored.map(|delivery| delivery.channel).collect());
    }
    Ok(told)
}

/// The channels of each notification, in the order of the notifications.
pub(crate) fn route<'a>(
    notifications: &'a [Notification],
    routes: &Routes,
    told: &ChannelsTold,
) -> Vec<(String, &'a Notification)> {
    let mut routed: Vec<(String, &Notification)> = Vec::new();
    for notification in notifications {
        // A set, as a rule may name a channel twice, and nobody wants to be told twice.
        let mut channels: BTreeSet<String> =
            routes.channels_of(&notification.channels).into_iter().map(str::to_owned).collect();
        if notification.kind == NotificationKind::Resolved {
            let id = &notification.incident.id;
            let stored = told.get(id).into_iter().flatten();
            // What opened and ended at once is not stored yet: its beginning is in this very list.
            let just_now = routed.iter().filter(|(_, of)| of.incident.id == *id);
            let told: BTreeSet<&String> =
                stored.chain(just_now.map(|(channel, _)| channel)).collect();
            let there: BTreeSet<String> =
                told.iter().filter(|name| routes.has(name)).map(|name| (*name).clone()).collect();
            // If all that were told are gone, the end goes where the incident would go now.
            if told.is_empty() || !there.is_empty() {
                channels = there;
            }
        }
        routed.extend(channels.into_iter().map(|channel| (channel, notification)));
    }
    routed
}

/// Which channels are told of what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    /// By the channel's name.
    channels: BTreeMap<String, Route>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    is_default: bool,
    fallback: Option<String>,
}

impl Routes {
    /// The routes to a tenant's channels, by name.
    pub fn of(channels: &BTreeMap<String, ChannelConfig>) -> Self {
        let route = |config: &ChannelConfig| Route {
            is_default: config.is_default,
            fallback: config.fallback.clone(),
        };
        let channels = channels.iter();
        Self { channels: channels.map(|(name, config)| (name.clone(), route(config))).collect() }
    }

    fn has(&self, channel: &str) -> bool {
        self.channels.contains_key(channel)
    }

    fn defaults(&self) -> impl Iterator<Item = &String> {
        self.channels.iter().filter(|(_, route)| route.is_default).map(|(name, _)| name)
    }

    /// The channels for something that names these; the default ones where it names none that is
    /// there, and all if there is no default.
    pub fn channels_of<'a>(&'a self, named: &'a [String]) -> Vec<&'a str> {
        let known: Vec<&str> = named.iter().filter(|name| self.has(name)).map(|n| &**n).collect();
        if !known.is_empty() {
            return known;
        }
        let default: Vec<&str> = self.defaults().map(String::as_str).collect();
        // Somebody is always told, even where nobody said whom.
        if default.is_empty() {
            self.channels.keys().map(String::as_str).collect()
        } else {
            default
        }
    }

    /// The channels that could be told in place of one, the first choice first.
    pub fn fallbacks(&self, channel: &str, is_well: impl Fn(&str) -> bool) -> Vec<String> {
        let own = self.channels.get(channel).and_then(|route| route.fallback.clone());
        let mut found: Vec<String> = own.into_iter().collect();
        found.extend(self.defaults().cloned());
        // A channel may name itself or a default one as its fallback, which must not be told twice.
        let mut seen = Vec::new();
        found.retain(|name| {
            let is_new = !seen.contains(name);
            seen.push(name.clone());
            is_new && name != channel && self.has(name) && is_well(name)
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use logweir_incident::example;

    use super::*;

    fn routes() -> Routes {
        let route = |name: &str, is_default| {
            (name.to_owned(), Route { is_default, fallback: Some("mail".to_owned()) })
        };
        Routes { channels: [route("chat", true), route("mail", false)].into() }
    }

    /// The channels of a notification that names these, where something was told of its incident.
    fn channels(kind: NotificationKind, named: &[&str], told: &[&str]) -> Vec<String> {
        let mut notification = example::notification(kind);
        notification.channels = named.iter().map(|name| (*name).to_owned()).collect();
        let told = told.iter().map(|name| (*name).to_owned()).collect();
        let told = ChannelsTold::from([(notification.incident.id.clone(), told)]);
        let routed = route(std::slice::from_ref(&notification), &routes(), &told);
        routed.into_iter().map(|(channel, _)| channel).collect()
    }

    #[test]
    fn an_end_is_told_where_the_beginning_was() {
        use NotificationKind::{Opened, Resolved};
        for (kind, named, told, expected) in [
            (Opened, &["mail"][..], &[][..], &["mail"][..]),
            (Opened, &[], &[], &["chat"]),
            (Opened, &["gone"], &[], &["chat"]),
            (Resolved, &["chat"], &["mail"], &["mail"]),
            (Resolved, &["mail"], &["mail", "gone"], &["mail"]),
            (Resolved, &["mail"], &["gone"], &["mail"]),
            (Resolved, &[], &[], &[]),
        ] {
            assert_eq!(channels(kind, named, told), expected, "{kind:?} {named:?} {told:?}");
        }
    }

    #[test]
    fn an_end_that_is_due_with_its_beginning_follows_it() {
        let all = [NotificationKind::Opened, NotificationKind::Resolved].map(example::notification);
        let routed = route(&all, &routes(), &ChannelsTold::new());
        assert!(routed.iter().map(|(channel, _)| channel).eq(["chat", "chat"]), "{routed:?}");
    }

    #[test]
    fn a_channel_is_no_fallback_of_itself_and_none_is_named_twice() {
        assert_eq!(routes().fallbacks("chat", |_| true), ["mail"]);
        assert_eq!(routes().fallbacks("mail", |_| true), ["chat"]);
        assert_eq!(routes().fallbacks("chat", |_| false), [""; 0]);
    }
}
