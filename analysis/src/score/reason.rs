//! Why a log was called an anomaly, in a person's words: what is unusual, and what is usual.

use logweir_core::record::{Level, Value};

use super::{
    baseline::{LENGTHS_MIN, Log, PatternBaseline, ScoreParts, ServiceBaseline},
    evidence::Cause,
    features::{FEATURE_COUNT, FEATURE_NAMES, Features},
};

const TEXT_CHARS_MAX: usize = 160;
const VALUE_CHARS_MAX: usize = 60;

/// A reason for every test that alarms on its own; the strongest one if none does.
pub(super) fn reasons(
    baseline: &ServiceBaseline,
    pattern: &PatternBaseline,
    log: &Log<'_>,
    found: &ScoreParts,
) -> Vec<String> {
    let alarms = |cause: &Cause| found.evidence.tail(*cause) <= baseline.bound(*cause);
    let context = Context { baseline, pattern, log, found };
    let mut causes: Vec<Cause> = Cause::ALL.into_iter().filter(alarms).collect();
    if causes.is_empty() {
        causes.push(found.evidence.leading());
    }
    let is_explained_by = |cause: Cause, better: Cause| cause == better && causes.contains(&better);
    let has_slowdown = causes.iter().any(|&cause| is_explained_by(cause, Cause::Slowdown));
    let has_novelty = causes.iter().any(|&cause| is_explained_by(cause, Cause::Novelty));
    causes
        .into_iter()
        .filter(|&cause| !(has_slowdown && cause == Cause::Latency))
        .filter(|&cause| !(has_novelty && cause == Cause::Burst))
        .filter_map(|cause| context.reason(cause))
        .chain((log.feedback > 0.0).then(|| "marked as an anomaly before".to_owned()))
        .collect()
}

struct Context<'a> {
    baseline: &'a ServiceBaseline,
    pattern: &'a PatternBaseline,
    log: &'a Log<'a>,
    found: &'a ScoreParts,
}

impl Context<'_> {
    fn reason(&self, cause: Cause) -> Option<String> {
        match cause {
            Cause::Novelty => Some(self.novelty()),
            Cause::Rarity => {
                let (count, seen) = (counted(self.pattern.count), grouped(self.baseline.seen));
                let idle = self.age(self.pattern.last_unix_nano);
                Some(format!("rare pattern: seen {count} in {seen} logs, last {idle} ago"))
            }
            Cause::Burst => Some(self.burst()),
            Cause::Level => Some(self.level()),
            Cause::Latency => self.latency(),
            Cause::Slowdown => self.slowdown(),
            Cause::Length => {
                let length = grouped(self.log.record.message.len() as u64);
                let longest = grouped(self.found.longest?.into());
                let (service, count) = (self.log.service, self.pattern.lengths.count());
                let whose = if count >= LENGTHS_MIN { "this pattern" } else { service.as_str() };
                Some(format!("message of {length} bytes; the longest of {whose} so far: {longest}"))
            }
            Cause::Value => self.value(),
            Cause::Forest => self.found.features.map(|features| self.combination(&features)),
        }
    }

    /// How long ago a moment was when the log was written.
    fn age(&self, unix_nano: i64) -> String {
        duration(self.log.record.time_unix_nano.saturating_sub(unix_nano))
    }

    fn novelty(&self) -> String {
        let level = self.log.level;
        let level = if level >= Level::Warn { format!("{level} ") } else { String::new() };
        let (service, pattern) = (self.log.service, shortened(self.log.pattern, TEXT_CHARS_MAX));
        if self.pattern.count == 0 {
            return format!("new {level}pattern, seen for the first time in {service}: {pattern}");
        }
        let (age, count) = (self.age(self.pattern.born_unix_nano), counted(self.pattern.count));
        format!("new {level}pattern in {service}: first seen {age} ago, {count} since: {pattern}")
    }

    fn burst(&self) -> String {
        let ServiceBaseline { window, total, .. } = self.baseline;
        let usual = self.pattern.weight / total.max(1.0);
        let (recent, most) =
            (self.pattern.recent.recent(), self.pattern.recent.usual_most(0.0, 0.0));
        let recent = share(f64::from(recent) / window);
        let usual = share(usual.max(f64::from(most as f32) / window));
        let service = self.log.service;
        format!("burst: this pattern is {recent} of the last logs of {service}; usual is {usual}")
    }

    fn level(&self) -> String {
        let pattern = &self.baseline.levels[self.log.level as usize - 1];
        let recent = share(f64::from(pattern.recent.recent()) / self.baseline.window);
        let usual = share(pattern.weight / self.baseline.levels_total.max(1.0));
        let (level, service) = (self.log.level, self.log.service);
        format!("{level} is the level of {recent} of the last logs of {service}; usual is {usual}")
    }

    fn latency(&self) -> Option<String> {
        let latency = milliseconds(self.log.record.latency_ms?);
        let p99 = milliseconds(self.pattern.latency_baseline.as_ref()?.percentile(0.99));
        Some(format!("latency {latency}; this pattern's p99 is {p99}"))
    }

    fn slowdown(&self) -> Option<String> {
        let latency = milliseconds(self.log.record.latency_ms?);
        let median = milliseconds(self.pattern.latency_baseline.as_ref()?.percentile(0.5));
        let age = self.age(self.found.latency?.slow_since_unix_nano);
        let service = self.log.service;
        Some(format!(
            "latency {latency} in a slow phase of {service} ({age} so far); this pattern's median is {median}"
        ))
    }

    fn value(&self) -> Option<String> {
        let value = self.found.value?;
        let attribute = self.log.record.attributes.get(value.attribute)?;
        let key = shortened(&attribute.key, VALUE_CHARS_MAX);
        let text = match &attribute.value {
            Value::String(text) => format!("{:?}", shortened(text, VALUE_CHARS_MAX)),
            other => shortened(&other.to_string(), VALUE_CHARS_MAX),
        };
        let service = self.log.service;
        if value.is_first {
            return Some(format!("{key} is {text}, for the first time in {service}"));
        }
        let age = self.age(value.since_unix_nano);
        Some(format!("{key} is {text}, in {service} for the first time {age} ago"))
    }

    /// Names the features that lie outermost.
    fn combination(&self, features: &Features) -> String {
        let Some(statistics) = self.baseline.forest_statistics() else {
            return "unusual combination of numbers".to_owned();
        };
        let distance = |feature: usize| {
            statistics.features.get(feature).map_or(0.0, |summary| {
                let (low, high) = (summary.quantiles[1], summary.quantiles[9]);
                let middle = f32::midpoint(low, high);
                (features[feature] - middle).abs() / (high - low).max(1e-3)
            })
        };
        let mut order: Vec<usize> = (0..FEATURE_COUNT).collect();
        order.sort_by(|a, b| distance(*b).total_cmp(&distance(*a)));
        let names = [FEATURE_NAMES[order[0]], FEATURE_NAMES[order[1]]];
        format!("unusual combination, above all {} and {}", names[0], names[1])
    }
}

fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn share(share: f64) -> String {
    let percent = (share * 100.0).min(100.0);
    if percent >= 9.95 {
        format!("{percent:.0} %")
    } else if percent >= 0.095 {
        format!("{percent:.1} %")
    } else {
        "under 0.1 %".to_owned()
    }
}

fn duration(nanos: i64) -> String {
    let seconds = (nanos / 1_000_000_000).max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn milliseconds(latency_ms: f64) -> String {
    if latency_ms >= 100.0 { format!("{latency_ms:.0} ms") } else { format!("{latency_ms:.2} ms") }
}

fn counted(count: u64) -> String {
    if count == 1 { "1 time".to_owned() } else { format!("{} times", grouped(count)) }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_like_a_person_writes_them() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (120_000, "120,000")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(milliseconds(1_320.2), "1320 ms");
        assert_eq!(milliseconds(1.234), "1.23 ms");
        for (part, text) in [(0.5, "50 %"), (0.0123, "1.2 %"), (0.0001, "under 0.1 %")] {
            assert_eq!(share(part), text);
        }
        for (seconds, text) in [(5, "5 s"), (300, "5 min"), (7_200, "2 h")] {
            assert_eq!(duration(seconds * 1_000_000_000), text);
        }
        assert_eq!(shortened("größer", 3), "grö…");
    }
}
