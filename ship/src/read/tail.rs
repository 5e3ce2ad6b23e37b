//! One open source, read as far as it goes.

use std::{
    fs,
    io::{self, BufRead},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    error::Error,
    feed::Feed,
    read::{
        files::{self, Input},
        lines::{Joiner, LineReader},
    },
};

/// So many polls without news end a file that lost its name: a minute, as the writer of a rotated
/// file goes on until it is told to open the new one.
const GONE_POLLS_MAX: u32 = 240;

/// Why a file was not read to its end.
pub(super) enum Failure {
    /// This file cannot be read.
    File(io::Error),
    /// Nothing more can be sent.
    Feed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Feed(error)
    }
}

/// The text of one source.
pub(super) struct Text {
    pub(super) lines: LineReader,
    pub(super) joiner: Joiner,
}

impl Text {
    /// Reads what there is; true if there was anything.
    pub(super) fn pump(
        &mut self,
        reader: &mut impl BufRead,
        file: Option<usize>,
        stem: &str,
        feed: &mut Feed,
    ) -> Result<bool, Failure> {
        let start = self.lines.offset();
        while let Some(line) = self.lines.next_line(reader).map_err(Failure::File)? {
            self.joiner.push(line, &feed.context());
            self.add(file, stem, feed)?;
            if feed.is_stopped() {
                return Err(Failure::Feed(Error::Interrupted));
            }
        }
        Ok(self.lines.offset() > start)
    }

    /// Takes what waited for more: a last line without an end, and the last log.
    pub(super) fn finish(
        &mut self,
        file: Option<usize>,
        stem: &str,
        feed: &mut Feed,
    ) -> Result<(), Error> {
        if let Some(line) = self.lines.last_line() {
            self.joiner.push(line, &feed.context());
        }
        self.finish_complete_lines(file, stem, feed)
    }

    /// Takes the last log, but leaves a line without an end for later.
    pub(super) fn finish_complete_lines(
        &mut self,
        file: Option<usize>,
        stem: &str,
        feed: &mut Feed,
    ) -> Result<(), Error> {
        self.joiner.finish();
        self.add(file, stem, feed)
    }

    fn add(&mut self, file: Option<usize>, stem: &str, feed: &mut Feed) -> Result<(), Error> {
        while let Some(log) = self.joiner.next_log() {
            feed.add(&log, file, stem)?;
        }
        Ok(())
    }
}

/// An open file.
pub(super) struct Tail {
    pub(super) path: PathBuf,
    pub(super) input: Input,
    pub(super) text: Text,
    pub(super) stem: String,
    pub(super) number: usize,
    pub(super) file: Option<usize>,
    quiet_polls: u32,
}

impl Tail {
    pub(super) fn new(path: &Path, input: Input, number: usize, offset: u64) -> Self {
        Self {
            path: path.to_owned(),
            input,
            text: Text { lines: LineReader::new(offset), joiner: Joiner::default() },
            stem: files::stem(path),
            number,
            file: Some(number),
            quiet_polls: 0,
        }
    }

    pub(super) fn pump(&mut self, feed: &mut Feed) -> Result<bool, Failure> {
        self.text.pump(&mut self.input.reader, self.file, &self.stem, feed)
    }

    /// The size on disk that was read, as far as it can be told.
    pub(super) fn size_read(&self) -> u64 {
        // Not the size now: what was added since the end was reached is still to be read.
        if self.input.is_compressed { self.input.size } else { self.text.lines.offset() }
    }

    pub(super) fn is_at(&self, metadata: &fs::Metadata) -> bool {
        let identity = &self.input.identity;
        (identity.device, identity.inode) == (metadata.dev(), metadata.ino())
    }
}

pub(super) enum Next {
    Continue,
    Ended,
    Truncated,
}

impl Tail {
    pub(super) fn poll(&mut self, feed: &mut Feed) -> Result<Next, Failure> {
        if self.pump(feed)? {
            self.quiet_polls = 0;
            return Ok(Next::Continue);
        }
        self.quiet_polls = self.quiet_polls.saturating_add(1);
        // Quiet for one poll: the last log has all its lines.
        self.text.finish_complete_lines(self.file, &self.stem, feed)?;
        let metadata = fs::metadata(&self.path).ok().filter(|metadata| self.is_at(metadata));
        let is_shorter =
            metadata.as_ref().is_some_and(|metadata| metadata.len() < self.text.lines.offset());
        // A compressed file was rotated away and does not grow: its end is the end.
        if self.input.is_compressed || (metadata.is_none() && self.quiet_polls > GONE_POLLS_MAX) {
            self.text.finish(self.file, &self.stem, feed)?;
            feed.complete_file(self.number, self.size_read());
            return Ok(Next::Ended);
        }
        Ok(if is_shorter { Next::Truncated } else { Next::Continue })
    }
}
