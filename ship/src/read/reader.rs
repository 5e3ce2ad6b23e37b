//! Reads inputs, once or for as long as they grow, into a [`Feed`]. Runs on a thread of its own.
//!
//! Following polls: four times a second it looks for new files, renamed ones (known by their inode)
//! and truncated ones. A file that lost its name is read until nothing was added for a minute. What
//! cannot be read is said, counted and passed over; it never stops the other files.

use std::{
    collections::HashSet,
    fs,
    io::{self, BufRead},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::Duration,
};

use crate::{
    error::Error,
    event::Event,
    feed::Feed,
    read::{
        files::{self, FILES_MAX, Progress},
        lines::{Joiner, LineReader},
        tail::{Failure, Next, Tail, Text},
    },
};

// Polled and not watched: inotify says nothing of what another machine does on a network disk, and
// a look at each file is one `stat`.
const POLL: Duration = Duration::from_millis(250);
/// Most files that are followed at once: each is open.
const FOLLOWED_MAX: usize = 1_000;

/// What reading came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// Files read to their end.
    pub files: u64,
    /// Files that an earlier run has sent.
    pub already_sent: u64,
    /// Files that could not be read, or not to their end.
    pub failed: u64,
}

/// Reads files into a feed.
pub struct Reader<'a> {
    /// Where logs go.
    pub feed: &'a mut Feed,
    /// Counts what is read on disk.
    pub read_bytes: Arc<AtomicU64>,
    /// Tells the user something at once.
    pub notify: &'a (dyn Fn(Event) + Sync),
    /// What it came to.
    pub summary: ReadSummary,
}

impl Reader<'_> {
    /// Reads a stream that is no file, to its end.
    pub fn read_stream(&mut self, mut stream: impl BufRead, stem: &str) -> Result<(), Error> {
        let mut text = Text { lines: LineReader::new(0), joiner: Joiner::default() };
        let name = Path::new("standard input");
        let read = text.pump(&mut stream, None, stem, self.feed);
        match read.and_then(|_| Ok(text.finish(None, stem, self.feed)?)) {
            Ok(()) => self.summary.files += 1,
            Err(Failure::File(error)) => self.failed(name, error),
            Err(Failure::Feed(error)) => return Err(error),
        }
        self.feed.flush()
    }

    /// Reads every file once.
    pub fn read_files(&mut self, paths: &[PathBuf]) -> Result<(), Error> {
        for path in discover(paths)? {
            match self.read_file(&path) {
                Ok(true) => self.summary.files += 1,
                Ok(false) => self.summary.already_sent += 1,
                Err(Failure::File(error)) => self.failed(&path, error),
                Err(Failure::Feed(error)) => return Err(error),
            }
        }
        self.feed.flush()
    }

    /// Reads every file and whatever is added, until the user stops it.
    pub fn follow_files(&mut self, paths: &[PathBuf]) -> Result<(), Error> {
        let mut following = Following { tails: Vec::new(), given_up: HashSet::new(), round: 0 };
        following.open_all(self, &discover(paths)?)?;
        following.open_renamed(self)?;
        while !self.feed.is_stopped() {
            following.poll(self)?;
            self.feed.flush()?;
            thread::sleep(POLL);
            // A name may be gone for a moment while its file is rotated.
            let files = discover(paths).unwrap_or_default();
            following.open_all(self, &files)?;
            following.round += 1;
        }
        // A line without an end is left for the next run: its writer may be in the middle of it.
        for tail in &mut following.tails {
            tail.text.finish_complete_lines(tail.file, &tail.stem, self.feed)?;
        }
        self.feed.flush()
    }

    fn read_file(&mut self, path: &Path) -> Result<bool, Failure> {
        let size = fs::metadata(path).map_err(Failure::File)?.len();
        let known = self.find(path).map_err(Failure::File)?;
        let file = known.filter(|known| self.feed.state.files[*known].is_complete(size));
        if file.is_some() {
            return Ok(false);
        }
        let mut tail = self.open(path, known).map_err(Failure::File)?;
        tail.pump(self.feed)?;
        tail.text.finish(tail.file, &tail.stem, self.feed)?;
        self.feed.complete_file(tail.number, tail.size_read());
        Ok(true)
    }

    fn open(&mut self, path: &Path, known: Option<usize>) -> io::Result<Tail> {
        let offset = known.map_or(0, |known| self.feed.state.files[known].offset);
        let mut input = files::open(path, offset, self.read_bytes.clone())?;
        let mut start = (known, offset);
        if !input.is_compressed && input.size < offset {
            (self.notify)(Event::Truncated(path.to_owned()));
            input = files::open(path, 0, self.read_bytes.clone())?;
            start = (None, 0);
        }
        let files = &mut self.feed.state.files;
        // Following rotated files for years: the place of a finished one is used again.
        let finished = || files.iter().position(|file| file.complete_at_bytes.is_some());
        let free = if files.len() < FILES_MAX { None } else { finished() };
        let number = start.0.or(free).unwrap_or(files.len());
        let progress = Progress {
            path: path.to_owned(),
            identity: input.identity.clone(),
            offset: start.1,
            complete_at_bytes: None,
        };
        if number == files.len() {
            files.push(progress);
        } else {
            files[number] = progress;
        }
        Ok(Tail::new(path, input, number, start.1))
    }

    fn find(&self, path: &Path) -> io::Result<Option<usize>> {
        let metadata = fs::metadata(path)?;
        for (number, progress) in self.feed.state.files.iter().enumerate() {
            let identity = &progress.identity;
            // Only likely ones are opened and hashed: there may be ten thousand.
            let may_be = progress.path == path
                || (identity.device, identity.inode) == (metadata.dev(), metadata.ino());
            if may_be && files::is_same(path, progress)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn failed(&mut self, path: &Path, error: io::Error) {
        self.summary.failed += 1;
        (self.notify)(Event::Unreadable(path.to_owned(), error));
    }
}

fn discover(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    files::discover(paths).map_err(|error| Error::Inputs(error.to_string()))
}

struct Following {
    tails: Vec<Tail>,
    given_up: HashSet<PathBuf>,
    round: u64,
}

impl Following {
    /// Opens the files that are new, and notes the new names of those that are not.
    fn open_all(&mut self, reader: &mut Reader<'_>, files: &[PathBuf]) -> Result<(), Error> {
        for path in files {
            let Ok(metadata) = fs::metadata(path) else { continue };
            if let Some(tail) = self.tails.iter_mut().find(|tail| tail.is_at(&metadata)) {
                tail.path.clone_from(path);
            } else if !self.given_up.contains(path) {
                self.open(reader, path)?;
            }
        }
        Ok(())
    }

    /// An earlier run's file that was renamed since, out of what the arguments name.
    fn open_renamed(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let known: Vec<_> = reader.feed.state.files.clone();
        for progress in known {
            let inode = (progress.identity.device, progress.identity.inode);
            let is_open = self
                .tails
                .iter()
                .any(|tail| (tail.input.identity.device, tail.input.identity.inode) == inode);
            let directory = progress.path.parent().unwrap_or(Path::new("."));
            let siblings = fs::read_dir(directory).into_iter().flatten().flatten();
            let renamed = siblings.map(|entry| entry.path()).find(|path| {
                fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == inode)
            });
            if let Some(path) = renamed.filter(|_| !is_open) {
                self.open(reader, &path)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, reader: &mut Reader<'_>, path: &Path) -> Result<(), Error> {
        let is_rotated_copy = self.round > 0 && path.extension().is_some_and(|ext| ext == "gz");
        if is_rotated_copy {
            // Its lines were read while it was not yet compressed.
            (reader.notify)(Event::PassedOver(path.to_owned()));
            self.given_up.insert(path.to_owned());
            return Ok(());
        }
        if self.tails.len() >= FOLLOWED_MAX || self.given_up.len() >= FILES_MAX {
            return Err(Error::Inputs(format!(
                "more than {FOLLOWED_MAX} files to follow; name fewer"
            )));
        }
        let opened = reader.find(path).and_then(|known| reader.open(path, known));
        match opened {
            Ok(tail) => self.tails.push(tail),
            Err(error) => {
                reader.failed(path, error);
                self.given_up.insert(path.to_owned());
            }
        }
        Ok(())
    }

    fn poll(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let mut number = 0;
        while number < self.tails.len() {
            let tail = &mut self.tails[number];
            match tail.poll(reader.feed) {
                Ok(Next::Continue) => number += 1,
                Ok(Next::Ended) => {
                    reader.summary.files += 1;
                    let tail = self.tails.swap_remove(number);
                    if tail.input.is_compressed {
                        self.given_up.insert(tail.path);
                    }
                }
                Ok(Next::Truncated) => {
                    let tail = self.tails.swap_remove(number);
                    self.open(reader, &tail.path)?;
                }
                // Asked to stop in the middle of a file: what was read is flushed, the rest waits.
                Err(Failure::Feed(Error::Interrupted)) if reader.feed.is_stopped() => return Ok(()),
                Err(Failure::Feed(error)) => return Err(error),
                Err(Failure::File(error)) => {
                    let tail = self.tails.swap_remove(number);
                    reader.failed(&tail.path, error);
                    self.given_up.insert(tail.path);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs::OpenOptions,
        io::Write,
        sync::atomic::{AtomicBool, AtomicI64, Ordering},
    };

    use logweir_core::{limits::Limits, timestamp::Timestamp};
    use logweir_parse::Tz;
    use logweir_proto::v1;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        deliver::batch::{BatchLimits, service_of},
        feed::FeedParts,
        journal::{Group, Journal},
        record::Rules,
    };

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_400_000);

    /// A feed whose groups nobody sends; each ends up in the journal, if there is one.
    struct Rig {
        feed: Feed,
        groups: mpsc::Receiver<Group>,
        stop: Arc<AtomicBool>,
        said: std::sync::Mutex<Vec<String>>,
    }

    impl Rig {
        fn new(journal: Option<&Path>, group_records: usize) -> Self {
            let (groups, receiver) = mpsc::channel(1_000);
            let stop = Arc::new(AtomicBool::new(false));
            let (journal, state) = match journal {
                Some(directory) => {
                    let (journal, left) = Journal::open(directory).unwrap();
                    (Some(Arc::new(journal)), left.state)
                }
                None => Default::default(),
            };
            let ticks = AtomicI64::new(NOW.as_unix_nanos());
            let feed = Feed::new(FeedParts {
                state,
                rules: Rules {
                    service: None,
                    service_from: None,
                    limits: Limits::default(),
                    zone: Tz::UTC,
                },
                limits: BatchLimits {
                    gathered_records_max: group_records,
                    ..BatchLimits::with_batch_records(3)
                },
                clock: Arc::new(move || {
                    Timestamp::from_unix_nanos(ticks.fetch_add(1, Ordering::Relaxed))
                }),
                journal,
                counts: Arc::default(),
                groups,
                stop: stop.clone(),
            });
            Self { feed, groups: receiver, stop, said: Default::default() }
        }

        fn with<T>(&mut self, act: impl FnOnce(&mut Reader<'_>) -> T) -> (T, ReadSummary) {
            let Self { feed, said, .. } = self;
            let said = &*said;
            let notify = |event: Event| said.lock().unwrap().push(format!("{event:?}"));
            let summary = ReadSummary::default();
            let mut reader = Reader { feed, read_bytes: Arc::default(), notify: &notify, summary };
            let result = act(&mut reader);
            (result, reader.summary)
        }

        fn records(&mut self) -> Vec<(String, v1::LogRecord)> {
            let mut records = Vec::new();
            while let Ok(group) = self.groups.try_recv() {
                for batch in group.batches {
                    let service = service_of(&batch).to_owned();
                    records.extend(batch.records.into_iter().map(|r| (service.clone(), r)));
                }
            }
            records
        }

        fn messages(&mut self) -> Vec<String> {
            self.records().into_iter().map(|(_, record)| record.message).collect()
        }
    }

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_of_json_lines_is_read_whole() {
        let mut rig = Rig::new(None, 100);
        let (result, summary) = rig.with(|reader| reader.read_files(&[fixture("orders.ndjson")]));
        result.unwrap();
        assert_eq!(summary, ReadSummary { files: 1, already_sent: 0, failed: 0 });
        let mut services = BTreeMap::new();
        for (service, _) in rig.records() {
            *services.entry(service).or_insert(0) += 1;
        }
        let expected = [("billing", 2), ("orders", 4), ("orders.Core_Worker", 1)];
        assert_eq!(services, expected.map(|(name, count)| (name.to_owned(), count)).into());
        let tally = &rig.feed.tally;
        assert_eq!((tally.records, tally.renamed, tally.untimed), (7, 1, 1));
        assert!(tally.renamed_examples.contains("orders.Core$Worker"));
    }

    #[test]
    fn a_file_of_many_formats_is_read_whole() {
        let mut rig = Rig::new(None, 100);
        rig.with(|reader| reader.read_files(&[fixture("shop.log")])).0.unwrap();
        let records = rig.records();
        let level = |message: &str| {
            let found = records.iter().find(|(_, record)| record.message.starts_with(message));
            found.map(|(service, record)| (service.as_str(), record.level()))
        };
        assert_eq!(records.len(), 9);
        assert_eq!(level("Server ready"), Some(("shop", v1::Level::Info)));
        assert_eq!(level("Request 42 failed"), Some(("shop", v1::Level::Error)));
        assert_eq!(level("cache is 91"), Some(("shop", v1::Level::Warn)));
        assert_eq!(level("logfmt works"), Some(("shop", v1::Level::Info)));
        assert_eq!(level("Accepted key"), Some(("sshd", v1::Level::Unspecified)));
        assert_eq!(level("epoch"), Some(("shop", v1::Level::Debug)));
        assert_eq!((rig.feed.tally.invalid_utf8, rig.feed.tally.untimed), (1, 2));
    }

    #[test]
    fn killed_after_any_group_it_goes_on_without_loss_or_doubles() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.log");
        let lines: Vec<_> = (0..40).map(|n| format!("INFO line {n}")).collect();
        fs::write(&path, lines.join("\n  and more\n")).unwrap();
        for noted in 0..8 {
            let journal = directory.path().join(format!("journal-{noted}"));
            let mut found = Vec::new();
            {
                let mut rig = Rig::new(Some(&journal), 5);
                rig.with(|reader| {
                    let known = reader.find(&path).unwrap();
                    let mut tail = reader.open(&path, known).unwrap();
                    while reader.feed.state.group < noted {
                        let line = tail.text.lines.next_line(&mut tail.input.reader).unwrap();
                        if let Some(log) = tail.text.joiner.push(line.unwrap()) {
                            reader.feed.add(&log, tail.file, &tail.stem).unwrap();
                        }
                    }
                });
                found.extend(rig.messages());
            }
            let mut rig = Rig::new(Some(&journal), 5);
            let paths = std::slice::from_ref(&path);
            rig.with(|reader| reader.read_files(paths)).0.unwrap();
            found.extend(rig.messages());
            assert_eq!(found.len(), 40, "killed after {noted} groups");
            let numbers = found.iter().enumerate().map(|(n, _)| format!("line {n}"));
            assert!(numbers.zip(&found).all(|(start, message)| message.starts_with(&start)));
            let sequences = rig.feed.state.producers.0["app"].sequence;
            assert_eq!(rig.feed.state.producers.0["app"].emitted, 40);
            assert!(sequences >= 14);
        }
    }

    #[test]
    fn what_was_sent_is_not_sent_again_but_what_was_added_is() {
        let directory = tempfile::tempdir().unwrap();
        let (path, journal) = (directory.path().join("a.log"), directory.path().join("journal"));
        let paths = std::slice::from_ref(&path);
        append(&path, "one\ntwo\n");
        let runs =
            [("", 1, 0, vec!["one", "two"]), ("", 0, 1, vec![]), ("three", 1, 0, vec!["three"])];
        for (added, files, already_sent, messages) in runs {
            append(&path, added);
            let mut rig = Rig::new(Some(&journal), 100);
            let (result, summary) = rig.with(|reader| reader.read_files(paths));
            result.unwrap();
            assert_eq!((summary.files, summary.already_sent), (files, already_sent));
            assert_eq!(rig.messages(), messages);
        }
    }

    #[test]
    fn a_broken_file_is_said_and_the_others_are_read() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.gz"), [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
        fs::write(directory.path().join("b.log"), "fine\n").unwrap();
        let mut rig = Rig::new(None, 100);
        let paths = [directory.path().to_owned()];
        let (result, summary) = rig.with(|reader| reader.read_files(&paths));
        result.unwrap();
        assert_eq!((summary.files, summary.failed), (1, 1));
        assert_eq!(rig.messages(), ["fine"]);
        assert!(rig.said.lock().unwrap()[0].contains("a.gz"));
    }

    #[test]
    fn rotation_by_rename_and_by_truncation_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.log");
        let paths = [directory.path().to_owned()];
        append(&path, "one\nhalf");
        let mut rig = Rig::new(None, 100);
        rig.with(|reader| {
            let mut following = Following { tails: vec![], given_up: HashSet::new(), round: 0 };
            let mut poll = |reader: &mut Reader<'_>| {
                following.open_all(reader, &discover(&paths).unwrap()).unwrap();
                // A log is complete once a poll finds nothing after it.
                following.poll(reader).unwrap();
                following.poll(reader).unwrap();
                following.round += 1;
            };
            poll(reader);
            append(&path, " a line\n");
            poll(reader);
            fs::rename(&path, directory.path().join("app.log.1")).unwrap();
            append(&directory.path().join("app.log.1"), "late\n");
            append(&path, "new file\n");
            poll(reader);
            fs::write(&path, "cut\n").unwrap();
            poll(reader);
            fs::write(directory.path().join("app.log.2.gz"), [0x1f, 0x8b]).unwrap();
            poll(reader);
            poll(reader);
            reader.feed.flush().unwrap();
        });
        let mut records = rig.records();
        records.sort_by_key(|(_, record)| record.time_unix_nano);
        let found: Vec<_> = records.iter().map(|(_, record)| record.message.as_str()).collect();
        assert_eq!(found, ["one", "half a line", "late", "new file", "cut"]);
        assert!(records.iter().all(|(service, _)| service == "app"));
        assert_eq!(rig.said.lock().unwrap().len(), 1);
    }

    #[test]
    fn asked_to_stop_it_leaves_the_rest_for_the_next_run() {
        let directory = tempfile::tempdir().unwrap();
        let (path, journal) = (directory.path().join("a.log"), directory.path().join("journal"));
        append(&path, "one\ntwo\n");
        let mut rig = Rig::new(Some(&journal), 100);
        rig.stop.store(true, Ordering::Relaxed);
        let paths = std::slice::from_ref(&path);
        let (result, _) = rig.with(|reader| reader.read_files(paths));
        assert!(matches!(result, Err(Error::Interrupted)));
        assert!(rig.records().is_empty());
        drop(rig);
        let mut rig = Rig::new(Some(&journal), 100);
        rig.with(|reader| reader.read_files(paths)).0.unwrap();
        assert_eq!(rig.messages(), ["one", "two"]);
    }
}
