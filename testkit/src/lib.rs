//! Private servers for the tests, and what may befall them.
//!
//! Every server runs in a folder of its own on free loopback ports and dies with the process that
//! started it, however that one ends. As root the servers run as an unprivileged user, since
//! PostgreSQL refuses to be root. A kit that cannot do its work panics: the test has failed.
//!
//! A broker takes ten seconds to start, so that tests share one: [`shared_servers`] starts it for a
//! whole run of tests, and [`Postgres::start`] and [`RabbitMq::start`] then make a database or a
//! virtual host there. A test that kills or fills a server asks for a private one.

pub mod cluster;
pub mod cross_tenant;
pub mod noisy;
mod shared_address;
pub mod shared_servers;

mod certificates;
mod instance;
mod listener;
mod mail_server;
mod pgbouncer;
mod port;
mod postgres;
mod proxy;
mod rabbitmq;
mod receiver;
mod timescaledb;

pub use instance::may_mount;
pub use mail_server::{Mail, MailManner, MailServer};
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use proxy::{Faults, Proxy};
pub use rabbitmq::RabbitMq;
pub use receiver::{Answer, Call, Receiver};
pub use timescaledb::TimescaleDb;

/// Waits for a step of the kit in a test that is not asynchronous.
pub fn wait<T>(step: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(step)
}

/// Work that blocks, off the caller's runtime; its panic is the caller's.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
