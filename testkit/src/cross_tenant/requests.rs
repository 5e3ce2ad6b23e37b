//! Messages for any rpc, from its descriptor: each field tried with each value that fits it, alone
//! and within a message that is right otherwise; then mixtures and extremes by chance.

use std::collections::HashMap;

use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

use super::values::Values;

/// How deep fields are looked for; no message of the contract is deeper but `Batch`.
const DEPTH_MAX: usize = 5;
/// Values of one name that are tried in one field, one after the other.
const TRIED_MAX: usize = 12;
const LONG_TEXT_BYTES: usize = 70_000;

/// Whose values go into messages.
pub(super) struct Sources<'a> {
    /// The other tenant's, all of which may be sent.
    pub(super) theirs: &'a Values,
    /// The caller's own.
    pub(super) own: &'a Values,
}

type Path = Vec<FieldDescriptor>;

/// Every field with every value that fits it, within every one of these messages.
pub(super) fn one_by_one(
    descriptor: &MessageDescriptor,
    values: &Values,
    within: &[DynamicMessage],
) -> Vec<DynamicMessage> {
    let mut made = Vec::new();
    for path in paths(descriptor, DEPTH_MAX) {
        let Some(field) = path.last() else { continue };
        let mut tried = values.fitting(field);
        tried.truncate(TRIED_MAX);
        if tried.is_empty() {
            tried = values.of_kind(&field.kind());
        }
        tried.extend(extremes(&field.kind()));
        for base in within {
            made.extend(tried.iter().map(|value| with(base.clone(), &path, value.clone())));
        }
    }
    made
}

/// Every field set at once, messages aside: of the values that fit one, that whose turn it is, from
/// the last seen on.
pub(super) fn whole(
    descriptor: &MessageDescriptor,
    values: &Values,
    turn: usize,
) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields().filter(|field| !matches!(field.kind(), Kind::Message(_))) {
        let fitting = values.fitting(&field);
        if let Some(value) = fitting.iter().rev().nth(turn % fitting.len().max(1)) {
            drop(message.try_set_field(&field, shaped(&field, value.clone())));
        }
    }
    message
}

/// The way to every field that holds no message.
fn paths(descriptor: &MessageDescriptor, depth: usize) -> Vec<Path> {
    let mut found = Vec::new();
    for field in descriptor.fields() {
        match field.kind() {
            Kind::Message(inner) if !field.is_map() && depth > 0 => {
                found.push(vec![field.clone()]);
                let rest = paths(&inner, depth - 1).into_iter();
                found.extend(rest.map(|rest| [vec![field.clone()], rest].concat()));
            }
            _ => found.push(vec![field]),
        }
    }
    found
}

/// The message with a value at a place; what leads there is made if it is not there.
fn with(mut message: DynamicMessage, path: &[FieldDescriptor], value: Value) -> DynamicMessage {
    let Some((field, rest)) = path.split_first() else { return message };
    if rest.is_empty() {
        let value = shaped(field, value);
        // What does not fit leaves the message as it is: the default is tried as well.
        drop(message.try_set_field(field, value));
        return message;
    }
    let place = message.get_field_mut(field);
    let inner = match place {
        Value::List(list) => {
            if list.is_empty() {
                list.push(Value::default_value(&field.kind()));
            }
            &mut list[0]
        }
        one => one,
    };
    if let Value::Message(inner) = inner {
        *inner = with(inner.clone(), rest, value);
    }
    message
}

/// A value as its field holds it: in a list of one, or as both ends of a map's pair.
fn shaped(field: &FieldDescriptor, value: Value) -> Value {
    if field.is_map() {
        let text = value.as_str().unwrap_or("service").to_owned();
        let pair = (MapKey::String("service".to_owned()), Value::String(text));
        return Value::Map(HashMap::from([pair]));
    }
    if field.is_list() { Value::List(vec![value]) } else { value }
}

/// Values at the edges of a kind.
fn extremes(kind: &Kind) -> Vec<Value> {
    match kind {
        Kind::String => {
            let texts = ["*", "%", "' or 1=1 --", "../default", "\u{202e}\u{0}x", "any:*", "{}"];
            texts.iter().map(|text| Value::String((*text).to_owned())).collect()
        }
        Kind::Bytes => [0, 15, 16].map(|size| Value::Bytes(Bytes::from(vec![0xff; size]))).into(),
        Kind::Bool => vec![Value::Bool(true)],
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            [1, -1, i32::MAX, i32::MIN].map(Value::I32).into()
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            [1, -1, i64::MAX, i64::MIN].map(Value::I64).into()
        }
        Kind::Uint32 | Kind::Fixed32 => [1, 2, 1_000, u32::MAX].map(Value::U32).into(),
        Kind::Uint64 | Kind::Fixed64 => [1, 2, 1_000, u64::MAX].map(Value::U64).into(),
        Kind::Float => [f32::NAN, -1.0].map(Value::F32).into(),
        Kind::Double => [f64::NAN, f64::INFINITY, -1.0].map(Value::F64).into(),
        Kind::Enum(names) => {
            let numbers = names.values().map(|value| value.number()).chain([-1, 1_000]);
            numbers.map(Value::EnumNumber).collect()
        }
        Kind::Message(descriptor) => {
            vec![Value::Message(DynamicMessage::new(descriptor.clone()))]
        }
    }
}

/// A message by chance: of the other's values, one's own, both joined, and extremes.
pub(super) fn by_chance(
    descriptor: &MessageDescriptor,
    sources: &Sources<'_>,
    random: &mut StdRng,
) -> DynamicMessage {
    filled(descriptor, sources, random, DEPTH_MAX)
}

fn filled(
    descriptor: &MessageDescriptor,
    sources: &Sources<'_>,
    random: &mut StdRng,
    depth: usize,
) -> DynamicMessage {
    // A whole message of theirs now and then, such as a batch that they sent: it is right in itself.
    let whole = sources.theirs.messages(descriptor.full_name());
    if random.random_ratio(1, 4)
        && let Some(message) = whole.choose(random)
    {
        return message.clone();
    }
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        if random.random_ratio(2, 5) {
            continue;
        }
        let count = if field.is_list() { random.random_range(1..4) } else { 1 };
        let values = (0..count).filter_map(|_| one(&field, sources, random, depth));
        let mut values: Vec<Value> = values.collect();
        let value = match (field.is_list(), field.is_map()) {
            (true, false) => Value::List(values),
            _ => match values.pop() {
                Some(value) => shaped(&field, value),
                None => continue,
            },
        };
        drop(message.try_set_field(&field, value));
    }
    message
}

fn one(
    field: &FieldDescriptor,
    sources: &Sources<'_>,
    random: &mut StdRng,
    depth: usize,
) -> Option<Value> {
    let kind = if field.is_map() { Kind::String } else { field.kind() };
    if let Kind::Message(inner) = &kind {
        let made = depth.checked_sub(1).map(|depth| filled(inner, sources, random, depth));
        return made.map(Value::Message);
    }
    let whose = if random.random_ratio(4, 5) { sources.theirs } else { sources.own };
    let value = match random.random_range(0..10) {
        0..6 => whose.fitting(field).choose(random).cloned(),
        6..8 => whose.of_kind(&kind).choose(random).cloned(),
        _ => None,
    };
    let value = value.or_else(|| extremes(&kind).choose(random).cloned())?;
    Some(if random.random_ratio(1, 6) { changed(value, sources, random) } else { value })
}

/// A value that is nearly the same: the beginning of an id, a number beside it, two texts as one.
fn changed(value: Value, sources: &Sources<'_>, random: &mut StdRng) -> Value {
    match value {
        Value::String(text) => Value::String(changed_text(&text, sources, random)),
        Value::U64(number) => Value::U64(number.wrapping_add(random.random_range(0..3)) ^ 1),
        Value::I64(number) => Value::I64(number.wrapping_sub(1)),
        other => other,
    }
}

fn changed_text(text: &str, sources: &Sources<'_>, random: &mut StdRng) -> String {
    let other = sources.own.of_kind(&Kind::String);
    let other = other.choose(random).and_then(Value::as_str).unwrap_or_default();
    match random.random_range(0..6) {
        0 => text.chars().take(random.random_range(4..12)).collect(),
        1 => format!("{text} or {other}"),
        2 => format!("any:{text}"),
        3 => text.to_uppercase(),
        4 => format!("{text}{other}"),
        _ => "x".repeat(random.random_range(0..LONG_TEXT_BYTES)),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;
    use crate::cross_tenant::contract::Contract;

    #[test]
    fn every_field_of_every_request_is_tried() {
        let contract = Contract::read();
        for method in &contract.methods {
            let descriptor = method.descriptor.input();
            let default = DynamicMessage::new(descriptor.clone());
            let made = one_by_one(&descriptor, &Values::default(), &[default]);
            for field in descriptor.fields() {
                let is_set = made.iter().any(|message| message.has_field(&field));
                assert!(is_set, "{}: {}", method.path, field.name());
            }
        }
    }

    #[test]
    fn chance_repeats_by_its_seed() {
        let contract = Contract::read();
        let descriptor = contract.method("PutSilence").descriptor.input();
        let nothing = Values::default();
        let sources = Sources { theirs: &nothing, own: &nothing };
        let made = |seed| by_chance(&descriptor, &sources, &mut StdRng::seed_from_u64(seed));
        assert_eq!(made(3), made(3));
    }
}
