//! Storage in one file: SQLite as the transactional container, logs in it as compressed blocks.
//!
//! One thread writes, a job at a time, each one transaction with `synchronous=FULL`; a few
//! connections read, on blocking threads. Blocks of a write are merged later, in the background, by
//! [`Administer::maintain`], which also deletes by age and by size: somebody has to call it.
//!
//! Limits: [`SqliteConfig`]. Failure: a full disk is `DiskFull` until there is space, and then over
//! by itself; after any other failed transaction the connection is opened anew, and storage is
//! ready again once a write, or a trial of one, has succeeded.

mod admin;
mod alerts;
mod blocks;
mod errors;
mod files;
mod ids;
mod read;
mod schema;
mod template_aliases;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use async_trait::async_trait;
use logweir_core::{
    identity::{BatchId, LogId, Service, Tenant},
    record::{ScoredBatch, Template},
    runtime::{clock::Clock, fault},
    timestamp::Timestamp,
};
use metrics::histogram;
use rusqlite::{Connection, Transaction};

use self::{
    admin::{
        dead_letters, deploys, heartbeats, maintain,
        retention::{self, Retention},
        suspects, tokens,
    },
    errors::Fault,
    files::Files,
    read::{
        aggregate,
        readers::{Caller, Readers},
        reports, search,
    },
    write::{
        producers,
        writer::{Tools, Writer, WriterHandle},
    },
};
use crate::{
    Administer, AggregateQuery, AggregateSeries, DeadLetter, Deploy, Heartbeat, HeatmapCell,
    LiveProcess, LogWithNeighbours, ProducerReport, ProducerTotals, ReadLogs, SearchPage,
    SearchQuery, ServiceSummary, StorageError, TemplateSummary, TenantUsage, TimeRange,
    TokenRecord, WriteLogs, WriteOutcome, disk_share::DeadLetterQuota, query::Order,
};

/// Where the data lies and how long it is kept.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The data directory; it is created, for its owner alone, if it is missing.
    pub directory: PathBuf,
    /// When the database is larger than this, the oldest logs of the tenants that take more than their
    /// share of it are deleted; 0 for no limit.
    pub disk_bytes_max: u64,
    /// Logs are deleted when all logs of their block are older than this by event time.
    pub retention_age: Option<Duration>,
    /// How long a batch keeps an entry of its own in the ledger.
    pub ledger_age: Duration,
}

impl SqliteConfig {
    /// The defaults: 20 GiB, no age, 48 hours.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        // By size and not by age: a full disk stops everything, while nobody has said how long logs
        // are to be kept. 20 GiB are close to a thousand million logs at some 20 bytes each.
        Self {
            directory: directory.into(),
            disk_bytes_max: 20 << 30,
            retention_age: None,
            ledger_age: Duration::from_secs(48 * 3_600),
        }
    }
}

/// SQLite as storage. Clones are the same storage; dropping the last one waits for the write at hand and
/// frees the directory.
#[derive(Clone)]
pub struct SqliteStorage {
    writer: Arc<WriterHandle>,
    readers: Readers,
    retention: Retention,
    clock: Clock,
    /// The tenant whose blocks were merged last.
    last_merged: Arc<AtomicI64>,
}

impl SqliteStorage {
    /// Opens or creates the data directory and keeps every other process from doing so.
    pub fn open(config: &SqliteConfig, clock: Clock) -> Result<Self, StorageError> {
        let files = Files::create(&config.directory)?;
        // The lock before all else: a second process must not even migrate the tables of one that
        // runs.
        let lock = files.lock()?;
        let writer = open_writer(&files)?;
        // Told and no error: on a full disk logs can still be read, and retention must come to run.
        if let Err(fault) = files.keep_reserve() {
            tracing::warn!(error = %fault.into_storage_error(files.directory()),
                "there is no room for the reserve file");
        }
        Self::start(config, files, writer, Some(lock), clock)
    }

    /// Opens the data directory beside a process that has it open: for tokens and the like, each a
    /// small transaction.
    pub fn open_for_administration(
        config: &SqliteConfig,
        clock: Clock,
    ) -> Result<Self, StorageError> {
        // Without the lock, which the running process holds: SQLite's own locks keep two small
        // transactions apart, and a token must be issued without stopping the server.
        let files = Files::create(&config.directory)?;
        let writer = open_writer(&files)?;
        Self::start(config, files, writer, None, clock)
    }

    fn start(
        config: &SqliteConfig,
        files: Files,
        writer: Writer,
        lock: Option<std::fs::File>,
        clock: Clock,
    ) -> Result<Self, StorageError> {
        let retention = Retention {
            ledger_age: config.ledger_age,
            age: config.retention_age,
            disk_bytes_max: config.disk_bytes_max,
            dead_letters: DeadLetterQuota::of(config.disk_bytes_max),
        };
        let writer = Arc::new(WriterHandle::start(writer, lock)?);
        let readers = Readers::new(files)?;
        Ok(Self { writer, readers, retention, clock, last_merged: Arc::default() })
    }

    /// The same storage for work that nobody waits for, such as evaluating alerts: its reads do not
    /// stand in line with those that a tenant asks for, which may be many.
    #[must_use]
    pub fn for_background(&self) -> Self {
        Self { readers: self.readers.with_places_of_its_own(), ..self.clone() }
    }

    /// Runs a small change of one tenant's administration.
    async fn change<T: Send + 'static>(
        &self,
        tenant: &Tenant,
        change: impl FnOnce(&Transaction<'_>, i64) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        let tenant = tenant.clone();
        let change = move |db: &Transaction<'_>, tools: &mut Tools| {
            let tenant_id = tools.ids.tenant(db, &tenant)?;
            change(db, tenant_id)
        };
        self.writer.run(move |writer| writer.free(change)).await
    }

    /// Runs a read of one tenant's administration; `T::default()` if the tenant is not known.
    async fn list<T: Default + Send + 'static>(
        &self,
        tenant: &Tenant,
        list: impl FnOnce(&Connection, i64) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        let named = tenant.clone();
        // A tenant gets its number with the first thing that it stores. Until then there is nothing
        // of it, which is an empty answer and not an error.
        let read = move |db: &Connection, _: &Caller| {
            let snapshot = db.unchecked_transaction()?;
            match ids::find_tenant(&snapshot, &named)? {
                Some(tenant_id) => list(&snapshot, tenant_id),
                None => Ok(T::default()),
            }
        };
        self.readers.run(tenant, read).await
    }

    async fn page(
        &self,
        tenant: &Tenant,
        query: SearchQuery,
        order: Order,
    ) -> Result<SearchPage, StorageError> {
        let mut walk = search::Walk::new(tenant.clone(), query, order);
        let mut place = self.readers.place(tenant).await;
        loop {
            let part = move |db: &Connection, caller: &Caller| {
                let page = walk.go_on(db, caller)?;
                Ok((page, walk))
            };
            let ((page, rest), held) = self.readers.run_at(place, tenant, part).await?;
            if let Some(page) = page {
                return Ok(page);
            }
            walk = rest;
            place = self.readers.let_others_go_first(held, tenant).await;
        }
    }
}

/// Gives up the reserve if the disk is too full even to open the database.
fn open_writer(files: &Files) -> Result<Writer, StorageError> {
    let open = || -> Result<_, Fault> {
        let mut connection = files.open_writer()?;
        schema::prepare(&mut connection)?;
        // Only now: a migration may sort more than memory should hold.
        Files::keep_journals_in_memory(&connection)?;
        Ok(connection)
    };
    // Opening may have to write: after a crash the write-ahead log is recovered, and its index is a
    // file of its own. An answer, such as a newer schema, has nothing to do with room.
    let opened = open().or_else(|fault| match fault {
        Fault::Answer(_) => Err(fault),
        Fault::DiskFull | Fault::Sqlite(_) | Fault::Data(_) => {
            files.release_reserve();
            open()
        }
    });
    let connection = opened.map_err(|fault| fault.into_storage_error(files.directory()))?;
    Ok(Writer::new(files.clone(), connection))
}

#[async_trait]
impl WriteLogs for SqliteStorage {
    async fn write(&self, batches: Arc<[ScoredBatch]>) -> Result<Vec<WriteOutcome>, StorageError> {
        let (clock, ledger_age) = (self.clock.clone(), self.retention.ledger_age);
        let work = move |writer: &mut Writer| {
            let started = std::time::Instant::now();
            let outcomes = writer.add(|db, tools| {
                let outcomes = write::write_batches(db, tools, &batches, clock(), ledger_age)?;
                fault::step("write_before_commit");
                Ok(outcomes)
            })?;
            fault::step("write_after_commit");
            histogram!("logweir_storage_write_seconds").record(started.elapsed().as_secs_f64());
            Ok(outcomes)
        };
        self.writer.run(work).await
    }

    async fn save_templates(&self, templates: Vec<Arc<Template>>) -> Result<(), StorageError> {
        let save = move |writer: &mut Writer| {
            writer.add(|db, tools| template_aliases::save(db, &mut tools.ids, &templates))
        };
        self.writer.run(save).await
    }

    async fn load_templates(&self) -> Result<Vec<(Template, u64)>, StorageError> {
        self.readers.run_own(|db, _| reports::load_templates(db)).await
    }
}

#[async_trait]
impl ReadLogs for SqliteStorage {
    async fn search(
        &self,
        tenant: &Tenant,
        query: SearchQuery,
    ) -> Result<SearchPage, StorageError> {
        self.page(tenant, query, Order::NewestFirst).await
    }

    async fn export(
        &self,
        tenant: &Tenant,
        query: SearchQuery,
    ) -> Result<SearchPage, StorageError> {
        self.page(tenant, query, Order::OldestFirst).await
    }

    async fn get(
        &self,
        tenant: &Tenant,
        id: LogId,
        neighbours: usize,
    ) -> Result<LogWithNeighbours, StorageError> {
        let named = tenant.clone();
        self.readers
            .run(tenant, move |db, caller| search::get(db, caller, &named, id, neighbours))
            .await
    }

    async fn aggregate(
        &self,
        tenant: &Tenant,
        query: AggregateQuery,
    ) -> Result<Vec<AggregateSeries>, StorageError> {
        let named = tenant.clone();
        self.readers.run(tenant, move |db, _| aggregate::aggregate(db, &named, &query)).await
    }

    async fn latency_heatmap(
        &self,
        tenant: &Tenant,
        query: AggregateQuery,
    ) -> Result<Vec<HeatmapCell>, StorageError> {
        let named = tenant.clone();
        self.readers.run(tenant, move |db, _| aggregate::latency_heatmap(db, &named, &query)).await
    }

    async fn list_services(&self, tenant: &Tenant) -> Result<Vec<ServiceSummary>, StorageError> {
        let named = tenant.clone();
        self.readers.run(tenant, move |db, _| aggregate::list_services(db, &named)).await
    }

    async fn list_templates(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError> {
        let (named, service, now) = (tenant.clone(), service.cloned(), (self.clock)());
        self.readers
            .run(tenant, move |db, _| {
                reports::list_templates(db, &named, service.as_ref(), range, limit, now)
            })
            .await
    }

    async fn delivery_report(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
    ) -> Result<Vec<ProducerReport>, StorageError> {
        let (named, service) = (tenant.clone(), service.cloned());
        self.readers
            .run(tenant, move |db, _| reports::delivery_report(db, &named, service.as_ref()))
            .await
    }

    async fn producer_totals(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
    ) -> Result<Vec<ProducerTotals>, StorageError> {
        let (named, service) = (tenant.clone(), service.cloned());
        self.readers
            .run(tenant, move |db, _| reports::producer_totals(db, &named, service.as_ref()))
            .await
    }

    async fn repeated_logs(&self, tenant: &Tenant) -> Result<u64, StorageError> {
        let named = tenant.clone();
        self.readers.run(tenant, move |db, _| reports::repeated_logs(db, &named)).await
    }

    async fn ledger_checksums(
        &self,
        tenant: &Tenant,
        batch_ids: &[BatchId],
    ) -> Result<HashMap<BatchId, u64>, StorageError> {
        let (named, batch_ids) = (tenant.clone(), batch_ids.to_vec());
        let find = move |db: &Connection, _: &_| reports::ledger_checksums(db, &named, &batch_ids);
        self.readers.run(tenant, find).await
    }
}

#[async_trait]
impl Administer for SqliteStorage {
    async fn insert_token(&self, tenant: &Tenant, token: TokenRecord) -> Result<(), StorageError> {
        self.change(tenant, move |db, tenant_id| Ok(tokens::insert_token(db, tenant_id, &token)?))
            .await
    }

    async fn list_tokens(&self, tenant: &Tenant) -> Result<Vec<TokenRecord>, StorageError> {
        self.list(tenant, tokens::list_tokens).await
    }

    async fn revoke_token(
        &self,
        tenant: &Tenant,
        token_id: &str,
        now: Timestamp,
    ) -> Result<TokenRecord, StorageError> {
        let token_id = token_id.to_owned();
        self.change(tenant, move |db, tenant_id| {
            let revoked = tokens::revoke_token(db, tenant_id, &token_id, now)?;
            revoked.ok_or_else(|| StorageError::NotFound(format!("token {token_id}")).into())
        })
        .await
    }

    async fn revoked_token_ids(&self, now: Timestamp) -> Result<Vec<String>, StorageError> {
        self.readers.run_own(move |db, _| Ok(tokens::revoked_token_ids(db, now)?)).await
    }

    async fn list_dead_letters(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<DeadLetter>, u64), StorageError> {
        self.list(tenant, move |db, tenant_id| dead_letters::list(db, tenant_id, before, limit))
            .await
    }

    async fn take_dead_letters(
        &self,
        tenant: &Tenant,
        ids: &[u64],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StorageError> {
        let ids = ids.to_vec();
        self.list(tenant, move |db, tenant_id| dead_letters::take(db, tenant_id, &ids, limit)).await
    }

    async fn mark_replayed(
        &self,
        tenant: &Tenant,
        ids: &[u64],
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let ids = ids.to_vec();
        self.change(tenant, move |db, tenant_id| {
            Ok(dead_letters::mark_replayed(db, tenant_id, &ids, now)?)
        })
        .await
    }

    async fn discard_dead_letters(
        &self,
        tenant: &Tenant,
        ids: Option<&[u64]>,
    ) -> Result<u64, StorageError> {
        let ids = ids.map(<[u64]>::to_vec);
        self.change(tenant, move |db, tenant_id| {
            Ok(dead_letters::discard(db, tenant_id, ids.as_deref())?)
        })
        .await
    }

    async fn usage(&self, tenant: &Tenant) -> Result<TenantUsage, StorageError> {
        let disk_bytes_max = self.retention.disk_bytes_max;
        self.list(tenant, move |db, tenant_id| retention::usage(db, tenant_id, disk_bytes_max))
            .await
    }

    async fn insert_deploy(&self, tenant: &Tenant, deploy: Deploy) -> Result<(), StorageError> {
        self.change(tenant, move |db, tenant_id| {
            Ok(deploys::insert_deploy(db, tenant_id, &deploy)?)
        })
        .await
    }

    async fn list_deploys(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        limit: usize,
    ) -> Result<Vec<Deploy>, StorageError> {
        let service = service.cloned();
        self.list(tenant, move |db, tenant_id| {
            deploys::list_deploys(db, tenant_id, service.as_ref(), limit)
        })
        .await
    }

    async fn beat(&self, heartbeat: Heartbeat) -> Result<(), StorageError> {
        let now = (self.clock)();
        let beat = move |writer: &mut Writer| {
            writer.free(|db, _| Ok(heartbeats::beat(db, &heartbeat, now)?))
        };
        self.writer.run(beat).await
    }

    async fn live_processes(&self, age_max: Duration) -> Result<Vec<LiveProcess>, StorageError> {
        let now = (self.clock)();
        self.readers.run_own(move |db, _| heartbeats::live(db, age_max, now)).await
    }

    async fn forget_process(&self, process_id: &str) -> Result<(), StorageError> {
        let process_id = process_id.to_owned();
        let forget = move |writer: &mut Writer| {
            writer.free(|db, _| Ok(heartbeats::forget(db, &process_id)?))
        };
        self.writer.run(forget).await
    }

    async fn begin_trial(&self, tenant: &Tenant, batch_id: BatchId) -> Result<u32, StorageError> {
        let (tenant, now) = (tenant.clone(), (self.clock)());
        let begin = move |writer: &mut Writer| {
            writer.free(|db, _| Ok(suspects::begin(db, &tenant, batch_id, now)?))
        };
        self.writer.run(begin).await
    }

    async fn end_trial(&self, tenant: &Tenant, batch_id: BatchId) -> Result<(), StorageError> {
        let tenant = tenant.clone();
        let end = move |writer: &mut Writer| {
            writer.free(|db, _| Ok(suspects::end(db, &tenant, batch_id)?))
        };
        self.writer.run(end).await
    }

    async fn maintain(&self, now: Timestamp) -> Result<bool, StorageError> {
        let retention = self.retention;
        // Deleting comes first: when the disk is full, the rest waits for the room that it makes.
        let retain = move |writer: &mut Writer| retention::retain(writer, now, &retention);
        let mut more = self.writer.run(retain).await?;
        let fold = move |writer: &mut Writer| {
            writer.free(|db, _| maintain::fold(db, now, retention.ledger_age))
        };
        more |= self.writer.run(fold).await?;
        // Looked for on a reader's thread: it goes over all producers that are listed.
        let too_many = self.readers.run_own(|db, _| Ok(producers::too_many_producers(db)?)).await?;
        if let Some(unlisted) = too_many {
            let unlist = move |writer: &mut Writer| {
                writer.free(|db, _| Ok(producers::unlist(db, &unlisted)?))
            };
            self.writer.run(unlist).await?;
            more = true;
        }
        // A merge writes its outputs before the inputs are gone: on a full disk it would take the
        // room that deleting has just made.
        if self.check_ready().await.is_err() {
            return Ok(more);
        }
        let last = Arc::clone(&self.last_merged);
        let merge = move |db: &Connection, _: &Caller| maintain::merge(db, &last, now);
        // Encoding takes long and needs no write lock: on a reader's thread, so that writes go on.
        let merge = self.readers.run_own(merge).await?;
        if let Some(merge) = merge {
            let finish = move |writer: &mut Writer| {
                writer.add(|db, tools| maintain::finish(db, &mut tools.ids, &merge))
            };
            self.writer.run(finish).await?;
            more = true;
        }
        Ok(more)
    }

    async fn check_ready(&self) -> Result<(), StorageError> {
        self.writer.run(Writer::check_ready).await
    }
}
