//! `logweir send`: files, directories or standard input, once or for as long as they grow.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use logweir_core::{limits::Limits, timestamp::parse_duration};
use logweir_parse::{Tz, service::PathPattern};
use logweir_sdk::Compression;
use logweir_ship::{
    self as ship, Control, Event, Inputs, Notify, Shipment, Shipped,
    read::list::{Listing, STDIN},
    record::{Rules, service_name},
    registry,
};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::preview;
use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, escape, grouped, say},
};

/// Services that the summary names one by one.
const SERVICES_SHOWN_MAX: usize = 20;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

const FORMATS_HELP: &str = "\
Each log is recognised for itself: a JSON object (with the names of the usual loggers and schemas;
the rest become attributes), logfmt, syslog, or text with a time and a level at its start. Envelopes
of docker, Kubernetes and compose are taken off, colours too. A time without a zone is taken in that
of --timezone; a line without a time gets that of the line before, else that of its sending. Stack
traces, statements and JSON of several lines are one log: where lines begin with a time, a line
without one belongs to the log before. UTF-16 and Latin-1 are decoded. gzip is read as it is;
directories with all below them. A file's name without dates, numbers and ids is the service of
lines that name none. --dry-run shows what would be stored.

Each line of a file is sent once, whatever the command was that sent it: a file is known by
where it lies on the disk and by its content, over renaming, truncation, copying and
compression, and only what was added to it is sent, unless --again is given. A run that was
killed is continued by the next one: what was noted but not acknowledged is sent again under the
same ids, and the server stores it once. Lines come to the server within a second, from standard
input and pipes too; what was read of these and not noted when a run was killed is lost.";

/// Arguments of `logweir send`.
#[derive(Debug, Args)]
#[command(after_help = FORMATS_HELP)]
pub struct SendArgs {
    /// Files, directories, pipes, or - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The service of every line [default: what the line says, else the file's name]
    #[arg(long)]
    service: Option<String>,
    /// Where in a file's path its service stands, such as '/srv/{service}/logs/*.log'
    #[arg(long, value_name = "PATTERN", value_parser = PathPattern::new, conflicts_with = "service")]
    service_from: Option<PathPattern>,
    /// The zone of times that name none, such as Europe/Berlin [default: that of TZ, else UTC]
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    timezone: Option<Tz>,
    /// Go on reading what is added, over rotation, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Where all sendings are noted [default: a folder for the server in the user's state folder]
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Send files again that were sent before
    #[arg(long)]
    again: bool,
    /// Show the first logs as they would be stored, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Batches in flight
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    in_flight: u16,
    /// Logs of a batch at most
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// How long to go on trying when the server does not answer; --follow tries for ever
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    patience: Duration,
    /// Compress requests: worth it over a network
    #[arg(long)]
    compress: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a sending came to, as `--json` writes it.
#[derive(Serialize)]
struct Summary<'a> {
    sent: u64,
    accepted: u64,
    rejected: &'a BTreeMap<String, u64>,
    services: &'a BTreeMap<String, u64>,
    files: u64,
    already_sent: u64,
    copies: u64,
    replaced: u64,
    failed_files: u64,
    left_out: u64,
    renamed: u64,
    truncated: u64,
    invalid_utf8: u64,
    latin1: u64,
    untimed: u64,
    inherited_time: u64,
    joined: u64,
    unknown_level: u64,
    unknown_zone: u64,
    formats: BTreeMap<&'static str, u64>,
    seconds: f64,
}

fn say_above(bar: &ProgressBar, text: &str) {
    // Written while the bar is drawn, the two would mix on one line.
    bar.suspend(|| say(text));
}

fn show_progress(bar: &ProgressBar, control: &Control, elapsed: Duration) {
    let sent = control.counts.sent();
    let rate = sent as f64 / elapsed.as_secs_f64().max(0.001);
    bar.set_position(control.read_bytes.load(Ordering::Relaxed));
    bar.set_message(format!("{} logs, {}/s", grouped(sent), grouped(rate as u64)));
}

impl SendArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        self.check()?;
        if self.dry_run {
            return self.preview();
        }
        let compression = if self.compress { Compression::Zstd } else { Compression::None };
        let sender = self.server.sender(compression)?;
        let started = Instant::now();
        let shipment = self.shipment();
        let interrupts = [SignalKind::interrupt(), SignalKind::terminate()];
        let [interrupt, terminate] = interrupts.map(signal);
        let interrupts = [interrupt?, terminate?];
        let (control, bar) = (Control::default(), self.progress_bar());
        let shipping = shipment.run(sender, &control, self.notify(&bar));
        let shipped = tokio::select! {
            shipped = shipping => shipped,
            () = self.watch(interrupts, &bar, &control) => Err(ship::Error::Interrupted),
        };
        bar.finish_and_clear();
        let shipped = shipped.map_err(|error| self.advised(self.server.shipping_error(error)))?;
        self.write_summary(&shipped, started.elapsed())?;
        Ok(exit(&shipped, shipped.is_interrupted && !self.follow))
    }

    fn check(&self) -> Result<(), Error> {
        if self.is_stdin() && (self.paths.len() > 1 || self.follow) {
            let text = "`-` stands alone, without --follow: it reads to the end anyway";
            return Err(Error::Usage(text.to_owned()));
        }
        if let Some(service) = &self.service
            && service_name(service) != service.as_str()
        {
            return Err(Error::Usage(format!(
                "--service {service:?} is no name: use 1 to 128 of A-Z a-z 0-9 . _ / -"
            )));
        }
        Ok(())
    }

    fn is_stdin(&self) -> bool {
        self.paths.iter().any(|path| path == Path::new(STDIN))
    }

    fn shipment(&self) -> Shipment {
        let service = self.service.as_deref().unwrap_or("");
        let earlier = registry::earlier_folder_name(&self.server.endpoint, service, &self.paths);
        let state = state_directory().map(|state| state.join("logweir/send"));
        let directory = |name| state.as_ref().map(|state| state.join(name));
        let of_server = directory(registry::folder_name(&self.server.endpoint));
        let inputs = Inputs {
            paths: self.paths.clone(),
            follow: self.follow,
            earlier_journal: earlier.and_then(directory).filter(|_| self.journal.is_none()),
            journal: self.journal.clone().or(of_server),
            again: self.again,
        };
        Shipment {
            inputs,
            rules: self.rules(),
            in_flight: self.in_flight.into(),
            batch_records_max: self.batch.into(),
            // Who follows is a service of its own: an outage of the server must not end it.
            patience: (!self.follow).then_some(self.patience),
        }
    }

    /// Shows what would be stored of each input, and what was guessed.
    fn preview(&self) -> anyhow::Result<Exit> {
        let mut output = Output::new(&self.output);
        let is_whole = preview::write(&mut output, &self.previewed_paths(), &self.rules())?;
        output.flush()?;
        Ok(if is_whole { Exit::Done } else { Exit::Partial })
    }

    fn previewed_paths(&self) -> Vec<PathBuf> {
        if self.is_stdin() {
            return self.paths.clone();
        }
        let Listing { files, streams, missing, .. } = Listing::new(&self.paths, &[]);
        let files = files.into_iter().map(|found| found.path);
        files.chain(streams).chain(missing).collect()
    }

    fn rules(&self) -> Rules {
        Rules {
            service: self.service.clone(),
            service_from: self.service_from.clone(),
            limits: Limits::default(),
            zone: self.zone(),
        }
    }

    /// The zone that is given, or that of the environment.
    fn zone(&self) -> Tz {
        self.timezone.unwrap_or_else(|| {
            let of_environment = std::env::var_os("TZ").unwrap_or_default();
            let of_environment = of_environment.to_string_lossy();
            // POSIX lets a colon stand before a name, and has other forms, which name no zone.
            let name = of_environment.trim_start_matches(':');
            name.parse().unwrap_or_else(|_| {
                if !name.is_empty() {
                    say(&escape(&format!(
                        "TZ={of_environment} names no zone: times without one are read as UTC \
                         (--timezone)"
                    )));
                }
                Tz::UTC
            })
        })
    }

    /// Says above the bar what happens meanwhile.
    fn notify(&self, bar: &ProgressBar) -> Notify {
        let (bar, no_answer) = (bar.clone(), self.no_answer());
        Arc::new(move |event| {
            let text = match event {
                Event::Resumed { logs } => {
                    format!("continuing: {} logs wait since the last run", grouped(logs))
                }
                Event::Unanswered => no_answer.clone(),
                Event::Truncated(path) => {
                    format!("{} was truncated or overwritten: reading it anew", path.display())
                }
                Event::SameContent { path, original } => format!(
                    "{} begins with what was read of {}: only what follows it is sent",
                    path.display(),
                    original.display()
                ),
                Event::Waiting(path) => {
                    format!("{} is not there: waiting for it", path.display())
                }
                Event::LeftOut { files } => format!(
                    "{} not read: more than can be kept track of",
                    counted(files, ["file is", "files are"])
                ),
                Event::NotNoted(error) => format!(
                    "{}: what is not acknowledged is lost if this is killed; --journal gives \
                     another place for notes",
                    error_text(&error)
                ),
                Event::Unreadable(path, error) => {
                    format!("cannot read {}: {error}", path.display())
                }
            };
            say_above(&bar, &escape(&text));
        })
    }

    fn no_answer(&self) -> String {
        let until = if self.follow {
            "until it comes".to_owned()
        } else {
            format!("for {} s (--patience)", self.patience.as_secs_f64())
        };
        format!("no answer yet from {}; trying {until}", self.server.endpoint)
    }

    /// What to do about a refusal: a service that nobody named may be the file's name.
    fn advised(&self, error: Error) -> Error {
        match error {
            Error::Refused(text) if self.service.is_none() => {
                Error::Refused(format!("{text}; --service NAME sets the service of every line"))
            }
            other => other,
        }
    }

    /// Shows progress and waits for Ctrl-C or SIGTERM: the first stops reading, the second, or a
    /// server that does not answer, everything.
    async fn watch(&self, interrupts: [Signal; 2], bar: &ProgressBar, control: &Control) {
        let [mut interrupt, mut terminate] = interrupts;
        let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
        let started = Instant::now();
        let mut stopping: Option<Instant> = None;
        // Who stops a service waits for its end.
        while stopping.is_none_or(|since| since.elapsed() < self.patience) {
            tokio::select! {
                _ = ticks.tick() => {
                    show_progress(bar, control, started.elapsed());
                    continue;
                }
                Some(()) = interrupt.recv() => {}
                Some(()) = terminate.recv() => {}
            }
            control.stop.store(true, Ordering::Relaxed);
            if stopping.replace(Instant::now()).is_some() {
                break;
            }
            say_above(bar, "stopping after what was read; again to stop at once");
        }
        say_above(bar, "what was read and is not acknowledged is sent by the next `logweir send`");
    }

    fn progress_bar(&self) -> ProgressBar {
        // In a log file of a cron job a bar is a thousand lines of control characters.
        if !io::stderr().is_terminal() || self.output.json {
            return ProgressBar::hidden();
        }
        let listing = Listing::new(&self.paths, &[]);
        let total: u64 = listing.files.iter().map(|file| file.metadata.len()).sum();
        let (bar, template) = if total > 0 && !self.follow {
            (ProgressBar::new(total), "{bar:30} {percent:>3} %  {binary_bytes}  {msg}")
        } else {
            (ProgressBar::new_spinner(), "{spinner} {binary_bytes}  {msg}")
        };
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }

    fn write_summary(&self, shipped: &Shipped, elapsed: Duration) -> io::Result<()> {
        let Shipped { delivered, read, tally, .. } = shipped;
        let mut output = Output::new(&self.output);
        if output.json {
            output.object(&Summary {
                sent: delivered.sent,
                accepted: delivered.accepted,
                rejected: &delivered.rejected,
                services: &delivered.services,
                files: read.files,
                already_sent: read.already_sent,
                copies: read.copies,
                replaced: read.replaced,
                failed_files: read.failed,
                left_out: read.left_out,
                renamed: tally.renamed,
                truncated: tally.truncated,
                invalid_utf8: tally.invalid_utf8,
                latin1: tally.latin1,
                untimed: tally.untimed,
                inherited_time: tally.inherited_time,
                joined: tally.joined,
                unknown_level: tally.unknown_level,
                unknown_zone: tally.unknown_zone,
                formats: tally
                    .formats
                    .iter()
                    .map(|(format, count)| (format.as_str(), *count))
                    .collect(),
                seconds: elapsed.as_secs_f64(),
            })?;
        } else {
            for (text, tone) in summary_lines(shipped, elapsed) {
                output.line(&output.paint(&escape(&text), tone))?;
            }
        }
        output.flush()
    }
}

fn summary_lines(shipped: &Shipped, elapsed: Duration) -> Vec<(String, Tone)> {
    let delivered = &shipped.delivered;
    let rate = delivered.sent as f64 / elapsed.as_secs_f64().max(0.001);
    let mut lines = vec![(
        format!(
            "{} {} sent, {} accepted, in {:.1} s ({}/s)",
            grouped(delivered.sent),
            if delivered.sent == 1 { "log" } else { "logs" },
            grouped(delivered.accepted),
            elapsed.as_secs_f64(),
            grouped(rate as u64)
        ),
        Tone::Plain,
    )];
    for (reason, count) in &delivered.rejected {
        let example = delivered.examples.get(reason).map_or("", String::as_str);
        lines.push((format!("{} rejected: {reason}: {example}", grouped(*count)), Tone::Bad));
    }
    if (2..=SERVICES_SHOWN_MAX).contains(&delivered.services.len()) {
        for (service, count) in &delivered.services {
            lines.push((format!("  {service}  {}", grouped(*count)), Tone::Dim));
        }
    }
    let formats = &shipped.tally.formats;
    let formats: Vec<_> = formats
        .iter()
        .map(|(format, count)| format!("{} {}", grouped(*count), format.as_str()))
        .collect();
    if !formats.is_empty() {
        let joined = shipped.tally.joined;
        let joined = if joined > 0 {
            format!("; {} of several lines", grouped(joined))
        } else {
            String::new()
        };
        lines.push((format!("read as {}{joined}", formats.join(", ")), Tone::Dim));
    }
    lines.extend(note_lines(shipped).map(|text| (text, Tone::Warning)));
    lines
}

/// What a person may want to know of files and logs that were not sent as they are.
fn note_lines(shipped: &Shipped) -> impl Iterator<Item = String> {
    let Shipped { read, tally, .. } = shipped;
    let examples: Vec<_> = tally.renamed_examples.iter().map(String::as_str).collect();
    let examples = examples.join(", ");
    let notes = [
        (
            read.already_sent,
            ["file was", "files were"],
            "already sent (--again sends again)".to_owned(),
        ),
        (
            read.copies,
            ["file begins", "files begin"],
            "with what was read of another one: only what follows it was sent".to_owned(),
        ),
        (
            read.replaced,
            ["file was", "files were"],
            "truncated or overwritten while read: what came just before is in a copy or lost"
                .to_owned(),
        ),
        (read.failed, ["file", "files"], "could not be read to the end".to_owned()),
        (
            read.left_out,
            ["file was", "files were"],
            "not read: more than can be kept track of".to_owned(),
        ),
        (
            tally.renamed,
            ["log names", "logs name"],
            format!("another service, kept in `service.original`: {examples}"),
        ),
        (
            tally.truncated,
            ["log was", "logs were"],
            "cut to the limits, marked `logweir.truncated`".to_owned(),
        ),
        (
            tally.invalid_utf8,
            ["log was", "logs were"],
            "no UTF-8, marked `logweir.invalid_utf8`".to_owned(),
        ),
        (
            tally.latin1,
            ["log was", "logs were"],
            "no UTF-8 and read as Latin-1, marked `logweir.charset`".to_owned(),
        ),
        (tally.untimed, ["log has", "logs have"], "no time: that of sending was taken".to_owned()),
        (
            tally.inherited_time,
            ["log has", "logs have"],
            "no time: that of the line before was taken".to_owned(),
        ),
        (
            tally.unknown_level,
            ["log names", "logs name"],
            "an unknown level, kept as an attribute".to_owned(),
        ),
        (
            tally.unknown_zone,
            ["log names", "logs name"],
            "an unknown zone: --timezone says how to read its time".to_owned(),
        ),
    ];
    let notes = notes.into_iter().filter(|(count, ..)| *count > 0);
    notes.map(|(count, names, text)| format!("{} {text}", counted(count, names)))
}

fn counted(count: u64, [one, many]: [&str; 2]) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// Where a user's programs keep what must outlast them.
fn state_directory() -> Option<PathBuf> {
    // State and not cache: without the notes a file would be sent twice, so nothing may clear them
    // away. The XDG specification wants relative paths ignored.
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}

fn error_text(error: &ship::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

fn zone(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| format!("{text:?} is no zone: write one such as Europe/Berlin or UTC"))
}

fn exit(shipped: &Shipped, interrupted: bool) -> Exit {
    if interrupted {
        Exit::Interrupted
    } else if shipped.delivered.rejected_total() + shipped.read.failed + shipped.read.left_out > 0 {
        Exit::Partial
    } else {
        Exit::Done
    }
}
