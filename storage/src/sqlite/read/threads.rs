//! Threads that read what tenants ask for, of a lower priority than what brings logs and judges them: a
//! search takes a core for as long as it lasts, and what takes less, an answer or a write, would wait
//! for it each time.

use std::{io, sync::Once};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// How much the priority is lowered, of 19 at most.
// While it has something to do, a thread of ordinary priority then takes three times as much of a core
// as one of these (Linux's table of weights: 1024 and 335). The more it is, the longer people wait for a
// search while logs come in as fast as they go, and the less it finds in its 5 s.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// The threads; begun when there is something to read, ended when idle.
pub(super) struct ReadThreads {
    handle: Handle,
    // One that drives nothing, for the sake of its blocking threads alone. None once dropped.
    runtime: Option<Runtime>,
}

impl ReadThreads {
    pub(super) fn new() -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.thread_name("reader").on_thread_start(lower_priority).build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs a read. How many run at a time is bounded by who calls.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn_blocking(read)
    }
}

impl Drop for ReadThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait, which a thread that drives tasks must not; reads that go on end with their
            // snapshot.
            runtime.shutdown_background();
        }
    }
}

// Of the calling thread alone, as only Linux can; elsewhere all threads stay equal.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::warn!(%error, "searches take as much of the processor as what brings logs");
        });
    }
}
