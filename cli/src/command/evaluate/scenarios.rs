//! `logweir evaluate scenarios`: how well the built-in rules find faults that are known beforehand,
//! and how often they cry wolf.

use std::{io, num::NonZeroUsize, thread};

use clap::Args;
use logweir_evaluate::{
    Run,
    scenarios::{Options, Outcome, Report, SCENARIOS, Scenario, Sum, evaluate},
};

use crate::{
    error::Error,
    output::{Output, Value, count, escape, number, text},
};

/// The highest rate that is played: what is beyond takes hours and shows nothing new.
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

impl ScenariosArgs {
    /// Runs it.
    pub(super) fn run(self, run: &Run<'_>, output: &mut Output) -> anyhow::Result<()> {
        let scenarios = if self.scenarios.is_empty() { SCENARIOS.to_vec() } else { self.scenarios };
        let jobs = self.jobs.or_else(|| thread::available_parallelism().ok());
        let options = Options {
            scenarios,
            rates: self.rates,
            seeds: self.first_seed..self.first_seed + self.seeds,
            jobs: jobs.map_or(1, NonZeroUsize::get),
        };
        let report = evaluate(run, &options).map_err(Error::from)?;
        if output.json {
            report.outcomes.iter().try_for_each(|outcome| output.object(outcome))?;
            report.sums.iter().try_for_each(|sum| output.object(sum))?;
        } else {
            show(output, &report)?;
        }
        Ok(())
    }
}

fn show(output: &mut Output, report: &Report) -> io::Result<()> {
    report.outcomes.iter().try_for_each(|outcome| show_mistakes(output, outcome))?;
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
    output.table(&header, report.sums.iter().map(row).collect())?;
    output.line(&format!("{} plays, {:.0} s", report.outcomes.len(), report.seconds))
}

/// Every fault that was missed, and every incident that nothing caused.
fn show_mistakes(output: &mut Output, outcome: &Outcome) -> io::Result<()> {
    let play = format!("{} at {}/s, seed {}", outcome.scenario, outcome.rate, outcome.seed);
    for fault in outcome.faults.iter().filter(|fault| fault.rule.is_none()) {
        output.line(&format!("missed: {play}: {}", fault.service))?;
    }
    for other in &outcome.false_incidents {
        let (rule, hours) = (&other.rule, other.after_hours);
        let line = format!("false: {play}: {rule} after {hours:.2} h: {}", other.summary);
        output.line(&escape(&line))?;
    }
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
