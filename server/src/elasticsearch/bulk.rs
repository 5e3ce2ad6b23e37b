//! Reads bulk requests: pairs of lines, what to do and a document. Pure. A document is a log, understood
//! exactly as the same line in a file; Elastic's common schema is among the names that are known there.

use std::sync::Arc;

use logweir_core::timestamp::Timestamp;
use logweir_parse::{Context, service};
use logweir_proto::v1::{self, attribute::Value};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use crate::{
    listener::message_body::malformed,
    receiver::{
        Batches, Format, Translation, json,
        record::{logs, record, service_of},
    },
    status::Refusal,
};

/// Documents of a request: each has a part of the answer.
const ITEMS_MAX: usize = 100_000;
/// The name of an index, bytes: what Elasticsearch takes (`MAX_INDEX_NAME_BYTES` in
/// `MetadataCreateIndexService.java`). Each document gets a copy.
const INDEX_BYTES_MAX: usize = 255;
/// Where the name of an index is kept that is not the service's.
const INDEX_ATTRIBUTE: &str = "elasticsearch.index";
/// Why a document is rejected, as metrics show it.
const NOT_ADDED: &str = "not_an_addition";

const INVALID_INDEX: &str = "invalid_index_name";

/// A bulk request.
pub(super) struct Bulk {
    /// The index in the path.
    index: Option<Arc<str>>,
    now: Timestamp,
}

impl Bulk {
    /// One that is sent to this index; refused if it can be none.
    pub(super) fn new(index: Option<String>, now: Timestamp) -> Result<Self, Refusal> {
        if let Some(why) = index.as_deref().and_then(invalid_index) {
            return Err(malformed(&why));
        }
        Ok(Self { index: index.map(Arc::from), now })
    }
}

/// Why a name is none of an index.
fn invalid_index(index: &str) -> Option<String> {
    let bytes = index.len();
    let why = || format!("the name of the index is {bytes} bytes, the limit is {INDEX_BYTES_MAX}");
    (bytes > INDEX_BYTES_MAX).then(why)
}

/// What is to be done with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Index,
    Update,
    Delete,
}

impl Action {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Index => "index",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// A document as its sender calls it.
#[derive(Debug, PartialEq)]
pub(super) struct Item {
    pub(super) action: Action,
    /// Shared by those that only the path names one for.
    pub(super) index: Option<Arc<str>>,
    pub(super) id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActionLine {
    Create(Meta),
    Index(Meta),
    Update(Meta),
    Delete(Meta),
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "_index")]
    index: Option<String>,
    #[serde(rename = "_id")]
    id: Option<Id>,
}

/// An id; a number or truth value is what it is written as, as in Elasticsearch.
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw).map(Self).map_err(de::Error::custom),
            Some(b'{' | b'[') => Err(de::Error::custom("an _id is no object and no array")),
            _ => Ok(Self(raw.to_owned())),
        }
    }
}

impl Format for Bulk {
    type Kept = Vec<Item>;

    fn read_as(&self) -> Vec<&str> {
        vec!["bulk", self.index.as_deref().unwrap_or_default()]
    }

    fn weigh(&self) -> fn(&[u8]) -> usize {
        json::structure_bytes
    }

    fn translate(self, message: &[u8], unnamed: &str) -> Result<(Translation, Vec<Item>), Refusal> {
        let mut batches = Batches::default();
        let (mut items, context) = (Vec::new(), Context::at(self.now));
        let mut lines = message.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        while let Some(line) = lines.next() {
            if line.is_empty() {
                continue;
            }
            let place = items.len() as u32;
            if items.len() == ITEMS_MAX {
                let what = "the number of documents in the request";
                return Err(Refusal::TooLarge {
                    what,
                    value: format!("over {ITEMS_MAX}"),
                    limit: ITEMS_MAX,
                });
            }
            let item = item(line, self.index.as_ref()).map_err(|why| {
                malformed(&format!("what to do with document {place} cannot be read: {why}"))
            })?;
            let document = match item.action {
                Action::Delete => None,
                _ => Some(lines.next().ok_or_else(|| malformed("the last document is missing"))?),
            };
            let added = matches!(item.action, Action::Create | Action::Index);
            let invalid_index = item.index.as_deref().and_then(invalid_index);
            match (document.filter(|_| added), invalid_index) {
                (Some(_), Some(why)) => batches.reject(place, INVALID_INDEX, || why),
                (Some(document), None) => {
                    let naming = Naming { index: item.index.as_deref(), unnamed };
                    add(&mut batches, place, document, &naming, &context);
                }
                (None, _) => batches.reject(place, NOT_ADDED, || {
                    "logs are only added: use create or index".to_owned()
                }),
            }
            items.push(item);
        }
        Ok((batches.finish()?, items))
    }
}

fn item(line: &[u8], of_path: Option<&Arc<str>>) -> Result<Item, String> {
    let (action, meta) = match serde_json::from_slice(line).map_err(|error| error.to_string())? {
        ActionLine::Create(meta) => (Action::Create, meta),
        ActionLine::Index(meta) => (Action::Index, meta),
        ActionLine::Update(meta) => (Action::Update, meta),
        ActionLine::Delete(meta) => (Action::Delete, meta),
    };
    let index = meta.index.map(Arc::from).or_else(|| of_path.cloned());
    Ok(Item { action, index, id: meta.id.map(|id| id.0) })
}

/// What names the service of a document that does not.
struct Naming<'a> {
    index: Option<&'a str>,
    unnamed: &'a str,
}

fn add(batches: &mut Batches, place: u32, document: &[u8], naming: &Naming<'_>, context: &Context) {
    let Naming { index, unnamed } = *naming;
    for mut parsed in logs(batches, place, document, context) {
        let named = parsed.service.take().or_else(|| index_service(index, unnamed));
        let mut record = record(parsed);
        let service = service_of(&mut record, named, unnamed);
        if let Some(index) = index.filter(|index| *index != service) {
            let value = Some(Value::StringValue(index.to_owned()));
            record.attributes.push(v1::Attribute { key: INDEX_ATTRIBUTE.to_owned(), value });
        }
        let group = batches.group_of_service(service);
        batches.add(group, place, record);
    }
}

/// What an index is called but for the date that many have: all that some shippers can say of a service.
/// Where the token says it, that counts.
fn index_service(index: Option<&str>, unnamed: &str) -> Option<String> {
    let name = service::of_file(index?);
    (!unnamed.is_empty() && !name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::receiver::service::UNKNOWN_SERVICE;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_323_045);

    fn translated(body: &str) -> Result<(Translation, Vec<Item>), Refusal> {
        let bulk = Bulk::new(Some("web".into()), NOW).unwrap();
        bulk.translate(body.as_bytes(), UNKNOWN_SERVICE)
    }

    #[test]
    fn a_document_of_elastics_common_schema_is_a_log() {
        let body = r#"{"create":{"_index":"filebeat-2026.01.02","_id":"x"}}
{"@timestamp":"2026-01-02T03:04:05.678Z","message":"slow","log":{"level":"warn","logger":"a.B"},"service":{"name":"shop"},"trace":{"id":"0af7651916cd43dd8448eb211c80319c"},"host":{"name":"h1"},"event":{"duration":12000000}}
"#;
        let (mut found, items) = translated(body).unwrap();
        assert!(found.can_be_told);
        let id = Some("x".to_owned());
        let index = Some("filebeat-2026.01.02".into());
        assert_eq!(items, [Item { action: Action::Create, index, id }]);
        let mut group = found.groups.remove(0);
        assert_eq!(group.resource.service, "shop");
        let record = group.parts.remove(0).records.remove(0);
        assert_eq!((record.message.as_str(), record.level()), ("slow", v1::Level::Warn));
        assert_eq!((record.logger.as_str(), record.latency_ms), ("a.B", Some(12.0)));
        assert_eq!(record.time_unix_nano, 1_767_323_045_678_000_000);
        assert_eq!(record.trace_id.len(), 16);
        let keys: Vec<&str> = record.attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(keys, ["host", INDEX_ATTRIBUTE]);
    }

    #[test]
    fn an_index_names_the_service_that_nothing_else_names() {
        for (action, service) in [
            (r#"{"index":{}}"#, "web"),
            (r#"{"index":{"_index":"shop-2026.01.02"}}"#, "shop"),
            (r#"{"index":{"_index":"logs-shop-default"}}"#, "logs-shop-default"),
        ] {
            let (found, _) = translated(&format!("{action}\n{{\"message\":\"m\"}}")).unwrap();
            assert_eq!(found.groups[0].resource.service, service, "{action}");
        }
        let bulk = Bulk::new(Some("web".into()), NOW).unwrap();
        let found = bulk.translate(b"{\"index\":{}}\n{\"message\":\"m\"}\n", "").unwrap().0;
        assert_eq!(found.groups[0].resource.service, "", "the token says it");
    }

    #[test]
    fn an_id_is_any_scalar() {
        for (sent, expected) in
            [("1", Some("1")), ("true", Some("true")), (r#""a\"b""#, Some("a\"b")), ("null", None)]
        {
            let line = format!(r#"{{"index":{{"_index":"a","_id":{sent}}}}}"#);
            assert_eq!(item(line.as_bytes(), None).unwrap().id.as_deref(), expected, "{sent}");
        }
        assert!(item(br#"{"index":{"_id":{}}}"#, None).is_err());
    }

    #[test]
    fn the_same_bytes_for_another_index_are_another_request() {
        let bulk = |index: &str| Bulk::new(Some(index.to_owned()), NOW).unwrap();
        assert_ne!(bulk("a").read_as(), bulk("b").read_as());
    }

    #[test]
    fn a_bad_document_takes_no_other_along() {
        let body = concat!(
            "{\"index\":{}}\n{\"message\":\"1\"}\n{\"update\":{\"_id\":\"1\"}}\n{\"doc\":{}}\n",
            "{\"delete\":{\"_id\":\"1\"}}\n{\"create\":{}}\nnope\n\n{\"create\":{}}\n{\"message\":\"2\"}\n",
        );
        let (found, items) = translated(body).unwrap();
        let actions: Vec<Action> = items.iter().map(|item| item.action).collect();
        assert_eq!(
            actions,
            [Action::Index, Action::Update, Action::Delete, Action::Create, Action::Create]
        );
        assert_eq!(found.rejected.places, [1, 2, 3]);
        assert_eq!(found.groups[0].parts[0].places, [0, 4]);
    }

    #[test]
    fn an_index_of_any_length_is_not_copied_into_each_document() {
        let long = "a".repeat(INDEX_BYTES_MAX + 1);
        assert_eq!(Bulk::new(Some(long.clone()), NOW).err().unwrap().reason(), "MALFORMED");
        assert!(Bulk::new(Some(long[1..].to_owned()), NOW).is_ok());
        let body = format!(
            "{{\"index\":{{\"_index\":\"{long}\"}}}}\n{{}}\n{}",
            "{\"index\":{}}\n{\"message\":\"m\"}\n".repeat(2)
        );
        let (found, items) = translated(&body).unwrap();
        assert_eq!(found.rejected.places, [0]);
        assert_eq!(found.rejected.told[0].reason, INVALID_INDEX);
        let of = |item: &Item| item.index.clone().unwrap();
        assert!(Arc::ptr_eq(&of(&items[1]), &of(&items[2])), "the path's is held once");
    }

    #[test]
    fn what_is_no_bulk_request_is_refused_whole() {
        for bad in ["{}\n{}", "x\n{}", "{\"index\":{}}", "{\"index\":{}}\n{}\n{\"find\":{}}\n{}"] {
            assert_eq!(translated(bad).unwrap_err().reason(), "MALFORMED", "{bad}");
        }
        let many = "{\"index\":{}}\n{}\n".repeat(ITEMS_MAX + 1);
        assert_eq!(translated(&many).unwrap_err().reason(), "BATCH_TOO_LARGE");
        assert_eq!(translated("").unwrap().1, []);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(body in "(\\{\"(index|create)\":\\{\\}\\}\n|[{}\"a:\n]{0,9}){0,9}") {
            if let Ok((found, items)) = translated(&body) {
                let taken = found.groups.iter().flat_map(|group| &group.parts);
                // Two objects side by side are two logs of one document, as in a file.
                let taken = taken.flat_map(|part| &part.places);
                let places: BTreeSet<u32> = taken.chain(&found.rejected.places).copied().collect();
                proptest::prop_assert_eq!(places, (0..items.len() as u32).collect());
            }
        }
    }
}
