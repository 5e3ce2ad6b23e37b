//! The whole way of a shipment: files are read on a thread of their own and sent from here, several
//! batches in flight. Every group of batches is noted in a journal before it is sent, so that a
//! killed run started again continues without loss and without doubles.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use logweir_core::{limits::Limits, runtime::clock};
use logweir_parse::{Tz, service::PathPattern};
use logweir_sdk::Sender;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};

use crate::{
    deliver::{
        batch::BatchLimits,
        counts::{Counts, Delivered},
        deliver,
        send::send_batch,
    },
    error::Error,
    event::Event,
    feed::{Feed, FeedParts, Tally},
    journal::{Group, Journal, Left, State},
    read::{
        files,
        reader::{ReadSummary, Reader},
    },
    record::Rules,
};

/// Groups waiting between reader and sender: few, because each may hold megabytes.
const GROUPS_WAITING_MAX: usize = 2;
/// A server that does not answer for so long is spoken of.
pub const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Where the lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inputs {
    /// Standard input, which cannot be read again and so has no journal.
    Stdin,
    /// Files and directories.
    Files {
        /// As they were named.
        paths: Vec<PathBuf>,
        /// Whether to go on reading what is added, over rotation, until asked to stop.
        follow: bool,
        /// Where the shipment is noted.
        journal: PathBuf,
        /// Whether to send again what the journal says was sent.
        again: bool,
    },
}

/// What to ship, and how.
#[derive(Debug, Clone)]
pub struct Shipment {
    /// What is read.
    pub inputs: Inputs,
    /// The service of every line, whatever the line says.
    pub service: Option<String>,
    /// Where in a file's path its service stands.
    pub service_from: Option<PathPattern>,
    /// The zone of times that name none.
    pub zone: Tz,
    /// Batches in flight.
    pub in_flight: usize,
    /// Logs of a batch at most.
    pub batch_records_max: usize,
    /// How long to go on trying when no server answers; none for ever.
    pub patience: Option<Duration>,
}

/// A person's hand on a running shipment: what to show, and how to stop it.
#[derive(Clone, Default)]
pub struct Control {
    /// Bytes read on disk, before decompression.
    pub read_bytes: Arc<AtomicU64>,
    /// What the server answered so far.
    pub counts: Arc<Counts>,
    /// Set to stop after what is in flight.
    pub stop: Arc<AtomicBool>,
}

/// What a shipment came to.
#[derive(Debug)]
pub struct Shipped {
    /// What the server answered.
    pub delivered: Delivered,
    /// What reading came to.
    pub read: ReadSummary,
    /// What had to be changed in logs.
    pub tally: Tally,
    /// Whether it was asked to stop before its end.
    pub is_interrupted: bool,
}

/// Tells a person what happens meanwhile; called from several threads.
pub type Notify = Arc<dyn Fn(Event) + Send + Sync>;

impl Shipment {
    /// Ships everything. Once it is stopped, what is noted but not begun waits for the next run.
    /// After a failure the reading thread may go on waiting for input; nothing of it is sent.
    pub async fn run(
        &self,
        sender: Sender,
        control: &Control,
        notify: Notify,
    ) -> Result<Shipped, Error> {
        let (journal, left) = self.open_journal()?;
        let (groups, receiver) = mpsc::channel(GROUPS_WAITING_MAX);
        let feed = self.feed(journal.clone(), left.state, control, groups);
        let reading = self.start_reading(feed, control, notify.clone());
        let waiting = left.groups;
        if !waiting.is_empty() {
            let batches = waiting.iter().flat_map(|group| &group.batches);
            notify(Event::Resumed { logs: batches.map(|batch| batch.records.len()).sum() });
        }
        // First what an earlier run noted: the checkpoint only moves on in the order of groups.
        let groups = tokio_stream::iter(waiting).chain(ReceiverStream::new(receiver));
        // Asked to stop, what is noted but not begun waits for the next run.
        let leaves_rest = !self.follows() && journal.is_some();
        let stop = control.stop.clone();
        let groups = groups.take_while(move |_| !(leaves_rest && stop.load(Ordering::Relaxed)));
        let delivering = self.deliver(groups, &control.counts, sender, journal, &notify).await;
        let is_interrupted = control.stop.swap(true, Ordering::Relaxed);
        // After a failure the reader may wait for input that never comes; its result does not
        // matter.
        delivering?;
        let (read, tally) = reading.await.map_err(|_| Error::Interrupted)??;
        Ok(Shipped { delivered: control.counts.delivered(), read, tally, is_interrupted })
    }

    fn follows(&self) -> bool {
        matches!(self.inputs, Inputs::Files { follow: true, .. })
    }

    fn open_journal(&self) -> Result<(Option<Arc<Journal>>, Left), Error> {
        let Inputs::Files { paths, journal, again, .. } = &self.inputs else {
            return Ok((None, Left { state: State::default(), groups: Vec::new() }));
        };
        files::discover(paths).map_err(|error| Error::Inputs(error.to_string()))?;
        // Only once the inputs are known to be there: a mistyped name should leave no journal.
        let (journal, mut left) = Journal::open(journal)?;
        let waiting: Vec<_> = left.groups.iter().flat_map(|group| group.batches.clone()).collect();
        left.state.producers.settle_all_but(&waiting);
        if *again {
            left.state.files.clear();
        }
        Ok((Some(Arc::new(journal)), left))
    }

    fn feed(
        &self,
        journal: Option<Arc<Journal>>,
        state: State,
        control: &Control,
        groups: mpsc::Sender<Group>,
    ) -> Feed {
        Feed::new(FeedParts {
            state,
            rules: Rules {
                service: self.service.clone(),
                service_from: self.service_from.clone(),
                limits: Limits::default(),
                zone: self.zone,
            },
            limits: BatchLimits::with_batch_records(self.batch_records_max),
            clock: clock::system_clock(),
            journal,
            counts: control.counts.clone(),
            groups,
            stop: control.stop.clone(),
        })
    }

    fn start_reading(
        &self,
        mut feed: Feed,
        control: &Control,
        notify: Notify,
    ) -> JoinHandle<Result<(ReadSummary, Tally), Error>> {
        let (inputs, read_bytes) = (self.inputs.clone(), control.read_bytes.clone());
        spawn_blocking(move || {
            let notify = &*notify;
            let summary = ReadSummary::default();
            let mut reader = Reader { feed: &mut feed, read_bytes, notify, summary };
            let read = match &inputs {
                Inputs::Stdin => reader.read_stream(io::stdin().lock(), "stdin"),
                Inputs::Files { paths, follow: true, .. } => reader.follow_files(paths),
                Inputs::Files { paths, .. } => reader.read_files(paths),
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
        groups: impl Stream<Item = Group>,
        counts: &Counts,
        sender: Sender,
        journal: Option<Arc<Journal>>,
        notify: &Notify,
    ) -> Result<(), Error> {
        let is_told = AtomicBool::new(false);
        let send = async |batch| {
            let mut sending = Box::pin(send_batch(sender.clone(), batch, self.patience));
            let answer = match timeout(SILENCE_MAX, &mut sending).await {
                Ok(answer) => answer,
                Err(_) => {
                    // Once for all batches in flight, which all wait for the same server.
                    if !is_told.swap(true, Ordering::Relaxed) {
                        notify(Event::Unanswered);
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
                let completing = spawn_blocking(move || journal.complete(&state));
                completing.await.map_err(|_| Error::Interrupted)?
            }
        };
        deliver(groups, self.in_flight, counts, send, complete).await
    }
}
