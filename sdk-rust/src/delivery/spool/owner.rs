//! The owner of a folder of the spool: the process that writes to it, and whether that one still
//! runs.
//!
//! A lock of the operating system would tell, but not to every language, and not over every file
//! system that containers share. The file `owner` names a process, and is touched while it lives.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use crate::platform;

/// The file in each folder.
pub(super) const OWNER_FILE: &str = "owner";
/// An owner that cannot be looked up is dead if its file is older: twenty of its renewals are
/// missing.
const SILENCE_MAX: Duration = Duration::from_secs(600);
/// No process has this number: who has it owns nothing any more.
const NOBODY: u32 = 0;

/// A process, so that no later one with the same number is taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Owner {
    process_id: u32,
    /// When it started, as the kernel counts it.
    start: String,
    /// The boot and the namespace within which its number is unique; empty if the system does not
    /// tell.
    namespace: String,
}

impl Owner {
    fn of_this_process() -> Self {
        let process_id = platform::process_id();
        let start = platform::process_start(process_id).ok().flatten().unwrap_or_default();
        Self { process_id, start, namespace: platform::process_namespace() }
    }

    /// One that is dead already: what a living process leaves behind for others.
    fn nobody() -> Self {
        Self { process_id: NOBODY, ..Self::of_this_process() }
    }

    fn line(&self) -> String {
        let Self { process_id, start, namespace } = self;
        format!(
            "{{\"pid\": {process_id}, \"start\": \"{start}\", \"namespace\": \"{namespace}\"}}\n"
        )
    }

    /// What a file says; none if it is not understood.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix('{')?.strip_suffix('}')?;
        let digits = value(text, "pid")?;
        let digits = digits.split_once(',').map_or(digits, |(digits, _)| digits);
        let quoted = |key| Some(value(text, key)?.strip_prefix('"')?.split_once('"')?.0.to_owned());
        Some(Self {
            process_id: digits.trim().parse().ok()?,
            start: quoted("start")?,
            namespace: quoted("namespace")?,
        })
    }
}

/// What stands after a key. No text in such a file has quotes or commas of its own.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!("\"{key}\""))?;
    Some(after.trim_start().strip_prefix(':')?.trim_start())
}

/// Whether an owner is dead: in our namespace, if its process is not there, or another has its
/// number; elsewhere, if its file is older than [`SILENCE_MAX`]. One whose process cannot be looked
/// at counts as alive. `age`: since the file was touched last; of the folder where there is no
/// file.
pub(crate) fn is_dead(
    owner: Option<&Owner>,
    age: Duration,
    namespace: &str,
    start_of: impl FnOnce(u32) -> io::Result<Option<String>>,
) -> bool {
    match owner {
        // Elsewhere the same number is another process.
        Some(owner) if !namespace.is_empty() && owner.namespace == namespace => {
            start_of(owner.process_id).is_ok_and(|start| start.as_ref() != Some(&owner.start))
        }
        _ => age > SILENCE_MAX,
    }
}

/// Whether the owner of a folder is dead. One that cannot be looked at is left alone.
pub(super) fn is_dead_folder(folder: &Path) -> bool {
    let file = folder.join(OWNER_FILE);
    let (owner, age) = match fs::read_to_string(&file) {
        Ok(text) => (Owner::parse(&text), platform::age_of(&file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (None, platform::age_of(folder)),
        Err(_) => return false,
    };
    let namespace = platform::process_namespace();
    age.is_ok_and(|age| is_dead(owner.as_ref(), age, &namespace, platform::process_start))
}

/// Makes a folder this process's.
pub(super) fn claim(folder: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new();
    // Readable by its user alone, as the logs are; fails if another process has claimed the folder.
    let mut file = file.create_new(true).write(true).mode(0o600).open(folder.join(OWNER_FILE))?;
    file.write_all(Owner::of_this_process().line().as_bytes())
}

/// Leaves a folder to whoever takes it, though this process lives on.
pub(super) fn release(folder: &Path) -> io::Result<()> {
    fs::write(folder.join(OWNER_FILE), Owner::nobody().line())
}

/// Shows that the owner lives. An error of kind `NotFound` if the folder was taken.
pub(super) fn renew(folder: &Path) -> io::Result<()> {
    platform::touch(&folder.join(OWNER_FILE))
}

/// Whether a folder of ours is gone: this process was taken for dead.
pub(super) fn is_taken(folder: &Path) -> bool {
    fs::metadata(folder.join(OWNER_FILE))
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_however_it_is_spaced() {
        let owner = Owner::of_this_process();
        assert_eq!(Owner::parse(&owner.line()), Some(owner));
        let expected = Owner { process_id: 7, start: "s".into(), namespace: "n/pid:[1]".into() };
        let dense = r#"{"namespace":"n/pid:[1]","pid":7,"start":"s"}"#;
        let last = "{ \"start\" : \"s\",\"namespace\": \"n/pid:[1]\", \"pid\" : 7 }\n";
        for text in [dense, last] {
            assert_eq!(Owner::parse(text).as_ref(), Some(&expected), "{text}");
        }
        for wrong in ["", "{}", "{\"pid\"", "{\"pid\": -1, \"start\": \"\", \"namespace\": \"\"}"] {
            assert_eq!(Owner::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn this_process_lives_and_one_that_has_ended_is_dead() {
        let namespace = platform::process_namespace();
        let age = Duration::from_secs(9_999);
        let dead = |owner: &Owner| is_dead(Some(owner), age, &namespace, platform::process_start);
        assert!(!dead(&Owner::of_this_process()));
        assert!(dead(&Owner::nobody()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let start = platform::process_start(child.id()).unwrap().unwrap_or_default();
        let of_child = Owner { process_id: child.id(), start, ..Owner::of_this_process() };
        child.wait().unwrap();
        assert!(dead(&of_child));
        let no_file_is_free = |_| Err(io::Error::other("too many open files"));
        assert!(!is_dead(Some(&of_child), age, &namespace, no_file_is_free), "nobody knows");
    }
}
