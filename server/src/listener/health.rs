//! What is asked over plain HTTP about the process itself, on the same port: is it alive, would it
//! take logs, how is it doing. Needs no token and says nothing about any tenant.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use logweir_core::runtime::telemetry::Metrics;
use logweir_queue::Publisher;
use logweir_storage::Storage;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::status::Refusal;

/// What readiness depends on.
#[derive(Clone)]
pub(crate) struct Readiness {
    /// None where no batches are taken.
    publisher: Option<Arc<dyn Publisher>>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) stop: CancellationToken,
    looking: Arc<Mutex<Option<WeakShared<Look>>>>,
}

/// A look at storage.
type Look = BoxFuture<'static, Result<(), Refusal>>;

impl Readiness {
    pub(crate) fn new(
        publisher: Option<Arc<dyn Publisher>>,
        storage: Arc<dyn Storage>,
        stop: CancellationToken,
    ) -> Self {
        Self { publisher, storage, stop, looking: Arc::default() }
    }

    /// Whether a batch would be taken now, or written where none are taken.
    pub(crate) async fn check(&self) -> Result<(), Refusal> {
        if self.stop.is_cancelled() {
            return Err(Refusal::stopping());
        }
        if let Some(publisher) = &self.publisher {
            publisher.check_ready()?;
            // With a broker, batches are safe in the queue whether the database answers or not. If
            // readiness depended on it, its restart would take every server out of the load
            // balancer and lose the very buffer that the queue is.
            if publisher.keeps_batches() {
                return Ok(());
            }
        }
        self.look().await
    }

    /// The look at storage that is under way, or a new one: anybody may ask, without a token and as
    /// often as they like, and to answer may take a connection to the database.
    fn look(&self) -> Shared<Look> {
        let mut looking = self.looking.lock();
        let under_way = looking.as_ref().and_then(WeakShared::upgrade);
        if let Some(under_way) = under_way.filter(|look| look.peek().is_none()) {
            return under_way;
        }
        let storage = Arc::clone(&self.storage);
        let look = async move { Ok(storage.check_ready().await?) }.boxed().shared();
        *looking = look.downgrade();
        look
    }
}

/// `/healthz`, `/readyz` and `/metrics`.
pub(crate) fn router(readiness: Readiness, metrics: Metrics) -> Router {
    // The content type is that of Prometheus' text format; scrapers choose their parser by it.
    let render = move || async move {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
    };
    // Alive means that the runtime still answers, and nothing more: whoever restarts processes by
    // it must not restart all of them because the database is away.
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(render))
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.check().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {refusal}\n")),
    }
}

#[cfg(test)]
mod tests {
    use logweir_core::runtime::clock::system_clock;
    use logweir_storage::{SqliteConfig, SqliteStorage};
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn who_asks_while_somebody_looks_gets_that_answer() {
        let directory = TempDir::new().unwrap();
        let config = SqliteConfig::new(directory.path());
        let storage = Arc::new(SqliteStorage::open(&config, system_clock()).unwrap());
        let readiness = Readiness::new(None, storage, CancellationToken::new());
        let (first, second) = (readiness.look(), readiness.look());
        assert!(first.ptr_eq(&second));
        first.await.unwrap();
        assert!(!readiness.look().ptr_eq(&second), "that was another time");
        readiness.check().await.unwrap();
    }
}
