//! Administration of the caller's own tenant: tokens, dead letters, deploy marks.

pub(crate) mod processes;
pub(crate) mod replay;
pub(crate) mod tenant;

use std::{sync::Arc, time::Duration};

use logweir_core::{
    identity::{Role, Service, ServiceScope, Tenant},
    limits::RESOURCE_FIELD_BYTES_MAX,
    runtime::clock::Clock,
    timestamp::Timestamp,
};
use logweir_proto::v1::{self, admin_service_server::AdminService};
use logweir_storage::{DeadLetter, Deploy, Storage, TokenRecord};
use tonic::{Request, Response, Status};

use self::{
    replay::{LETTERS_PAGE, Replay},
    tenant::SharedResources,
};
use crate::{
    auth::{Auth, issue, layer},
    ingest::Ingest,
    response_size::cut,
    status::Refusal,
};

const TTL_SECONDS_DEFAULT: u64 = 90 * 86_400;
// Shorter than a minute, a token would end while it is being copied; the longest is ten years.
const TTL_SECONDS_MIN: u64 = 60;
const TTL_SECONDS_MAX: u64 = 315_360_000;
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1_000;
const NAMED_IDS_MAX: usize = 10_000;
const PREVIEW_CHARACTERS: usize = 256;
const NOTE_BYTES_MAX: usize = 1_024;

/// Handles the admin service.
pub(crate) struct AdminHandler {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) clock: Clock,
    /// How many partitions the queue has.
    pub(crate) partitions: u16,
    pub(crate) shared: SharedResources,
}

#[tonic::async_trait]
impl AdminService for AdminHandler {
    async fn issue_token(
        &self,
        request: Request<v1::IssueTokenRequest>,
    ) -> Result<Response<v1::IssueTokenResponse>, Status> {
        let caller = layer::caller(&request)?;
        let asked = request.into_inner();
        let scope: ServiceScope = asked
            .service
            .parse()
            .map_err(|error| Refusal::invalid("service", format!("{error}, or * for any")))?;
        let role = role(asked.role)?;
        let ttl = ttl(asked.ttl_seconds)?;
        let now = (self.clock)();
        let (record, jwt) = issue(&self.auth.keys(), &caller.tenant, &scope, role, ttl, now);
        // Recorded before it is handed out: a token in use that no list shows could not be revoked.
        self.storage.insert_token(&caller.tenant, record.clone()).await.map_err(Refusal::from)?;
        Ok(Response::new(v1::IssueTokenResponse { token: Some(token(record)), jwt }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let caller = layer::caller(&request)?;
        let found = self.storage.list_tokens(&caller.tenant).await.map_err(Refusal::from)?;
        let (tokens, truncated) = cut(found.into_iter().map(token));
        Ok(Response::new(v1::ListTokensResponse { tokens, truncated }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let caller = layer::caller(&request)?;
        let token_id = request.into_inner().token_id;
        let record = self
            .storage
            .revoke_token(&caller.tenant, &token_id, (self.clock)())
            .await
            .map_err(Refusal::from)?;
        // Here it ends at once; other servers learn of it with their next look, within 2 s.
        self.auth.add_revoked(token_id);
        Ok(Response::new(v1::RevokeTokenResponse { token: Some(token(record)) }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        let caller = layer::caller(&request)?;
        let asked = request.into_inner();
        let limit = list_limit(asked.limit)?;
        let mut before = (asked.before_dead_letter_id > 0).then_some(asked.before_dead_letter_id);
        let mut found = Vec::new();
        // Page by page, each shortened to its preview before the next is read: a dead letter may be
        // as large as a request, and a thousand of them would be gigabytes.
        let total = loop {
            let page = LETTERS_PAGE.min(limit - found.len());
            let listed = self.storage.list_dead_letters(&caller.tenant, before, page).await;
            let (letters, total) = listed.map_err(Refusal::from)?;
            let is_last = letters.len() < page;
            found.extend(letters.into_iter().map(dead_letter));
            before = found.last().map(|letter| letter.dead_letter_id);
            if is_last || found.len() == limit {
                break total;
            }
        };
        let (dead_letters, _) = cut(found.into_iter());
        Ok(Response::new(v1::ListDeadLettersResponse { dead_letters, total }))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<v1::ReplayDeadLettersRequest>,
    ) -> Result<Response<v1::ReplayDeadLettersResponse>, Status> {
        let caller = layer::caller(&request)?;
        let ids = request.into_inner().dead_letter_ids;
        check_ids(&ids)?;
        let replay = Replay::begin(&self.storage, &self.ingest, &caller.tenant).await?;
        let answer = if ids.is_empty() { replay.all().await? } else { replay.named(&ids).await? };
        Ok(Response::new(answer))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<v1::DiscardDeadLettersRequest>,
    ) -> Result<Response<v1::DiscardDeadLettersResponse>, Status> {
        let caller = layer::caller(&request)?;
        let v1::DiscardDeadLettersRequest { dead_letter_ids: ids, all } = request.into_inner();
        check_ids(&ids)?;
        // An empty list alone must not mean everything: a script whose search found nothing would
        // throw all of them away.
        if ids.is_empty() != all {
            let why = "must be given, or else `all`, and not both";
            return Err(Refusal::invalid("dead_letter_ids", why).into());
        }
        let named = (!all).then_some(ids.as_slice());
        let discarded = self
            .storage
            .discard_dead_letters(&caller.tenant, named)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(v1::DiscardDeadLettersResponse { discarded }))
    }

    async fn mark_deploy(
        &self,
        request: Request<v1::MarkDeployRequest>,
    ) -> Result<Response<v1::MarkDeployResponse>, Status> {
        let caller = layer::caller(&request)?;
        let deploy = deploy(request.into_inner().deploy, (self.clock)())?;
        self.storage.insert_deploy(&caller.tenant, deploy.clone()).await.map_err(Refusal::from)?;
        Ok(Response::new(v1::MarkDeployResponse { deploy: Some(deploy_to_wire(deploy)) }))
    }

    async fn list_deploys(
        &self,
        request: Request<v1::ListDeploysRequest>,
    ) -> Result<Response<v1::ListDeploysResponse>, Status> {
        let caller = layer::caller(&request)?;
        let asked = request.into_inner();
        let limit = list_limit(asked.limit)?;
        let service = (!asked.service.is_empty()).then(|| service(&asked.service)).transpose()?;
        let found = self
            .storage
            .list_deploys(&caller.tenant, service.as_ref(), limit)
            .await
            .map_err(Refusal::from)?;
        let deploys = found.into_iter().map(deploy_to_wire).collect();
        Ok(Response::new(v1::ListDeploysResponse { deploys }))
    }

    async fn list_processes(
        &self,
        request: Request<v1::ListProcessesRequest>,
    ) -> Result<Response<v1::ListProcessesResponse>, Status> {
        let caller = layer::caller(&request)?;
        let silence_max = processes::silence_max(request.into_inner().silent_seconds_max)?;
        let found = self.storage.live_processes(silence_max).await.map_err(Refusal::from)?;
        let answer = processes::listed(found, self.partitions, (self.clock)());
        // Whoever runs the installation is the tenant that it has without a setting.
        let is_operator = caller.tenant == Tenant::default();
        let answer = if is_operator { answer } else { processes::without_work(answer) };
        Ok(Response::new(answer))
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Result<Response<v1::GetTenantResponse>, Status> {
        let caller = layer::caller(&request)?;
        let (tenant, rates) = (&caller.tenant, &self.ingest.rates);
        let usage = self.storage.usage(tenant).await.map_err(Refusal::from)?;
        Ok(Response::new(tenant::description(tenant, &self.shared, rates, usage)))
    }
}

fn role(number: i32) -> Result<Role, Refusal> {
    match v1::Role::try_from(number) {
        Ok(v1::Role::Ingest) => Ok(Role::Ingest),
        Ok(v1::Role::Viewer) => Ok(Role::Viewer),
        Ok(v1::Role::Admin) => Ok(Role::Admin),
        _ => Err(Refusal::invalid("role", "must be ingest, viewer or admin")),
    }
}

fn ttl(seconds: u64) -> Result<Duration, Refusal> {
    match seconds {
        0 => Ok(Duration::from_secs(TTL_SECONDS_DEFAULT)),
        TTL_SECONDS_MIN..=TTL_SECONDS_MAX => Ok(Duration::from_secs(seconds)),
        _ => {
            let why = format!("is {seconds}, must be {TTL_SECONDS_MIN} to {TTL_SECONDS_MAX}");
            Err(Refusal::invalid("ttl_seconds", why))
        }
    }
}

fn list_limit(limit: u32) -> Result<usize, Refusal> {
    match limit {
        0 => Ok(LIST_DEFAULT as usize),
        1..=LIST_MAX => Ok(limit as usize),
        _ => Err(Refusal::invalid("limit", format!("is {limit}, the limit is {LIST_MAX}"))),
    }
}

fn check_ids(ids: &[u64]) -> Result<(), Refusal> {
    if ids.len() <= NAMED_IDS_MAX {
        return Ok(());
    }
    let why = format!("has {} ids, the limit is {NAMED_IDS_MAX}", ids.len());
    Err(Refusal::invalid("dead_letter_ids", why))
}

fn service(name: &str) -> Result<Service, Refusal> {
    Service::new(name).map_err(|error| Refusal::invalid("service", error.to_string()))
}

fn deploy(sent: Option<v1::Deploy>, now: Timestamp) -> Result<Deploy, Refusal> {
    let sent = sent.ok_or_else(|| Refusal::invalid("deploy", "is missing"))?;
    for (field, text, limit) in [
        ("deploy.version", &sent.version, RESOURCE_FIELD_BYTES_MAX),
        ("deploy.note", &sent.note, NOTE_BYTES_MAX),
    ] {
        if text.len() > limit {
            let why = format!("is {} bytes, the limit is {limit}", text.len());
            return Err(Refusal::invalid(field, why));
        }
    }
    if sent.version.is_empty() {
        return Err(Refusal::invalid("deploy.version", "is empty: name the version"));
    }
    let time = match sent.time_unix_nano {
        0 => now,
        time if time > 0 => Timestamp::from_unix_nanos(time),
        time => {
            let why = format!("is {time}, must not be negative");
            return Err(Refusal::invalid("deploy.time_unix_nano", why));
        }
    };
    let service = service(&sent.service)?;
    Ok(Deploy { service, version: sent.version, time, note: sent.note })
}

fn deploy_to_wire(deploy: Deploy) -> v1::Deploy {
    v1::Deploy {
        service: deploy.service.to_string(),
        version: deploy.version,
        time_unix_nano: deploy.time.as_unix_nanos(),
        note: deploy.note,
    }
}

fn token(record: TokenRecord) -> v1::Token {
    let role = match record.role {
        Role::Ingest => v1::Role::Ingest,
        Role::Viewer => v1::Role::Viewer,
        Role::Admin => v1::Role::Admin,
    };
    v1::Token {
        token_id: record.token_id,
        service: record.service.to_string(),
        role: role.into(),
        issued_unix_nano: record.issued_at.as_unix_nanos(),
        expires_unix_nano: record.expires_at.as_unix_nanos(),
        revoked_unix_nano: record.revoked_at.map_or(0, Timestamp::as_unix_nanos),
    }
}

fn dead_letter(letter: DeadLetter) -> v1::DeadLetter {
    v1::DeadLetter {
        dead_letter_id: letter.dead_letter_id,
        created_unix_nano: letter.created_at.as_unix_nanos(),
        service: letter.resource.service.to_string(),
        batch_id: letter.batch_id.to_string(),
        index: letter.record.index,
        reason: letter.reason,
        detail: letter.detail,
        preview: letter.record.message.chars().take(PREVIEW_CHARACTERS).collect(),
        replayed_unix_nano: letter.replayed_at.map_or(0, Timestamp::as_unix_nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_bounds() {
        assert_eq!(ttl(0).unwrap().as_secs(), TTL_SECONDS_DEFAULT);
        assert_eq!(ttl(60).unwrap().as_secs(), 60);
        for bad in [59, TTL_SECONDS_MAX + 1] {
            let expected = format!("ttl_seconds: is {bad}, must be 60 to 315360000");
            assert_eq!(ttl(bad).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_deploy_is_checked_and_gets_a_time() {
        let now = Timestamp::from_unix_nanos(7);
        let sent = v1::Deploy { service: "a".into(), version: "1".into(), ..v1::Deploy::default() };
        assert_eq!(deploy(Some(sent.clone()), now).unwrap().time, now);
        for (bad, field) in [
            (None, "deploy:"),
            (Some(v1::Deploy { version: String::new(), ..sent.clone() }), "deploy.version:"),
            (Some(v1::Deploy { version: "x".repeat(257), ..sent.clone() }), "deploy.version:"),
            (Some(v1::Deploy { note: "x".repeat(1_025), ..sent.clone() }), "deploy.note:"),
            (Some(v1::Deploy { time_unix_nano: -1, ..sent.clone() }), "deploy.time_unix_nano:"),
            (Some(v1::Deploy { service: "a b".into(), ..sent }), "service:"),
        ] {
            let error = deploy(bad, Timestamp::from_unix_nanos(7)).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn a_role_must_be_named() {
        assert!(role(0).is_err() && role(9).is_err());
        assert_eq!(role(3), Ok(Role::Admin));
    }
}
