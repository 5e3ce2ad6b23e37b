//! What became of a bulk request, item by item as Elasticsearch says it. Pure.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::bulk::Item;
use crate::{
    ingest::split::{Outcome, Rejected, RejectedLog},
    status::Refusal,
};

/// The answer to a request that was taken.
pub(super) fn answer(items: Vec<Item>, outcome: &Outcome, took_ms: u64) -> Value {
    let Rejected { places, told, .. } = &outcome.rejected;
    let mut reasons: HashMap<u32, Option<&RejectedLog>> =
        places.iter().map(|place| (*place, None)).collect();
    for log in told {
        reasons.entry(log.place).or_default().get_or_insert(log);
    }
    let errors = !reasons.is_empty();
    let items = (0..).zip(items).map(|(place, item)| told_item(item, reasons.get(&place).copied()));
    let items: Vec<Value> = items.collect();
    json!({ "took": took_ms, "errors": errors, "items": items })
}

fn told_item(item: Item, rejected: Option<Option<&RejectedLog>>) -> Value {
    let mut said = Map::new();
    let Item { action, index, id } = item;
    said.insert("_index".into(), index.as_deref().unwrap_or_default().into());
    // Logs have no ids of their senders'; one that was sent is said again.
    said.insert("_id".into(), id.unwrap_or_default().into());
    match rejected {
        None => {
            said.insert("result".into(), "created".into());
            said.insert("status".into(), 201.into());
        }
        Some(why) => {
            let (reason, detail) = why.map_or(("rejected", "as one of those before it"), |log| {
                (log.reason.as_str(), log.detail.as_str())
            });
            said.insert("status".into(), 400.into());
            said.insert("error".into(), json!({ "type": reason, "reason": detail }));
        }
    }
    Value::Object([(action.name().to_owned(), Value::Object(said))].into_iter().collect())
}

/// A refusal as Elasticsearch writes it.
pub(super) fn error(refusal: &Refusal) -> Value {
    let cause = json!({ "type": refusal.reason().to_lowercase(), "reason": refusal.to_string() });
    let mut error = cause.clone();
    error["root_cause"] = json!([cause]);
    json!({ "error": error, "status": refusal.http_status().as_u16() })
}

#[cfg(test)]
mod tests {
    use super::{super::bulk::Action, *};

    #[test]
    fn each_item_has_its_status() {
        let item = |action, id: Option<&str>| Item {
            action,
            index: Some("web".into()),
            id: id.map(str::to_owned),
        };
        let items = vec![
            item(Action::Create, Some("a")),
            item(Action::Index, None),
            item(Action::Index, None),
        ];
        let mut outcome = Outcome { accepted: 1, ..Outcome::default() };
        outcome.rejected.add(1..3, "too_long", || "it is too long".into());
        let said = answer(items, &outcome, 7);
        assert_eq!((&said["errors"], &said["took"]), (&json!(true), &json!(7)));
        let created = json!({ "_index": "web", "_id": "a", "result": "created", "status": 201 });
        assert_eq!(said["items"][0]["create"], created);
        assert_eq!(said["items"][1]["index"]["error"]["reason"], "it is too long");
        assert_eq!(said["items"][2]["index"]["status"], 400);
        let all = answer(vec![item(Action::Create, None)], &Outcome::default(), 0);
        assert_eq!(all["errors"], false);
    }
}
