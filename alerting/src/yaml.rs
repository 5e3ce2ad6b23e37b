//! Rules from YAML files, and channels and the notification policy for whoever sends them to a
//! server.
//!
//! A file that is wrong anywhere is refused as a whole, with the line of every mistake that could
//! be told apart; the rules that ran before go on.

use std::collections::{BTreeMap, HashSet};

use logweir_incident::{
    channel::ChannelConfig,
    policy::Policy,
    rule::{RULES_MAX, Rule},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use serde_saphyr::Spanned;

/// Bytes of a file: ten thousand rules of a hundred bytes each.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct FileError {
    /// Which file.
    pub file: String,
    /// Its line, from 1; 0 if it is about the whole file.
    pub line: u64,
    /// What is wrong and what to do.
    pub message: String,
}

// A field that is misspelt must not be left out in silence: a rule would hold for more than was
// meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    rules: Vec<Spanned<Rule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelFile {
    channels: Vec<Spanned<ChannelConfig>>,
}

/// The items of a file of rules or channels, whatever is in them.
#[derive(Deserialize)]
struct ItemFile {
    #[serde(alias = "rules", alias = "channels")]
    items: Vec<Spanned<Value>>,
}

/// Reads the channels of one file. What is wrong with a channel itself shows where it is built.
pub fn parse_channels(file: &str, text: &str) -> Result<Vec<ChannelConfig>, Vec<FileError>> {
    let read: ChannelFile = read(file, text)
        .map_err(|first| mistakes_by_item::<ChannelConfig>(text, first, |_| Vec::new()))?;
    let mut names = HashSet::new();
    let mut errors = Vec::new();
    for channel in &read.channels {
        let name = channel.value.name.as_str();
        if !names.insert(name) {
            let line = channel.referenced.line();
            let message = format!("the name {name:?} is taken: use another");
            errors.push(FileError { file: file.to_owned(), line, message });
        }
    }
    if errors.is_empty() {
        Ok(read.channels.into_iter().map(|channel| channel.value).collect())
    } else {
        Err(errors)
    }
}

/// Reads a notification policy.
pub fn parse_policy(file: &str, text: &str) -> Result<Policy, Vec<FileError>> {
    let policy: Policy = read(file, text).map_err(|error| vec![error])?;
    let mistakes = policy.validate();
    if mistakes.is_empty() {
        return Ok(policy);
    }
    let error = |message| FileError { file: file.to_owned(), line: 0, message };
    Err(mistakes.into_iter().map(error).collect())
}

fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, FileError> {
    let error = |line, message| FileError { file: file.to_owned(), line, message };
    // Before it is parsed, which takes many times the memory of the text.
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has over {FILE_BYTES_MAX} bytes: split it");
        return Err(error(0, message));
    }
    serde_saphyr::from_str(text).map_err(|source| {
        let line = source.location().map_or(0, |location| location.line());
        error(line, first_line(&source.to_string()))
    })
}

/// Every mistake of a file that ends at the first one when it is read as a whole: its items are
/// read one by one, and those that can be read are checked.
fn mistakes_by_item<T: DeserializeOwned>(
    text: &str,
    first: FileError,
    check: impl Fn(&T) -> Vec<String>,
) -> Vec<FileError> {
    // Where not even its items can be told apart, the first mistake is all that is known.
    let Ok(ItemFile { items }) = serde_saphyr::from_str(text) else { return vec![first] };
    let mut errors = Vec::new();
    let mut is_first_told = false;
    for (at, item) in items.iter().enumerate() {
        let start = item.referenced.line();
        let end = items.get(at + 1).map_or(u64::MAX, |next| next.referenced.line());
        let error = |line, message| FileError { file: first.file.clone(), line, message };
        match item_as::<T>(&item.value) {
            Ok(value) => errors.extend(check(&value).into_iter().map(|text| error(start, text))),
            Err(message) => {
                is_first_told = true;
                // The first mistake's own line is known; of the others the item's.
                let is_first = (start..end).contains(&first.line);
                let line = if is_first { first.line } else { start };
                errors.push(error(line, named(&item.value, &message)));
            }
        }
    }
    if !is_first_told {
        errors.insert(0, first);
    }
    errors
}

/// An item as what it should be, or why it is not.
fn item_as<T: DeserializeOwned>(item: &Value) -> Result<T, String> {
    // By way of YAML again, which alone takes `name: 404` for the text that is meant.
    let text = serde_saphyr::to_string(item).map_err(|error| error.to_string())?;
    serde_saphyr::from_str(&text).map_err(|error| first_line(&error.to_string()))
}

/// A mistake with the name of what it is in: its line is only that of the beginning.
fn named(item: &Value, message: &str) -> String {
    match item.get("name").and_then(Value::as_str) {
        Some(name) => format!("{name:?}: {message}"),
        None => message.to_owned(),
    }
}

/// Reads the rules of one file.
pub fn parse(file: &str, text: &str) -> Result<Vec<Rule>, Vec<FileError>> {
    let error = |line, message| FileError { file: file.to_owned(), line, message };
    let read: RuleFile =
        read(file, text).map_err(|first| mistakes_by_item(text, first, Rule::validate))?;
    let mut names = HashSet::new();
    let mut errors = Vec::new();
    for rule in &read.rules {
        // Where the rule begins: its parts have lost their places once they are values.
        let line = rule.referenced.line();
        let mut found = rule.value.validate();
        if !names.insert(rule.value.name.as_str()) {
            found.push(format!("the name {:?} is taken: use another", rule.value.name));
        }
        errors.extend(found.into_iter().map(|message| error(line, message)));
    }
    if errors.is_empty() {
        Ok(read.rules.into_iter().map(|rule| rule.value).collect())
    } else {
        Err(errors)
    }
}

/// The first line of an error of the YAML reader, without the place in the text, which is told by
/// itself.
fn first_line(text: &str) -> String {
    // The lines after it draw the place in the file, which a terminal may show and a log may not.
    let line = text.lines().next().unwrap_or("not readable");
    let message = line.strip_prefix("error: ").unwrap_or(line);
    let is_place = message.starts_with("line ");
    let message =
        if is_place { message.split_once(": ").map_or(message, |(_, m)| m) } else { message };
    message.to_owned()
}

/// The rules of several files, of which each keeps those that were last good.
#[derive(Debug, Clone, Default)]
pub struct RuleFiles {
    /// By file.
    good: BTreeMap<String, Vec<Rule>>,
}

impl RuleFiles {
    /// Takes in a file as it is now. If it is wrong, its last good rules stay.
    pub fn put(&mut self, file: &str, text: &str) -> Result<(), Vec<FileError>> {
        let rules = parse(file, text)?;
        let error = |message| Err(vec![FileError { file: file.to_owned(), line: 0, message }]);
        // Names are unique over all files: an incident is known by its rule's name.
        // Not those of the file itself, which are about to be replaced.
        let others = || self.good.iter().filter(|(other, _)| *other != file);
        let names: HashSet<&str> =
            others().flat_map(|(_, rules)| rules).map(|rule| rule.name.as_str()).collect();
        if let Some(rule) = rules.iter().find(|rule| names.contains(rule.name.as_str())) {
            return error(format!(
                "the name {:?} is taken by another file: use another",
                rule.name
            ));
        }
        if names.len() + rules.len() > RULES_MAX {
            return error(format!("there are over {RULES_MAX} rules: leave some out"));
        }
        // Only now, when nothing can fail any more: the last good rules are replaced as a whole.
        self.good.insert(file.to_owned(), rules);
        Ok(())
    }

    /// Takes in all files that there are now, none as the text of one that cannot be read; returns
    /// what is wrong with them.
    pub fn update(&mut self, texts: &BTreeMap<String, Option<String>>) -> Vec<FileError> {
        // A file that is gone takes its rules along; one that is there but cannot be read does not.
        self.good.retain(|file, _| texts.contains_key(file));
        let mut wrong = Vec::new();
        // Twice, since a rule may have moved to a file that is looked at before the one that it was
        // in.
        for _ in 0..2 {
            let texts = texts.iter().filter_map(|(file, text)| Some((file, text.as_ref()?)));
            wrong = texts.filter_map(|(file, text)| self.put(file, text).err()).flatten().collect();
        }
        wrong
    }

    /// All rules, by file.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.good.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use logweir_incident::{
        policy::Reminders,
        rule::{RuleKind, Threshold},
    };

    use super::*;

    const GOOD: &str = "\
rules:
  - name: too many errors
    services: [\"pay*\"]
    severity: critical
    minimum_support: 50
    for_seconds: 20
    labels: {team: shop}
    channels: [on-call]
    measure:
      kind: error_rate
      window_seconds: 300
      threshold: {absolute: 0.05}
  - name: five times as slow
    measure: {kind: latency, window_seconds: 60, percentile: 0.95, threshold: {relative: 5}}
  - name: odd volume
    measure: {kind: volume, window_seconds: 60, direction: down, threshold: unusual}
";

    #[test]
    fn a_good_file_is_read() {
        let rules = parse("a.yaml", GOOD).unwrap();
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[0].labels["team"], "shop");
        assert_eq!(rules[0].keep_firing_seconds, 300);
        assert_eq!(
            rules[1].measure,
            RuleKind::Latency {
                window_seconds: 60,
                percentile: 0.95,
                threshold: Threshold::Relative(5.0),
            }
        );
    }

    fn check(text: &str, line: u64, part: &str) {
        let errors = parse("a.yaml", text).unwrap_err();
        assert_eq!(errors[0].line, line, "{errors:?}");
        assert!(errors[0].message.contains(part), "{errors:?}");
    }

    #[test]
    fn a_mistake_has_a_line() {
        check("rules:\n  - name: a\n", 2, "measure");
        check("rules:\n  - name: a\n    measure: [", 3, "");
        check(&GOOD.replace("severity: critical", "severity: huge"), 4, "huge");
        check(&GOOD.replace("percentile: 0.95", "percentile: 95"), 13, "0.95");
        check(&GOOD.replace("odd volume", "too many errors"), 15, "taken");
        // A value that is well-formed and wrong is told at the rule's own line.
        check(&GOOD.replace("window_seconds: 300", "window_seconds: 3"), 2, "window");
        let filter = "rules:\n\n  - name: f\n    measure: {kind: match_count, filter: \"level:(\", \
                      window_seconds: 60, threshold: {absolute: 1}}\n";
        check(filter, 3, "filter");
        for (measure, part) in [
            ("{kind: error_rate, window_seconds: 60, threshold: {absolute: 5}}", "5 %"),
            ("{kind: anomaly_count, window_seconds: 60, threshold: {relative: 3}}", "no normal"),
            ("{kind: new_pattern, level: error, hits: 0}", "hits"),
            (
                "{kind: burn_rate, objective: 0.999, factor: 2, long_window_seconds: 60, \
                 short_window_seconds: 60}",
                "long window",
            ),
        ] {
            check(&format!("rules:\n  - name: f\n    measure: {measure}\n"), 2, part);
        }
        check(&GOOD.replace("{team: shop}", "{service: shop}"), 2, "own");
        check(&GOOD.replace("[\"pay*\"]", "[\"\"]"), 2, "empty");
    }

    #[test]
    fn all_mistakes_of_a_file_are_told_each_with_its_line() {
        let text = "\
rules:
  - name: slow
    measure: {kind: latency, window_seconds: ten, percentile: 0.9, threshold: {absolute: 1}}
  - name: 404
    measure: {kind: error_count, window_seconds: 60, threshold: {absolute: 5}}
  - name: short
    measure: {kind: error_count, window_seconds: 2, threshold: {absolute: 5}}
  - name: misspelt
    severty: critical
    measure: {kind: error_count, window_seconds: 60, threshold: {absolute: 5}}
  - measure: {kind: no_such_kind}
";
        let told: Vec<(u64, String)> = parse("a.yaml", text)
            .unwrap_err()
            .into_iter()
            .map(|error| (error.line, error.message))
            .collect();
        let expected = [(3, "\"slow\""), (6, "2 s"), (8, "`severty`"), (11, "no_such_kind")];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for ((line, message), (line_expected, part)) in told.iter().zip(expected) {
            assert!(*line == line_expected && message.contains(part), "{told:?}");
        }
        // On one line too, and where what is wrong is in none of them.
        let json = r#"{"rules": [{"name": "a"}, {"name": "b", "measure": 3}]}"#;
        assert_eq!(parse("a.yaml", json).unwrap_err().len(), 2);
        let beside = GOOD.replace("rules:", "rule: 3\nrules:");
        assert_eq!(parse("a.yaml", &beside).unwrap_err().len(), 1);
        let channels = "channels:\n  - {name: a, kind: {pigeon: {}}}\n  - {kind: 3}\n";
        assert_eq!(parse_channels("c.yaml", channels).unwrap_err().len(), 2);
    }

    #[test]
    fn channels_are_read_and_their_mistakes_have_lines() {
        let good = "\
channels:
  - name: on-call
    is_default: true
    kind: {slack: {bot_token: xoxb-1, channel: \"#alerts\"}}
  - name: hook
    kind:
      webhook:
        url: https://hooks.example.com/x
";
        let channels = parse_channels("c.yaml", good).unwrap();
        assert_eq!(channels.len(), 2);
        assert!(channels[0].is_default && !channels[1].is_default);
        let line = |text: &str| parse_channels("c.yaml", text).unwrap_err()[0].line;
        assert_eq!(line(&good.replace("webhook:", "pigeon:")), 7);
        assert_eq!(line(&good.replace("name: hook", "name: on-call")), 5);
        assert_eq!(line(&good.replace("is_default", "is_defualt")), 3);
    }

    #[test]
    fn a_bad_file_leaves_the_last_good_rules() {
        let mut files = RuleFiles::default();
        files.put("a.yaml", GOOD).unwrap();
        files.put("a.yaml", "rules: 3").unwrap_err();
        assert_eq!(files.rules().count(), 3);
        files.put("b.yaml", GOOD).unwrap_err();
        assert_eq!(files.update(&BTreeMap::new()), []);
        assert_eq!(files.rules().count(), 0);
    }

    #[test]
    fn files_are_followed_as_they_are_renamed_split_and_out_of_reach() {
        let texts = |of: &[(&str, Option<&str>)]| {
            let owned = |(file, text): &(&str, Option<&str>)| {
                ((*file).to_owned(), text.map(ToOwned::to_owned))
            };
            of.iter().map(owned).collect::<BTreeMap<_, _>>()
        };
        let mut files = RuleFiles::default();
        assert_eq!(files.update(&texts(&[("b.yaml", Some(GOOD))])), []);
        assert_eq!(files.update(&texts(&[("c.yaml", Some(GOOD))])), []);
        assert_eq!(files.rules().count(), 3, "renamed");
        assert_eq!(files.update(&texts(&[("c.yaml", None)])), []);
        assert_eq!(files.rules().count(), 3, "not to be read at the moment");
        let (first, second) = GOOD.split_at(GOOD.find("  - name: odd").unwrap());
        let second = format!("rules:\n{second}");
        let split = [("a.yaml", Some(second.as_str())), ("c.yaml", Some(first))];
        assert_eq!(files.update(&texts(&split)), []);
        assert_eq!(files.rules().count(), 3, "split");
        let twice = [("a.yaml", Some(GOOD)), ("c.yaml", Some(GOOD))];
        assert!(files.update(&texts(&twice))[0].to_string().contains("taken"));
    }

    #[test]
    fn a_policy_is_read_and_its_mistakes_are_told() {
        let good = "\
reminders: {repeat_seconds: 3600}
mute_times:
  - {name: nights, matchers: {severity: warning}, weekdays: [saturday, sunday], from: '22:00', to: '07:30'}
inhibitions:
  - {source: {service: database}, target: {service: 'shop*'}, equal: [region]}
";
        let policy = parse_policy("policy.yaml", good).unwrap();
        assert_eq!(policy.reminders.repeat_seconds, 3_600);
        assert_eq!(policy.reminders.escalate_seconds, Reminders::default().escalate_seconds);
        let mute = &policy.mute_times[0];
        assert_eq!((mute.from_minute, mute.to_minute), (22 * 60, 7 * 60 + 30));
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);

        for (text, told) in [
            ("mute_times: [{name: a, from: '25:00', to: '01:00'}]", "\"25:00\" is no time of day"),
            ("mute_times: [{name: a, from: '1:00', to: '01:00'}]", "\"1:00\" is no time of day"),
            ("mute_times: [{name: '', from: '00:00', to: '01:00'}]", "needs a name"),
            ("inhibitions: [{source: {}, target: {a: b}}]", "would hide everything"),
            ("reminders: {repeat_seconds: 1}", "repeat_seconds is 1; use 60 to"),
            ("reminder: {}", "reminder"),
        ] {
            let told_of = parse_policy("policy.yaml", text).unwrap_err();
            assert!(told_of.iter().any(|of| of.to_string().contains(told)), "{text}: {told_of:?}");
        }
    }
}
