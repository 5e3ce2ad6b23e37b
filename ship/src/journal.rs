//! The notes that make sending resumable, in a directory of their own.
//!
//! * `N.group`: the batches of group N as they are sent, and the state after them. Written to the side,
//!   synced and renamed before anything of it is sent; deleted when all of it is acknowledged.
//! * `checkpoint`: the state after the newest group that is acknowledged.
//! * `lock`: held while a process uses the directory.
//!
//! The newest state is that of the highest group, or else the checkpoint's. A group at or below the
//! checkpoint is left over from a kill between the two last steps, and is deleted. At most a few
//! groups exist at a time, each of bounded size, because the sender takes them through a short
//! queue.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

#[cfg(test)]
use std::sync::atomic::Ordering;

use bytes::Bytes;
use logweir_core::timestamp::Timestamp;
use logweir_proto::v1;
use prost::Message;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{
    deliver::batch::{Producers, ServiceBatch},
    error::{Error, file_error},
    read::files::Progress,
};

/// Where a run stands after a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The group's number; 0 before the first.
    pub group: u64,
    /// The producers as of that group.
    pub producers: Producers,
    /// How far each file has been read.
    pub files: Vec<Progress>,
}

/// Batches that are noted together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The state once all of it is stored.
    pub state: State,
    /// The batches, in the order of sending.
    pub batches: Vec<ServiceBatch>,
}

/// First line of a group's file; the batches follow, one after the other.
#[derive(Serialize, Deserialize)]
struct Header {
    state: State,
    batch_bytes: Vec<usize>,
    /// A hash of the batches' bytes.
    hash: u64,
}

/// The notes of one sending.
pub struct Journal {
    directory: PathBuf,
    /// Held for its lock.
    _lock: File,
    #[cfg(test)]
    steps_left: std::sync::atomic::AtomicUsize,
}

/// What an earlier run left.
#[derive(Default)]
pub struct Left {
    /// Where it stood when it noted its last group.
    pub state: State,
    /// Its groups that are not known to be acknowledged, oldest first.
    pub groups: Vec<Group>,
}

impl Journal {
    /// Opens, or makes, the journal of a directory, for this process alone.
    pub fn open(directory: &Path) -> Result<(Self, Left), Error> {
        let failed = |source| file_error("use the journal", directory, source);
        fs::create_dir_all(directory).map_err(failed)?;
        let path = directory.join("lock");
        let lock = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        // The system's lock on an open file ends with its process, however that ends. A file that
        // is there or not would be left behind by a kill.
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::JournalInUse(directory.to_owned()),
            TryLockError::Error(source) => failed(source),
        })?;
        let journal = Self {
            directory: directory.to_owned(),
            _lock: lock,
            #[cfg(test)]
            steps_left: std::sync::atomic::AtomicUsize::new(usize::MAX),
        };
        let left = journal.read()?;
        Ok((journal, left))
    }

    /// Notes a group. Once this returns, the group survives a kill and a power cut.
    pub fn note(&self, group: &Group) -> Result<(), Error> {
        let batches: Vec<_> =
            group.batches.iter().map(|batch| batch.encoded.batch_bytes()).collect();
        let mut hash = Xxh3::new();
        batches.iter().for_each(|batch| hash.update(batch));
        let batch_bytes = batches.iter().map(Bytes::len).collect();
        let header = Header { state: group.state.clone(), batch_bytes, hash: hash.digest() };
        self.write(&self.group_path(group.state.group), &header, &batches)
    }

    /// Forgets a group, because all of it is acknowledged. Groups are completed in their order.
    pub fn complete(&self, state: &State) -> Result<(), Error> {
        let header = Header { state: state.clone(), batch_bytes: Vec::new(), hash: xxh3_64(b"") };
        // The checkpoint first: killed in between, the group is known to be done by its number. The
        // other way round nothing would say how far the files were read.
        self.write(&self.directory.join("checkpoint"), &header, &[])?;
        let path = self.group_path(state.group);
        self.step(&path)?;
        fs::remove_file(&path).map_err(|source| file_error("delete", &path, source))
    }

    fn read(&self) -> Result<Left, Error> {
        let checkpoint = self.directory.join("checkpoint");
        let mut state = match fs::read(&checkpoint) {
            Ok(bytes) => decode(&checkpoint, &bytes)?.state,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(source) => return Err(file_error("read", &checkpoint, source)),
        };
        let mut groups = Vec::new();
        for (number, path) in self.group_files()? {
            if number <= state.group {
                fs::remove_file(&path).map_err(|source| file_error("delete", &path, source))?;
                continue;
            }
            let bytes = fs::read(&path).map_err(|source| file_error("read", &path, source))?;
            groups.push(decode(&path, &bytes)?);
        }
        if let Some(newest) = groups.last() {
            state = newest.state.clone();
        }
        Ok(Left { state, groups })
    }

    fn group_files(&self) -> Result<Vec<(u64, PathBuf)>, Error> {
        let failed = |source| file_error("read", &self.directory, source);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if let Some(number) = number
                && path.extension().is_some_and(|extension| extension == "group")
            {
                files.push((number, path));
            }
        }
        files.sort();
        Ok(files)
    }

    fn group_path(&self, number: u64) -> PathBuf {
        // As many digits as the largest number has, so that names sort as numbers do.
        self.directory.join(format!("{number:020}.group"))
    }

    fn write(&self, path: &Path, header: &Header, body: &[Bytes]) -> Result<(), Error> {
        let header = serde_json::to_vec(header)
            .map_err(|error| file_error("write", path, io::Error::other(error)))?;
        self.step(path)?;
        let parts = [&header[..], b"\n"].into_iter().chain(body.iter().map(|part| &part[..]));
        let aside = write_aside(path, parts)?;
        self.step(path)?;
        publish(&aside, path)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "a test can end the process here")]
    fn step(&self, _path: &Path) -> Result<(), Error> {
        Ok(())
    }

    /// In a test, the process may end before any step.
    #[cfg(test)]
    fn step(&self, path: &Path) -> Result<(), Error> {
        let left = self.steps_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(file_error("survive at", path, io::ErrorKind::Interrupted.into()));
        }
        self.steps_left.store(left - 1, Ordering::Relaxed);
        Ok(())
    }
}

/// Puts a file in the place of another one, whole or not at all.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), Error> {
    publish(&write_aside(path, [content])?, path)
}

// To the side, synced, renamed, and the folder synced: a rename before the content is on the disk
// may leave an empty file after a power cut, and without the last step the new name itself may be
// gone.
fn write_aside<'a>(
    path: &Path,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<PathBuf, Error> {
    let aside = path.with_extension("new");
    let write = || {
        let mut file = File::create(&aside)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_data()
    };
    write().map_err(|source| file_error("write", &aside, source))?;
    Ok(aside)
}

fn publish(aside: &Path, path: &Path) -> Result<(), Error> {
    let publish = || {
        fs::rename(aside, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    publish().map_err(|source| file_error("write", path, source))
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Group, Error> {
    let damaged = |detail: &str| Error::Journal { path: path.into(), detail: detail.to_owned() };
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("no header"))?;
    let header: Header =
        serde_json::from_slice(&bytes[..end]).map_err(|error| damaged(&error.to_string()))?;
    let mut body = &bytes[end + 1..];
    // Sent under a known id with other content, a batch would count as a conflict at the server and
    // be dead-lettered; a damaged journal is better told to a person.
    if xxh3_64(body) != header.hash {
        return Err(damaged("the batches are not those that were written"));
    }
    let mut batches = Vec::new();
    for length in header.batch_bytes {
        let (batch, rest) =
            body.split_at_checked(length).ok_or_else(|| damaged("a batch is cut off"))?;
        let batch = v1::Batch::decode(batch).map_err(|error| damaged(&error.to_string()))?;
        // Only a client's own spool asks when a batch was made.
        batches.push(ServiceBatch::new(batch, Timestamp::EPOCH));
        body = rest;
    }
    Ok(Group { state: header.state, batches })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::deliver::batch::Ids;

    const GROUPS: u64 = 3;
    const BATCHES_PER_GROUP: u64 = 2;

    /// The server's side: what it stored under each id, and the position that the client reached.
    #[derive(Default)]
    struct Ledger(HashMap<[u8; 16], ServiceBatch>);

    impl Ledger {
        fn store(&mut self, batch: &ServiceBatch) {
            let before = self.0.insert(batch.encoded.batch_id(), batch.clone());
            let is_same =
                |before: ServiceBatch| before.encoded.batch_bytes() == batch.encoded.batch_bytes();
            assert!(before.is_none_or(is_same), "a repeat must be identical");
        }

        fn messages(&self) -> Vec<String> {
            let message =
                |batch: &ServiceBatch| batch.encoded.decode().unwrap().records[0].message.clone();
            let mut messages: Vec<_> = self.0.values().map(message).collect();
            messages.sort();
            messages
        }
    }

    fn next_group(state: &State) -> Group {
        let mut state = state.clone();
        let batches = (0..BATCHES_PER_GROUP)
            .map(|index| {
                let message = format!("{}-{index}", state.group);
                let record = v1::LogRecord { message, ..Default::default() };
                let records = [record].into_iter().collect();
                let service = "s".to_owned();
                state.producers.batch(service, &records, Ids::mint(), Timestamp::EPOCH)
            })
            .collect();
        state.group += 1;
        Group { state, batches }
    }

    /// One run that ends after so many steps; true if it came to its end.
    fn run(directory: &Path, ledger: &mut Ledger, steps: usize) -> bool {
        let (journal, left) = Journal::open(directory).unwrap();
        journal.steps_left.store(steps, Ordering::Relaxed);
        let mut state = left.state;
        for group in &left.groups {
            if send(&journal, ledger, group).is_err() {
                return false;
            }
        }
        while state.group < GROUPS {
            let group = next_group(&state);
            if journal.note(&group).is_err() || send(&journal, ledger, &group).is_err() {
                return false;
            }
            state = group.state;
        }
        true
    }

    fn send(journal: &Journal, ledger: &mut Ledger, group: &Group) -> Result<(), Error> {
        for batch in &group.batches {
            journal.step(&journal.directory)?;
            ledger.store(batch);
        }
        journal.complete(&group.state)
    }

    #[test]
    fn killed_before_any_step_and_started_again_it_sends_everything_once() {
        let expected: Vec<_> = (0..GROUPS)
            .flat_map(|group| (0..BATCHES_PER_GROUP).map(move |index| format!("{group}-{index}")))
            .collect();
        for steps in 0..usize::MAX {
            let directory = tempfile::tempdir().unwrap();
            let mut ledger = Ledger::default();
            let ended = run(directory.path(), &mut ledger, steps);
            assert!(ended || run(directory.path(), &mut ledger, usize::MAX));
            assert_eq!(ledger.messages(), expected, "killed after {steps} steps");
            let mut sequences: Vec<_> =
                ledger.0.values().map(|batch| batch.encoded.sequence()).collect();
            sequences.sort_unstable();
            assert_eq!(sequences, [1, 2, 3, 4, 5, 6]);
            if ended {
                return;
            }
        }
    }

    #[test]
    fn killed_at_every_step_again_and_again_it_still_gets_there() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::default();
        let runs = (0..100).take_while(|_| !run(directory.path(), &mut ledger, 7)).count();
        assert!((2..50).contains(&runs), "{runs}");
        assert_eq!(ledger.0.len() as u64, GROUPS * BATCHES_PER_GROUP);
    }

    #[test]
    fn a_damaged_group_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, left) = Journal::open(directory.path()).unwrap();
        let group = next_group(&left.state);
        journal.note(&group).unwrap();
        let path = journal.group_path(1);
        drop(journal);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(Journal::open(directory.path()), Err(Error::Journal { .. })));
    }

    #[test]
    fn one_process_at_a_time_uses_a_journal() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Journal::open(directory.path()).unwrap();
        assert!(matches!(Journal::open(directory.path()), Err(Error::JournalInUse(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            proptest::prop_assert!(decode(Path::new("x"), &bytes).is_err());
        }
    }
}
