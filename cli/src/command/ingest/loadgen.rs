//! `logweir loadgen`: made-up logs, sent or printed.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use clap::Args;
use logweir_core::{runtime::clock::now, timestamp::parse_duration};
use logweir_loadgen::{
    Config, Generator,
    fault::Fault,
    generator::WEEKEND_SHARE,
    send::{Sent, send},
    span::{Pace, Spans},
    template::ERROR_SHARE,
    truth,
};
use logweir_sdk::Compression;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    log_output,
    output::{Output, OutputArgs, escape, grouped, say},
    time_argument::parse_time,
};

const FAULTS_HELP: &str = "\
Faults, each from START after the beginning for LENGTH, in one service:
  error-burst    four in ten logs become errors of one pattern
  latency-shift  latencies are five times as long
  silence        no logs at all
  new-pattern    one log in ten follows a pattern that never occurred before
  error-rise     one log in five becomes one of the usual errors
  flood          three logs in four become one usual, harmless pattern
  latency-spikes of logs with a latency one in twenty takes thirty times as long
  long-message   one log in fifty carries a dump of 2,000 bytes
  odd-value      one log in fifty comes from a region that does not exist
  error-ramp     more and more logs become one of the usual errors, in the end four in ten
  level-shift    four times as many errors, one log in twenty at least, all more of one pattern
  latency-ramp   latencies grow, to five times at the end
  latency-one    the commonest pattern with a latency takes six times as long
  volume-drop    four in five logs are missing
  volume-surge   three times as many logs
  restart        harmless: 5 s of silence, then half of the logs are messages of a start
Such as --fault error-burst@10m+2m:payments. --truth writes when and where, how many logs, and their
moments after the start; `logweir evaluate anomalies` reads it.";

/// Arguments of `logweir loadgen`.
#[derive(Debug, Args)]
#[command(after_help = FAULTS_HELP)]
pub struct LoadgenArgs {
    /// Logs a second over all services, as the mean of a day
    #[arg(long, default_value_t = 1_000.0, value_parser = positive)]
    rate: f64,
    /// End after so many logs
    #[arg(long)]
    count: Option<u64>,
    /// End after so much event time
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Everything follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many services
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    services: u16,
    /// Keep the rate the same all day and week
    #[arg(long)]
    steady: bool,
    /// What a day of a weekend has of a working day's logs [default: 0.52]
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "steady")]
    weekend: Option<f64>,
    /// Share of errors among the logs of a healthy service [default: 0.02]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    errors: Option<f64>,
    /// Logs come by chance, as those of independent requests do, rather than evenly
    #[arg(long)]
    irregular: bool,
    /// A service whose nature are bursts of errors and of logs, every 40 minutes or so; may be
    /// given again
    #[arg(long = "restless", value_name = "SERVICE")]
    restless: Vec<String>,
    /// KIND@START+LENGTH:SERVICE; may be given again
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
    /// Write the faults and what they touched to this file, as NDJSON
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Begin at this event time rather than now: -7d, 2026-01-02
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    start: Option<String>,
    /// Event time passes so many times as fast as the clock; 0: as fast as possible [default: 1, or
    /// 0 with --start]
    #[arg(long, value_parser = not_negative)]
    speed: Option<f64>,
    /// Logs of a batch at most
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// Connections to the server, each with 8 batches in flight
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// Print the logs as NDJSON instead of sending them
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn positive(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|n| if n > 0.0 { Ok(n) } else { Err("must be above 0".to_owned()) })
}

fn share(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|share| match share {
        0.0..=1.0 => Ok(share),
        _ => Err("write a number from 0 to 1".to_owned()),
    })
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "write a number".to_owned())?;
    let is_good = number.is_finite() && (0.0..=1e9).contains(&number);
    if is_good { Ok(number) } else { Err("write a number from 0 to 1e9".to_owned()) }
}

#[derive(Serialize)]
struct Summary<'a> {
    sent: u64,
    accepted: u64,
    rejected: &'a std::collections::BTreeMap<String, u64>,
    seconds: f64,
    logs_per_second: f64,
    ack_p50_ms: f64,
    ack_p99_ms: f64,
}

impl LoadgenArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let pace = self.pace()?;
        let generator = Generator::new(self.config(), pace.start);
        self.check_services(&generator)?;
        let spans = Spans::new(generator, pace, self.count.unwrap_or(u64::MAX));
        if self.dry_run {
            let args = OutputArgs { json: true, ..OutputArgs::default() };
            let truth = self.truth.clone();
            // Printing and the pauses between spans block, and Ctrl-C must be heard meanwhile.
            let printing = tokio::task::spawn_blocking(move || {
                let spans = print(spans, &mut Output::new(&args))?;
                write_truth(truth.as_deref(), &spans.generator)?;
                Ok::<_, anyhow::Error>(Exit::Done)
            });
            return tokio::select! {
                printed = printing => printed?,
                _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
            };
        }
        self.send(spans).await
    }

    fn config(&self) -> Config {
        Config {
            seed: self.seed,
            services: self.services.into(),
            rate_per_second: self.rate,
            has_rhythm: !self.steady,
            weekend_share: self.weekend.unwrap_or(WEEKEND_SHARE),
            error_share: self.errors.unwrap_or(ERROR_SHARE),
            is_irregular: self.irregular,
            restless: self.restless.clone(),
            faults: self.faults.clone(),
            ..Config::default()
        }
    }

    fn pace(&self) -> Result<Pace, Error> {
        let now = now();
        let start = self.start.as_deref().map(|text| parse_time(text, now)).transpose();
        let start = start.map_err(Error::Usage)?;
        // A past that is made up is wanted at once; from now on, as fast as the clock.
        let speed = self.speed.unwrap_or(if start.is_some() || self.dry_run { 0.0 } else { 1.0 });
        Ok(Pace::new(start.unwrap_or(now), speed, self.rate, self.duration))
    }

    fn check_services(&self, generator: &Generator) -> Result<(), Error> {
        let names: Vec<_> =
            (0..generator.service_count()).map(|service| generator.service_name(service)).collect();
        let faulty = self.faults.iter().map(|fault| ("--fault", &fault.service));
        let restless = self.restless.iter().map(|service| ("--restless", service));
        // A fault in a service that does not exist changes nothing, and its truth would be wrong.
        let unknown = faulty.chain(restless).find(|(_, name)| !names.contains(&name.as_str()));
        match unknown {
            None => Ok(()),
            Some((option, name)) => Err(Error::Usage(format!(
                "{option}: there is no service {name:?}; there are {}",
                names.join(", ")
            ))),
        }
    }

    async fn send(self, mut spans: Spans) -> anyhow::Result<Exit> {
        // Uncompressed: it is to load the server, and compressing would load this machine.
        let senders = (0..self.connections)
            .map(|_| self.server.sender(Compression::None))
            .collect::<Result<Vec<_>, _>>()?;
        // At once, so that a file that cannot be written is known before anything is sent.
        write_truth(self.truth.as_deref(), &spans.generator)?;
        let stop = AtomicBool::new(false);
        let interrupts = signal(SignalKind::interrupt())?;
        let sent = tokio::select! {
            sent = send(&mut spans, self.batch.into(), &senders, &stop) => sent,
            () = interrupted_twice(interrupts, &stop) => return Err(Error::Interrupted.into()),
        };
        let sent = sent.map_err(|error| self.server.shipping_error(error))?;
        // Again, as only now it is known which logs the faults have touched.
        write_truth(self.truth.as_deref(), &spans.generator)?;
        self.write_summary(&sent)
    }

    fn write_summary(&self, sent: &Sent) -> anyhow::Result<Exit> {
        let Sent { delivered, elapsed, ack_p50_ms, ack_p99_ms } = sent;
        let mut output = Output::new(&self.output);
        let seconds = elapsed.as_secs_f64();
        let rate = delivered.sent as f64 / seconds.max(0.001);
        if output.json {
            output.object(&Summary {
                sent: delivered.sent,
                accepted: delivered.accepted,
                rejected: &delivered.rejected,
                seconds,
                logs_per_second: rate,
                ack_p50_ms: *ack_p50_ms,
                ack_p99_ms: *ack_p99_ms,
            })?;
        } else {
            let (sent, accepted) = (grouped(delivered.sent), grouped(delivered.accepted));
            let rate = grouped(rate as u64);
            output.line(&format!(
                "{sent} logs sent, {accepted} accepted, in {seconds:.1} s ({rate}/s)"
            ))?;
            output
                .line(&format!("acknowledged in p50 {ack_p50_ms:.1} ms, p99 {ack_p99_ms:.1} ms"))?;
        }
        output.flush()?;
        for (reason, count) in &delivered.rejected {
            let example = delivered.examples.get(reason).map_or("", String::as_str);
            say(&escape(&format!("{} rejected: {reason}: {example}", grouped(*count))));
        }
        Ok(if delivered.rejected_total() > 0 { Exit::Partial } else { Exit::Done })
    }
}

/// Waits for the second Ctrl-C; the first one ends the generating.
async fn interrupted_twice(mut interrupts: Signal, stop: &AtomicBool) {
    while interrupts.recv().await.is_some() {
        if stop.swap(true, Ordering::Relaxed) {
            return;
        }
        say("stopping after what is in flight");
    }
    std::future::pending().await
}

fn print(mut spans: Spans, output: &mut Output) -> anyhow::Result<Spans> {
    while let Some(logs) = spans.next() {
        for (service, records) in logs {
            let service = spans.generator.service_name(service).to_owned();
            for record in records {
                log_output::write_unsent(output, &service, &record)?;
            }
        }
        std::thread::sleep(spans.pace.span_wall);
    }
    output.flush()?;
    Ok(spans)
}

fn write_truth(path: Option<&Path>, generator: &Generator) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    truth::write(path, generator.truth()).map_err(|source| Error::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}
