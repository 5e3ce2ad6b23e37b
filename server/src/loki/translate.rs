//! What becomes of a stream: each entry is a log at the time that it says, its line is the message, which
//! is read as the same text in a file is; labels and structured metadata are its attributes, under their
//! own names. Pure.

use logweir_core::record::Level;
use logweir_proto::v1::{self, attribute::Value};
use prost::Message as _;

use super::{
    json::JsonRequest,
    labels::labels,
    push::{self, LabelPair, PushRequest},
    stream::{Entry, Stream},
};
use crate::{
    listener::{decoded_size::loki_structure_bytes, message_body::malformed},
    receiver::{
        Batches, Format, Translation,
        batches::ATTRIBUTE_BYTES,
        json,
        record::{INVALID_UTF8, service_of},
        service::UNKNOWN_SERVICE,
    },
    status::Refusal,
};

/// Labels that name the service, whoever sends.
const SERVICE_LABELS: [&str; 2] = ["service_name", "service"];
/// Labels by which Loki itself finds the service where those are not there (`discover_service_name`), but
/// for `name`, which may be anybody's.
const LIKELY_SERVICE_LABELS: [&str; 11] = [
    "app",
    "application",
    "app_name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];
/// Names of a level; the second is what Loki has found in the line.
const LEVEL_NAMES: [&str; 5] = ["level", "detected_level", "severity", "severity_text", "lvl"];
const TRACE_NAMES: [&str; 3] = ["trace_id", "traceID", "traceId"];
const SPAN_NAMES: [&str; 3] = ["span_id", "spanID", "spanId"];
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The form of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Push {
    Protobuf,
    Json,
}

impl Format for Push {
    type Kept = ();

    fn read_as(&self) -> Vec<&str> {
        vec![match self {
            Self::Protobuf => "loki in protobuf",
            Self::Json => "loki in json",
        }]
    }

    fn weigh(&self) -> fn(&[u8]) -> usize {
        match self {
            Self::Protobuf => loki_structure_bytes,
            Self::Json => json::structure_bytes_of_arrays,
        }
    }

    fn translate(self, message: &[u8], unnamed: &str) -> Result<(Translation, ()), Refusal> {
        let mut reading = Reading { unnamed, ..Reading::default() };
        match self {
            Self::Protobuf => {
                let request = PushRequest::decode(message)
                    .map_err(|error| malformed(&format!("it is no push in protobuf: {error}")))?;
                for stream in request.streams {
                    reading.add_sent(stream);
                }
            }
            Self::Json => {
                let request: JsonRequest = serde_json::from_slice(message)
                    .map_err(|error| malformed(&format!("it is no push in JSON: {error}")))?;
                request.streams.into_iter().for_each(|stream| reading.add(stream.into()));
            }
        }
        Ok((reading.batches.finish()?, ()))
    }
}

#[derive(Default)]
struct Reading<'a> {
    unnamed: &'a str,
    batches: Batches,
    next: u32,
}

/// What the entries of a stream have in common.
struct Shared {
    service: Option<String>,
    level: Option<Level>,
    attributes: Vec<v1::Attribute>,
}

impl Reading<'_> {
    fn add_sent(&mut self, sent: push::Stream) {
        let mut has_invalid_utf8 = false;
        match labels(&text(sent.labels, &mut has_invalid_utf8)) {
            Ok(labels) => {
                let entries = sent.entries.into_iter();
                let entries = entries.map(|sent| Ok(entry(sent, has_invalid_utf8))).collect();
                self.add(Stream { labels, entries });
            }
            Err(why) => {
                for place in self.places(sent.entries.len()) {
                    self.batches.reject(place, "invalid_labels", || why.clone());
                }
            }
        }
    }

    fn places(&mut self, logs: usize) -> std::ops::Range<u32> {
        let begin = self.next;
        self.next += logs as u32;
        begin..self.next
    }

    fn add(&mut self, Stream { labels, entries }: Stream) {
        let places = self.places(entries.len());
        let bytes = labels.iter().map(|(name, value)| name.len() + value.len() + ATTRIBUTE_BYTES);
        if !self.batches.takes_copies("labels", bytes.sum(), places.clone()) {
            return;
        }
        let is_for_any_service = self.unnamed == UNKNOWN_SERVICE;
        let shared = Shared::of(labels, is_for_any_service);
        for (place, entry) in places.zip(entries) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(why) => {
                    self.batches.reject(place, "invalid_time", || why);
                    continue;
                }
            };
            let mut record = record(entry, &shared);
            let service = service_of(&mut record, shared.service.clone(), self.unnamed);
            let group = self.batches.group_of_service(service);
            self.batches.add(group, place, record);
        }
    }
}

impl Shared {
    fn of(labels: Vec<(String, String)>, is_for_any_service: bool) -> Self {
        let find = |names: &[&str]| {
            let of_name = |name: &&str| labels.iter().position(|(label, _)| label == name);
            names.iter().find_map(of_name)
        };
        let named = find(&SERVICE_LABELS);
        // Of a token for one service what is only likely its name is no reason to refuse the logs.
        let likely = if is_for_any_service { find(&LIKELY_SERVICE_LABELS) } else { None };
        let service = named.or(likely).map(|at| labels[at].1.clone());
        let mut shared =
            Self { service, level: None, attributes: Vec::with_capacity(labels.len()) };
        for (at, (name, value)) in labels.into_iter().enumerate() {
            // One that only seems to be the service's name stays to be searched for.
            if named != Some(at) && !fill_level(&mut shared.level, &name, &value) {
                shared.attributes.push(attribute(name, value));
            }
        }
        shared
    }
}

fn record(entry: Entry, shared: &Shared) -> v1::LogRecord {
    let Entry { time_unix_nano, line, metadata, has_invalid_utf8 } = entry;
    let mut record = v1::LogRecord {
        time_unix_nano,
        message: line,
        attributes: shared.attributes.clone(),
        ..v1::LogRecord::default()
    };
    let mut level = None;
    for (name, value) in metadata {
        let is_placed = fill_level(&mut level, &name, &value)
            || fill_id::<16>(&mut record.trace_id, &TRACE_NAMES, &name, &value)
            || fill_id::<8>(&mut record.span_id, &SPAN_NAMES, &name, &value);
        if !is_placed {
            record.attributes.push(attribute(name, value));
        }
    }
    if has_invalid_utf8 {
        let value = Some(Value::BoolValue(true));
        record.attributes.push(v1::Attribute { key: INVALID_UTF8.to_owned(), value });
    }
    if let Some(level) = level.or(shared.level) {
        record.level = logweir_core::wire::level_to_wire(level).into();
    }
    record
}

/// Whether it is a level that has its place: filled in, or there as the same. What Loki has found in the
/// line counts where nothing else says it, and is no more than the line says.
fn fill_level(place: &mut Option<Level>, name: &str, value: &str) -> bool {
    if !LEVEL_NAMES.contains(&name) {
        return false;
    }
    let Ok(level) = value.parse::<Level>() else { return false };
    *place.get_or_insert(level) == level
}

fn fill_id<const N: usize>(place: &mut Vec<u8>, names: &[&str], name: &str, value: &str) -> bool {
    if !place.is_empty() || !names.contains(&name) {
        return false;
    }
    let mut id = [0; N];
    let is_id = hex::decode_to_slice(value, &mut id).is_ok();
    if is_id {
        *place = id.to_vec();
    }
    is_id
}

fn attribute(key: String, value: String) -> v1::Attribute {
    v1::Attribute { key, value: Some(Value::StringValue(value)) }
}

/// Of an entry in protobuf; whether its stream's labels had what is no UTF-8 is said beforehand.
fn entry(sent: push::Entry, mut has_invalid_utf8: bool) -> Entry {
    let time = sent.timestamp.unwrap_or_default();
    let nanos = time.seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(time.nanos.into());
    let line = text(sent.line, &mut has_invalid_utf8);
    let mut metadata = Vec::with_capacity(sent.structured_metadata.len());
    for LabelPair { name, value } in sent.structured_metadata {
        let name = text(name, &mut has_invalid_utf8);
        metadata.push((name, text(value, &mut has_invalid_utf8)));
    }
    // A time before 1970 is none, as everywhere in the contract.
    let time_unix_nano = u64::try_from(nanos).unwrap_or(0);
    Entry { time_unix_nano, line, metadata, has_invalid_utf8 }
}

/// The text; bytes that are none become U+FFFD, which is then said.
fn text(bytes: Vec<u8>, has_invalid_utf8: &mut bool) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        *has_invalid_utf8 = true;
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: u64 = 1_700_000_000_123_456_789;

    fn protobuf(labels: &str, lines: &[&str]) -> Vec<u8> {
        let timestamp = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 });
        let metadata =
            |(name, value): (&str, &str)| LabelPair { name: name.into(), value: value.into() };
        let entry = |line: &&str| push::Entry {
            timestamp,
            line: line.as_bytes().to_vec(),
            structured_metadata: vec![
                metadata(("trace_id", "0af7651916cd43dd8448eb211c80319c")),
                metadata(("pod", "web-1")),
            ],
        };
        let entries = lines.iter().map(entry).collect();
        PushRequest { streams: vec![push::Stream { labels: labels.into(), entries }] }
            .encode_to_vec()
    }

    fn json(text: &str, unnamed: &str) -> Translation {
        Push::Json.translate(text.as_bytes(), unnamed).unwrap().0
    }

    fn one(mut translation: Translation) -> (String, v1::LogRecord) {
        let mut group = translation.groups.remove(0);
        (group.resource.service, group.parts.remove(0).records.remove(0))
    }

    #[test]
    fn both_forms_are_the_same_logs() {
        let protobuf =
            protobuf(r#"{service_name="shop", env="prod", level="warn"}"#, &["slow", "slower"]);
        let protobuf = Push::Protobuf.translate(&protobuf, "").unwrap().0;
        let meta = r#"{"trace_id":"0af7651916cd43dd8448eb211c80319c","pod":"web-1"}"#;
        let json = json(
            &format!(
                r#"{{"streams":[{{"stream":{{"service_name":"shop","env":"prod","level":"warn"}},
                "values":[["{TIME}","slow",{meta}],["{TIME}","slower",{meta}]]}}]}}"#
            ),
            "",
        );
        assert_eq!(protobuf, json);
        assert!(json.can_be_told);
        let (service, record) = one(json);
        assert_eq!((service.as_str(), record.message.as_str()), ("shop", "slow"));
        assert_eq!((record.time_unix_nano, record.level()), (TIME, v1::Level::Warn));
        assert_eq!(record.trace_id.len(), 16);
        let keys: Vec<&str> = record.attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(keys, ["env", "pod"]);
    }

    #[test]
    fn the_service_is_the_label_that_names_it() {
        for (labels, unnamed, expected, kept) in [
            (r#""service":"a","app":"b""#, "", "a", &["app"][..]),
            (r#""service":"a","service_name":"b""#, "", "b", &["service"]),
            (r#""job":"varlogs","app":"b""#, UNKNOWN_SERVICE, "b", &["job", "app"]),
            (r#""job":"varlogs""#, "", "", &["job"]),
            (r#""x":"y""#, UNKNOWN_SERVICE, UNKNOWN_SERVICE, &["x"]),
            (r#""service_name":"unknown_service""#, "", "", &[]),
            (r#""job":"ns/pod:1""#, UNKNOWN_SERVICE, "ns/pod_1", &["job", "service.original"]),
        ] {
            let text = format!(r#"{{"streams":[{{"stream":{{{labels}}},"values":[["1","m"]]}}]}}"#);
            let (service, record) = one(json(&text, unnamed));
            let keys: Vec<&str> = record.attributes.iter().map(|a| a.key.as_str()).collect();
            assert_eq!((service.as_str(), &keys[..]), (expected, kept), "{labels}");
        }
    }

    #[test]
    fn a_bad_stream_takes_no_other_along() {
        let mut request = PushRequest::decode(&protobuf("{app=\"a\"", &["1", "2"])[..]).unwrap();
        request
            .streams
            .extend(PushRequest::decode(&protobuf("{app=\"b\"}", &["3"])[..]).unwrap().streams);
        let found = Push::Protobuf.translate(&request.encode_to_vec(), "").unwrap().0;
        assert_eq!(found.rejected.places, [0, 1]);
        assert_eq!(found.groups[0].parts[0].places, [2]);
    }

    #[test]
    fn a_text_that_is_no_utf8_takes_no_other_along() {
        let mut request = PushRequest::decode(&protobuf("{app=\"a\"}", &["1", "2"])[..]).unwrap();
        request.streams[0].entries[0].line = b"caf\xe9".to_vec();
        let found = Push::Protobuf.translate(&request.encode_to_vec(), "").unwrap().0;
        let records = &found.groups[0].parts[0].records;
        let messages: Vec<&str> = records.iter().map(|record| record.message.as_str()).collect();
        assert_eq!(messages, ["caf\u{fffd}", "2"]);
        let is_marked = |record: &v1::LogRecord| {
            record.attributes.iter().any(|attribute| attribute.key == INVALID_UTF8)
        };
        assert_eq!(records.iter().map(is_marked).collect::<Vec<_>>(), [true, false]);
        request.streams[0].labels = b"{app=\"caf\xe9\"}".to_vec();
        let found = Push::Protobuf.translate(&request.encode_to_vec(), "").unwrap().0;
        assert!(found.groups[0].parts[0].records.iter().all(is_marked));
    }

    #[test]
    fn a_time_that_is_none_takes_no_other_along() {
        let text = r#"{"streams":[{"stream":{"app":"a"},"values":[["1","good"],["-1","x"],["2","good"]]}]}"#;
        let found = json(text, "");
        assert_eq!(found.rejected.places, [1]);
        assert_eq!(found.groups[0].parts[0].places, [0, 2]);
    }

    #[test]
    fn labels_are_not_copied_without_bound() {
        let wide = format!("{{a=\"{}\"}}", "x".repeat(100_000));
        let found = Push::Protobuf.translate(&protobuf(&wide, &["m"; 1_000]), "").unwrap().0;
        assert_eq!((found.rejected.logs(), found.groups.len()), (1_000, 0));
    }

    #[test]
    fn what_is_no_push_is_refused() {
        for bad in ["", "[]", r#"{"streams":{}}"#, r#"{"streams":[{"values":[["1"]]}]}"#] {
            let refused = Push::Json.translate(bad.as_bytes(), "").unwrap_err();
            assert_eq!(refused.reason(), "MALFORMED", "{bad}");
        }
        assert!(Push::Protobuf.translate(b"\xff\xff", "").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            drop(Push::Protobuf.translate(&bytes, ""));
            drop(Push::Json.translate(&bytes, ""));
            loki_structure_bytes(&bytes);
        }
    }
}
