//! Rules, built-in and stored.

use std::time::Duration;

use logweir_core::{identity::Tenant, timestamp::Timestamp};
use logweir_incident::{
    built_in,
    channel::ChannelConfig,
    job::{AlertingJob, PREVIEW_MAX, Preview, PreviewRule},
    rule::{RULES_MAX, Rule},
    setting::{Setting, SettingKind, StoredSetting},
};
use logweir_proto::v1;
use logweir_storage::{JobKind, TimeRange};

use super::{
    handler::{AlertHandler, check_room, parsed},
    incident_wire,
};
use crate::{
    jobs::Waits,
    query::time_range,
    response_size::cut,
    status::{Refusal, Violation},
};

const DAY: Duration = Duration::from_secs(86_400);

pub(super) async fn list(
    handler: &AlertHandler,
    tenant: &Tenant,
) -> Result<v1::ListRulesResponse, Refusal> {
    let stored = handler.settings(tenant, SettingKind::Rule).await?;
    // A stored rule takes the place of the built-in one of its name, which is how people change or
    // turn off what is built in.
    let is_replaced = |rule: &Rule| stored.iter().any(|setting| setting.name == rule.name);
    let built_in = built_in::rules().into_iter().filter(|rule| !is_replaced(rule));
    let own = stored.iter().filter_map(StoredSetting::rule);
    let all = built_in.map(|rule| wire(&rule, true)).chain(own.map(|rule| wire(rule, false)));
    let (rules, truncated) = cut(all);
    Ok(v1::ListRulesResponse { rules, truncated })
}

pub(super) async fn put(
    handler: &AlertHandler,
    tenant: &Tenant,
    definition: &str,
) -> Result<v1::PutRuleResponse, Refusal> {
    let rule = checked(definition)?;
    // Not by reading all of them: each put would cost what ten thousand take.
    let others = handler.count_others(tenant, SettingKind::Rule, &rule.name).await?;
    check_room("rules", others, RULES_MAX)?;
    let warnings = unknown_channels(handler, tenant, &rule).await?;
    let shown = Some(wire(&rule, false));
    handler.put(tenant, Setting::Rule(rule)).await?;
    Ok(v1::PutRuleResponse { rule: shown, warnings })
}

fn checked(definition: &str) -> Result<Rule, Refusal> {
    let rule: Rule = parsed("definition", definition)?;
    let violation = |why| Violation { field: "definition".to_owned(), why };
    let found: Vec<Violation> = rule.validate().into_iter().map(violation).collect();
    if found.is_empty() { Ok(rule) } else { Err(Refusal::Invalid(found)) }
}

pub(super) async fn try_out(
    handler: &AlertHandler,
    tenant: &Tenant,
    asked: v1::PreviewRuleRequest,
) -> Result<v1::PreviewRuleResponse, Refusal> {
    // A rule that is turned off would find nothing.
    let rule = Rule { enabled: true, ..checked(&asked.definition)? };
    let range = previewed_range(asked.range, (handler.clock)())?;
    let TimeRange { from, to } = range;
    let asked = AlertingJob::PreviewRule(PreviewRule { rule, from, to });
    let found: Preview =
        handler.jobs.ask(tenant, JobKind::RulePreview, &asked, Waits::Caller).await?;
    let (incidents, is_cut) = cut(found.incidents.into_iter().map(incident_wire::previewed));
    let range = Some(v1::TimeRange {
        from_unix_nano: found.from.as_unix_nanos(),
        to_unix_nano: to.as_unix_nanos(),
    });
    Ok(v1::PreviewRuleResponse { incidents, truncated: found.truncated || is_cut, range })
}

fn previewed_range(asked: Option<v1::TimeRange>, now: Timestamp) -> Result<TimeRange, Refusal> {
    let mut asked = time_range(asked)?;
    // What has not happened yet would count as silence, and a rule about silence would fire.
    asked.to = asked.to.min(now);
    if asked.from == Timestamp::EPOCH {
        asked.from = asked.to - DAY;
    }
    if asked.to <= asked.from {
        return Err(Refusal::invalid("range", "is in the future: preview the past"));
    }
    if asked.to.since(asked.from) > PREVIEW_MAX {
        return Err(Refusal::invalid("range", "is longer than 7 days: ask for a shorter one"));
    }
    Ok(asked)
}

async fn unknown_channels(
    handler: &AlertHandler,
    tenant: &Tenant,
    rule: &Rule,
) -> Result<Vec<String>, Refusal> {
    if rule.channels.is_empty() {
        return Ok(Vec::new());
    }
    let stored = handler.settings(tenant, SettingKind::Channel).await?;
    // Told and not refused, so that rules and channels can be set up in either order.
    let channels: Vec<&ChannelConfig> = stored.iter().filter_map(StoredSetting::channel).collect();
    let is_unknown = |name: &&String| !channels.iter().any(|channel| channel.name == **name);
    let unknown = rule.channels.iter().filter(is_unknown);
    Ok(unknown.map(|name| format!("there is no channel {name:?} yet")).collect())
}

pub(super) async fn delete(
    handler: &AlertHandler,
    tenant: &Tenant,
    name: &str,
) -> Result<(), Refusal> {
    if handler.delete(tenant, SettingKind::Rule, name).await? {
        return Ok(());
    }
    if built_in::rules().iter().any(|rule| rule.name == name) {
        return Err(Refusal::FailedPrecondition(format!(
            "rule {name:?} is built in: store a rule of this name with `enabled` false instead"
        )));
    }
    Err(Refusal::NotFound(format!("there is no stored rule {name:?}")))
}

fn wire(rule: &Rule, built_in: bool) -> v1::AlertRule {
    v1::AlertRule {
        name: rule.name.clone(),
        definition: serde_json::to_string(rule).expect("plain data is JSON"),
        built_in,
        enabled: rule.enabled,
    }
}
