//! Matches logs against the filters of live tails. What is dear is matched by one thread of its own,
//! of low priority, that serves tenants by turns: so it holds up neither the threads that answer
//! everybody nor another tenant's tails.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use logweir_core::{
    fairness::queue::FairQueue,
    filter::{Expression, Filter},
    identity::Tenant,
};
use parking_lot::{Condvar, Mutex};
use rustix::process::setpriority_process;
use tokio::sync::oneshot;
use tracing::warn;

/// So many looks, of one term at one log each, are done where they are asked for: they take less
/// than a millisecond, and most tails ask for no more.
const CHEAP_LOOKS_MAX: u64 = 2_000;
/// What a turn of a tenant earns, in looks: some milliseconds.
const TURN_LOOKS: u64 = 20_000;
/// Added to the priority's number, which makes it less: ingest and queries go first.
const NICENESS: i32 = 10;

/// The handle; the thread ends with the last of them.
pub(crate) struct Matcher(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    waiting: FairQueue<Job>,
    closed: bool,
}

type Job = Box<dyn FnOnce() + Send>;

impl Matcher {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let state = State { waiting: FairQueue::new(TURN_LOOKS), closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), arrived: Condvar::new() });
        let work = Arc::clone(&shared);
        thread::Builder::new().name("tail matcher".into()).spawn(move || work.run())?;
        Ok(Self(shared))
    }

    /// What comes of work that takes so many looks; none if it panicked. May be cancelled.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        tenant: &Tenant,
        looks: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if looks <= CHEAP_LOOKS_MAX {
            return Some(work());
        }
        let (answer, answered) = oneshot::channel();
        let job = move || {
            // Whoever asked may have left.
            if !answer.is_closed() {
                drop(answer.send(work()));
            }
        };
        self.0.state.lock().waiting.push(tenant.clone(), looks, Box::new(job));
        self.0.arrived.notify_one();
        answered.await.ok()
    }
}

impl Drop for Matcher {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.arrived.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        // Without a process named it is this thread's: Linux keeps a priority for each.
        if let Err(error) = setpriority_process(None, NICENESS) {
            warn!(%error, "filters of live tails are matched at the priority of everything else");
        }
        while let Some(job) = self.next() {
            // The thread goes on for the others; whoever asked sees its answer dropped.
            drop(catch_unwind(AssertUnwindSafe(job)));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.waiting.pop() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            self.arrived.wait(&mut state);
        }
    }
}

/// How many terms a filter has, at least 1.
pub(crate) fn terms(filter: &Filter) -> u64 {
    fn count(expression: &Expression) -> u64 {
        match expression {
            Expression::And(all) | Expression::Or(all) => all.iter().map(count).sum(),
            Expression::Not(inner) => count(inner),
            Expression::Term(_) => 1,
        }
    }
    count(&filter.expression).max(1)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread::ThreadId};

    use futures::FutureExt;
    use logweir_core::timestamp::Timestamp;

    use super::*;

    const DEAR: u64 = CHEAP_LOOKS_MAX + 1;

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    async fn thread_of(matcher: &Matcher, looks: u64) -> Option<ThreadId> {
        matcher.run(&tenant("a"), looks, || thread::current().id()).await
    }

    #[tokio::test]
    async fn what_is_dear_is_matched_elsewhere() {
        let matcher = Matcher::start().unwrap();
        let here = thread::current().id();
        assert_eq!(thread_of(&matcher, CHEAP_LOOKS_MAX).await, Some(here));
        assert_ne!(thread_of(&matcher, DEAR).await, Some(here));
    }

    #[tokio::test]
    async fn a_tenants_many_filters_wait_behind_each_other() {
        let matcher = Matcher::start().unwrap();
        let (go_on, may_go_on) = mpsc::sync_channel::<()>(1);
        let (done, order) = mpsc::sync_channel(51);
        let (a, b) = (tenant("a"), tenant("b"));
        let held = matcher.run(&b, DEAR, move || may_go_on.recv().is_ok());
        let mut all = vec![held.boxed()];
        for (tenant, name, count) in [(&b, "b", 50), (&a, "a", 1)] {
            for _ in 0..count {
                let done = done.clone();
                let work = move || done.send(name).is_ok();
                all.push(matcher.run(tenant, TURN_LOOKS, work).boxed());
            }
        }
        let release = async { go_on.send(()).expect("the first job waits for it") };
        futures::join!(futures::future::join_all(all), release);
        let place = order.try_iter().position(|name| name == "a").unwrap();
        assert!(place <= 2, "{place}");
    }

    #[tokio::test]
    async fn work_that_panics_ends_only_itself() {
        let matcher = Matcher::start().unwrap();
        let a = tenant("a");
        let broken = matcher.run(&a, DEAR, || panic!("as the test asks"));
        assert_eq!(broken.await, None::<()>);
        assert!(thread_of(&matcher, DEAR).await.is_some());
    }

    #[test]
    fn terms_are_counted_wherever_they_stand() {
        for (text, count) in [("", 1), ("a", 1), ("a -b (c OR level>=error)", 4)] {
            let filter = Filter::parse(text, Timestamp::EPOCH).unwrap();
            assert_eq!(terms(&filter), count, "{text}");
        }
    }
}
