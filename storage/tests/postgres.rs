//! The storage suite on real servers: PostgreSQL, PostgreSQL behind PgBouncer in transaction mode,
//! and TimescaleDB.
//!
//! TimescaleDB runs as WebAssembly with one session below all connections: transactions wait for
//! each other there, so that what several writers do to each other is seen on PostgreSQL alone.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use logweir_core::runtime::clock::Clock;
use logweir_storage::{
    NOW, PostgresConfig, PostgresStorage, Storage, StorageUnderTest, check_storage,
};
use testkit::{PgBouncer, Postgres, TimescaleDb};
use tokio::sync::OnceCell;
use tokio_postgres::NoTls;

async fn open(url: String) -> Arc<dyn Storage> {
    let clock: Clock = Arc::new(|| NOW);
    Arc::new(PostgresStorage::open(&PostgresConfig::new(url), clock).await.unwrap())
}

async fn execute(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let executed = async {
        let executed = client.batch_execute(sql).await;
        drop(client);
        executed
    };
    let (executed, ended) = tokio::join!(executed, connection);
    executed.unwrap();
    ended.unwrap();
}

/// A server on which every storage under test is a database of its own.
struct Databases {
    server: Postgres,
    pool: Option<PgBouncer>,
    count: AtomicU32,
}

impl Databases {
    fn new(server: Postgres, pool: Option<PgBouncer>) -> Self {
        Self { server, pool, count: AtomicU32::new(0) }
    }

    fn fresh(&self) -> InDatabase<'_> {
        InDatabase { databases: self, name: OnceCell::new() }
    }

    /// Creates a database; the end of its name, which begins with that of the server's.
    async fn create(&self) -> String {
        let end = format!("_{}", self.count.fetch_add(1, Ordering::Relaxed));
        let url = self.server.url();
        let name = url.rsplit('/').next().unwrap();
        execute(&url, &format!("CREATE DATABASE {name}{end}")).await;
        end
    }
}

struct InDatabase<'a> {
    databases: &'a Databases,
    name: OnceCell<String>,
}

#[async_trait]
impl StorageUnderTest for InDatabase<'_> {
    async fn open(&self) -> Arc<dyn Storage> {
        let end = self.name.get_or_init(|| self.databases.create()).await;
        let url = match &self.databases.pool {
            Some(pool) => pool.url(),
            None => self.databases.server.url(),
        };
        open(url + end).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_a_storage() {
    let databases = Databases::new(Postgres::start().await, None);
    check_storage(|| databases.fresh()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_a_storage_behind_pgbouncer() {
    let server = Postgres::start().await;
    let pool = PgBouncer::start(&server).await;
    let databases = Databases::new(server, Some(pool));
    check_storage(|| databases.fresh()).await;
}

/// A database that is emptied for every storage under test: a new one takes seconds.
struct InTimescale<'a> {
    server: &'a TimescaleDb,
    emptied: OnceCell<()>,
}

const DROP_ALL: &str = "DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('DROP TABLE %I CASCADE', name);
    END LOOP;
    FOR name IN SELECT oid::regprocedure FROM pg_proc
                WHERE pronamespace = 'public'::regnamespace
                  AND oid NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e') LOOP
        EXECUTE 'DROP FUNCTION ' || name;
    END LOOP;
END $$";

#[async_trait]
impl StorageUnderTest for InTimescale<'_> {
    async fn open(&self) -> Arc<dyn Storage> {
        let url = self.server.url();
        self.emptied.get_or_init(|| execute(&url, DROP_ALL)).await;
        open(url).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_a_storage_with_timescaledb() {
    let server = TimescaleDb::start().await;
    check_storage(|| InTimescale { server: &server, emptied: OnceCell::new() }).await;
}
