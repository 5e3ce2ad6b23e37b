//! Reads inputs, once or for as long as they grow, into a [`Feed`]. Runs on a thread of its own.
//! What cannot be read is said, counted and passed over; it never stops the others.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use crate::{
    error::Error,
    event::Event,
    feed::Feed,
    read::{
        files::{CHUNK_BYTES, FileIdentity, Inode, Input, Progress},
        fingerprint::{Fingerprint, HEAD_BYTES},
        identity::{Around, Judgement, judge},
        list::{FILES_MAX, Found, Listing},
        stream::Stream,
        tail::{Pumped, Tail},
        text::Failure,
    },
};

/// Between two looks at what may have come.
pub(super) const POLL: Duration = Duration::from_millis(250);
/// Logs wait no longer for others to be sent with: who looks at a screen sees them within a second.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// From so many files on, the place of one that is gone and was read to its end is used again.
/// Where each stands is noted with every group, and rotation goes on for years.
const FILES_KEPT_MAX: usize = 1_000;

/// What reading came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// Files and streams read to their end.
    pub files: u64,
    /// Files that an earlier run has sent.
    pub already_sent: u64,
    /// Files that hold what was read of another one, and perhaps more, which was sent.
    pub copies: u64,
    /// Files that were truncated or overwritten while they were read.
    pub replaced: u64,
    /// Files that could not be read, or not to their end.
    pub failed: u64,
    /// Files beyond the number that can be kept track of.
    pub left_out: u64,
}

/// Reads files into a feed.
pub struct Reader<'a> {
    /// Where logs go.
    pub feed: &'a mut Feed,
    /// What earlier runs have read, as far as this one has not taken it up.
    pub known: Vec<Progress>,
    /// Counts what is read on disk.
    pub read_bytes: Arc<AtomicU64>,
    /// Tells the user something at once.
    pub notify: &'a (dyn Fn(Event) + Sync),
    /// What it came to.
    pub summary: ReadSummary,
    pub(super) buffer: Vec<u8>,
    files_kept_max: usize,
    /// Of which files it was said that they hold what another one holds.
    said_same: HashMap<PathBuf, Inode>,
}

/// What became of a file that was looked at.
pub(super) enum Opened {
    /// It is to be read.
    Tail(Box<Tail>),
    /// It was read to its end.
    Complete,
    /// It is a copy of a file that is still there.
    Copy,
    /// There is no place to note how far it is read.
    LeftOut,
}

/// The files of one moment, and which of them are being read.
#[derive(Default)]
pub(super) struct Surroundings {
    paths: HashMap<(u64, u64), PathBuf>,
    pub(super) open: Vec<usize>,
}

impl Surroundings {
    pub(super) fn new(files: &[Found], open: Vec<usize>) -> Self {
        let path = |file: &Found| {
            let inode = Inode::of(&file.metadata);
            ((inode.device, inode.inode), file.path.clone())
        };
        Self { paths: files.iter().map(path).collect(), open }
    }
}

impl Around for Surroundings {
    fn path_of(&self, inode: &Inode) -> Option<PathBuf> {
        self.paths.get(&(inode.device, inode.inode)).cloned()
    }

    fn is_open(&self, number: usize) -> bool {
        self.open.contains(&number)
    }
}

impl<'a> Reader<'a> {
    /// A reader that goes on where earlier runs ended.
    pub fn new(
        feed: &'a mut Feed,
        known: Vec<Progress>,
        read_bytes: Arc<AtomicU64>,
        notify: &'a (dyn Fn(Event) + Sync),
    ) -> Self {
        Self {
            feed,
            known,
            read_bytes,
            notify,
            summary: ReadSummary::default(),
            buffer: vec![0; CHUNK_BYTES + HEAD_BYTES],
            files_kept_max: FILES_KEPT_MAX,
            said_same: HashMap::new(),
        }
    }

    /// Reads every file once, and every stream to its end.
    pub fn read_all(&mut self, paths: &[PathBuf]) -> Result<(), Error> {
        let listing = self.list(paths);
        let around = Surroundings::new(&listing.files, Vec::new());
        for (path, error) in listing.unreadable {
            self.failed(&path, error);
        }
        if listing.left_out > 0 {
            self.leave_out(listing.left_out as u64);
        }
        for file in &listing.files {
            match self.read_file(&file.path, &around) {
                Ok(()) => {}
                Err(Failure::File(error)) => self.failed(&file.path, error),
                Err(Failure::Feed(error)) => return Err(error),
            }
        }
        for path in &listing.streams {
            match self.read_stream(path) {
                Ok(()) => self.summary.files += 1,
                Err(Failure::File(error)) => self.failed(path, error),
                Err(Failure::Feed(error)) => return Err(error),
            }
        }
        self.feed.flush()
    }

    fn read_stream(&mut self, path: &Path) -> Result<(), Failure> {
        let mut stream = Stream::open(path)?;
        let mut flushed = Instant::now();
        let read = loop {
            match stream.take(POLL, self.feed) {
                Ok(is_ended) if is_ended || self.feed.is_stopped() => break Ok(()),
                Ok(_) => {}
                Err(Failure::File(error)) => break Err(error),
                Err(error) => return Err(error),
            }
            if flushed.elapsed() >= FLUSH_INTERVAL {
                self.feed.flush()?;
                flushed = Instant::now();
            }
        };
        stream.finish(self.feed)?;
        Ok(read?)
    }

    fn read_file(&mut self, path: &Path, around: &Surroundings) -> Result<(), Failure> {
        loop {
            let mut tail = match self.open(path, around)? {
                Opened::Tail(tail) => tail,
                Opened::Complete => {
                    self.summary.already_sent += 1;
                    return Ok(());
                }
                Opened::Copy => return Ok(()),
                Opened::LeftOut => {
                    self.leave_out(1);
                    return Ok(());
                }
            };
            loop {
                match tail.pump(self.feed, &mut self.buffer)? {
                    Pumped::All | Pumped::Some => {}
                    Pumped::Nothing => {
                        tail.finish(self.feed)?;
                        self.summary.files += 1;
                        return Ok(());
                    }
                    Pumped::Replaced => break,
                }
            }
            tail.finish_complete_lines(self.feed)?;
            self.replaced(&tail);
        }
    }

    /// What the arguments name now.
    pub(super) fn list(&self, paths: &[PathBuf]) -> Listing {
        Listing::new(paths, &self.noted())
    }

    /// All that is noted: first what this run has read, under the same numbers.
    fn noted(&self) -> Vec<&Progress> {
        self.feed.state.files.iter().chain(&self.known).collect()
    }

    /// Opens a file, finds out which one it is, and goes on where it was read to.
    pub(super) fn open(&mut self, path: &Path, around: &Surroundings) -> io::Result<Opened> {
        let mut input = Input::open(path, self.read_bytes.clone())?;
        let judgement = judge(path, &mut input, &self.noted(), around)?;
        if let Judgement::CopyOf(original) = judgement {
            self.same_content(path, &input, original);
            return Ok(Opened::Copy);
        }
        let noted = match judgement {
            Judgement::Noted(number) => Some(number),
            Judgement::New | Judgement::CopyOf(_) => None,
        };
        let sent_end = noted.and_then(|number| {
            let file = self.noted()[number];
            file.complete_at_bytes.map(|_| file.identity.fingerprint.last_end)
        });
        let Some(number) = self.take_up(path, &input, noted, around) else {
            return Ok(Opened::LeftOut);
        };
        let progress = &self.feed.state.files[number];
        if progress.is_complete(input.size) {
            return Ok(Opened::Complete);
        }
        let tail = Tail::new(path, input, number, progress.offset, sent_end)?;
        Ok(Opened::Tail(Box::new(tail)))
    }

    /// Finds the place in which it is noted how far a file is read.
    fn take_up(
        &mut self,
        path: &Path,
        input: &Input,
        noted: Option<usize>,
        around: &Surroundings,
    ) -> Option<usize> {
        let own = self.feed.state.files.len();
        let mut progress = match noted {
            Some(noted) if noted < own => self.feed.state.files[noted].clone(),
            Some(noted) => self.known.swap_remove(noted - own),
            None => Progress {
                path: path.to_owned(),
                identity: FileIdentity { inode: None, fingerprint: Fingerprint::default() },
                offset: 0,
                complete_at_bytes: None,
                read_unix_nanos: 0,
            },
        };
        if noted.is_some() && !progress.lies_at(&input.inode) {
            self.same_content(path, input, progress.path.clone());
            // Not of the size, which decompression or a late line changed.
            progress.complete_at_bytes = None;
        }
        self.forget_place(&input.inode);
        let number = match noted.filter(|number| *number < own) {
            Some(number) => number,
            None => self.free_place(around)?,
        };
        progress.identity.inode = Some(input.inode);
        path.clone_into(&mut progress.path);
        match self.feed.state.files.get_mut(number) {
            Some(place) => *place = progress,
            None => self.feed.state.files.push(progress),
        }
        Some(number)
    }

    fn free_place(&mut self, around: &Surroundings) -> Option<usize> {
        let files = &self.feed.state.files;
        if files.len() >= self.files_kept_max {
            let is_free = |(number, file): &(usize, &Progress)| {
                let at = file.identity.inode;
                let is_gone = at.is_none_or(|at| around.path_of(&at).is_none());
                let is_read = at.is_none() || file.complete_at_bytes.is_some();
                is_read && is_gone && !around.is_open(*number)
            };
            let free = files.iter().enumerate().filter(is_free);
            if let Some((number, _)) = free.min_by_key(|(_, file)| file.read_unix_nanos) {
                return Some(number);
            }
            // Not looked for again with every file of a folder that only grows.
            self.files_kept_max += FILES_KEPT_MAX;
        }
        (files.len() < FILES_MAX).then_some(files.len())
    }

    /// Whatever was noted to lie there, lies there no longer.
    fn forget_place(&mut self, inode: &Inode) {
        let is_there = |file: &mut Progress| {
            let at = file.identity.inode;
            at.is_some_and(|at| (at.device, at.inode) == (inode.device, inode.inode))
        };
        // This run notes it, together with what lies there now: the next one would take that for
        // the newer note on the same file, and not know a copy of it.
        self.feed.state.files.extend(self.known.extract_if(.., is_there));
        for file in self.feed.state.files.iter_mut() {
            if is_there(file) {
                file.identity.inode = None;
            }
        }
    }

    /// A file that was being read holds other lines now.
    pub(super) fn replaced(&mut self, tail: &Tail) {
        self.summary.replaced += 1;
        self.forget_place(&tail.input.inode);
        (self.notify)(Event::Truncated(tail.path.clone()));
    }

    fn same_content(&mut self, path: &Path, input: &Input, original: PathBuf) {
        // A copy is looked at again and again as long as its original is there.
        if self.said_same.insert(path.to_owned(), input.inode) == Some(input.inode) {
            return;
        }
        self.summary.copies += 1;
        (self.notify)(Event::SameContent { path: path.to_owned(), original });
    }

    pub(super) fn leave_out(&mut self, files: u64) {
        self.summary.left_out += files;
        (self.notify)(Event::LeftOut { files });
    }

    pub(super) fn failed(&mut self, path: &Path, error: io::Error) {
        self.summary.failed += 1;
        (self.notify)(Event::Unreadable(path.to_owned(), error));
    }
}
