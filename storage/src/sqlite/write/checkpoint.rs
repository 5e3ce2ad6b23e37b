//! Copies the write-ahead log into the database beside the commits.
//!
//! SQLite itself does so within the commit that makes the log long: whoever waits for that one waits
//! for thousands of pages to be written. Here a thread of its own copies what is there; only the few
//! pages that were written meanwhile are left to a commit, for the log begins anew only once all of it
//! is copied (sqlite.org/wal.html, "Avoiding Excessively Large WAL Files").

use std::{
    ffi::c_int,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use metrics::counter;
use rusqlite::{Connection, hooks::Wal};

use crate::{
    StorageError,
    sqlite::files::{Files, PAGE_BYTES, WAL_BYTES},
};

/// The log is copied once it has so many pages.
const PAGES_MAX: c_int = (WAL_BYTES / PAGE_BYTES) as c_int;
/// A second pass copies what was written during the first, which took long, so that little is left.
const PASSES: usize = 2;

/// Nothing is to be done until the log is long.
const IDLE: u8 = 0;
/// The thread copies.
const COPYING: u8 = 1;
/// It has copied nearly all; the next commit copies what is left.
const COPIED: u8 = 2;

/// The thread that copies. It ends once no connection is served any more.
pub(crate) struct Checkpointer {
    state: Arc<AtomicU8>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(crate) fn start(files: Files) -> Result<Self, StorageError> {
        let (wake, woken) = sync_channel(1);
        let state = Arc::new(AtomicU8::new(IDLE));
        let shared = Arc::clone(&state);
        let run = move || {
            let mut connection = None;
            while woken.recv().is_ok() {
                if let Err(error) = copy(&files, &mut connection) {
                    failed(&error);
                    connection = None;
                }
                // After a failure too: what is committed next tries for itself.
                shared.store(COPIED, Ordering::Release);
            }
        };
        let thread = std::thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn(run)
            .map_err(|error| StorageError::Unavailable(Box::new(error)))?;
        Ok(Self { state, wake: Some(wake), thread: Some(thread) })
    }

    /// Takes the place of SQLite's own checkpoints on a connection that writes.
    pub(crate) fn serve(&self, mut connection: Connection) -> rusqlite::Result<Connection> {
        let state = Arc::clone(&self.state);
        let Some(wake) = self.wake.clone() else { return Ok(connection) };
        connection.wal_hook(Some(move |log: &mut Wal, pages: c_int| {
            match state.load(Ordering::Acquire) {
                // All was copied before this commit, which therefore began the log anew.
                COPIED if pages < PAGES_MAX => state.store(IDLE, Ordering::Release),
                _ if pages < PAGES_MAX => {}
                IDLE => {
                    state.store(COPYING, Ordering::Release);
                    // It has room, for the thread is idle. The thread ends only by a defect.
                    if wake.try_send(()).is_err() {
                        state.store(COPIED, Ordering::Release);
                    }
                }
                COPIED => {
                    state.store(IDLE, Ordering::Release);
                    // What was committed is committed, whatever becomes of this.
                    if let Err(error) = log.checkpoint() {
                        failed(&error);
                    }
                }
                _ => {}
            }
            Ok(())
        }))?;
        Ok(connection)
    }
}

fn copy(files: &Files, connection: &mut Option<Connection>) -> rusqlite::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(files.open_checkpointer()?),
    };
    for _ in 0..PASSES {
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    }
    Ok(())
}

fn failed(error: &rusqlite::Error) {
    counter!("logweir_storage_failed_checkpoints_total").increment(1);
    tracing::debug!("the write-ahead log could not be copied: {error}");
}

/// After the connections that it serves.
impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that copies the write-ahead log panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, thread::yield_now};

    use super::*;

    /// How often the log began anew, as its header says (sqlite.org/fileformat2.html, 4.1).
    fn restarts(directory: &Path) -> u32 {
        let log = fs::read(directory.join("logweir.db-wal")).unwrap();
        u32::from_be_bytes(log[12..16].try_into().unwrap())
    }

    /// Writes rows of 64 KiB while the state is as given; how many.
    fn write_while(state: u8, checkpointer: &Checkpointer, connection: &Connection) -> u32 {
        let mut rows = 0;
        while checkpointer.state.load(Ordering::Acquire) == state {
            connection.execute("INSERT INTO t VALUES (randomblob(65536))", []).unwrap();
            rows += 1;
        }
        rows
    }

    #[test]
    fn a_long_log_is_copied_beside_the_commits_and_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::create(directory.path()).unwrap();
        let checkpointer = Checkpointer::start(files.clone()).unwrap();
        let connection = checkpointer.serve(files.open_writer().unwrap()).unwrap();
        connection.execute_batch("CREATE TABLE t (body)").unwrap();
        let mut rows = 0;
        for round in 0..3 {
            assert_eq!(restarts(directory.path()), round);
            let long = write_while(IDLE, &checkpointer, &connection);
            // Beside a row go the pages of the table that lead to it.
            assert!(long * 65_536 > WAL_BYTES / 2, "{long} rows are no long log");
            assert_eq!(restarts(directory.path()), round, "it was copied within a commit");
            while checkpointer.state.load(Ordering::Acquire) == COPYING {
                yield_now();
            }
            rows += long + write_while(COPIED, &checkpointer, &connection);
        }
        let found: u32 =
            connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(found, rows);
    }

    #[test]
    fn what_is_written_during_the_copy_is_copied_by_a_commit() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::create(directory.path()).unwrap();
        let checkpointer = Checkpointer::start(files.clone()).unwrap();
        let connection = checkpointer.serve(files.open_writer().unwrap()).unwrap();
        connection.execute_batch("CREATE TABLE t (body)").unwrap();
        // As if it copied for all of that time.
        checkpointer.state.store(COPYING, Ordering::Release);
        for _ in 0..WAL_BYTES / 65_536 {
            connection.execute("INSERT INTO t VALUES (randomblob(65536))", []).unwrap();
        }
        checkpointer.state.store(COPIED, Ordering::Release);
        let begun = restarts(directory.path());
        assert_eq!(write_while(COPIED, &checkpointer, &connection), 1);
        assert_eq!(restarts(directory.path()), begun);
        connection.execute("INSERT INTO t VALUES (1)", []).unwrap();
        assert_eq!(restarts(directory.path()), begun + 1);
    }
}
