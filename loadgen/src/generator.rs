//! Logs made up from a seed: services with a daily rhythm, over a thousand patterns with unique
//! parameters, log-normal latencies, and faults that are known beforehand, so that a detector can
//! be judged by them. Pure: the same seed and the same calls give the same logs; time comes from
//! the caller.

use std::time::Duration;

use logweir_core::timestamp::{Timestamp, nanos_of};
use logweir_proto::v1;

use crate::{
    fault::{Fault, FaultKind},
    random::Random,
    template::{ERROR_SHARE, ServiceModel, Template, insert_dump, set_odd_region},
    truth::TruthEntry,
};

const DAY_NANOS: f64 = 86_400e9;
/// Share of a service's logs that an error burst turns into errors.
const BURST_SHARE: f64 = 0.4;
/// Share of a service's logs that follow the new pattern.
const NEW_PATTERN_SHARE: f64 = 0.1;
/// What a latency shift multiplies by.
const LATENCY_FACTOR: f64 = 5.0;
/// Share of a service's logs that a rise of errors turns into usual errors.
const ERROR_RISE_SHARE: f64 = 0.2;
/// Share of a service's logs that a flood takes.
const FLOOD_SHARE: f64 = 0.75;
/// Share of the latencies that spike, and what they are multiplied by.
const SPIKE_SHARE: f64 = 0.05;
const SPIKE_FACTOR: f64 = 30.0;
/// Share of a service's logs that are long, or odd.
const ODD_SHARE: f64 = 0.02;
/// Share of a service's logs that a ramp of errors reaches.
const ERROR_RAMP_SHARE: f64 = 0.4;
/// What a shift of the level of errors adds, in times what is usual, and at least.
const LEVEL_SHIFT_FACTOR: f64 = 3.0;
const LEVEL_SHIFT_SHARE_MIN: f64 = 0.05;
/// What the latency of one pattern is multiplied by.
const ONE_LATENCY_FACTOR: f64 = 6.0;
/// Share of the logs that a drop leaves out, and what a surge multiplies them by.
const DROP_SHARE: f64 = 0.8;
const SURGE_FACTOR: f64 = 3.0;
/// A restart: how long it is silent, and the share of messages of the start after it.
const RESTART: Duration = Duration::from_secs(5);
const START_SHARE: f64 = 0.5;
/// What weekends have of a working day's logs.
pub const WEEKEND_SHARE: f64 = 0.6 / 1.16;
/// Of a restless service: seconds from a burst to the next and how long one lasts, by the mean.
const BURST_PAUSE_SECONDS: f64 = 2_400.0;
const BURST_SECONDS: f64 = 100.0;
const BURST_MIN: Duration = Duration::from_secs(20);

/// What to generate.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything follows from it, and from the stream.
    pub seed: u64,
    /// A number for each of several senders that run at once: another one gives other logs of the
    /// same services and patterns.
    pub stream: u64,
    /// How many services.
    pub services: usize,
    /// Patterns of each service.
    pub templates_per_service: usize,
    /// Logs a second of event time over all services, as the mean of a day.
    pub rate_per_second: f64,
    /// Whether rates follow the hour and the weekday.
    pub has_rhythm: bool,
    /// What a day of a weekend has of a working day's logs.
    pub weekend_share: f64,
    /// Share of a service's logs that are errors while nothing is wrong, fatal ones included.
    pub error_share: f64,
    /// Whether logs come by chance, as those of independent requests do, rather than evenly.
    pub is_irregular: bool,
    /// Services whose nature are bursts of errors and of logs.
    pub restless: Vec<String>,
    /// What goes wrong and when.
    pub faults: Vec<Fault>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            stream: 0,
            services: 20,
            templates_per_service: 60,
            rate_per_second: 1_000.0,
            has_rhythm: true,
            weekend_share: WEEKEND_SHARE,
            error_share: ERROR_SHARE,
            is_irregular: false,
            restless: Vec::new(),
            faults: Vec::new(),
        }
    }
}

/// Generates logs, service by service.
pub struct Generator {
    config: Config,
    services: Vec<ServiceModel>,
    random: Random,
    /// Logs so far; part of the parameters, which makes them unique.
    serial: u64,
    /// Fractions of a log that each service is still owed.
    owed: Vec<f64>,
    /// The burst of each restless service, the present or the last one.
    bursts: Vec<Burst>,
    truth: Vec<TruthEntry>,
}

/// A burst that is a service's nature.
#[derive(Debug, Clone, Copy, Default)]
struct Burst {
    start: Timestamp,
    end: Timestamp,
    /// Share of the logs that become usual errors.
    errors: f64,
    /// So many times as many logs.
    factor: f64,
}

impl Burst {
    fn at(self, time: Timestamp) -> Option<Self> {
        (self.start..self.end).contains(&time).then_some(self)
    }

    /// The next one after a moment.
    fn next(time: Timestamp, random: &mut Random) -> Self {
        // Exponential, as what comes by chance. 1 less a share is never 0, so the pause is finite.
        let mut after =
            |mean: f64| Duration::from_nanos((-(1.0 - random.share()).ln() * mean * 1e9) as u64);
        let start = time + after(BURST_PAUSE_SECONDS);
        let end = start + after(BURST_SECONDS) + BURST_MIN;
        let (errors, factor) = (0.05 + 0.15 * random.share(), 1.0 + 1.5 * random.share());
        Self { start, end, errors, factor }
    }
}

impl Generator {
    /// The world of a seed. `start` is the moment that the faults count from.
    pub fn new(config: Config, start: Timestamp) -> Self {
        let services: Vec<_> = (0..config.services)
            .map(|number| {
                let templates = config.templates_per_service;
                ServiceModel::new(config.seed, number, templates, config.error_share)
            })
            .collect();
        let truth = config.faults.iter().map(|fault| TruthEntry::new(fault, start)).collect();
        let stream = config.stream.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // "logweir!" in ASCII: a service is made from the seed too, and its logs must not follow
        // from the same numbers as its patterns.
        let random = Random::new(config.seed ^ 0x6c6f_6777_6569_7221 ^ stream);
        let owed = vec![0.0; services.len()];
        let bursts = vec![Burst::default(); services.len()];
        Self { config, services, random, serial: 0, owed, bursts, truth }
    }

    /// How many services there are.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// A service's name.
    pub fn service_name(&self, service: usize) -> &str {
        &self.services[service].name
    }

    /// The faults, with what they have touched so far.
    pub fn truth(&self) -> &[TruthEntry] {
        &self.truth
    }

    /// Appends so many logs of one service, evenly spread over `length` from a moment. Fewer
    /// during its silence.
    pub fn records(
        &mut self,
        service: usize,
        count: usize,
        from: Timestamp,
        length: Duration,
        into: &mut Vec<v1::LogRecord>,
    ) {
        into.reserve(count);
        let step = length / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let mut time = from;
        for _ in 0..count {
            into.extend(self.record(service, time));
            time += step;
        }
    }

    /// What every service logs in a span of event time, by its rhythm. Spans must be of one length
    /// for the result to be the same in every run.
    pub fn tick(&mut self, from: Timestamp, length: Duration) -> Vec<(usize, Vec<v1::LogRecord>)> {
        let mut logs = Vec::new();
        for service in 0..self.services.len() {
            let rate = self.rate(service, from) * self.surge(service, from);
            if self.config.is_irregular {
                let records = self.by_chance(service, rate, from, length);
                if !records.is_empty() {
                    logs.push((service, records));
                }
                continue;
            }
            // A little noise, so that no two spans are the same.
            let noise = 1.0 + 0.1 * self.random.normal();
            self.owed[service] += (rate * nanos_of(length) as f64 / 1e9 * noise).max(0.0);
            // What is less than a log is owed to the next span: rounded away, a service of a few
            // logs a minute would never log in spans of a tenth of a second.
            let count = self.owed[service].floor();
            self.owed[service] -= count;
            let mut records = Vec::new();
            // A span with more logs than memory holds is a mistake of the caller's.
            self.records(service, count as usize, from, length, &mut records);
            if !records.is_empty() {
                logs.push((service, records));
            }
        }
        logs
    }

    /// A service's logs of a span, each independent of the others.
    fn by_chance(
        &mut self,
        service: usize,
        rate: f64,
        from: Timestamp,
        length: Duration,
    ) -> Vec<v1::LogRecord> {
        let mut records = Vec::new();
        let mut after = Duration::ZERO;
        loop {
            // Exponential pauses have no memory, so that each span may begin anew. No two logs of a
            // service share a moment: the truth names logs by service and time.
            let pause = (-(1.0 - self.random.share()).ln() / rate * 1e9).min(1e18) as u64;
            after += Duration::from_nanos(pause.max(1));
            if after >= length {
                return records;
            }
            records.extend(self.record(service, from + after));
        }
    }

    /// So many times as many logs as its rhythm says.
    fn surge(&mut self, service: usize, time: Timestamp) -> f64 {
        let name = &self.services[service].name;
        let surges = self
            .truth
            .iter()
            .filter(|truth| truth.kind == FaultKind::VolumeSurge && truth.covers(name, time));
        let factor = SURGE_FACTOR.powi(i32::try_from(surges.count()).unwrap_or(0));
        if !self.config.restless.contains(name) {
            return factor;
        }
        if self.bursts[service].end <= time {
            self.bursts[service] = Burst::next(time, &mut self.random);
        }
        factor * self.bursts[service].at(time).map_or(1.0, |burst| burst.factor)
    }

    /// Logs a second of a service at a moment.
    fn rate(&self, service: usize, time: Timestamp) -> f64 {
        let shares: f64 = self.services.iter().map(|model| model.share).sum();
        let model = &self.services[service];
        let mean = self.config.rate_per_second * model.share / shares;
        if !self.config.has_rhythm {
            return mean;
        }
        let days = time.as_unix_nanos() as f64 / DAY_NANOS;
        let hour = (days.fract() - model.busiest_hour / 24.0) * std::f64::consts::TAU;
        // 1970-01-01 was a Thursday; days 2 and 3 of that week are its weekend.
        let is_weekend = matches!(days.rem_euclid(7.0) as u32, 2 | 3);
        let weekend = self.config.weekend_share;
        // The cosine is 0 over a day, and five working days and a weekend come to seven days, so
        // that the mean of a week is the rate that was asked for.
        let working_day = 7.0 / (5.0 + 2.0 * weekend);
        mean * (1.0 + 0.6 * hour.cos()) * working_day * if is_weekend { weekend } else { 1.0 }
    }

    fn record(&mut self, service: usize, time: Timestamp) -> Option<v1::LogRecord> {
        self.serial += 1;
        let mut changes = Vec::new();
        for number in 0..self.truth.len() {
            let truth = &self.truth[number];
            if !truth.covers(&self.services[service].name, time) {
                continue;
            }
            let kind = truth.kind;
            if self.is_left_out(number, time) {
                self.truth[number].touched(time);
                return None;
            }
            let share = self.share_of(kind, self.truth[number].progress(time));
            if self.random.share() < share {
                changes.push((number, kind));
            }
        }
        let burst = self.bursts[service].at(time);
        let errs = burst.is_some_and(|burst| self.random.share() < burst.errors);
        let model = &self.services[service];
        // A service's own burst gives way to a fault, whose truth counts on its logs.
        let mut template = errs.then(|| model.usual_error(&mut self.random));
        // Of several faults that want a pattern of their own the last one given has it.
        for &(number, kind) in &changes {
            template = self.template_of(service, number, kind).or(template);
        }
        let model = &self.services[service];
        let template = template.unwrap_or_else(|| model.pick(&mut self.random));
        let mut latency_factor = 1.0;
        changes.retain(|&(number, kind)| {
            let factor = match kind {
                FaultKind::LatencyShift => LATENCY_FACTOR,
                FaultKind::LatencySpikes => SPIKE_FACTOR,
                FaultKind::LatencyRamp => {
                    1.0 + (LATENCY_FACTOR - 1.0) * self.truth[number].progress(time)
                }
                FaultKind::LatencyOne if template.is(&model.main_timed()) => ONE_LATENCY_FACTOR,
                // Not touched, and so no part of the truth.
                FaultKind::LatencyOne => return false,
                _ => 1.0,
            };
            latency_factor *= factor;
            true
        });
        let mut record = template.record(&mut self.random, self.serial, latency_factor);
        record.time_unix_nano = time.as_unix_nanos().unsigned_abs();
        for (number, kind) in changes {
            if self.alter(&mut record, kind) {
                self.truth[number].changed(time);
                if has_one_pattern(kind) && self.truth[number].pattern.is_empty() {
                    self.truth[number].pattern = template.pattern();
                }
            }
        }
        Some(record)
    }

    /// Whether a fault leaves out a log.
    fn is_left_out(&mut self, number: usize, time: Timestamp) -> bool {
        let truth = &self.truth[number];
        match truth.kind {
            FaultKind::Silence => true,
            FaultKind::VolumeDrop => self.random.share() < DROP_SHARE,
            FaultKind::Restart => time.since(truth.start) < RESTART,
            _ => false,
        }
    }

    /// What a log becomes by a fault; none if it stays what it is.
    fn template_of(&mut self, service: usize, number: usize, kind: FaultKind) -> Option<Template> {
        let model = &self.services[service];
        Some(match kind {
            FaultKind::ErrorBurst => model.burst_template(),
            FaultKind::NewPattern => model.new_template(number),
            FaultKind::ErrorRise => model.usual_error(&mut self.random),
            FaultKind::ErrorRamp | FaultKind::LevelShift => model.main_error(),
            FaultKind::Flood => model.flood_template(),
            FaultKind::Restart => model.start_template(&mut self.random),
            _ => return None,
        })
    }

    /// The share of a service's logs that a fault changes, when so much of it has passed (0 to 1).
    fn share_of(&self, kind: FaultKind, progress: f64) -> f64 {
        match kind {
            FaultKind::ErrorBurst => BURST_SHARE,
            FaultKind::NewPattern => NEW_PATTERN_SHARE,
            FaultKind::ErrorRise => ERROR_RISE_SHARE,
            FaultKind::ErrorRamp => ERROR_RAMP_SHARE * progress,
            FaultKind::LevelShift => {
                (LEVEL_SHIFT_FACTOR * self.config.error_share).max(LEVEL_SHIFT_SHARE_MIN)
            }
            FaultKind::Flood => FLOOD_SHARE,
            FaultKind::LatencySpikes => SPIKE_SHARE,
            FaultKind::LongMessage | FaultKind::OddValue => ODD_SHARE,
            FaultKind::Restart => START_SHARE,
            // What a drop leaves is as it was.
            FaultKind::VolumeDrop => 0.0,
            FaultKind::LatencyShift
            | FaultKind::LatencyRamp
            | FaultKind::LatencyOne
            | FaultKind::VolumeSurge
            | FaultKind::Silence => 1.0,
        }
    }

    /// Does to a log what its template does not; whether the fault has changed it.
    fn alter(&mut self, record: &mut v1::LogRecord, kind: FaultKind) -> bool {
        match kind {
            // A log that measures no latency cannot show the fault; no detector need find it.
            FaultKind::LatencyShift
            | FaultKind::LatencySpikes
            | FaultKind::LatencyRamp
            | FaultKind::LatencyOne => record.latency_ms.is_some(),
            FaultKind::LongMessage => {
                insert_dump(&mut record.message, &mut self.random);
                true
            }
            FaultKind::OddValue => {
                set_odd_region(&mut record.attributes);
                true
            }
            _ => true,
        }
    }
}

/// Whether all logs that a fault changes follow one pattern.
const fn has_one_pattern(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::ErrorBurst
            | FaultKind::NewPattern
            | FaultKind::ErrorRamp
            | FaultKind::LevelShift
            | FaultKind::LatencyOne
            | FaultKind::Flood
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// 2026-01-05T00:00:00Z, a Monday.
    const START: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);
    const SECOND: Duration = Duration::from_secs(1);

    fn logs(config: Config, seconds: u32) -> (Generator, Vec<(usize, v1::LogRecord)>) {
        let mut generator = Generator::new(config, START);
        let mut logs = Vec::new();
        for second in 0..seconds {
            for (service, records) in generator.tick(START + second * SECOND, SECOND) {
                logs.extend(records.into_iter().map(|record| (service, record)));
            }
        }
        (generator, logs)
    }

    fn faulty(fault: &str) -> Config {
        Config { faults: vec![fault.parse().unwrap()], ..Config::default() }
    }

    #[test]
    fn the_same_seed_gives_the_same_logs() {
        let (_, first) = logs(Config::default(), 3);
        let (_, second) = logs(Config::default(), 3);
        let (_, other) = logs(Config { seed: 2, ..Config::default() }, 3);
        assert_eq!(first, second);
        assert_ne!(first, other);
    }

    #[test]
    fn logs_look_as_promised() {
        let (_, logs) = logs(Config { rate_per_second: 20_000.0, ..Config::default() }, 5);
        let mean = logs.iter().map(|(_, log)| log.message.len()).sum::<usize>() / logs.len();
        assert!((80..150).contains(&mean), "{mean}");
        let within = |length| (70..=200).contains(&length);
        assert!(logs.iter().all(|(_, log)| within(log.message.len())));
        assert!(logs.iter().all(|(_, log)| log.attributes.len() == 3));
        let errors = logs.iter().filter(|(_, log)| log.level >= v1::Level::Error as i32).count();
        assert!((0.005..0.06).contains(&(errors as f64 / logs.len() as f64)), "{errors}");
        let messages: HashSet<_> = logs.iter().map(|(_, log)| &log.message).collect();
        assert_eq!(messages.len(), logs.len());
    }

    #[test]
    fn there_are_a_thousand_patterns() {
        let mut generator = Generator::new(Config::default(), START);
        let patterns: HashSet<_> =
            generator.services.iter().flat_map(|s| s.templates()).map(|t| t.pattern()).collect();
        assert!(patterns.len() >= 1_000, "{}", patterns.len());
        let names: HashSet<_> =
            (0..20).map(|service| generator.service_name(service).to_owned()).collect();
        assert_eq!(names.len(), 20);
        let mut records = Vec::new();
        generator.records(3, 1_000, START, SECOND, &mut records);
        assert_eq!(records.len(), 1_000);
    }

    #[test]
    fn the_day_has_a_rhythm_around_the_rate() {
        let generator = Generator::new(Config::default(), START);
        let rates: Vec<_> =
            (0..7 * 24).map(|hour| generator.rate(0, START + hour * 3_600 * SECOND)).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let shares: f64 = generator.services.iter().map(|s| s.share).sum();
        let expected = 1_000.0 * generator.services[0].share / shares;
        assert!((mean / expected - 1.0).abs() < 0.02, "{mean} {expected}");
        let highest = rates.iter().copied().fold(0.0, f64::max);
        let lowest = rates.iter().copied().fold(f64::MAX, f64::min);
        assert!(highest / lowest > 3.0);
    }

    #[test]
    fn faults_do_what_their_name_says_and_the_truth_counts_it() {
        let service = Generator::new(Config::default(), START).service_name(0).to_owned();
        let of_first = |logs: &[(usize, v1::LogRecord)]| -> Vec<v1::LogRecord> {
            let is_in = |log: &v1::LogRecord| {
                log.time_unix_nano >= (START + 2 * SECOND).as_unix_nanos() as u64
            };
            logs.iter()
                .filter(|(s, log)| *s == 0 && is_in(log))
                .map(|(_, log)| log.clone())
                .collect()
        };
        let (generator, silent) = logs(faulty(&format!("silence@2s+10s:{service}")), 5);
        assert!(of_first(&silent).is_empty());
        assert!(generator.truth()[0].logs > 0);
        let (generator, burst) = logs(faulty(&format!("error-burst@2s+10s:{service}")), 5);
        let is_error = |log: &&v1::LogRecord| log.level >= v1::Level::Error as i32;
        let errors = of_first(&burst).iter().filter(is_error).count();
        assert!(errors * 4 > of_first(&burst).len());
        assert!(generator.truth()[0].logs <= errors as u64);
        let (_, fresh) = logs(faulty(&format!("new-pattern@2s+10s:{service}")), 5);
        assert!(of_first(&fresh).iter().any(|log| log.message.contains("unprecedented")));
        let (generator, flood) = logs(faulty(&format!("flood@2s+10s:{service}")), 5);
        let flooded = of_first(&flood).len() * 3 / 4;
        assert!(generator.truth()[0].logs.abs_diff(flooded as u64) < 60);
        let (generator, rise) = logs(faulty(&format!("error-rise@2s+10s:{service}")), 5);
        let errors = of_first(&rise).iter().filter(is_error).count();
        assert!(errors * 7 > of_first(&rise).len() && generator.truth()[0].logs <= errors as u64);
        let (generator, long) = logs(faulty(&format!("long-message@2s+10s:{service}")), 5);
        let is_long = |log: &&v1::LogRecord| log.message.len() > 2_000;
        let truth = &generator.truth()[0];
        assert_eq!(of_first(&long).iter().filter(is_long).count() as u64, truth.logs);
        assert!(truth.logs > 0 && truth.after_nanos.is_sorted_by(|a, b| a < b));
        let (generator, odd) = logs(faulty(&format!("odd-value@2s+10s:{service}")), 5);
        let is_odd = |log: &&v1::LogRecord| format!("{:?}", log.attributes).contains("nowhere");
        let odd = of_first(&odd).iter().filter(is_odd).count();
        assert_eq!(odd as u64, generator.truth()[0].logs);
        let (_, normal) = logs(Config::default(), 5);
        let (_, slow) = logs(faulty(&format!("latency-shift@2s+10s:{service}")), 5);
        let total = |logs: &[v1::LogRecord]| logs.iter().filter_map(|l| l.latency_ms).sum::<f64>();
        assert!(total(&of_first(&slow)) > 4.0 * total(&of_first(&normal)));
        let (generator, spikes) = logs(faulty(&format!("latency-spikes@2s+10s:{service}")), 5);
        let with_latency = of_first(&spikes).iter().filter(|l| l.latency_ms.is_some()).count();
        let spiked = generator.truth()[0].logs as usize;
        assert!(spiked > 0 && spiked * 10 < with_latency, "{spiked} of {with_latency}");
    }

    #[test]
    fn what_grows_and_what_goes_is_as_much_as_promised() {
        let service = Generator::new(Config::default(), START).service_name(0).to_owned();
        let of = |fault: &str, seconds| {
            let (generator, logs) = logs(faulty(&format!("{fault}:{service}")), seconds);
            let of_first: Vec<v1::LogRecord> =
                logs.into_iter().filter(|(s, _)| *s == 0).map(|(_, log)| log).collect();
            (generator.truth()[0].clone(), of_first)
        };
        let errors = |logs: &[v1::LogRecord]| {
            logs.iter().filter(|log| log.level >= v1::Level::Error as i32).count() as f64
                / logs.len() as f64
        };
        let (truth, ramp) = of("error-ramp@0s+10s", 10);
        let half = ramp.len() / 2;
        assert!(errors(&ramp[..half]) < 0.2 && errors(&ramp[half..]) > 0.25);
        assert!(truth.pattern.contains("could not be") && truth.first >= Some(START));
        let (truth, shifted) = of("level-shift@0s+10s", 10);
        assert!((0.05..0.11).contains(&errors(&shifted)), "{}", errors(&shifted));
        assert!(!truth.pattern.is_empty());
        let (_, whole) = of("silence@1h+1s", 10);
        let (truth, few) = of("volume-drop@0s+10s", 10);
        assert!(few.len() * 4 < whole.len() && few.len() * 6 > whole.len());
        assert!((truth.logs as usize + few.len()).abs_diff(whole.len()) < whole.len() / 5);
        let (_, many) = of("volume-surge@0s+10s", 10);
        assert!(many.len() * 2 > whole.len() * 5 && many.len() * 2 < whole.len() * 7);
        let (truth, one) = of("latency-one@0s+10s", 10);
        let total = |logs: &[v1::LogRecord]| logs.iter().filter_map(|l| l.latency_ms).sum::<f64>();
        assert!(truth.logs > 0 && (truth.logs as usize) < one.len() / 2);
        assert!(total(&one) > total(&whole));
        let (_, slower) = of("latency-ramp@0s+10s", 10);
        let half = slower.len() / 2;
        assert!(total(&slower[half..]) > 1.5 * total(&slower[..half]));
        let (truth, started) = of("restart@0s+10s", 10);
        let of_start = |log: &&v1::LogRecord| log.message.contains("generation");
        assert!(started[0].time_unix_nano >= (START + RESTART).as_unix_nanos() as u64);
        assert!(started.iter().filter(of_start).count() * 5 > started.len() * 2);
        assert!(truth.pattern.is_empty());
    }

    #[test]
    fn weekends_are_as_quiet_as_asked() {
        let config = Config { weekend_share: 0.15, ..Config::default() };
        let generator = Generator::new(config, START);
        let rate = |hour: u32| generator.rate(0, START + hour * 3_600 * SECOND);
        let mean = (0..7 * 24).map(rate).sum::<f64>() / (7.0 * 24.0);
        let shares: f64 = generator.services.iter().map(|s| s.share).sum();
        assert!((mean / (1_000.0 * generator.services[0].share / shares) - 1.0).abs() < 0.02);
        assert!((rate(5 * 24 + 12) / rate(4 * 24 + 12) - 0.15).abs() < 1e-9);
    }

    #[test]
    fn logs_by_chance_keep_the_rate_and_a_restless_service_has_bursts() {
        let config = Config { services: 1, rate_per_second: 20.0, ..Config::default() };
        let config = Config { is_irregular: true, has_rhythm: false, ..config };
        let (generator, logs) = logs(config.clone(), 1_000);
        let count = logs.len() as f64;
        assert!((count - 20_000.0).abs() < 4.0 * 20_000_f64.sqrt(), "{count}");
        assert!(logs.is_sorted_by(|a, b| a.1.time_unix_nano < b.1.time_unix_nano));
        let restless = vec![generator.service_name(0).to_owned()];
        let mut generator = Generator::new(Config { restless, ..config }, START);
        let mut spans: Vec<usize> = (0..1_000)
            .map(|span| {
                let logs = generator.tick(START + span * 20 * SECOND, 20 * SECOND);
                logs.first().map_or(0, |(_, records)| records.len())
            })
            .collect();
        spans.sort_unstable();
        assert!((350..450).contains(&spans[500]), "{}", spans[500]);
        assert!(spans[999] > 600, "{}", spans[999]);
    }
}
