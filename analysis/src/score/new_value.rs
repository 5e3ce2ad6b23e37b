//! Parameters of few values: a value that was never there before.
//!
//! Of every attribute of a service the values are counted, as hashes, while there are few. An
//! attribute with more than [`VALUES_MAX`] values is open (an id, a number) and says nothing. The
//! chance of a new value is Good and Turing's: the share of values seen once. Attributes that say
//! where or in which version a service runs are no parameters of a log.
//!
//! Bounded: [`KEYS_MAX`] attributes of a service, [`VALUES_MAX`] values each.

use logweir_core::record::{Attribute, Value};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Attributes of a service that are followed; of those that come later nothing is known.
const KEYS_MAX: usize = 32;
/// Values of an attribute; one with more is open, such as an id.
const VALUES_MAX: usize = 24;
/// Values seen before a new one means anything.
const LEARNING: u32 = 500;
/// Names of attributes that start with these describe the sender, or vary by nature.
const NO_PARAMETERS: [&str; 10] = [
    "service.",
    "deploy.",
    "host",
    "k8s.",
    "container.",
    "process.",
    "telemetry.",
    "exception.",
    "cloud.",
    "os.",
];

/// The values of a service's attributes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values(Vec<Key>);

#[derive(Debug, Clone)]
struct Key {
    hash: u64,
    seen: u32,
    is_open: bool,
    values: Vec<Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    hash: u64,
    count: u32,
    /// How unusual it was when it came up.
    tail: f32,
    /// How unusual it is by now.
    tail_now: f32,
    since_unix_nano: i64,
    /// The key's number of values when it came up.
    since_seen: u32,
}

/// A value that is new, or was until recently.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewValue {
    /// Which of the log's attributes.
    pub(crate) attribute: usize,
    /// The chance of it, and of it coming up again as it did.
    pub(crate) tail: f64,
    /// The same before this log; 1 if this is the first.
    pub(crate) earlier_tail: f64,
    /// Whether this is its first log.
    pub(crate) is_first: bool,
    /// The event time of its first log.
    pub(crate) since_unix_nano: i64,
    key: usize,
    hash: u64,
}

impl Values {
    /// Finds the most unusual new value among a log's attributes, and learns them all.
    pub(crate) fn observe(
        &mut self,
        attributes: &[Attribute],
        time_unix_nano: i64,
        new_nanos: i64,
    ) -> Option<NewValue> {
        let mut found: Option<NewValue> = None;
        for (number, attribute) in attributes.iter().enumerate() {
            let Some(at) = self.key(&attribute.key, number) else { continue };
            let key = &mut self.0[at];
            if key.is_open {
                continue;
            }
            let hash = hash(&attribute.value);
            let Some((known, earlier)) = key.observe(hash, time_unix_nano, new_nanos) else {
                continue;
            };
            let tail = f64::from(known.tail_now);
            if found.is_none_or(|found| tail < found.tail) {
                let (since_unix_nano, is_first) = (known.since_unix_nano, earlier.is_none());
                let earlier_tail = earlier.map_or(1.0, f64::from);
                let (attribute, key) = (number, at);
                found = Some(NewValue {
                    attribute,
                    tail,
                    earlier_tail,
                    is_first,
                    since_unix_nano,
                    key,
                    hash,
                });
            }
        }
        found
    }

    /// A value is no longer new.
    pub(crate) fn accept(&mut self, value: &NewValue) {
        let known = self.0.get_mut(value.key).and_then(|key| key.find(value.hash));
        if let Some(known) = known {
            known.tail = 1.0;
        }
    }

    /// A sender writes its attributes in one order, so that the place mostly tells the key.
    fn key(&mut self, name: &str, hint: usize) -> Option<usize> {
        let hash = xxh3_64(name.as_bytes());
        if self.0.get(hint).is_some_and(|key| key.hash == hash) {
            return Some(hint);
        }
        match self.0.iter().position(|key| key.hash == hash) {
            Some(at) => Some(at),
            // The keys come from the sender too: one that makes up names must not take the memory.
            None if self.0.len() < KEYS_MAX => {
                let is_open = NO_PARAMETERS.iter().any(|start| name.starts_with(start));
                self.0.push(Key { hash, seen: 0, is_open, values: Vec::new() });
                Some(self.0.len() - 1)
            }
            None => None,
        }
    }
}

impl Key {
    /// The value, if it is new or was until recently, and how unusual it was before this log.
    fn observe(&mut self, hash: u64, time: i64, new_nanos: i64) -> Option<(Known, Option<f32>)> {
        self.seen = self.seen.saturating_add(1);
        let seen = self.seen;
        if let Some(known) = self.find(hash) {
            let (earlier, before) = (known.tail_now, known.since_seen);
            let age = time.saturating_sub(known.since_unix_nano);
            let is_new = known.tail < 1.0 && age < new_nanos;
            if is_new {
                let (times, since) = (known.count.into(), seen.saturating_sub(before).into());
                let tail = coming_again(known.tail.into(), times, since, before.into());
                known.tail_now = tail as f32;
            }
            known.count = known.count.saturating_add(1);
            return is_new.then_some((*known, Some(earlier)));
        }
        if self.values.len() == VALUES_MAX {
            // For good: an attribute that could become one of few values again would alarm at every
            // id that follows a quiet hour.
            self.is_open = true;
            self.values = Vec::new();
            return None;
        }
        let tail = self.tail() as f32;
        let (tail_now, since_unix_nano, since_seen) = (tail, time, seen);
        let known = Known { hash, count: 1, tail, tail_now, since_unix_nano, since_seen };
        self.values.push(known);
        (known.tail < 1.0).then_some((known, None))
    }

    fn find(&mut self, hash: u64) -> Option<&mut Known> {
        self.values.iter_mut().find(|known| known.hash == hash)
    }

    fn tail(&self) -> f64 {
        if self.seen < LEARNING {
            return 1.0;
        }
        // One more than there are, as the new value would be one: a share of 0 would make every new
        // value impossible.
        let singles = self.values.iter().filter(|known| known.count == 1).count();
        (singles + 1) as f64 / f64::from(self.seen)
    }
}

/// The tail of something new that has come again: so many times in the logs `since`, where there
/// was none of it in the logs `before`. Whatever its share may be, that chance is about `(since /
/// (since + before))^times` (Laplace's rule of succession). Where new things are common, they are
/// common in company, and coming again says nothing.
fn coming_again(tail: f64, times: u64, since: u64, before: u64) -> f64 {
    const COMMON: f64 = 0.01;
    const TIMES_MAX: u64 = 64;
    if tail > COMMON {
        return tail;
    }
    let chance = since as f64 / (since + before).max(1) as f64;
    tail * chance.powi(times.min(TIMES_MAX) as i32)
}

fn hash(value: &Value) -> u64 {
    match value {
        Value::String(text) | Value::Json(text) => xxh3_64(text.as_bytes()),
        // Seeds keep the types apart: the number 1 and the text of the same bytes are two values.
        Value::Int(number) => xxh3_64_with_seed(&number.to_le_bytes(), 1),
        Value::Double(number) => xxh3_64_with_seed(&number.to_bits().to_le_bytes(), 2),
        Value::Bool(truth) => 3 + u64::from(*truth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(n: u64, region: &str) -> Vec<Attribute> {
        let text = |text: &str| Value::String(text.to_owned());
        vec![
            Attribute::new("request", text(&n.to_string())),
            Attribute::new("region", text(region)),
            Attribute::new("host", text(if n < 900 { "a" } else { "b" })),
        ]
    }

    #[test]
    fn a_new_value_of_a_closed_attribute_is_unusual_until_it_is_known() {
        let mut values = Values::default();
        for n in 0..1_000 {
            let region = ["north", "south"][n as usize % 2];
            assert!(values.observe(&attributes(n, region), 0, 10).is_none());
        }
        let new = values.observe(&attributes(1_000, "moon"), 1, 10).unwrap();
        assert!(new.attribute == 1 && new.is_first && new.tail < 0.002);
        let again = values.observe(&attributes(1_001, "moon"), 9, 10).unwrap();
        assert!(!again.is_first && again.tail < 1e-5 && again.earlier_tail == new.tail);
        assert!(values.observe(&attributes(1_002, "moon"), 11, 10).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let mut values = Values::default();
        for n in 0..10_000_u64 {
            let attribute = Attribute::new(format!("key {}", n % 100), Value::Int(n as i64));
            assert!(values.observe(&[attribute], 0, 10).is_none());
        }
        assert_eq!(values.0.len(), KEYS_MAX);
        assert!(values.0.iter().all(|key| key.values.len() <= VALUES_MAX));
    }
}
