//! Opens files, compressed or not, and says which file it is, whatever its name.

use std::{
    fs::{File, Metadata},
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use flate2::bufread::MultiGzDecoder;
use logweir_parse::service;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::read::fingerprint::{Fingerprint, HEAD_BYTES};

/// What is read at once. Larger than a pipe, small enough to stay in a processor's cache.
pub const CHUNK_BYTES: usize = 256 << 10;

// By the first bytes of the content and not by the name, which rotation changes.
const GZIP: &[u8] = &[0x1f, 0x8b];
const UNSUPPORTED: [(&[u8], &str); 4] = [
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
];

/// Where a file lies on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inode {
    /// The device (`st_dev`).
    pub device: u64,
    /// The inode on that device, which is given to another file once this one is deleted.
    pub inode: u64,
    /// When the file was made, which tells it from an earlier one with its inode. None where the
    /// file system does not say.
    #[serde(default)]
    pub born_unix_nanos: Option<u64>,
}

impl Inode {
    /// Of a file.
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born_unix_nanos = born.and_then(|born| u64::try_from(born.as_nanos()).ok());
        Self { device: metadata.dev(), inode: metadata.ino(), born_unix_nanos }
    }

    /// Whether both may be the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        let born = self.born_unix_nanos.zip(other.born_unix_nanos);
        (self.device, self.inode) == (other.device, other.inode)
            && born.is_none_or(|(born, other)| born == other)
    }
}

/// Which file it is: where it lies, and what was read of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Where it lies; none once something else is there, and its content at most in a copy.
    #[serde(flatten)]
    pub inode: Option<Inode>,
    /// What its content looks like.
    #[serde(flatten)]
    pub fingerprint: Fingerprint,
}

/// How far a file has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it was last seen.
    pub path: PathBuf,
    /// Which file it is, as its name may have gone to another by rotation.
    pub identity: FileIdentity,
    /// Bytes that are in noted batches, after decompression.
    pub offset: u64,
    /// Its size on disk when its end was reached.
    pub complete_at_bytes: Option<u64>,
    /// When something was last read of it, nanoseconds since 1970.
    #[serde(default)]
    pub read_unix_nanos: i64,
}

impl Progress {
    /// Whether nothing was added since its end was reached.
    pub fn is_complete(&self, size: u64) -> bool {
        self.complete_at_bytes == Some(size)
    }

    /// Whether it is noted as the file that lies there.
    pub fn lies_at(&self, inode: &Inode) -> bool {
        self.identity.inode.is_some_and(|own| own.is_same(inode))
    }
}

/// How much of what was read of a file another one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// All of it, perhaps followed by more.
    Whole,
    /// A beginning, and then it ends: it may be a copy in the making.
    Beginning,
    /// It is another content.
    Other,
}

/// An open file.
pub(super) struct Input {
    file: Arc<File>,
    decoder: Option<Box<dyn BufRead + Send>>,
    /// The first bytes after decompression, and hashes of as many of them as were asked for.
    head: Vec<u8>,
    head_hashes: Vec<Option<u64>>,
    read_bytes: Arc<AtomicU64>,
    /// Which file was opened, whatever has its name by now.
    pub(super) inode: Inode,
    /// Its size on disk when it was opened.
    pub(super) size: u64,
    /// It is compressed, so it does not grow.
    pub(super) is_compressed: bool,
}

impl Input {
    /// Opens a file. `read_bytes` counts what is read of it on disk, for the progress bar.
    pub(super) fn open(path: &Path, read_bytes: Arc<AtomicU64>) -> io::Result<Self> {
        let file = Arc::new(File::open(path)?);
        let metadata = file.metadata()?;
        let is_compressed = is_compressed(&file)?;
        let mut input = Self {
            file,
            decoder: None,
            head: Vec::new(),
            head_hashes: Vec::new(),
            read_bytes,
            inode: Inode::of(&metadata),
            size: metadata.len(),
            is_compressed,
        };
        input.head = input.bytes_at(0, HEAD_BYTES)?;
        Ok(input)
    }

    /// The first bytes of the content.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// So many bytes of the content, or as many as there are.
    pub(super) fn bytes_at(&self, start: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut content = Vec::with_capacity(bytes);
        let read = if self.is_compressed {
            let mut decoder = decoder(self.file.clone(), Arc::default());
            io::copy(&mut (&mut decoder).take(start), &mut io::sink())
                .and_then(|_| decoder.take(bytes as u64).read_to_end(&mut content))
        } else {
            let part = Positioned { file: self.file.clone(), position: start };
            part.take(bytes as u64).read_to_end(&mut content)
        };
        match read {
            // Compressed files are looked at while they are still written.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(content),
        }
    }

    /// How much of what is noted this file has.
    pub(super) fn likeness(&mut self, noted: &Progress) -> io::Result<Likeness> {
        if !self.has_head(noted) {
            return Ok(Likeness::Other);
        }
        let print = &noted.identity.fingerprint;
        // Notes of earlier versions have no last bytes; the file must still be as long.
        let bytes = usize::try_from(print.last_bytes).unwrap_or(usize::MAX).min(HEAD_BYTES);
        let (start, bytes) = match bytes {
            0 if noted.offset == 0 => return Ok(Likeness::Whole),
            0 => (noted.offset - 1, 1),
            _ => (print.last_end.saturating_sub(bytes as u64), bytes),
        };
        let last = self.bytes_at(start, bytes)?;
        Ok(if last.len() < bytes {
            Likeness::Beginning
        } else if print.last_bytes == 0 || xxh3_64(&last) == print.last_hash {
            Likeness::Whole
        } else {
            Likeness::Other
        })
    }

    /// Whether this file begins as what is noted does.
    pub(super) fn has_head(&mut self, noted: &Progress) -> bool {
        let print = &noted.identity.fingerprint;
        let Some(bytes) = usize::try_from(print.head_bytes).ok().filter(|n| *n <= self.head.len())
        else {
            return false;
        };
        self.head_hashes.resize(HEAD_BYTES + 1, None);
        let hash = *self.head_hashes[bytes].get_or_insert_with(|| xxh3_64(&self.head[..bytes]));
        bytes == 0 || hash == print.head_hash
    }

    /// Prepares to read on from a position of the content.
    pub(super) fn start_at(&mut self, offset: u64) -> io::Result<()> {
        self.head_hashes = Vec::new();
        if self.is_compressed {
            // A gzip stream can only be read from its beginning, so what was sent before is read
            // over. Several members in one file are one stream: that is what log rotation appends.
            let mut decoder = decoder(self.file.clone(), self.read_bytes.clone());
            io::copy(&mut (&mut decoder).take(offset), &mut io::sink())?;
            self.decoder = Some(Box::new(decoder));
        } else {
            self.read_bytes.fetch_add(offset, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads what comes next of the content: at `position`, if it is not compressed.
    pub(super) fn read(&mut self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match &mut self.decoder {
            Some(decoder) => decoder.read(buffer),
            None => self.file.read_at(buffer, position),
        }
    }

    /// Counts what was read and is no repetition.
    pub(super) fn count(&self, bytes: usize) {
        if !self.is_compressed {
            self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// Opens a file to read it once, from its beginning. `read_bytes` counts what is read on disk.
pub fn open(path: &Path, read_bytes: Arc<AtomicU64>) -> io::Result<Box<dyn BufRead + Send>> {
    let file = Arc::new(File::open(path)?);
    if is_compressed(&file)? {
        return Ok(Box::new(decoder(file, read_bytes)));
    }
    let raw = Counting { inner: Positioned { file, position: 0 }, read_bytes };
    Ok(Box::new(BufReader::with_capacity(CHUNK_BYTES, raw)))
}

fn is_compressed(file: &File) -> io::Result<bool> {
    const MAGIC_BYTES: usize = 6;
    let mut head = [0; MAGIC_BYTES];
    let count = file.read_at(&mut head, 0)?;
    let head = &head[..count];
    if let Some((_, format)) = UNSUPPORTED.iter().find(|(magic, _)| head.starts_with(magic)) {
        let text = format!("{format} is not supported: decompress it first, or use gzip");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(head.starts_with(GZIP))
}

fn decoder(file: Arc<File>, read_bytes: Arc<AtomicU64>) -> impl BufRead + Send + use<> {
    let raw = Counting { inner: Positioned { file, position: 0 }, read_bytes };
    let raw = BufReader::with_capacity(CHUNK_BYTES, raw);
    BufReader::with_capacity(CHUNK_BYTES, MultiGzDecoder::new(raw))
}

/// Reads a file from a position of its own, so that several readers of one file do not meet.
struct Positioned {
    file: Arc<File>,
    position: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

struct Counting {
    inner: Positioned,
    read_bytes: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The name of a file without what rotation adds to it.
pub fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    service::of_file(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn content(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
        let mut input = Input::open(path, Arc::default())?;
        input.start_at(offset)?;
        let mut buffer = vec![0; 100];
        let count = input.read(&mut buffer, offset)?;
        assert_eq!(buffer[..count], input.bytes_at(offset, 100)?, "by either way of reading");
        buffer.truncate(count);
        Ok(buffer)
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes_and_resumed_by_decoded_offset() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"one\ntwo\n").unwrap();
        fs::write(&path, encoder.finish().unwrap()).unwrap();
        assert_eq!(content(&path, 4).unwrap(), b"two\n");
        fs::write(&path, b"one\ntwo\n").unwrap();
        assert_eq!(content(&path, 4).unwrap(), b"two\n");
        fs::write(&path, [0x28, 0xb5, 0x2f, 0xfd, 0]).unwrap();
        assert_eq!(content(&path, 4).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn notes_of_earlier_versions_are_understood() {
        let text = r#"{"path": "a", "identity": {"device": 1, "inode": 2, "head_bytes": 3,
            "head_hash": 18446744073709551615}, "offset": 3, "complete_at_bytes": null}"#;
        let progress: Progress = serde_json::from_str(text).unwrap();
        assert_eq!(progress.identity.inode.unwrap().inode, 2);
        assert_eq!(progress.identity.fingerprint.head_hash, u64::MAX);
        let again = serde_json::to_string(&progress).unwrap();
        assert_eq!(serde_json::from_str::<Progress>(&again).unwrap(), progress);
        let nowhere = FileIdentity { inode: None, ..progress.identity };
        let text = serde_json::to_string(&nowhere).unwrap();
        assert_eq!(serde_json::from_str::<FileIdentity>(&text).unwrap(), nowhere);
    }
}
