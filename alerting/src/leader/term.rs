//! The time in which a process leads, and whose turn it is meanwhile: a few tenants are evaluated
//! side by side, so that one whose evaluation takes long holds no other up.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::resume_unwind,
    time::Duration,
};

use futures::future::BoxFuture;
use logweir_core::identity::Tenant;
use logweir_storage::StorageError;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Tenants that are evaluated side by side.
// More would gain nothing: they wait for the same storage, and callers wait beside them.
const AT_WORK_MAX: usize = 2;
/// An evaluation that takes longer does not go on any more.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What came of a tenant's evaluation; `E` is kept of it from one to the next.
pub(super) struct Evaluated<E> {
    pub(super) tenant: Tenant,
    /// None if it could not be made.
    pub(super) evaluator: Option<E>,
    /// False if this process leads no longer.
    pub(super) outcome: Result<bool, StorageError>,
}

/// The time in which this process leads; what works for it ends with it.
pub(super) struct Term<E> {
    pub(super) epoch: i64,
    pub(super) stop: CancellationToken,
    /// Of the tenants that are not at work.
    evaluators: BTreeMap<Tenant, E>,
    /// Those whose turn is yet to come.
    waiting: VecDeque<Tenant>,
    // Tasks, which go on between the rounds: a future that nobody asks would keep what it holds or is
    // given, a connection or the lock of a row, for which the next round then waits for ever.
    at_work: JoinSet<Evaluated<E>>,
    /// Those at work whose end was not seen yet, and when each was begun.
    busy: BTreeMap<Tenant, Instant>,
}

impl<E> Drop for Term<E> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<E: Send + 'static> Term<E> {
    pub(super) fn new(epoch: i64, stop: CancellationToken) -> Self {
        Self {
            epoch,
            stop,
            evaluators: BTreeMap::new(),
            waiting: VecDeque::new(),
            at_work: JoinSet::new(),
            busy: BTreeMap::new(),
        }
    }

    /// Gives each of these tenants a turn, those first that have waited since the last round. One that
    /// is still at work is left out.
    pub(super) fn line_up(&mut self, tenants: Vec<Tenant>) {
        let is_new =
            |tenant: &Tenant| !self.waiting.contains(tenant) && !self.busy.contains_key(tenant);
        let new: Vec<Tenant> = tenants.iter().filter(|tenant| is_new(tenant)).cloned().collect();
        self.waiting.retain(|tenant| tenants.contains(tenant));
        self.waiting.extend(new);
    }

    /// Evaluates whoever has a turn, until all had theirs or the time is over; who is at work then
    /// goes on with the next round. False if this process leads no longer. One tenant's trouble is none
    /// of another's: the last error is returned.
    pub(super) async fn evaluate(
        &mut self,
        until: Instant,
        begin: impl Fn(Tenant, Option<E>) -> BoxFuture<'static, Evaluated<E>>,
    ) -> Result<bool, StorageError> {
        let mut failed = None;
        loop {
            while self.at_work.len() < AT_WORK_MAX
                && let Some(tenant) = self.waiting.pop_front()
            {
                let evaluator = self.evaluators.remove(&tenant);
                self.busy.insert(tenant.clone(), Instant::now());
                self.at_work.spawn(begin(tenant, evaluator));
            }
            let Ok(Some(ended)) = timeout_at(until, self.at_work.join_next()).await else { break };
            // They are aborted only when the term ends.
            let done = ended.unwrap_or_else(|error| resume_unwind(error.into_panic()));
            self.busy.remove(&done.tenant);
            self.evaluators.extend(done.evaluator.map(|evaluator| (done.tenant, evaluator)));
            match done.outcome {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(true), Err)
    }

    /// Whether an evaluation takes so long that somebody should look why.
    pub(super) fn is_stuck(&self) -> bool {
        self.busy.values().any(|begun| begun.elapsed() > STUCK_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures::FutureExt as _;
    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::*;

    fn tenants(names: &[&str]) -> Vec<Tenant> {
        names.iter().map(|name| Tenant::new(name).unwrap()).collect()
    }

    /// Tenants that are `slow` go on until they may end.
    struct Bench {
        term: Term<u32>,
        slow: &'static [&'static str],
        may_end: Arc<Semaphore>,
        evaluated: Arc<Mutex<Vec<String>>>,
    }

    impl Bench {
        fn new(slow: &'static [&'static str]) -> Self {
            Self {
                term: Term::new(1, CancellationToken::new()),
                slow,
                may_end: Arc::new(Semaphore::new(0)),
                evaluated: Arc::default(),
            }
        }

        /// Whom a round evaluates to the end, and how often each had been before.
        async fn round(&mut self, names: &[&str]) -> Vec<String> {
            self.term.line_up(tenants(names));
            let (slow, may_end) = (self.slow, Arc::clone(&self.may_end));
            let evaluated = Arc::clone(&self.evaluated);
            let begin = move |tenant: Tenant, evaluator: Option<u32>| {
                let (may_end, evaluated) = (Arc::clone(&may_end), Arc::clone(&evaluated));
                async move {
                    if slow.contains(&tenant.as_str()) {
                        may_end.acquire().await.unwrap().forget();
                    }
                    let before = evaluator.unwrap_or_default();
                    evaluated.lock().push(format!("{tenant} {before}"));
                    Evaluated { tenant, evaluator: Some(before + 1), outcome: Ok(true) }
                }
                .boxed()
            };
            let until = Instant::now() + Duration::from_secs(2);
            assert!(self.term.evaluate(until, begin).await.unwrap());
            std::mem::take(&mut *self.evaluated.lock())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_tenant_holds_no_other_up_and_goes_on_in_the_next_round() {
        let mut bench = Bench::new(&["b"]);
        assert_eq!(bench.round(&["a", "b", "c"]).await, ["a 0", "c 0"]);
        assert_eq!(bench.round(&["a", "b", "c"]).await, ["a 1", "c 1"]);
        bench.may_end.add_permits(1);
        assert_eq!(bench.round(&["a", "b", "c"]).await, ["b 0", "a 2", "c 2"]);
        bench.may_end.add_permits(1);
        assert_eq!(bench.round(&["a", "b"]).await, ["a 3", "b 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_had_no_turn_comes_first_and_who_is_gone_has_none() {
        let mut bench = Bench::new(&["s1", "s2"]);
        assert_eq!(bench.round(&["s1", "s2", "x", "y"]).await, [""; 0]);
        bench.may_end.add_permits(1);
        assert_eq!(bench.round(&["a", "s1", "s2", "y"]).await, ["s1 0", "y 0", "a 0"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_at_work_goes_on_between_the_rounds_and_long_work_is_noticed() {
        let mut bench = Bench::new(&["b"]);
        assert_eq!(bench.round(&["a", "b"]).await, ["a 0"]);
        assert!(!bench.term.is_stuck());
        tokio::time::sleep(STUCK_AFTER).await;
        assert!(bench.term.is_stuck());
        bench.may_end.add_permits(1);
        let ended = async {
            while bench.evaluated.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(STUCK_AFTER, ended).await.unwrap();
        // Its end is seen with the next round, for which it is left out.
        assert_eq!(bench.round(&["a", "b"]).await, ["b 0", "a 1"]);
        assert!(!bench.term.is_stuck());
    }

    #[tokio::test]
    async fn the_trouble_of_one_is_none_of_another() {
        let mut term: Term<u32> = Term::new(1, CancellationToken::new());
        term.line_up(tenants(&["a", "b", "c"]));
        let begin = |tenant: Tenant, _| {
            let outcome = match tenant.as_str() {
                "a" => Err(StorageError::Unavailable("away".into())),
                _ => Ok(true),
            };
            async move { Evaluated { tenant, evaluator: Some(1), outcome } }.boxed()
        };
        let until = Instant::now() + Duration::from_secs(600);
        assert!(term.evaluate(until, begin).await.is_err());
        assert_eq!(term.evaluators.len(), 3);
        term.line_up(tenants(&["a"]));
        let lost = |tenant, _| {
            async move { Evaluated { tenant, evaluator: None::<u32>, outcome: Ok(false) } }.boxed()
        };
        assert!(!term.evaluate(until, lost).await.unwrap());
    }
}
