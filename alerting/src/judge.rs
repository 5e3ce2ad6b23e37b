//! What is unusual about a service right now, with nothing configured.
//!
//! A share or a rate is unusual if chance explains it neither from what is usual, nor from somewhat
//! more than that: so it is both certain and large enough to matter. "Somewhat more" grows with how
//! restless the service was in a week of health ([`Ceiling`]). Several windows are looked at, as a
//! busy service shows a fault in seconds and a quiet one in minutes.

use logweir_incident::{incident::Measured, rule::Severity};

use crate::{
    normal::{Abnormal, Ceiling, LEARN_DELAY_SECONDS, Normal, Share, Usual},
    statistics::{count_deviance, count_high, count_low, share_deviance, share_excess, share_low},
    window::{
        BUCKET_SECONDS, LATENCY_BUCKET_GROWTH, Row, Rows, Sums, latency_ms, mean_place,
        quantile_place,
    },
};

/// Full buckets of the windows that are looked at, besides the open one.
pub(crate) const WINDOWS: [i64; 5] = [1, 3, 6, 30, 90];
/// Standard deviations from what is usual that a verdict on errors takes, one on latency and one on
/// the volume, which chance alone moves less than people do; and a doubt.
const CERTAIN: f64 = 4.5;
const CERTAIN_LATENCY: f64 = 4.8;
const CERTAIN_VOLUME: f64 = 4.7;
const DOUBTFUL: f64 = 3.5;
/// More while less than a day is known.
const YOUNG_EXTRA: f64 = 1.5;
/// Standard deviations from the level that matters.
const BEYOND: f64 = 1.8;
/// How far above the healthy ceiling a level must be.
const CEILING_FACTOR: f64 = 1.3;
/// How far above what chance was seen to do in health, and how much of that once more where it was
/// seen to do more than chance alone does.
const CHANCE_FACTOR: f64 = 1.1;
const RESTLESS_FROM: f64 = 4.2;
const RESTLESS_EXTRA: f64 = 1.2;
/// Standard deviations that latencies must have where many logs are anomalies.
const SLOWER: f64 = 3.5;
/// So many times the usual latency is felt, in the middle of a distribution and in its mean.
const FELT: f64 = 1.3;
/// Standard deviations within which a healthy level counts as credible.
const CREDIBLE: f64 = 2.5;
/// Five-minute rows that must be known.
const SPANS_MIN: usize = 12;
/// Of expected logs that a silence must outlast the longest healthy one.
const SILENCE_FACTOR: f64 = 1.5;
/// No silence is shorter, seconds: a restart may take so long.
const SILENCE_SECONDS_MIN: f64 = 12.0;
/// Full buckets before a silence that say how busy the service was then, and how far they may err.
const BEFORE_SILENCE: [i64; 4] = [3, 6, 30, 60];
const BEFORE_SILENCE_ERR: f64 = 2.0;
const WEEK_SECONDS: f64 = 604_800.0;
/// A volume must fall below this share of what is usual, or rise above so many times it.
const DROP_SHARE: f64 = 0.45;
const DROP_SHARE_ONE_DAY: f64 = 0.4;
const DROP_SHARE_GUESS: f64 = 0.3;
const SURGE_FACTOR: f64 = 2.2;
/// Logs in a window that make its share worth showing.
const SHOWN_LOGS_MIN: f64 = 20.0;
const NANOS: i64 = 1_000_000_000;

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sureness {
    /// It may be: worth to be pending.
    Doubt,
    /// It keeps up what fires.
    Holds,
    /// It is.
    Certain,
}

/// Something that is unusual.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) sureness: Sureness,
    pub(crate) severity: Severity,
    pub(crate) measured: Vec<Measured>,
    pub(crate) summary: String,
    /// When it began, as far as the buckets tell.
    pub(crate) started_unix_nano: i64,
}

/// How large a share must be to matter.
struct Matters {
    factor: f64,
    factor_long: f64,
    excess: f64,
    hits_min: f64,
}

const MATTERS: [Matters; 4] = [
    Matters { factor: 2.0, factor_long: 1.6, excess: 0.004, hits_min: 4.0 },
    Matters { factor: 1.8, factor_long: 1.5, excess: 0.06, hits_min: 5.0 },
    Matters { factor: 3.0, factor_long: 2.5, excess: 0.02, hits_min: 5.0 },
    Matters { factor: 3.0, factor_long: 3.0, excess: 0.02, hits_min: 4.0 },
];

/// A service as the judge knows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    pub(crate) rows: Rows,
    pub(crate) normal: Normal,
    pub(crate) last_seen_unix_nano: i64,
    shares: [[Ceiling; WINDOWS.len()]; Share::ALL.len()],
    /// How far chance, or what looks like it, carried each share away from what is usual.
    chances: [[Ceiling; WINDOWS.len()]; Share::ALL.len()],
    drops: [Ceiling; WINDOWS.len()],
    surges: [Ceiling; WINDOWS.len()],
    silence: Ceiling,
    last_bucket: i64,
    /// Until when an incident of errors, and one of latency, was last held up. A window that reaches
    /// back before it would find the same again.
    pub(crate) held_unix_nano: [i64; 2],
    /// Until when errors, latency and volume were last abnormal: a window that reaches back before
    /// it teaches nothing.
    abnormal_unix_nano: [i64; 3],
}

/// The sums of a moment.
pub(crate) struct Moment {
    pub(crate) at_unix_nano: i64,
    pub(crate) sums: [Sums; WINDOWS.len()],
}

impl Watched {
    pub(crate) fn put(&mut self, row: Row) {
        if self.normal.next_seconds().is_none() {
            self.normal.begin(row.start_seconds);
        }
        self.last_seen_unix_nano = self.last_seen_unix_nano.max(row.last_seen_unix_nano);
        self.rows.put(row);
    }

    /// Learns what is old enough, and sums up what is new.
    pub(crate) fn pass(&mut self, at_unix_nano: i64, abnormal: Abnormal) -> Moment {
        let until = at_unix_nano.div_euclid(NANOS) - LEARN_DELAY_SECONDS;
        while let Some(next) = self.normal.next_seconds().filter(|next| next + 10 <= until) {
            self.normal.learn(next, self.rows.at(next), abnormal);
        }
        let slow_from = self.normal.usual().slow_from;
        let moment =
            Moment { at_unix_nano, sums: self.rows.sums(at_unix_nano, WINDOWS, slow_from) };
        for (until, is_abnormal) in self.abnormal_unix_nano.iter_mut().zip([
            abnormal.errors,
            abnormal.latency,
            abnormal.volume,
        ]) {
            if is_abnormal {
                *until = at_unix_nano;
            }
        }
        let bucket = at_unix_nano.div_euclid(BUCKET_SECONDS * NANOS);
        if bucket != self.last_bucket && self.normal.usual().spans > 0 {
            self.last_bucket = bucket;
            self.learn_ceilings(&moment);
        }
        moment
    }

    fn learn_ceilings(&mut self, moment: &Moment) {
        let seconds = moment.at_unix_nano.div_euclid(NANOS);
        let usual = self.normal.usual();
        let [errors, latency, volume] = self.abnormal_unix_nano;
        for (window, sums) in moment.sums.iter().enumerate() {
            let from = moment.at_unix_nano - (sums.seconds * 1e9) as i64;
            for share in Share::ALL {
                let healthy_from = match share {
                    Share::Errors => errors,
                    Share::Slow | Share::VerySlow => latency,
                    Share::Odd => errors.max(latency),
                };
                if from < healthy_from {
                    continue;
                }
                let (hits, total) = share.of(sums);
                let level = share_low(hits, total, CREDIBLE);
                self.shares[share as usize][window].learn(seconds, level);
                // What is usual of the first hour is too rough to say what chance is.
                if usual.spans >= SPANS_MIN {
                    let chance = share_excess(hits, total, usual.shares[share as usize]);
                    self.chances[share as usize][window].learn(seconds, chance);
                }
            }
            if from >= volume {
                let drop = usual.rate_low * sums.seconds / count_high(sums.total, CREDIBLE);
                self.drops[window].learn(seconds, drop);
                let expected = (usual.rate_high * sums.seconds).max(1.0);
                self.surges[window].learn(seconds, count_low(sums.total, CREDIBLE) / expected);
            }
        }
        if self.last_seen_unix_nano >= volume {
            let gap = (moment.at_unix_nano - self.last_seen_unix_nano) as f64 / 1e9;
            self.silence.learn(seconds, gap * usual.rate);
        }
    }

    /// What was learnt of the last hours belonged to a fault.
    pub(crate) fn forget_fresh(&mut self, what: Abnormal) {
        for ceilings in [&mut self.shares, &mut self.chances] {
            let [errors, slow, very_slow, odd] = ceilings;
            let forget = |ceilings: &mut [Ceiling]| {
                ceilings.iter_mut().for_each(Ceiling::forget_fresh);
            };
            if what.errors {
                forget(errors);
            }
            if what.latency {
                forget(slow);
                forget(very_slow);
            }
            if what.is_odd() {
                forget(odd);
            }
        }
        if what.volume {
            let all = self.drops.iter_mut().chain(&mut self.surges);
            all.chain([&mut self.silence]).for_each(Ceiling::forget_fresh);
        }
    }

    fn is_known(&self) -> bool {
        self.normal.usual().spans >= SPANS_MIN
    }

    /// Whether its share of errors is unusual.
    pub(crate) fn errors(&self, moment: &Moment, is_active: bool) -> Option<Finding> {
        let found = self.share(Share::Errors, moment, is_active)?;
        let usual = self.normal.usual();
        let sums = &moment.sums[found.window];
        let per_second = sums.errors / sums.seconds;
        let share = sums.errors / sums.total.max(1.0);
        // Few logs at night make the share of a steady trickle of errors rise: not by itself a fault.
        let is_more = per_second >= 1.3 * usual.errors_per_second || share >= 4.0 * usual.shares[0];
        if !is_active && !is_more {
            return None;
        }
        let is_bad = share >= 0.2 && share >= 3.0 * usual.shares[0] && sums.errors >= 8.0;
        let (now, normal) = (per_second * 60.0, usual.errors_per_second * 60.0);
        let shown = percent(share);
        let usually = percent(usual.shares[0]);
        Some(Finding {
            sureness: found.sureness,
            severity: if is_bad { Severity::Critical } else { Severity::Warning },
            summary: format!(
                "errors/min: {}, normal {}; {shown} of logs are errors, normal {usually}",
                figure(now),
                figure(normal)
            ),
            measured: vec![
                measured("errors/min", now, normal, None, sums.total),
                measured("error share", share, usual.shares[0], Some(found.line), sums.total),
            ],
            started_unix_nano: self.share_began(Share::Errors, moment, &found),
        })
    }

    /// Whether its latencies are unusual.
    pub(crate) fn latency(&self, moment: &Moment, is_active: bool) -> Option<Finding> {
        let asked = [Share::Slow, Share::VerySlow, Share::Odd].into_iter();
        let found = asked.filter_map(|share| {
            let found = self.share(share, moment, is_active)?;
            let is_it = share != Share::Odd || self.is_slower(moment, found.window);
            is_it.then_some((share, found))
        });
        // The first of the surest.
        let (share, found) = found
            .reduce(|best, other| if other.1.sureness > best.1.sureness { other } else { best })?;
        let usual = self.normal.usual();
        let counts = self.rows.latencies(moment.at_unix_nano, WINDOWS[found.window]);
        let now = |quantile| quantile_place(&counts, quantile).map_or(0.0, latency_ms);
        let (p50, p95) = (now(0.5), now(0.95));
        let sums = &moment.sums[found.window];
        // More slow logs than usual, but none that is slow enough to be felt.
        let is_felt = p50 >= FELT * usual.p50_ms
            || p95 >= 1.4 * usual.p95_ms
            || share == Share::Odd && self.slower(&counts).0 >= FELT;
        if !is_active && !is_felt {
            return None;
        }
        let odd = if share == Share::Odd {
            let (now, usually) = (sums.odd / sums.total, usual.shares[Share::Odd as usize]);
            format!("; {} of logs are anomalies, normal {}", percent(now), percent(usually))
        } else {
            String::new()
        };
        Some(Finding {
            sureness: found.sureness,
            severity: Severity::Warning,
            summary: format!(
                "latency p95: {} ms, normal {} ms; p50 {} ms, normal {} ms{odd}",
                figure(p95),
                figure(usual.p95_ms),
                figure(p50),
                figure(usual.p50_ms)
            ),
            measured: vec![
                measured("latency p95 ms", p95, usual.p95_ms, None, sums.timed),
                measured("latency p50 ms", p50, usual.p50_ms, None, sums.timed),
            ],
            started_unix_nano: self.share_began(share, moment, &found),
        })
    }

    /// Whether many anomalies of a window have to do with slowness.
    fn is_slower(&self, moment: &Moment, window: usize) -> bool {
        let sums = &moment.sums[window];
        let shares = &self.normal.usual().shares;
        let is_more = |share: Share| {
            let (hits, total) = share.of(sums);
            share_deviance(hits, total, shares[share as usize]) >= SLOWER
        };
        let counts = || self.rows.latencies(moment.at_unix_nano, WINDOWS[window]);
        is_more(Share::Slow) || is_more(Share::VerySlow) || self.slower(&counts()).1 >= SLOWER
    }

    /// So many times as slow as usual are these latencies by their geometric mean, and how far from
    /// what is usual this is in standard deviations.
    fn slower(&self, counts: &[f32]) -> (f64, f64) {
        let (usual, spread) = self.normal.usual().latency_places;
        let Some((now, _)) = mean_place(counts) else { return (1.0, 0.0) };
        let logs: f64 = counts.iter().map(|count| f64::from(*count)).sum();
        let places = now - usual;
        (LATENCY_BUCKET_GROWTH.powf(places), places / spread.max(1.0) * logs.sqrt())
    }

    /// Errors and logs of the last seconds, however many.
    pub(crate) fn errors_over(&self, at_unix_nano: i64, seconds: u32) -> (f64, f64) {
        if seconds <= 3_600 {
            let buckets = i64::from(seconds) / BUCKET_SECONDS - 1;
            let [sums] = self.rows.sums(at_unix_nano, [buckets.max(0)], [0, 0]);
            return (sums.errors, sums.total);
        }
        self.normal.errors_since(at_unix_nano.div_euclid(NANOS) - i64::from(seconds))
    }

    /// Whether it is silent, though it should not be.
    pub(crate) fn silence(&self, moment: &Moment, is_active: bool) -> Option<Finding> {
        let usual = self.normal.usual();
        // When a first weekend begins nobody knows how quiet it will be.
        let is_known = usual.days > 0 || usual.is_guess || usual.is_young();
        let trust = if is_known { 1.0 } else { 0.5 };
        let rate = (usual.rate_low * trust).min(self.rate_before_silence());
        let gap = (moment.at_unix_nano - self.last_seen_unix_nano) as f64 / 1e9;
        if !self.is_known() || rate <= 0.0 || gap < SILENCE_SECONDS_MIN / 2.0 {
            return None;
        }
        let young = if usual.is_young() { YOUNG_EXTRA } else { 1.0 };
        let chance = ((WEEK_SECONDS * rate).max(1.0).ln() + 5.0) * young;
        let needed = chance.max(SILENCE_FACTOR * self.silence.limit(usual.is_young()));
        let seconds = (needed / rate).max(SILENCE_SECONDS_MIN);
        let sureness = match gap / seconds {
            over if over >= 1.0 => Sureness::Certain,
            over if over >= 0.5 => Sureness::Doubt,
            _ => return None,
        };
        if is_active && sureness < Sureness::Certain {
            return None;
        }
        let normal = usual.rate * 60.0;
        Some(Finding {
            sureness,
            severity: Severity::Critical,
            summary: format!("silent for {} s; normal are {} logs/min", gap as u64, figure(normal)),
            measured: vec![
                measured("logs/min", 0.0, normal, None, 0.0),
                measured("silent s", gap, 1.0 / usual.rate.max(1e-9), Some(seconds), 0.0),
            ],
            started_unix_nano: self.last_seen_unix_nano,
        })
    }

    /// The most that the service may have logged a second when it was last heard: it may have
    /// become quiet before it fell silent.
    fn rate_before_silence(&self) -> f64 {
        let sums = self.rows.sums(self.last_seen_unix_nano, BEFORE_SILENCE, [0, 0]);
        let rates =
            sums.iter().map(|sums| count_high(sums.total, BEFORE_SILENCE_ERR) / sums.seconds);
        rates.fold(f64::MAX, f64::min)
    }

    /// Whether it logs far less than usual.
    pub(crate) fn drop(&self, moment: &Moment, is_active: bool) -> Option<Finding> {
        let usual = self.normal.usual();
        let share = match usual.days {
            0 if !usual.is_guess => return None,
            0 => DROP_SHARE_GUESS,
            1 => DROP_SHARE_ONE_DAY,
            _ => DROP_SHARE,
        };
        if usual.rate_low <= 0.0 {
            return None;
        }
        let mut best: Option<(usize, Sureness)> = None;
        for window in 1..4 {
            let sums = &moment.sums[window];
            let limit = self.drops[window].limit(false);
            let line = share.min(1.0 / (CEILING_FACTOR * limit).max(1.0));
            let expected = usual.rate_low * sums.seconds;
            // Half a log more, or the deviance of a small count is too great.
            let count = sums.total + 0.5;
            let sure = count_deviance(count, expected) <= -CERTAIN_VOLUME;
            let beyond = count_deviance(count, expected * line) <= -BEYOND;
            let is_below = sums.total <= expected * line;
            let sureness = match () {
                () if sure && beyond => Sureness::Certain,
                () if is_active && sums.total <= expected * (line * 1.5).min(0.7) => {
                    Sureness::Holds
                }
                () if sure && is_below => Sureness::Doubt,
                () => continue,
            };
            best = best.filter(|best| best.1 >= sureness).or(Some((window, sureness)));
        }
        let (window, sureness) = best?;
        Some(self.volume_finding(moment, window, sureness, Severity::Warning))
    }

    /// Whether it logs far more than usual.
    pub(crate) fn surge(&self, moment: &Moment, is_active: bool) -> Option<Finding> {
        let usual = self.normal.usual();
        if usual.days == 0 && !usual.is_guess || usual.rate_high <= 0.0 {
            return None;
        }
        let mut best: Option<(usize, Sureness)> = None;
        for window in 2..4 {
            let sums = &moment.sums[window];
            let factor = SURGE_FACTOR.max(1.4 * self.surges[window].limit(false));
            let expected = usual.rate_high * sums.seconds;
            let sure =
                sums.total >= 100.0 && count_deviance(sums.total, expected) >= CERTAIN_VOLUME;
            let sureness = match () {
                () if sure && count_deviance(sums.total, expected * factor) >= BEYOND => {
                    Sureness::Certain
                }
                () if is_active && sums.total >= expected * (0.8 * factor) => Sureness::Holds,
                () => continue,
            };
            best = best.filter(|best| best.1 >= sureness).or(Some((window, sureness)));
        }
        let (window, sureness) = best?;
        Some(self.volume_finding(moment, window, sureness, Severity::Info))
    }

    fn volume_finding(
        &self,
        moment: &Moment,
        window: usize,
        sureness: Sureness,
        severity: Severity,
    ) -> Finding {
        let usual = self.normal.usual();
        let sums = &moment.sums[window];
        let (now, normal) = (sums.total / sums.seconds * 60.0, usual.rate * 60.0);
        Finding {
            sureness,
            severity,
            summary: format!("logs/min: {}, normal {}", figure(now), figure(normal)),
            measured: vec![measured("logs/min", now, normal, None, sums.total)],
            started_unix_nano: moment.at_unix_nano - (sums.seconds * 1e9) as i64,
        }
    }

    fn share(&self, share: Share, moment: &Moment, is_active: bool) -> Option<Found> {
        if !self.is_known() {
            return None;
        }
        let usual = self.normal.usual();
        let mut best: Option<Found> = None;
        // What fires is held up by the last minute, or as long as it takes to have some logs: a
        // long window would keep it up long after it is over.
        let enough = |sums: &Sums| share.of(sums).1 >= SHOWN_LOGS_MIN;
        let last = match is_active {
            true => moment.sums.iter().skip(2).position(enough).map_or(WINDOWS.len(), |at| at + 3),
            false => WINDOWS.len(),
        };
        let held = self.held_unix_nano[usize::from(share != Share::Errors)];
        for (window, sums) in moment.sums.iter().enumerate().take(last) {
            if !is_active && moment.at_unix_nano - ((sums.seconds * 1e9) as i64) < held {
                break;
            }
            let found = self.share_in(share, window, sums, usual, is_active);
            let Some(found) = found else { continue };
            if best.as_ref().is_none_or(|best| found.sureness > best.sureness) {
                best = Some(found);
            }
        }
        best
    }

    fn share_in(
        &self,
        share: Share,
        window: usize,
        sums: &Sums,
        usual: &Usual,
        is_active: bool,
    ) -> Option<Found> {
        let matters = &MATTERS[share as usize];
        let normal = usual.shares[share as usize];
        let (hits, total) = share.of(sums);
        let young = if usual.is_young() { YOUNG_EXTRA } else { 1.0 };
        let factor = if window >= 3 { matters.factor_long } else { matters.factor };
        let limit = self.shares[share as usize][window].limit(usual.is_young());
        let line = (normal * factor).max(normal + matters.excess).max(limit * CEILING_FACTOR);
        let line = (line * young).min(0.97);
        let from_usual = share_excess(hits, total, normal);
        // Latencies are asked twice, and their tails are heavy.
        let certain = if share == Share::Errors { CERTAIN } else { CERTAIN_LATENCY };
        let seen = self.chances[share as usize][window].limit(usual.is_young());
        let restless = RESTLESS_EXTRA * (seen - RESTLESS_FROM).max(0.0);
        let certain = (certain * young).max(seen * CHANCE_FACTOR + restless);
        let sure = hits >= matters.hits_min && from_usual >= certain;
        let sureness = match () {
            () if sure && share_deviance(hits, total, line) >= BEYOND => Sureness::Certain,
            () if is_active && self.still(share, window, hits, total, line) => Sureness::Holds,
            () if hits >= 3.0 && from_usual >= DOUBTFUL * young && hits >= line * total => {
                Sureness::Doubt
            }
            () => return None,
        };
        Some(Found { window, sureness, line })
    }

    /// Whether what fires holds on: judged by the shortest window that has enough logs.
    fn still(&self, share: Share, window: usize, hits: f64, total: f64, line: f64) -> bool {
        let is_enough = total >= SHOWN_LOGS_MIN || (window == 4 && total > 0.0);
        let is_minute = window >= 2 || share == Share::Errors && window >= 1;
        is_minute && window < 4 && is_enough && hits >= 2.0 && hits >= line * 0.8 * total
    }

    /// The start of the first of those buckets above the line that follow each other without a
    /// break. Buckets with few logs are taken together.
    fn share_began(&self, share: Share, moment: &Moment, found: &Found) -> i64 {
        let slow_from = self.normal.usual().slow_from;
        let seconds = moment.at_unix_nano.div_euclid(NANOS);
        let mut began =
            if found.window < 3 { seconds } else { seconds - WINDOWS[found.window] * 10 };
        let (mut hits, mut total) = (0.0, 0.0);
        for row in self.rows.newest_first() {
            let sums = Sums::of(row, slow_from);
            let of_row = share.of(&sums);
            (hits, total) = (hits + of_row.0, total + of_row.1);
            if of_row.0 > 0.0 && hits >= found.line * total {
                began = began.min(row.start_seconds);
            }
            if total < SHOWN_LOGS_MIN {
                continue;
            }
            if hits < found.line * total {
                break;
            }
            (hits, total) = (0.0, 0.0);
        }
        began * NANOS
    }
}

struct Found {
    window: usize,
    sureness: Sureness,
    line: f64,
}

impl Share {
    fn of(self, sums: &Sums) -> (f64, f64) {
        match self {
            Self::Errors => (sums.errors, sums.total),
            Self::Slow => (sums.slow, sums.timed),
            Self::VerySlow => (sums.very_slow, sums.timed),
            Self::Odd => (sums.odd, sums.total),
        }
    }
}

fn measured(name: &str, now: f64, normal: f64, threshold: Option<f64>, support: f64) -> Measured {
    Measured {
        name: name.to_owned(),
        now,
        normal: Some(normal),
        threshold,
        support: support as u64,
    }
}

/// A number for a person: two or three digits that count.
pub(crate) fn figure(number: f64) -> String {
    match number.abs() {
        large if large >= 10.0 => format!("{number:.0}"),
        middle if middle >= 1.0 => format!("{number:.1}"),
        small if small >= 0.01 => format!("{number:.2}"),
        tiny if tiny > 0.0 => format!("{number:.4}"),
        _ => "0".to_owned(),
    }
}

pub(crate) fn percent(share: f64) -> String {
    format!("{} %", figure(share * 100.0))
}
