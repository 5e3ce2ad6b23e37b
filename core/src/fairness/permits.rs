//! Keeps account of what each tenant holds of something shared, and lets those that wait in by
//! turns.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    resource::{HeldShare, SharedResource},
    threshold::Threshold,
};
use crate::identity::Tenant;

/// Permits for amounts of something shared, by tenant. Clones share one account.
#[derive(Debug, Clone)]
pub struct TenantPermits(Arc<Shared>);

/// Why something is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The tenant has its share, of which it holds so much.
    OverShare {
        /// What it holds.
        held: u64,
        /// What it may hold at present.
        share: u64,
    },
    /// There is no room left, and the tenant holds little of it.
    Full,
}

/// The number of one that waits, or waited, in the line of its tenant.
// Neither copied nor lent to two: of two that wait with one number only one would be let in.
#[derive(Debug)]
pub struct LineNumber(u64);

/// What a tenant holds, until it is dropped.
#[derive(Debug)]
pub struct TenantPermit {
    shared: Arc<Shared>,
    tenant: Tenant,
    amount: u64,
}

#[derive(Debug)]
struct Shared {
    rule: Threshold,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held_by_all: u64,
    tenants: HashMap<Tenant, Account>,
    /// The tenants with somebody waiting, the one whose turn it is first.
    turns: VecDeque<Tenant>,
    /// The number of the next one that waits.
    next_number: u64,
}

#[derive(Debug, Default)]
struct Account {
    held: u64,
    /// By number, and so in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    amount: u64,
    granted: oneshot::Sender<TenantPermit>,
}

impl TenantPermits {
    /// Those of which one tenant alone may hold so much.
    pub fn for_one(alone_max: u64, alpha: u64) -> Self {
        Self::new(Threshold::for_one(alone_max, alpha))
    }

    /// Permits under a rule; nobody holds any.
    pub fn new(rule: Threshold) -> Self {
        Self(Arc::new(Shared { rule, state: Mutex::default() }))
    }

    /// Takes an amount at once, or says why not.
    ///
    /// # Errors
    ///
    /// If the tenant has its share, or nothing is left.
    pub fn try_take(&self, tenant: &Tenant, amount: u64) -> Result<TenantPermit, Refused> {
        let mut permit = self.nothing(tenant);
        permit.grow(amount)?;
        Ok(permit)
    }

    /// Whether a tenant could take an amount now; nothing is taken.
    ///
    /// # Errors
    ///
    /// If it could not.
    pub fn check(&self, tenant: &Tenant, amount: u64) -> Result<(), Refused> {
        self.0.state.lock().check(self.0.rule, tenant, amount)
    }

    /// A permit for nothing yet, to be grown.
    pub fn nothing(&self, tenant: &Tenant) -> TenantPermit {
        TenantPermit { shared: Arc::clone(&self.0), tenant: tenant.clone(), amount: 0 }
    }

    /// Takes an amount once there is room within the tenant's share. Tenants are let in by turns,
    /// and each one's requests in their order. To be given up, it is dropped.
    ///
    /// Nobody may wait here while it holds a permit of the same kind: two that each hold a part and
    /// wait for the other's would wait for ever. An amount above the total never comes.
    pub async fn take(&self, tenant: &Tenant, amount: u64) -> TenantPermit {
        self.take_at(&mut self.next_in_line(), tenant, amount).await
    }

    /// A number in the lines of those that wait: behind all that have one.
    pub fn next_in_line(&self) -> LineNumber {
        let mut state = self.0.state.lock();
        let number = state.next_number;
        state.next_number += 1;
        LineNumber(number)
    }

    /// As [`Self::take`], for one that has a number: it stands before those of its tenant that came
    /// later. So what gives its permit back for a while, that others have a turn, goes on before what
    /// has not begun. A number may be used again once the permit taken with it was given back.
    pub async fn take_at(&self, at: &mut LineNumber, tenant: &Tenant, amount: u64) -> TenantPermit {
        // Made before the channel, and so dropped after it: one that gives up leaves the line.
        let mut place = Place { shared: &self.0, tenant, number: None };
        let (granted, grant) = oneshot::channel();
        self.0.state.lock().wait(at.0, tenant, Waiting { amount, granted });
        place.number = Some(at.0);
        self.0.grant();
        let Ok(permit) = grant.await else {
            // The other end is dropped only by the place, which is here.
            return std::future::pending().await;
        };
        place.number = None;
        permit
    }

    /// What a tenant holds of them, which are permits for this resource.
    // Not what it may hold at present: that would tell it what others do.
    pub fn held_share(&self, resource: SharedResource, tenant: &Tenant) -> HeldShare {
        let account = |state: &State| state.tenants.get(tenant).map_or(0, |account| account.held);
        let held = account(&self.0.state.lock());
        HeldShare { resource, held, held_max: self.0.rule.share(0, 0) }
    }

    /// Whether another tenant than this one waits.
    pub fn is_awaited_by_others(&self, tenant: &Tenant) -> bool {
        self.0.state.lock().turns.iter().any(|waiting| waiting != tenant)
    }

    /// What all tenants hold.
    pub fn held_by_all(&self) -> u64 {
        self.0.state.lock().held_by_all
    }

    /// The part of the total that is held, 0 to 1.
    pub fn load(&self) -> f64 {
        self.held_by_all() as f64 / self.0.rule.total.max(1) as f64
    }
}

/// The place in line of one that waits, until it is let in.
struct Place<'a> {
    shared: &'a Arc<Shared>,
    tenant: &'a Tenant,
    number: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        self.shared.state.lock().leave(self.tenant, number);
        // Whoever stood behind it may ask for less.
        self.shared.grant();
    }
}

impl TenantPermit {
    /// How much is held.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes more at once, or says why not.
    ///
    /// # Errors
    ///
    /// As [`TenantPermits::try_take`]; what was held stays so.
    pub fn grow(&mut self, by: u64) -> Result<(), Refused> {
        self.shared.state.lock().take(self.shared.rule, &self.tenant, by)?;
        self.amount += by;
        Ok(())
    }

    /// Takes a part of what is held out, at most all, as a permit of its own.
    #[must_use]
    pub fn split(&mut self, amount: u64) -> Self {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Self { shared: Arc::clone(&self.shared), tenant: self.tenant.clone(), amount }
    }

    /// Gives all but an amount back.
    pub fn shrink_to(&mut self, amount: u64) {
        let given = self.amount.saturating_sub(amount);
        self.amount -= given;
        self.shared.give_back(&self.tenant, given);
    }
}

impl Drop for TenantPermit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

impl Shared {
    fn give_back(self: &Arc<Self>, tenant: &Tenant, amount: u64) {
        if amount == 0 {
            return;
        }
        self.state.lock().give_back(tenant, amount);
        self.grant();
    }

    /// Lets in whoever waits and now has room.
    fn grant(self: &Arc<Self>) {
        // Each is told without the lock: one that went away meanwhile drops its permit, and that
        // comes back here.
        while let Some((tenant, waiting)) = self.next_granted() {
            let permit = TenantPermit { shared: Arc::clone(self), tenant, amount: waiting.amount };
            drop(waiting.granted.send(permit));
        }
    }

    fn next_granted(&self) -> Option<(Tenant, Waiting)> {
        self.state.lock().next_granted(self.rule)
    }
}

impl State {
    fn check(&self, rule: Threshold, tenant: &Tenant, asked: u64) -> Result<(), Refused> {
        let held = self.tenants.get(tenant).map_or(0, |account| account.held);
        // Nothing is always given, to one over its share too: an empty message takes no room.
        if asked > 0 && !rule.admits(held, self.held_by_all, asked) {
            let share = rule.share(held, self.held_by_all);
            return Err(if held.saturating_add(asked) > share && held > 0 {
                Refused::OverShare { held, share }
            } else {
                Refused::Full
            });
        }
        Ok(())
    }

    fn take(&mut self, rule: Threshold, tenant: &Tenant, asked: u64) -> Result<(), Refused> {
        self.check(rule, tenant, asked)?;
        if asked > 0 {
            self.tenants.entry(tenant.clone()).or_default().held += asked;
            self.held_by_all += asked;
        }
        Ok(())
    }

    fn give_back(&mut self, tenant: &Tenant, amount: u64) {
        self.held_by_all -= amount;
        if let Some(account) = self.tenants.get_mut(tenant) {
            account.held -= amount;
        }
        self.forget_idle(tenant);
    }

    fn wait(&mut self, number: u64, tenant: &Tenant, waiting: Waiting) {
        let account = self.tenants.entry(tenant.clone()).or_default();
        if account.waiting.is_empty() {
            self.turns.push_back(tenant.clone());
        }
        account.waiting.insert(number, waiting);
    }

    fn leave(&mut self, tenant: &Tenant, number: u64) -> Option<Waiting> {
        let account = self.tenants.get_mut(tenant)?;
        let waiting = account.waiting.remove(&number)?;
        if account.waiting.is_empty() {
            self.turns.retain(|other| other != tenant);
        }
        self.forget_idle(tenant);
        Some(waiting)
    }

    /// Forgets what is kept of a tenant that no longer holds or waits.
    fn forget_idle(&mut self, tenant: &Tenant) {
        let is_idle = |account: &Account| account.held == 0 && account.waiting.is_empty();
        if self.tenants.get(tenant).is_some_and(is_idle) {
            self.tenants.remove(tenant);
        }
    }

    /// The first of those that wait, by turns of their tenants, for whom there is room.
    fn next_granted(&mut self, rule: Threshold) -> Option<(Tenant, Waiting)> {
        for _ in 0..self.turns.len() {
            let tenant = self.turns.pop_front()?;
            self.turns.push_back(tenant.clone());
            let (number, first) = self.tenants.get(&tenant)?.waiting.first_key_value()?;
            let (number, amount) = (*number, first.amount);
            if self.take(rule, &tenant, amount).is_ok() {
                return self.leave(&tenant, number).map(|waiting| (tenant, waiting));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    #[test]
    fn one_over_its_share_is_refused_and_another_one_is_not() {
        let permits = TenantPermits::for_one(100, 4);
        let (a, b) = (tenant("a"), tenant("b"));
        let held = permits.try_take(&b, 100).unwrap();
        let refused = permits.try_take(&b, 1).unwrap_err();
        assert_eq!(refused, Refused::OverShare { held: 100, share: 100 });
        assert!(permits.try_take(&a, 20).is_ok());
        assert_eq!(permits.try_take(&a, 26).unwrap_err(), Refused::Full);
        drop(held);
        assert_eq!(permits.held_by_all(), 0);
        assert!(permits.0.state.lock().tenants.is_empty());
    }

    #[test]
    fn a_permit_grows_and_shrinks() {
        let permits = TenantPermits::for_one(100, 4);
        let mut permit = permits.nothing(&tenant("a"));
        permit.grow(60).unwrap();
        assert!(permit.grow(60).is_err());
        assert_eq!((permit.amount(), permits.held_by_all()), (60, 60));
        permit.shrink_to(10);
        assert_eq!((permit.amount(), permits.held_by_all()), (10, 10));
        let part = permit.split(4);
        assert_eq!((part.amount(), permit.amount(), permits.held_by_all()), (4, 6, 10));
        drop(part);
        assert_eq!(permit.split(9).amount(), 6);
        assert_eq!(permits.held_by_all(), 0);
    }

    #[tokio::test]
    async fn those_that_wait_are_let_in_by_turns_of_their_tenants() {
        let permits = TenantPermits::new(Threshold { total: 10, alpha: 9 });
        let (a, b) = (tenant("a"), tenant("b"));
        let held = permits.try_take(&b, 10).unwrap();
        let mut of_b: Vec<_> = (0..5).map(|_| Box::pin(permits.take(&b, 4))).collect();
        assert!(of_b.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        let mut of_a = Box::pin(permits.take(&a, 4));
        assert!((&mut of_a).now_or_never().is_none());
        drop(held);
        let first = (&mut of_b[0]).now_or_never().expect("the first in its turn");
        let second = (&mut of_a).now_or_never().expect("the other tenant, before b's second");
        assert!((&mut of_b[1]).now_or_never().is_none());
        drop((first, second));
        assert!((&mut of_b[1]).now_or_never().is_some());
    }

    #[tokio::test]
    async fn one_that_lets_others_go_first_stands_before_what_came_later() {
        let permits = TenantPermits::new(Threshold { total: 10, alpha: 9 });
        let (a, b) = (tenant("a"), tenant("b"));
        let mut first = permits.next_in_line();
        let held = permits.take_at(&mut first, &b, 9).await;
        let mut later = Box::pin(permits.take(&b, 9));
        assert!((&mut later).now_or_never().is_none());
        assert!(permits.is_awaited_by_others(&a) && !permits.is_awaited_by_others(&b));
        let mut of_a = Box::pin(permits.take(&a, 9));
        assert!((&mut of_a).now_or_never().is_none());
        assert!(permits.is_awaited_by_others(&b));
        drop(held);
        let mut again = Box::pin(permits.take_at(&mut first, &b, 9));
        assert!((&mut again).now_or_never().is_none());
        // It was its tenant's turn while the first was away.
        let of_later = (&mut later).now_or_never().expect("b stood in line before a");
        drop(of_later);
        let of_a = (&mut of_a).now_or_never().expect("a's turn");
        let mut latest = Box::pin(permits.take(&b, 9));
        assert!((&mut latest).now_or_never().is_none());
        drop(of_a);
        assert!((&mut latest).now_or_never().is_none());
        assert!(again.now_or_never().is_some(), "before the latest");
    }

    #[tokio::test]
    async fn one_that_gives_up_waiting_holds_nothing() {
        let permits = TenantPermits::new(Threshold { total: 10, alpha: 9 });
        let (a, b) = (tenant("a"), tenant("b"));
        let held = permits.try_take(&a, 10).unwrap();
        let mut gone = Box::pin(permits.take(&b, 5));
        assert!((&mut gone).now_or_never().is_none());
        drop(gone);
        let mut stays = Box::pin(permits.take(&b, 10));
        assert!((&mut stays).now_or_never().is_none());
        drop(held);
        assert!(stays.now_or_never().is_some());
        assert_eq!(permits.held_by_all(), 0);
        let state = permits.0.state.lock();
        assert!(state.tenants.is_empty() && state.turns.is_empty());
    }

    #[tokio::test]
    async fn one_that_gives_up_lets_in_who_stands_behind_it() {
        let permits = TenantPermits::new(Threshold { total: 10, alpha: 9 });
        let (a, b) = (tenant("a"), tenant("b"));
        let _held = permits.try_take(&a, 6).unwrap();
        let mut first = Box::pin(permits.take(&b, 5));
        assert!((&mut first).now_or_never().is_none());
        let mut second = Box::pin(permits.take(&b, 2));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    proptest! {
        #[test]
        fn the_account_is_the_sum_of_what_is_held(
            steps in prop::collection::vec((0..3_usize, 0..40_u64, any::<bool>()), 0..200),
        ) {
            let permits = TenantPermits::new(Threshold { total: 100, alpha: 2 });
            let tenants = ["a", "b", "c"].map(tenant);
            let mut held: Vec<TenantPermit> = Vec::new();
            for (number, amount, takes) in steps {
                if takes {
                    held.extend(permits.try_take(&tenants[number], amount));
                } else if !held.is_empty() {
                    held.remove(amount as usize % held.len());
                }
                let sum: u64 = held.iter().map(TenantPermit::amount).sum();
                prop_assert_eq!(permits.held_by_all(), sum);
                prop_assert!(sum <= 100);
            }
            drop(held);
            prop_assert!(permits.0.state.lock().tenants.is_empty());
        }
    }
}
