//! The one place that touches the outside directly: the clock, the environment, randomness, the
//! machine's name and stderr. Everything else takes these as arguments.

use std::{
    cell::Cell,
    io::{Write, stderr},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Where the library says what a person should know.
pub(crate) type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// Nanoseconds since 1970-01-01 UTC by the machine's clock.
#[allow(clippy::disallowed_methods, reason = "this is the rim")]
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

/// A variable of the environment; none if it is empty or not text.
#[allow(clippy::disallowed_methods, reason = "this is the rim")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A random share, `0.0..1.0`.
pub(crate) fn random_share() -> f64 {
    rand::random()
}

/// Random bytes, for ids.
pub(crate) fn random_bytes<const SIZE: usize>() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    rand::fill(&mut bytes);
    bytes
}

/// The number of this process, which a fork changes.
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Says it on stderr.
pub(crate) fn notice_on_stderr() -> Notice {
    Arc::new(|text| {
        // A program without stderr has nobody to tell, and must not fail for it.
        writeln!(stderr(), "logweir: {text}").ok();
    })
}

/// Runs the program's own code, whose panic must not take the sending thread along.
pub(crate) fn survive<T>(call: impl FnOnce() -> T) -> Option<T> {
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

/// Runs the program's own code, unless it is that code which calls: none then. None as well if it
/// panics, told apart by the outer.
pub(crate) fn outside_itself<T>(call: impl FnOnce() -> T) -> Option<Option<T>> {
    if IN_HOOK.try_with(|flag| flag.replace(true)).unwrap_or(true) {
        return None;
    }
    let result = survive(call);
    IN_HOOK.try_with(|flag| flag.set(false)).ok();
    Some(result)
}
