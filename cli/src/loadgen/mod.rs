//! Logs made up from a seed: services with a daily rhythm, over a thousand patterns with unique
//! parameters, log-normal latencies, and faults that are known beforehand, so that a detector can be
//! judged by them. Pure: the same seed and the same calls give the same logs; time comes from the
//! caller.

use logweir_proto::v1;

pub mod fault;
pub mod random;
pub mod template;

use fault::{Fault, FaultKind, TruthEntry};
use random::Random;
use template::ServiceModel;

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

/// What to generate.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything follows from it, and from the stream.
    pub seed: u64,
    /// Which of the streams of logs of the same services and patterns.
    pub stream: u64,
    /// How many services.
    pub services: usize,
    /// Patterns of each service.
    pub templates_per_service: usize,
    /// Logs a second of event time over all services, as the mean of a day.
    pub rate_per_second: f64,
    /// Whether rates follow the hour and the weekday.
    pub has_rhythm: bool,
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
    truth: Vec<TruthEntry>,
}

impl Generator {
    /// The world of a seed. `start_unix_nano` is the moment that the faults count from.
    pub fn new(config: Config, start_unix_nano: i64) -> Self {
        let services: Vec<_> = (0..config.services)
            .map(|number| ServiceModel::new(config.seed, number, config.templates_per_service))
            .collect();
        let truth =
            config.faults.iter().map(|fault| TruthEntry::new(fault, start_unix_nano)).collect();
        let stream = config.stream.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let random = Random::new(config.seed ^ 0x6c6f_6777_6569_7221 ^ stream);
        let owed = vec![0.0; services.len()];
        Self { config, services, random, serial: 0, owed, truth }
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

    /// Appends so many logs of one service, evenly spread over `length_nanos` from a moment. Fewer
    /// during its silence.
    pub fn records(
        &mut self,
        service: usize,
        count: usize,
        from_unix_nano: i64,
        length_nanos: i64,
        into: &mut Vec<v1::LogRecord>,
    ) {
        into.reserve(count);
        let step = length_nanos / i64::try_from(count.max(1)).unwrap_or(i64::MAX);
        for index in 0..count {
            let time = from_unix_nano + step * i64::try_from(index).unwrap_or(0);
            into.extend(self.record(service, time));
        }
    }

    /// What every service logs in a span of event time, by its rhythm. Spans must be of one length
    /// for the result to be the same in every run.
    pub fn tick(
        &mut self,
        from_unix_nano: i64,
        length_nanos: i64,
    ) -> Vec<(usize, Vec<v1::LogRecord>)> {
        let mut logs = Vec::new();
        for service in 0..self.services.len() {
            let rate = self.rate(service, from_unix_nano);
            // A little noise, so that no two spans are the same.
            let noise = 1.0 + 0.1 * self.random.normal();
            self.owed[service] += (rate * length_nanos as f64 / 1e9 * noise).max(0.0);
            let count = self.owed[service].floor();
            self.owed[service] -= count;
            let mut records = Vec::new();
            // A span with more logs than memory holds is the caller's mistake, not a number to trust.
            self.records(service, count as usize, from_unix_nano, length_nanos, &mut records);
            if !records.is_empty() {
                logs.push((service, records));
            }
        }
        logs
    }

    /// Logs a second of a service at a moment.
    fn rate(&self, service: usize, unix_nano: i64) -> f64 {
        let shares: f64 = self.services.iter().map(|model| model.share).sum();
        let model = &self.services[service];
        let mean = self.config.rate_per_second * model.share / shares;
        if !self.config.has_rhythm {
            return mean;
        }
        let days = unix_nano as f64 / DAY_NANOS;
        let hour = (days.fract() - model.busiest_hour / 24.0) * std::f64::consts::TAU;
        // 1970-01-01 was a Thursday; days 2 and 3 of that week are its weekend.
        let is_weekend = matches!(days.rem_euclid(7.0) as u32, 2 | 3);
        mean * (1.0 + 0.6 * hour.cos()) * if is_weekend { 0.6 } else { 1.16 }
    }

    fn record(&mut self, service: usize, unix_nano: i64) -> Option<v1::LogRecord> {
        self.serial += 1;
        let mut changes = Vec::new();
        for number in 0..self.truth.len() {
            if !self.truth[number].covers(&self.services[service].name, unix_nano) {
                continue;
            }
            match self.truth[number].kind {
                FaultKind::Silence => {
                    self.truth[number].logs += 1;
                    return None;
                }
                kind if self.random.share() < share_of(kind) => changes.push((number, kind)),
                _ => {}
            }
        }
        let model = &self.services[service];
        let mut template = None;
        for &(number, kind) in &changes {
            match kind {
                FaultKind::ErrorBurst => template = Some(model.burst_template()),
                FaultKind::NewPattern => template = Some(model.new_template(number)),
                FaultKind::ErrorRise => template = Some(model.usual_error(&mut self.random)),
                FaultKind::Flood => template = Some(model.flood_template()),
                _ => {}
            }
        }
        let template = template.unwrap_or_else(|| model.pick(&mut self.random));
        let factor = |(_, kind): &(usize, FaultKind)| match kind {
            FaultKind::LatencyShift => LATENCY_FACTOR,
            FaultKind::LatencySpikes => SPIKE_FACTOR,
            _ => 1.0,
        };
        let latency_factor: f64 = changes.iter().map(factor).product();
        let mut record = template.record(&mut self.random, self.serial, latency_factor);
        record.time_unix_nano = unix_nano.unsigned_abs();
        for (number, kind) in changes {
            if self.alter(&mut record, kind) {
                self.truth[number].changed(unix_nano);
            }
        }
        Some(record)
    }

    /// Does to a log what its template does not; whether the fault has changed it.
    fn alter(&mut self, record: &mut v1::LogRecord, kind: FaultKind) -> bool {
        match kind {
            FaultKind::LatencyShift | FaultKind::LatencySpikes => record.latency_ms.is_some(),
            FaultKind::LongMessage => {
                template::insert_dump(&mut record.message, &mut self.random);
                true
            }
            FaultKind::OddValue => {
                template::set_odd_region(&mut record.attributes);
                true
            }
            _ => true,
        }
    }
}

/// Of a service's logs.
fn share_of(kind: FaultKind) -> f64 {
    match kind {
        FaultKind::ErrorBurst => BURST_SHARE,
        FaultKind::NewPattern => NEW_PATTERN_SHARE,
        FaultKind::ErrorRise => ERROR_RISE_SHARE,
        FaultKind::Flood => FLOOD_SHARE,
        FaultKind::LatencySpikes => SPIKE_SHARE,
        FaultKind::LongMessage | FaultKind::OddValue => ODD_SHARE,
        FaultKind::LatencyShift | FaultKind::Silence => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// 2026-01-05T00:00:00Z, a Monday.
    const START: i64 = 1_767_571_200_000_000_000;
    const SECOND: i64 = 1_000_000_000;

    fn logs(config: Config, seconds: i64) -> (Generator, Vec<(usize, v1::LogRecord)>) {
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
            let is_in = |log: &v1::LogRecord| log.time_unix_nano >= (START + 2 * SECOND) as u64;
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
}
