//! A connection's place among those of all tenants, and among those that are nobody's yet.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use logweir_core::{
    fairness::{
        permits::{TenantPermit, TenantPermits},
        resource::SharedResource,
    },
    identity::Tenant,
};
use metrics::gauge;
use parking_lot::Mutex;
use tokio::{sync::OwnedSemaphorePermit, time::sleep};
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
    /// The connection's own room: kept for as long as anything of it lives, a WebSocket too, which is
    /// no connection of HTTP any more.
    _room: Option<Room>,
    connections: TenantPermits,
    claimed: OnceLock<TenantPermit>,
    asked: OnceLock<()>,
    refused: CancellationToken,
    evicted: CancellationToken,
}

struct Room {
    _permit: OwnedSemaphorePermit,
}

impl Drop for Room {
    fn drop(&mut self) {
        gauge!("logweir_connections").decrement(1);
    }
}

/// The seats that are nobody's, oldest first: whoever is there shows no token, and gives way to whoever
/// comes when all are taken. Many that only connect would else keep everybody out.
#[derive(Default)]
pub(crate) struct UnclaimedSeats(Mutex<VecDeque<Weak<State>>>);

impl UnclaimedSeats {
    /// Notes a new seat.
    pub(crate) fn note(&self, seat: &Seat) {
        let mut seats = self.0.lock();
        // Those that were claimed or have ended are dropped from time to time, so that what is kept
        // is at most twice what there is.
        if seats.len() == seats.capacity() {
            seats.retain(|seat| seat.upgrade().is_some_and(|seat| seat.claimed.get().is_none()));
        }
        seats.push_back(Arc::downgrade(&seat.0));
    }

    /// Ends the oldest; whether there was one.
    pub(crate) fn end_oldest(&self) -> bool {
        let mut seats = self.0.lock();
        while let Some(oldest) = seats.pop_front() {
            if let Some(oldest) = oldest.upgrade().filter(|seat| seat.claimed.get().is_none()) {
                oldest.evicted.cancel();
                return true;
            }
        }
        false
    }
}

impl Seat {
    /// Nobody's yet, in this room.
    pub(crate) fn within(permit: OwnedSemaphorePermit, connections: TenantPermits) -> Self {
        gauge!("logweir_connections").increment(1);
        Self::new(Some(Room { _permit: permit }), connections)
    }

    fn new(room: Option<Room>, connections: TenantPermits) -> Self {
        let (claimed, asked) = (OnceLock::new(), OnceLock::new());
        let (refused, evicted) = (CancellationToken::new(), CancellationToken::new());
        Self(Arc::new(State { _room: room, connections, claimed, asked, refused, evicted }))
    }

    /// Resolves when it is to give way to another connection.
    pub(crate) async fn evicted(&self) {
        self.0.evicted.cancelled().await;
        // A request that was under way may have claimed it meanwhile.
        if self.0.claimed.get().is_some() {
            std::future::pending().await
        }
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

    /// Resolves when the connection must end: it asked nothing in time, was refused, or gives way.
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
            () = self.evicted() => {}
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
        let (silent, asking) = (Seat::new(None, connections.clone()), Seat::new(None, connections));
        asking.note_request();
        let begun = tokio::time::Instant::now();
        silent.must_end().await;
        assert_eq!(begun.elapsed(), FIRST_REQUEST_TIMEOUT);
        let asked = tokio::time::timeout(Duration::from_secs(36_000), asking.must_end()).await;
        assert!(asked.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_that_is_nobodys_gives_way() {
        let connections = TenantPermits::new(Threshold { total: 10, alpha: 3 });
        let unclaimed = UnclaimedSeats::default();
        let seats: Vec<_> = (0..4).map(|_| Seat::new(None, connections.clone())).collect();
        seats.iter().for_each(|seat| unclaimed.note(seat));
        seats[0].claim(&Tenant::default()).unwrap();
        let [claimed, ended, oldest, newest]: [Seat; 4] = seats.try_into().ok().unwrap();
        drop(ended);
        let begun = tokio::time::Instant::now();
        assert!(unclaimed.end_oldest());
        oldest.must_end().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(unclaimed.end_oldest());
        newest.claim(&Tenant::default()).unwrap();
        for stays in [&claimed, &newest] {
            stays.note_request();
            let hour = Duration::from_secs(3_600);
            assert!(tokio::time::timeout(hour, stays.must_end()).await.is_err());
        }
        assert!(!unclaimed.end_oldest(), "the others are somebody's");
        for _ in 0..1_000 {
            unclaimed.note(&Seat::new(None, connections.clone()));
        }
        assert!(unclaimed.0.lock().len() < 100, "what has ended is not kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_with_its_share_gets_no_more_and_leaves_some() {
        let connections = TenantPermits::new(Threshold { total: 4, alpha: 3 });
        let seat = || Seat::new(None, connections.clone());
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
