//! The folder of one server, the processes that run in it, and a guard that ends both.
//!
//! A process belongs to the instance when its working directory lies in the folder. That holds for
//! what the servers start as well, which leaves process groups and sessions at will.
//!
//! The guard is a shell that reads from a pipe of this process. When the pipe closes, because the
//! instance was dropped or because this process died, it kills the processes and removes the folder.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// Kills until nothing is left, since a server may be forking while it is looked for.
const GUARD: &str = r#"
read -r _
while pids=$(find /proc -maxdepth 2 -name cwd -lname "$1*" 2>/dev/null | cut -d/ -f3); [ -n "$pids" ]
do kill -KILL $pids 2>/dev/null
done
rm -rf "$1"
"#;

/// How often a condition is looked at that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) struct Instance {
    folder: PathBuf,
    user: Option<User>,
    guard: Child,
    /// Open as long as the instance is to live.
    alive: Option<ChildStdin>,
}

/// Whom servers run as when this process is root.
#[derive(Clone, Copy)]
struct User {
    user_id: u32,
    group_id: u32,
}

impl User {
    fn unprivileged() -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let accounts = fs::read_to_string("/etc/passwd").expect("the list of users can be read");
        let find = |name: &str| accounts.lines().find_map(|line| Self::parse(line, name));
        Some(find("postgres").or_else(|| find("nobody")).expect("root can become another user"))
    }

    fn parse(line: &str, name: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, user_id, group_id, ..] = fields[..] else { return None };
        let user = Self { user_id: user_id.parse().ok()?, group_id: group_id.parse().ok()? };
        (found == name).then_some(user)
    }
}

impl Instance {
    pub(crate) fn new(kind: &str) -> Self {
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(&format!("logweir-{kind}-")).tempdir();
        let folder = folder.expect("a temporary folder can be made").keep();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard"]).arg(&folder).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut guard = command.spawn().expect("a shell starts");
        let alive = guard.stdin.take();
        let instance = Self { folder, user: User::unprivileged(), guard, alive };
        instance.give(&instance.folder);
        instance
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the servers' user the owner of a path.
    fn give(&self, path: &Path) {
        if let Some(User { user_id, group_id }) = self.user {
            std::os::unix::fs::chown(path, Some(user_id), Some(group_id))
                .expect("root may change owners");
        }
    }

    /// Writes a file that only the servers' user can read.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.folder.join(name);
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let mut file = file.expect("the folder can be written to");
        file.write_all(content.as_ref()).expect("there is room");
        self.give(&path);
        path
    }

    pub(crate) fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).expect("the folder can be written to");
        self.give(&path);
        path
    }

    /// A command that runs in the folder, as the servers' user, and writes to the instance's log.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let log = File::options().create(true).append(true).open(self.folder.join("log"));
        let log = log.expect("the folder can be written to");
        let mut command = Command::new(program);
        command.current_dir(&self.folder).process_group(0).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("HOME", &self.folder).env("TMPDIR", &self.folder);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        if let Some(User { user_id, group_id }) = self.user {
            command.uid(user_id).gid(group_id);
        }
        command
    }

    /// Runs a command to its end, which must be a success.
    pub(crate) fn run(&self, command: &mut Command) {
        let status = command.status();
        let status = status.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(status.success(), "{command:?}: {status}\n{}", self.log());
    }

    /// What the servers said last.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(8_192)..]).into_owned()
    }

    fn processes(&self) -> Vec<Pid> {
        let entries = fs::read_dir("/proc").expect("Linux has /proc");
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let here = |id: &i32| {
            let place = fs::read_link(format!("/proc/{id}/cwd"));
            place.is_ok_and(|place| place.starts_with(&self.folder))
        };
        ids.filter(here).filter_map(Pid::from_raw).collect()
    }

    /// Sends a signal to every process of the instance, again as long as new ones turn up.
    pub(crate) fn signal(&self, signal: Signal) {
        let mut reached = Vec::new();
        loop {
            let found = self.processes();
            let new: Vec<Pid> = found.into_iter().filter(|id| !reached.contains(id)).collect();
            if new.is_empty() {
                return;
            }
            for id in new {
                // It may have ended meanwhile.
                kill_process(id, signal).ok();
                reached.push(id);
            }
        }
    }

    /// SIGKILL for every process of the instance, and the end of them all.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
        self.until("everything has ended", || self.processes().is_empty());
    }

    /// Waits for what no event announces.
    pub(crate) fn until(&self, what: &str, mut happened: impl FnMut() -> bool) {
        let started = Instant::now();
        while !happened() {
            let waited = started.elapsed();
            assert!(waited < Duration::from_secs(120), "not within 120 s: {what}\n{}", self.log());
            sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(self.alive.take());
        self.guard.wait().expect("the guard is a child of this process");
    }
}
