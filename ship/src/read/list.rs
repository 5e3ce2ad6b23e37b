//! Finds the files that the arguments name.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, DirEntry, Metadata},
    io,
    os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::read::files::{Inode, Progress};

/// Most files of one run: where each stands is noted with every group.
pub const FILES_MAX: usize = 10_000;
/// The argument that stands for standard input.
pub const STDIN: &str = "-";

/// A file that is there.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name, from the root.
    pub path: PathBuf,
    /// What the system says of it.
    pub metadata: Metadata,
}

/// What the arguments name at one moment.
#[derive(Debug, Default)]
pub struct Listing {
    /// Files as they are, and all below directories, each once. Hidden files in directories are
    /// passed over.
    pub files: Vec<Found>,
    /// Standard input and pipes, which are read as they come.
    pub streams: Vec<PathBuf>,
    /// Arguments that lead nowhere.
    pub missing: Vec<PathBuf>,
    /// What is there and cannot be looked at.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// Files beyond [`FILES_MAX`].
    pub left_out: usize,
    inodes: HashSet<(u64, u64)>,
}

impl Listing {
    /// Looks at what the arguments name, and at what rotation made of it since it was noted.
    pub fn new(paths: &[PathBuf], noted: &[&Progress]) -> Self {
        let mut listing = Self::default();
        for path in paths {
            listing.add_argument(path, noted);
        }
        listing
    }

    fn add_argument(&mut self, path: &Path, noted: &[&Progress]) {
        if path == Path::new(STDIN) {
            self.streams.push(path.to_owned());
            return;
        }
        // The same file whatever folder the next run is started in.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => self.walk(&path),
            Ok(metadata) if metadata.is_file() => {
                self.add(path.clone(), metadata);
                self.add_rotated(&path, noted);
            }
            // `<(command)` is a pipe as well.
            Ok(metadata) if metadata.file_type().is_fifo() => self.streams.push(path),
            Ok(_) => {
                let text = "it is neither a file nor a folder nor a pipe";
                self.unreadable.push((path, io::Error::other(text)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.add_rotated(&path, noted);
                self.missing.push(path);
            }
            Err(error) => self.unreadable.push((path, error)),
        }
    }

    fn walk(&mut self, directory: &Path) {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return self.cannot_look_at(directory, error),
        };
        let mut entries: Vec<_> = entries.flatten().filter(|entry| !is_hidden(entry)).collect();
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            // Links to directories are not followed: they may lead in circles.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.walk(&path);
                continue;
            }
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => self.add(path, metadata),
                Ok(_) => {}
                Err(error) => self.cannot_look_at(&path, error),
            }
        }
    }

    /// Where a file that was named went, and what was written under its name and moved on before
    /// anybody looked: `app.log.1`, if it was written since `app.log` was last read.
    fn add_rotated(&mut self, path: &Path, noted: &[&Progress]) {
        let Some(directory) = path.parent() else { return };
        let of_name = |other: &Path| other == path || is_rotated(other, path);
        let of_name: Vec<_> = noted.iter().filter(|file| of_name(&file.path)).collect();
        let Some(read) = of_name.iter().map(|file| file.read_unix_nanos).max() else { return };
        let inodes: HashSet<_> =
            of_name.iter().filter_map(|file| Some(file.identity.inode?.inode)).collect();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let is_later = is_rotated(&entry.path(), path);
            if !is_later && !inodes.contains(&entry.ino()) {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            let inode = Inode::of(&metadata);
            let is_noted = of_name.iter().any(|file| file.lies_at(&inode));
            if metadata.is_file()
                && (is_noted || (is_later && written_unix_nanos(&metadata) > read))
            {
                self.add(entry.path(), metadata);
            }
        }
    }

    fn add(&mut self, path: PathBuf, metadata: Metadata) {
        // By another name it is no other file.
        if !self.inodes.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        if self.files.len() < FILES_MAX {
            self.files.push(Found { path, metadata });
        } else {
            self.left_out += 1;
        }
    }

    fn cannot_look_at(&mut self, path: &Path, error: io::Error) {
        // Deleted between two looks.
        if error.kind() != io::ErrorKind::NotFound {
            self.unreadable.push((path.to_owned(), error));
        }
    }
}

/// When a file was last written, nanoseconds since 1970.
pub(super) fn written_unix_nanos(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().first() == Some(&b'.')
}

/// Whether rotation made the name longer: `app.log.1`, `app.log-20261128.gz`.
fn is_rotated(path: &Path, original: &Path) -> bool {
    let bytes = |path: &Path| path.file_name().map(OsStr::as_encoded_bytes).map(<[u8]>::to_vec);
    path.parent() == original.parent()
        && path != original
        && bytes(path).zip(bytes(original)).is_some_and(|(name, start)| name.starts_with(&start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::files;

    fn names(listing: &Listing) -> Vec<String> {
        listing.files.iter().map(|file| files::stem(&file.path)).collect()
    }

    #[test]
    fn directories_are_walked_without_hidden_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        for name in ["b.log", ".hidden", "sub/a.log"] {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        let missing = directory.path().join("none");
        let listing = Listing::new(&[directory.path().to_owned(), missing.clone()], &[]);
        assert_eq!(
            (names(&listing), listing.missing),
            (vec!["b".into(), "a".into()], vec![missing])
        );
    }
}
