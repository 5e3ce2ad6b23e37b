//! Alerting at work: of all processes one leads, feeds the engine from storage, keeps what it finds
//! and tells people.
//!
//! What an evaluation found and what is to be told of it are committed together; only then are the
//! channels' workers woken. A commit that fails is tried again with the next evaluation, and nothing
//! of it is forgotten meanwhile. A process that loses the lead drops everything: the next leader
//! starts from what was committed.

pub mod jobs;
pub mod settings;

mod config;
mod evidence;
mod heartbeat;
mod outbox;
mod preview;
mod tenant;
mod watch;

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use logweir_core::{
    identity::{Service, Tenant},
    runtime::{
        clock::Clock,
        tasks::{Fate, Tasks},
    },
};
use logweir_storage::{Administer, KeepAlerts, PassJobs, ReadLogs, StorageError, WaitingAction};
use metrics::{counter, gauge, histogram};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

pub use self::config::AlertingConfig;
use self::{
    heartbeat::Heartbeat,
    jobs::JobParts,
    settings::{Settings, by_tenant},
    tenant::TenantAlerts,
};
use crate::{channel::Network, file::Files};

/// How long a leader may be silent until another takes over.
const LEASE: Duration = Duration::from_secs(10);
/// Between two evaluations, and between two tries to lead.
const EVALUATE_EVERY: Duration = Duration::from_secs(2);
/// How long what is being told may take to end when the process stops: longer than a channel's call.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
const RESIGN_TIMEOUT: Duration = Duration::from_secs(2);
/// Actions that are taken at a time.
const ACTIONS_MAX: usize = 200;

/// What alerting works with.
#[derive(Clone)]
pub struct Parts {
    /// Its settings.
    pub config: AlertingConfig,
    /// Who this process is, to others that would lead.
    pub holder: String,
    /// What is watched.
    pub read: Arc<dyn ReadLogs>,
    /// Who lives, and what was deployed.
    pub administer: Arc<dyn Administer>,
    /// Where alerting's own is kept.
    pub alerts: Arc<dyn KeepAlerts>,
    /// Where what servers ask for comes from.
    pub jobs: Arc<dyn PassJobs>,
    /// The partition of the queue that a service's logs go through.
    pub partition_of: fn(&Tenant, &Service, u16) -> u16,
    /// Of the queue.
    pub partitions: u16,
    /// The time.
    pub clock: Clock,
}

/// Starts alerting: it leads, or stands by until it may. An error says what of the settings is wrong.
pub fn start(parts: Parts, tasks: &Tasks) -> Result<(), String> {
    let network = parts.config.network()?;
    let every = Duration::from_secs(parts.config.heartbeat_seconds.max(1).into());
    let heartbeat = Heartbeat::new(&parts.config.heartbeat_url_file, every, &network)?;
    let job_parts = JobParts {
        read: Arc::clone(&parts.read),
        alerts: Arc::clone(&parts.alerts),
        jobs: Arc::clone(&parts.jobs),
        network: network.clone(),
        clock: Arc::clone(&parts.clock),
    };
    jobs::start(&job_parts, tasks);
    let leader = Leader {
        parts,
        network,
        tasks: tasks.clone(),
        workers: TaskTracker::new(),
        heartbeat,
        files: Files::default(),
        texts: BTreeMap::new(),
    };
    let stop = tasks.stop_token();
    tasks.spawn("alerting", Fate::Essential, async move {
        let (parts, workers) = (leader.parts.clone(), leader.workers.clone());
        stop.run_until_cancelled(leader.run()).await;
        workers.close();
        // What is on its way is recorded before another may lead, or the other would repeat it.
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, leading(&parts, workers.wait())).await;
        // Best effort: otherwise another waits until the lease is over.
        let resign = parts.alerts.resign(&parts.holder);
        let resigned = tokio::time::timeout(RESIGN_TIMEOUT, resign).await;
        if drained.is_err() || !matches!(resigned, Ok(Ok(()))) {
            info!("alerting could not be left in order; what was being told may be told again");
        }
    });
    Ok(())
}

/// Does what may take longer than the lease, and keeps the lead meanwhile.
async fn leading<T>(parts: &Parts, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = renew(parts) => match never {},
    }
}

/// Whether it worked shows when something is committed.
async fn renew(parts: &Parts) -> Infallible {
    loop {
        tokio::time::sleep(EVALUATE_EVERY).await;
        if let Err(error) = parts.alerts.lead(&parts.holder, LEASE).await {
            counter!("logweir_alerting_renewals_failed_total").increment(1);
            debug!(%error, "the lead of alerting could not be renewed");
        }
    }
}

struct Leader {
    parts: Parts,
    network: Network,
    tasks: Tasks,
    /// What channels are being told.
    workers: TaskTracker,
    heartbeat: Heartbeat,
    files: Files,
    /// The rule files as they were read last.
    texts: BTreeMap<String, Option<String>>,
}

/// The time in which this process leads; its workers end with it.
struct Term {
    epoch: i64,
    tenants: BTreeMap<Tenant, TenantAlerts>,
    stop: CancellationToken,
}

impl Drop for Term {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Leader {
    async fn run(mut self) {
        let mut term: Option<Term> = None;
        let mut is_failing = false;
        loop {
            let begun = Instant::now();
            let led = self.parts.alerts.lead(&self.parts.holder, LEASE).await;
            term = self.follow(term, &led);
            let evaluated = match (&mut term, led) {
                (Some(term), Ok(_)) => {
                    let parts = self.parts.clone();
                    leading(&parts, self.evaluate(term)).await
                }
                (_, led) => led.map(drop),
            };
            match &evaluated {
                Err(error) if !is_failing => warn!("alerting waits for storage: {error}"),
                _ => {}
            }
            is_failing = evaluated.is_err();
            if term.is_some() && !is_failing {
                self.heartbeat.evaluated(&self.tasks);
            }
            gauge!("logweir_alerting_leads").set(f64::from(u8::from(term.is_some())));
            let spent = begun.elapsed();
            histogram!("logweir_alerting_evaluation_seconds").record(spent.as_secs_f64());
            tokio::time::sleep(EVALUATE_EVERY.saturating_sub(spent)).await;
        }
    }

    /// A new term where the lead is new, the same where it is kept, and while storage does not say
    /// who leads.
    fn follow(&self, term: Option<Term>, led: &Result<Option<i64>, StorageError>) -> Option<Term> {
        match (term, led) {
            (Some(term), Ok(Some(epoch))) if term.epoch == *epoch => Some(term),
            (_, Ok(Some(epoch))) => {
                info!(epoch, "this process leads alerting");
                let stop = self.tasks.stop_token().child_token();
                Some(Term { epoch: *epoch, tenants: BTreeMap::new(), stop })
            }
            (Some(_), Ok(None)) => {
                warn!("another process leads alerting now");
                None
            }
            (None, Ok(None)) => None,
            (term, Err(_)) => term,
        }
    }

    async fn evaluate(&mut self, term: &mut Term) -> Result<(), StorageError> {
        self.read_files().await;
        let rules: Vec<_> = self.files.rules().cloned().collect();
        let mut stored = by_tenant(self.parts.alerts.list_all_settings().await?);
        let mut tenants = self.parts.alerts.list_tenants().await?;
        tenants.push(Tenant::default());
        tenants.extend(stored.keys().cloned());
        let mut actions: BTreeMap<Tenant, Vec<WaitingAction>> = BTreeMap::new();
        for waiting in self.parts.alerts.list_actions(ACTIONS_MAX).await? {
            actions.entry(waiting.tenant.clone()).or_default().push(waiting);
        }
        // Or what nobody takes would hold up the others' actions.
        tenants.extend(actions.keys().cloned());
        tenants.sort_unstable();
        tenants.dedup();
        let mut failed = None;
        for tenant in tenants {
            let own = stored.remove(&tenant).unwrap_or_default();
            let settings = Settings::of(&own, &rules);
            let wanted = actions.remove(&tenant).unwrap_or_default();
            let evaluated = self.evaluate_tenant(term, &tenant, settings, wanted).await;
            match evaluated {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // One tenant's trouble is none of another's.
                Err(error) => failed = Some(error),
            }
        }
        counter!("logweir_alerting_evaluations_total").increment(1);
        failed.map_or(Ok(()), Err)
    }

    /// False if this process leads no longer.
    async fn evaluate_tenant(
        &self,
        term: &mut Term,
        tenant: &Tenant,
        settings: Settings,
        actions: Vec<WaitingAction>,
    ) -> Result<bool, StorageError> {
        if !term.tenants.contains_key(tenant) {
            let alerts = TenantAlerts::load(&self.parts, tenant, term.epoch, &settings).await?;
            term.tenants.insert(tenant.clone(), alerts);
        }
        let Some(alerts) = term.tenants.get_mut(tenant) else { return Ok(true) };
        alerts.take_settings(self, settings, &term.stop);
        alerts.evaluate(&self.parts, actions).await
    }

    /// A file that cannot be read, or has a mistake, leaves its last good rules.
    async fn read_files(&mut self) {
        let config = self.parts.config.clone();
        let read = tokio::task::spawn_blocking(move || config.rule_files()).await;
        // Nothing is known of the files when they could not even be looked for.
        let Ok(Some(texts)) = read else { return };
        if texts == self.texts {
            return;
        }
        for mistake in self.files.follow(&texts) {
            counter!("logweir_alerting_rule_file_errors_total").increment(1);
            warn!("{mistake}");
        }
        self.texts = texts;
    }
}
