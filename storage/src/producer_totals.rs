//! The accounts of a service's producers, added up. Whoever wants sums reads a row for each service,
//! and not the accounts, of which one token may make as many as it likes.
//!
//! The sums of a service are those of the rows of its producers: whatever changes an account changes
//! them by the difference, in the same transaction.

use std::collections::{BTreeMap, btree_map};

use logweir_core::identity::Service;

use crate::{PRODUCERS_MAX, ledger_rules::ProducerAccount, missing_logs};

/// The columns of the sums, in the order of [`Figures`].
pub(crate) const FIGURES: [&str; 8] =
    ["producers", "emitted", "dropped", "queued", "spooled", "stored", "dead_lettered", "missing"];

// What stands in an account is its sender's to say, up to 2^64 - 1. Sums that stayed at their limit
// would be wrong for ever once what they are of left again; so each account is bounded, and a sum of a
// million such is still exact. The bound is three years of 100,000 logs a second.
/// No figure of one account counts more in the sums.
pub(crate) const ACCOUNT_FIGURE_MAX: i64 = 1 << 43;
/// Producers of a service that a report lists.
pub(crate) const LISTED_OF_SERVICE_MAX: usize = 2_000;
// Each is read and written whole, and commits wait behind a step.
/// Producers that upkeep takes off the list at a time.
pub(crate) const UNLISTED_PER_STEP: usize = 250;

/// What an account adds to the sums, or by how much these change.
pub(crate) type Figures = [i64; FIGURES.len()];

/// The accounts of all producers of a service, added up; those too that a report does not list.
/// Producers silent for 90 days are forgotten, and are in no sum.
///
/// No figure of one producer counts more than 2^43 in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerTotals {
    /// The service.
    pub service: Service,
    /// How many producers it has.
    pub producers: u64,
    /// Logs handed to the client libraries.
    pub emitted: u64,
    /// Logs given up, for any reason.
    pub dropped: u64,
    /// Logs in memory in no batch, as each producer said last.
    pub queued: u64,
    /// Logs in spools, as each producer said last.
    pub spooled: u64,
    /// Logs that are stored.
    pub stored: u64,
    /// Logs that were dead-lettered.
    pub rejected: u64,
    /// Logs that are missing, of those producers that lack some. One that has stored more than it
    /// said does not make up for another.
    pub missing: u64,
}

impl ProducerTotals {
    /// From the row of a service.
    pub(crate) fn of(service: Service, figures: Figures) -> Self {
        let [producers, emitted, dropped, queued, spooled, stored, rejected, missing] =
            figures.map(i64::unsigned_abs);
        Self { service, producers, emitted, dropped, queued, spooled, stored, rejected, missing }
    }
}

/// Which producers are too many: of a service, or of all of a tenant. The idlest are taken off the
/// list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unlisted<T> {
    pub(crate) tenant: T,
    /// Of this one alone.
    pub(crate) service: Option<String>,
    /// How many, at most [`UNLISTED_PER_STEP`].
    pub(crate) count: usize,
}

/// Whose producers are too many, of how many each service has on the list: those of a service first,
/// so that the producers of other services stay.
pub(crate) fn too_many<T: Clone + Ord>(listed: &[(T, String, usize)]) -> Option<Unlisted<T>> {
    let of_service = listed.iter().find(|(_, _, count)| *count > LISTED_OF_SERVICE_MAX);
    if let Some((tenant, service, count)) = of_service {
        let count = (count - LISTED_OF_SERVICE_MAX).min(UNLISTED_PER_STEP);
        return Some(Unlisted { tenant: tenant.clone(), service: Some(service.clone()), count });
    }
    let mut of_tenants: BTreeMap<&T, usize> = BTreeMap::new();
    for (tenant, _, count) in listed {
        *of_tenants.entry(tenant).or_default() += count;
    }
    let (tenant, count) = of_tenants.into_iter().find(|(_, count)| *count > PRODUCERS_MAX)?;
    let count = (count - PRODUCERS_MAX).min(UNLISTED_PER_STEP);
    Some(Unlisted { tenant: tenant.clone(), service: None, count })
}

/// By how much the sums of services change in a transaction; `T` names a tenant.
#[derive(Debug)]
pub(crate) struct TotalChanges<T>(BTreeMap<(T, String), Figures>);

impl<T> Default for TotalChanges<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> TotalChanges<T> {
    /// Takes an account, as it is in its row, out of the sums.
    pub(crate) fn subtract(&mut self, tenant: T, account: &ProducerAccount) {
        self.change(tenant, account, -1);
    }

    /// Adds an account, as it is in its row now, to the sums.
    pub(crate) fn add(&mut self, tenant: T, account: &ProducerAccount) {
        self.change(tenant, account, 1);
    }

    fn change(&mut self, tenant: T, account: &ProducerAccount, sign: i64) {
        // A row that was made for a batch of which nothing came has no service, and no account.
        if account.service.is_empty() {
            return;
        }
        let changed = self.0.entry((tenant, account.service.clone())).or_default();
        for (sum, figure) in changed.iter_mut().zip(figures(account)) {
            *sum += sign * figure;
        }
    }

    /// What changed, by tenant and service, ascending.
    pub(crate) fn iter(&self) -> btree_map::Iter<'_, (T, String), Figures> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn figures(of: &ProducerAccount) -> Figures {
    let missing = missing_logs(&of.account, of.stored, of.dead_lettered).max(0);
    let counts = [
        1,
        of.account.emitted,
        of.account.dropped_total(),
        of.account.queued,
        of.account.spooled,
        of.stored,
        of.dead_lettered,
        missing.unsigned_abs(),
    ];
    counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX).min(ACCOUNT_FIGURE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_with_too_many_comes_before_a_tenant_with_too_many() {
        let of = |service: &str, count| ("b", service.to_owned(), count);
        let few = ("a", "few".to_owned(), LISTED_OF_SERVICE_MAX);
        let check = |listed: &[_], expected| assert_eq!(too_many(listed), expected);
        check(std::slice::from_ref(&few), None);
        let most = [few.clone(), of("x", 9_000), of("y", 2_001), of("z", LISTED_OF_SERVICE_MAX)];
        let unlisted = |service: Option<&str>, count| {
            Some(Unlisted { tenant: "b", service: service.map(str::to_owned), count })
        };
        check(&most, unlisted(Some("x"), UNLISTED_PER_STEP));
        check(&most[2..], unlisted(Some("y"), 1));
        let many: Vec<_> =
            (0..6).map(|number| of(&number.to_string(), LISTED_OF_SERVICE_MAX)).collect();
        check(&[&[few][..], &many].concat(), unlisted(None, UNLISTED_PER_STEP));
        check(&many[..5], None);
    }
}
