//! The folder of one server, the processes that run in it, and a guard that ends both.
//!
//! A process belongs to the instance when its working directory lies in the folder. That holds for
//! what the servers start as well, which leaves process groups and sessions at will.
//!
//! The guard is a shell that reads from a pipe of this process. When the pipe closes, because the
//! instance was dropped or because this process died, it kills the processes and removes the
//! folder. A folder of limited size is a tmpfs that only the guard's mount namespace knows, so that
//! nothing stays mounted either; servers and test reach it through the guard.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    os::unix::{
        fs::{OpenOptionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::statvfs,
    process::{Pid, Signal, geteuid, kill_process},
};

/// Runs the rest in the namespace that `$3` makes, if any, and then removes the folder `$1`.
const GUARD: &str = r#"$3 sh -c "$4" guard "$1" "$2"; rm -rf "$1""#;
/// Mounts a disk of `$2` bytes, if any; says its process id; waits for the pipe to close; kills
/// until nothing is left, since a server may be forking while it is looked for.
const GUARD_INSIDE: &str = r#"
[ -z "$2" ] || mount -t tmpfs -o "size=$2,mode=755" tmpfs "$1" || exit 1
echo $$
read -r _
while pids=$(find /proc -maxdepth 2 -name cwd -lname "$1*" 2>/dev/null | cut -d/ -f3); [ -n "$pids" ]
do kill -KILL $pids 2>/dev/null
done
"#;
/// How root and how others get a mount namespace, and how they enter it.
const OF_ROOT: [&str; 2] = ["unshare --mount", "--mount"];
const OF_OTHERS: [&str; 2] = [
    "unshare --user --map-current-user --keep-caps --mount",
    "--mount --user --preserve-credentials",
];

/// How often a condition is looked at that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) struct Instance {
    folder: PathBuf,
    /// The folder as this process reaches it.
    reachable: PathBuf,
    /// What makes a command a process of the servers.
    prefix: Vec<String>,
    user: Option<User>,
    guard: Child,
    /// Open as long as the instance is to live.
    alive: Option<ChildStdin>,
}

/// How a private server differs from the usual.
#[derive(Default)]
pub(crate) struct Options {
    /// Further lines of its configuration.
    pub(crate) settings: String,
    pub(crate) disk: Disk,
    pub(crate) is_tls: bool,
}

/// What a folder lies on.
#[derive(Clone, Copy, Default)]
pub(crate) enum Disk {
    /// The machine's, together with all other processes.
    #[default]
    Shared,
    /// One of its own, of so many bytes.
    Own { bytes: u64 },
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
    pub(crate) fn new(kind: &str, disk: Disk) -> Self {
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(&format!("logweir-{kind}-")).tempdir();
        // Kept: the guard removes it, also when this process is killed and drops nothing.
        let folder = folder.expect("a temporary folder can be made").keep();
        let [make, enter] = if geteuid().is_root() { OF_ROOT } else { OF_OTHERS };
        let (size, namespace) = match disk {
            Disk::Shared => (String::new(), ""),
            Disk::Own { bytes } => (bytes.to_string(), make),
        };
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard"]).arg(&folder).args([&size, namespace, GUARD_INSIDE]);
        // Outside of the folder, or it would kill itself; and in a group of its own, or Ctrl-C in
        // the terminal would end it before it has removed anything.
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut guard = command.spawn().expect("a shell starts");
        let alive = guard.stdin.take();
        let mut id = String::new();
        let mut said = BufReader::new(guard.stdout.take().expect("stdout is piped"));
        said.read_line(&mut id).expect("the guard's words can be read");
        let id = id.trim();
        assert!(!id.is_empty(), "no tmpfs may be mounted here");
        let user = User::unprivileged();
        // Only the guard's namespace knows the mount: this process sees an empty folder there, and
        // the kernel's view of the guard's root leads in.
        let (reachable, mut prefix) = match disk {
            Disk::Shared => (folder.clone(), Vec::new()),
            Disk::Own { .. } => {
                let inside = folder.strip_prefix("/").expect("an absolute path");
                let enter = format!("nsenter --target {id} {enter}");
                (Path::new("/proc").join(id).join("root").join(inside), words(&enter))
            }
        };
        prefix.extend(words("sh -c").into_iter().chain([r#"cd "$0" && exec "$@""#.to_owned()]));
        prefix.push(folder.to_str().expect("the path is text").to_owned());
        if let Some(User { user_id, group_id }) = user {
            let become_user =
                format!("setpriv --reuid={user_id} --regid={group_id} --clear-groups");
            prefix.extend(words(&become_user));
        }
        let instance = Self { folder, reachable, prefix, user, guard, alive };
        instance.give(&instance.reachable);
        instance
    }

    /// The folder as the servers see it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the servers' user the owner of a path.
    fn give(&self, path: &Path) {
        if let Some(User { user_id, group_id }) = self.user {
            chown(path, Some(user_id), Some(group_id)).expect("root may change owners");
        }
    }

    /// Writes a file that only the servers' user can read.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.reachable.join(name);
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let mut file = file.expect("the folder can be written to");
        file.write_all(content.as_ref()).expect("there is room");
        self.give(&path);
    }

    /// A command that runs in the folder, as the servers' user.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.prefix[0]);
        command.args(&self.prefix[1..]).arg(program);
        self.set_up(command)
    }

    /// The same as the user of this process.
    pub(crate) fn own_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder);
        self.set_up(command)
    }

    /// Nothing of the caller's but the path, and what is said goes to the instance's log.
    fn set_up(&self, mut command: Command) -> Command {
        let log = File::options().create(true).append(true).open(self.reachable.join("log"));
        let log = log.expect("the folder can be written to");
        let mut path = env::var_os("PATH").unwrap_or_default();
        // Where distributions put servers, which a user's own path often lacks.
        path.push(":/usr/sbin:/sbin");
        command.process_group(0).env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8");
        command.env("HOME", &self.folder).env("TMPDIR", &self.folder);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
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
        let log = fs::read(self.reachable.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(8_192)..]).into_owned()
    }

    /// Leaves so much room, or none, on a disk of the instance's own.
    pub(crate) fn fill_disk(&self, left_bytes: u64) {
        assert_ne!(self.reachable, self.folder, "this instance has no disk of its own");
        let file = File::options().create(true).append(true).open(self.reachable.join("ballast"));
        let mut file = file.expect("a file can be made");
        // A page at a time, since the servers write meanwhile and change what is left.
        while self.free_bytes() > left_bytes {
            if let Err(error) = file.write_all(&[0; 4096]) {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                return;
            }
        }
    }

    fn free_bytes(&self) -> u64 {
        let disk = statvfs(&self.reachable).expect("the disk can be asked");
        disk.f_bavail * disk.f_frsize
    }

    /// Gives the room back that [`Self::fill_disk`] took.
    pub(crate) fn free_disk(&self) {
        fs::remove_file(self.reachable.join("ballast")).expect("the disk was filled");
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

    /// Sends a signal to every process of the instance, again as long as new ones turn up; to
    /// which.
    pub(crate) fn signal(&self, signal: Signal) -> Vec<Pid> {
        let mut reached = Vec::new();
        // One round is not enough: a server may have forked after the list was read.
        loop {
            let found = self.processes();
            let new: Vec<Pid> = found.into_iter().filter(|id| !reached.contains(id)).collect();
            if new.is_empty() {
                return reached;
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
        let killed = self.signal(Signal::KILL);
        self.until("everything has ended", || killed.iter().all(|id| has_ended(*id)));
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
        // The end of the pipe is the word to the guard; once that has ended, nothing is left.
        drop(self.alive.take());
        self.guard.wait().expect("the guard is a child of this process");
    }
}

/// Whether every thread of a process has, and so all that it had open is closed. Nobody may have
/// waited for it.
fn has_ended(id: Pid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", id.as_raw_pid())) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state comes behind the name, which may hold anything.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    })
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Whether a server can have a disk of its own here: containers often forbid it.
pub fn may_mount() -> bool {
    let [make, _] = if geteuid().is_root() { OF_ROOT } else { OF_OTHERS };
    let place = tempfile::tempdir().expect("a temporary folder can be made");
    let mut command = Command::new("sh");
    command.args(["-c", r#"$0 mount -t tmpfs tmpfs "$1""#, make]).arg(place.path());
    command.output().expect("a shell starts").status.success()
}
