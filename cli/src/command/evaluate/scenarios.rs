//! `logweir evaluate scenarios`: how well the built-in rules find faults that are known beforehand,
//! and how often they cry wolf.
//!
//! Each play is one scenario of one seed at one rate: the logs that `logweir loadgen` makes, in
//! memory, through what `logweir evaluate incidents` plays files through. Plays share nothing.

mod list;
mod verdict;

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use clap::Args;
use logweir_core::wire::record_from_wire;
use logweir_processor::ProcessorConfig;
use serde::Serialize;

use self::{
    list::{SCENARIOS, Scenario},
    verdict::{Verdict, verdict},
};
use super::{Run, playing::Playing};
use crate::{
    error::Exit,
    loadgen::Generator,
    output::{Value, count, number, text},
};

/// Event time that is generated at once.
const SPAN_NANOS: i64 = 10_000_000_000;
const RATE_MAX: f64 = 1_000.0;

const HELP: &str = "\
Scenarios with a fault, after a quiet day:
  error-burst    four in ten logs become errors of one pattern that is new, for 10 min
  error-rise     one log in five becomes one of the usual errors, for 10 min
  slow-rise      a usual error becomes ever more frequent within an hour, in the end four logs in ten
  latency-shift  five times as slow, for 10 min
  latency-rise   ever slower within an hour, in the end five times
  latency-one    one pattern is six times as slow, for 15 min
  silence        no logs, for 10 min
  volume-drop    four logs in five are missing, for 20 min
  volume-surge   three times as many logs, for 20 min
  new-pattern    one log in ten is a warning that never occurred before, for 10 min
  level-shift    a usual error makes four times as many errors, for 4 hours
  bad-deploy     the same from a restart on
  common-cause   an error-burst in three services at once
Healthy ones:
  weekly         15 days, with a daily rhythm; a day of a weekend has 15 % of a working day's logs
  restless       8 days with bursts of errors and of logs every 40 minutes or so
  restarts       3 days with three restarts, each with messages that never occurred before

The seed decides when in the week it begins, when the fault comes, how many errors are usual (0.1 to
10 %), whether there is a daily rhythm, and the logs, which come by chance.

A fault is found by the first incident that people are told of, that is of a kind that fits, of its
service, and that fires between its beginning and 2 min after its end. The delay is the time from the
first log that it changed or left out to the moment of firing. Every other incident that people are
told of is false, those included that say the wrong thing during a fault. Precision is the share of
incidents told that are not false. \"First\" are the faults whose pattern is the first probable cause.";

/// Arguments of `logweir evaluate scenarios`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct ScenariosArgs {
    /// Seeds that each scenario is played with
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1, value_name = "SEED", value_parser = clap::value_parser!(u64).range(..1 << 40))]
    first_seed: u64,
    /// Logs a second of each service, as the mean of a day
    #[arg(long, default_value = "0.2,1,5", value_delimiter = ',', value_parser = rate)]
    rates: Vec<f64>,
    /// Only this scenario; may be given again
    #[arg(long = "scenario", value_name = "NAME", value_parser = scenario)]
    scenarios: Vec<Scenario>,
    /// Plays at once [default: as many as processors]
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
}

fn rate(text: &str) -> Result<f64, String> {
    let is_good = |rate: &f64| *rate > 0.0 && *rate <= RATE_MAX;
    let rate = text.parse().ok().filter(is_good);
    rate.ok_or_else(|| format!("write numbers above 0, up to {RATE_MAX}"))
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let found = SCENARIOS.into_iter().find(|scenario| scenario.name == name);
    found.ok_or_else(|| format!("use {}", SCENARIOS.map(|scenario| scenario.name).join(", ")))
}

/// A scenario, a rate and a seed.
type Task = (Scenario, f64, u64);

/// What several plays showed together.
#[derive(Debug, Clone, Default, Serialize)]
struct Sum {
    scenario: String,
    /// Logs a second of a service; none for several.
    rate: Option<f64>,
    faults: usize,
    found: usize,
    delay_seconds_median: Option<f64>,
    delay_seconds_p90: Option<f64>,
    delay_seconds_max: Option<f64>,
    /// Faults found that have a pattern, and those of them where it is the first probable cause.
    with_pattern: usize,
    pattern_first: usize,
    /// Incidents told that are about a fault, and those that are not.
    incidents_true: usize,
    incidents_false: usize,
    precision: Option<f64>,
    service_days: f64,
    false_per_service_week: f64,
    /// Of one service.
    false_per_day: f64,
}

impl ScenariosArgs {
    /// Runs it.
    pub(super) fn run(self, mut run: Run) -> anyhow::Result<Exit> {
        let scenarios =
            if self.scenarios.is_empty() { SCENARIOS.to_vec() } else { self.scenarios.clone() };
        let mut tasks: Vec<Task> = Vec::new();
        for &scenario in &scenarios {
            for &rate in &self.rates {
                let seeds = self.first_seed..self.first_seed + self.seeds;
                tasks.extend(seeds.map(|seed| (scenario, rate, seed)));
            }
        }
        let jobs = self.jobs.or_else(|| thread::available_parallelism().ok());
        let verdicts = play_all(&run.config, &tasks, jobs.map_or(1, NonZeroUsize::get))?;
        show(&mut run, &scenarios, &self.rates, &verdicts)?;
        Ok(Exit::Done)
    }
}

/// Plays all of them, the longest first; verdicts in the order of the tasks.
fn play_all(config: &ProcessorConfig, tasks: &[Task], jobs: usize) -> anyhow::Result<Vec<Verdict>> {
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    let weight = |task: &Task| task.0.weight() as f64 * task.1;
    order.sort_by(|a, b| weight(&tasks[*b]).total_cmp(&weight(&tasks[*a])));
    let next = AtomicUsize::new(0);
    let verdicts: Mutex<Vec<(usize, anyhow::Result<Verdict>)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, tasks.len().max(1)) {
            scope.spawn(|| {
                while let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = play(config, &tasks[number]);
                    let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
                    verdicts.push((number, verdict));
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
    verdicts.sort_by_key(|(number, _)| *number);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

fn play(config: &ProcessorConfig, (scenario, rate, seed): &Task) -> anyhow::Result<Verdict> {
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
            let time_unix_nano = i64::try_from(record.time_unix_nano)?;
            let (mut record, _) = record_from_wire(0, record);
            record.time_unix_nano = time_unix_nano;
            playing.log(generator.service_name(service), record)?;
        }
    }
    let played = playing.finish(Some(end))?;
    Ok(verdict(scenario, (*rate, *seed), (start, end), generator.truth(), &played))
}

fn sum<'a>(name: &str, rate: Option<f64>, verdicts: impl Iterator<Item = &'a Verdict>) -> Sum {
    let mut sum = Sum { scenario: name.to_owned(), rate, ..Sum::default() };
    let mut delays = Vec::new();
    for verdict in verdicts {
        sum.service_days += verdict.service_days;
        sum.incidents_false += verdict.false_incidents.len();
        for fault in &verdict.faults {
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

fn sums(scenarios: &[Scenario], rates: &[f64], verdicts: &[Verdict]) -> Vec<Sum> {
    let mut sums = Vec::new();
    for scenario in scenarios {
        for &rate in rates {
            let of = |v: &&Verdict| v.scenario == scenario.name && v.rate == rate;
            sums.push(sum(scenario.name, Some(rate), verdicts.iter().filter(of)));
        }
    }
    for &rate in rates {
        sums.push(sum("all", Some(rate), verdicts.iter().filter(|v| v.rate == rate)));
    }
    sums.push(sum("all", None, verdicts.iter()));
    sums
}

fn show(
    run: &mut Run,
    scenarios: &[Scenario],
    rates: &[f64],
    verdicts: &[Verdict],
) -> anyhow::Result<()> {
    let sums = sums(scenarios, rates, verdicts);
    let seconds = run.seconds();
    let output = &mut run.output;
    if output.json {
        verdicts.iter().try_for_each(|verdict| output.object(verdict))?;
        sums.iter().try_for_each(|sum| output.object(sum))?;
        output.flush()?;
        return Ok(());
    }
    for verdict in verdicts {
        let play = format!("{} at {}/s, seed {}", verdict.scenario, verdict.rate, verdict.seed);
        for fault in verdict.faults.iter().filter(|fault| fault.rule.is_none()) {
            output.line(&format!("missed: {play}: {}", fault.service))?;
        }
        for other in &verdict.false_incidents {
            let (rule, hours) = (&other.rule, other.after_hours);
            let line = format!("false: {play}: {rule} after {hours:.2} h: {}", other.summary);
            output.line(&crate::output::escape(&line))?;
        }
    }
    let header = [
        "scenario",
        "logs/s",
        "faults",
        "found",
        "median s",
        "p90 s",
        "max s",
        "first",
        "told",
        "false",
        "precision",
        "days",
        "false/week",
        "false/day",
    ];
    output.table(&header, sums.iter().map(row).collect())?;
    output.line(&format!("{} plays, {seconds:.0} s", verdicts.len()))?;
    output.flush()?;
    Ok(())
}

fn row(sum: &Sum) -> Vec<Value> {
    let first = match sum.with_pattern {
        0 => "-".to_owned(),
        with => format!("{}/{with}", sum.pattern_first),
    };
    let rate = sum.rate.map_or("all".to_owned(), |rate| rate.to_string());
    let is_faulty = sum.faults > 0;
    vec![
        text(&sum.scenario),
        text(&rate),
        count(sum.faults as u64),
        if is_faulty { count(sum.found as u64) } else { number(None, 0) },
        number(sum.delay_seconds_median, 1),
        number(sum.delay_seconds_p90, 1),
        number(sum.delay_seconds_max, 1),
        text(&first),
        count((sum.incidents_true + sum.incidents_false) as u64),
        count(sum.incidents_false as u64),
        number(sum.precision, 2),
        number(Some(sum.service_days), 1),
        number(Some(sum.false_per_service_week), 2),
        number(Some(sum.false_per_day), 3),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(names: &[&str], rate: f64, seeds: std::ops::Range<u64>) -> Vec<Verdict> {
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
        for verdict in played(&names, 0.5, 4..5) {
            let name = verdict.scenario;
            assert_eq!(verdict.faults.is_empty(), name == "restarts");
            for fault in &verdict.faults {
                assert!(fault.delay_seconds.is_some_and(|delay| delay >= 0.0), "{name} is missed");
                assert_ne!(fault.is_cause_first, Some(false), "{name}");
            }
            assert!(verdict.false_incidents.is_empty(), "{name}: {:?}", verdict.false_incidents);
        }
    }

    #[test]
    fn a_quiet_weekend_is_no_fault() {
        for verdict in played(&["weekly"], 0.05, 1..2) {
            assert!(verdict.service_days >= 15.0 && verdict.false_incidents.is_empty());
        }
    }

    #[test]
    fn sums_say_what_was_found() {
        let fault = |delay_seconds: Option<f64>| verdict::FaultVerdict {
            service: "payments".to_owned(),
            kind: crate::loadgen::fault::FaultKind::ErrorRamp,
            rule: delay_seconds.map(|_| "error spike".to_owned()),
            delay_seconds,
            told: usize::from(delay_seconds.is_some()),
            is_cause_first: delay_seconds.map(|delay| delay < 25.0),
        };
        let delays = [None, Some(10.0), Some(20.0), Some(30.0)];
        let verdict = Verdict {
            scenario: "slow-rise",
            rate: 1.0,
            seed: 1,
            service_days: 3.5,
            faults: delays.into_iter().map(fault).collect(),
            false_incidents: Vec::new(),
        };
        let sum = sum("all", None, [&verdict, &verdict].into_iter());
        assert_eq!((sum.faults, sum.found, sum.with_pattern, sum.pattern_first), (8, 6, 6, 4));
        assert_eq!((sum.delay_seconds_median, sum.delay_seconds_max), (Some(20.0), Some(30.0)));
        assert_eq!((sum.precision, sum.false_per_service_week), (Some(1.0), 0.0));
    }
}
