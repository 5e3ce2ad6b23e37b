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

use crate::shares::Shares;

/// Bytes that a template's pattern may have on average: more of long ones leave less room.
const PATTERN_BYTES_MEAN: usize = 512;
// A day of that is less than a service may have, so what is frequent is not replaced before it could
// be seen again; and a tenant whose services all flood costs the thread that scores about a
// hundredth of its time.
/// New patterns of a service in an hour for which others of its tenant leave.
const REPLACED_PER_HOUR: u32 = 100;
/// The largest services of a tenant, among which one with a one-off pattern is looked for.
pub(crate) const VICTIM_SERVICES_MAX: usize = 8;
// At least a 64th of what is beyond an even share, so that whoever gives does not have it back at
// once; and not much of one service, whose rare patterns may be worth something.
/// Part of what a tenant holds that it gives another at a time.
const PART_OF_TENANT: u64 = 64;
/// Part of what a service holds that it gives another tenant at a time.
pub(crate) const PART_OF_SERVICE: usize = 16;

/// Who holds what.
pub(crate) struct Room {
    accounts: HashMap<Tenant, usize>,
    pub(crate) services: Shares,
    templates: Shares,
    pattern_bytes: Shares,
}

impl Room {
    /// For so many services and templates of a tenant that is alone.
    pub(crate) fn new(services_max: usize, templates_max: usize) -> Self {
        Self {
            accounts: HashMap::new(),
            services: Shares::new(services_max.max(1)),
            templates: Shares::new(templates_max),
            pattern_bytes: Shares::new(templates_max * PATTERN_BYTES_MEAN),
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

    /// Whether an account may have another template with so many bytes.
    pub(crate) fn admits(&self, account: usize, bytes: usize) -> bool {
        self.templates.admits(account, 1) && self.pattern_bytes.admits(account, bytes as u64)
    }

    /// What an account may lose to another at a time, beyond what is missing.
    pub(crate) fn spare(&self, account: usize) -> usize {
        (self.templates.held(account) / PART_OF_TENANT) as usize
    }

    /// Takes note that a service's templates are others, in number and bytes.
    pub(crate) fn change(&mut self, account: usize, before: Size, after: Size) {
        self.templates.change(account, before.templates as u64, after.templates as u64);
        self.pattern_bytes.change(account, before.bytes as u64, after.bytes as u64);
    }

    /// What must go before an account gets another template with so many bytes, by number and by
    /// bytes; nothing if there is room. `is_full` if its service has as many as one may have.
    pub(crate) fn evictions(
        &self,
        account: usize,
        bytes: usize,
        is_full: bool,
    ) -> [Option<Eviction>; 2] {
        let number =
            if is_full { Some((account, 1)) } else { missing(&self.templates, account, 1) };
        let bytes = missing(&self.pattern_bytes, account, bytes);
        [
            number.map(|(victim, templates)| Eviction {
                victim,
                missing: Size { templates, bytes: 0 },
            }),
            bytes.map(|(victim, bytes)| Eviction { victim, missing: Size { templates: 0, bytes } }),
        ]
    }
}

/// Who gives how much for an account that asks for more than it is admitted to.
fn missing(shares: &Shares, account: usize, asked: usize) -> Option<(usize, usize)> {
    let asked = asked as u64;
    let is_over = !shares.admits(account, asked);
    is_over.then(|| (shares.victim(account), shares.missing(asked) as usize))
}

/// Who gives what for another's new template.
pub(crate) struct Eviction {
    pub(crate) victim: usize,
    pub(crate) missing: Size,
}

/// Templates, catch-alls aside, and the bytes of their patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) templates: usize,
    pub(crate) bytes: usize,
}

impl Size {
    /// In templates of the mean size.
    pub(crate) fn weight(self) -> usize {
        self.templates + self.bytes / PATTERN_BYTES_MEAN
    }

    /// What of it is still missing when a service has shrunk.
    pub(crate) fn after(self, before: Self, after: Self) -> Self {
        let left = |missing: usize, before: usize, after| missing.saturating_sub(before - after);
        Self {
            templates: left(self.templates, before.templates, after.templates),
            bytes: left(self.bytes, before.bytes, after.bytes),
        }
    }
}

/// How many patterns a service replaced in the hour at hand.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    hour: i64,
    pub(crate) patterns: u32,
}

impl Replaced {
    /// Whether it may replace one more by now.
    pub(crate) fn may_go_on(&mut self, now: Timestamp) -> bool {
        let hour = now.as_unix_seconds().div_euclid(3_600);
        if hour != self.hour {
            *self = Self { hour, patterns: 0 };
        }
        self.patterns < REPLACED_PER_HOUR
    }
}

/// A service and its templates, each with its count.
pub(crate) type KnownService = ((Tenant, Service), Vec<(Template, u64)>);

/// The services of all tenants by turns, of each the one with most logs first, with their templates,
/// the most frequent first. Whatever order they come in, the outcome is the same.
pub(crate) fn services_by_turns(
    known: impl IntoIterator<Item = (Template, u64)>,
) -> Vec<KnownService> {
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
pub(crate) fn by_turns<T>(lists: Vec<Vec<T>>) -> Vec<T> {
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
