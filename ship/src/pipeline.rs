//! The whole way of a shipment: files are read on a thread of their own and sent from here, several
//! batches in flight. Every group of batches is noted in a journal before it is sent, so that a
//! killed run started again continues without loss and without doubles.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use logweir_core::runtime::clock;
use logweir_sdk::Sender;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};

use crate::{
    deliver::{
        batch::{BatchLimits, ServiceBatch},
        counts::{Counts, Delivered},
        deliver,
        send::send_batch,
    },
    error::Error,
    event::Event,
    feed::{Feed, FeedParts, Tally},
    journal::{Group, Journal, State},
    read::{
        files::Progress,
        list::Listing,
        reader::{ReadSummary, Reader},
    },
    record::Rules,
    registry,
};

/// Groups waiting between reader and sender: few, because each may hold megabytes.
const GROUPS_WAITING_MAX: usize = 2;
/// A server that does not answer for so long is spoken of.
pub const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Where the lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// Files, directories, pipes, and `-` for standard input, as they were named.
    pub paths: Vec<PathBuf>,
    /// Whether to go on reading what is added, over rotation, until asked to stop.
    pub follow: bool,
    /// The directory where this and all other runs are noted.
    pub journal: Option<PathBuf>,
    /// The journal that the same run had in earlier versions, if it had one.
    pub earlier_journal: Option<PathBuf>,
    /// Whether to send again what was sent.
    pub again: bool,
}

/// What to ship, and how.
#[derive(Debug, Clone)]
pub struct Shipment {
    /// What is read.
    pub inputs: Inputs,
    /// How lines become records.
    pub rules: Rules,
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
    /// After a failure, nothing of what is still read is sent.
    pub async fn run(
        &self,
        sender: Sender,
        control: &Control,
        notify: Notify,
    ) -> Result<Shipped, Error> {
        let listing = self.check_inputs()?;
        let (journal, left, known) = match self.open_journal(&listing, &notify)? {
            Some(opened) => (Some(Arc::new(opened.journal)), opened.left, opened.known),
            None => Default::default(),
        };
        let (groups, receiver) = mpsc::channel(GROUPS_WAITING_MAX);
        let feed = self.feed(journal.clone(), left.state, control, groups);
        let reading = self.start_reading(feed, known, control, notify.clone());
        let waiting = left.groups;
        if !waiting.is_empty() {
            let batches = waiting.iter().flat_map(|group| &group.batches);
            notify(Event::Resumed { logs: batches.map(ServiceBatch::records).sum() });
        }
        // First what an earlier run noted: the checkpoint only moves on in the order of groups.
        let groups = tokio_stream::iter(waiting).chain(ReceiverStream::new(receiver));
        // Asked to stop, what is noted but not begun waits for the next run. What came from a stream
        // is delivered, for there is perhaps no next run.
        let leaves_rest = !self.inputs.follow && listing.streams.is_empty();
        let stop = control.stop.clone();
        let groups = groups.take_while(move |_| !(leaves_rest && stop.load(Ordering::Relaxed)));
        let delivering = self.deliver(groups, &control.counts, sender, journal, &notify).await;
        let is_interrupted = control.stop.swap(true, Ordering::Relaxed);
        // After a failure the reader's result does not matter.
        delivering?;
        let (read, tally) = reading.await.map_err(|_| Error::Interrupted)??;
        Ok(Shipped { delivered: control.counts.delivered(), read, tally, is_interrupted })
    }

    fn check_inputs(&self) -> Result<Listing, Error> {
        let listing = Listing::new(&self.inputs.paths, &[]);
        match listing.missing.first() {
            Some(path) if !self.inputs.follow => {
                Err(Error::Inputs(format!("{}: there is no such file or folder", path.display())))
            }
            _ => Ok(listing),
        }
    }

    /// Only once the inputs are known to be there: a mistyped name should leave no journal.
    fn open_journal(
        &self,
        listing: &Listing,
        notify: &Notify,
    ) -> Result<Option<registry::Opened>, Error> {
        let Inputs { paths, journal, earlier_journal, again, .. } = &self.inputs;
        let has_only_streams = listing.files.is_empty() && !self.inputs.follow;
        let directory = match journal {
            Some(directory) => directory,
            None if has_only_streams => return Ok(None),
            None => return Err(Error::NoJournal),
        };
        let mut opened = match registry::open(directory, earlier_journal.as_deref(), paths) {
            // A stream is sent from wherever it comes, a container without a disk too.
            Err(error @ Error::File { .. }) if has_only_streams => {
                notify(Event::NotNoted(error));
                return Ok(None);
            }
            opened => opened?,
        };
        let waiting = opened.left.groups.iter().flat_map(|group| group.batches.clone());
        let waiting: Vec<_> = waiting.collect();
        opened.left.state.producers.settle_all_but(&waiting);
        // They are among what is known.
        opened.left.state.files.clear();
        if *again {
            opened.known.clear();
        }
        Ok(Some(opened))
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
            rules: self.rules.clone(),
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
        known: Vec<Progress>,
        control: &Control,
        notify: Notify,
    ) -> JoinHandle<Result<(ReadSummary, Tally), Error>> {
        let (inputs, read_bytes) = (self.inputs.clone(), control.read_bytes.clone());
        spawn_blocking(move || {
            let mut reader = Reader::new(&mut feed, known, read_bytes, &*notify);
            let read = if inputs.follow {
                reader.follow(&inputs.paths)
            } else {
                reader.read_all(&inputs.paths)
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
