//! What a program holds: [`Client`]. It hands logs to a thread of the library's own and never waits
//! for it, except in `flush` and `shutdown`.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::{Duration, Instant},
};

use logweir_proto::v1::LogRecord;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    config::{ClientBuilder, Config},
    delivery::{
        queue::{Queue, Queued},
        shared::{Command, Reply, Shared},
        transport::{Listeners, Sender},
        worker::Worker,
    },
    error::{ConfigError, DropReason},
    lock::Mutex,
    platform::{self, ProcessContext},
    record::{self, Record, sampling},
    report::{FlushReport, Stats},
};

/// How long the last client waits when it is dropped without `shutdown`.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);
/// The thread replies to a flush at its deadline; beyond this it is taken for dead.
const REPLY_GRACE: Duration = Duration::from_secs(2);
/// Calls of flush and shutdown that may wait for the thread to notice them.
const COMMANDS_MAX: usize = 1_024;

/// Sends logs in the background. Cheap to clone; the last clone that goes flushes for up to 1 s.
///
/// After `build` nothing here fails, blocks for I/O or grows without bound: what cannot be
/// delivered is dropped by the drop policy, and counted.
///
/// In a forked child it is as if built anew at the first log: what waited at the fork stays the
/// parent's to send.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("stats", &self.stats()).finish()
    }
}

struct Inner {
    shared: Arc<Shared>,
    /// None once dropped.
    commands: Option<mpsc::Sender<Command>>,
    config: Config,
    /// Where the draws for sampling have come to.
    draws: AtomicU64,
    /// The process that this belongs to.
    process_id: u32,
    /// What a forked child uses in place of this.
    child: OnceLock<Box<Inner>>,
}

impl ClientBuilder {
    /// Starts the client. The server need not be up.
    pub fn build(self) -> Result<Client, ConfigError> {
        Client::start(self.resolve(&ProcessContext::real())?)
    }
}

impl Client {
    /// Starts to build a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn start(config: Config) -> Result<Self, ConfigError> {
        let (mut inner, receiver) = Inner::new(config);
        if inner.config.is_disabled {
            // Without a thread a flush is answered at once from the counts.
            inner.commands = None;
        } else {
            inner.start_thread(receiver)?;
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes a log. Never blocks for I/O, never fails, never waits for the server: if the queue is
    /// full the drop policy decides.
    pub fn emit(&self, record: impl Into<Record>) {
        if self.inner.config.is_disabled {
            return;
        }
        let inner = self.inner.of_this_process();
        let mut record = record.into().0;
        let shared = &inner.shared;
        // First, so that what is left out costs the least.
        if !inner.config.sample_rates.keeps(record.level, || inner.draw()) {
            return shared.queue.lock().give_up(DropReason::SampleRate);
        }
        // Before the hook, so that it sees the log as it will be sent.
        if record.time_unix_nano == 0 {
            record.time_unix_nano = u64::try_from(platform::now_unix_nano()).unwrap_or(0);
        }
        if !inner.keeps(&mut record) {
            return shared.queue.lock().give_up(DropReason::BeforeSend);
        }
        // What is cut off could hide that it had to be redacted; the rest is redacted when its
        // batch is cut.
        inner.config.redaction.apply_before_cut(&mut record.attributes);
        record::fit(&mut record);
        // After it was cut, and outside of the lock: measuring walks all of the log.
        let (memory_bytes, wire_bytes) = record::sizes(&record);
        let queued =
            Box::new(Queued { record, at: platform::now(), memory_bytes, wire_bytes, position: 0 });
        // Relaxed: an overflow may count by the reason of a moment ago.
        let token_refused = shared.token_refused.load(Ordering::Relaxed);
        let reason = if token_refused { DropReason::AuthFailed } else { DropReason::QueueOverflow };
        // The evicted logs are freed when `pushed` goes, which is after the lock.
        let pushed = shared.queue.lock().push(queued, reason);
        if pushed.wake {
            shared.wake.notify_one();
        }
    }

    /// Waits until the server has responded to everything handed over before the call, or the time
    /// is up. May be called from any thread, also from one that runs futures, which it blocks;
    /// prefer [`Self::flush_async`] there.
    pub fn flush(&self, timeout: Duration) -> FlushReport {
        let inner = self.inner.started();
        inner.map_or_else(FlushReport::default, |inner| inner.flush(timeout))
    }

    /// As [`Self::flush`], for any async runtime or none.
    pub async fn flush_async(&self, timeout: Duration) -> FlushReport {
        let Some(inner) = self.inner.started() else { return FlushReport::default() };
        let (sender, receiver) = oneshot::channel();
        let reply: Reply = Box::new(move |report| {
            // The caller may have stopped waiting.
            sender.send(report).ok();
        });
        let command = Command::Flush { deadline: deadline(timeout), reply };
        if !platform::is_sdk_thread()
            && inner.command(command)
            && let Ok(report) = receiver.await
        {
            return report;
        }
        inner.report_now()
    }

    /// Takes no more logs, flushes, leaves the rest to the spool or drops it, and says what
    /// happened. Later calls get the same report.
    pub fn shutdown(&self, timeout: Duration) -> FlushReport {
        let inner = self.inner.started();
        inner.map_or_else(FlushReport::default, |inner| inner.shutdown(timeout))
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        self.inner.started().map_or_else(Stats::default, Inner::stats)
    }
}

impl Inner {
    fn new(config: Config) -> (Self, mpsc::Receiver<Command>) {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(config.queue)),
            progress: Mutex::default(),
            wake: Notify::new(),
            token_refused: Arc::default(),
            spool_works: Arc::default(),
            last_report: Mutex::default(),
        });
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let inner = Self {
            shared,
            commands: Some(commands),
            config,
            draws: AtomicU64::new(u64::from_le_bytes(platform::random_bytes())),
            process_id: platform::process_id(),
            child: OnceLock::new(),
        };
        (inner, receiver)
    }

    fn start_thread(&self, receiver: mpsc::Receiver<Command>) -> Result<(), ConfigError> {
        let (started, has_started) = sync_channel(1);
        let (shared, config) = (Arc::clone(&self.shared), self.config.clone());
        let body = move || {
            // Before anything else can log on this thread.
            platform::mark_sdk_thread();
            match runtime_and_sender(&config, &shared) {
                Ok((runtime, sender)) => {
                    started.send(Ok(())).ok();
                    let worker = Worker::new(config, shared, sender, receiver);
                    runtime.block_on(worker.run());
                }
                Err(error) => {
                    started.send(Err(error)).ok();
                }
            }
        };
        let spawned = thread::Builder::new().name("logweir".into()).spawn(body);
        spawned.map_err(ConfigError::Thread)?;
        let died = || ConfigError::Thread(std::io::ErrorKind::BrokenPipe.into());
        // Errors of the set-up belong to the caller of `build`, not to a notice later.
        has_started.recv().unwrap_or_else(|_| Err(died()))
    }

    /// This, or in a forked child what the child has in place of it: another producer, with a
    /// thread, a queue and a spool of its own. What waited at the fork is the parent's, and so are
    /// the locks, which nobody here may ever open again.
    fn of_this_process(&self) -> &Self {
        if self.process_id == platform::process_id() {
            return self;
        }
        let start = || {
            let (child, receiver) = Self::new(self.config.for_child(self.process_id));
            if let Err(error) = child.start_thread(receiver) {
                (child.config.notice)(&format!("cannot send logs of a forked child: {error}"));
            }
            Box::new(child)
        };
        // Again, since the child may itself have been forked.
        self.child.get_or_init(start).of_this_process()
    }

    /// The same, but none if a forked child has emitted nothing.
    fn started(&self) -> Option<&Self> {
        if self.process_id == platform::process_id() {
            return Some(self);
        }
        self.child.get()?.started()
    }

    /// Whether the sending thread was told.
    fn command(&self, command: Command) -> bool {
        self.commands.as_ref().is_some_and(|commands| commands.try_send(command).is_ok())
    }

    fn flush(&self, timeout: Duration) -> FlushReport {
        self.ask(timeout, |deadline, reply| Command::Flush { deadline, reply })
    }

    /// A share from 0 up to 1, without a call of the system.
    fn draw(&self) -> f64 {
        sampling::share(self.draws.fetch_add(sampling::STEP, Ordering::Relaxed))
    }

    /// What the program's own `before_send` makes of a log.
    fn keeps(&self, record: &mut LogRecord) -> bool {
        let Some(call) = &self.config.before_send else { return true };
        platform::run_hook(|| call(record)).is_none_or(|kept| kept.unwrap_or(false))
    }

    fn ask(
        &self,
        timeout: Duration,
        command: impl FnOnce(Instant, Reply) -> Command,
    ) -> FlushReport {
        let (sender, receiver) = sync_channel(1);
        let reply: Reply = Box::new(move |report| {
            // The caller may have stopped waiting.
            sender.try_send(report).ok();
        });
        // The sending thread cannot wait for itself.
        if !platform::is_sdk_thread()
            && self.command(command(deadline(timeout), reply))
            && let Ok(report) = receiver.recv_timeout(timeout.saturating_add(REPLY_GRACE))
        {
            return report;
        }
        self.report_now()
    }

    fn shutdown(&self, timeout: Duration) -> FlushReport {
        self.ask(timeout, |deadline, reply| Command::Shutdown { deadline, reply })
    }

    /// The report when the thread is gone, or is the caller.
    fn report_now(&self) -> FlushReport {
        if let Some(report) = *self.shared.last_report.lock() {
            return report;
        }
        let Stats { sent, rejected, dropped, queued, in_flight, spooled, .. } = self.stats();
        FlushReport { sent, rejected, dropped, spooled, pending: queued + in_flight }
    }

    fn stats(&self) -> Stats {
        // Both locks are held together, so that a log is in one of the counts and not between them.
        let queue = self.shared.queue.lock();
        let progress = *self.shared.progress.lock();
        Stats {
            emitted: queue.emitted(),
            sent: progress.sent,
            rejected: progress.rejected,
            dropped: queue.dropped(),
            queued: queue.len() as u64,
            in_flight: progress.in_memory,
            spooled: progress.spooled,
            adopted_waiting: progress.adopted_waiting,
            adopted_sent: progress.adopted_sent,
            adopted_dropped: progress.adopted_dropped,
            spool_failures: progress.spool_failures,
            spool_damaged: progress.spool_damaged,
            emitted_after_shutdown: queue.emitted_after_close(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.process_id == platform::process_id() {
            self.shutdown(DROP_TIMEOUT);
        } else {
            // To drop it would be to speak to a thread that only the parent has.
            std::mem::forget(self.commands.take());
        }
    }
}

fn deadline(timeout: Duration) -> Instant {
    const FOREVER: Duration = Duration::from_secs(365 * 24 * 3_600);
    // The sum of an instant and the longest duration would panic.
    platform::now() + timeout.min(FOREVER)
}

fn runtime_and_sender(
    config: &Config,
    shared: &Shared,
) -> Result<(tokio::runtime::Runtime, Sender), ConfigError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ConfigError::Thread)?;
    let listeners = Listeners {
        notice: config.notice.clone(),
        spool_works: Some(Arc::clone(&shared.spool_works)),
        token_refused: Arc::clone(&shared.token_refused),
    };
    let sender = {
        // Connections belong to the runtime within which they are made.
        let _inside = runtime.enter();
        Sender::connect_with(
            &config.endpoints,
            config.token.clone(),
            config.send.clone(),
            listeners,
        )?
    };
    Ok((runtime, sender))
}
