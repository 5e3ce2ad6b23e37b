//! Reading connections: a few, on blocking threads, each used by one call at a time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::{
    StorageError,
    sqlite::{errors::Fault, files::Files},
};

/// Calls that read at a time; further ones wait.
const READERS_MAX: usize = 4;
/// A snapshot is let go after this, so that the write-ahead log can be cut.
const SNAPSHOT_MAX: Duration = Duration::from_secs(2);

/// The pool.
#[derive(Clone)]
pub(crate) struct Readers {
    files: Files,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

/// What a long read looks at in between.
pub(crate) struct Caller {
    waiting: Weak<()>,
    /// How long it may hold a snapshot.
    pub(crate) snapshot_max: Duration,
}

impl Caller {
    pub(crate) fn new(waiting: &Arc<()>, snapshot_max: Duration) -> Self {
        Self { waiting: Arc::downgrade(waiting), snapshot_max }
    }

    /// Whether nobody waits for the result any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.waiting.strong_count() == 0
    }
}

impl Readers {
    pub(crate) fn new(files: Files) -> Self {
        Self { files, idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// Runs a read on a blocking thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &Caller) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        let unavailable =
            |error: Box<dyn std::error::Error + Send + Sync>| StorageError::Unavailable(error);
        let permit =
            Arc::clone(&self.permits).acquire_owned().await.map_err(|e| unavailable(e.into()))?;
        let waiting = Arc::new(());
        let caller = Caller::new(&waiting, SNAPSHOT_MAX);
        let pool = self.clone();
        let work = move || {
            let result = pool.with_connection(|connection| read(connection, &caller));
            drop(permit);
            result.map_err(|fault| fault.into_storage_error(pool.files.directory()))
        };
        let result = tokio::task::spawn_blocking(work).await.map_err(|e| unavailable(e.into()))?;
        drop(waiting);
        result
    }

    fn with_connection<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.files.open_reader()?,
        };
        let result = read(&connection);
        if matches!(result, Ok(_) | Err(Fault::Answer(_))) {
            self.idle().push(connection);
        }
        result
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
