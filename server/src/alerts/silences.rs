//! Silences.

use std::time::Duration;

use logweir_core::{identity::Tenant, timestamp::Timestamp};
use logweir_incident::{
    setting::{Setting, SettingKind, StoredSetting},
    suppression,
};
use logweir_proto::v1;

use super::handler::{AlertHandler, TEXT_BYTES_MAX, check_length, check_room, others};
use crate::{auth::Caller, response_size::cut, status::Refusal};

/// Silences of a tenant, past ones included.
const SILENCES_MAX: usize = 1_000;
const MATCHERS_MAX: usize = 20;
const LABEL_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 256;
/// The longest silence. Who never wants to hear of something changes the rule instead: a silence
/// without end is forgotten, and hides the next fault too.
const SILENCE_MAX: Duration = Duration::from_secs(366 * 86_400);

pub(super) async fn list(
    handler: &AlertHandler,
    tenant: &Tenant,
) -> Result<v1::ListSilencesResponse, Refusal> {
    let stored = handler.settings(tenant, SettingKind::Silence).await?;
    let mut silences: Vec<&suppression::Silence> =
        stored.iter().filter_map(StoredSetting::silence).collect();
    silences.sort_by_key(|silence| std::cmp::Reverse(silence.to));
    let (silences, truncated) = cut(silences.into_iter().cloned().map(wire));
    Ok(v1::ListSilencesResponse { silences, truncated })
}

pub(super) async fn put(
    handler: &AlertHandler,
    caller: &Caller,
    asked: v1::Silence,
) -> Result<v1::PutSilenceResponse, Refusal> {
    let mut silence = checked(asked, (handler.clock)())?;
    // From the verified token, whatever the request says: it is the record of who hid an alert.
    silence.author = caller.token_id().to_owned();
    let stored = handler.settings(&caller.tenant, SettingKind::Silence).await?;
    if silence.id.is_empty() {
        silence.id = hex::encode(rand::random::<[u8; 8]>());
    } else if !stored.iter().any(|setting| setting.name == silence.id) {
        return Err(unknown(&silence.id));
    }
    check_room("silences", others(&stored, &silence.id), SILENCES_MAX)?;
    handler.put(&caller.tenant, Setting::Silence(silence.clone())).await?;
    Ok(v1::PutSilenceResponse { silence: Some(wire(silence)) })
}

fn checked(asked: v1::Silence, now: Timestamp) -> Result<suppression::Silence, Refusal> {
    let invalid = |field: &str, why: String| Err(Refusal::invalid(format!("silence.{field}"), why));
    // At least one: without any, a slip of the finger would silence the whole tenant.
    if !(1..=MATCHERS_MAX).contains(&asked.matchers.len()) {
        let why = format!("1 to {MATCHERS_MAX} are needed; `rule` as `*` covers everything");
        return invalid("matchers", why);
    }
    for (label, value) in &asked.matchers {
        let is_good = (1..=LABEL_BYTES_MAX).contains(&label.len())
            && (1..=VALUE_BYTES_MAX).contains(&value.len());
        if !is_good {
            let why = format!(
                "a label has 1 to {LABEL_BYTES_MAX} bytes and its value 1 to {VALUE_BYTES_MAX}"
            );
            return invalid("matchers", why);
        }
    }
    let (from_unix_nano, to_unix_nano) = (asked.from_unix_nano, asked.to_unix_nano);
    if from_unix_nano < 0 {
        return invalid("from_unix_nano", format!("is {from_unix_nano}, must not be negative"));
    }
    let from = match from_unix_nano {
        0 => now,
        from => Timestamp::from_unix_nanos(from),
    };
    let to = Timestamp::from_unix_nanos(to_unix_nano);
    if to <= now || to <= from {
        let why = format!("is {to_unix_nano}: end it in the future, after it begins");
        return invalid("to_unix_nano", why);
    }
    if to.since(from) > SILENCE_MAX {
        return invalid("to_unix_nano", "is over 366 days after the beginning".to_owned());
    }
    check_length("silence.comment", &asked.comment, TEXT_BYTES_MAX)?;
    Ok(suppression::Silence {
        id: asked.silence_id,
        matchers: asked.matchers.into_iter().collect(),
        from,
        to,
        author: String::new(),
        comment: asked.comment,
        hides_critical: asked.hides_critical,
    })
}

pub(super) async fn delete(
    handler: &AlertHandler,
    tenant: &Tenant,
    id: &str,
) -> Result<(), Refusal> {
    if handler.delete(tenant, SettingKind::Silence, id).await? { Ok(()) } else { Err(unknown(id)) }
}

fn unknown(id: &str) -> Refusal {
    Refusal::NotFound(format!("there is no silence {id:?}"))
}

fn wire(silence: suppression::Silence) -> v1::Silence {
    let suppression::Silence { id, matchers, from, to, author, comment, .. } = silence;
    v1::Silence {
        silence_id: id,
        matchers: matchers.into_iter().collect(),
        from_unix_nano: from.as_unix_nanos(),
        to_unix_nano: to.as_unix_nanos(),
        comment,
        author,
        hides_critical: silence.hides_critical,
    }
}
