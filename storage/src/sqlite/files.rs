//! The files of a data directory: the database, the lock that keeps a second process out, and the
//! reserve, which is given up when the disk is full so that deleting can still commit.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::errors::Fault;
use crate::StorageError;

/// Enough for the transactions of a few steps of retention and their checkpoint.
const RESERVE_BYTES: usize = 8 << 20;
/// Blobs of tens of kilobytes: fewer overflow pages, and still small enough for the tables of
/// counters, whose pages are written anew by every transaction.
const PAGE_BYTES: u32 = 8 << 10;
const WRITER_CACHE_BYTES: i64 = 16 << 20;
const READER_CACHE_BYTES: i64 = 8 << 20;
/// The write-ahead log is copied into the database at this size, and cut to it.
const WAL_BYTES: u32 = 16 << 20;
/// An administering process holds the database for moments only.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENTS_CACHED: usize = 64;

/// Where the files are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    /// Creates the directory, readable by its owner alone, if it is missing.
    pub(super) fn create(directory: &Path) -> Result<Self, StorageError> {
        create_private(directory).map_err(|source| unusable(directory, source))?;
        Ok(Self { directory: directory.to_owned() })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn database(&self) -> PathBuf {
        self.directory.join("logweir.db")
    }

    fn reserve(&self) -> PathBuf {
        self.directory.join("reserve")
    }

    /// Keeps every other process from writing logs here for as long as the file is held.
    pub(super) fn lock(&self) -> Result<File, StorageError> {
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.directory.join("lock"));
        let file = open.map_err(|source| unusable(&self.directory, source))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                Err(StorageError::InUse { place: self.directory.display().to_string() })
            }
            Err(TryLockError::Error(source)) => Err(unusable(&self.directory, source)),
        }
    }

    /// A connection that may write.
    pub(super) fn open_writer(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(self.database())?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // These two take effect in an empty database only.
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", WAL_BYTES / PAGE_BYTES)?;
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_BYTES / 1024)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        Ok(connection)
    }

    /// A connection that can only read.
    pub(super) fn open_reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.database(), flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_BYTES / 1024)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        Ok(connection)
    }

    /// Makes sure that the reserve is there; fails while the disk has no room for it.
    pub(super) fn keep_reserve(&self) -> Result<(), Fault> {
        if fs::metadata(self.reserve()).is_ok_and(|found| found.len() == RESERVE_BYTES as u64) {
            return Ok(());
        }
        let written = File::create(self.reserve()).and_then(|mut file| {
            file.write_all(&vec![0; RESERVE_BYTES])?;
            file.sync_all()
        });
        if let Err(error) = written {
            self.release_reserve();
            return Err(fault_of(self.directory(), error));
        }
        Ok(())
    }

    /// Gives the reserve's room to the database.
    pub(super) fn release_reserve(&self) {
        if let Err(error) = fs::remove_file(self.reserve())
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the reserve file cannot be removed");
        }
    }

    /// Whether an I/O error came of a full disk: SQLite does not tell for all of its files.
    pub(super) fn has_no_room(&self) -> bool {
        let probe = self.directory.join("probe");
        let written = fs::write(&probe, vec![1; 64 << 10]);
        let removed = fs::remove_file(&probe);
        removed.is_ok() && written.is_err_and(|error| is_full(&error))
    }

    /// Bytes of the database with its write-ahead log.
    pub(super) fn disk_bytes(&self) -> u64 {
        ["logweir.db", "logweir.db-wal"]
            .into_iter()
            .filter_map(|name| fs::metadata(self.directory.join(name)).ok())
            .map(|found| found.len())
            .sum()
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn fault_of(directory: &Path, error: io::Error) -> Fault {
    if is_full(&error) { Fault::DiskFull } else { Fault::Answer(unusable(directory, error)) }
}

fn unusable(directory: &Path, source: io::Error) -> StorageError {
    StorageError::Unusable { place: directory.display().to_string(), source: source.into() }
}

fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
