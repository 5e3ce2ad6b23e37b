//! The notification policy.

use logweir_core::identity::Tenant;
use logweir_incident::{
    policy::Policy,
    setting::{Setting, SettingKind, StoredSetting},
};
use logweir_proto::v1;

use super::handler::{AlertHandler, parsed};
use crate::status::{Refusal, Violation};

pub(super) async fn get(
    handler: &AlertHandler,
    tenant: &Tenant,
) -> Result<v1::GetNotificationPolicyResponse, Refusal> {
    let stored = handler.settings(tenant, SettingKind::Policy).await?;
    let policy = stored.iter().find_map(StoredSetting::policy).cloned().unwrap_or_default();
    Ok(v1::GetNotificationPolicyResponse { definition: json(&policy) })
}

pub(super) async fn put(
    handler: &AlertHandler,
    tenant: &Tenant,
    definition: &str,
) -> Result<v1::PutNotificationPolicyResponse, Refusal> {
    let policy: Policy = parsed("definition", definition)?;
    let violation = |why| Violation { field: "definition".to_owned(), why };
    let found: Vec<Violation> = policy.validate().into_iter().map(violation).collect();
    if !found.is_empty() {
        return Err(Refusal::Invalid(found));
    }
    let definition = json(&policy);
    handler.put(tenant, Setting::Policy(policy)).await?;
    Ok(v1::PutNotificationPolicyResponse { definition })
}

fn json(policy: &Policy) -> String {
    serde_json::to_string(policy).expect("plain data is JSON")
}
