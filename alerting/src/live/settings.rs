//! What was set, by tenant: rules, channels, silences and the like, as stored.

use std::collections::BTreeMap;

use logweir_core::identity::Tenant;
use logweir_incident::{
    built_in, channel::ChannelConfig, policy::Reminders, rule::Rule, setting::StoredSetting,
    suppression::Suppression,
};

/// What a tenant has set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// The built-in rules, and the tenant's own; one of the same name takes the place of a built-in
    /// one.
    pub rules: Vec<Rule>,
    /// By name.
    pub channels: BTreeMap<String, ChannelConfig>,
    /// Who does not want to know what.
    pub suppression: Suppression,
    /// How often people are told.
    pub reminders: Reminders,
}

impl Settings {
    /// Of what is stored for a tenant; what is not understood is left out. `files` are rules from
    /// files, which hold for every tenant and give way to stored ones.
    pub fn of(stored: &[StoredSetting], files: &[Rule]) -> Self {
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
            suppression: Suppression {
                silences: stored.iter().filter_map(StoredSetting::silence).cloned().collect(),
                mute_times: policy.mute_times,
                inhibitions: policy.inhibitions,
            },
            reminders: policy.reminders,
        }
    }
}

/// Which channels are told of what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    /// By name: whether it is a default one, and its fallback.
    channels: BTreeMap<String, (bool, Option<String>)>,
}

impl Routes {
    /// Of the channels.
    pub fn of(settings: &Settings) -> Self {
        let route = |config: &ChannelConfig| (config.is_default, config.fallback.clone());
        let channels = settings.channels.iter();
        Self { channels: channels.map(|(name, config)| (name.clone(), route(config))).collect() }
    }

    /// The channels for something that names these; the default ones where it names none that is
    /// there, and all if there is no default.
    pub fn told<'a>(&'a self, named: &'a [String]) -> Vec<&'a str> {
        let known: Vec<&str> =
            named.iter().filter(|name| self.channels.contains_key(*name)).map(|n| &**n).collect();
        if !known.is_empty() {
            return known;
        }
        let default = self.channels.iter().filter(|(_, (is_default, _))| *is_default);
        let default: Vec<&str> = default.map(|(name, _)| name.as_str()).collect();
        if default.is_empty() {
            self.channels.keys().map(String::as_str).collect()
        } else {
            default
        }
    }

    /// The channels that could be told in place of one, the first choice first.
    pub fn fallbacks(&self, channel: &str, is_well: impl Fn(&str) -> bool) -> Vec<String> {
        let own = self.channels.get(channel).and_then(|(_, fallback)| fallback.clone());
        let default = self.channels.iter().filter(|(_, (is_default, _))| *is_default);
        let mut found: Vec<String> = own.into_iter().collect();
        found.extend(default.map(|(name, _)| name.clone()));
        let mut seen = Vec::new();
        found.retain(|name| {
            let is_new = !seen.contains(name);
            seen.push(name.clone());
            is_new && name != channel && self.channels.contains_key(name) && is_well(name)
        });
        found
    }
}

/// What is stored, by tenant.
pub(crate) fn by_tenant(
    stored: Vec<(Tenant, StoredSetting)>,
) -> BTreeMap<Tenant, Vec<StoredSetting>> {
    let mut grouped: BTreeMap<Tenant, Vec<StoredSetting>> = BTreeMap::new();
    for (tenant, setting) in stored {
        grouped.entry(tenant).or_default().push(setting);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use logweir_incident::setting::{Setting, SettingKind};

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
        assert_eq!(settings.reminders.repeat_seconds, 600);
        assert_eq!(
            (settings.suppression.mute_times.len(), settings.suppression.inhibitions.len()),
            (1, 1)
        );
        let damaged = Settings::of(&[setting("{\"reminders\": 1}")], &[]);
        assert_eq!(damaged.reminders, Reminders::default());
        assert!(!damaged.rules.is_empty());
    }
}
