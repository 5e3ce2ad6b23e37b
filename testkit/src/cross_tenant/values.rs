//! The values that a tenant's own requests and answers hold, by the names of their fields, and
//! which of them another field may take: an id where an id is asked for.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value};

/// Values kept of one name: what is beyond are more of the same.
const VALUES_MAX: usize = 200;
/// Whole messages kept of one kind.
const MESSAGES_MAX: usize = 12;

/// Values by the names of their fields, in the order in which they were seen.
#[derive(Clone, Default)]
pub(super) struct Values {
    by_name: BTreeMap<String, Vec<Value>>,
    messages: BTreeMap<String, Vec<DynamicMessage>>,
}

impl Values {
    /// Takes all that a message holds.
    pub(super) fn take(&mut self, message: &DynamicMessage) {
        let of_kind = self.messages.entry(message.descriptor().full_name().to_owned()).or_default();
        if of_kind.len() < MESSAGES_MAX && !of_kind.contains(message) {
            of_kind.push(message.clone());
        }
        for (field, value) in message.fields() {
            self.take_value(field.name(), value);
        }
    }

    fn take_value(&mut self, name: &str, value: &Value) {
        match value {
            Value::Message(message) => self.take(message),
            Value::List(list) => list.iter().for_each(|one| self.take_value(name, one)),
            Value::Map(map) => {
                let mut pairs: Vec<_> = map.iter().collect();
                pairs.sort_by_key(|(key, _)| (*key).clone());
                for (key, one) in pairs {
                    if let MapKey::String(key) = key {
                        self.add(name, Value::String(key.clone()));
                    }
                    self.take_value(name, one);
                }
            }
            Value::EnumNumber(_) | Value::Bool(_) => {}
            scalar => self.add(name, scalar.clone()),
        }
    }

    fn add(&mut self, name: &str, value: Value) {
        let of_name = self.by_name.entry(singular(name).to_owned()).or_default();
        if of_name.len() < VALUES_MAX && !of_name.contains(&value) {
            of_name.push(value);
        }
    }

    /// Without the texts that are not to be used.
    pub(super) fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let is_kept = |value: &Value| value.as_str().is_none_or(&keep);
        let is_open = |message: &DynamicMessage| texts_of(message).iter().all(|text| keep(text));
        let mut kept = self.clone();
        kept.by_name.values_mut().for_each(|values| values.retain(is_kept));
        kept.messages.values_mut().for_each(|messages| messages.retain(is_open));
        kept
    }

    /// Without moments, and what holds some: a page token is a place in time, and so is the id of a
    /// log, which can be given as one.
    pub(super) fn without_moments(&self) -> Self {
        let mut kept = self.clone();
        let holds_moment =
            |name: &str| name.ends_with("_unix_nano") || name.ends_with("page_token");
        kept.by_name.retain(|name, _| !holds_moment(name));
        let is_log_id =
            |text: &str| text.len() == 56 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let is_kept = |value: &Value| !value.as_str().is_some_and(is_log_id);
        kept.by_name.values_mut().for_each(|values| values.retain(is_kept));
        kept.messages.clear();
        kept
    }

    /// Every text.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.by_name.values().flatten().filter_map(Value::as_str)
    }

    /// Every text but those of fields of a name.
    pub(super) fn texts_but_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let others = self.by_name.iter().filter(move |(of, _)| *of != name);
        others.flat_map(|(_, values)| values).filter_map(Value::as_str)
    }

    /// What fits a field by its name: the same name first, then names of which one ends with the
    /// other, such as `first_model_id` and `model_id`.
    pub(super) fn fitting(&self, field: &FieldDescriptor) -> Vec<Value> {
        let wanted = singular(field.name());
        let same = self.by_name.get(wanted).into_iter();
        let related = self.by_name.iter().filter(|(name, _)| is_related(name, wanted));
        let values = same.chain(related.map(|(_, values)| values)).flatten();
        values.filter_map(|value| converted(value, &field.kind())).collect()
    }

    /// What fits by its kind alone, of every name one.
    pub(super) fn of_kind(&self, kind: &Kind) -> Vec<Value> {
        self.by_name.values().filter_map(|values| converted(values.first()?, kind)).collect()
    }

    /// Whole messages of a kind.
    pub(super) fn messages(&self, full_name: &str) -> &[DynamicMessage] {
        self.messages.get(full_name).map_or(&[], Vec::as_slice)
    }
}

fn singular(name: &str) -> &str {
    match name.strip_suffix('s') {
        Some(one) if name.ends_with("_ids") => one,
        _ => name,
    }
}

fn is_related(name: &str, wanted: &str) -> bool {
    let ends =
        |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('_'));
    ends(name, wanted) || ends(wanted, name)
}

/// A value as another kind has it.
pub(super) fn converted(value: &Value, kind: &Kind) -> Option<Value> {
    let number = || match value {
        Value::I32(number) => Some(i128::from(*number)),
        Value::I64(number) => Some(i128::from(*number)),
        Value::U32(number) => Some(i128::from(*number)),
        Value::U64(number) => Some(i128::from(*number)),
        _ => None,
    };
    match (kind, value) {
        (Kind::String, Value::String(_)) | (Kind::Bytes, Value::Bytes(_)) => Some(value.clone()),
        (Kind::String, Value::Bytes(bytes)) => Some(Value::String(hex::encode(bytes))),
        (Kind::Bytes, Value::String(text)) => {
            let bytes = hex::decode(text).unwrap_or_else(|_| text.clone().into_bytes());
            Some(Value::Bytes(Bytes::from(bytes)))
        }
        (Kind::Double, Value::F64(_)) | (Kind::Float, Value::F32(_)) => Some(value.clone()),
        (Kind::Double, _) => number().map(|number| Value::F64(number as f64)),
        (Kind::Int32 | Kind::Sint32 | Kind::Sfixed32, _) => {
            number()?.try_into().ok().map(Value::I32)
        }
        (Kind::Int64 | Kind::Sint64 | Kind::Sfixed64, _) => {
            number()?.try_into().ok().map(Value::I64)
        }
        (Kind::Uint32 | Kind::Fixed32, _) => number()?.try_into().ok().map(Value::U32),
        (Kind::Uint64 | Kind::Fixed64, _) => number()?.try_into().ok().map(Value::U64),
        _ => None,
    }
}

/// Every text of a message.
fn texts_of(message: &DynamicMessage) -> Vec<String> {
    let mut values = Values::default();
    values.take(message);
    values.texts().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cross_tenant::contract::Contract;

    #[test]
    fn a_field_takes_what_its_name_says() {
        let contract = Contract::read();
        let listed = contract.method("GetModel").descriptor.output();
        let model = listed.get_field_by_name("model").unwrap();
        let mut message = DynamicMessage::new(model.kind().as_message().unwrap().clone());
        message.set_field_by_name("model_id", Value::U64(7));
        message.set_field_by_name("service", Value::String("shop".into()));
        let mut values = Values::default();
        values.take(&message);
        let compared = contract.method("CompareModels").descriptor.input();
        let field = compared.get_field_by_name("second_model_id").unwrap();
        assert_eq!(values.fitting(&field), [Value::U64(7)]);
        assert_eq!(values.texts().collect::<Vec<_>>(), ["shop"]);
        assert_eq!(values.only(|_| false).texts().count(), 0);
    }
}
