//! The calls of the port that read, and those that administer: each takes a connection and does its
//! work in one transaction.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use deadpool_postgres::{Object, Transaction};
use logweir_core::{
    identity::{BatchId, LogId, Service, Tenant},
    timestamp::Timestamp,
};
use tokio_postgres::IsolationLevel;

use super::{
    PostgresStorage, READ_WITHIN, WRITTEN_WITHIN,
    admin::{dead_letters, deploys, heartbeats, suspects, tokens},
    errors::Fault,
    read::{aggregate, reports, search},
};
use crate::{
    Administer, AggregateQuery, AggregateSeries, DeadLetter, Deploy, Heartbeat, HeatmapCell,
    LiveProcess, LogWithNeighbours, ProducerReport, ProducerTotals, ReadLogs, SearchPage,
    SearchQuery, ServiceSummary, StorageError, TemplateSummary, TenantUsage, TimeRange,
    TokenRecord, query::Order,
};

/// Heartbeats are small, and others draw conclusions from those that do not come; a revoked token
/// must not be let in for long.
const BEATEN_WITHIN: Duration = Duration::from_secs(4);

impl PostgresStorage {
    /// Reads what was of one moment of a tenant, however many statements it takes.
    pub(super) async fn snapshot<T>(
        &self,
        tenant: &Tenant,
        read: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        self.read(Some(tenant), IsolationLevel::RepeatableRead, read).await
    }

    /// The same for this process itself, which does not stand in line with the readers of a tenant.
    pub(super) async fn own_snapshot<T>(
        &self,
        read: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        self.read(None, IsolationLevel::RepeatableRead, read).await
    }

    /// Reads with each statement what is of its moment: for a search, which may take long.
    async fn walk<T>(
        &self,
        tenant: &Tenant,
        read: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        self.read(Some(tenant), IsolationLevel::ReadCommitted, read).await
    }

    async fn read<T>(
        &self,
        tenant: Option<&Tenant>,
        isolation: IsolationLevel,
        read: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        let work = async |connection: &mut Object| {
            // Read-only also keeps a statement put together wrongly from changing anything.
            let begin = connection.build_transaction().isolation_level(isolation).read_only(true);
            let db = begin.start().await?;
            db.batch_execute(&self.reading).await?;
            // Dropping the transaction ends it, and nobody waits for that.
            read(&db).await
        };
        self.for_tenant(tenant, READ_WITHIN, work).await
    }

    /// Makes a small change for a tenant.
    pub(super) async fn change<T>(
        &self,
        tenant: &Tenant,
        change: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        self.change_within(Some(tenant), WRITTEN_WITHIN, change).await
    }

    /// Makes a small change for this process itself, or one that may not wait behind a tenant's reads.
    pub(super) async fn own_change<T>(
        &self,
        change: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        self.change_within(None, WRITTEN_WITHIN, change).await
    }

    async fn change_within<T>(
        &self,
        tenant: Option<&Tenant>,
        answered_within: Duration,
        change: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        let work = async |connection: &mut Object| {
            // Named, for what waits for a lock must see what was committed meanwhile, and the database's
            // default may be another.
            let begin =
                connection.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
            let db = begin.start().await?;
            db.batch_execute(&self.writing).await?;
            let answer = change(&db).await?;
            db.commit().await?;
            Ok(answer)
        };
        self.for_tenant(tenant, answered_within, work).await
    }

    async fn for_tenant<T>(
        &self,
        tenant: Option<&Tenant>,
        answered_within: Duration,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        let place = match tenant {
            Some(tenant) => Some(self.place(tenant).await.map_err(|fault| self.told(fault))?),
            None => None,
        };
        self.on_connection(place, answered_within, work).await.map_err(|fault| self.told(fault))
    }
}

#[async_trait]
impl ReadLogs for PostgresStorage {
    async fn search(
        &self,
        tenant: &Tenant,
        query: SearchQuery,
    ) -> Result<SearchPage, StorageError> {
        self.walk(tenant, async |db| search::search(db, tenant, &query, Order::NewestFirst).await)
            .await
    }

    async fn export(
        &self,
        tenant: &Tenant,
        query: SearchQuery,
    ) -> Result<SearchPage, StorageError> {
        self.walk(tenant, async |db| search::search(db, tenant, &query, Order::OldestFirst).await)
            .await
    }

    async fn get(
        &self,
        tenant: &Tenant,
        id: LogId,
        neighbours: usize,
    ) -> Result<LogWithNeighbours, StorageError> {
        self.walk(tenant, async |db| search::get(db, tenant, id, neighbours).await).await
    }

    async fn aggregate(
        &self,
        tenant: &Tenant,
        query: AggregateQuery,
    ) -> Result<Vec<AggregateSeries>, StorageError> {
        self.snapshot(tenant, async |db| aggregate::aggregate(db, tenant, &query).await).await
    }

    async fn latency_heatmap(
        &self,
        tenant: &Tenant,
        query: AggregateQuery,
    ) -> Result<Vec<HeatmapCell>, StorageError> {
        self.snapshot(tenant, async |db| aggregate::latency_heatmap(db, tenant, &query).await).await
    }

    async fn list_services(&self, tenant: &Tenant) -> Result<Vec<ServiceSummary>, StorageError> {
        self.snapshot(tenant, async |db| aggregate::list_services(db, tenant).await).await
    }

    async fn list_templates(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError> {
        let now = (self.clock)();
        self.snapshot(tenant, async |db| {
            reports::list_templates(db, tenant, service, range, limit, now).await
        })
        .await
    }

    async fn delivery_report(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
    ) -> Result<Vec<ProducerReport>, StorageError> {
        self.snapshot(tenant, async |db| reports::delivery_report(db, tenant, service).await).await
    }

    async fn producer_totals(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
    ) -> Result<Vec<ProducerTotals>, StorageError> {
        self.snapshot(tenant, async |db| reports::producer_totals(db, tenant, service).await).await
    }

    async fn repeated_logs(&self, tenant: &Tenant) -> Result<u64, StorageError> {
        self.snapshot(tenant, async |db| reports::repeated_logs(db, tenant).await).await
    }

    async fn ledger_checksums(
        &self,
        tenant: &Tenant,
        batch_ids: &[BatchId],
    ) -> Result<HashMap<BatchId, u64>, StorageError> {
        let find =
            async |db: &Transaction<'_>| reports::ledger_checksums(db, tenant, batch_ids).await;
        self.snapshot(tenant, find).await
    }
}

#[async_trait]
impl Administer for PostgresStorage {
    async fn insert_token(&self, tenant: &Tenant, token: TokenRecord) -> Result<(), StorageError> {
        self.own_change(async |db| tokens::insert_token(db, tenant, &token).await).await
    }

    async fn list_tokens(&self, tenant: &Tenant) -> Result<Vec<TokenRecord>, StorageError> {
        self.own_snapshot(async |db| tokens::list_tokens(db, tenant).await).await
    }

    async fn revoke_token(
        &self,
        tenant: &Tenant,
        token_id: &str,
        now: Timestamp,
    ) -> Result<TokenRecord, StorageError> {
        let revoked = self
            .own_change(async |db| tokens::revoke_token(db, tenant, token_id, now).await)
            .await?;
        revoked.ok_or_else(|| StorageError::NotFound(format!("token {token_id}")))
    }

    async fn revoked_token_ids(&self, now: Timestamp) -> Result<Vec<String>, StorageError> {
        let read = async |db: &Transaction<'_>| tokens::revoked_token_ids(db, now).await;
        self.change_within(None, BEATEN_WITHIN, read).await
    }

    async fn list_dead_letters(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<DeadLetter>, u64), StorageError> {
        self.snapshot(tenant, async |db| dead_letters::list(db, tenant, before, limit).await).await
    }

    async fn take_dead_letters(
        &self,
        tenant: &Tenant,
        ids: &[u64],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StorageError> {
        self.snapshot(tenant, async |db| dead_letters::take(db, tenant, ids, limit).await).await
    }

    async fn mark_replayed(
        &self,
        tenant: &Tenant,
        ids: &[u64],
        now: Timestamp,
    ) -> Result<(), StorageError> {
        self.change(tenant, async |db| dead_letters::mark_replayed(db, tenant, ids, now).await)
            .await
    }

    async fn discard_dead_letters(
        &self,
        tenant: &Tenant,
        ids: Option<&[u64]>,
    ) -> Result<u64, StorageError> {
        self.change(tenant, async |db| dead_letters::discard(db, tenant, ids).await).await
    }

    async fn usage(&self, tenant: &Tenant) -> Result<TenantUsage, StorageError> {
        self.snapshot(tenant, async |db| dead_letters::usage(db, tenant).await).await
    }

    async fn insert_deploy(&self, tenant: &Tenant, deploy: Deploy) -> Result<(), StorageError> {
        self.change(tenant, async |db| deploys::insert_deploy(db, tenant, &deploy).await).await
    }

    async fn list_deploys(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        limit: usize,
    ) -> Result<Vec<Deploy>, StorageError> {
        self.snapshot(tenant, async |db| deploys::list_deploys(db, tenant, service, limit).await)
            .await
    }

    async fn beat(&self, heartbeat: Heartbeat) -> Result<(), StorageError> {
        self.change_within(None, BEATEN_WITHIN, async |db| heartbeats::beat(db, &heartbeat).await)
            .await
    }

    // As a change for the short limit alone: partitions are shared out by the answer every two
    // seconds, and one that comes late says who lived then.
    async fn live_processes(&self, age_max: Duration) -> Result<Vec<LiveProcess>, StorageError> {
        self.change_within(None, BEATEN_WITHIN, async |db| heartbeats::live(db, age_max).await)
            .await
    }

    async fn forget_process(&self, process_id: &str) -> Result<(), StorageError> {
        self.change_within(None, BEATEN_WITHIN, async |db| heartbeats::forget(db, process_id).await)
            .await
    }

    async fn begin_trial(&self, tenant: &Tenant, batch_id: BatchId) -> Result<u32, StorageError> {
        self.own_change(async |db| suspects::begin(db, tenant, batch_id).await).await
    }

    async fn end_trial(&self, tenant: &Tenant, batch_id: BatchId) -> Result<(), StorageError> {
        self.own_change(async |db| suspects::end(db, tenant, batch_id).await).await
    }

    async fn maintain(&self, now: Timestamp) -> Result<bool, StorageError> {
        self.upkeep(now).await
    }

    async fn check_ready(&self) -> Result<(), StorageError> {
        self.probe().await
    }
}
