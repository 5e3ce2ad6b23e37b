//! One open file, read as far as it goes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    error::Error,
    feed::Feed,
    read::{
        files::{Inode, Input},
        fingerprint::Trace,
        text::{Failure, Text},
    },
};

/// So many looks without news end a file that lost its name: a minute, as the writer of a rotated
/// file goes on until it is told to open the new one.
const GONE_LOOKS_MAX: u32 = 240;
/// Chunks of one file before the others have their turn: a megabyte.
const CHUNKS_MAX: usize = 4;

/// An open file.
pub(super) struct Tail {
    pub(super) path: PathBuf,
    pub(super) input: Input,
    pub(super) number: usize,
    text: Text,
    trace: Trace,
    /// Where the content ended when all of it was sent.
    sent_end: Option<u64>,
}

/// How reading on went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// There was nothing.
    Nothing,
    /// There was something, and now there is no more.
    All,
    /// There is still more.
    Some,
    /// The file no longer has what was read of it before.
    Replaced,
}

/// What to do with a file after a look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again; at once if it has more.
    Continue { has_more: bool },
    /// It will not grow any more.
    Ended,
    /// It holds other lines now: they are to be read from their beginning.
    Replaced,
}

impl Tail {
    /// Reads on from a position of a file that is noted under a number.
    pub(super) fn new(
        path: &Path,
        mut input: Input,
        number: usize,
        offset: u64,
        sent_end: Option<u64>,
    ) -> io::Result<Self> {
        let (start, bytes) = Trace::last_part(offset);
        let trace = Trace::new(input.head(), input.bytes_at(start, bytes)?, offset);
        input.start_at(offset)?;
        let text = Text::new(path.to_string_lossy().into_owned(), Some(number), offset);
        Ok(Self { path: path.to_owned(), input, number, text, trace, sent_end })
    }

    /// Reads a bounded part of what there is.
    pub(super) fn pump(&mut self, feed: &mut Feed, buffer: &mut [u8]) -> Result<Pumped, Failure> {
        for chunk in 0..CHUNKS_MAX {
            let known = if self.input.is_compressed { 0 } else { self.trace.last().len() };
            let position = self.text.offset() - known as u64;
            // What was read last is read again together with what follows: so it is seen that the
            // file was truncated in between, even if it has grown past the old place since.
            let count = self.input.read(buffer, position)?;
            if buffer[..count].get(..known) != Some(&self.trace.last()[..known]) {
                return Ok(Pumped::Replaced);
            }
            match &buffer[known..count] {
                [] if chunk == 0 => return Ok(Pumped::Nothing),
                [] => return Ok(Pumped::All),
                bytes => self.take(bytes, feed)?,
            }
        }
        Ok(Pumped::Some)
    }

    fn take(&mut self, bytes: &[u8], feed: &mut Feed) -> Result<(), Failure> {
        if feed.is_stopped() {
            return Err(Failure::Feed(Error::Interrupted));
        }
        self.input.count(bytes.len());
        self.trace.extend(bytes);
        // Before its lines: the file must be known again by the first group that has any of them.
        feed.state.files[self.number].identity.fingerprint = self.trace.fingerprint();
        self.text.take(bytes, feed)
    }

    /// Reads what was added, and judges by what there is.
    pub(super) fn poll(&mut self, feed: &mut Feed, buffer: &mut [u8]) -> Result<Next, Failure> {
        match self.pump(feed, buffer)? {
            Pumped::Replaced => {
                self.text.finish_complete_lines(feed)?;
                Ok(Next::Replaced)
            }
            Pumped::Some => Ok(Next::Continue { has_more: true }),
            Pumped::All => Ok(Next::Continue { has_more: false }),
            Pumped::Nothing => {
                self.text.note_quiet(feed)?;
                // A compressed file was rotated away and does not grow: its end is the end.
                let is_given_up = self.text.quiet_looks() > GONE_LOOKS_MAX && !self.has_name();
                if !self.input.is_compressed && !is_given_up {
                    return Ok(Next::Continue { has_more: false });
                }
                self.finish(feed)?;
                Ok(Next::Ended)
            }
        }
    }

    /// Takes what waited for more, and notes the file as read to its end.
    pub(super) fn finish(&mut self, feed: &mut Feed) -> Result<(), Error> {
        // A copy of a file whose last line has no end: that line was sent with the original.
        if self.sent_end != Some(self.text.offset()) {
            self.text.take_last_line(feed)?;
        }
        self.text.finish_file(feed, self.number, self.bytes_read())
    }

    /// Takes the last log, but leaves a line without an end for later: its writer may be in the
    /// middle of it.
    pub(super) fn finish_complete_lines(&mut self, feed: &mut Feed) -> Result<(), Error> {
        self.text.finish_complete_lines(feed)
    }

    /// How often in a row there was nothing new.
    pub(super) fn quiet_looks(&self) -> u32 {
        self.text.quiet_looks()
    }

    /// The size on disk that was read, as far as it can be told.
    pub(super) fn bytes_read(&self) -> u64 {
        // Not the size now: what was added since the end was reached is still to be read.
        if self.input.is_compressed { self.input.size } else { self.text.offset() }
    }

    fn has_name(&self) -> bool {
        fs::metadata(&self.path)
            .is_ok_and(|metadata| Inode::of(&metadata).is_same(&self.input.inode))
    }
}
