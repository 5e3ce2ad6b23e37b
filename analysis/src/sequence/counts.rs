//! How often events come in a session, each given how often another came.
//!
//! For each event a few partners are kept: the three whose counts and its own say most about each
//! other (mutual information), and more that say more than chance does (the G-test: what
//! independent counts say, times twice the sessions, is a chi-squared variable). A session is as
//! surprising as its most surprising pair: "3 times 'received', but 'stored' only twice". A count
//! never seen beside a partner's count gets the share of Witten and Bell, backed by the counts the
//! event has wherever the partner is present; where even the partner's count is new, what counts is
//! whether the two used to be equal, or one the larger.

use std::cmp::Ordering;

use super::hash::{IdMap, PairMap};
use crate::model::{ModelError, Reader};

/// Partners of an event, if there are as many events: each is another way to see that one is
/// missing.
const PARTNERS_MIN: usize = 3;
/// Partners of an event, with those that say more than chance does.
const PARTNERS_MAX: usize = 8;
/// Different events of a session that are paired.
const PAIRED_MAX: usize = 64;
/// Pairs of events among which partners are looked for.
const PAIRS_MAX: usize = 1 << 18;
/// Standard deviations above its mean, from which on what two events say about each other is no
/// chance.
const CHANCE_DEVIATIONS: f64 = 4.0;
/// Sessions in which an event, or a pair, must have been to be scored by.
const SESSIONS_MIN: u32 = 2;
/// A count stops here.
const COUNT_MAX: u32 = u32::MAX / 4;

/// A session's events and how often each came, by event.
pub(super) type Bag = [(u64, u32)];

/// The bag of a sequence.
pub(super) fn bag(events: &[u64]) -> Vec<(u64, u32)> {
    let mut sorted = events.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|one, other| one == other).map(|run| (run[0], run.len() as u32)).collect()
}

/// Small counts are told apart, large ones by a quarter.
fn bucket(count: u32) -> u8 {
    // Whether something came twice or three times may be the fault; whether it came 200 or 210
    // times is not, and a cell for each would never have enough sessions to say so.
    if count <= 8 {
        count as u8
    } else {
        8 + ((count as f32 / 8.0).ln() / 1.25_f32.ln()).min(40.0) as u8
    }
}

/// The least count of a bucket.
fn least(bucket: u8) -> u32 {
    if bucket <= 8 {
        bucket.into()
    } else {
        (8.0 * 1.25_f32.powi(i32::from(bucket) - 8)).ceil() as u32
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Table {
    total: u32,
    /// Cells whose count is not zero.
    distinct: u8,
    /// The largest of them.
    largest: u8,
    cells: Vec<(u8, u32)>,
}

impl Table {
    fn count(&self, bucket: u8) -> u32 {
        self.cells.iter().find(|(cell, _)| *cell == bucket).map_or(0, |(_, count)| *count)
    }

    fn usual(&self) -> (u8, u32) {
        self.cells.iter().copied().max_by_key(|(_, count)| *count).unwrap_or_default()
    }

    /// Changes a count by so many sessions.
    fn change(&mut self, bucket: u8, by: i64) {
        if !self.cells.iter().any(|(cell, _)| *cell == bucket) {
            self.cells.push((bucket, 0));
        }
        let cell = self.cells.iter_mut().find(|(cell, _)| *cell == bucket);
        let count = &mut cell.expect("the cell was just made").1;
        let changed = (i64::from(*count) + by).clamp(0, COUNT_MAX.into()) as u32;
        self.total = (self.total - *count).saturating_add(changed);
        // A cell at zero stays: cross-validation takes sessions out and puts them back.
        let has_turned = (*count == 0) != (changed == 0);
        *count = changed;
        if has_turned {
            self.summarise();
        }
    }

    fn summarise(&mut self) {
        let cells = || self.cells.iter().filter(|(_, count)| *count > 0);
        self.distinct = cells().count() as u8;
        self.largest = cells().map(|(bucket, _)| *bucket).max().unwrap_or(0);
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend((self.cells.len() as u16).to_le_bytes());
        for (bucket, count) in &self.cells {
            bytes.extend(u16::from(*bucket).to_le_bytes());
            bytes.extend(count.to_le_bytes());
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, ModelError> {
        let mut table = Self::default();
        for _ in 0..byte(reader)? {
            let (bucket, count) = (byte(reader)?, reader.u32()?);
            let total = table.total.checked_add(count).filter(|&total| total <= COUNT_MAX);
            table.total = total.ok_or_else(|| reader.corrupt())?;
            table.cells.push((bucket, count));
        }
        table.summarise();
        Ok(table)
    }
}

/// How often an event came where another was present.
#[derive(Debug, Clone, Default, PartialEq)]
struct Relation {
    event: u64,
    /// By the other's count.
    rows: Vec<(u8, Table)>,
    all: Table,
    /// How often less, as much, and more than the other.
    order: [u32; 3],
}

impl Relation {
    fn change(&mut self, given: u8, bucket: u8, by: i64) {
        if !self.rows.iter().any(|(row, _)| *row == given) {
            self.rows.push((given, Table::default()));
        }
        let row = self.rows.iter_mut().find(|(row, _)| *row == given);
        row.expect("the row was just made").1.change(bucket, by);
        self.all.change(bucket, by);
        let order = &mut self.order[place(bucket.cmp(&given))];
        *order = (i64::from(*order) + by).clamp(0, COUNT_MAX.into()) as u32;
    }

    fn row(&self, given: u8) -> Option<&Table> {
        self.rows.iter().find(|(row, table)| *row == given && table.total > 0).map(|(_, row)| row)
    }

    fn probability(&self, given: u8, bucket: u8) -> f32 {
        let Some(row) = self.row(given) else {
            // Half a session for each of the three orders (Jeffreys), so that none is impossible.
            let order = self.order[place(bucket.cmp(&given))] as f32;
            return (order + 0.5) / (self.order.iter().sum::<u32>() as f32 + 1.5);
        };
        // A count above all seen is the less likely the further it is off.
        let beyond = bucket.saturating_sub(self.all.largest).min(30);
        let new = 0.5_f32.powi(1 + i32::from(beyond));
        let distinct = f32::from(self.all.distinct);
        let base =
            (self.all.count(bucket) as f32 + distinct * new) / (self.all.total as f32 + distinct);
        let distinct = f32::from(row.distinct);
        (row.count(bucket) as f32 + distinct * base) / (row.total as f32 + distinct)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.event.to_le_bytes());
        self.order.iter().for_each(|count| bytes.extend(count.to_le_bytes()));
        self.all.encode(bytes);
        bytes.extend((self.rows.len() as u16).to_le_bytes());
        for (given, row) in &self.rows {
            bytes.extend(u16::from(*given).to_le_bytes());
            row.encode(bytes);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, ModelError> {
        let event = reader.u64()?;
        let mut order = [0; 3];
        for count in &mut order {
            *count = reader.u32()?;
            if *count > COUNT_MAX {
                return Err(reader.corrupt());
            }
        }
        let all = Table::decode(reader)?;
        let rows = byte(reader)?;
        let rows = (0..rows).map(|_| Ok((byte(reader)?, Table::decode(reader)?)));
        Ok(Self { event, rows: rows.collect::<Result<_, _>>()?, all, order })
    }
}

fn byte(reader: &mut Reader<'_>) -> Result<u8, ModelError> {
    u8::try_from(reader.u16()?).map_err(|_| reader.corrupt())
}

fn place(order: Ordering) -> usize {
    match order {
        Ordering::Less => 0,
        Ordering::Equal => 1,
        Ordering::Greater => 2,
    }
}

/// A pair of counts and how surprising it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CountSurprise {
    /// Minus the logarithm of its probability.
    pub(super) nats: f32,
    /// The event that is there too often, too seldom or not at all.
    pub(super) event: u64,
    /// How often it came.
    pub(super) count: u32,
    /// The other event.
    pub(super) given: u64,
    /// How often that came.
    pub(super) given_count: u32,
}

/// What is usual instead of a finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ExpectedCount {
    /// So often, in that many of so many sessions; the number is the least of a range if large.
    Count(u32, u32, u32),
    /// Less, as much or more than the other, in that many of so many sessions.
    Order(Ordering, u32, u32),
}

/// Pairs of counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts {
    /// The partners of each event, scored by its count.
    partners: IdMap<Vec<Relation>>,
}

impl Counts {
    /// Finds partners and learns the counts of bags, each with its scope and the number of its
    /// sessions. Partners are found within a scope: that two events are of the same one says
    /// nothing.
    pub(super) fn fit<'a>(bags: impl Iterator<Item = (u64, &'a Bag, u32)>) -> Self {
        let mut scopes: IdMap<Vec<(&Bag, u32)>> = IdMap::default();
        bags.for_each(|(scope, bag, sessions)| {
            scopes.entry(scope).or_default().push((bag, sessions))
        });
        let mut counts = Self { partners: choose(scopes.values()) };
        for (bag, sessions) in scopes.values().flatten() {
            counts.change(bag, i64::from(*sessions));
        }
        counts
    }

    /// Learns a bag so many times, or forgets it, without looking for new partners.
    pub(super) fn change(&mut self, bag: &Bag, by: i64) {
        for (given, given_count) in bag {
            for relation in self.partners.get_mut(given).into_iter().flatten() {
                relation.change(bucket(*given_count), bucket(count_of(bag, relation.event)), by);
            }
        }
    }

    /// The most surprising pair.
    pub(super) fn worst(&self, bag: &Bag) -> Option<CountSurprise> {
        let mut worst: Option<(f32, u64, u64)> = None;
        for (given, given_count) in bag {
            for relation in self.partners.get(given).into_iter().flatten() {
                let count = bucket(count_of(bag, relation.event));
                let probability = relation.probability(bucket(*given_count), count);
                if worst.is_none_or(|(least, ..)| probability < least) {
                    worst = Some((probability, relation.event, *given));
                }
            }
        }
        worst.map(|(probability, event, given)| CountSurprise {
            nats: -probability.max(f32::MIN_POSITIVE).ln(),
            event,
            count: count_of(bag, event),
            given,
            given_count: count_of(bag, given),
        })
    }

    /// What is usual where something was found.
    pub(super) fn usual(&self, found: &CountSurprise) -> ExpectedCount {
        let relations = self.partners.get(&found.given);
        let is_it = |relation: &&Relation| relation.event == found.event;
        let Some(relation) = relations.and_then(|all| all.iter().find(is_it)) else {
            return ExpectedCount::Count(0, 0, 0);
        };
        if let Some(row) = relation.row(bucket(found.given_count)) {
            let (usual, sessions) = row.usual();
            return ExpectedCount::Count(least(usual), sessions, row.total);
        }
        let orders = [Ordering::Less, Ordering::Equal, Ordering::Greater];
        let most = orders.into_iter().max_by_key(|order| relation.order[place(*order)]);
        let most = most.unwrap_or(Ordering::Equal);
        ExpectedCount::Order(most, relation.order[place(most)], relation.order.iter().sum())
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        // Sorted, as a map has no order and equal models must have equal checksums.
        let mut events: Vec<_> = self.partners.iter().collect();
        events.sort_unstable_by_key(|(event, _)| **event);
        bytes.extend((events.len() as u32).to_le_bytes());
        for (event, relations) in events {
            bytes.extend(event.to_le_bytes());
            bytes.extend((relations.len() as u16).to_le_bytes());
            relations.iter().for_each(|relation| relation.encode(bytes));
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ModelError> {
        let mut counts = Self::default();
        for _ in 0..reader.u32()? {
            let event = reader.u64()?;
            let relations = byte(reader)?;
            let relations = (0..relations).map(|_| Relation::decode(reader));
            let relations = relations.collect::<Result<Vec<_>, _>>()?;
            counts.partners.insert(event, relations);
        }
        Ok(counts)
    }
}

fn count_of(bag: &Bag, event: u64) -> u32 {
    bag.binary_search_by_key(&event, |(known, _)| *known).map_or(0, |at| bag[at].1)
}

/// How often two events came so often together.
type Joint = Vec<((u8, u8), u32)>;

/// The partners of each event, still without counts.
fn choose<'a>(scopes: impl Iterator<Item = &'a Vec<(&'a Bag, u32)>>) -> IdMap<Vec<Relation>> {
    let mut ranked: IdMap<Vec<(f64, u64)>> = IdMap::default();
    scopes.for_each(|bags| rank(bags, &mut ranked));
    let partners = ranked.into_iter().map(|(event, mut all)| {
        // Equals by their id, so that the same sessions give the same partners.
        all.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        let mut best: Vec<Relation> = Vec::with_capacity(PARTNERS_MAX);
        for (beyond_chance, event) in all {
            let is_wanted =
                best.len() < PARTNERS_MIN || beyond_chance > 0.0 && best.len() < PARTNERS_MAX;
            if is_wanted && best.iter().all(|relation| relation.event != event) {
                best.push(Relation { event, ..Relation::default() });
            }
        }
        (event, best)
    });
    partners.collect()
}

/// Adds for each event of a scope those that it goes with, and how much more they say about each
/// other than chance does.
fn rank(bags: &[(&Bag, u32)], ranked: &mut IdMap<Vec<(f64, u64)>>) {
    let mut sessions = 0.0;
    let mut single: IdMap<Table> = IdMap::default();
    for (bag, weight) in bags {
        sessions += f64::from(*weight);
        for (event, count) in *bag {
            single.entry(*event).or_default().change(bucket(*count), (*weight).into());
        }
    }
    // An event of one session has no pair that says anything, and there may be any number of them.
    single.retain(|_, table| table.total >= SESSIONS_MIN);
    for ((one, other), joint) in &joints(bags, &single) {
        let together = joint.iter().map(|(_, count)| count).sum::<u32>();
        let (left, right) = (&single[one], &single[other]);
        if together >= SESSIONS_MIN {
            let information = 2.0 * sessions * information(joint, left, right, sessions);
            let beyond_chance = information - chance(left, right);
            ranked.entry(*one).or_default().push((beyond_chance, *other));
            ranked.entry(*other).or_default().push((beyond_chance, *one));
        }
    }
}

fn joints(bags: &[(&Bag, u32)], single: &IdMap<Table>) -> PairMap<Joint> {
    let mut joints: PairMap<Joint> = PairMap::default();
    for &(bag, weight) in bags {
        let mut known: Vec<(u64, u8)> = Vec::with_capacity(PAIRED_MAX);
        // Pairs grow with the square: these events alone have 2,016.
        let here = bag.iter().filter(|(event, _)| single.contains_key(event));
        known.extend(here.take(PAIRED_MAX).map(|(event, count)| (*event, bucket(*count))));
        for (at, (one, count)) in known.iter().enumerate() {
            for (other, other_count) in &known[at + 1..] {
                // Full, it goes on counting the pairs that it has: half-counted ones would look
                // as if they hardly ever came together.
                let is_full = joints.len() >= PAIRS_MAX;
                if is_full && !joints.contains_key(&(*one, *other)) {
                    continue;
                }
                let joint = joints.entry((*one, *other)).or_default();
                let cell = (*count, *other_count);
                match joint.iter_mut().find(|(known, _)| *known == cell) {
                    Some((_, count)) => *count = count.saturating_add(weight),
                    None => joint.push((cell, weight)),
                }
            }
        }
    }
    joints
}

/// What independent counts hardly ever say about each other, as twice the nats of all sessions. A
/// count has as many degrees of freedom as it has values beside absence.
fn chance(one: &Table, other: &Table) -> f64 {
    // A chi-squared variable has as its mean its degrees of freedom, as its variance twice that.
    let freedom = (one.cells.len() * other.cells.len()) as f64;
    freedom + CHANCE_DEVIATIONS * (2.0 * freedom).sqrt()
}

/// What the counts of two events say about each other, in nats; absence is a count as well.
fn information(joint: &Joint, one: &Table, other: &Table, sessions: f64) -> f64 {
    let term = |together: f64, one: f64, other: f64| {
        if together > 0.0 {
            together / sessions * (together * sessions / (one * other)).ln()
        } else {
            0.0
        }
    };
    let (one_absent, other_absent) =
        (sessions - f64::from(one.total), sessions - f64::from(other.total));
    // The joint table holds only the sessions that had both. Those with neither, with only the one
    // and with only the other follow from the single counts.
    let both: f64 = joint.iter().map(|(_, count)| f64::from(*count)).sum();
    let mut sum = term(one_absent - f64::from(other.total) + both, one_absent, other_absent);
    for ((count, other_count), together) in joint {
        let (one, other) = (one.count(*count), other.count(*other_count));
        sum += term((*together).into(), one.into(), other.into());
    }
    for (count, times) in &one.cells {
        let beside = joint.iter().filter(|((cell, _), _)| cell == count);
        let alone = f64::from(*times) - beside.map(|(_, count)| f64::from(*count)).sum::<f64>();
        sum += term(alone, (*times).into(), other_absent);
    }
    for (count, times) in &other.cells {
        let beside = joint.iter().filter(|((_, cell), _)| cell == count);
        let alone = f64::from(*times) - beside.map(|(_, count)| f64::from(*count)).sum::<f64>();
        sum += term(alone, one_absent, (*times).into());
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of two services in turn, each with the same shares of events, drawn by chance; and
    /// with a pair, if wanted, of which one never comes without the other.
    fn windows(pairs: u64) -> Vec<(u64, Vec<(u64, u32)>)> {
        let mut state = 7_u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let window = |n: u64| {
            let scope = n % 2;
            let mut events: Vec<u64> =
                (0..64).map(|_| 100 * scope + draw() % 6 * (draw() % 6)).collect();
            (0..draw() % 4 * pairs).for_each(|_| events.extend([500, 501]));
            (scope, bag(&events))
        };
        (0..104).map(window).collect()
    }

    fn fit(windows: &[(u64, Vec<(u64, u32)>)]) -> Counts {
        Counts::fit(windows.iter().map(|(scope, bag)| (*scope, &bag[..], 1)))
    }

    #[test]
    fn what_comes_by_chance_has_no_partners_and_what_belongs_together_has() {
        let by_chance = fit(&windows(0));
        let relations: usize = by_chance.partners.values().map(Vec::len).sum();
        let least = by_chance.partners.len() * PARTNERS_MIN;
        assert!(relations <= least + 6, "{relations} partners, {least} at least");
        let together = fit(&windows(1));
        let partner = |event| together.partners[&event][0].event;
        assert_eq!((partner(500), partner(501)), (501, 500));
    }
}
