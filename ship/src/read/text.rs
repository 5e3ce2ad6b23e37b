//! Logs out of the bytes of one source, as they come.

use std::io;

use logweir_parse::Context;

use crate::{
    error::Error,
    feed::Feed,
    read::lines::{Joiner, Line, LineReader},
    record::Source,
};

/// After so many looks without news the last log has all its lines: half a second, in which a
/// program has written a stack trace, and little enough to be told within one second.
const JOINING_LOOKS_MAX: u32 = 2;

/// Why a source was not read to its end.
pub(super) enum Failure {
    /// This source cannot be read.
    File(io::Error),
    /// Nothing more can be sent.
    Feed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Feed(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

/// The text of one source.
pub(super) struct Text {
    lines: LineReader,
    joiner: Joiner,
    source: Source,
    quiet_looks: u32,
    /// Where the last line ends that has an end.
    lines_end: u64,
}

impl Text {
    /// Begins at a position of the source.
    pub(super) fn new(path: String, file: Option<usize>, offset: u64) -> Self {
        let lines = LineReader::new(offset);
        let source = Source::new(path, file);
        Self { lines, joiner: Joiner::default(), source, quiet_looks: 0, lines_end: offset }
    }

    /// Bytes taken so far, from the beginning of the source.
    pub(super) fn offset(&self) -> u64 {
        self.lines.offset()
    }

    /// How often in a row there was nothing to take.
    pub(super) fn quiet_looks(&self) -> u32 {
        self.quiet_looks
    }

    /// Takes what was read next.
    pub(super) fn take(&mut self, mut bytes: &[u8], feed: &mut Feed) -> Result<(), Failure> {
        self.quiet_looks = 0;
        let context = feed.context();
        while let Some(line) = self.lines.next_line(&mut bytes)? {
            self.lines_end = line.end;
            self.joiner.push(line, &context);
            self.add(feed, &context)?;
        }
        // Not before all that came with it was looked at: while the sender is behind, much time
        // passes between two reads, and what waits to be read is no silence.
        self.joiner.complete_old(&context);
        Ok(self.add(feed, &context)?)
    }

    /// Notes that there was nothing to take: the last log may be complete by that.
    pub(super) fn note_quiet(&mut self, feed: &mut Feed) -> Result<(), Error> {
        self.quiet_looks = self.quiet_looks.saturating_add(1);
        if self.quiet_looks < JOINING_LOOKS_MAX {
            return Ok(());
        }
        self.finish_complete_lines(feed)?;
        // What it says next is of then, and no longer of its last line.
        self.source.last_time = None;
        Ok(())
    }

    /// Takes a last line without an end.
    pub(super) fn take_last_line(&mut self, feed: &mut Feed) -> Result<(), Error> {
        // Noted as not read: should its writer have been in the middle of it, the next run sends
        // it again, and whole.
        let context = feed.context();
        if let Some(line) = self.lines.last_line() {
            self.joiner.push(Line { end: self.lines_end, ..line }, &context);
        }
        self.add(feed, &context)
    }

    /// Takes the last log, but leaves a line without an end for later.
    pub(super) fn finish_complete_lines(&mut self, feed: &mut Feed) -> Result<(), Error> {
        self.joiner.finish();
        self.add(feed, &feed.context())
    }

    /// Takes everything that waits, and notes the file as read to its end. Together with the last
    /// log: noted before it, the log would be lost by a kill, and noted after it, a line without an
    /// end would be sent twice.
    pub(super) fn finish_file(
        &mut self,
        feed: &mut Feed,
        file: usize,
        bytes: u64,
    ) -> Result<(), Error> {
        let context = feed.context();
        self.joiner.finish();
        let mut next = self.joiner.next_log();
        if next.is_none() {
            feed.complete_file(file, bytes);
        }
        while let Some(log) = next {
            next = self.joiner.next_log();
            if next.is_none() {
                feed.complete_file(file, bytes);
            }
            feed.add(&log, &mut self.source, &context)?;
        }
        Ok(())
    }

    fn add(&mut self, feed: &mut Feed, context: &Context) -> Result<(), Error> {
        while let Some(log) = self.joiner.next_log() {
            feed.add(&log, &mut self.source, context)?;
        }
        Ok(())
    }
}
