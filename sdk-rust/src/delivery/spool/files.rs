//! What lies in the folders of a spool, and how folders are made and removed.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::owner;
use crate::hex;

/// Where a process keeps the folders that it took over.
pub(super) const ADOPTED_FOLDER: &str = "adopted";
/// Random bytes in a folder's name; two hexadecimal digits each.
pub(super) const NAME_BYTES: usize = 8;

/// Logs are nobody else's business.
pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Removes a folder without segments; one with anything unknown in it stays.
pub(super) fn remove_folder(path: &Path) {
    for orphan in files_with_extension(path, "ack").unwrap_or_default() {
        // Marks of a segment that is still there say what must not be sent again.
        if !orphan.with_extension("seg").exists() {
            fs::remove_file(orphan).ok();
        }
    }
    // Fails if another's folder is in it, and then all of it stays.
    fs::remove_dir(path.join(ADOPTED_FOLDER)).ok();
    if only_names_its_owner(path) {
        fs::remove_file(path.join(owner::OWNER_FILE)).ok();
        fs::remove_dir(path).ok();
    }
}

fn only_names_its_owner(path: &Path) -> bool {
    let Ok(entries) = fs::read_dir(path) else { return false };
    entries.flatten().all(|entry| entry.file_name() == owner::OWNER_FILE)
}

/// The folders of processes, without links; whatever has another kind of name is somebody else's.
pub(super) fn folders_in(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let is_folder = |entry: &fs::DirEntry| {
        let has_name = |name: &str| hex::decode::<NAME_BYTES>(name).is_some();
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entry.file_name().to_str().is_some_and(has_name)
    };
    let mut paths: Vec<_> = entries.flatten().filter(is_folder).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What the segments in a folder take, those that it had taken over included.
pub(super) fn segment_bytes(path: &Path) -> u64 {
    let segments = files_with_extension(path, "seg").unwrap_or_default();
    let bytes = segments.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len()));
    let others = folders_in(&path.join(ADOPTED_FOLDER));
    bytes.sum::<u64>() + others.iter().map(|path| segment_bytes(path)).sum::<u64>()
}

pub(super) fn files_with_extension(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect())
}
