//! The one supervisor: every task has a name and a declared fate, and shutting down names those
//! that will not stop.

use std::{
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

/// What the end of a task means to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It may end at any time.
    MayEnd,
    /// The process cannot do without it: its end before shutdown stops the process as failed.
    Essential,
}

/// Spawns and watches tasks. Cheap to clone. A task that panics stops the process as failed,
/// whatever its fate: the panic is a defect, and a supervisor outside can start afresh.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<&'static str, usize>,
    failed: Option<String>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process is to stop. Tasks end by themselves when they see it.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task on the async pool.
    #[allow(clippy::disallowed_methods, reason = "this is the supervisor")]
    pub fn spawn<F>(&self, name: &'static str, fate: Fate, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Counted here and not in the task, which may not have run when somebody asks who is left.
        // Moved into the task, so that one that is dropped without running is counted off as well.
        let ending = Ending::new(self.clone(), name, fate);
        self.tracker.spawn(async move {
            let outcome = caught(task).await;
            ending.report(outcome.is_err());
        });
    }

    /// Asks every task to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until every task has ended, at most `deadline` after the stop was asked for. Returns
    /// the names of those that had not, and why the process failed, if it did.
    pub async fn wait(&self, deadline: Duration) -> TasksEnd {
        self.stop.cancelled().await;
        // A tracker that is open waits for ever, even when it has no tasks.
        self.tracker.close();
        let timed_out = tokio::time::timeout(deadline, self.tracker.wait()).await.is_err();
        let state = self.state();
        let laggards = if timed_out { state.running.keys().copied().collect() } else { Vec::new() };
        TasksEnd { laggards, failed: state.failed.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the tasks of a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TasksEnd {
    /// Tasks still running at the deadline.
    pub laggards: Vec<&'static str>,
    /// What failed, if something did.
    pub failed: Option<String>,
}

struct Ending {
    tasks: Tasks,
    name: &'static str,
    fate: Fate,
}

impl Ending {
    fn new(tasks: Tasks, name: &'static str, fate: Fate) -> Self {
        *tasks.state().running.entry(name).or_default() += 1;
        Self { tasks, name, fate }
    }

    fn report(&self, panicked: bool) {
        let early = self.fate == Fate::Essential && !self.tasks.stop.is_cancelled();
        if panicked || early {
            let how = if panicked { "panicked" } else { "ended unexpectedly" };
            error!(task = self.name, "{how}; stopping");
            // The first failure is the cause; what ends after it ends because of it.
            self.tasks.state().failed.get_or_insert(format!("task {} {how}", self.name));
            self.tasks.stop.cancel();
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.tasks.state();
        if let Some(count) = state.running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                state.running.remove(self.name);
            }
        }
    }
}

async fn caught<F: Future<Output = ()>>(task: F) -> Result<(), ()> {
    use futures::FutureExt;
    AssertUnwindSafe(task).catch_unwind().await.map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_essential_task_that_ends_stops_the_process() {
        let tasks = Tasks::new();
        tasks.spawn("heart", Fate::Essential, async {});
        let end = tasks.wait(Duration::from_secs(1)).await;
        assert_eq!(end.failed.as_deref(), Some("task heart ended unexpectedly"));
        assert!(end.laggards.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_stops_the_process() {
        let tasks = Tasks::new();
        tasks.spawn("bug", Fate::MayEnd, async { panic!("on purpose") });
        let end = tasks.wait(Duration::from_secs(1)).await;
        assert_eq!(end.failed.as_deref(), Some("task bug panicked"));
    }

    #[tokio::test(start_paused = true)]
    async fn laggards_are_named() {
        let tasks = Tasks::new();
        tasks.spawn("quick", Fate::MayEnd, async {});
        tasks.spawn("stuck", Fate::Essential, std::future::pending());
        tasks.stop();
        let end = tasks.wait(Duration::from_secs(1)).await;
        assert_eq!(end, TasksEnd { laggards: vec!["stuck"], failed: None });
    }

    #[tokio::test(start_paused = true)]
    async fn a_clean_stop_fails_nothing() {
        let tasks = Tasks::new();
        let stop = tasks.stop_token();
        tasks.spawn("heart", Fate::Essential, async move { stop.cancelled().await });
        tasks.stop();
        let end = tasks.wait(Duration::from_secs(1)).await;
        assert_eq!(end, TasksEnd { laggards: vec![], failed: None });
    }
}
