//! Which attributes are blanked out before they are sent. Pure.

use std::borrow::Cow;

use logweir_proto::v1::{Attribute, attribute::Value};

use super::{ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX};

const REDACTED: &str = "[redacted]";
const REDACTED_BY_DEFAULT: [&str; 13] = [
    "password",
    "passwd",
    "secret",
    "api_key",
    "apikey",
    "access_token",
    "refresh_token",
    "auth_token",
    "authorization",
    "cookie",
    "set_cookie",
    "private_key",
    "credentials",
];

/// The names of attributes whose values nobody may see, as they are compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Redaction(pub(crate) Vec<String>);

impl Default for Redaction {
    fn default() -> Self {
        Self::of(&REDACTED_BY_DEFAULT)
    }
}

impl Redaction {
    pub(crate) fn of(names: &[impl AsRef<str>]) -> Self {
        Self(names.iter().map(|name| compared(name.as_ref()).into_owned()).collect())
    }

    /// Blanks out the values of the attributes that are listed.
    pub(crate) fn apply(&self, attributes: &mut [Attribute]) {
        for attribute in attributes {
            let is_listed = match &attribute.value {
                _ if self.lists(&attribute.key) => true,
                Some(Value::JsonValue(json)) => self.is_listed_in(json),
                _ => false,
            };
            if is_listed {
                attribute.value = Some(Value::StringValue(REDACTED.into()));
            }
        }
    }

    /// The same for attributes that will be cut: what is left would not show what they are.
    pub(crate) fn apply_before_cut(&self, attributes: &mut [Attribute]) {
        for attribute in attributes {
            let is_cut = match &attribute.value {
                _ if attribute.key.len() > ATTRIBUTE_KEY_BYTES_MAX => true,
                Some(Value::JsonValue(json)) => json.len() > ATTRIBUTE_VALUE_BYTES_MAX,
                _ => false,
            };
            if is_cut {
                self.apply(std::slice::from_mut(attribute));
            }
        }
    }

    /// Whether a name, or its end after a separator, is listed.
    fn lists(&self, name: &str) -> bool {
        let name = compared(name);
        let is_listed = |listed: &String| {
            let before = name.strip_suffix(listed.as_str());
            before.is_some_and(|before| before.is_empty() || before.ends_with(['.', '_']))
        };
        self.0.iter().any(is_listed)
    }

    /// Whether JSON text has a key anywhere that is listed: a quoted name, then a colon.
    fn is_listed_in(&self, json: &str) -> bool {
        let mut rest = json;
        while let Some((_, text)) = rest.split_once('"') {
            let Some(end) = end_of_text(text) else { return false };
            let (name, after) = (&text[..end], &text[end + 1..]);
            if after.trim_start().starts_with(':') && self.lists(name) {
                return true;
            }
            rest = after;
        }
        false
    }
}

/// A name as it is compared: in lower case, and `_` for `-`.
fn compared(name: &str) -> Cow<'_, str> {
    // Most names are plain already, and need no copy.
    if name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.0123456789".contains(&byte)) {
        return name.into();
    }
    name.to_lowercase().replace('-', "_").into()
}

/// Where the first quote is that no backslash takes the meaning from.
fn end_of_text(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_quotes_and_unfinished_text_end_nothing() {
        let redaction = Redaction::default();
        assert!(redaction.is_listed_in(r#"{"a\"b\\":1,"Db-Password" :2}"#));
        for harmless in [r#"{"a":"\"password\":"}"#, r#"{"password"#, "", r#"["password"]"#] {
            assert!(!redaction.is_listed_in(harmless), "{harmless}");
        }
    }

    #[test]
    fn what_will_be_cut_is_looked_at_whole() {
        let long = format!("{{\"{}\":0,\"secret\":1}}", "x".repeat(ATTRIBUTE_VALUE_BYTES_MAX));
        let mut attributes = [
            Attribute { key: "body".into(), value: Some(Value::JsonValue(long)) },
            Attribute { key: format!("{}.cookie", "k".repeat(300)), value: None },
            Attribute { key: "secret".into(), value: Some(Value::IntValue(1)) },
        ];
        Redaction::default().apply_before_cut(&mut attributes);
        let redacted = Some(Value::StringValue(REDACTED.into()));
        assert_eq!(attributes.map(|attribute| attribute.value == redacted), [true, true, false]);
    }
}
