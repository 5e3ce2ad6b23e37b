//! What the caller's tenant may use of what all tenants share, and what it uses.

use std::sync::Arc;

use logweir_core::{
    fairness::{
        permits::TenantPermits,
        resource::{HeldShare, SharedResource},
    },
    identity::Tenant,
};
use logweir_proto::v1;
use logweir_queue::Publisher;
use logweir_storage::TenantUsage;

use crate::{
    ingest::rate_limit::RateLimits,
    listener::{message_body::Budget, response_body::UnsentBytes},
};

/// What tenants share of this server. Clones share one account.
#[derive(Clone)]
pub(crate) struct SharedResources {
    pub(crate) budget: Budget,
    pub(crate) unsent: UnsentBytes,
    pub(crate) tails: TenantPermits,
    pub(crate) connections: TenantPermits,
    pub(crate) publisher: Arc<dyn Publisher>,
}

impl SharedResources {
    fn held_by(&self, tenant: &Tenant) -> impl Iterator<Item = HeldShare> {
        let of_server = [
            self.connections.held_share(SharedResource::Connections, tenant),
            self.budget.held_share(tenant),
            self.unsent.held_share(tenant),
            self.tails.held_share(SharedResource::Tails, tenant),
        ];
        of_server.into_iter().chain(self.publisher.held_shares(tenant))
    }
}

/// What a tenant is told of itself: nothing that depends on what others do.
pub(crate) fn description(
    tenant: &Tenant,
    shared: &SharedResources,
    rates: &RateLimits,
    usage: TenantUsage,
) -> v1::GetTenantResponse {
    let shares = shared.held_by(tenant).map(|share| v1::TenantShare {
        resource: share.resource.name().to_owned(),
        held: share.held,
        held_max: share.held_max,
    });
    let rate_limits = rates.limits().map(|(quota, per_second)| v1::RateLimit {
        quota: quota.to_owned(),
        per_second: per_second.get(),
    });
    v1::GetTenantResponse {
        tenant: tenant.to_string(),
        shares: shares.collect(),
        rate_limits: rate_limits.collect(),
        stored_bytes: usage.own_bytes,
        dead_letters: usage.dead_letters,
        expired_dead_letters: usage.expired_dead_letters,
    }
}
