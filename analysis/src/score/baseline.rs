//! What is usual for a service, its patterns and its levels; each test measures a log against it,
//! and what does not alarm is learned.

use std::{sync::Arc, time::Duration};

use logweir_core::{
    identity::{Service, TemplateId},
    record::{Level, Record},
    timestamp::nanos_of,
};

use super::{
    decay::{Decay, HALF_LIFE_RARITY_SECONDS},
    episode::{Episode, GAP_NANOS, Phase, USUAL_NANOS},
    evidence::{self, Budget, CAUSES, Cause, Evidence},
    features::{FeatureStatistics, Features},
    forest::ForestModel,
    frequency::{DecayTable, Share, WINDOW_LOGS},
    length::Lengths,
    new_value::{NewValue, Values},
    reservoir::Reservoir,
    slow::{LatencyBaseline, LatencyDeviation, OutlierBurst, ServiceLatency},
};
use crate::template::PatternState;

/// A log to score.
pub(crate) struct Log<'a> {
    pub(crate) service: &'a Service,
    pub(crate) pattern: &'a str,
    pub(crate) record: &'a Record,
    pub(crate) level: Level,
    /// What people said of its pattern: above 0 an anomaly, below 0 usual.
    pub(crate) feedback: f32,
}

// The tail of what was never seen in n logs is no smaller than 1/(n + 1): with 500 that is still
// twice the default budget for all causes together.
/// Logs of a service before anything alarms.
const LEARNING_LOGS: u64 = 500;
// Stored counts have no half-life: taken whole, those of a year would outweigh every day to come.
/// How confident a baseline from stored counts may be, in logs.
const PRELOADED_WEIGHT_MAX: f64 = 100_000.0;
// The forest costs as much as all other tests together, and never alarms alone: what it would say
// of the other logs changes nothing.
/// Logs with a smaller tail than this by the other tests are shown to the forest.
const RAISED: f64 = 0.02;
/// Messages of a pattern before its own lengths are what its messages are measured by.
pub(super) const LENGTHS_MIN: u32 = 20;
/// So unlikely are the alarms of a cause to come together by chance: each is unlikely in itself.
const SPELL_TAIL: f64 = 0.01;
/// Time that counts as a log for recent counts: a window of them is an hour.
const HOUR_NANOS: i64 = nanos_of(Duration::from_secs(3_600));
const IDLE_TICK_NANOS: i64 = HOUR_NANOS / WINDOW_LOGS as i64;
/// Weights are grouped by their binary exponent; this one has index 0.
const EXPONENT_MIN: i64 = -64;
const EXPONENTS: usize = 128;
/// What has alarmed and was not seen for so long has gone again, and is known as one log: ten
/// minutes.
const GONE_NANOS: i64 = GAP_NANOS;

/// What is usual for a pattern.
#[derive(Debug, Clone, Default)]
pub(crate) struct PatternBaseline {
    /// The id of its first log since the start, by which sequences know the pattern: merging it
    /// with others makes it nothing new.
    pub(super) event: Option<TemplateId>,
    /// Logs ever.
    pub(super) count: u64,
    /// Logs learned, fading.
    pub(super) weight: f64,
    /// What its first log weighs.
    pub(super) first_weight: f64,
    /// Logs since it was last accepted that were not learned, for they alarmed.
    pub(super) held: f32,
    /// How unusual it was when it came up; 1 once it is known.
    pub(super) novel_tail: f32,
    pub(super) born_unix_nano: i64,
    pub(super) last_unix_nano: i64,
    pub(super) recent: Share,
    pub(super) burst: Episode,
    pub(super) lengths: Lengths,
    pub(super) long: Episode,
    pub(super) latency_baseline: Option<Box<LatencyBaseline>>,
}

impl PatternBaseline {
    /// Those of a pattern that storage has counted.
    pub(crate) fn counted(count: u64) -> Self {
        Self { count, novel_tail: 1.0, ..Self::default() }
    }

    /// What the pattern goes by in sequences; its log at hand has this id.
    pub(crate) fn event(&mut self, template_id: TemplateId) -> u64 {
        self.event.get_or_insert(template_id).0
    }

    /// Counts a log that is to teach nothing, for its age or because nothing is scored.
    pub(crate) fn count_unjudged(&mut self) {
        self.count += 1;
        self.novel_tail = 1.0;
    }
}

impl PatternState for PatternBaseline {
    /// Whatever is usual for either is usual.
    fn absorb(&mut self, other: Self) {
        self.event = self.event.or(other.event);
        self.count = self.count.saturating_add(other.count);
        self.weight += other.weight;
        self.held += other.held;
        // The greater tail, so that a pattern that is known stays known when a new one joins it.
        self.novel_tail = self.novel_tail.max(other.novel_tail);
        self.born_unix_nano = self.born_unix_nano.min(other.born_unix_nano);
        self.last_unix_nano = self.last_unix_nano.max(other.last_unix_nano);
        self.recent.merge(&other.recent);
        self.lengths.merge(&other.lengths);
        self.latency_baseline = match (self.latency_baseline.take(), other.latency_baseline) {
            (Some(mut own), Some(more)) => {
                own.merge(&more);
                Some(own)
            }
            (own, more) => own.or(more),
        };
    }

    fn logs(&self) -> u64 {
        self.count
    }
}

/// What is usual for a level.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LevelBaseline {
    pub(super) weight: f64,
    pub(super) held: f32,
    pub(super) recent: Share,
    pub(super) burst: Episode,
}

/// How often a cause alarms.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AlarmRate {
    weight: f64,
    recent: Share,
    burst_state: Episode,
}

/// What is usual for a service.
#[derive(Debug, Clone)]
pub(crate) struct ServiceBaseline {
    pub(super) contamination: f64,
    pub(super) decay: Decay,
    pub(super) decay_table: Arc<DecayTable>,
    pub(super) started: bool,
    /// Logs ever.
    pub(super) seen: u64,
    /// Weight of the window of recent logs.
    pub(super) window: f64,
    /// What recent counts fade by: the logs, and the time that passes without any.
    pub(super) clock: u64,
    pub(super) clock_unix_nano: i64,
    /// Logs learned, fading.
    pub(super) total: f64,
    /// Those of patterns seen once.
    pub(super) singles: f64,
    /// Logs by the order of magnitude of their pattern's weight.
    pub(super) by_magnitude: Box<[f64; EXPONENTS]>,
    pub(super) levels: [LevelBaseline; Level::ALL.len()],
    /// Logs that taught the levels, fading.
    pub(super) levels_total: f64,
    pub(super) latency_baseline: ServiceLatency,
    pub(super) lengths: Lengths,
    pub(super) long: Episode,
    pub(super) values: Values,
    pub(super) budget: Budget,
    /// How often each cause alarms.
    pub(super) alarms: [AlarmRate; CAUSES],
    pub(super) reservoir: Reservoir,
    /// Given by the model store for this service.
    pub(super) installed: Option<Arc<ForestModel>>,
    /// The best there is for others: the tenant's or the global one.
    pub(super) fallback: Option<Arc<ForestModel>>,
}

/// What reasons are made of, beside the log.
pub(super) struct ScoreParts {
    pub(super) evidence: Evidence,
    /// The pattern or level is unusual in itself.
    pub(super) is_pattern: bool,
    pub(super) is_level: bool,
    /// The longest message so far, if this one is too long.
    pub(super) longest: Option<u32>,
    pub(super) latency: Option<LatencyDeviation>,
    pub(super) value: Option<NewValue>,
    pub(super) features: Option<Features>,
}

impl ServiceBaseline {
    /// `seed` decides what is sampled and how forests are grown.
    pub(crate) fn new(contamination: f64, seed: u64, decay_table: Arc<DecayTable>) -> Self {
        // No tail is smaller than `TAIL_MIN`, so a smaller budget would never alarm at all.
        let contamination = contamination.clamp(evidence::TAIL_MIN, 0.5);
        Self {
            contamination,
            decay: Decay::new(HALF_LIFE_RARITY_SECONDS, 0),
            decay_table,
            started: false,
            seen: 0,
            window: 0.0,
            clock: 0,
            clock_unix_nano: i64::MAX,
            total: 0.0,
            singles: 0.0,
            by_magnitude: Box::new([0.0; EXPONENTS]),
            levels: Default::default(),
            levels_total: 0.0,
            latency_baseline: ServiceLatency::new(),
            lengths: Lengths::default(),
            long: Episode::default(),
            values: Values::default(),
            budget: Budget::new(contamination),
            alarms: Default::default(),
            reservoir: Reservoir::new(seed),
            installed: None,
            fallback: None,
        }
    }

    /// Starts from what storage has counted, before any log is learned.
    pub(crate) fn preload<'a>(&mut self, known: impl Iterator<Item = &'a mut PatternBaseline>) {
        let known: Vec<&mut PatternBaseline> = known.collect();
        self.forget_sums();
        self.seen = known.iter().fold(0, |sum, known| sum.saturating_add(known.count));
        let scale = (PRELOADED_WEIGHT_MAX / self.seen.max(1) as f64).min(1.0);
        for known in known {
            known.weight = known.count as f64 * scale;
            known.first_weight = scale;
            self.account(known);
        }
    }

    /// Takes the place of what it learns itself; `None` goes back to that.
    pub(crate) fn install(&mut self, forest: Option<Arc<ForestModel>>) {
        self.installed = forest;
    }

    /// What serves while the service has no forest of its own.
    pub(crate) fn fall_back(&mut self, forest: Option<Arc<ForestModel>>) {
        self.fallback = forest;
    }

    /// A sample of its logs.
    pub(crate) fn sample(&self) -> &[Features] {
        self.reservoir.rows()
    }

    /// Whether all weights must be scaled before the next log is learned, and by what.
    pub(crate) fn rescale(&mut self, time_unix_nano: i64) -> Option<f64> {
        if !self.started {
            self.started = true;
            self.decay = Decay::new(HALF_LIFE_RARITY_SECONDS, time_unix_nano);
        }
        self.decay.rescale(time_unix_nano)
    }

    /// Scales all weights.
    pub(crate) fn scale<'a>(
        &mut self,
        factor: f64,
        known: impl Iterator<Item = &'a mut PatternBaseline>,
    ) {
        self.forget_sums();
        for known in known {
            known.weight *= factor;
            known.first_weight *= factor;
            known.recent.scale(factor as f32);
            self.account(known);
        }
        self.levels_total *= factor;
        for level in &mut self.levels {
            level.weight *= factor;
            level.recent.scale(factor as f32);
        }
        for alarms in &mut self.alarms {
            alarms.weight *= factor;
            alarms.recent.scale(factor as f32);
        }
    }

    /// Takes a pattern that is no longer known out of the sums over all of them.
    pub(crate) fn forget(&mut self, known: &PatternBaseline) {
        // Rounding may leave a hair below nothing, which a share must not be.
        let without = |sum: f64, part: f64| (sum - part).max(0.0);
        self.total = without(self.total, known.weight);
        let as_rare = &mut self.by_magnitude[magnitude(known.weight)];
        *as_rare = without(*as_rare, known.weight);
        if known.count == 1 {
            self.singles = without(self.singles, known.first_weight);
        }
    }

    fn forget_sums(&mut self) {
        (self.total, self.singles) = (0.0, 0.0);
        self.by_magnitude.fill(0.0);
    }

    fn account(&mut self, known: &PatternBaseline) {
        self.total += known.weight;
        self.by_magnitude[magnitude(known.weight)] += known.weight;
        if known.count == 1 {
            self.singles += known.first_weight;
        }
    }

    /// An hour without logs fades recent counts as much as a window of logs.
    pub(super) fn advance(&mut self, time_unix_nano: i64) {
        let idle = time_unix_nano.saturating_sub(self.clock_unix_nano).max(0);
        self.clock_unix_nano =
            if self.seen == 1 { time_unix_nano } else { self.clock_unix_nano.saturating_add(idle) };
        let ticks = 1 + (idle / IDLE_TICK_NANOS).unsigned_abs();
        self.clock += ticks;
        self.window = self.window * f64::from(self.decay_table.over(ticks)) + 1.0;
    }

    /// From here on a test's tail alarms by itself.
    pub(super) fn bound(&self, cause: Cause) -> f64 {
        self.contamination * cause.weight()
    }

    fn is_learning(&self) -> bool {
        self.seen <= LEARNING_LOGS
    }

    /// Novelty, rarity, bursts.
    pub(super) fn score_pattern(
        &mut self,
        pattern: &mut PatternBaseline,
        weight: f64,
        time: i64,
        found: &mut ScoreParts,
    ) {
        if pattern.count == 0 {
            // Good (1953): the chance that the next log has a new pattern is the share of logs
            // whose pattern was seen once.
            let tail = (self.singles + weight) / (self.total + weight);
            pattern.novel_tail = if self.is_learning() { 1.0 } else { tail.min(1.0) as f32 };
            pattern.born_unix_nano = time;
        } else {
            if time.saturating_sub(pattern.last_unix_nano) > GONE_NANOS {
                pattern.held = pattern.held.min(1.0);
            }
            let age = time.saturating_sub(pattern.born_unix_nano);
            if pattern.novel_tail < 1.0 && age > USUAL_NANOS {
                self.accept_pattern(pattern, weight);
            }
        }
        pattern.recent.count(self.clock, &self.decay_table);
        // A new pattern keeps the tail of its first log until it is accepted: a fault is an anomaly
        // from its first log to its last, though its thousandth log is no longer rare.
        if pattern.novel_tail < 1.0 {
            let tail = f64::from(pattern.novel_tail);
            found.evidence.add(Cause::Novelty, tail);
            found.is_pattern = tail <= self.bound(Cause::Novelty);
            found.evidence.continues = found.is_pattern && pattern.count > 0;
        } else if pattern.weight > 0.0 {
            found.evidence.add(Cause::Rarity, self.rarity_tail(pattern.weight, weight));
        }
        let usual = (pattern.weight + weight) / (self.total + weight);
        if self.is_learning() {
            return pattern.recent.accept();
        }
        let tail = pattern.recent.excess_tail(usual, self.window);
        if tail > self.bound(Cause::Burst) {
            return pattern.recent.passed();
        }
        match pattern.burst.alarm(time) {
            Phase::Usual => return self.accept_pattern(pattern, weight),
            phase => found.evidence.continues |= phase == Phase::Continuing,
        }
        found.evidence.add(Cause::Burst, tail);
        found.is_pattern = true;
        pattern.recent.alarmed();
    }

    /// A pattern that is there all the time is as usual as its logs are many.
    fn accept_pattern(&mut self, pattern: &mut PatternBaseline, weight: f64) {
        pattern.novel_tail = 1.0;
        pattern.recent.accept();
        let logs = std::mem::take(&mut pattern.held);
        self.add_weight(pattern, f64::from(logs) * weight);
    }

    fn rarity_tail(&self, known: f64, weight: f64) -> f64 {
        // The share of logs whose pattern is as rare or rarer, by powers of two: exact shares would
        // take a sorted list of all patterns that every log changes.
        let as_rare: f64 = self.by_magnitude[..=magnitude(known)].iter().sum();
        ((as_rare + weight) / (self.total + weight)).min(1.0)
    }

    /// A level's frequency is that of the logs whose pattern does not explain it.
    pub(super) fn score_level(
        &mut self,
        level: Level,
        weight: f64,
        time: i64,
        found: &mut ScoreParts,
    ) {
        // A flood of one ERROR message would make all other errors of the service look like a rise
        // of the level; it is told by its own cause and kept out of the level's share.
        if found.is_pattern {
            return;
        }
        let (is_learning, bound) = (self.is_learning(), self.bound(Cause::Level));
        let pattern = &mut self.levels[level as usize - 1];
        pattern.recent.count(self.clock, &self.decay_table);
        let usual = (pattern.weight + weight) / (self.levels_total + weight);
        if is_learning {
            return pattern.recent.accept();
        }
        let tail = pattern.recent.excess_tail(usual, self.window);
        // More INFO than usual is a matter of load, which the series watch.
        if level < Level::Warn || tail > bound {
            return pattern.recent.passed();
        }
        match pattern.burst.alarm(time) {
            Phase::Usual => {
                pattern.recent.accept();
                let logs = f64::from(std::mem::take(&mut pattern.held));
                pattern.weight += logs * weight;
                self.levels_total += logs * weight;
            }
            phase => {
                pattern.recent.alarmed();
                found.evidence.continues |= phase == Phase::Continuing;
                found.evidence.add(Cause::Level, tail);
                found.is_level = true;
            }
        }
    }

    pub(super) fn score_latency(
        &mut self,
        pattern: &mut PatternBaseline,
        log: &Log<'_>,
        found: &mut ScoreParts,
    ) {
        let Some(latency_ms) = log.record.latency_ms else { return };
        let time = log.record.time.as_unix_nanos();
        let latency_baseline =
            pattern.latency_baseline.get_or_insert_with(|| Box::new(LatencyBaseline::new(time)));
        // In a spell there is reason to look at this cause: it is no longer one of many.
        let is_running = self.alarms[Cause::Latency as usize].burst_state.is_running(time);
        let weight = if is_running { Cause::Latency.weight() } else { 1.0 };
        let burst_state = OutlierBurst { is_running, bound: self.bound(Cause::Latency) / weight };
        found.latency =
            latency_baseline.observe(&mut self.latency_baseline, latency_ms, time, burst_state);
        let Some(latency) = found.latency else { return };
        found.evidence.add(Cause::Latency, latency.latency_tail * weight);
        if let Some(tail) = latency.slowdown_tail {
            found.evidence.add(Cause::Slowdown, tail);
            found.evidence.continues |= latency.continues && tail <= self.bound(Cause::Slowdown);
        }
    }

    /// Against its pattern's lengths, or its service's while the pattern has few.
    pub(super) fn score_length(
        &mut self,
        pattern: &mut PatternBaseline,
        log: &Log<'_>,
        found: &mut ScoreParts,
    ) {
        let bound = self.bound(Cause::Length);
        let is_known = pattern.lengths.count() >= LENGTHS_MIN;
        let (lengths, episode) = if is_known {
            (&pattern.lengths, &mut pattern.long)
        } else {
            (&self.lengths, &mut self.long)
        };
        let tail = lengths.tail(log.record.message.len());
        if tail > bound || self.seen <= LEARNING_LOGS {
            return;
        }
        match episode.alarm(log.record.time.as_unix_nanos()) {
            Phase::Usual => {}
            phase => {
                found.evidence.continues |= phase == Phase::Continuing;
                found.evidence.add(Cause::Length, tail);
                found.longest = Some(lengths.longest());
            }
        }
    }

    pub(super) fn score_values(&mut self, log: &Log<'_>, found: &mut ScoreParts) {
        let (attributes, time) = (&log.record.attributes, log.record.time.as_unix_nanos());
        found.value = self.values.observe(attributes, time, USUAL_NANOS);
        if let Some(value) = found.value {
            found.evidence.add(Cause::Value, value.tail);
            found.evidence.continues |= value.earlier_tail <= self.bound(Cause::Value);
        }
    }

    /// The forest, on logs that something else raises, and the sample that it is grown from.
    pub(super) fn score_combination(
        &mut self,
        pattern: &PatternBaseline,
        log: &Log<'_>,
        found: &mut ScoreParts,
    ) {
        let tail = found.evidence.combined();
        let wanted = self.reservoir.wants(self.seen);
        if tail > RAISED && !wanted {
            return;
        }
        let features = self.features(pattern, log);
        if tail <= RAISED {
            let forest = self.installed.as_ref();
            let forest = forest.or_else(|| self.reservoir.forest(self.seen));
            if let Some(forest) = forest.or(self.fallback.as_ref()) {
                found.evidence.add(Cause::Forest, forest.tail(&features));
                found.features = Some(features);
            }
        }
        // What alarms is no example of what is usual.
        if wanted && tail > self.contamination {
            self.reservoir.take(features, self.seen);
        }
    }

    pub(super) fn forest_statistics(&self) -> Option<&FeatureStatistics> {
        let forest = self.installed.as_ref().or(self.reservoir.grown());
        forest.or(self.fallback.as_ref()).map(|forest| forest.statistics())
    }

    fn features(&self, pattern: &PatternBaseline, log: &Log<'_>) -> Features {
        let hours = log.record.time.as_unix_nanos().div_euclid(HOUR_NANOS);
        // 1970-01-01 was a Thursday, day 3 of its week.
        let weekday = (hours.div_euclid(24) + 3).rem_euclid(7);
        // As logarithms, because the forest splits values evenly between the lowest and the
        // highest: shares of a thousandth and of a millionth would never be told apart.
        let share = |part: f64, whole: f64| ((part + 0.5) / (whole + 1.0)).ln() as f32;
        let level = &self.levels[log.level as usize - 1];
        [
            hours.rem_euclid(24) as f32,
            weekday as f32,
            share(pattern.recent.recent().into(), self.window),
            share(level.recent.recent().into(), self.window),
            (log.record.message.len() as f32).ln_1p(),
            log.record.latency_ms.map_or(-1.0, |latency_ms| (latency_ms as f32).ln_1p().min(1e3)),
            -share(pattern.weight, self.total),
        ]
    }

    /// Whether the alarm belongs to an episode or its cause has one left. What cannot be afforded
    /// is usual, or the rest of its episode would be free.
    pub(super) fn is_affordable(
        &mut self,
        pattern: &mut PatternBaseline,
        log: &Log<'_>,
        found: &ScoreParts,
    ) -> bool {
        let time = log.record.time.as_unix_nanos();
        if self.is_learning() {
            return false;
        }
        let cause = found.evidence.leading();
        if found.evidence.continues || self.is_spell(cause, time) {
            return true;
        }
        if self.budget.take(cause, self.seen) {
            return true;
        }
        if cause == Cause::Latency
            && let (Some(latency_baseline), Some(latency_ms)) =
                (&mut pattern.latency_baseline, log.record.latency_ms)
        {
            latency_baseline.learn_outlier(latency_ms, time);
        }
        pattern.novel_tail = 1.0;
        pattern.recent.accept();
        if let Some(value) = &found.value {
            self.values.accept(value);
        }
        false
    }

    /// Whether a cause alarms far more often than it does here. One that always alarms often is
    /// wrong about this service, and is held to its budget; one that suddenly does has found
    /// something.
    fn is_spell(&mut self, cause: Cause, time: i64) -> bool {
        let weight = self.decay.last_weight();
        let pattern = &mut self.alarms[cause as usize];
        pattern.recent.count(self.clock, &self.decay_table);
        let usual = (pattern.weight + weight) / (self.total + weight);
        let tail = pattern.recent.excess_tail(usual, self.window);
        let goes_on = pattern.burst_state.is_running(time);
        if (goes_on || tail <= SPELL_TAIL) && pattern.burst_state.alarm(time) != Phase::Usual {
            return true;
        }
        pattern.weight += weight;
        false
    }

    pub(super) fn learn(
        &mut self,
        pattern: &mut PatternBaseline,
        log: &Log<'_>,
        weight: f64,
        found: &ScoreParts,
    ) {
        pattern.count += 1;
        pattern.last_unix_nano = log.record.time.as_unix_nanos();
        if found.is_pattern {
            pattern.held += 1.0;
        } else {
            self.add_weight(pattern, weight);
            let level = &mut self.levels[log.level as usize - 1];
            if found.is_level {
                level.held += 1.0;
            } else {
                level.weight += weight;
                self.levels_total += weight;
            }
        }
        // Patterns seen once tell how often there are new ones, even if they alarm: left out, a
        // service that makes up new patterns all day would be alarmed about for ever.
        match pattern.count {
            1 => {
                pattern.first_weight = weight;
                self.singles += weight;
            }
            2 => self.singles = (self.singles - pattern.first_weight).max(0.0),
            _ => {}
        }
        if found.longest.is_none() {
            pattern.lengths.learn(log.record.message.len());
            self.lengths.learn(log.record.message.len());
        }
    }

    fn add_weight(&mut self, pattern: &mut PatternBaseline, weight: f64) {
        let before = pattern.weight;
        pattern.weight += weight;
        self.total += weight;
        let (from, to) = (magnitude(before), magnitude(pattern.weight));
        if from == to {
            self.by_magnitude[to] += weight;
        } else {
            // Rounding may leave a hair below nothing, which a share must not be.
            self.by_magnitude[from] = (self.by_magnitude[from] - before).max(0.0);
            self.by_magnitude[to] += pattern.weight;
        }
    }
}

impl ScoreParts {
    pub(super) fn new() -> Self {
        Self {
            evidence: Evidence::new(),
            is_pattern: false,
            is_level: false,
            longest: None,
            latency: None,
            value: None,
            features: None,
        }
    }
}

fn magnitude(weight: f64) -> usize {
    // The exponent bits of an IEEE 754 double: a logarithm for every log would cost more.
    let exponent = ((weight.to_bits() >> 52) & 0x7ff) as i64 - 1023;
    (exponent - EXPONENT_MIN).clamp(0, EXPONENTS as i64 - 1) as usize
}
