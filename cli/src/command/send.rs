//! `logweir send`: files, directories or standard input, once or for as long as they grow.
//!
//! Files are read on a thread of their own and sent from here, several batches in flight. Every group
//! of batches is noted in a journal before it is sent, so that a killed run started again with the
//! same arguments continues without loss and without doubles.

use std::{
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use logweir_core::{limits::Limits, runtime::clock};
use logweir_sdk::{Compression, Sender};
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    client::{ServerArgs, send_batch},
    delivery::{
        batch::BatchLimits,
        feed::{Feed, FeedParts, Tally},
        journal::{Group, Journal, Left, State},
        pipeline::{Counts, Delivered, deliver},
    },
    error::{Error, Exit},
    moment::parse_duration,
    output::{Output, OutputArgs, Tone, escape, grouped, say},
    source::{
        input,
        reader::{ReadSummary, Reader},
        record::{Rules, service_name},
    },
};

/// Groups waiting between reader and sender.
const GROUPS_WAITING_MAX: usize = 2;
/// Services that the summary names one by one.
const SERVICES_SHOWN_MAX: usize = 20;
/// A server that does not answer for so long is spoken of.
const SILENCE_MAX: Duration = Duration::from_secs(2);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

const FORMATS_HELP: &str = "\
Each line is recognised for itself: a JSON object (time, service, level, message and their usual
other names; the rest become attributes), logfmt, or text with perhaps a time and a level at its
start. A time without a zone is UTC; a line without a time gets that of its sending. Indented lines
and `Caused by:` belong to the line before. gzip is read as it is; directories with all below them.

A run that was killed continues when it is started again with the same arguments: what was noted but
not acknowledged is sent again under the same ids, and the server stores it once. A file that was
sent is not sent again, only what was added to it, unless --again is given. Standard input cannot be
read again: what was not acknowledged when it was killed is lost.";

/// Arguments of `logweir send`.
#[derive(Debug, Args)]
#[command(after_help = FORMATS_HELP)]
pub struct SendArgs {
    /// Files, directories, or - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The service of every line [default: what the line says, else the file's name]
    #[arg(long)]
    service: Option<String>,
    /// Go on reading what is added, over rotation, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Where this sending is noted [default: a folder of its own in the user's state folder]
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Send files again that were sent before
    #[arg(long)]
    again: bool,
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
    rejected: &'a std::collections::BTreeMap<String, u64>,
    services: &'a std::collections::BTreeMap<String, u64>,
    files: u64,
    already_sent: u64,
    failed_files: u64,
    renamed: u64,
    truncated: u64,
    invalid_utf8: u64,
    untimed: u64,
    seconds: f64,
}

/// What a person at a terminal sees meanwhile.
#[derive(Clone)]
struct Progress {
    bar: ProgressBar,
    read_bytes: Arc<AtomicU64>,
}

impl Progress {
    /// Says something above the bar.
    fn say(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    fn show(&self, sent: u64, elapsed: Duration) {
        let rate = sent as f64 / elapsed.as_secs_f64().max(0.001);
        self.bar.set_position(self.read_bytes.load(Ordering::Relaxed));
        self.bar.set_message(format!("{} logs, {}/s", grouped(sent), grouped(rate as u64)));
    }
}

impl SendArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        self.check()?;
        let compression = if self.compress { Compression::Zstd } else { Compression::None };
        let sender = self.server.sender(compression)?;
        let started = Instant::now();
        let (journal, left) = self.open_journal()?;
        let counts = Arc::new(Counts::default());
        let progress = Progress { bar: self.progress_bar(), read_bytes: Arc::default() };
        let interrupts = signal(SignalKind::interrupt())?;
        let stop = Arc::new(AtomicBool::new(false));
        let (groups, receiver) = mpsc::channel(GROUPS_WAITING_MAX);
        let feed = self.feed(&journal, left.state, &counts, groups, &stop);
        let reading = self.start_reading(feed, progress.clone());
        let waiting = left.groups;
        if !waiting.is_empty() {
            let logs: usize =
                waiting.iter().flat_map(|g| &g.batches).map(|b| b.records.len()).sum();
            let logs = grouped(logs as u64);
            progress.say(&format!("continuing: {logs} logs wait since the last run"));
        }
        let groups = tokio_stream::iter(waiting).chain(ReceiverStream::new(receiver));
        // Asked to stop, what is noted but not begun waits for the next run.
        let leaves_rest = !self.follow && journal.is_some();
        let is_stopped = stop.clone();
        let groups =
            groups.take_while(move |_| !(leaves_rest && is_stopped.load(Ordering::Relaxed)));
        let delivering = self.deliver(groups, &counts, sender, journal, &progress);
        let delivered = tokio::select! {
            delivered = delivering => delivered,
            () = self.watch(interrupts, &stop, &progress, &counts) => Err(Error::Interrupted),
        };
        progress.bar.finish_and_clear();
        let interrupted = stop.swap(true, Ordering::Relaxed);
        // After a failure the reader may wait for input that never comes; its result does not matter.
        delivered.map_err(|error| self.advised(error))?;
        let (summary, tally) = reading.await??;
        self.write_summary(&counts.delivered(), &summary, &tally, started.elapsed())?;
        Ok(exit(&counts.delivered(), &summary, interrupted && !self.follow))
    }

    fn check(&self) -> Result<(), Error> {
        if self.is_stdin() && (self.paths.len() > 1 || self.follow || self.journal.is_some()) {
            let text =
                "`-` stands alone, without --follow (it reads to the end anyway) and --journal";
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
        self.paths.iter().any(|path| path == Path::new("-"))
    }

    fn open_journal(&self) -> Result<(Option<Arc<Journal>>, Left), Error> {
        if self.is_stdin() {
            return Ok((None, Left { state: State::default(), groups: Vec::new() }));
        }
        input::discover(&self.paths).map_err(|error| Error::Usage(error.to_string()))?;
        let directory = match &self.journal {
            Some(directory) => directory.clone(),
            None => self.default_journal()?,
        };
        let (journal, mut left) = Journal::open(&directory)?;
        let waiting: Vec<_> = left.groups.iter().flat_map(|group| group.batches.clone()).collect();
        left.state.producers.settle_all_but(&waiting);
        if self.again {
            left.state.files.clear();
        }
        Ok((Some(Arc::new(journal)), left))
    }

    /// One folder for each set of inputs, service and server.
    fn default_journal(&self) -> Result<PathBuf, Error> {
        let mut key =
            format!("{}\n{}\n", self.server.endpoint, self.service.as_deref().unwrap_or(""));
        for path in &self.paths {
            let path = fs::canonicalize(path).map_err(|source| Error::File {
                action: "read",
                path: path.clone(),
                source,
            })?;
            key.push_str(&path.to_string_lossy());
            key.push('\n');
        }
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let state = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .ok_or_else(|| {
                Error::Usage("neither XDG_STATE_HOME nor HOME is set: give --journal".into())
            })?;
        Ok(state.join("logweir/send").join(format!("{:016x}", xxh3_64(key.as_bytes()))))
    }

    fn feed(
        &self,
        journal: &Option<Arc<Journal>>,
        state: State,
        counts: &Arc<Counts>,
        groups: mpsc::Sender<Group>,
        stop: &Arc<AtomicBool>,
    ) -> Feed {
        Feed::new(FeedParts {
            state,
            rules: Rules { service: self.service.clone(), limits: Limits::default() },
            limits: BatchLimits::with_batch_records(self.batch.into()),
            clock: clock::system_clock(),
            journal: journal.clone(),
            counts: counts.clone(),
            groups,
            stop: stop.clone(),
        })
    }

    fn start_reading(
        &self,
        mut feed: Feed,
        progress: Progress,
    ) -> tokio::task::JoinHandle<Result<(ReadSummary, Tally), Error>> {
        let (paths, follow, is_stdin) = (self.paths.clone(), self.follow, self.is_stdin());
        tokio::task::spawn_blocking(move || {
            let say = |text: &str| progress.say(&escape(text));
            let read_bytes = progress.read_bytes.clone();
            let mut reader =
                Reader { feed: &mut feed, read_bytes, say: &say, summary: ReadSummary::default() };
            let read = if is_stdin {
                reader.read_stream(io::stdin().lock(), "stdin")
            } else if follow {
                reader.follow_files(&paths)
            } else {
                reader.read_files(&paths)
            };
            let summary = reader.summary;
            match read {
                // What was not noted is read again by the next run.
                Ok(()) | Err(Error::Interrupted) => Ok((summary, feed.tally)),
                Err(error) => Err(error),
            }
        })
    }

    async fn deliver(
        &self,
        groups: impl tokio_stream::Stream<Item = Group>,
        counts: &Counts,
        sender: Sender,
        journal: Option<Arc<Journal>>,
        progress: &Progress,
    ) -> Result<(), Error> {
        let patience = (!self.follow).then_some(self.patience);
        let is_told = AtomicBool::new(false);
        let send = async |batch| {
            let endpoint = self.server.endpoint.clone();
            let mut sending = Box::pin(send_batch(sender.clone(), endpoint, batch, patience));
            let answer = match timeout(SILENCE_MAX, &mut sending).await {
                Ok(answer) => answer,
                Err(_) => {
                    if !is_told.swap(true, Ordering::Relaxed) {
                        progress.say(&self.no_answer());
                    }
                    sending.await
                }
            };
            is_told.store(false, Ordering::Relaxed);
            answer
        };
        let complete = |state: State| {
            let journal = journal.clone();
            async move {
                let Some(journal) = journal else { return Ok(()) };
                let completing = tokio::task::spawn_blocking(move || journal.complete(&state));
                completing.await.map_err(|_| Error::Interrupted)?
            }
        };
        deliver(groups, self.in_flight.into(), counts, send, complete).await
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

    /// Shows progress and waits for Ctrl-C: the first stops reading, the second everything.
    async fn watch(
        &self,
        mut interrupts: Signal,
        stop: &AtomicBool,
        progress: &Progress,
        counts: &Counts,
    ) {
        let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
        let started = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    progress.show(counts.sent(), started.elapsed());
                }
                Some(()) = interrupts.recv() => {
                    if stop.swap(true, Ordering::Relaxed) {
                        return;
                    }
                    let text = if self.is_stdin() {
                        "stopping; standard input cannot be resumed"
                    } else {
                        "stopping after what is in flight; the same command continues"
                    };
                    progress.say(text);
                    if self.is_stdin() {
                        return;
                    }
                }
            }
        }
    }

    fn progress_bar(&self) -> ProgressBar {
        if !io::stderr().is_terminal() || self.output.json {
            return ProgressBar::hidden();
        }
        let files = if self.is_stdin() {
            Vec::new()
        } else {
            input::discover(&self.paths).unwrap_or_default()
        };
        let total: u64 = files.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
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

    fn write_summary(
        &self,
        delivered: &Delivered,
        summary: &ReadSummary,
        tally: &Tally,
        elapsed: Duration,
    ) -> io::Result<()> {
        let mut output = Output::new(&self.output);
        if output.json {
            output.object(&Summary {
                sent: delivered.sent,
                accepted: delivered.accepted,
                rejected: &delivered.rejected,
                services: &delivered.services,
                files: summary.files,
                already_sent: summary.already_sent,
                failed_files: summary.failed,
                renamed: tally.renamed,
                truncated: tally.truncated,
                invalid_utf8: tally.invalid_utf8,
                untimed: tally.untimed,
                seconds: elapsed.as_secs_f64(),
            })?;
        } else {
            for (text, tone) in summary_lines(delivered, summary, tally, elapsed) {
                output.line(&output.paint(&escape(&text), tone))?;
            }
        }
        output.flush()
    }
}

fn summary_lines(
    delivered: &Delivered,
    summary: &ReadSummary,
    tally: &Tally,
    elapsed: Duration,
) -> Vec<(String, Tone)> {
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
    let examples: Vec<_> = tally.renamed_examples.iter().map(String::as_str).collect();
    let examples = examples.join(", ");
    let notes = [
        (
            summary.already_sent,
            ["file was", "files were"],
            "already sent (--again sends again)".to_owned(),
        ),
        (summary.failed, ["file", "files"], "could not be read to the end".to_owned()),
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
        (tally.untimed, ["log has", "logs have"], "no time: that of sending was taken".to_owned()),
    ];
    let notes = notes.into_iter().filter(|(count, ..)| *count > 0);
    lines.extend(notes.map(|(count, [one, many], text)| {
        let what = if count == 1 { one } else { many };
        (format!("{} {what} {text}", grouped(count)), Tone::Warning)
    }));
    lines
}

fn exit(delivered: &Delivered, summary: &ReadSummary, interrupted: bool) -> Exit {
    if interrupted {
        Exit::Interrupted
    } else if delivered.rejected_total() > 0 || summary.failed > 0 {
        Exit::Partial
    } else {
        Exit::Done
    }
}
