//! The calls of the port that read, and those that administer: each takes a connection and does its
//! work in one transaction.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use logweir_core::identity::{LogId, Service, Tenant};
use tokio_postgres::IsolationLevel;

use super::{PostgresStorage, aggregate, faults::Fault, reports, search};
use crate::{
    AggregateQuery, AggregateSeries, HeatmapCell, LogWithNeighbours, ProducerReport, ReadLogs,
    SearchPage, SearchQuery, ServiceSummary, StorageError, TemplateSummary, TimeRange,
    query::Order,
};

/// A reading statement is ended after 30 s: what is asked needs less by far, so something is wrong.
/// Compiling statements costs more than it gains for ones as short as these, and the server's other
/// processors are for other calls.
const READING: &str = "SET LOCAL statement_timeout = 30000; SET LOCAL jit = off; \
                       SET LOCAL max_parallel_workers_per_gather = 0";

impl PostgresStorage {
    /// Reads what was of one moment, however many statements it takes.
    async fn snapshot<T>(
        &self,
        read: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        self.read(IsolationLevel::RepeatableRead, read).await
    }

    /// Reads with each statement what is of its moment: for a search, which may take long.
    async fn walk<T>(
        &self,
        read: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        self.read(IsolationLevel::ReadCommitted, read).await
    }

    async fn read<T>(
        &self,
        isolation: IsolationLevel,
        read: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        let mut connection = self.connection().await?;
        let work = async {
            let begin = connection.build_transaction().isolation_level(isolation).read_only(true);
            let db = begin.start().await?;
            db.batch_execute(READING).await?;
            // Dropping the transaction ends it, and nobody waits for that.
            read(&db).await
        };
        work.await.map_err(|fault| self.told(fault))
    }
}

#[async_trait]
impl ReadLogs for PostgresStorage {
    async fn search(
        &self,
        tenant: &Tenant,
        query: SearchQuery,
    ) -> Result<SearchPage, StorageError> {
        self.walk(async |db| search::search(db, tenant, &query, Order::NewestFirst).await).await
    }

    async fn export(
        &self,
        tenant: &Tenant,
        query: SearchQuery,
    ) -> Result<SearchPage, StorageError> {
        self.walk(async |db| search::search(db, tenant, &query, Order::OldestFirst).await).await
    }

    async fn get(
        &self,
        tenant: &Tenant,
        id: LogId,
        neighbours: usize,
    ) -> Result<LogWithNeighbours, StorageError> {
        self.walk(async |db| search::get(db, tenant, id, neighbours).await).await
    }

    async fn aggregate(
        &self,
        tenant: &Tenant,
        query: AggregateQuery,
    ) -> Result<Vec<AggregateSeries>, StorageError> {
        self.snapshot(async |db| aggregate::aggregate(db, tenant, &query).await).await
    }

    async fn latency_heatmap(
        &self,
        tenant: &Tenant,
        query: AggregateQuery,
    ) -> Result<Vec<HeatmapCell>, StorageError> {
        self.snapshot(async |db| aggregate::latency_heatmap(db, tenant, &query).await).await
    }

    async fn list_services(&self, tenant: &Tenant) -> Result<Vec<ServiceSummary>, StorageError> {
        self.snapshot(async |db| aggregate::list_services(db, tenant).await).await
    }

    async fn list_templates(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError> {
        let now = (self.clock)();
        self.snapshot(async |db| {
            reports::list_templates(db, tenant, service, range, limit, now).await
        })
        .await
    }

    async fn delivery_report(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
    ) -> Result<Vec<ProducerReport>, StorageError> {
        self.snapshot(async |db| reports::delivery_report(db, tenant, service).await).await
    }
}
