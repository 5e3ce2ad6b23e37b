//! Values of attributes: how they compare, and what lies within one that is JSON.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::{Phrase, expression::Subject};
use crate::record::Value;

/// Longer digits are names, not amounts; up to here they compare exactly.
// 38 digits always fit the 128 bits below. Ids of 19 digits would lose their last ones as
// floating-point numbers, and different ids would be equal.
const NUMBER_CHARACTERS_MAX: usize = 38;

/// A number as a text or a value says it.
#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Broken(f64),
}

impl Number {
    fn of(text: &str) -> Option<Self> {
        if text.len() > NUMBER_CHARACTERS_MAX {
            return None;
        }
        let broken = || text.parse().ok().filter(|number: &f64| number.is_finite());
        text.parse().map(Self::Whole).ok().or_else(|| broken().map(Self::Broken))
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        let broken = |number| match number {
            Self::Whole(number) => number as f64,
            Self::Broken(number) => number,
        };
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(&right)),
            (left, right) => broken(left).partial_cmp(&broken(right)),
        }
    }
}

/// As numbers if both are, else as text.
pub(super) fn compare(found: &Value, text: &str) -> Option<Ordering> {
    let number = match found {
        Value::Int(number) => Some(Number::Whole((*number).into())),
        Value::Double(number) => Some(Number::Broken(*number)),
        // `0e1` and `0e2` are more often parts of hashes than zeros.
        Value::String(text) if text.contains(['e', 'E']) => None,
        // A number that no other kind has room for is kept as JSON.
        Value::String(text) | Value::Json(text) => Number::of(text),
        Value::Bool(_) => None,
    };
    if let Some((number, bound)) = number.zip(Number::of(text)) {
        return number.compare(bound);
    }
    Some(match found {
        Value::String(found) | Value::Json(found) => found.as_str().cmp(text),
        // Python writes True, and means the same.
        Value::Bool(found) => found.to_string().as_str().cmp(&text.to_ascii_lowercase()),
        Value::Int(_) | Value::Double(_) => found.to_string().as_str().cmp(text),
    })
}

/// Whether something holds for an attribute with this name, or for what lies at this path in one:
/// `a.b` is the attribute `a.b`, and the field `b` of an attribute `a`. It holds for a list if it
/// does for one of its members.
pub(super) fn any_at(subject: &dyn Subject, path: &str, holds: &dyn Fn(&Value) -> bool) -> bool {
    let whole = subject.attribute(path).is_some_and(|found| {
        holds(&found)
            || matches!(parsed(&found), Some(list @ Json::Array(_)) if any_in(&list, "", holds))
    });
    whole
        || path.match_indices('.').any(|(dot, _)| {
            let found = subject.attribute(&path[..dot]);
            let json = found.and_then(|found| parsed(&found));
            json.is_some_and(|json| any_in(&json, &path[dot + 1..], holds))
        })
}

/// What stands in a value that is JSON and holds others; one that is too deep (128) is a text.
fn parsed(value: &Value) -> Option<Json> {
    match value {
        Value::Json(text) if text.starts_with(['{', '[']) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

fn any_in(json: &Json, path: &str, holds: &dyn Fn(&Value) -> bool) -> bool {
    match json {
        Json::Array(members) => members.iter().any(|member| any_in(member, path, holds)),
        _ if path.is_empty() => holds(&value_of(json)),
        Json::Object(fields) => {
            // A field may have a name with dots in it, as `http.status` of ECS.
            let dots = path.match_indices('.').map(|(dot, _)| (&path[..dot], &path[dot + 1..]));
            dots.chain([(path, "")])
                .any(|(name, rest)| fields.get(name).is_some_and(|json| any_in(json, rest, holds)))
        }
        _ => false,
    }
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::String(text) => Value::String(text.clone()),
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(broken)) if number.is_f64() => Value::Double(broken),
            _ => Value::Json(number.to_string()),
        },
        Json::Null | Json::Array(_) | Json::Object(_) => Value::Json(json.to_string()),
    }
}

/// Whether a value has a phrase, or one of those within it.
pub fn has_phrase(value: &Value, phrase: &Phrase) -> bool {
    any_text(value, &mut |text| phrase.matches(text))
}

/// Whether something holds for a value as a text, or for one of those within it.
pub(super) fn any_text(value: &Value, holds: &mut dyn FnMut(&str) -> bool) -> bool {
    match (value, parsed(value)) {
        (_, Some(json)) => any_leaf(&json, holds),
        (Value::String(text) | Value::Json(text), None) => holds(text),
        (Value::Int(_) | Value::Double(_) | Value::Bool(_), None) => holds(&value.to_string()),
    }
}

fn any_leaf(json: &Json, holds: &mut dyn FnMut(&str) -> bool) -> bool {
    match json {
        Json::Array(members) => members.iter().any(|member| any_leaf(member, holds)),
        Json::Object(fields) => fields.values().any(|field| any_leaf(field, holds)),
        leaf => any_text(&value_of(leaf), holds),
    }
}
