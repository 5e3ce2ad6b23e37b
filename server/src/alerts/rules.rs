//! Rules, built-in and stored.

use logweir_alerting::{
    built_in,
    channel::ChannelConfig,
    file::{RULES_MAX, mistakes},
    live::settings::{CHANNEL, RULE},
    rule::Rule,
};
use logweir_core::identity::Tenant;
use logweir_proto::v1;

use super::{AlertDoor, check_room, parsed, read};
use crate::{
    answer::cut,
    status::{Refusal, Violation},
};

pub(super) async fn list(
    door: &AlertDoor,
    tenant: &Tenant,
) -> Result<v1::ListRulesResponse, Refusal> {
    let stored = door.settings(tenant, RULE).await?;
    let is_replaced = |rule: &Rule| stored.iter().any(|setting| setting.name == rule.name);
    let built_in = built_in::rules().into_iter().filter(|rule| !is_replaced(rule));
    let own = stored.iter().filter_map(read::<Rule>);
    let all = built_in.map(|rule| wire(&rule, true)).chain(own.map(|rule| wire(&rule, false)));
    let (rules, truncated) = cut(all);
    Ok(v1::ListRulesResponse { rules, truncated })
}

pub(super) async fn put(
    door: &AlertDoor,
    tenant: &Tenant,
    definition: &str,
) -> Result<v1::PutRuleResponse, Refusal> {
    let rule: Rule = parsed("definition", definition)?;
    let found: Vec<Violation> = mistakes(&rule)
        .into_iter()
        .map(|why| Violation { field: "definition".to_owned(), why })
        .collect();
    if !found.is_empty() {
        return Err(Refusal::Invalid(found));
    }
    let stored = door.settings(tenant, RULE).await?;
    check_room("rules", &stored, &rule.name, RULES_MAX)?;
    let warnings = unknown_channels(door, tenant, &rule).await?;
    door.put(tenant, RULE, &rule.name, &rule).await?;
    Ok(v1::PutRuleResponse { rule: Some(wire(&rule, false)), warnings })
}

async fn unknown_channels(
    door: &AlertDoor,
    tenant: &Tenant,
    rule: &Rule,
) -> Result<Vec<String>, Refusal> {
    if rule.channels.is_empty() {
        return Ok(Vec::new());
    }
    let stored = door.settings(tenant, CHANNEL).await?;
    let channels: Vec<ChannelConfig> = stored.iter().filter_map(read).collect();
    let is_unknown = |name: &&String| !channels.iter().any(|channel| channel.name == **name);
    let unknown = rule.channels.iter().filter(is_unknown);
    Ok(unknown.map(|name| format!("there is no channel {name:?} yet")).collect())
}

pub(super) async fn delete(door: &AlertDoor, tenant: &Tenant, name: &str) -> Result<(), Refusal> {
    if door.delete(tenant, RULE, name).await? {
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
