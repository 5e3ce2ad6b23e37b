//! Channels: set, shown without their secrets, and tested.

use logweir_core::{identity::Tenant, timestamp::Timestamp};
use logweir_incident::{
    action::Action,
    channel::{BreakerState, ChannelConfig, ChannelState},
    job::{AlertingJob, TestChannel, TestReport},
    rule::NAME_BYTES_MAX,
    setting::{Setting, SettingKind, StoredSetting},
};
use logweir_proto::v1;
use logweir_storage::JobKind;

use super::handler::{AlertHandler, check_room, others, parsed};
use crate::{jobs::Waits, response_size::cut, status::Refusal};

/// Channels of a tenant; alerting runs a worker for each.
const CHANNELS_MAX: usize = 100;

pub(super) async fn list(
    handler: &AlertHandler,
    tenant: &Tenant,
) -> Result<v1::ListChannelsResponse, Refusal> {
    let stored = handler.settings(tenant, SettingKind::Channel).await?;
    let mut states = handler.storage.channel_states(tenant).await?;
    let configs = stored.iter().filter_map(StoredSetting::channel);
    let channels = configs.map(|of| wire(of, &states.remove(&of.name).unwrap_or_default()));
    let (channels, truncated) = cut(channels);
    Ok(v1::ListChannelsResponse { channels, truncated })
}

pub(super) async fn put(
    handler: &AlertHandler,
    tenant: &Tenant,
    config: &str,
) -> Result<v1::PutChannelResponse, Refusal> {
    let mut config: ChannelConfig = parsed("config", config)?;
    check(&config)?;
    let stored = handler.settings(tenant, SettingKind::Channel).await?;
    check_room("channels", others(&stored, &config.name), CHANNELS_MAX)?;
    // Settings are shown with their secrets masked. Who changes one field and sends the rest back
    // sends the mask, and keeps what it stands for.
    let mut own = stored.iter().filter_map(StoredSetting::channel);
    if let Some(old) = own.find(|of| of.name == config.name) {
        config.keep_secrets(old);
    }
    config.check().map_err(|why| Refusal::invalid("config", why))?;
    // A warning and no refusal, or two channels that fall back on each other could never be made.
    let is_unknown = |name: &&String| !stored.iter().any(|setting| setting.name == **name);
    let unknown = config.fallback.iter().filter(is_unknown);
    let warnings = unknown.map(|name| format!("there is no channel {name:?} yet")).collect();
    let channel = Some(wire(&config, &ChannelState::default()));
    let reset = Action::ResetChannel { channel: config.name.clone() };
    handler.put(tenant, Setting::Channel(config)).await?;
    // New settings deserve a new attempt: with the breaker open after the old ones, people would
    // wait for its time-out and take the new ones for wrong.
    handler.ask(tenant, &reset).await?;
    Ok(v1::PutChannelResponse { channel, warnings })
}

fn check(config: &ChannelConfig) -> Result<(), Refusal> {
    let name = &config.name;
    let is_name = !name.trim().is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.chars().any(char::is_control);
    if !is_name {
        let why = format!("a name has 1 to {NAME_BYTES_MAX} bytes without control characters");
        return Err(Refusal::invalid("config.name", why));
    }
    if config.fallback.as_ref() == Some(name) {
        let why = "is the channel itself: name another, or none";
        return Err(Refusal::invalid("config.fallback", why));
    }
    Ok(())
}

pub(super) async fn delete(
    handler: &AlertHandler,
    tenant: &Tenant,
    name: &str,
) -> Result<(), Refusal> {
    if handler.delete(tenant, SettingKind::Channel, name).await? {
        return Ok(());
    }
    Err(unknown(name))
}

pub(super) async fn test(
    handler: &AlertHandler,
    tenant: &Tenant,
    name: &str,
) -> Result<v1::TestChannelResponse, Refusal> {
    let stored = handler.settings(tenant, SettingKind::Channel).await?;
    let mut own = stored.iter().filter_map(StoredSetting::channel);
    let config = own.find(|of| of.name == name).ok_or_else(|| unknown(name))?;
    config.check().map_err(|why| {
        Refusal::FailedPrecondition(format!("channel {name:?} cannot be used: {why}"))
    })?;
    let asked = AlertingJob::TestChannel(TestChannel { channel: name.to_owned() });
    let report: TestReport =
        handler.jobs.ask(tenant, JobKind::ChannelTest, &asked, Waits::Caller).await?;
    if report.succeeded {
        handler.ask(tenant, &Action::ResetChannel { channel: name.to_owned() }).await?;
    }
    Ok(tested(report))
}

fn unknown(name: &str) -> Refusal {
    Refusal::NotFound(format!("there is no channel {name:?}"))
}

fn tested(report: TestReport) -> v1::TestChannelResponse {
    let steps = report.steps.into_iter().map(|step| v1::TestStep {
        name: step.name,
        succeeded: step.succeeded,
        detail: step.detail,
        took_ms: step.took.as_secs_f64() * 1_000.0,
    });
    v1::TestChannelResponse {
        succeeded: report.succeeded,
        steps: steps.collect(),
        words: report.words,
    }
}

fn wire(config: &ChannelConfig, known: &ChannelState) -> v1::AlertChannel {
    let breaker = known.breaker.state;
    let state = match breaker {
        BreakerState::Closed => v1::ChannelState::Closed,
        BreakerState::Open { .. } => v1::ChannelState::Open,
        BreakerState::HalfOpen { .. } => v1::ChannelState::HalfOpen,
        BreakerState::RateLimited { .. } => v1::ChannelState::RateLimited,
        BreakerState::Misconfigured { .. } => v1::ChannelState::Misconfigured,
    };
    let until = match breaker {
        BreakerState::Open { until }
        | BreakerState::RateLimited { until, .. }
        | BreakerState::Misconfigured { until } => until.as_unix_nanos(),
        BreakerState::Closed | BreakerState::HalfOpen { .. } => 0,
    };
    v1::AlertChannel {
        name: config.name.clone(),
        config: config.masked().to_string(),
        state: state.into(),
        until_unix_nano: until,
        down_since_unix_nano: known.breaker.down_since.map_or(0, Timestamp::as_unix_nanos),
        last_error: known.last_error.clone(),
    }
}
