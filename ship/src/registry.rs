//! The journals of all runs that send to one server, in one directory, so that a file is known
//! whatever the command was that sent it.
//!
//! * the directory itself, and `2`, `3`, … in it: a journal each. A run takes the first that no
//!   other one uses, or else the first with batches that wait to be sent again. Runs go on side by
//!   side as long as they read different files.
//! * `inputs` beside a journal: what the run reads that uses it.
//! * `known`: how far files were read, gathered from all journals that no run used at the time.
//! * `opening`: locked while a run finds its journal, which takes moments.
//!
//! What a run reads is noted in its own journal alone, with each group. The next run that starts
//! gathers it.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    error::{Error, file_error},
    journal::{Journal, Left, replace_file},
    read::{
        files::{Progress, stem},
        list::STDIN,
    },
};

/// Most files that are kept in mind: the gathered notes are read and written at each start, 20 MB
/// then. Beyond it those that were not read for the longest time are forgotten.
const KNOWN_MAX: usize = 50_000;
/// Most runs side by side.
const RUNS_MAX: usize = 1_000;

/// What a run begins with.
pub struct Opened {
    /// Where it is noted, for this process alone.
    pub journal: Journal,
    /// What the run left that used the journal before.
    pub left: Left,
    /// How far files were read by any run.
    pub known: Vec<Progress>,
}

/// Finds a journal for a run that reads these paths, and gathers what is known. `earlier` is the
/// journal that the same command had in earlier versions, which is taken over if it is there.
pub fn open(directory: &Path, earlier: Option<&Path>, paths: &[PathBuf]) -> Result<Opened, Error> {
    let failed = |source| file_error("use the journal", directory, source);
    fs::create_dir_all(directory).map_err(failed)?;
    let opening = directory.join("opening");
    let opening = OpenOptions::new().create(true).append(true).open(opening).map_err(failed)?;
    // Held to the end of this function; the system gives it back if the process is killed.
    opening.lock().map_err(failed)?;
    if let Some(earlier) = earlier.filter(|earlier| earlier.is_dir()) {
        take_over(earlier, directory)?;
    }
    let inputs = inputs_of(paths);
    let free = free_journals(directory, &inputs)?;
    let known = gather(directory, &free)?;
    let (path, journal, left) = choose(directory, free)?;
    write_json(&path.join("inputs"), &inputs)?;
    Ok(Opened { journal, left, known })
}

struct Free {
    path: PathBuf,
    journal: Journal,
    left: Left,
}

/// Moves the journal of an earlier version among the others.
fn take_over(earlier: &Path, directory: &Path) -> Result<(), Error> {
    // Not while that version runs.
    drop(Journal::open(earlier)?);
    let path = unused(directory)?;
    fs::rename(earlier, &path).map_err(|source| file_error("move", earlier, source))
}

fn journal_paths(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let further = (2..=RUNS_MAX).map(|number| directory.join(number.to_string()));
    [directory.to_owned()].into_iter().chain(further)
}

fn unused(directory: &Path) -> Result<PathBuf, Error> {
    journal_paths(directory).find(|path| !path.exists()).ok_or_else(|| {
        Error::Inputs(format!("{RUNS_MAX} runs use {} already", directory.display()))
    })
}

/// The journals that no run uses. Fails if a run that goes on reads the same files.
fn free_journals(directory: &Path, inputs: &[PathBuf]) -> Result<Vec<Free>, Error> {
    let mut free = Vec::new();
    for path in journal_paths(directory).take_while(|path| path.exists()) {
        match Journal::open(&path) {
            Ok((journal, left)) => free.push(Free { path, journal, left }),
            Err(Error::JournalInUse(_)) => {
                let others: Vec<PathBuf> = read_json(&path.join("inputs"))?;
                let mut both = inputs.iter().filter(|own| others.iter().any(|o| meet(own, o)));
                if let Some(both) = both.next() {
                    return Err(Error::AlreadySending(both.clone()));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(free)
}

/// Adds what is in the journals to what is known already, and notes it.
fn gather(directory: &Path, free: &[Free]) -> Result<Vec<Progress>, Error> {
    let path = directory.join("known");
    let before: Vec<Progress> = read_json(&path)?;
    let of_journals = free.iter().flat_map(|free| &free.left.state.files);
    let known = newest(before.iter().chain(of_journals));
    if known != before {
        write_json(&path, &known)?;
    }
    Ok(known)
}

/// Of several notes on one file the newest, and of all files those that were read last.
fn newest<'a>(notes: impl Iterator<Item = &'a Progress>) -> Vec<Progress> {
    let mut files: HashMap<_, Progress> = HashMap::new();
    for note in notes {
        // With its birth: another file had the inode before, and lives on in a copy perhaps. What
        // lies nowhere any more is only known by its content.
        let place = note.identity.inode;
        let content = place.is_none().then_some((&note.path, note.identity.fingerprint));
        let file = files.entry((place, content)).or_insert_with(|| note.clone());
        if file.read_unix_nanos < note.read_unix_nanos {
            file.clone_from(note);
        }
    }
    let mut files: Vec<_> = files.into_values().collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.read_unix_nanos));
    files.truncate(KNOWN_MAX);
    files
}

fn choose(directory: &Path, mut free: Vec<Free>) -> Result<(PathBuf, Journal, Left), Error> {
    let waiting = free.iter().position(|free| !free.left.groups.is_empty());
    let Free { path, journal, left } = if free.is_empty() {
        let path = unused(directory)?;
        let (journal, left) = Journal::open(&path)?;
        Free { path, journal, left }
    } else {
        free.swap_remove(waiting.unwrap_or(0))
    };
    Ok((path, journal, left))
}

/// What a run reads, in a form that can be compared with what others read.
fn inputs_of(paths: &[PathBuf]) -> Vec<PathBuf> {
    let paths = paths.iter().filter(|path| *path != Path::new(STDIN));
    let absolute = |path: &PathBuf| {
        // By its folder where it is not there yet.
        let whole = fs::canonicalize(path).ok();
        let folder = || fs::canonicalize(path.parent()?).ok().zip(path.file_name());
        whole.or_else(|| folder().map(|(folder, name)| folder.join(name)))
    };
    paths.map(|path| absolute(path).unwrap_or_else(|| path.clone())).collect()
}

/// Whether two inputs have files in common, those included that rotation makes of them.
fn meet(one: &Path, other: &Path) -> bool {
    let is_same_log = one.parent() == other.parent() && stem(one) == stem(other);
    one.starts_with(other) || other.starts_with(one) || is_same_log
}

fn read_json<T: serde::de::DeserializeOwned + Default>(path: &Path) -> Result<T, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(source) => return Err(file_error("read", path, source)),
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Journal { path: path.to_owned(), detail: error.to_string() })
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| file_error("write", path, io::Error::other(error)))?;
    replace_file(path, &bytes)
}

/// The name of the folder for all runs that send to one server.
pub fn folder_name(endpoint: &str) -> String {
    format!("{:016x}", xxh3_64(endpoint.as_bytes()))
}

/// The name of the folder that earlier versions had for each set of inputs, service and server.
/// None if an input is not there, for which they had none.
pub fn earlier_folder_name(endpoint: &str, service: &str, paths: &[PathBuf]) -> Option<String> {
    let mut key = format!("{endpoint}\n{service}\n");
    for path in paths {
        key.push_str(&fs::canonicalize(path).ok()?.to_string_lossy());
        key.push('\n');
    }
    Some(format!("{:016x}", xxh3_64(key.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::Group,
        read::files::{FileIdentity, Inode},
    };

    fn progress(name: &str, inode: Option<u64>, offset: u64, read_unix_nanos: i64) -> Progress {
        // Born with the hundreds of its number.
        let born = |inode: u64| Some(inode / 100);
        let at = |inode: u64| Inode { device: 1, inode: inode % 100, born_unix_nanos: born(inode) };
        let identity = FileIdentity { inode: inode.map(at), fingerprint: Default::default() };
        let complete_at_bytes = None;
        Progress { path: name.into(), identity, offset, complete_at_bytes, read_unix_nanos }
    }

    fn offsets(known: &[Progress]) -> Vec<u64> {
        known.iter().map(|file| file.offset).collect()
    }

    fn note(journal: &Journal, left: &Left, file: Progress) {
        let mut group = Group { state: left.state.clone(), batches: Vec::new() };
        group.state.group += 1;
        group.state.files = vec![file];
        journal.note(&group).unwrap();
    }

    #[test]
    fn the_newest_note_on_a_file_counts() {
        let notes = [
            progress("a", Some(1), 500, 10),
            progress("a", Some(1), 50, 20),
            progress("a", None, 600, 10),
            progress("b", Some(2), 7, 30),
            // A later file with an inode of before.
            progress("b", Some(102), 8, 40),
        ];
        assert_eq!(offsets(&newest(notes.iter())), [8, 7, 50, 600]);
    }

    #[test]
    fn runs_side_by_side_note_apart_and_know_of_each_other_later() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a.log", "b.log"].map(|name| vec![directory.path().join(name)]);
        let registry = directory.path().join("registry");
        let first = open(&registry, None, &paths[0]).unwrap();
        let second = open(&registry, None, &paths[1]).unwrap();
        note(&first.journal, &first.left, progress("a.log", Some(1), 10, 1));
        note(&second.journal, &second.left, progress("b.log", Some(2), 20, 2));
        let third = open(&registry, None, &paths[1]);
        assert!(matches!(third, Err(Error::AlreadySending(path)) if path.ends_with("b.log")));
        let folder = open(&registry, None, &[directory.path().to_owned()]);
        assert!(matches!(folder, Err(Error::AlreadySending(_))));
        drop((first, second));
        let both = open(&registry, None, &[directory.path().to_owned()]).unwrap();
        assert_eq!(offsets(&both.known), [20, 10]);
        assert_eq!(both.left.groups.len(), 1, "the groups of one run, the other's wait");
    }

    #[test]
    fn the_journal_of_an_earlier_version_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let (earlier, registry) = (directory.path().join("old"), directory.path().join("new"));
        let (journal, left) = Journal::open(&earlier).unwrap();
        note(&journal, &left, progress("a.log", Some(1), 10, 0));
        assert!(matches!(open(&registry, Some(&earlier), &[]), Err(Error::JournalInUse(_))));
        drop(journal);
        let opened = open(&registry, Some(&earlier), &[]).unwrap();
        assert_eq!((offsets(&opened.known), opened.left.groups.len()), (vec![10], 1));
        assert!(!earlier.exists());
        drop(opened);
        assert_eq!(offsets(&open(&registry, None, &[]).unwrap().known), [10]);
    }
}
