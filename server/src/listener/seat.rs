//! A connection's place among those of all tenants.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use logweir_core::{
    fairness::{
        permits::{TenantPermit, TenantPermits},
        resource::SharedResource,
    },
    identity::Tenant,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::status::Refusal;

/// A connection must send its first request within this.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that is refused stays open, so that its client reads why.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What each request of a connection carries: it belongs to the tenant of the first of them that has
/// a valid token. Clones are one seat.
#[derive(Clone)]
pub(crate) struct Seat(Arc<State>);

struct State {
    connections: TenantPermits,
    claimed: OnceLock<TenantPermit>,
    asked: OnceLock<()>,
    refused: CancellationToken,
}

impl Seat {
    /// Nobody's yet.
    pub(crate) fn new(connections: TenantPermits) -> Self {
        let (claimed, asked) = (OnceLock::new(), OnceLock::new());
        Self(Arc::new(State { connections, claimed, asked, refused: CancellationToken::new() }))
    }

    /// A whole head of a request came.
    pub(crate) fn note_request(&self) {
        self.0.asked.get_or_init(|| ());
    }

    /// Takes it for a tenant, if it is nobody's yet.
    ///
    /// # Errors
    ///
    /// If the tenant has its share of connections: this one then ends.
    pub(crate) fn claim(&self, tenant: &Tenant) -> Result<(), Refusal> {
        if self.0.claimed.get().is_some() {
            return Ok(());
        }
        match self.0.connections.try_take(tenant, 1) {
            Ok(permit) => {
                // Of two requests at once one is too late, and gives its permit back.
                drop(self.0.claimed.set(permit));
                Ok(())
            }
            Err(why) => {
                self.0.refused.cancel();
                Err(Refusal::no_permit(why, SharedResource::Connections, tenant, RETRY_AFTER))
            }
        }
    }

    /// Resolves when the connection must end: it asked nothing in time, or was refused.
    pub(crate) async fn must_end(&self) {
        let silent = async {
            sleep(FIRST_REQUEST_TIMEOUT).await;
            if self.0.asked.get().is_some() {
                std::future::pending().await
            }
        };
        let refused = async {
            self.0.refused.cancelled().await;
            sleep(REFUSAL_TIME).await;
            // Another request of the connection may have taken the seat meanwhile.
            if self.0.claimed.get().is_some() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = silent => {}
            () = refused => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use logweir_core::fairness::threshold::Threshold;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_nothing_must_end() {
        let connections = TenantPermits::new(Threshold { total: 10, alpha: 3 });
        let (silent, asking) = (Seat::new(connections.clone()), Seat::new(connections));
        asking.note_request();
        let begun = tokio::time::Instant::now();
        silent.must_end().await;
        assert_eq!(begun.elapsed(), FIRST_REQUEST_TIMEOUT);
        let asked = tokio::time::timeout(Duration::from_secs(36_000), asking.must_end()).await;
        assert!(asked.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_with_its_share_gets_no_more_and_leaves_some() {
        let connections = TenantPermits::new(Threshold { total: 4, alpha: 3 });
        let seat = || Seat::new(connections.clone());
        let (a, b) = (Tenant::new("a").unwrap(), Tenant::new("b").unwrap());
        let seats = [seat(), seat(), seat()];
        for seat in &seats {
            seat.note_request();
            seat.claim(&b).unwrap();
            seat.claim(&b).unwrap();
        }
        let (refused, other) = (seat(), seat());
        refused.note_request();
        assert_eq!(refused.claim(&b).unwrap_err().reason(), "TENANT_SHARE");
        refused.must_end().await;
        other.note_request();
        other.claim(&b).unwrap_err();
        other.claim(&a).unwrap();
        for stays in [&seats[0], &other] {
            let hour = Duration::from_secs(3_600);
            assert!(tokio::time::timeout(hour, stays.must_end()).await.is_err());
        }
        drop((seats, other));
        assert_eq!(connections.held_by_all(), 0);
    }
}
