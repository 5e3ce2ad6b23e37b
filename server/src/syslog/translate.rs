//! What becomes of a message: a log, by the one reader of log text, exactly as the same line in a file.
//! Pure. The program is the service, structured data are attributes.

use std::net::IpAddr;

use logweir_parse::{Context, parse};
use logweir_proto::v1::{self, attribute::Value};

use super::framing::Message;
use crate::receiver::{
    Batches,
    record::{INVALID_UTF8, ORIGINAL_SERVICE, record, service_of},
};

/// How a log is marked whose end was cut off.
const TRUNCATED: &str = "logweir.truncated";
/// Where a header says from which host it is.
const HOST: &str = "host";

/// Adds a message to the logs of its service; one that names none belongs to `unnamed`. A token for one
/// service (`unnamed` is empty) takes every program's: there is nobody to be told otherwise.
pub(super) fn add(
    batches: &mut Batches,
    place: u32,
    message: &Message,
    peer: IpAddr,
    unnamed: &str,
    context: &Context,
) {
    let text = String::from_utf8_lossy(&message.bytes);
    let mut parsed = parse(&text, context);
    let named = parsed.service.take();
    let mut record = record(parsed);
    let service = if unnamed.is_empty() {
        if let Some(program) = named {
            add_attribute(&mut record, ORIGINAL_SERVICE, Value::StringValue(program));
        }
        String::new()
    } else {
        service_of(&mut record, named, unnamed)
    };
    if !record.attributes.iter().any(|attribute| attribute.key == HOST) {
        add_attribute(&mut record, HOST, Value::StringValue(peer.to_string()));
    }
    if message.is_truncated {
        add_attribute(&mut record, TRUNCATED, Value::BoolValue(true));
    }
    if matches!(text, std::borrow::Cow::Owned(_)) {
        add_attribute(&mut record, INVALID_UTF8, Value::BoolValue(true));
    }
    let group = batches.group_of_service(service);
    batches.add(group, place, record);
}

fn add_attribute(record: &mut v1::LogRecord, key: &str, value: Value) {
    record.attributes.push(v1::Attribute { key: key.to_owned(), value: Some(value) });
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use logweir_core::timestamp::Timestamp;

    use super::*;
    use crate::receiver::service::UNKNOWN_SERVICE;

    fn one(text: &[u8], is_truncated: bool, unnamed: &str) -> (String, v1::LogRecord) {
        let mut batches = Batches::default();
        let message = Message { bytes: text.to_vec(), is_truncated };
        let context = Context::at(Timestamp::from_unix_seconds(1_767_323_045));
        add(&mut batches, 0, &message, Ipv4Addr::LOCALHOST.into(), unnamed, &context);
        let mut group = batches.finish().unwrap().groups.remove(0);
        (group.resource.service, group.parts.remove(0).records.remove(0))
    }

    fn said(record: &v1::LogRecord) -> Vec<(&str, String)> {
        let text = |value: &Option<Value>| match value {
            Some(Value::StringValue(text)) => text.clone(),
            other => format!("{other:?}"),
        };
        record.attributes.iter().map(|a| (a.key.as_str(), text(&a.value))).collect()
    }

    #[test]
    fn both_forms_of_syslog_are_logs() {
        let (service, record) = one(
            br#"<165>1 2026-01-02T03:04:05.678Z web-1 shop 42 ID47 [ex@32473 iut="3" eventSource="App"] order failed"#,
            false,
            UNKNOWN_SERVICE,
        );
        assert_eq!((service.as_str(), record.message.as_str()), ("shop", "order failed"));
        assert_eq!(
            (record.level(), record.time_unix_nano),
            (v1::Level::Info, 1_767_323_045_678_000_000)
        );
        let expected = [
            ("host", "web-1"),
            ("pid", "42"),
            ("message.id", "ID47"),
            ("iut", "3"),
            ("eventSource", "App"),
        ];
        assert_eq!(said(&record), expected.map(|(key, value)| (key, value.to_owned())));

        let (service, record) =
            one(b"<34>Jan  2 03:04:05 web-1 su[7]: 'su root' failed", false, UNKNOWN_SERVICE);
        assert_eq!((service.as_str(), record.message.as_str()), ("su", "'su root' failed"));
        assert_eq!(
            (record.level(), record.time_unix_nano),
            (v1::Level::Fatal, 1_767_323_045_000_000_000)
        );
        let (_, record) = one(
            br#"<14>Jan  2 03:04:05 h app[1]: {"msg":"m","level":"error"}"#,
            false,
            UNKNOWN_SERVICE,
        );
        assert_eq!((record.message.as_str(), record.level()), ("m", v1::Level::Error));
    }

    #[test]
    fn a_token_for_one_service_takes_every_program() {
        let (service, record) = one(b"<34>Jan  2 03:04:05 web-1 su[7]: x", false, "");
        assert_eq!(service, "");
        assert!(said(&record).contains(&(ORIGINAL_SERVICE, "su".to_owned())), "{record:?}");
    }

    #[test]
    fn what_is_not_as_it_was_sent_is_marked_and_the_host_is_known() {
        let (service, record) = one(b"<13>hello \xff", true, UNKNOWN_SERVICE);
        assert_eq!(service, UNKNOWN_SERVICE);
        let keys: Vec<&str> = record.attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(keys, [HOST, TRUNCATED, INVALID_UTF8]);
        assert_eq!(said(&record)[0].1, "127.0.0.1");
    }
}
