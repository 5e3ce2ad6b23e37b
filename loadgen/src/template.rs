//! Patterns of messages, and how a service's logs are made from them.

use logweir_proto::v1::{self, attribute::Value};

use crate::random::Random;

const SERVICES: [&str; 20] = [
    "payments",
    "checkout",
    "catalog",
    "search",
    "inventory",
    "shipping",
    "accounts",
    "sessions",
    "gateway",
    "pricing",
    "reviews",
    "mailer",
    "invoices",
    "recommender",
    "uploads",
    "scheduler",
    "ledger",
    "notifier",
    "fraud-check",
    "geocoder",
];
const ACTIONS: [&str; 24] = [
    "accepted",
    "applied",
    "archived",
    "assigned",
    "cached",
    "cancelled",
    "checked",
    "closed",
    "committed",
    "compared",
    "created",
    "decoded",
    "delivered",
    "discarded",
    "fetched",
    "forwarded",
    "merged",
    "opened",
    "parsed",
    "published",
    "received",
    "rendered",
    "replicated",
    "stored",
];
const OBJECTS: [&str; 24] = [
    "order",
    "payment",
    "basket",
    "parcel",
    "session",
    "profile",
    "invoice",
    "document",
    "picture",
    "coupon",
    "address",
    "message",
    "snapshot",
    "segment",
    "index page",
    "price list",
    "refund",
    "voucher",
    "stock entry",
    "route",
    "template",
    "subscription",
    "label",
    "report",
];
const OUTCOMES: [&str; 16] = [
    "as requested by the customer",
    "after a second look at the rules",
    "before the deadline of the caller",
    "without any change to the totals",
    "on behalf of a nightly job",
    "while the replica was catching up",
    "from the warm part of the cache",
    "through the secondary connection",
    "under the policy of the region",
    "for the partner that asked first",
    "behind a slow upstream",
    "in one round trip",
    "with all optional fields present",
    "within the limit of the plan",
    "following the usual route",
    "next to an older version of it",
];
const REGIONS: [&str; 4] = ["eu-central", "eu-west", "us-east", "ap-south"];
/// Levels by their share of a service's logs, in thousandths, at the usual share of errors.
const LEVELS: [(v1::Level, u64); 5] = [
    (v1::Level::Debug, 150),
    (v1::Level::Info, 760),
    (v1::Level::Warn, 70),
    (v1::Level::Error, 18),
    (v1::Level::Fatal, 2),
];
/// The usual share of errors, fatal ones included.
pub const ERROR_SHARE: f64 = 0.02;
/// Slots of the table that a template is picked from.
const SLOTS: usize = 8_192;

/// A service: its share of all logs and its patterns.
pub struct ServiceModel {
    /// Its name.
    pub name: String,
    /// Its weight among the services.
    pub share: f64,
    /// When it is busiest, UTC.
    pub busiest_hour: f64,
    templates: Vec<Template>,
    burst: Template,
    /// The commonest error, and the commonest pattern with a latency.
    main_error: usize,
    main_timed: usize,
    /// Template numbers, each as often as its weight asks for.
    slots: Vec<u16>,
}

impl ServiceModel {
    /// The service of a seed and number.
    pub fn new(seed: u64, number: usize, templates: usize, error_share: f64) -> Self {
        let stream = seed.wrapping_mul(0x9e37_79b9).wrapping_add(number as u64 + 1);
        let mut random = Random::new(stream);
        let round = number / SERVICES.len();
        let base = SERVICES[number % SERVICES.len()];
        // By number alone: faults name services before anything is generated.
        let name = if round == 0 { base.to_owned() } else { format!("{base}-{}", round + 1) };
        let count = templates.clamp(LEVELS.len(), SLOTS / 8);
        let combinations = ACTIONS.len() * OBJECTS.len() * OUTCOMES.len();
        let offset = random.below(combinations as u64) as usize;
        let templates: Vec<_> = (0..count)
            .map(|index| {
                // A step that shares no factor with the number of combinations repeats none.
                let combination = (offset + index * 5_003) % combinations;
                Template::new(&name, combination, level_of(index, count), &mut random)
            })
            .collect();
        let burst = Template::burst(&name);
        let slots = slots_of(&templates, error_share);
        let main_error = commonest(&slots, &templates, |t| t.level == v1::Level::Error);
        let main_timed =
            commonest(&slots, &templates, |t| t.latency.is_some() && t.level < v1::Level::Warn);
        // Services differ in size: the twentieth has a quarter of the logs of the first.
        let share = 1.0 / (1.0 + number as f64 * 0.15);
        Self {
            name,
            share,
            busiest_hour: 8.0 + random.share() * 10.0,
            templates,
            burst,
            main_error,
            main_timed,
            slots,
        }
    }

    /// Its patterns.
    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// A pattern, by its weight.
    pub fn pick(&self, random: &mut Random) -> Template {
        let slot = random.below(SLOTS as u64) as usize;
        self.templates[usize::from(self.slots[slot])].clone()
    }

    /// The pattern of its error bursts.
    pub fn burst_template(&self) -> Template {
        self.burst.clone()
    }

    /// Its commonest error.
    pub fn main_error(&self) -> Template {
        self.templates[self.main_error].clone()
    }

    /// The commonest of its harmless patterns that measure a latency.
    pub fn main_timed(&self) -> Template {
        self.templates[self.main_timed].clone()
    }

    /// One of the messages of its start.
    pub fn start_template(&self, random: &mut Random) -> Template {
        const PARTS: [&str; 6] = ["settings", "pool", "cache", "listener", "scheduler", "metrics"];
        const STEPS: [&str; 2] = ["is being set up", "is ready for work"];
        let part = PARTS[random.below(PARTS.len() as u64) as usize];
        Template::start(&self.name, part, STEPS[random.below(STEPS.len() as u64) as usize])
    }

    /// One of its usual errors.
    pub fn usual_error(&self, random: &mut Random) -> Template {
        let errors: Vec<_> =
            self.templates.iter().filter(|t| t.level == v1::Level::Error).collect();
        let chosen = random.below(errors.len().max(1) as u64) as usize;
        errors.get(chosen).map_or_else(|| self.burst_template(), |chosen| (*chosen).clone())
    }

    /// The pattern that its floods repeat: a usual and harmless one.
    pub fn flood_template(&self) -> Template {
        self.templates[self.templates.len() - 1].clone()
    }

    /// A pattern that occurs in one fault only.
    pub fn new_template(&self, fault: usize) -> Template {
        Template::unprecedented(&self.name, fault)
    }
}

/// Every level has templates, the frequent levels more of them.
fn level_of(index: usize, count: usize) -> v1::Level {
    // The first patterns have a level each, for a service of five has no twentieths to give away.
    match (index * 20 / count, index) {
        (_, 0) => v1::Level::Fatal,
        (_, 1) | (1, _) => v1::Level::Error,
        (_, 2) | (2..=4, _) => v1::Level::Warn,
        (_, 3) | (5..=8, _) => v1::Level::Debug,
        _ => v1::Level::Info,
    }
}

/// Within a level, weights fall like 1/rank, as the patterns of real services do.
fn slots_of(templates: &[Template], error_share: f64) -> Vec<u16> {
    let mut slots = Vec::with_capacity(SLOTS);
    let others = (1.0 - error_share) / (1.0 - ERROR_SHARE);
    for (level, thousandths) in LEVELS {
        let is_error = level >= v1::Level::Error;
        let thousandths =
            thousandths as f64 * if is_error { error_share / ERROR_SHARE } else { others };
        let numbers: Vec<_> =
            (0..templates.len()).filter(|number| templates[*number].level == level).collect();
        let total: f64 = (1..=numbers.len()).map(|rank| 1.0 / rank as f64).sum();
        for (rank, number) in numbers.iter().enumerate() {
            let weight = thousandths / 1_000.0 / (rank + 1) as f64 / total;
            let count = (weight * SLOTS as f64).round().max(1.0) as usize;
            slots.extend(std::iter::repeat_n(u16::try_from(*number).unwrap_or(0), count));
        }
    }
    let fill = slots.last().copied().unwrap_or(0);
    // Rounding leaves the table a little short or long; what is left goes to the commonest level.
    let common = slots.get(SLOTS / 2).copied().unwrap_or(fill);
    slots.resize(SLOTS, common);
    slots
}

/// The template that is meant and fills most slots.
fn commonest(slots: &[u16], templates: &[Template], is_meant: fn(&Template) -> bool) -> usize {
    let mut counts = vec![0; templates.len()];
    slots.iter().for_each(|slot| counts[usize::from(*slot)] += 1);
    let meant = (0..templates.len()).rev().filter(|number| is_meant(&templates[*number]));
    meant.max_by_key(|number| counts[*number]).unwrap_or(0)
}

/// A pattern of messages: words with parameters between them.
#[derive(Debug, Clone)]
pub struct Template {
    level: v1::Level,
    words: std::sync::Arc<[String; 4]>,
    parameters: [Parameter; 3],
    /// Median and spread of its latency in milliseconds, if it measures one.
    latency: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy)]
enum Parameter {
    Number,
    Hex,
    Address,
    Path,
    Milliseconds,
}

const PARAMETERS: [Parameter; 5] = [
    Parameter::Number,
    Parameter::Hex,
    Parameter::Address,
    Parameter::Path,
    Parameter::Milliseconds,
];

impl Template {
    fn new(service: &str, combination: usize, level: v1::Level, random: &mut Random) -> Self {
        let action = ACTIONS[combination % ACTIONS.len()];
        let object = OBJECTS[combination / ACTIONS.len() % OBJECTS.len()];
        let outcome = OUTCOMES[combination / ACTIONS.len() / OBJECTS.len() % OUTCOMES.len()];
        let start = match level {
            v1::Level::Error | v1::Level::Fatal => {
                format!("{object} could not be {action}: entry ")
            }
            v1::Level::Warn => format!("{object} was {action} late, entry "),
            _ => format!("{object} {action}, entry "),
        };
        let latency = random.share() < 0.6;
        // Log-normal: 20 ms in the middle, two patterns in three from 6 to 67 ms.
        let median = (random.normal() * 1.2 + 3.0).exp();
        Self {
            level,
            words: [
                start,
                format!(" of {service} at "),
                " with ".to_owned(),
                format!(" {outcome}"),
            ]
            .into(),
            parameters: std::array::from_fn(|position| match position {
                0 => Parameter::Number,
                _ => PARAMETERS[random.below(PARAMETERS.len() as u64) as usize],
            }),
            latency: latency.then_some((median, 0.3 + random.share() * 0.5)),
        }
    }

    fn burst(service: &str) -> Self {
        let words = [
            "upstream refused the connection for entry ".to_owned(),
            format!(" of {service} at "),
            " after ".to_owned(),
            " and no retry is left".to_owned(),
        ];
        let parameters = [Parameter::Number, Parameter::Address, Parameter::Milliseconds];
        Self { level: v1::Level::Error, words: words.into(), parameters, latency: None }
    }

    fn unprecedented(service: &str, fault: usize) -> Self {
        const KINDS: [&str; 4] = ["checksum", "ordering", "certificate", "quota"];
        let kind = KINDS[fault % KINDS.len()];
        let words = [
            format!("unprecedented {kind} mismatch in entry "),
            format!(" of {service} read from "),
            " under ".to_owned(),
            " which no code path should allow".to_owned(),
        ];
        let parameters = [Parameter::Number, Parameter::Path, Parameter::Hex];
        Self { level: v1::Level::Warn, words: words.into(), parameters, latency: None }
    }

    fn start(service: &str, part: &str, step: &str) -> Self {
        let words = [
            format!("{part} of {service} {step}, generation "),
            " from ".to_owned(),
            " in ".to_owned(),
            " as configured".to_owned(),
        ];
        let parameters = [Parameter::Number, Parameter::Path, Parameter::Milliseconds];
        Self { level: v1::Level::Info, words: words.into(), parameters, latency: None }
    }

    /// Whether both stand for the same messages.
    pub fn is(&self, other: &Self) -> bool {
        self.words == other.words
    }

    /// The words with `<*>` for each parameter.
    pub fn pattern(&self) -> String {
        self.words.join("<*>")
    }

    /// One log of this pattern, unique by its serial. Its time is not set.
    pub fn record(&self, random: &mut Random, serial: u64, latency_factor: f64) -> v1::LogRecord {
        // In whole microseconds, as clocks are read.
        let latency_ms = self.latency.map(|(median, spread)| {
            let exact_ms = median * (spread * random.normal()).exp() * latency_factor;
            (exact_ms * 1e3).round() / 1e3
        });
        let mut message = String::with_capacity(160);
        for (position, parameter) in self.parameters.into_iter().enumerate() {
            message.push_str(&self.words[position]);
            // No two messages are the same, and no cache or index may profit from repetition.
            let value = if position == 0 { serial } else { random.bits() };
            parameter.write(value, latency_ms, &mut message);
        }
        message.push_str(&self.words[3]);
        v1::LogRecord {
            level: self.level.into(),
            message,
            latency_ms,
            attributes: attributes(random.bits(), serial),
            ..Default::default()
        }
    }
}

fn attributes(bits: u64, serial: u64) -> Vec<v1::Attribute> {
    let mut request = String::with_capacity(16);
    push_hex(bits ^ serial, &mut request);
    let region = REGIONS[(bits >> 40) as usize % REGIONS.len()];
    let user = i64::try_from(bits & 0xf_ffff).unwrap_or(0);
    let attribute = |key: &str, value| v1::Attribute { key: key.to_owned(), value: Some(value) };
    vec![
        attribute("request_id", Value::StringValue(request)),
        attribute("user_id", Value::IntValue(user)),
        attribute("region", Value::StringValue(region.to_owned())),
    ]
}

impl Parameter {
    fn write(self, value: u64, latency_ms: Option<f64>, into: &mut String) {
        match self {
            Self::Number => push_number(value % 1_000_000_000_000, into),
            Self::Hex => push_hex(value, into),
            Self::Address => {
                into.push_str("10.");
                push_number(value >> 8 & 255, into);
                into.push('.');
                push_number(value >> 16 & 255, into);
                into.push('.');
                push_number(value >> 24 & 255, into);
                into.push(':');
                push_number(1_024 + (value >> 32 & 0x7fff), into);
            }
            Self::Path => {
                into.push_str("/data/");
                push_number(value & 63, into);
                into.push_str("/part-");
                push_number(value >> 8 & 0xf_ffff, into);
            }
            Self::Milliseconds => {
                // A message says the same latency as the field: what reads one can be held against
                // the other.
                let fallback = (value % 900) as f64;
                push_number(latency_ms.unwrap_or(fallback) as u64, into);
                into.push_str(" ms");
            }
        }
    }
}

/// Lengthens the first parameter by a dump in hexadecimal digits.
pub fn insert_dump(message: &mut String, random: &mut Random) {
    const DUMP_BYTES: usize = 2_000;
    let mut dump = String::with_capacity(DUMP_BYTES);
    (0..DUMP_BYTES / 16).for_each(|_| push_hex(random.bits(), &mut dump));
    // Behind the first parameter, which is followed by " of SERVICE": a longer number and no new
    // word, so that the pattern stays the same and only the length is odd.
    let at = message.find(" of ").unwrap_or(message.len());
    message.insert_str(at, &dump);
}

/// Has a log come from a region that does not exist.
pub fn set_odd_region(attributes: &mut [v1::Attribute]) {
    for attribute in attributes.iter_mut().filter(|attribute| attribute.key == "region") {
        attribute.value = Some(Value::StringValue("nowhere".to_owned()));
    }
}

fn push_number(mut number: u64, into: &mut String) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    into.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

fn push_hex(bits: u64, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    into.extend((0..16).rev().map(|place| char::from(DIGITS[(bits >> (place * 4)) as usize & 15])));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_read() {
        let mut text = String::new();
        push_number(0, &mut text);
        push_number(120_345, &mut text);
        push_hex(0xdead_beef, &mut text);
        assert_eq!(text, "012034500000000deadbeef");
    }

    #[test]
    fn every_level_has_its_share() {
        let model = ServiceModel::new(1, 0, 60, ERROR_SHARE);
        let mut random = Random::new(1);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..100_000 {
            *counts.entry(model.pick(&mut random).level as i32).or_insert(0) += 1;
        }
        for (level, thousandths) in LEVELS {
            let share = f64::from(counts[&(level as i32)]) / 100.0;
            let expected = thousandths as f64;
            assert!((share - expected).abs() < 15.0 + expected * 0.05, "{level:?} {share}");
        }
    }
}
