//! Finds the files to read, tells them apart over renames, and opens them, compressed or not.

use std::{
    collections::BTreeSet,
    fs::{self, File, Metadata},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// As many first bytes tell a file from another one that got its inode.
const HEAD_BYTES: u64 = 1_024;
/// Most files in one run: where each stands is noted with every group.
pub const FILES_MAX: usize = 10_000;

// By the first bytes of the content and not by the name, which rotation changes.
const GZIP: &[u8] = &[0x1f, 0x8b];
const UNSUPPORTED: [(&[u8], &str); 4] = [
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
];

/// Which file it is, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The device that it lies on (`st_dev`).
    pub device: u64,
    /// Its inode on that device, which is given to another file once this one is deleted.
    pub inode: u64,
    /// How many first bytes were hashed.
    pub head_bytes: u64,
    /// The hash of those bytes.
    pub head_hash: u64,
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
}

impl Progress {
    /// Whether nothing was added since its end was reached.
    pub fn is_complete(&self, size: u64) -> bool {
        self.complete_at_bytes == Some(size)
    }
}

/// A file open for reading.
pub struct Input {
    /// Its content after decompression.
    pub reader: Box<dyn BufRead + Send>,
    /// Which file was opened, whatever has its name by now.
    pub identity: FileIdentity,
    /// Its size on disk when it was opened.
    pub size: u64,
    /// It is compressed, so it does not grow.
    pub is_compressed: bool,
}

/// The files that the arguments name: files as they are, directories with all below them. Hidden
/// files in directories are passed over.
pub fn discover(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut files = BTreeSet::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|error| naming(path, &error))?;
        if metadata.is_dir() {
            walk(path, &mut files)?;
        } else {
            files.insert(path.clone());
        }
        if files.len() > FILES_MAX {
            let text = format!("more than {FILES_MAX} files; name fewer");
            return Err(io::Error::other(text));
        }
    }
    Ok(files.into_iter().collect())
}

fn walk(directory: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory).map_err(|error| naming(directory, &error))? {
        let entry = entry.map_err(|error| naming(directory, &error))?;
        let is_hidden = entry.file_name().as_encoded_bytes().first() == Some(&b'.');
        let kind = entry.file_type().map_err(|error| naming(&entry.path(), &error))?;
        // Links to directories are not followed: they may lead in circles.
        if is_hidden || files.len() > FILES_MAX {
            continue;
        } else if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()) {
            files.insert(entry.path());
        }
    }
    Ok(())
}

/// Adds the path to the text of an error.
pub fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Opens a file at a position of its decompressed content. `read_bytes` counts what is read of it
/// on disk, for the progress bar.
pub fn open(path: &Path, offset: u64, read_bytes: Arc<AtomicU64>) -> io::Result<Input> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    // A pipe has no beginning to come back to after a restart.
    if !metadata.is_file() {
        return Err(io::Error::other(
            "not a regular file: give `-` and redirect it to standard input",
        ));
    }
    let head = read_head(&mut file, HEAD_BYTES)?;
    if let Some((_, format)) = UNSUPPORTED.iter().find(|(magic, _)| head.starts_with(magic)) {
        let text = format!("{format} is not supported: decompress it first, or use gzip");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let identity = identity(&metadata, &head);
    let is_compressed = head.starts_with(GZIP);
    let start = if is_compressed { 0 } else { offset };
    file.seek(SeekFrom::Start(start))?;
    read_bytes.fetch_add(start, Ordering::Relaxed);
    let raw = BufReader::with_capacity(256 << 10, Counting { inner: file, read_bytes });
    // A gzip stream can only be read from its beginning, so what was sent before is read over.
    // Several members in one file are one stream: that is what log rotation appends.
    let reader: Box<dyn BufRead + Send> = if is_compressed {
        let mut decoded = BufReader::with_capacity(256 << 10, MultiGzDecoder::new(raw));
        io::copy(&mut (&mut decoded).take(offset), &mut io::sink())?;
        Box::new(decoded)
    } else {
        Box::new(raw)
    };
    Ok(Input { reader, identity, size: metadata.len(), is_compressed })
}

/// Whether a path now leads to the file of an earlier run: the same beginning, and the same inode
/// or the same path.
pub fn is_same(path: &Path, earlier: &Progress) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let head = read_head(&mut file, earlier.identity.head_bytes)?;
    // Over as many bytes as there were then: the file has grown since. The inode alone will not do,
    // for a deleted file's is given to the next one that is made.
    let same_head = xxh3_64(&head) == earlier.identity.head_hash
        && head.len() as u64 == earlier.identity.head_bytes;
    let same_inode =
        (metadata.dev(), metadata.ino()) == (earlier.identity.device, earlier.identity.inode);
    Ok(same_head && (same_inode || (path == earlier.path && earlier.identity.head_bytes > 0)))
}

/// The path as text.
pub fn stem(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn identity(metadata: &Metadata, head: &[u8]) -> FileIdentity {
    FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        head_bytes: head.len() as u64,
        head_hash: xxh3_64(head),
    }
}

fn read_head(file: &mut File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(bytes_max).read_to_end(&mut head)?;
    Ok(head)
}

struct Counting {
    inner: File,
    read_bytes: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn read(path: &Path, offset: u64) -> io::Result<String> {
        let mut text = String::new();
        open(path, offset, Arc::default())?.reader.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes_and_resumed_by_decoded_offset() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"one\ntwo\n").unwrap();
        fs::write(&path, encoder.finish().unwrap()).unwrap();
        assert_eq!(read(&path, 4).unwrap(), "two\n");
        fs::write(&path, b"one\ntwo\n").unwrap();
        assert_eq!(read(&path, 4).unwrap(), "two\n");
        fs::write(&path, [0x28, 0xb5, 0x2f, 0xfd, 0]).unwrap();
        assert_eq!(read(&path, 0).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_file_is_known_again_by_inode_and_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&path, "first line\n").unwrap();
        let identity = open(&path, 0, Arc::default()).unwrap().identity;
        let earlier =
            Progress { path: path.clone(), identity, offset: 11, complete_at_bytes: Some(11) };
        fs::write(&path, "first line\nsecond\n").unwrap();
        assert!(is_same(&path, &earlier).unwrap());
        fs::rename(&path, &moved).unwrap();
        assert!(is_same(&moved, &earlier).unwrap());
        fs::write(&moved, "other content\n").unwrap();
        assert!(!is_same(&moved, &earlier).unwrap());
    }

    #[test]
    fn directories_are_walked_without_hidden_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        for name in ["b.log", ".hidden", "sub/a.log"] {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        let found = discover(&[directory.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|path| stem(path)).collect();
        assert_eq!(names, ["b", "a"]);
        assert!(discover(&[directory.path().join("none")]).is_err());
    }
}
