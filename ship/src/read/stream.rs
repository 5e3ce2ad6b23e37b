//! Standard input and pipes, which cannot be read again and may be silent for hours. A thread waits
//! for what comes, so that nobody else has to; it ends with the source, or with the process.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    thread,
    time::Duration,
};

use crate::{
    feed::Feed,
    read::{
        files::CHUNK_BYTES,
        list::STDIN,
        text::{Failure, Text},
    },
};

/// Chunks between the thread and the reader.
const CHUNKS_WAITING_MAX: usize = 4;

/// A source that is read as it comes.
pub(super) struct Stream {
    pub(super) path: PathBuf,
    chunks: Receiver<io::Result<Vec<u8>>>,
    text: Text,
}

impl Stream {
    /// Begins to read a pipe, or standard input.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (sender, chunks) = sync_channel(CHUNKS_WAITING_MAX);
        let is_stdin = path == Path::new(STDIN);
        // `<(command)` has a number for its name, which says nothing either.
        let is_nameless = is_stdin || path.starts_with("/dev/fd") || path.starts_with("/proc");
        let name = if is_nameless { "stdin".into() } else { path.to_string_lossy() };
        let source = path.to_owned();
        // A pipe can be opened only once somebody opens its other end.
        let open = move || if is_stdin { stdin() } else { File::open(source) };
        thread::Builder::new().name("stream".to_owned()).spawn(move || pass_on(open, &sender))?;
        Ok(Self { path: path.to_owned(), chunks, text: Text::new(name.into_owned(), None, 0) })
    }

    /// Takes what comes within a time; true once it has ended.
    pub(super) fn take(&mut self, wait: Duration, feed: &mut Feed) -> Result<bool, Failure> {
        match self.chunks.recv_timeout(wait) {
            Ok(chunk) => self.text.take(&chunk?, feed)?,
            Err(RecvTimeoutError::Timeout) => self.text.note_quiet(feed)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
        }
        Ok(false)
    }

    /// Takes what has come, a bounded part of it; true once the stream has ended.
    pub(super) fn take_waiting(&mut self, feed: &mut Feed) -> Result<bool, Failure> {
        for number in 0..CHUNKS_WAITING_MAX {
            match self.chunks.try_recv() {
                Ok(chunk) => self.text.take(&chunk?, feed)?,
                Err(TryRecvError::Disconnected) => return Ok(true),
                Err(TryRecvError::Empty) if number > 0 => break,
                Err(TryRecvError::Empty) => self.text.note_quiet(feed)?,
            }
        }
        Ok(false)
    }

    /// Takes what was read, a line without an end too: it cannot be read again.
    pub(super) fn finish(&mut self, feed: &mut Feed) -> Result<(), Failure> {
        self.take_waiting(feed)?;
        self.text.take_last_line(feed)?;
        Ok(self.text.finish_complete_lines(feed)?)
    }
}

fn stdin() -> io::Result<File> {
    // Not through the buffer of the standard library, which copies once more.
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn pass_on(open: impl FnOnce() -> io::Result<File>, chunks: &SyncSender<io::Result<Vec<u8>>>) {
    let read = || -> io::Result<()> {
        let mut source = open()?;
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                // Nobody takes it any more: the shipment has ended.
                Ok(count) if chunks.send(Ok(buffer[..count].to_vec())).is_err() => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    if let Err(error) = read() {
        drop(chunks.send(Err(error)));
    }
}
