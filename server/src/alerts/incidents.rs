//! Incidents: shown from storage, changed by the leader.

use std::time::Duration;

use logweir_core::{identity::Tenant, timestamp::Timestamp};
use logweir_incident::{action::Action, incident::IncidentState};
use logweir_proto::v1::{self, act_on_incident_request::Action as Asked};
use logweir_storage::{IncidentQuery, StorageError, StoredIncident};

use super::{
    handler::{AlertHandler, TEXT_BYTES_MAX, check_length},
    incident_wire,
};
use crate::{
    auth::Caller,
    query::{bounded, service, time_range},
    response_size::cut,
    status::Refusal,
};

const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1_000;
/// Characters of a beginning by which an incident may be named; shorter ones fit too many.
const PREFIX_CHARS_MIN: usize = 4;
/// Incidents that a beginning of an id is looked for in.
const PREFIX_LOOKED_AT: usize = 1_000;
/// Of a beginning that several ids share, so many are named.
const NAMED_MAX: usize = 5;
const SNOOZE_MAX: Duration = Duration::from_secs(7 * 86_400);

pub(super) async fn list(
    handler: &AlertHandler,
    tenant: &Tenant,
    asked: v1::ListIncidentsRequest,
) -> Result<v1::ListIncidentsResponse, Refusal> {
    let query = IncidentQuery {
        service: service(&asked.service)?,
        is_open: asked.open,
        range: Some(time_range(asked.range)?),
        limit: bounded("limit", asked.limit, LIST_DEFAULT, LIST_MAX)? as usize,
    };
    let found = handler.storage.list_incidents(tenant, query).await?;
    let (incidents, truncated) = cut(found.into_iter().map(incident_wire::brief));
    Ok(v1::ListIncidentsResponse { incidents, truncated })
}

pub(super) async fn get(
    handler: &AlertHandler,
    tenant: &Tenant,
    id: &str,
) -> Result<v1::GetIncidentResponse, Refusal> {
    let found = find(handler, tenant, id).await?;
    let deliveries = handler.storage.deliveries_of(tenant, &found.incident_id).await?;
    let mut incident = incident_wire::full(found)?;
    incident.deliveries = deliveries.iter().map(incident_wire::delivery).collect();
    Ok(v1::GetIncidentResponse { incident: Some(incident) })
}

pub(super) async fn act(
    handler: &AlertHandler,
    caller: &Caller,
    asked: v1::ActOnIncidentRequest,
) -> Result<v1::ActOnIncidentResponse, Refusal> {
    let Some(action) = asked.action else {
        return Err(Refusal::invalid("action", "is missing: say what to do"));
    };
    check(&action, (handler.clock)())?;
    let found = find(handler, &caller.tenant, &asked.incident_id).await?;
    let incident_id = found.incident_id.clone();
    // Checked against what is stored now, so that the caller learns of a mistake at once. The
    // leader checks again when it takes the action: the incident may have ended meanwhile.
    check_state(&found, &action)?;
    let action = to_do(action, found.incident_id, caller.token_id().to_owned());
    handler.ask(&caller.tenant, &action).await?;
    Ok(v1::ActOnIncidentResponse { incident_id })
}

fn check(action: &Asked, now: Timestamp) -> Result<(), Refusal> {
    match action {
        Asked::Acknowledge(_) | Asked::Unacknowledge(_) => Ok(()),
        Asked::Resolve(resolve) => check_length("resolve.text", &resolve.text, TEXT_BYTES_MAX),
        Asked::Note(note) if note.text.trim().is_empty() => {
            Err(Refusal::invalid("note.text", "is empty: say what is worth writing down"))
        }
        Asked::Note(note) => check_length("note.text", &note.text, TEXT_BYTES_MAX),
        Asked::Snooze(snooze) => {
            let until = Timestamp::from_unix_nanos(snooze.until_unix_nano);
            if until > now && until.since(now) <= SNOOZE_MAX {
                return Ok(());
            }
            let why = "must be in the future and at most 7 days away";
            Err(Refusal::invalid("snooze.until_unix_nano", why))
        }
    }
}

fn check_state(found: &StoredIncident, action: &Asked) -> Result<(), Refusal> {
    let StoredIncident { incident_id, state, .. } = found;
    if matches!(action, Asked::Unacknowledge(_)) && *state == IncidentState::Firing {
        let message = format!("nobody has acknowledged incident {incident_id}");
        return Err(Refusal::FailedPrecondition(message));
    }
    if state.is_active() {
        return Ok(());
    }
    let message = format!("incident {incident_id} is {state}: only what fires can be changed");
    Err(Refusal::FailedPrecondition(message))
}

fn to_do(asked: Asked, incident_id: String, actor: String) -> Action {
    match asked {
        Asked::Acknowledge(_) => Action::Acknowledge { incident_id, actor },
        Asked::Unacknowledge(_) => Action::Unacknowledge { incident_id, actor },
        Asked::Resolve(v1::Resolve { text }) => Action::Resolve { incident_id, actor, text },
        Asked::Snooze(v1::Snooze { until_unix_nano }) => {
            let until = Timestamp::from_unix_nanos(until_unix_nano);
            Action::Snooze { incident_id, actor, until }
        }
        Asked::Note(v1::Note { text }) => Action::Note { incident_id, actor, text },
    }
}

/// The incident of an id, or of a beginning that no other shares.
async fn find(
    handler: &AlertHandler,
    tenant: &Tenant,
    id: &str,
) -> Result<StoredIncident, Refusal> {
    if id.is_empty() {
        return Err(Refusal::invalid("incident_id", "is empty: name an incident"));
    }
    match handler.storage.get_incident(tenant, id).await {
        Err(StorageError::NotFound(_)) if id.chars().count() >= PREFIX_CHARS_MIN => {}
        other => return Ok(other?),
    }
    // Only among the newest: people shorten ids that they have just seen.
    let query = IncidentQuery { limit: PREFIX_LOOKED_AT, ..IncidentQuery::default() };
    let mut found = handler.storage.list_incidents(tenant, query).await?;
    found.retain(|incident| incident.incident_id.starts_with(id));
    if found.len() > 1 {
        let ids: Vec<&str> =
            found.iter().map(|of| of.incident_id.as_str()).take(NAMED_MAX).collect();
        let why =
            format!("{} incidents begin with {id:?}, such as {}", found.len(), ids.join(", "));
        return Err(Refusal::invalid("incident_id", why));
    }
    found.pop().ok_or_else(|| Refusal::NotFound(format!("there is no incident {id:?}")))
}
