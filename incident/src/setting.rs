//! What a tenant sets, as it is stored: one value for each kind and name.

use serde_json::Error;

use crate::{channel::ChannelConfig, policy::Policy, rule::Rule, suppression::Silence};

/// The kinds of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SettingKind {
    /// A way to people.
    Channel,
    /// The notification policy, of which a tenant has one.
    Policy,
    /// What is watched.
    Rule,
    /// What nobody wants to know for a while.
    Silence,
}

impl SettingKind {
    /// Every kind, by name.
    pub const ALL: [Self; 4] = [Self::Channel, Self::Policy, Self::Rule, Self::Silence];

    /// Its stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Policy => "policy",
            Self::Rule => "rule",
            Self::Silence => "silence",
        }
    }

    /// The kind of a name; none if this version has none of it.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Something that a tenant sets.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// A way to people, with its secrets.
    Channel(ChannelConfig),
    /// The notification policy.
    Policy(Policy),
    /// What is watched.
    Rule(Rule),
    /// What nobody wants to know for a while.
    Silence(Silence),
}

impl Setting {
    /// Its kind.
    pub const fn kind(&self) -> SettingKind {
        match self {
            Self::Channel(_) => SettingKind::Channel,
            Self::Policy(_) => SettingKind::Policy,
            Self::Rule(_) => SettingKind::Rule,
            Self::Silence(_) => SettingKind::Silence,
        }
    }

    /// Its name, unique among those of its kind.
    pub fn name(&self) -> &str {
        match self {
            Self::Channel(channel) => &channel.name,
            // A tenant has one: its name only has to be always the same.
            Self::Policy(_) => SettingKind::Policy.as_str(),
            Self::Rule(rule) => &rule.name,
            // Nobody names a silence; several may cover the same.
            Self::Silence(silence) => &silence.id,
        }
    }

    /// As it is stored. It has the secrets of a channel in it.
    pub fn to_json(&self) -> String {
        let json = match self {
            Self::Channel(channel) => serde_json::to_string(channel),
            Self::Policy(policy) => serde_json::to_string(policy),
            Self::Rule(rule) => serde_json::to_string(rule),
            Self::Silence(silence) => serde_json::to_string(silence),
        };
        // What `serde_json` cannot write are maps with keys that are no text, and none of these has
        // one.
        json.expect("plain data is JSON")
    }

    /// Reads what was stored.
    pub fn from_json(kind: SettingKind, json: &str) -> Result<Self, Error> {
        // The kind is not in the text: it has a column of its own.
        Ok(match kind {
            SettingKind::Channel => Self::Channel(serde_json::from_str(json)?),
            SettingKind::Policy => Self::Policy(serde_json::from_str(json)?),
            SettingKind::Rule => Self::Rule(serde_json::from_str(json)?),
            SettingKind::Silence => Self::Silence(serde_json::from_str(json)?),
        })
    }
}

/// A setting that was stored. One that this version does not understand stays stored, keeps its
/// name and takes up its room.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSetting {
    /// Its kind.
    pub kind: SettingKind,
    /// Its name.
    pub name: String,
    /// None if this version does not understand it.
    pub setting: Option<Setting>,
}

impl StoredSetting {
    /// The channel, if it is one that is understood.
    pub const fn channel(&self) -> Option<&ChannelConfig> {
        match &self.setting {
            Some(Setting::Channel(channel)) => Some(channel),
            _ => None,
        }
    }

    /// The policy, if it is one that is understood.
    pub const fn policy(&self) -> Option<&Policy> {
        match &self.setting {
            Some(Setting::Policy(policy)) => Some(policy),
            _ => None,
        }
    }

    /// The rule, if it is one that is understood.
    pub const fn rule(&self) -> Option<&Rule> {
        match &self.setting {
            Some(Setting::Rule(rule)) => Some(rule),
            _ => None,
        }
    }

    /// The silence, if it is one that is understood.
    pub const fn silence(&self) -> Option<&Silence> {
        match &self.setting {
            Some(Setting::Silence(silence)) => Some(silence),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use logweir_core::timestamp::Timestamp;

    use super::*;
    use crate::built_in;

    #[test]
    fn a_setting_is_the_same_after_json() {
        let silence = Silence {
            id: "4f1c".to_owned(),
            matchers: [("service".to_owned(), "pay*".to_owned())].into(),
            from: Timestamp::EPOCH,
            to: Timestamp::MAX,
            author: "anna".to_owned(),
            comment: String::new(),
            hides_critical: false,
        };
        let json = Setting::Silence(silence.clone()).to_json();
        let moments = r#""from_unix_nano":0,"to_unix_nano":9223372036854775807"#;
        assert!(json.contains(moments), "{json}");
        let rules = built_in::rules().into_iter().map(Setting::Rule);
        let others = [Setting::Silence(silence), Setting::Policy(Policy::default())];
        for setting in rules.chain(others) {
            let kind = SettingKind::of(setting.kind().as_str()).unwrap();
            assert_eq!(Setting::from_json(kind, &setting.to_json()).unwrap(), setting);
        }
        assert!(Setting::from_json(SettingKind::Policy, "{\"reminders\": 1}").is_err());
        assert_eq!(SettingKind::of("pigeon"), None);
    }
}
