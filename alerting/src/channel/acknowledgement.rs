//! What a receiver says in the body of a success of HTTP.
//!
//! Many answer 200 for the request and say in the body what became of the message: Teams writes a
//! sentence, chats and pagers write JSON. Only what plainly says that the message failed is taken
//! for a failure; a receiver that says nothing, or something of its own, took the message.

use hyper::StatusCode;
use serde_json::{Map, Value};

use super::{
    Failure, SendError,
    http::{Response, failure_of},
    slack_errors,
};

/// What a receiver says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    /// It took it.
    Taken,
    /// It did not take it.
    Failed(SendError),
    /// Nothing.
    Unsaid,
}

/// How sentences begin that say, with status 200, that the message was not delivered: the first
/// three are those of Teams' connectors.
const FAILED_SENTENCES: [&str; 5] = [
    "webhook message delivery failed",
    "microsoft teams endpoint returned http error",
    "webhook bad request",
    "error:",
    "failed to ",
];
/// In such a sentence, what stands before the status that the receiver itself was answered.
const INNER_STATUS: &str = "http error ";
/// Digits of a status of HTTP.
const STATUS_DIGITS: usize = 3;
/// Fields that say whether it went well, with `true` or `false`: of Slack, Telegram, Rocket.Chat.
const YES_OR_NO: [&str; 2] = ["ok", "success"];
/// Fields that say in a word how it went: of PagerDuty, Splunk On-Call, Zulip.
const IN_A_WORD: [&str; 2] = ["status", "result"];
/// Words that say that it went well.
const WELL: [&str; 3] = ["ok", "success", "accepted"];
/// How words begin that say that it did not.
const FAILED: [&str; 4] = ["error", "fail", "invalid", "reject"];
/// Fields that are there or are not empty only where something went wrong: of GraphQL, JSON-RPC,
/// IFTTT, DingTalk.
const WHAT_WENT_WRONG: [&str; 3] = ["error", "errors", "errcode"];

/// What the response to a request that was answered with a success says of the message.
pub(crate) fn acknowledgement(response: &Response) -> Acknowledgement {
    let body = response.body.trim();
    if body.eq_ignore_ascii_case("ok") {
        return Acknowledgement::Taken;
    }
    match serde_json::from_str::<Value>(body) {
        Ok(Value::Object(object)) => of_object(&object, response),
        // A number or a text of its own: Teams answers `1`.
        Ok(_) => Acknowledgement::Unsaid,
        Err(_) => of_text(body, response),
    }
}

fn of_object(object: &Map<String, Value>, response: &Response) -> Acknowledgement {
    let said: Vec<Said> =
        object.iter().filter_map(|(name, value)| said(&name.to_lowercase(), value)).collect();
    // A plain yes outweighs warnings beside it.
    if said.contains(&Said::Well) {
        return Acknowledgement::Taken;
    }
    if said.is_empty() {
        return Acknowledgement::Unsaid;
    }
    let code = object.get("error").and_then(Value::as_str).unwrap_or_default();
    let failure = match slack_errors::known(code, response.pause) {
        Some((failure, _)) => failure,
        // To send the same again would be refused again.
        None if said.contains(&Said::Invalid) => Failure::Rejected,
        None => Failure::Failing { pause: response.pause },
    };
    failed(failure, false, response)
}

/// What one field says of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Well,
    Failed,
    /// It failed because of what it is.
    Invalid,
}

fn said(name: &str, value: &Value) -> Option<Said> {
    match value {
        Value::Bool(is_well) if YES_OR_NO.contains(&name) => {
            Some(if *is_well { Said::Well } else { Said::Failed })
        }
        Value::String(word) if IN_A_WORD.contains(&name) => said_in_a_word(&word.to_lowercase()),
        _ if WHAT_WENT_WRONG.contains(&name) && !is_empty(value) => Some(Said::Failed),
        _ => None,
    }
}

fn said_in_a_word(word: &str) -> Option<Said> {
    if WELL.contains(&word) {
        Some(Said::Well)
    } else if word.starts_with("invalid") {
        Some(Said::Invalid)
    } else {
        FAILED.iter().any(|failed| word.starts_with(failed)).then_some(Said::Failed)
    }
}

/// Whether a field is there only for its form: `"error": null`, `"errors": []`, `"errcode": 0`.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_set) => !is_set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn of_text(body: &str, response: &Response) -> Acknowledgement {
    // A webhook of Slack's may be set as one of any receiver's.
    if let Some((failure, _)) = slack_errors::known(body, response.pause) {
        return failed(failure, matches!(failure, Failure::Failing { .. }), response);
    }
    let text = body.to_lowercase();
    if !FAILED_SENTENCES.iter().any(|sentence| text.starts_with(sentence)) {
        return Acknowledgement::Unsaid;
    }
    let unknown = (Failure::Failing { pause: response.pause }, false);
    let (failure, may_have_arrived) = inner_status(&text)
        .and_then(|status| failure_of(status, response.pause))
        .unwrap_or(unknown);
    failed(failure, may_have_arrived, response)
}

/// The status that a receiver was itself answered, and passes on in its sentence.
fn inner_status(text: &str) -> Option<StatusCode> {
    let (_, after) = text.split_once(INNER_STATUS)?;
    after.get(..STATUS_DIGITS)?.parse().ok()
}

fn failed(failure: Failure, may_have_arrived: bool, response: &Response) -> Acknowledgement {
    let text =
        format!("answered {} and says that it failed: {}", response.status, response.words());
    Acknowledgement::Failed(SendError { may_have_arrived, ..SendError::new(failure, text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Acknowledgement {
        acknowledgement(&Response { status: StatusCode::OK, pause: None, body: body.to_owned() })
    }

    #[test]
    fn no_honest_success_is_taken_for_a_failure() {
        let says_so = [
            "ok",
            "OK\n",
            r#"{"ok":true,"result":{"message_id":7}}"#,
            r#"{"success":true}"#,
            r#"{"status":"success","message":"Event processed","dedup_key":"k"}"#,
            r#"{"result":"success","msg":"","errors":["one warning"]}"#,
            r#"{"status":"ok"}"#,
        ];
        for body in says_so {
            assert_eq!(of(body), Acknowledgement::Taken, "{body}");
        }
        let says_nothing = [
            "",
            "1",
            "true",
            "Accepted",
            "<html><body>Thank you</body></html>",
            "Error report received",
            r#"{"result":"Request will be processed","took":0.3,"requestId":"r"}"#,
            r#"{"name":"spaces/A/messages/B","text":"checkout failed","error":null}"#,
            r#"{"errcode":0,"errmsg":"ok"}"#,
            r#"{"status":1,"request":"r"}"#,
            r#"{"status":"firing","severity":"critical","template_error":null}"#,
            r#"[{"status":"failed"}]"#,
            r#"{"errors":[],"error":""}"#,
        ];
        for body in says_nothing {
            assert_eq!(of(body), Acknowledgement::Unsaid, "{body}");
        }
    }

    #[test]
    fn what_says_that_it_failed_has_failed() {
        let failing = Failure::Failing { pause: None };
        let teams = |status: u16| {
            format!(
                "Webhook message delivery failed with error: Microsoft Teams endpoint returned \
                 HTTP error {status} with ContextId tcid=1"
            )
        };
        let cases = [
            (teams(429), Failure::RateLimited { pause: None }),
            (teams(413), Failure::Rejected),
            (teams(404), Failure::Misconfigured),
            (teams(503), failing),
            ("Webhook message delivery failed with error: no contact".to_owned(), failing),
            ("invalid_payload".to_owned(), Failure::Rejected),
            ("no_service".to_owned(), Failure::Misconfigured),
            (r#"{"ok":false,"description":"chat not found"}"#.to_owned(), failing),
            (r#"{"success":false,"error":"no such room"}"#.to_owned(), failing),
            (r#"{"ok":false,"error":"is_archived"}"#.to_owned(), Failure::Misconfigured),
            (r#"{"status":"invalid event","errors":["no key"]}"#.to_owned(), Failure::Rejected),
            (r#"{"result":"failure","messages":"no such route"}"#.to_owned(), failing),
            (r#"{"errcode":310000,"errmsg":"no keyword"}"#.to_owned(), failing),
            (r#"{"data":null,"errors":[{"message":"no field"}]}"#.to_owned(), failing),
            (r#"{"error":{"code":-32601,"message":"no method"}}"#.to_owned(), failing),
        ];
        for (body, failure) in cases {
            let Acknowledgement::Failed(error) = of(&body) else { panic!("{body}") };
            assert_eq!(error.failure, failure, "{body}");
            assert!(error.text.contains("says that it failed"), "{error}");
        }
    }
}
