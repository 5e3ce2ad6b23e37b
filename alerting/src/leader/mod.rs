//! Of all alerting processes one leads: it evaluates the rules of every tenant, keeps what they
//! found and has people told.
//!
//! What an evaluation found and what is to be told of it are committed together; only then are the
//! channels' workers woken. A commit that fails is tried again with the next evaluation, and
//! nothing of it is forgotten meanwhile. A process that loses the lead drops everything: the next
//! leader starts from what was committed.

mod heartbeat;
pub mod settings;
mod tenant_evaluator;
mod term;
mod workers;

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use futures::FutureExt as _;
use logweir_core::{
    identity::Tenant,
    runtime::tasks::{Fate, Tasks},
};
use logweir_incident::rule::Rule;
use logweir_storage::{StorageError, WaitingAction};
use metrics::{counter, gauge, histogram};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use self::{
    heartbeat::Heartbeat,
    settings::Settings,
    tenant_evaluator::TenantEvaluator,
    term::{Evaluated, Term},
    workers::WorkerStarter,
};
use crate::{
    dependencies::Dependencies,
    jobs::{self, JobDependencies},
    yaml::RuleFiles,
};

/// How long a leader may be silent until another takes over: several evaluations, so that a slow
/// database does not make the lead change hands.
const LEASE: Duration = Duration::from_secs(10);
/// Between two evaluations, and between two tries to lead.
const EVALUATE_EVERY: Duration = Duration::from_secs(2);
/// How long what is being told may take to end when the process stops: longer than a channel's
/// call.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the process waits for storage to take the lead back: the lease ends it otherwise.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(2);
/// Actions that are taken with one evaluation, tenants by turns; the rest wait for the next.
const ACTIONS_MAX: usize = 200;

/// Starts alerting: it leads, or stands by until it may. An error says what of the settings is
/// wrong.
pub fn start(dependencies: Dependencies, tasks: &Tasks) -> Result<(), String> {
    let network = dependencies.config.network()?;
    let every = Duration::from_secs(dependencies.config.heartbeat_seconds.max(1).into());
    let heartbeat = Heartbeat::new(&dependencies.config.heartbeat_url_file, every, &network)?;
    let job_dependencies = JobDependencies {
        read: Arc::clone(&dependencies.read_for_tenants),
        alerts: Arc::clone(&dependencies.alerts),
        jobs: Arc::clone(&dependencies.jobs),
        network: network.clone(),
        clock: Arc::clone(&dependencies.clock),
    };
    jobs::start(&job_dependencies, tasks);
    let starter = WorkerStarter {
        dependencies: dependencies.clone(),
        network,
        tasks: tasks.clone(),
        running: TaskTracker::new(),
    };
    let leader = Leader {
        dependencies,
        tasks: tasks.clone(),
        starter,
        heartbeat,
        files: RuleFiles::default(),
        texts: BTreeMap::new(),
    };
    let stop = tasks.stop_token();
    // Essential: a process whose alerting ended would look well and tell nobody anything.
    tasks.spawn("alerting", Fate::Essential, async move {
        let (dependencies, workers) = (leader.dependencies.clone(), leader.starter.running.clone());
        stop.run_until_cancelled(leader.run()).await;
        // Closed first, or waiting for those that run would never end.
        workers.close();
        // What is on its way is recorded before another may lead, or the other would repeat it.
        let drained = while_renewing(renew(&dependencies), workers.wait());
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
        // Best effort: otherwise another waits until the lease is over.
        let resign = dependencies.alerts.resign(&dependencies.holder);
        let resigned = tokio::time::timeout(RESIGN_TIMEOUT, resign).await;
        if drained.is_err() || !matches!(resigned, Ok(Ok(()))) {
            info!("alerting could not be left in order; what was being told may be told again");
        }
    });
    Ok(())
}

/// Does what may take longer than the lease, which is renewed meanwhile. Both share a thread: the
/// work must not block it.
async fn while_renewing<T>(
    renew: impl Future<Output = Infallible>,
    work: impl Future<Output = T>,
) -> T {
    tokio::select! {
        done = work => done,
        never = renew => match never {},
    }
}

/// Keeps the lead. Whether that worked shows when something is committed.
async fn renew(dependencies: &Dependencies) -> Infallible {
    loop {
        tokio::time::sleep(EVALUATE_EVERY).await;
        if let Err(error) = dependencies.alerts.lead(&dependencies.holder, LEASE).await {
            counter!("logweir_alerting_renewals_failed_total").increment(1);
            debug!(%error, "the lead of alerting could not be renewed");
        }
    }
}

/// Leads while it may, and evaluates while it leads.
struct Leader {
    dependencies: Dependencies,
    tasks: Tasks,
    starter: WorkerStarter,
    heartbeat: Heartbeat,
    files: RuleFiles,
    /// The rule files as they were read last.
    texts: BTreeMap<String, Option<String>>,
}

/// What the evaluations of a round are done with.
struct Turn {
    dependencies: Dependencies,
    starter: WorkerStarter,
    file_rules: Vec<Rule>,
    epoch: i64,
    stop: CancellationToken,
}

impl Turn {
    /// Evaluates a tenant, whose evaluator is made if there is none.
    async fn evaluate(
        self: Arc<Self>,
        tenant: Tenant,
        mut evaluator: Option<TenantEvaluator>,
        actions: Vec<WaitingAction>,
    ) -> Evaluated<TenantEvaluator> {
        let outcome = self.try_evaluate(&tenant, &mut evaluator, actions).await;
        Evaluated { tenant, evaluator, outcome }
    }

    /// False if this process leads no longer.
    async fn try_evaluate(
        &self,
        tenant: &Tenant,
        evaluator: &mut Option<TenantEvaluator>,
        actions: Vec<WaitingAction>,
    ) -> Result<bool, StorageError> {
        // Read anew each time: a rule that somebody sets holds two seconds later, on whichever
        // process.
        let stored = self.dependencies.alerts.list_all_settings(tenant).await?;
        let settings = Settings::of(&stored, &self.file_rules);
        let evaluator = match evaluator {
            Some(evaluator) => evaluator,
            None => evaluator.insert(
                TenantEvaluator::load(&self.dependencies, tenant, self.epoch, &settings).await?,
            ),
        };
        evaluator.take_settings(&self.starter, settings, &self.stop);
        evaluator.evaluate(&self.dependencies, actions).await
    }
}

impl Leader {
    async fn run(mut self) {
        let mut term: Option<Term<TenantEvaluator>> = None;
        let mut is_failing = false;
        loop {
            let begun = Instant::now();
            let led = self.dependencies.alerts.lead(&self.dependencies.holder, LEASE).await;
            // Where storage does not answer the term goes on: nothing can be committed meanwhile,
            // and to load everything anew would take longer than most troubles last.
            term = self.follow(term, &led);
            let evaluated = match (&mut term, led) {
                (Some(term), Ok(_)) => {
                    let dependencies = self.dependencies.clone();
                    while_renewing(renew(&dependencies), self.evaluate(term)).await
                }
                (_, led) => led.map(drop),
            };
            if let Err(error) = &evaluated
                && !is_failing
            {
                warn!("alerting waits for storage: {error}");
            }
            is_failing = evaluated.is_err();
            if term.as_ref().is_some_and(|term| !term.is_stuck()) && !is_failing {
                self.heartbeat.evaluated(&self.tasks);
            }
            gauge!("logweir_alerting_leads").set(f64::from(u8::from(term.is_some())));
            // What the evaluation took comes off the pause, so that one starts every two seconds.
            let spent = begun.elapsed();
            histogram!("logweir_alerting_evaluation_seconds").record(spent.as_secs_f64());
            tokio::time::sleep(EVALUATE_EVERY.saturating_sub(spent)).await;
        }
    }

    /// A new term where the lead is new, the same where it is kept, and while storage does not say
    /// who leads.
    fn follow(
        &self,
        term: Option<Term<TenantEvaluator>>,
        led: &Result<Option<i64>, StorageError>,
    ) -> Option<Term<TenantEvaluator>> {
        match (term, led) {
            (Some(term), Ok(Some(epoch))) if term.epoch == *epoch => Some(term),
            (_, Ok(Some(epoch))) => {
                info!(epoch, "this process leads alerting");
                let stop = self.tasks.stop_token().child_token();
                Some(Term::new(*epoch, stop))
            }
            (Some(_), Ok(None)) => {
                warn!("another process leads alerting now");
                None
            }
            (None, Ok(None)) => None,
            (term, Err(_)) => term,
        }
    }

    /// Evaluates the tenants, by turns.
    async fn evaluate(&mut self, term: &mut Term<TenantEvaluator>) -> Result<(), StorageError> {
        self.read_files().await;
        let mut actions: BTreeMap<Tenant, Vec<WaitingAction>> = BTreeMap::new();
        // Of all tenants with one query: most tenants have none. After every evaluation that has
        // ended, and for those that begin now alone: what is done is listed no more.
        for waiting in self.dependencies.alerts.list_actions(ACTIONS_MAX).await? {
            actions.entry(waiting.tenant.clone()).or_default().push(waiting);
        }
        term.line_up(self.tenants(actions.keys()).await?);
        let turn = Arc::new(Turn {
            dependencies: self.dependencies.clone(),
            starter: self.starter.clone(),
            file_rules: self.files.rules().cloned().collect(),
            epoch: term.epoch,
            stop: term.stop.clone(),
        });
        let begin = |tenant: Tenant, evaluator| {
            let actions = actions.get(&tenant).cloned().unwrap_or_default();
            Arc::clone(&turn).evaluate(tenant, evaluator, actions).boxed()
        };
        let leads = term.evaluate(Instant::now() + EVALUATE_EVERY, begin).await?;
        if leads {
            counter!("logweir_alerting_evaluations_total").increment(1);
        }
        Ok(())
    }

    /// All tenants, in order. Those for whom an action waits are among them, or what nobody takes
    /// would hold up the others' actions.
    async fn tenants(
        &self,
        with_actions: impl Iterator<Item = &Tenant>,
    ) -> Result<Vec<Tenant>, StorageError> {
        let mut tenants = self.dependencies.alerts.list_tenants().await?;
        // The installation's own, which has rules about the system even before any log.
        tenants.push(Tenant::default());
        tenants.extend(with_actions.cloned());
        tenants.sort_unstable();
        tenants.dedup();
        Ok(tenants)
    }

    /// A file that cannot be read, or has a mistake, leaves its last good rules.
    async fn read_files(&mut self) {
        let config = self.dependencies.config.clone();
        let read = tokio::task::spawn_blocking(move || config.rule_files()).await;
        // Nothing is known of the files when they could not even be looked for.
        let Ok(Some(texts)) = read else { return };
        // Compared with what was read last: parsing ten thousand rules every two seconds would be
        // felt.
        if texts == self.texts {
            return;
        }
        for mistake in self.files.update(&texts) {
            counter!("logweir_alerting_rule_file_errors_total").increment(1);
            warn!("{mistake}");
        }
        self.texts = texts;
    }
}
