//! Room for services and templates, divided by tenant.
//!
//! Above its share a tenant's new services take the places of services, and its new patterns those
//! of patterns, of whoever holds most (see [`Shares`]): for as long as it holds little, another's;
//! else its own. Among its own a service may replace a bounded number of patterns in an hour. So one
//! that floods is soon left to its catch-all, and whatever it does, a calm service of the same tenant
//! is always told of its new patterns.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use logweir_core::{
    identity::{Service, Tenant},
    record::Template,
    timestamp::Timestamp,
};

use super::{Detector, DetectorConfig, ServiceState, shares::Shares};

/// Bytes that a template's pattern may have on average: more of long ones leave less room.
const PATTERN_BYTES_MEAN: usize = 512;
// A day of that is less than a service may have, so what is frequent is not replaced before it could
// be seen again; and a tenant whose services all flood costs the thread that scores about a
// hundredth of its time.
/// New patterns of a service in an hour for which others of its tenant leave.
const REPLACED_PER_HOUR: u32 = 100;
/// The largest services of a tenant, of which the first one with a one-off pattern gives it.
const GIVERS: usize = 8;
// At least a 64th of what is beyond an even share, so that whoever gives does not have it back at
// once; and not much of one service, whose rare patterns may be worth something.
/// Part of what a tenant holds that it gives another at a time.
const PART_OF_TENANT: u64 = 64;
/// Part of what a service holds that it gives another tenant at a time.
const PART_OF_SERVICE: usize = 16;

/// Who holds what.
pub(crate) struct Room {
    accounts: HashMap<Tenant, usize>,
    services: Shares,
    templates: Shares,
    pattern_bytes: Shares,
}

impl Room {
    pub(crate) fn new(config: &DetectorConfig) -> Self {
        Self {
            accounts: HashMap::new(),
            services: Shares::new(config.services_max.max(1)),
            templates: Shares::new(config.templates_max),
            pattern_bytes: Shares::new(config.templates_max * PATTERN_BYTES_MEAN),
        }
    }

    /// The number by which a tenant's shares go.
    pub(crate) fn account(&mut self, tenant: &Tenant) -> usize {
        let next = self.accounts.len();
        *self.accounts.entry(tenant.clone()).or_insert(next)
    }

    /// Templates of all, catch-alls aside.
    pub(crate) fn templates(&self) -> usize {
        self.templates.held_by_all() as usize
    }

    /// What must go before an account gets another template with so many bytes, by number and by
    /// bytes; nothing if there is room. `is_full` if its service has as many as one may have.
    fn debts(&self, account: usize, bytes: usize, is_full: bool) -> [Option<Debt>; 2] {
        let number = if is_full {
            Some(Debt { payer: account, templates: 1, bytes: 0 })
        } else {
            due(&self.templates, account, 1).map(|(payer, templates)| Debt {
                payer,
                templates,
                bytes: 0,
            })
        };
        let bytes = due(&self.pattern_bytes, account, bytes).map(|(payer, bytes)| Debt {
            payer,
            templates: 0,
            bytes,
        });
        [number, bytes]
    }
}

/// Who gives how much for an account that asks for more than it is admitted to.
fn due(shares: &Shares, account: usize, asked: usize) -> Option<(usize, usize)> {
    let asked = asked as u64;
    let is_over = !shares.admits(account, asked);
    is_over.then(|| (shares.payer(account), shares.due(asked) as usize))
}

/// What one gives for another; only as much as is asked for, or what all hold would shrink.
#[derive(Clone, Copy)]
struct Debt {
    payer: usize,
    templates: usize,
    bytes: usize,
}

/// How many patterns a service replaced in the hour at hand.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    hour: i64,
    patterns: u32,
}

impl Replaced {
    /// Whether it may replace one more by now.
    fn may_go_on(&mut self, now: Timestamp) -> bool {
        let hour = now.as_unix_seconds().div_euclid(3_600);
        if hour != self.hour {
            *self = Self { hour, patterns: 0 };
        }
        self.patterns < REPLACED_PER_HOUR
    }
}

impl Detector {
    /// Gives a service that was not known a place, and what it learns from now on an account.
    pub(crate) fn admit(&mut self, (tenant, service): (Tenant, Service)) -> usize {
        let account = self.room.account(&tenant);
        let state = self.unknown(account, tenant.clone(), service.clone());
        let at = if self.room.services.admits(account, 1) {
            self.services.push(state);
            self.services.len() - 1
        } else {
            self.forget_oldest(self.room.services.payer(account), state)
        };
        self.room.services.change(account, 0, 1);
        self.by_name.insert((tenant, service), at);
        self.equip(at);
        at
    }

    fn forget_oldest(&mut self, payer: usize, newcomer: ServiceState) -> usize {
        let ages = self.services.iter().enumerate().filter(|(_, state)| state.account == payer);
        let oldest = ages.min_by_key(|(_, state)| state.last_received);
        let at = oldest.map_or(0, |(at, _)| at);
        // Replaced in its place, so that the indexes of all others stay what the map says. The
        // accounts must follow, or their bounds would shrink with every change.
        let gone = std::mem::replace(&mut self.services[at], newcomer);
        self.by_name.remove(&(gone.tenant, gone.service));
        self.room.services.change(gone.account, 1, 0);
        self.room.templates.change(gone.account, gone.templates.len() as u64, 0);
        self.room.pattern_bytes.change(gone.account, gone.templates.bytes() as u64, 0);
        self.stats.services_forgotten += 1;
        at
    }

    /// The place of a service that storage knows; none if there are too many.
    fn enter_known(&mut self, tenant: &Tenant, service: &Service) -> Option<usize> {
        let account = self.room.account(tenant);
        let has_room = self.room.services.admits(account, 1);
        has_room.then(|| self.admit((tenant.clone(), service.clone())))
    }

    /// Takes the templates over for which there is room: tenants and services by turns, and of a
    /// service the most frequent first.
    pub(crate) fn take_over(
        &mut self,
        known: impl IntoIterator<Item = (Template, u64)>,
    ) -> Vec<(usize, Template, u64)> {
        let mut taken = Vec::new();
        for ((tenant, service), templates) in services_by_turns(known) {
            let Some(at) = self.enter_known(&tenant, &service) else { continue };
            let of_service = templates.into_iter();
            taken.push(of_service.map(|(template, count)| (at, template, count)).collect());
        }
        by_turns(taken)
    }

    pub(crate) fn has_room(&self, at: usize, bytes: usize) -> bool {
        let account = self.services[at].account;
        !self.is_full(at)
            && self.room.templates.admits(account, 1)
            && self.room.pattern_bytes.admits(account, bytes as u64)
    }

    fn is_full(&self, at: usize) -> bool {
        self.services[at].templates.len() >= self.config.templates_per_service_max
    }

    /// Has rare patterns leave for a new one; whether there is room then.
    #[cold]
    pub(crate) fn make_room(&mut self, at: usize, signature: &[u8]) -> bool {
        let is_full = self.is_full(at);
        let state = &mut self.services[at];
        let account = state.account;
        let debts = self.room.debts(account, signature.len(), is_full);
        let is_own = debts.iter().flatten().any(|debt| debt.payer == account);
        if is_own && !state.replaced.may_go_on(state.last_received)
            || state.templates.follows_known(signature)
        {
            return false;
        }
        state.replaced.patterns += u32::from(is_own);
        let own_giver = is_full.then_some(at);
        debts.into_iter().flatten().all(|debt| {
            if debt.payer == account { self.pay(debt, own_giver, 0) } else { self.give(debt) }
        })
    }

    /// Gives another tenant what is due, and some more.
    fn give(&mut self, debt: Debt) -> bool {
        let part = self.room.templates.held(debt.payer) / PART_OF_TENANT;
        self.pay(debt, None, part as usize)
    }

    /// Has the payer's rarest patterns leave, of one of its services or else the largest: what is due,
    /// and up to so many; whether it had as many as are due.
    fn pay(&mut self, mut due: Debt, giver: Option<usize>, part: usize) -> bool {
        while due.templates > 0 || due.bytes > 0 {
            let Some(giver) = giver.or_else(|| self.giver(due.payer)) else { return false };
            let held = self.held(giver);
            let leaving = due.templates.max(part.min(held.0 / PART_OF_SERVICE));
            self.forget(giver, leaving, due.bytes);
            let kept = self.held(giver);
            if kept == held {
                return false;
            }
            due.templates = due.templates.saturating_sub(held.0 - kept.0);
            due.bytes = due.bytes.saturating_sub(held.1 - kept.1);
        }
        true
    }

    /// How many templates a service has, and their bytes.
    fn held(&self, at: usize) -> (usize, usize) {
        let templates = &self.services[at].templates;
        (templates.len(), templates.bytes())
    }

    /// The largest service of an account, if possible one with a one-off pattern.
    fn giver(&self, account: usize) -> Option<usize> {
        let size = |at: &usize| {
            let (templates, bytes) = self.held(*at);
            templates + bytes / PATTERN_BYTES_MEAN
        };
        let is_of = |at: &usize| self.services[*at].account == account && self.held(*at).0 > 0;
        let mut largest: Vec<usize> = (0..self.services.len()).filter(is_of).collect();
        largest.sort_unstable_by_key(|at| (Reverse(size(at)), *at));
        largest.truncate(GIVERS);
        let has_one_off = |at: &&usize| self.services[**at].templates.has_one_off();
        largest.iter().find(has_one_off).or(largest.first()).copied()
    }

    fn forget(&mut self, at: usize, templates: usize, bytes: usize) {
        let gone = self.grow(at, |known| known.forget_rarest(templates, bytes));
        let baseline = &mut self.services[at].baseline;
        gone.iter().for_each(|pattern| baseline.forget(pattern));
    }

    /// Keeps account of a service whose templates changed from so many, with so many bytes.
    pub(crate) fn account_for(&mut self, at: usize, before: (usize, usize)) {
        let ServiceState { account, templates, .. } = &self.services[at];
        let (before, bytes_before) = (before.0 as u64, before.1 as u64);
        self.room.templates.change(*account, before, templates.len() as u64);
        self.room.pattern_bytes.change(*account, bytes_before, templates.bytes() as u64);
    }
}

type KnownService = ((Tenant, Service), Vec<(Template, u64)>);

/// The services of all tenants by turns, of each the one with most logs first, with their templates,
/// the most frequent first. Whatever order they come in, the outcome is the same.
fn services_by_turns(known: impl IntoIterator<Item = (Template, u64)>) -> Vec<KnownService> {
    let mut services: BTreeMap<_, Vec<(Template, u64)>> = BTreeMap::new();
    for (template, count) in known {
        let key = (template.tenant.clone(), template.service.clone());
        services.entry(key).or_default().push((template, count));
    }
    let mut tenants: BTreeMap<Tenant, Vec<(u64, KnownService)>> = BTreeMap::new();
    for (key, mut templates) in services {
        let total = templates.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        templates.sort_by_key(|(template, count)| (Reverse(*count), template.template_id));
        tenants.entry(key.0.clone()).or_default().push((total, (key, templates)));
    }
    let by_total = |mut services: Vec<(u64, KnownService)>| {
        services.sort_by_key(|(total, _)| Reverse(*total));
        services.into_iter().map(|(_, service)| service).collect()
    };
    by_turns(tenants.into_values().map(by_total).collect())
}

/// One of each list in turn, until all are empty.
fn by_turns<T>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut taken = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    while !lists.is_empty() {
        lists.retain_mut(|list| {
            let next = list.next();
            let has_next = next.is_some();
            taken.extend(next);
            has_next
        });
    }
    taken
}
