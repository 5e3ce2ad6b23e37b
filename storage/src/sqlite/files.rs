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
// The writer goes back to the pages of counters, readers mostly read each block once: half is
// enough. With four readers all of them come to 48 MiB.
const WRITER_CACHE_BYTES: i64 = 16 << 20;
const READER_CACHE_BYTES: i64 = 8 << 20;
/// The write-ahead log is copied into the database at this size, and cut to it.
const WAL_BYTES: u32 = 16 << 20;
/// The bit of a mode by which everybody may write.
#[cfg(unix)]
const WRITABLE_BY_ALL: u32 = 0o002;
/// An administering process holds the database for moments only.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept by a connection.
// rusqlite keeps 16; a write alone uses about as many, and would prepare them anew each time.
const STATEMENTS_CACHED: usize = 64;

/// Where the files are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    /// Creates the directory if it is missing. It and the files in it are the owner's alone,
    /// whatever they were before: every log lies there, and the secrets of channels.
    pub(super) fn create(directory: &Path) -> Result<Self, StorageError> {
        create_private(directory).map_err(|source| unusable(directory, source))?;
        let files = Self { directory: directory.to_owned() };
        #[cfg(unix)]
        files.make_private().map_err(|source| unusable(directory, source))?;
        Ok(files)
    }

    #[cfg(unix)]
    fn make_private(&self) -> io::Result<()> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};

        restrict(&self.directory, fs::Permissions::from_mode(0o700))?;
        // Another user's, or on a file system that knows no modes.
        if fs::metadata(&self.directory)?.mode() & WRITABLE_BY_ALL != 0 {
            return Err(io::Error::other(
                "anybody may write into it, and put files of theirs in place of the data: name a \
                 folder within it, which is then made for its owner alone, or have its owner run \
                 `chmod 700` on it",
            ));
        }
        for name in ["logweir.db", "logweir.db-wal", "logweir.db-shm", "lock", "reserve"] {
            let path = self.directory.join(name);
            if path.exists() {
                restrict(&path, fs::Permissions::from_mode(0o600))?;
            }
        }
        Ok(())
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
        let open = private_file().truncate(false).open(self.directory.join("lock"));
        let file = open.map_err(|source| unusable(&self.directory, source))?;
        // The system's lock on an open file and not a file that is there or not: it is gone with
        // its holder, also after SIGKILL, so that a crash never has to be cleaned up by hand.
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
        // SQLite gives its own files beside it the mode of the database, which it would make
        // readable by all. Only a new one is opened here: closing any file that SQLite has open
        // would drop the locks of this process on it ("How To Corrupt An SQLite Database", 2.2).
        drop(private_file().create_new(true).open(self.database()));
        let connection = Connection::open(self.database())?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // These two take effect in an empty database only.
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // In WAL mode NORMAL does not fsync a commit: what was acknowledged could be gone after a
        // power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", WAL_BYTES / PAGE_BYTES)?;
        // Without a limit the log stays as large as a long read once made it.
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
        // SQLite reads a negative size as KiB, a positive one as pages.
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_BYTES / 1024)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        Ok(connection)
    }

    /// Has what a statement needs to be undone alone kept in memory. Every statement that has a
    /// trigger writes the pages that it changes there: on the disk that was eight times what is
    /// stored, and a full disk for temporary files would fail every write.
    pub(super) fn keep_journals_in_memory(connection: &Connection) -> rusqlite::Result<()> {
        connection.pragma_update(None, "temp_store", "MEMORY")
    }

    /// A connection that can only read.
    pub(super) fn open_reader(&self) -> rusqlite::Result<Connection> {
        // Each connection is used by one thread at a time (see `Readers`), so it needs no mutex.
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
        let opened = private_file().truncate(true).open(self.reserve());
        let written = opened.and_then(|mut file| {
            // Written out and synced: a file that was only given a length has no room of its own.
            file.write_all(&vec![0; RESERVE_BYTES])?;
            file.sync_all()
        });
        if let Err(error) = written {
            // Half a reserve would take the last room and be of no use to deleting.
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
        // As large as a small block, so that it does not fit into what is left of a file system's
        // block.
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

/// Opens for writing a file that is its owner's alone if it is made by that.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Sets the permissions of a file or folder; one of another owner, as a mounted volume may be, stays
/// as it is.
#[cfg(unix)]
fn restrict(path: &Path, permissions: fs::Permissions) -> io::Result<()> {
    match fs::set_permissions(path, permissions) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(path = %path.display(), "others may read this: it is another user's");
            Ok(())
        }
        set => set,
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
    // The directory holds the key that signs tokens, and every log.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_lies_in_the_directory_is_the_owners_alone() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("data");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.join("lock"), "").unwrap();
        fs::set_permissions(directory.join("lock"), fs::Permissions::from_mode(0o644)).unwrap();
        let files = Files::create(&directory).unwrap();
        let lock = files.lock().unwrap();
        let connection = files.open_writer().unwrap();
        connection.execute_batch("CREATE TABLE t (n)").unwrap();
        files.keep_reserve().unwrap();
        assert_eq!(mode(&directory), 0o700);
        for name in ["lock", "logweir.db", "logweir.db-wal", "logweir.db-shm", "reserve"] {
            assert_eq!(mode(&directory.join(name)), 0o600, "{name}");
        }
        drop((lock, connection));
    }

    #[test]
    fn a_directory_that_anybody_might_write_into_is_closed_to_them() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("data");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        Files::create(&directory).unwrap();
        assert_eq!(mode(&directory), 0o700);
    }

    #[test]
    fn opening_the_writer_again_leaves_the_locks_of_readers() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::create(directory.path()).unwrap();
        let first = files.open_writer().unwrap();
        first.execute_batch("CREATE TABLE t (n)").unwrap();
        let reader = files.open_reader().unwrap();
        let count = "SELECT count(*) FROM t";
        let _: i64 = reader.query_row(count, [], |row| row.get(0)).unwrap();
        drop(first);
        let _again = files.open_writer().unwrap();
        // By this lock another process knows that it may not delete the write-ahead log.
        let inode = format!(":{} ", fs::metadata(files.database()).unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        assert!(locks.lines().any(|lock| lock.contains(&inode)), "{locks}");
    }
}
