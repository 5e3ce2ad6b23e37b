//! The words in which Slack says why it did not take a message.

use std::time::Duration;

use logweir_incident::render::text::clean_line;

use super::{Failure, SendError, WORDS_BYTES_MAX};

/// Whether a text has the form of Slack's words for errors: `invalid_payload`, `no_text`.
pub(crate) fn is_code(text: &str) -> bool {
    let is_code_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !text.is_empty() && text.len() <= WORDS_BYTES_MAX && text.chars().all(is_code_char)
}

/// The error that a word stands for. One that is not known finds fault with the message.
pub(crate) fn refused(word: &str, pause: Option<Duration>) -> SendError {
    let (failure, hint) = known(word, pause).unwrap_or((Failure::Rejected, ""));
    // Slack's own failures may come after the message was posted.
    let may_have_arrived = matches!(failure, Failure::Failing { .. });
    let text = format!("Slack answered {:?}{hint}", clean_line(word, WORDS_BYTES_MAX));
    SendError { may_have_arrived, ..SendError::new(failure, text) }
}

/// Sorts the errors that Slack documents for `chat.postMessage`, `chat.update` and incoming
/// webhooks, and what to do about them; none for other words.
pub(crate) fn known(word: &str, pause: Option<Duration>) -> Option<(Failure, &'static str)> {
    Some(match word {
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => {
            (Failure::RateLimited { pause }, "")
        }
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" => {
            (Failure::Misconfigured, "; make a new bot token")
        }
        "invalid_token" | "no_active_hooks" | "no_service" | "no_service_id" | "no_team"
        | "team_disabled" => (Failure::Misconfigured, "; make a new webhook"),
        "missing_scope" | "no_permission" | "not_allowed_token_type" => {
            (Failure::Misconfigured, "; give the bot the scope `chat:write`")
        }
        "not_in_channel" | "restricted_action" => {
            (Failure::Misconfigured, "; invite the bot to the channel")
        }
        "channel_not_found"
        | "channel_is_archived"
        | "is_archived"
        | "user_not_found"
        | "action_prohibited"
        | "posting_to_general_channel_denied"
        | "team_access_not_granted"
        | "access_denied"
        | "ekm_access_denied"
        | "enterprise_is_restricted"
        | "org_login_required" => (Failure::Misconfigured, "; check the channel and its rights"),
        "internal_error"
        | "fatal_error"
        | "rollup_error"
        | "service_unavailable"
        | "request_timeout"
        | "accesslimited"
        | "team_added_to_org" => (Failure::Failing { pause }, ""),
        "invalid_payload"
        | "invalid_blocks"
        | "invalid_blocks_format"
        | "missing_text_or_fallback_or_attachments"
        | "msg_too_long"
        | "no_text"
        | "too_many_attachments" => (Failure::Rejected, ""),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_slack_is_no_sentence() {
        for word in ["invalid_payload", "no_text", "rollup_error"] {
            assert!(is_code(word), "{word}");
        }
        for text in ["", "Not Found", "<html>", "{}", "Ok."] {
            assert!(!is_code(text), "{text}");
        }
    }

    #[test]
    fn an_unknown_word_finds_fault_with_the_message() {
        let error = refused("some_new_word", None);
        assert_eq!((error.failure, error.may_have_arrived), (Failure::Rejected, false));
        assert_eq!(error.text, "Slack answered \"some_new_word\"");
    }
}
