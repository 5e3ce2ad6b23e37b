//! The one place that touches the outside directly: the clock, the environment, randomness, other
//! processes, the machine's name and stderr. Everything else takes these as arguments.

use std::{
    cell::Cell,
    fs, io,
    io::{Write, stderr},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Called with each line of text that a person should read.
pub(crate) type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// Reads a variable of the environment; none if it is empty or not text.
type ReadVariable = dyn Fn(&str) -> Option<String> + Send + Sync;
/// Reads a file of text.
type ReadFile = dyn Fn(&Path) -> io::Result<String> + Send + Sync;

/// What settings come from, apart from code.
#[derive(Clone)]
pub(crate) struct ProcessContext {
    pub(crate) variable: Arc<ReadVariable>,
    pub(crate) file: Arc<ReadFile>,
    pub(crate) host: String,
    pub(crate) process_id: u32,
}

impl ProcessContext {
    /// Those of this process.
    pub(crate) fn real() -> Self {
        Self {
            variable: Arc::new(environment),
            file: Arc::new(|path| fs::read_to_string(path)),
            host: host_name(),
            process_id: process_id(),
        }
    }
}

/// Nanoseconds since 1970-01-01 UTC by the machine's clock.
#[allow(clippy::disallowed_methods, reason = "the one place that touches the outside")]
pub(crate) fn now_unix_nano() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// A point on the clock that never jumps.
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the one place that touches the outside")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A random share, `0.0..1.0`.
pub(crate) fn random_share() -> f64 {
    share_of(u64::from_le_bytes(random_bytes()))
}

/// The share that random bits stand for, by as many of them as it can tell apart.
pub(crate) fn share_of(bits: u64) -> f64 {
    const BITS: u32 = f64::MANTISSA_DIGITS;
    (bits >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64
}

/// Random bytes, for ids. A system that gives none leaves only what differs between calls.
pub(crate) fn random_bytes<const SIZE: usize>() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    // A program must not fail for its logs: ids that are only unlikely to meet will do.
    if getrandom::fill(&mut bytes).is_err() {
        let moment = now_unix_nano().to_le_bytes().into_iter().chain(process_id().to_le_bytes());
        bytes.iter_mut().zip(moment.cycle()).for_each(|(byte, other)| *byte = other);
    }
    bytes
}

/// The number of this process, which a fork changes.
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// The name of this machine; empty if it tells none.
fn host_name() -> String {
    let by_kernel = fs::read_to_string("/proc/sys/kernel/hostname");
    // Systems without /proc have the command.
    let by_command = || {
        let output = Command::new("uname").arg("-n").output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    by_kernel.ok().or_else(by_command).unwrap_or_default().trim().to_owned()
}

/// The boot of the machine and the namespace within which the number of a process is unique; empty
/// if the system does not tell.
pub(crate) fn process_namespace() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    match (boot, fs::read_link("/proc/self/ns/pid")) {
        (Ok(boot), Ok(namespace)) => format!("{}/{}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}

/// When a process started, as the kernel counts it; none if it is gone, or dead and only not yet
/// buried by its parent.
pub(crate) fn process_start(process_id: u32) -> io::Result<Option<String>> {
    match fs::read_to_string(format!("/proc/{process_id}/stat")) {
        Ok(text) => Ok(start_of_living(&text)),
        Err(error) if is_of_no_process(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error says that there is no such process, or none any more. One of another kind, as
/// where no file is free, says nothing about it.
fn is_of_no_process(error: &io::Error) -> bool {
    /// ESRCH of Linux: the process ended between the opening of its file and the reading.
    const NO_SUCH_PROCESS: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_SUCH_PROCESS)
}

fn start_of_living(text: &str) -> Option<String> {
    // The name of the program, in brackets, may hold anything.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    // The state is field 3, the start field 22.
    fields.nth(22 - 3 - 1).filter(|_| !is_dead).map(ToOwned::to_owned)
}

/// How long ago a file or folder was changed; nothing if that lies ahead.
pub(crate) fn age_of(path: &Path) -> io::Result<Duration> {
    Ok(fs::symlink_metadata(path)?.modified()?.elapsed().unwrap_or_default())
}

/// Makes a file one that was changed now.
#[allow(clippy::disallowed_methods, reason = "the one place that touches the outside")]
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    fs::File::options().write(true).open(path)?.set_modified(SystemTime::now())
}

/// Writes notices to stderr.
pub(crate) fn notice_on_stderr() -> Notice {
    Arc::new(|text| {
        // A program without stderr has nobody to tell, and must not fail for it.
        writeln!(stderr(), "logweir: {text}").ok();
    })
}

/// Runs the program's own code, whose panic must not take the sending thread along.
pub(crate) fn catch_panic<T>(call: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).ok()
}

thread_local! {
    static IN_SDK: Cell<bool> = const { Cell::new(false) };
    static IN_HOOK: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as the library's own: what it logs must not come back to it.
pub(crate) fn mark_sdk_thread() {
    IN_SDK.with(|flag| flag.set(true));
}

/// Whether this thread is the library's own.
pub(crate) fn is_sdk_thread() -> bool {
    IN_SDK.try_with(Cell::get).unwrap_or(false)
}

/// Runs the program's hook. `None` if a hook runs on this thread already, which has logged itself;
/// `Some(None)` if it panics.
pub(crate) fn run_hook<T>(call: impl FnOnce() -> T) -> Option<Option<T>> {
    // A hook that logs would be called for its own log, and so on without end.
    if IN_HOOK.try_with(|flag| flag.replace(true)).unwrap_or(true) {
        return None;
    }
    let result = catch_panic(call);
    IN_HOOK.try_with(|flag| flag.set(false)).ok();
    Some(result)
}
