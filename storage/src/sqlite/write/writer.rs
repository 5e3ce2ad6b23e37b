//! The one thread that writes. Jobs come over a bounded channel and run one after the other; each
//! is one transaction. After a failed one the connection is opened anew, since SQLite cannot say
//! what a failed commit or fsync has left behind in its caches.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
    thread::JoinHandle,
};

use metrics::{counter, gauge};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::{
    StorageError,
    block::Encoder,
    sqlite::{errors::Fault, files::Files, ids::Ids, schema},
};

/// Jobs that wait; the callers of further ones wait themselves.
// Few, because each may hold 20,000 logs: what waits beyond them waits in its own queue, which
// counts bytes and refuses. More would not be quicker, since the one thread is what limits.
const JOBS_MAX: usize = 16;

type Job = Box<dyn FnOnce(&mut Writer) + Send>;

/// What a transaction may use that outlives it, unless it fails.
#[derive(Default)]
pub(crate) struct Tools {
    pub(crate) ids: Ids,
    pub(crate) encoder: Encoder,
}

/// What the thread works with.
pub(crate) struct Writer {
    files: Files,
    connection: Option<Connection>,
    tools: Tools,
    /// Whether the last write found no room.
    is_full: bool,
    /// Whether the last transaction failed for another reason.
    has_failed: bool,
    /// Why the database cannot be read, until a write has succeeded nevertheless.
    damage: Option<String>,
    /// A test's stand-in for a small disk.
    pages_max: Option<u32>,
}

impl Writer {
    pub(crate) fn new(files: Files, connection: Connection) -> Self {
        Self {
            files,
            connection: Some(connection),
            tools: Tools::default(),
            is_full: false,
            has_failed: false,
            damage: None,
            pages_max: None,
        }
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Runs `body` in a transaction and commits it. For what adds data: while the disk is full it
    /// first tries to have the reserve back, and fails if there is no room for that.
    pub(crate) fn add<T>(
        &mut self,
        body: impl FnOnce(&Transaction<'_>, &mut Tools) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        // Not just a retry: a write that fits once more would take the room that retention needs
        // for its own commit, and then nothing could ever be deleted.
        if self.is_full
            && let Err(fault) = self.files.keep_reserve()
        {
            return Err(fault.into_storage_error(self.files.directory()));
        }
        let result = self.free(body);
        if result.is_ok() {
            self.has_failed = false;
            self.damage = None;
            if self.is_full {
                self.set_full(false);
                tracing::info!("there is space on the disk again; writes are taken");
            }
        }
        result
    }

    /// The same for what sets space free, which may use the reserve's room.
    pub(crate) fn free<T>(
        &mut self,
        body: impl FnOnce(&Transaction<'_>, &mut Tools) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        let result = self.attempt(body);
        result.map_err(|fault| self.failed(fault))
    }

    fn attempt<T>(
        &mut self,
        body: impl FnOnce(&Transaction<'_>, &mut Tools) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(reopen(&self.files, self.pages_max)?),
        };
        // Immediate: a transaction that reads first and then asks for the lock fails with BUSY at
        // once if an administering process has written meanwhile, whatever the busy time-out is.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = body(&transaction, &mut self.tools)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Notes a failure: nothing learnt in the transaction holds any more.
    fn failed(&mut self, fault: Fault) -> StorageError {
        // Numbers given to new tenants, services and templates were rolled back and will be given
        // to others: kept in memory, they would file logs under another service's name.
        self.tools = Tools::default();
        // SQLite says "disk full" of its database; of the shared-memory file and of new files a
        // full disk shows as an I/O error, which would pass for a broken one.
        let fault = match fault {
            Fault::Sqlite(error) if is_io(&error) && self.files.has_no_room() => Fault::DiskFull,
            other => other,
        };
        let is_answer = matches!(fault, Fault::Answer(_));
        if matches!(fault, Fault::DiskFull) && !self.is_full {
            tracing::error!(directory = %self.files.directory().display(),
                "the disk is full; no logs are taken until there is space");
            self.set_full(true);
            self.files.release_reserve();
        }
        let error = fault.into_storage_error(self.files.directory());
        // After an answer such as "not found" the connection is sound. After all else it is closed:
        // a commit tried again after a failed fsync may succeed although its pages never reached
        // the disk.
        if !is_answer {
            self.connection = None;
            counter!("logweir_storage_failed_transactions_total").increment(1);
            self.has_failed |= !matches!(error, StorageError::DiskFull { .. });
            if let StorageError::Corrupt(what) = &error {
                self.damage = Some(what.clone());
            }
        }
        error
    }

    fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        gauge!("logweir_storage_disk_full").set(f64::from(u8::from(is_full)));
    }

    /// After a transaction that failed: tries whether a write would succeed now. Whether damage is
    /// gone only the next write can tell, which may touch the damaged place.
    pub(crate) fn check_ready(&mut self) -> Result<(), StorageError> {
        if let Some(what) = &self.damage {
            return Err(StorageError::Corrupt(what.clone()));
        }
        if !self.is_full && !self.has_failed {
            return Ok(());
        }
        self.add(|transaction, _| {
            // What a write does, as far as can be tried without leaving anything: it finds its
            // tables, gets pages for a block, and commits.
            schema::check(transaction)?;
            transaction.execute_batch(
                "SAVEPOINT probe;
                 INSERT INTO block_bodies (body) VALUES (zeroblob(65536));
                 ROLLBACK TO probe;
                 RELEASE probe;",
            )?;
            Ok(())
        })
    }

    /// Runs outside of a transaction.
    pub(crate) fn run_plain<T>(
        &mut self,
        body: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StorageError> {
        let connection = match &mut self.connection {
            Some(connection) => Ok(connection),
            none => reopen(&self.files, self.pages_max).map(|opened| none.insert(opened)),
        };
        let result = connection.and_then(|connection| body(connection));
        result.map_err(|error| self.failed(error.into()))
    }

    /// Makes the database behave as if the disk ended at this many pages.
    #[cfg(test)]
    pub(crate) fn limit_pages(&mut self, pages_max: Option<u32>) {
        self.pages_max = pages_max;
        self.connection = None;
    }
}

fn reopen(files: &Files, pages_max: Option<u32>) -> rusqlite::Result<Connection> {
    let connection = files.open_writer()?;
    Files::keep_journals_in_memory(&connection)?;
    if let Some(pages_max) = pages_max {
        connection.pragma_update(None, "max_page_count", pages_max)?;
    }
    Ok(connection)
}

fn is_io(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen))
}

/// Where jobs are handed in. The last one dropped waits for the thread, so that the directory is
/// free again.
pub(crate) struct WriterHandle {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl WriterHandle {
    /// Starts the thread; it holds the lock until it ends.
    pub(crate) fn start(writer: Writer, lock: Option<File>) -> Result<Self, StorageError> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(JOBS_MAX);
        let mut writer = writer;
        let run = move || {
            while let Some(job) = waiting.blocking_recv() {
                // A panic must not end the one thread that writes: every later write would fail
                // until a restart. The caller sees its reply dropped and tries again.
                if catch_unwind(AssertUnwindSafe(|| job(&mut writer))).is_err() {
                    tracing::error!(
                        "a write ended in a defect of the program; nothing of it is kept"
                    );
                    counter!("logweir_storage_failed_transactions_total").increment(1);
                    writer.connection = None;
                    writer.tools = Tools::default();
                }
            }
            // In this order: closing the connection copies the write-ahead log into the database,
            // and no other process may begin before that is done.
            drop(writer);
            drop(lock);
        };
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(run)
            .map_err(|error| StorageError::Unavailable(Box::new(error)))?;
        Ok(Self { jobs: Some(jobs), thread: Mutex::new(Some(thread)) })
    }

    /// Runs a job and waits for its result. Once handed in, it runs even if nobody waits.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |writer| {
            if reply.send(work(writer)).is_err() {
                tracing::debug!("nobody waits for this write any more");
            }
        });
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(job).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        // The closed channel is what ends the thread; joining it before would wait for ever.
        self.jobs = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writing thread panicked");
        }
    }
}

fn ended() -> StorageError {
    StorageError::Unavailable("the write ended without a result".into())
}
