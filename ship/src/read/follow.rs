//! Reads files and streams for as long as they grow.
//!
//! Following polls: four times a second it looks for new files, renamed ones and overwritten ones.
//! A file that lost its name is read until nothing was added for a minute. Of more files than can be
//! open at once, those that were quiet longest are closed, and opened again when they change.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use crate::{
    error::Error,
    event::Event,
    read::{
        list::{Found, Listing, written_unix_nanos},
        reader::{Opened, POLL, Reader, Surroundings},
        stream::Stream,
        tail::{Next, Tail},
        text::Failure,
    },
};

/// Most files that are open at once: half of what the system lets a process open by default.
const OPEN_MAX: usize = 512;
/// The system's error of a process that has too many files open (`EMFILE`), and of a system (`ENFILE`).
const TOO_MANY_OPEN: [i32; 2] = [24, 23];

/// A file's device and inode.
type Place = (u64, u64);

/// What a look at a file showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    bytes: u64,
    written_unix_nanos: i64,
}

impl Look {
    fn at(metadata: &Metadata) -> Self {
        Self { bytes: metadata.len(), written_unix_nanos: written_unix_nanos(metadata) }
    }
}

/// A file that need not be opened as long as it looks the same.
struct Passed {
    look: Look,
    /// The turn of events until which that holds, for a copy of another file.
    turn: Option<u64>,
}

/// An open file, and how it looked before it was last read.
struct Open {
    tail: Tail,
    seen: Option<Look>,
}

/// All that is followed.
pub(super) struct Following {
    /// Most files that are open at once.
    open_max: usize,
    open: Vec<Open>,
    streams: Vec<Stream>,
    passed: HashMap<Place, Passed>,
    looks: HashMap<Place, Look>,
    /// Counts what may make of a copy the only one: files that vanish or are overwritten.
    turn: u64,
    said: HashSet<PathBuf>,
    /// Most files that were left out at once.
    left_out: u64,
}

impl Reader<'_> {
    /// Reads every file and whatever is added, until the user stops it.
    pub fn follow(&mut self, paths: &[PathBuf]) -> Result<(), Error> {
        let mut following = Following::new(OPEN_MAX);
        let mut listed: Option<Instant> = None;
        while !self.feed.is_stopped() {
            // Far behind, it reads on at once, but does not look for new files more often by that.
            if listed.is_none_or(|at| at.elapsed() >= POLL) {
                following.look_around(self, paths)?;
                listed = Some(Instant::now());
            }
            let has_more = following.poll(self)?;
            self.feed.flush()?;
            if !has_more {
                thread::sleep(POLL);
            }
        }
        following.finish(self)?;
        self.feed.flush()
    }
}

impl Following {
    /// Nothing yet.
    pub(super) fn new(open_max: usize) -> Self {
        Self {
            open_max,
            open: Vec::new(),
            streams: Vec::new(),
            passed: HashMap::new(),
            looks: HashMap::new(),
            turn: 0,
            said: HashSet::new(),
            left_out: 0,
        }
    }

    /// Opens what is new, and notes the new names of what is not.
    pub(super) fn look_around(
        &mut self,
        reader: &mut Reader<'_>,
        paths: &[PathBuf],
    ) -> Result<(), Error> {
        let listing = reader.list(paths);
        self.tell(reader, &listing);
        let looks: HashMap<_, _> = listing
            .files
            .iter()
            .map(|file| (place_of(&file.metadata), Look::at(&file.metadata)))
            .collect();
        let before = std::mem::replace(&mut self.looks, looks);
        if before.keys().any(|place| !self.looks.contains_key(place)) {
            self.turn += 1;
        }
        self.passed.retain(|place, _| self.looks.contains_key(place));
        self.note_names(reader, &listing.files);
        for file in &listing.files {
            if self.is_worth_opening(file, before.get(&place_of(&file.metadata))) {
                self.open(reader, file, &listing)?;
            }
        }
        for path in listing.streams {
            self.open_stream(reader, &path);
        }
        Ok(())
    }

    fn tell(&mut self, reader: &mut Reader<'_>, listing: &Listing) {
        // Each once: the folder is looked at four times a second.
        for path in &listing.missing {
            if self.said.insert(path.clone()) {
                (reader.notify)(Event::Waiting(path.clone()));
            }
        }
        for (path, error) in &listing.unreadable {
            if self.said.insert(path.clone()) {
                reader.failed(path, io::Error::new(error.kind(), error.to_string()));
            }
        }
        let left_out = listing.left_out as u64;
        if left_out > self.left_out {
            reader.leave_out(left_out - self.left_out);
            self.left_out = left_out;
        }
    }

    fn note_names(&mut self, reader: &mut Reader<'_>, files: &[Found]) {
        let paths: HashMap<_, _> =
            files.iter().map(|file| (place_of(&file.metadata), &file.path)).collect();
        for Open { tail, .. } in &mut self.open {
            let inode = &tail.input.inode;
            if let Some(path) = paths.get(&(inode.device, inode.inode)) {
                tail.path.clone_from(path);
                reader.feed.state.files[tail.number].path.clone_from(path);
            }
        }
    }

    fn is_worth_opening(&self, file: &Found, before: Option<&Look>) -> bool {
        let (place, look) = (place_of(&file.metadata), Look::at(&file.metadata));
        let is_open = |open: &Open| (open.tail.input.inode.device, open.tail.input.inode.inode);
        let is_passed = self.passed.get(&place).is_some_and(|passed| {
            passed.look == look && passed.turn.is_none_or(|turn| turn == self.turn)
        });
        // A compressed file that is still written is read once it rests, so that it is not decoded
        // again with every look. An empty one may become anything, a copy too.
        let is_written = before != Some(&look)
            && file.path.extension().is_some_and(|extension| extension == "gz");
        look.bytes > 0
            && !is_passed
            && !is_written
            && !self.open.iter().any(|open| is_open(open) == place)
    }

    fn open(
        &mut self,
        reader: &mut Reader<'_>,
        file: &Found,
        listing: &Listing,
    ) -> Result<(), Error> {
        if self.open.len() >= self.open_max {
            self.close_quietest(reader)?;
        }
        let open = self.open.iter().map(|open| open.tail.number).collect();
        let around = Surroundings::new(&listing.files, open);
        match reader.open(&file.path, &around) {
            Ok(Opened::Tail(tail)) => {
                // It goes on in a file of the same name, which took the place of the one before.
                self.open.retain(|open| open.tail.number != tail.number);
                self.open.push(Open { tail: *tail, seen: None });
                // At once: by what it reads, a copy that is listed after it is known to be one.
                self.poll_file(reader, self.open.len() - 1)?;
            }
            Ok(Opened::Complete) => self.pass(file, None),
            Ok(Opened::Copy) => self.pass(file, Some(self.turn)),
            Ok(Opened::LeftOut) => {
                self.pass(file, Some(self.turn));
                if self.said.insert(file.path.clone()) {
                    reader.leave_out(1);
                }
            }
            Err(error) if error.raw_os_error().is_some_and(|n| TOO_MANY_OPEN.contains(&n)) => {
                self.close_quietest(reader)?;
            }
            // Gone since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                reader.failed(&file.path, error);
                self.pass(file, None);
            }
        }
        Ok(())
    }

    fn pass(&mut self, file: &Found, turn: Option<u64>) {
        let place = place_of(&file.metadata);
        // Renamed since it was listed, it was another file that was opened.
        if fs::metadata(&file.path).is_ok_and(|metadata| place_of(&metadata) == place) {
            self.passed.insert(place, Passed { look: Look::at(&file.metadata), turn });
        }
    }

    fn close_quietest(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let quiet = self.open.iter().enumerate().max_by_key(|(_, open)| open.tail.quiet_looks());
        let Some((number, _)) = quiet else { return Ok(()) };
        let mut open = self.open.swap_remove(number);
        open.tail.finish_complete_lines(reader.feed)?;
        // As it looked before it was read: what was added since is seen to be new.
        if let Some(look) = open.seen.filter(|look| look.bytes == open.tail.bytes_read()) {
            let inode = &open.tail.input.inode;
            self.passed.insert((inode.device, inode.inode), Passed { look, turn: None });
        }
        Ok(())
    }

    fn open_stream(&mut self, reader: &mut Reader<'_>, path: &Path) {
        if self.streams.iter().any(|stream| stream.path == path) {
            return;
        }
        match Stream::open(path) {
            Ok(stream) => self.streams.push(stream),
            Err(error) => {
                if self.said.insert(path.to_owned()) {
                    reader.failed(path, error);
                }
            }
        }
    }

    /// Reads on in everything that is open; true if some of it has more.
    pub(super) fn poll(&mut self, reader: &mut Reader<'_>) -> Result<bool, Error> {
        let mut has_more = false;
        // From the last one, for one that has ended gives its place to the last.
        for number in (0..self.open.len()).rev() {
            has_more |= self.poll_file(reader, number)?;
        }
        self.poll_streams(reader)?;
        Ok(has_more)
    }

    fn poll_file(&mut self, reader: &mut Reader<'_>, number: usize) -> Result<bool, Error> {
        let open = &mut self.open[number];
        let inode = &open.tail.input.inode;
        open.seen = self.looks.get(&(inode.device, inode.inode)).copied();
        let next = open.tail.poll(reader.feed, &mut reader.buffer);
        if let Ok(Next::Continue { has_more }) = next {
            return Ok(has_more);
        }
        let Open { tail, seen } = self.open.swap_remove(number);
        self.turn += 1;
        match next {
            Ok(Next::Replaced) => reader.replaced(&tail),
            Ok(Next::Ended | Next::Continue { .. }) => {
                reader.summary.files += 1;
                self.pass_tail(&tail, seen);
            }
            // Asked to stop in the middle of a file: what was read is flushed, the rest waits.
            Err(Failure::Feed(Error::Interrupted)) if reader.feed.is_stopped() => {}
            Err(Failure::Feed(error)) => return Err(error),
            Err(Failure::File(error)) => {
                reader.failed(&tail.path, error);
                self.pass_tail(&tail, seen);
            }
        }
        Ok(false)
    }

    fn pass_tail(&mut self, tail: &Tail, seen: Option<Look>) {
        if let Some(look) = seen {
            let inode = &tail.input.inode;
            self.passed.insert((inode.device, inode.inode), Passed { look, turn: None });
        }
    }

    fn poll_streams(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let mut number = 0;
        while number < self.streams.len() {
            match self.streams[number].take_waiting(reader.feed) {
                Ok(false) => number += 1,
                // A named pipe is opened again with the next look: another program may write to it.
                Ok(true) => {
                    let stream = self.streams.swap_remove(number);
                    reader.summary.files += 1;
                    finish_stream(stream, reader)?;
                }
                Err(Failure::Feed(error)) => return Err(error),
                Err(Failure::File(error)) => {
                    let stream = self.streams.swap_remove(number);
                    reader.failed(&stream.path, error);
                    self.said.insert(stream.path.clone());
                    finish_stream(stream, reader)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, reader: &mut Reader<'_>) -> Result<(), Error> {
        for mut open in self.open {
            open.tail.finish_complete_lines(reader.feed)?;
        }
        for stream in self.streams {
            finish_stream(stream, reader)?;
        }
        Ok(())
    }
}

fn place_of(metadata: &Metadata) -> Place {
    (metadata.dev(), metadata.ino())
}

fn finish_stream(mut stream: Stream, reader: &mut Reader<'_>) -> Result<(), Error> {
    match stream.finish(reader.feed) {
        Ok(()) | Err(Failure::File(_)) => Ok(()),
        Err(Failure::Feed(error)) => Err(error),
    }
}
