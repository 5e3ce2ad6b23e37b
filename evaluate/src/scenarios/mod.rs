//! How well the built-in rules find faults that are known beforehand,
//! and how often they cry wolf.
//!
//! Each play is one scenario of one seed at one rate: the logs that `loadgen` makes, in
//! memory, through what `incidents` plays files through. Plays share nothing.

mod list;
mod outcome;

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use logweir_core::{timestamp::NANOS_PER_SECOND, wire::record_from_wire};
use logweir_loadgen::Generator;
use logweir_processor::ProcessorConfig;
use serde::Serialize;

use self::outcome::outcome;
pub use self::{
    list::{SCENARIOS, Scenario},
    outcome::{FalseIncident, FaultOutcome, Outcome},
};
use crate::{error::Error, replay::Playing, run::Run};

/// Event time that is generated at once.
const SPAN_NANOS: i64 = 10 * NANOS_PER_SECOND;

/// A scenario, a rate and a seed.
type Task = (Scenario, f64, u64);

/// What several plays showed together.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sum {
    /// The scenario's name, or `all`.
    pub scenario: String,
    /// Logs a second of a service; none for several.
    pub rate: Option<f64>,
    /// Faults played.
    pub faults: usize,
    /// Those of them that were found.
    pub found: usize,
    /// Seconds from the first log that was changed or left out to the firing: the median.
    pub delay_seconds_median: Option<f64>,
    /// The same, which one in ten is above.
    pub delay_seconds_p90: Option<f64>,
    /// The longest.
    pub delay_seconds_max: Option<f64>,
    /// Faults found that have a pattern.
    pub with_pattern: usize,
    /// Those of them where the pattern is the first probable cause.
    pub pattern_first: usize,
    /// Incidents told that are about a fault.
    pub incidents_true: usize,
    /// Incidents told that are not.
    pub incidents_false: usize,
    /// Share of the incidents told that are about a fault.
    pub precision: Option<f64>,
    /// Days of event time, of each service.
    pub service_days: f64,
    /// False incidents of one service in a week.
    pub false_per_service_week: f64,
    /// False incidents of one service in a day.
    pub false_per_day: f64,
}

/// What is played.
#[derive(Debug, Clone)]
pub struct Options {
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// Logs a second of each service, as the mean of a day.
    pub rates: Vec<f64>,
    /// Each scenario is played with each of these.
    pub seeds: Range<u64>,
    /// Plays at once.
    pub jobs: usize,
}

/// The result.
#[derive(Debug)]
pub struct Report {
    /// Of every play.
    pub outcomes: Vec<Outcome>,
    /// Of each scenario at each rate, of all scenarios at each rate, and of everything.
    pub sums: Vec<Sum>,
    /// How long it took.
    pub seconds: f64,
}

/// Plays everything that is asked for.
pub fn evaluate(run: &Run<'_>, options: &Options) -> Result<Report, Error> {
    let Options { scenarios, rates, seeds, jobs } = options;
    let mut tasks: Vec<Task> = Vec::new();
    for &scenario in scenarios {
        for &rate in rates {
            tasks.extend(seeds.clone().map(|seed| (scenario, rate, seed)));
        }
    }
    let outcomes = play_all(&run.config, &tasks, *jobs)?;
    let sums = sums(scenarios, rates, &outcomes);
    Ok(Report { outcomes, sums, seconds: run.seconds() })
}

/// Plays all of them, the longest first; outcomes in the order of the tasks.
fn play_all(config: &ProcessorConfig, tasks: &[Task], jobs: usize) -> Result<Vec<Outcome>, Error> {
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    let weight = |task: &Task| task.0.weight() as f64 * task.1;
    order.sort_by(|a, b| weight(&tasks[*b]).total_cmp(&weight(&tasks[*a])));
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(usize, Result<Outcome, Error>)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, tasks.len().max(1)) {
            scope.spawn(|| {
                while let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = play(config, &tasks[number]);
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    outcomes.push((number, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn play(config: &ProcessorConfig, (scenario, rate, seed): &Task) -> Result<Outcome, Error> {
    let world = scenario.world(*seed, *rate);
    let (start, end) = (world.start_unix_nano, world.end_unix_nano);
    let mut generator = Generator::new(world.config, start);
    let mut playing = Playing::new(config);
    let mut from = start;
    while from < end {
        let mut logs = generator.tick(from, SPAN_NANOS);
        from += SPAN_NANOS;
        let mut span: Vec<(usize, _)> = Vec::new();
        for (service, records) in &mut logs {
            span.extend(records.drain(..).map(|record| (*service, record)));
        }
        if logs.len() > 1 {
            span.sort_by_key(|(service, record)| (record.time_unix_nano, *service));
        }
        for (service, record) in span {
            // `loadgen` makes no time that the wire cannot carry.
            let time_unix_nano = i64::try_from(record.time_unix_nano).unwrap_or(i64::MAX);
            let (mut record, _) = record_from_wire(0, record);
            record.time_unix_nano = time_unix_nano;
            playing.log(generator.service_name(service), record)?;
        }
    }
    let played = playing.finish(Some(end))?;
    Ok(outcome(scenario, (*rate, *seed), (start, end), generator.truth(), &played))
}

fn sum<'a>(name: &str, rate: Option<f64>, outcomes: impl Iterator<Item = &'a Outcome>) -> Sum {
    let mut sum = Sum { scenario: name.to_owned(), rate, ..Sum::default() };
    let mut delays = Vec::new();
    for outcome in outcomes {
        sum.service_days += outcome.service_days;
        sum.incidents_false += outcome.false_incidents.len();
        for fault in &outcome.faults {
            sum.faults += 1;
            sum.incidents_true += fault.told;
            delays.extend(fault.delay_seconds);
            sum.with_pattern += usize::from(fault.is_cause_first.is_some());
            sum.pattern_first += usize::from(fault.is_cause_first == Some(true));
        }
    }
    delays.sort_by(f64::total_cmp);
    sum.found = delays.len();
    // The least delay that so many are not above.
    let quantile = |share: f64| {
        let rank = (share * delays.len() as f64).ceil() as usize;
        delays.get(rank.saturating_sub(1)).copied()
    };
    sum.delay_seconds_median = quantile(0.5);
    sum.delay_seconds_p90 = quantile(0.9);
    sum.delay_seconds_max = quantile(1.0);
    let told = sum.incidents_true + sum.incidents_false;
    sum.precision = (told > 0).then(|| sum.incidents_true as f64 / told as f64);
    sum.false_per_day = sum.incidents_false as f64 / sum.service_days.max(1e-9);
    sum.false_per_service_week = sum.false_per_day * 7.0;
    sum
}

fn sums(scenarios: &[Scenario], rates: &[f64], outcomes: &[Outcome]) -> Vec<Sum> {
    let mut sums = Vec::new();
    for scenario in scenarios {
        for &rate in rates {
            let of = |v: &&Outcome| v.scenario == scenario.name && v.rate == rate;
            sums.push(sum(scenario.name, Some(rate), outcomes.iter().filter(of)));
        }
    }
    for &rate in rates {
        sums.push(sum("all", Some(rate), outcomes.iter().filter(|v| v.rate == rate)));
    }
    sums.push(sum("all", None, outcomes.iter()));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(names: &[&str], rate: f64, seeds: std::ops::Range<u64>) -> Vec<Outcome> {
        let scenarios = SCENARIOS.into_iter().filter(|scenario| names.contains(&scenario.name));
        let tasks: Vec<Task> =
            scenarios.flat_map(|s| seeds.clone().map(move |seed| (s, rate, seed))).collect();
        assert!(tasks.len() >= names.len());
        play_all(&ProcessorConfig::default(), &tasks, 2).unwrap()
    }

    #[test]
    fn every_kind_of_fault_is_found_for_the_right_cause_and_nothing_else_is() {
        let names = [
            "error-burst",
            "slow-rise",
            "latency-shift",
            "silence",
            "new-pattern",
            "level-shift",
            "restarts",
        ];
        for outcome in played(&names, 0.5, 4..5) {
            let name = outcome.scenario;
            assert_eq!(outcome.faults.is_empty(), name == "restarts");
            for fault in &outcome.faults {
                assert!(fault.delay_seconds.is_some_and(|delay| delay >= 0.0), "{name} is missed");
                assert_ne!(fault.is_cause_first, Some(false), "{name}");
            }
            assert!(outcome.false_incidents.is_empty(), "{name}: {:?}", outcome.false_incidents);
        }
    }

    #[test]
    fn a_quiet_weekend_is_no_fault() {
        for outcome in played(&["weekly"], 0.05, 1..2) {
            assert!(outcome.service_days >= 15.0 && outcome.false_incidents.is_empty());
        }
    }

    #[test]
    fn sums_say_what_was_found() {
        let fault = |delay_seconds: Option<f64>| outcome::FaultOutcome {
            service: "payments".to_owned(),
            kind: logweir_loadgen::fault::FaultKind::ErrorRamp,
            rule: delay_seconds.map(|_| "error spike".to_owned()),
            delay_seconds,
            told: usize::from(delay_seconds.is_some()),
            is_cause_first: delay_seconds.map(|delay| delay < 25.0),
        };
        let delays = [None, Some(10.0), Some(20.0), Some(30.0)];
        let outcome = Outcome {
            scenario: "slow-rise",
            rate: 1.0,
            seed: 1,
            service_days: 3.5,
            faults: delays.into_iter().map(fault).collect(),
            false_incidents: Vec::new(),
        };
        let sum = sum("all", None, [&outcome, &outcome].into_iter());
        assert_eq!((sum.faults, sum.found, sum.with_pattern, sum.pattern_first), (8, 6, 6, 4));
        assert_eq!((sum.delay_seconds_median, sum.delay_seconds_max), (Some(20.0), Some(30.0)));
        assert_eq!((sum.precision, sum.false_per_service_week), (Some(1.0), 0.0));
    }
}
