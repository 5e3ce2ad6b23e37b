//! The scenarios: what is made up for each, and which incidents are right about it.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;
use logweir_loadgen::{
    Config, Generator,
    fault::{Fault, FaultKind},
    generator::WEEKEND_SHARE,
    random::Random,
};

/// 2026-01-05T00:00:00Z, a Monday.
const MONDAY: Timestamp = Timestamp::from_unix_seconds(1_767_571_200);
/// The quiet time before the first fault, and what an hour more it may last by the seed.
const QUIET_MINUTES: u64 = 24 * 60;
const QUIET_EXTRA_SECONDS: u64 = 3_600;
/// What is played after the end of the last fault.
const AFTER_MINUTES: u64 = 20;
/// Shares of errors in health, by the seed.
const ERROR_SHARES: [f64; 4] = [0.02, 0.001, 0.05, 0.1];

const ERRORS: &[&str] = &["error_rate"];
const BURST: &[&str] = &["error_rate", "new_pattern"];
const LESS: &[&str] = &["service_silence", "volume_down"];
const LATENCY: &[&str] = &["latency"];

/// A world with or without faults. One without is there for the false alarms.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What goes wrong, seconds after the quiet time and for so many minutes.
    faults: &'static [(FaultKind, u64, u64)],
    /// Kinds of incidents that are right about it; any other that is told counts as false.
    pub(super) fits: &'static [&'static str],
    pub(super) services: usize,
    /// Days, where no fault says how long it takes.
    days: u64,
    weekend_share: f64,
    is_restless: bool,
}

const fn fault(
    name: &'static str,
    faults: &'static [(FaultKind, u64, u64)],
    fits: &'static [&'static str],
) -> Scenario {
    let (services, days, is_restless) = (1, 0, false);
    Scenario { name, faults, fits, services, days, weekend_share: WEEKEND_SHARE, is_restless }
}

const fn healthy(name: &'static str, days: u64) -> Scenario {
    Scenario { days, ..fault(name, &[], &[]) }
}

/// All of them.
pub const SCENARIOS: [Scenario; 16] = [
    fault("error-burst", &[(FaultKind::ErrorBurst, 0, 10)], BURST),
    fault("error-rise", &[(FaultKind::ErrorRise, 0, 10)], ERRORS),
    fault("slow-rise", &[(FaultKind::ErrorRamp, 0, 60)], ERRORS),
    fault("latency-shift", &[(FaultKind::LatencyShift, 0, 10)], LATENCY),
    fault("latency-rise", &[(FaultKind::LatencyRamp, 0, 60)], LATENCY),
    fault("latency-one", &[(FaultKind::LatencyOne, 0, 15)], LATENCY),
    fault("silence", &[(FaultKind::Silence, 0, 10)], LESS),
    fault("volume-drop", &[(FaultKind::VolumeDrop, 0, 20)], LESS),
    fault("volume-surge", &[(FaultKind::VolumeSurge, 0, 20)], &["volume_up"]),
    fault("new-pattern", &[(FaultKind::NewPattern, 0, 10)], &["new_pattern"]),
    fault("level-shift", &[(FaultKind::LevelShift, 0, 240)], ERRORS),
    // A version that is worse than the one before.
    fault("bad-deploy", &[(FaultKind::Restart, 0, 1), (FaultKind::LevelShift, 5, 240)], ERRORS),
    Scenario { services: 3, ..fault("common-cause", &[(FaultKind::ErrorBurst, 0, 10)], BURST) },
    Scenario { weekend_share: 0.15, ..healthy("weekly", 15) },
    Scenario { is_restless: true, ..healthy("restless", 8) },
    Scenario {
        faults: &[
            (FaultKind::Restart, 0, 1),
            (FaultKind::Restart, 4 * 3_600, 1),
            (FaultKind::Restart, 24 * 3_600, 1),
        ],
        ..healthy("restarts", 3)
    },
];

/// A scenario of a seed, to be generated.
pub(super) struct World {
    pub(super) config: Config,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Scenario {
    /// How much work it is, compared with others.
    pub(super) fn weight(&self) -> u64 {
        self.services as u64 * self.days.max(1)
    }

    /// What it is at a rate of logs a second and service. The seed decides on everything: when in
    /// the week it begins, how many errors are usual, whether there is a rhythm, and the logs.
    pub(super) fn world(&self, seed: u64, rate: f64) -> World {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let start = MONDAY + Duration::from_secs(60 * random.below(7 * 1_440));
        // It begins at any minute of a week: rules that fit noon on a Tuesday must fit a Sunday
        // night as well.
        let quiet = QUIET_MINUTES * 60 + random.below(QUIET_EXTRA_SECONDS);
        let mut config = Config {
            seed,
            services: self.services,
            rate_per_second: rate * self.services as f64,
            // 3 and 4 share no factor: twelve seeds have every share of errors with and without a
            // rhythm. Where nothing goes wrong the rhythm is what may mislead a rule.
            has_rhythm: !seed.is_multiple_of(3) || self.days > 0,
            weekend_share: self.weekend_share,
            error_share: ERROR_SHARES[(seed % 4) as usize],
            is_irregular: true,
            ..Config::default()
        };
        let names = Generator::new(config.clone(), start);
        let names: Vec<&str> = (0..self.services).map(|s| names.service_name(s)).collect();
        if self.is_restless {
            config.restless = names.iter().map(|name| (*name).to_owned()).collect();
        }
        // Every service has each fault at the same moment: several services have one cause.
        let mut end = self.days * 86_400;
        for &(kind, after, length) in self.faults {
            let start = quiet + after;
            end = end.max(start + (length + AFTER_MINUTES) * 60);
            config.faults.extend(names.iter().map(|service| Fault {
                kind,
                start: Duration::from_secs(start),
                length: Duration::from_secs(length * 60),
                service: (*service).to_owned(),
            }));
        }
        World { config, start, end: start + Duration::from_secs(end) }
    }
}
