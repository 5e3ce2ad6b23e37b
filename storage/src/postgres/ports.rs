//! The calls of the port that read, and those that administer: each takes a connection and does its
//! work in one transaction.

use async_trait::async_trait;
use deadpool_postgres::{Object, Transaction};
use logweir_core::identity::{LogId, Service, Tenant};
use tokio_postgres::IsolationLevel;

use super::{PostgresStorage, aggregate, faults::Fault, reports, search};
use crate::{
    AggregateQuery, AggregateSeries, HeatmapCell, LogWithNeighbours, ProducerReport, ReadLogs,
    SearchPage, SearchQuery, ServiceSummary, StorageError, TemplateSummary, TimeRange,
    query::Order,
};

/// A reading statement is ended after 30 s: what is asked needs less by far, so something is wrong.
/// Compiling statements costs more than it gains for ones as short as these, and other processes of
/// the server's are for other calls.
const READING: &str = "SET LOCAL statement_timeout = 30000; SET LOCAL jit = off; \
                       SET LOCAL max_parallel_workers_per_gather = 0";

/// Begins to read. The transaction ends when it is dropped.
async fn reading(
    connection: &mut Object,
    isolation: IsolationLevel,
) -> Result<Transaction<'_>, Fault> {
    let begin = connection.build_transaction().isolation_level(isolation).read_only(true);
    let db = begin.start().await?;
    db.batch_execute(READING).await?;
    Ok(db)
}

/// Of one moment, however many statements it takes.
async fn snapshot(connection: &mut Object) -> Result<Transaction<'_>, Fault> {
    reading(connection, IsolationLevel::RepeatableRead).await
}

/// Each statement of a moment of its own.
async fn walking(connection: &mut Object) -> Result<Transaction<'_>, Fault> {
    reading(connection, IsolationLevel::ReadCommitted).await
}

impl PostgresStorage {
    async fn page(
        &self,
        tenant: &Tenant,
        query: &SearchQuery,
        order: Order,
    ) -> Result<SearchPage, StorageError> {
        let mut connection = self.connection().await?;
        let page =
            async { search::search(&walking(&mut connection).await?, tenant, query, order).await };
        page.await.map_err(|fault| self.told(fault))
    }
}

#[async_trait]
impl ReadLogs for PostgresStorage {
    async fn search(
        &self,
        tenant: &Tenant,
        query: SearchQuery,
    ) -> Result<SearchPage, StorageError> {
        self.page(tenant, &query, Order::NewestFirst).await
    }

    async fn export(
        &self,
        tenant: &Tenant,
        query: SearchQuery,
    ) -> Result<SearchPage, StorageError> {
        self.page(tenant, &query, Order::OldestFirst).await
    }

    async fn get(
        &self,
        tenant: &Tenant,
        id: LogId,
        neighbours: usize,
    ) -> Result<LogWithNeighbours, StorageError> {
        let mut connection = self.connection().await?;
        let found =
            async { search::get(&walking(&mut connection).await?, tenant, id, neighbours).await };
        found.await.map_err(|fault| self.told(fault))
    }

    async fn aggregate(
        &self,
        tenant: &Tenant,
        query: AggregateQuery,
    ) -> Result<Vec<AggregateSeries>, StorageError> {
        let mut connection = self.connection().await?;
        let series =
            async { aggregate::aggregate(&snapshot(&mut connection).await?, tenant, &query).await };
        series.await.map_err(|fault| self.told(fault))
    }

    async fn latency_heatmap(
        &self,
        tenant: &Tenant,
        query: AggregateQuery,
    ) -> Result<Vec<HeatmapCell>, StorageError> {
        let mut connection = self.connection().await?;
        let cells = async {
            aggregate::latency_heatmap(&snapshot(&mut connection).await?, tenant, &query).await
        };
        cells.await.map_err(|fault| self.told(fault))
    }

    async fn list_services(&self, tenant: &Tenant) -> Result<Vec<ServiceSummary>, StorageError> {
        let mut connection = self.connection().await?;
        let services =
            async { aggregate::list_services(&snapshot(&mut connection).await?, tenant).await };
        services.await.map_err(|fault| self.told(fault))
    }

    async fn list_templates(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError> {
        let now_unix_nano = (self.clock)();
        let mut connection = self.connection().await?;
        let templates = async {
            let db = snapshot(&mut connection).await?;
            reports::list_templates(&db, tenant, service, range, limit, now_unix_nano).await
        };
        templates.await.map_err(|fault| self.told(fault))
    }

    async fn delivery_report(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
    ) -> Result<Vec<ProducerReport>, StorageError> {
        let mut connection = self.connection().await?;
        let report = async {
            reports::delivery_report(&snapshot(&mut connection).await?, tenant, service).await
        };
        report.await.map_err(|fault| self.told(fault))
    }
}
