//! What a tenant has set, as alerting works with it: rules, channels, and the notification policy
//! with its silences.

use std::collections::BTreeMap;

use logweir_incident::{
    built_in, channel::ChannelConfig, rule::Rule, setting::StoredSetting, suppression::Suppression,
};

use crate::notify::policy::NotificationPolicy;

/// What a tenant has set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// The built-in rules, and the tenant's own; one of the same name takes the place of a built-in
    /// one.
    pub rules: Vec<Rule>,
    /// The channels, by name.
    pub channels: BTreeMap<String, ChannelConfig>,
    /// When people want to be told, and how often.
    pub policy: NotificationPolicy,
}

impl Settings {
    /// Of what is stored for a tenant; what is not understood is left out. `files` are rules from
    /// files, which hold for every tenant and give way to stored ones.
    pub fn of(stored: &[StoredSetting], files: &[Rule]) -> Self {
        // In this order: what a tenant stored takes the place of a rule from a file, and both take
        // that of a built-in one.
        let from_files = files.iter().map(|rule| (rule.name.clone(), rule.clone()));
        let mut rules: BTreeMap<String, Rule> = from_files.collect();
        let own = stored.iter().filter_map(StoredSetting::rule);
        rules.extend(own.map(|rule| (rule.name.clone(), rule.clone())));
        let built_in = built_in::rules().into_iter();
        let mut all: Vec<Rule> = built_in.filter(|of| !rules.contains_key(&of.name)).collect();
        all.extend(rules.into_values());
        let channels = stored.iter().filter_map(StoredSetting::channel);
        let policy = stored.iter().find_map(StoredSetting::policy).cloned().unwrap_or_default();
        Self {
            rules: all,
            channels: channels.map(|of| (of.name.clone(), of.clone())).collect(),
            policy: NotificationPolicy {
                suppression: Suppression {
                    silences: stored.iter().filter_map(StoredSetting::silence).cloned().collect(),
                    mute_times: policy.mute_times,
                    inhibitions: policy.inhibitions,
                },
                reminders: policy.reminders,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use logweir_incident::{
        policy::Reminders,
        setting::{Setting, SettingKind},
    };

    use super::*;

    #[test]
    fn a_policy_holds_and_one_that_is_not_understood_leaves_the_defaults() {
        let kind = SettingKind::Policy;
        let setting = |body: &str| StoredSetting {
            kind,
            name: kind.as_str().to_owned(),
            setting: Setting::from_json(kind, body).ok(),
        };
        let stored = setting(
            r#"{"reminders": {"repeat_seconds": 600},
                "mute_times": [{"name": "nights", "from": "22:00", "to": "07:00"}],
                "inhibitions": [{"source": {"service": "db"}, "target": {"service": "shop"}}]}"#,
        );
        let settings = Settings::of(&[stored], &[]);
        assert_eq!(settings.policy.reminders.repeat_seconds, 600);
        assert_eq!(
            (
                settings.policy.suppression.mute_times.len(),
                settings.policy.suppression.inhibitions.len()
            ),
            (1, 1)
        );
        let damaged = Settings::of(&[setting("{\"reminders\": 1}")], &[]);
        assert_eq!(damaged.policy.reminders, Reminders::default());
        assert!(!damaged.rules.is_empty());
    }
}
