//! Which of the noted files an opened one is.
//!
//! First by its inode: a file that lies where a noted one lies, and still has what was read of that,
//! is that file, whatever its name. Then by content, which is taken only where rotation explains it,
//! for two files may hold the same lines and both be meant:
//!
//! * the noted file is gone or was overwritten, and this one has its name, or stands in its folder
//!   under a name that begins alike (`app.log` and `app.log.1.gz`): it goes on where that one ended;
//! * the noted file is still there, and this one stands beside it under such a name and was made
//!   later: it is a copy, perhaps in the making, and is left alone as long as that one is there.
//!
//! Any other file is new.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::read::files::{Inode, Input, Likeness, Progress};

/// What an opened file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nothing of it was read.
    New,
    /// The noted file of this number.
    Noted(usize),
    /// A copy of a file that is still there.
    CopyOf(PathBuf),
}

/// What lies around an opened file.
pub(super) trait Around {
    /// Where the file of an inode lies now, if it is still known to lie anywhere.
    fn path_of(&self, inode: &Inode) -> Option<PathBuf>;
    /// Whether the noted file of this number is being read.
    fn is_open(&self, number: usize) -> bool;
}

/// Judges an opened file by all that is noted.
pub(super) fn judge(
    path: &Path,
    input: &mut Input,
    noted: &[&Progress],
    around: &impl Around,
) -> io::Result<Judgement> {
    match by_inode(input, noted)? {
        Some(number) => Ok(Judgement::Noted(number)),
        None => by_content(path, input, noted, around),
    }
}

fn by_inode(input: &mut Input, noted: &[&Progress]) -> io::Result<Option<usize>> {
    let mut found: Option<usize> = None;
    let inode = input.inode;
    for (number, file) in noted.iter().enumerate().filter(|(_, file)| file.lies_at(&inode)) {
        // Two runs may have noted one file: who read more of it was the later one.
        let is_further = found.is_none_or(|found| noted[found].offset < file.offset);
        if is_further && input.likeness(file)? == Likeness::Whole {
            found = Some(number);
        }
    }
    Ok(found)
}

fn by_content(
    path: &Path,
    input: &mut Input,
    noted: &[&Progress],
    around: &impl Around,
) -> io::Result<Judgement> {
    let mut found: Option<usize> = None;
    for (number, file) in noted.iter().enumerate() {
        // Without anything that was read there is no content to go by.
        let was_read = file.identity.fingerprint.head_bytes > 0;
        let is_candidate = was_read && !file.lies_at(&input.inode);
        if !is_candidate || !input.has_head(file) || !is_related(path, &file.path) {
            continue;
        }
        let likeness = input.likeness(file)?;
        if likeness == Likeness::Other {
            continue;
        }
        if let Some(original) = still_there(file, input, around)? {
            if is_copy(path, input, &original, file) {
                return Ok(Judgement::CopyOf(original));
            }
        } else if likeness == Likeness::Whole {
            // Deleted, or overwritten a moment ago, while it is still open: its last lines are read
            // there first.
            if path != file.path && around.is_open(number) {
                return Ok(Judgement::CopyOf(file.path.clone()));
            }
            if found.is_none_or(|found| noted[found].offset < file.offset) {
                found = Some(number);
            }
        }
    }
    Ok(found.map_or(Judgement::New, Judgement::Noted))
}

/// Where a noted file lies now, if it still has what was read of it.
fn still_there(
    noted: &Progress,
    input: &Input,
    around: &impl Around,
) -> io::Result<Option<PathBuf>> {
    let Some(inode) = noted.identity.inode else { return Ok(None) };
    let path = around.path_of(&inode).unwrap_or_else(|| noted.path.clone());
    // Gone in the meantime is as good as gone before.
    let Ok(mut original) = Input::open(&path, Arc::default()) else { return Ok(None) };
    let is_it = original.inode != input.inode && noted.lies_at(&original.inode);
    Ok((is_it && original.likeness(noted)? == Likeness::Whole).then_some(path))
}

/// Whether rotation may have led from one name to the other.
fn is_related(path: &Path, noted: &Path) -> bool {
    path == noted
        || (path.parent() == noted.parent() && starts_with(path.file_name(), family(noted)))
}

/// Whether a file may be a copy that rotation made of another one that is still there. A new file
/// under the old name is none, though it may begin with the same lines.
fn is_copy(path: &Path, input: &Input, original: &Path, noted: &Progress) -> bool {
    let born = |inode: &Inode| inode.born_unix_nanos;
    let ages = born(&input.inode).zip(noted.identity.inode.as_ref().and_then(born));
    path != noted.path
        && is_related(path, original)
        && !starts_with(original.file_name(), path.file_name())
        && ages.is_none_or(|(copy, original)| copy >= original)
}

/// The part of a name that rotation leaves: what stands before its first dot.
fn family(path: &Path) -> Option<&OsStr> {
    let name = path.file_name()?;
    let end = name.as_encoded_bytes().iter().skip(1).position(|byte| *byte == b'.');
    // Cut before an ASCII byte, text stays text.
    end.and_then(|end| Some(OsStr::new(name.to_str()?.get(..=end)?))).or(Some(name))
}

fn starts_with(name: Option<&OsStr>, beginning: Option<&OsStr>) -> bool {
    name.zip(beginning).is_some_and(|(name, beginning)| {
        name.as_encoded_bytes().starts_with(beginning.as_encoded_bytes())
    })
}
