//! The time in which a process leads, and whose turn it is meanwhile: a few tenants are evaluated
//! side by side, so that one whose evaluation takes long holds no other up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use logweir_core::identity::Tenant;
use logweir_storage::StorageError;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Tenants that are evaluated side by side.
// More would gain nothing: they wait for the same storage.
const AT_WORK_MAX: usize = 4;

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
    at_work: FuturesUnordered<BoxFuture<'static, Evaluated<E>>>,
    /// The names of those at work.
    busy: BTreeSet<Tenant>,
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
            at_work: FuturesUnordered::new(),
            busy: BTreeSet::new(),
        }
    }

    /// Gives each of these tenants a turn, those first that have waited since the last round. One that
    /// is still at work is left out.
    pub(super) fn line_up(&mut self, tenants: Vec<Tenant>) {
        let is_new =
            |tenant: &Tenant| !self.waiting.contains(tenant) && !self.busy.contains(tenant);
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
                self.busy.insert(tenant.clone());
                self.at_work.push(begin(tenant, evaluator));
            }
            let Ok(Some(done)) = timeout_at(until, self.at_work.next()).await else { break };
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
        let mut bench = Bench::new(&["s1", "s2", "s3", "s4"]);
        let all = ["s1", "s2", "s3", "s4", "x", "y"];
        assert_eq!(bench.round(&all).await, [""; 0]);
        bench.may_end.add_permits(1);
        assert_eq!(bench.round(&["a", "s1", "s2", "s3", "s4", "y"]).await, ["s1 0", "y 0", "a 0"]);
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
