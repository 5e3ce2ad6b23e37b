//! `logweir loadgen`: made-up logs, sent or printed.
//!
//! Event time advances in spans of one length, whatever the clock does, so that a seed gives the same
//! logs on every machine. A span's logs are sent as soon as their moment has come.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use futures::StreamExt;
use logweir_core::runtime::clock::now_unix_nano;
use logweir_proto::v1;
use logweir_sdk::{Compression, Sender};
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    client::{ServerArgs, send_batch},
    delivery::{
        batch::{BatchLimits, Batcher, Ids, Producers, service_of},
        pipeline::{Counts, Delivered},
    },
    entry,
    error::{Error, Exit},
    loadgen::{Config, Generator, WEEKEND_SHARE, fault::Fault, template::ERROR_SHARE},
    moment::{parse_duration, parse_moment},
    output::{Output, OutputArgs, grouped, say},
};

/// Event time of a span when sending as fast as possible is a share of so many logs.
const SPAN_LOGS: f64 = 20_000.0;
const SPAN_WALL_MAX: Duration = Duration::from_millis(100);
/// Logs of a service wait for so many spans at most before their batch is sent.
const SPANS_WAITING_MAX: u32 = 10;
const BATCHES_WAITING_MAX: usize = 16;
const IN_FLIGHT_PER_CONNECTION: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// A service whose nature are bursts of errors and of logs, every 40 minutes or so; may be given
    /// again
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
    /// Event time passes so many times as fast as the clock; 0: as fast as possible [default: 1, or 0
    /// with --start]
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

/// How event time advances.
#[derive(Clone, Copy)]
struct Pace {
    start_unix_nano: i64,
    span_nanos: i64,
    /// How long a span takes by the clock; zero for as fast as possible.
    span_wall: Duration,
    spans_max: Option<u64>,
}

/// Generated logs, span by span, up to the count asked for.
struct Spans {
    generator: Generator,
    pace: Pace,
    next: u64,
    left: u64,
}

impl Spans {
    /// The next span's logs; none at the end.
    fn next(&mut self) -> Option<Vec<(usize, Vec<v1::LogRecord>)>> {
        if self.left == 0 || self.pace.spans_max.is_some_and(|max| self.next >= max) {
            return None;
        }
        let offset = i64::try_from(self.next).ok()?.checked_mul(self.pace.span_nanos)?;
        let from = self.pace.start_unix_nano.checked_add(offset)?;
        let mut logs = self.generator.tick(from, self.pace.span_nanos);
        for (_, records) in &mut logs {
            records.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= records.len() as u64;
        }
        self.next += 1;
        Some(logs)
    }
}

impl LoadgenArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let pace = self.pace()?;
        let spans = Spans {
            generator: Generator::new(self.config(), pace.start_unix_nano),
            pace,
            next: 0,
            left: self.count.unwrap_or(u64::MAX),
        };
        self.check_services(&spans.generator)?;
        if self.dry_run {
            let args = OutputArgs { json: true, ..OutputArgs::default() };
            let truth = self.truth.clone();
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
        let now = now_unix_nano();
        let start = self.start.as_deref().map(|text| parse_moment(text, now)).transpose();
        let start = start.map_err(Error::Usage)?;
        let speed = self.speed.unwrap_or(if start.is_some() || self.dry_run { 0.0 } else { 1.0 });
        // Short enough that a second has several spans, long enough that a span has some logs.
        let wall = SPAN_WALL_MAX.as_secs_f64();
        let span_seconds =
            if speed > 0.0 { wall * speed } else { (SPAN_LOGS / self.rate).min(60.0) };
        let span_nanos = ((span_seconds * 1e9) as i64).max(1_000);
        let duration = self.duration.map(|duration| duration.as_nanos());
        let spans_max = duration.map(|nanos| {
            u64::try_from(nanos.div_ceil(span_nanos.unsigned_abs().into())).unwrap_or(u64::MAX)
        });
        let span_wall = if speed > 0.0 { SPAN_WALL_MAX } else { Duration::ZERO };
        Ok(Pace { start_unix_nano: start.unwrap_or(now), span_nanos, span_wall, spans_max })
    }

    fn check_services(&self, generator: &Generator) -> Result<(), Error> {
        let names: Vec<_> =
            (0..generator.service_count()).map(|service| generator.service_name(service)).collect();
        let faulty = self.faults.iter().map(|fault| ("--fault", &fault.service));
        let restless = self.restless.iter().map(|service| ("--restless", service));
        let unknown = faulty.chain(restless).find(|(_, name)| !names.contains(&name.as_str()));
        match unknown {
            None => Ok(()),
            Some((option, name)) => Err(Error::Usage(format!(
                "{option}: there is no service {name:?}; there are {}",
                names.join(", ")
            ))),
        }
    }

    async fn send(self, spans: Spans) -> anyhow::Result<Exit> {
        let senders = (0..self.connections)
            .map(|_| self.server.sender(Compression::None))
            .collect::<Result<Vec<_>, _>>()?;
        let (counts, latencies) = (Arc::new(Counts::default()), Mutex::new(Quantiles::default()));
        let (batches, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
        let limits = BatchLimits::with_batch_records(self.batch.into());
        // At once, so that a file that cannot be written is known before anything is sent.
        write_truth(self.truth.as_deref(), &spans.generator)?;
        let started = Instant::now();
        let (stop, interrupts) =
            (Arc::new(AtomicBool::new(false)), signal(SignalKind::interrupt())?);
        let generating = generate(spans, limits, counts.clone(), batches, stop.clone());
        let sending = send_all(receiver, &senders, &self.server.endpoint, &counts, &latencies);
        let (spans, sent) = tokio::select! {
            both = async { tokio::join!(generating, sending) } => both,
            () = interrupted_twice(interrupts, &stop) => return Err(Error::Interrupted.into()),
        };
        sent?;
        let elapsed = started.elapsed();
        write_truth(self.truth.as_deref(), &spans.generator)?;
        let latencies = latencies.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.write_summary(&counts.delivered(), &latencies, elapsed)
    }

    fn write_summary(
        &self,
        delivered: &Delivered,
        latencies: &Quantiles,
        elapsed: Duration,
    ) -> anyhow::Result<Exit> {
        let mut output = Output::new(&self.output);
        let seconds = elapsed.as_secs_f64();
        let rate = delivered.sent as f64 / seconds.max(0.001);
        let (p50, p99) = (latencies.milliseconds(0.50), latencies.milliseconds(0.99));
        if output.json {
            output.object(&Summary {
                sent: delivered.sent,
                accepted: delivered.accepted,
                rejected: &delivered.rejected,
                seconds,
                logs_per_second: rate,
                ack_p50_ms: p50,
                ack_p99_ms: p99,
            })?;
        } else {
            let (sent, accepted) = (grouped(delivered.sent), grouped(delivered.accepted));
            let rate = grouped(rate as u64);
            output.line(&format!(
                "{sent} logs sent, {accepted} accepted, in {seconds:.1} s ({rate}/s)"
            ))?;
            output.line(&format!("acknowledged in p50 {p50:.1} ms, p99 {p99:.1} ms"))?;
        }
        output.flush()?;
        for (reason, count) in &delivered.rejected {
            let example = delivered.examples.get(reason).map_or("", String::as_str);
            say(&crate::output::escape(&format!(
                "{} rejected: {reason}: {example}",
                grouped(*count)
            )));
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

/// Makes batches until the end, until asked to stop, or until nobody takes them.
async fn generate(
    mut spans: Spans,
    limits: BatchLimits,
    counts: Arc<Counts>,
    batches: mpsc::Sender<v1::Batch>,
    stop: Arc<AtomicBool>,
) -> Spans {
    let mut producers = Producers::default();
    let mut batcher = Batcher::new(limits);
    let mut waiting = 0;
    let mut due = tokio::time::Instant::now();
    loop {
        let logs = if stop.load(Ordering::Relaxed) { None } else { spans.next() };
        let is_end = logs.is_none();
        for (service, records) in logs.into_iter().flatten() {
            for record in records {
                batcher.add(spans.generator.service_name(service), record);
            }
        }
        waiting += 1;
        if is_end || batcher.is_full() || waiting >= SPANS_WAITING_MAX {
            waiting = 0;
            counts.settle(&mut producers);
            for (service, records) in batcher.take() {
                let batch = producers.batch(&service, records, Ids::mint());
                if batches.send(batch).await.is_err() {
                    return spans;
                }
            }
        }
        if is_end {
            return spans;
        }
        due += spans.pace.span_wall;
        tokio::time::sleep_until(due).await;
    }
}

async fn send_all(
    batches: mpsc::Receiver<v1::Batch>,
    senders: &[Sender],
    endpoint: &str,
    counts: &Counts,
    latencies: &Mutex<Quantiles>,
) -> Result<(), Error> {
    let in_flight = senders.len() * IN_FLIGHT_PER_CONNECTION;
    let answers = ReceiverStream::new(batches).enumerate().map(|(number, batch)| {
        let sender = senders[number % senders.len()].clone();
        let service = service_of(&batch).to_owned();
        let records = batch.records.len() as u64;
        async move {
            let started = Instant::now();
            let answer = send_batch(sender, endpoint.to_owned(), batch, Some(PATIENCE)).await?;
            latencies.lock().unwrap_or_else(PoisonError::into_inner).add(started.elapsed());
            counts.answered(&service, records, &answer);
            Ok::<_, Error>(())
        }
    });
    let mut answers = std::pin::pin!(answers.buffer_unordered(in_flight));
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

fn print(mut spans: Spans, output: &mut Output) -> anyhow::Result<Spans> {
    while let Some(logs) = spans.next() {
        for (service, records) in logs {
            let service = spans.generator.service_name(service).to_owned();
            for record in records {
                entry::write_unsent(output, &service, &record)?;
            }
        }
        std::thread::sleep(spans.pace.span_wall);
    }
    output.flush()?;
    Ok(spans)
}

fn write_truth(path: Option<&std::path::Path>, generator: &Generator) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    let failed = |source| Error::File { action: "write", path: path.to_owned(), source };
    let mut text = String::new();
    for entry in generator.truth() {
        let json = serde_json::to_string(entry).map_err(|error| failed(error.into()))?;
        text.push_str(&json);
        text.push('\n');
    }
    fs::write(path, text).map_err(failed)
}

/// Durations counted in buckets that are 2 % wide, from a microsecond to an hour.
struct Quantiles {
    counts: Vec<u64>,
    total: u64,
}

const BUCKETS_PER_DOUBLING: f64 = 35.0;

impl Default for Quantiles {
    fn default() -> Self {
        Self { counts: vec![0; 32 * BUCKETS_PER_DOUBLING as usize], total: 0 }
    }
}

impl Quantiles {
    fn add(&mut self, duration: Duration) {
        let micros = (duration.as_secs_f64() * 1e6).max(1.0);
        let bucket = (micros.log2() * BUCKETS_PER_DOUBLING) as usize;
        let last = self.counts.len() - 1;
        self.counts[bucket.min(last)] += 1;
        self.total += 1;
    }

    fn milliseconds(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank.max(1)
        });
        bucket.map_or(0.0, |bucket| ((bucket as f64 + 0.5) / BUCKETS_PER_DOUBLING).exp2() / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(count: u64, spans_max: Option<u64>) -> Spans {
        let span_nanos = 100_000_000;
        let pace = Pace {
            start_unix_nano: 1_767_571_200_000_000_000,
            span_nanos,
            span_wall: Duration::ZERO,
            spans_max,
        };
        let generator = Generator::new(Config::default(), pace.start_unix_nano);
        Spans { generator, pace, next: 0, left: count }
    }

    fn total(mut spans: Spans) -> usize {
        let mut total = 0;
        while let Some(logs) = spans.next() {
            total += logs.iter().map(|(_, records)| records.len()).sum::<usize>();
        }
        total
    }

    #[test]
    fn the_count_is_exact_and_the_duration_ends_it() {
        assert_eq!(total(spans(1_234, None)), 1_234);
        let ten_seconds = total(spans(u64::MAX, Some(100)));
        assert!((3_000..30_000).contains(&ten_seconds), "{ten_seconds}");
    }

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut quantiles = Quantiles::default();
        for ms in 1..=1_000 {
            quantiles.add(Duration::from_millis(ms));
        }
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = quantiles.milliseconds(share);
            assert!((found / expected - 1.0).abs() < 0.02, "{found}");
        }
    }
}
