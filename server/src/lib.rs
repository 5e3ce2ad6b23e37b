//! The server: gRPC and HTTP on every port alike, authentication, limits, ingest, query, admin.
//!
//! Each port speaks everything: HTTP/2 (gRPC, without TLS by prior knowledge) and HTTP/1.1 (gRPC-Web too). A
//! request is authenticated from its headers before its body is read; the body is read under
//! bounds; a batch is answered once the queue holds it durably. Every refusal says what to do, and
//! only what may pass says when to try again. When the process stops, no more is accepted, what is
//! under way is answered, and streams end with `UNAVAILABLE`.

mod admin;
mod alerts;
mod auth;
mod config;
mod elasticsearch;
mod http;
mod ingest;
mod jobs;
mod json_logs;
mod listener;
mod loki;
mod models;
mod otlp;
mod query;
mod receiver;
mod response_size;
mod status;
mod syslog;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use futures::future::OptionFuture;
use logweir_core::{
    fairness::permits::TenantPermits,
    runtime::{
        clock::Clock,
        identity::ProcessIdentity,
        retry::at_start,
        tasks::{Fate, Tasks},
        telemetry::Metrics,
    },
};
use logweir_proto::v1::{
    self, admin_service_server::AdminServiceServer, alert_service_server::AlertServiceServer,
    ingest_service_server::IngestServiceServer, model_service_server::ModelServiceServer,
    query_service_server::QueryServiceServer,
};
use logweir_queue::{LiveFeed, Publisher};
use logweir_storage::{Storage, StorageError};
use metrics::counter;
use tokio::net::TcpListener;
use tonic::{server::NamedService, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server::Builder as ReflectionBuilder;
use tracing::{info, warn};

use crate::{
    admin::{AdminHandler, processes, tenant::SharedResources},
    alerts::AlertHandler,
    auth::{
        Access, Auth,
        layer::{AuthLayer, Authenticated},
    },
    http::Api,
    ingest::{Ingest, grpc::IngestHandler, rate_limit::RateLimits},
    jobs::Jobs,
    listener::{
        connection,
        grpc_web::with_grpc_web,
        health::{self, Readiness},
        inflate::Inflater,
        message_body::Budget,
        response_body::UnsentBytes,
    },
    models::ModelHandler,
    otlp::grpc::LogsService,
    query::{Matcher, QueryHandler},
    receiver::Receiver,
    status::Refusal,
};
pub use crate::{
    auth::{
        issue,
        token_keys::{TokenKeys, TokenKeysError},
    },
    config::{RateConfig, ServerConfig, ServiceConfig},
    listener::{
        grpc_web::{CorsOriginError, CorsOrigins},
        tls::{Tls, TlsError, TlsFiles},
    },
    syslog::{SyslogConfig, SyslogListeners},
};

/// How often revoked tokens, keys and certificates are read and readiness is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Health and reflection ask small questions.
const SMALL_REQUEST_BYTES_MAX: usize = 4 << 10;

/// Requests under way of one tenant that are no batches, bytes: sixteen of the largest.
const CONTROL_BYTES_MAX: usize = 16 << 20;

/// Answers of one tenant that are made and not sent, bytes: some forty of the largest.
const UNSENT_BYTES_MAX: usize = 128 << 20;
/// Live tails of one tenant; each keeps a stream open, and of a slow one up to a group of logs, half a
/// MiB.
const TAILS_MAX: u64 = 1_024;
/// One tenant may have so many times the tails that it leaves: 75 % alone, 43 % each of two.
const TAILS_ALPHA: u64 = 3;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The revoked tokens cannot be read; serving without them would let them in.
    #[error("the revoked tokens cannot be read")]
    RevokedTokens(#[source] StorageError),
    /// The system gives no thread.
    #[error("no thread can be started to match live tails")]
    Thread(#[source] io::Error),
    /// Syslog has no token, or one that lets nobody send.
    #[error("no syslog can be taken: syslog.token_file: {0}")]
    SyslogToken(String),
    /// The contract's description, compiled in, cannot be read.
    #[error("the contract cannot be described to clients")]
    Reflection(#[source] tonic_reflection::server::Error),
}

/// What the server works with.
#[derive(Clone)]
pub struct Ports {
    /// Takes batches.
    pub publisher: Arc<dyn Publisher>,
    /// Answers queries, and keeps tokens, settings, jobs and heartbeats.
    pub storage: Arc<dyn Storage>,
    /// Feeds live tails.
    pub live_feed: LiveFeed,
    /// Sign and verify tokens.
    pub token_keys: TokenKeys,
    /// Speaks TLS on the port; none: the port is plain.
    pub tls: Option<Tls>,
    /// The identity under which this process sends heartbeats. None in a standalone process, where
    /// another part of it sends them.
    pub identity: Option<ProcessIdentity>,
    /// How many partitions the queue has; `ListProcesses` names those that nobody reads.
    pub partitions: u16,
    /// Served at `/metrics`.
    pub metrics: Metrics,
}

/// Where the server listens.
pub struct Listeners {
    /// For gRPC and HTTP, on all alike.
    pub http: Vec<TcpListener>,
    /// For syslog; none: that is off.
    pub syslog: Option<SyslogListeners>,
}

/// Learns from storage which tokens are revoked, then serves on the listeners, on all alike, until the tasks are
/// asked to stop and what is under way has been answered, or the drain time-out has passed. The
/// publisher is not closed: that is up to its owner, after this returns.
pub async fn run(
    config: ServerConfig,
    ports: Ports,
    listeners: Listeners,
    tasks: &Tasks,
    clock: Clock,
) -> Result<(), ServerError> {
    let auth = Arc::new(Auth::new(ports.token_keys.clone(), Arc::clone(&clock)));
    let stop = tasks.stop_token();
    let read = || ports.storage.revoked_token_ids(clock());
    // Before the first connection is accepted: a server that serves without the list would let
    // revoked tokens in. A database that is still starting is waited for, and so is not an error;
    // but whoever asks the process to stop meanwhile does not wait for it.
    let revoked = at_start("the database", StorageError::is_retryable, read);
    let Some(revoked) = stop.run_until_cancelled(revoked).await else { return Ok(()) };
    auth.set_revoked(revoked.map_err(ServerError::RevokedTokens)?);
    let (publisher, storage) = (Arc::clone(&ports.publisher), Arc::clone(&ports.storage));
    let readiness = Readiness::new(Some(publisher), storage, stop.clone());
    let ingest = Arc::new(Ingest {
        publisher: Arc::clone(&ports.publisher),
        limits: config.limits.clone(),
        rates: RateLimits::new(&config.rate),
        clock: Arc::clone(&clock),
        storage: Arc::clone(&ports.storage),
    });
    ingest.rates.tell();
    let budget = Budget::new(config.limits.in_flight_bytes_max);
    let connections = connection::permits(&config);
    let shared = SharedResources {
        budget: budget.clone(),
        unsent: UnsentBytes::new(UNSENT_BYTES_MAX),
        tails: TenantPermits::for_one(TAILS_MAX, TAILS_ALPHA),
        connections: connections.clone(),
        publisher: Arc::clone(&ports.publisher),
    };
    let parts = Parts {
        config: &config,
        ports: &ports,
        auth: &auth,
        ingest: &ingest,
        clock: &clock,
        shared: &shared,
    };
    let (health, router) = parts.routes(tasks)?;
    let mut syslog = None;
    if let Some(listeners) = listeners.syslog {
        let shared = syslog::Shared {
            auth: Arc::clone(&auth),
            ingest: Arc::clone(&ingest),
            budget: budget.clone(),
            connections: connections.clone(),
            tls: ports.tls.clone(),
            clock: Arc::clone(&clock),
        };
        let started = syslog::start(listeners, shared, tasks);
        let refused = |refusal: Refusal| ServerError::SyslogToken(refusal.to_string());
        syslog = Some(started.map_err(refused)?);
    }
    let router = router.merge(health::router(readiness.clone(), ports.metrics.clone()));
    if let Some(identity) = ports.identity.clone() {
        let storage = Arc::clone(&ports.storage);
        let taken = budget.clone();
        let load = move || taken.load();
        let beat = processes::beat(identity, storage, load, stop.clone());
        tasks.spawn("server heartbeat", Fate::Essential, beat);
    }
    let tls = ports.tls.clone();
    // Looked at once before serving, so that health says the truth to the first who asks and not
    // only after the first interval.
    let lookout = ReloadLoop { auth, tls, ingest, budget, readiness, health, clock };
    stop.run_until_cancelled(lookout.look()).await;
    tasks.spawn("lookout", Fate::Essential, lookout.run());
    let (http, tls) = (listeners.http, ports.tls);
    let served = connection::serve(http, router, &config, tls, connections, tasks);
    let drain = Duration::from_secs(config.drain_timeout_seconds);
    let drained = OptionFuture::from(syslog.map(|syslog| syslog.drained(drain)));
    tokio::join!(served, drained);
    Ok(())
}

/// Answers on the listeners about the process alone (`/healthz`, `/readyz`, `/metrics`), for one
/// that takes no batches itself, until the tasks are asked to stop. With an identity it also sends
/// heartbeats.
pub async fn run_status(
    config: &ServerConfig,
    identity: Option<ProcessIdentity>,
    storage: Arc<dyn Storage>,
    metrics: Metrics,
    listeners: Vec<TcpListener>,
    tasks: &Tasks,
) {
    if let Some(identity) = identity {
        let beats = processes::beat(identity, Arc::clone(&storage), || 0.0, tasks.stop_token());
        tasks.spawn("heartbeat", Fate::Essential, beats);
    }
    let readiness = Readiness::new(None, storage, tasks.stop_token());
    let (router, connections) = (health::router(readiness, metrics), connection::permits(config));
    connection::serve(listeners, router, config, None, connections, tasks).await;
}

/// What the handlers are made of.
struct Parts<'a> {
    config: &'a ServerConfig,
    ports: &'a Ports,
    auth: &'a Arc<Auth>,
    ingest: &'a Arc<Ingest>,
    clock: &'a Clock,
    shared: &'a SharedResources,
}

impl Parts<'_> {
    /// Everything that needs a token, and what describes it.
    fn routes(&self, tasks: &Tasks) -> Result<(HealthReporter, Router), ServerError> {
        let auth_layer = Arc::new(AuthLayer {
            auth: Arc::clone(self.auth),
            publisher: Arc::clone(&self.ports.publisher),
            budget: self.shared.budget.clone(),
            control_budget: Budget::new(CONTROL_BYTES_MAX),
            unsent: self.shared.unsent.clone(),
            inflater: Arc::new(Inflater::default()),
            batch_bytes_max: self.config.limits.request_bytes_max,
            read_timeout: Duration::from_secs(self.config.read_timeout_seconds),
        });
        let receiver = Receiver::new(Arc::clone(&auth_layer), Arc::clone(self.ingest));
        // The authentication layer bounds what goes in; the transport's own bound must not be
        // lower.
        let ingest = IngestServiceServer::new(self.ingest_handler(tasks))
            .max_decoding_message_size(self.config.limits.request_bytes_max);
        let query_handler = Arc::new(self.query_handler(tasks)?);
        let query = QueryServiceServer::from_arc(Arc::clone(&query_handler));
        let admin = AdminServiceServer::new(self.admin_handler());
        let models = ModelServiceServer::new(self.model_handler(tasks));
        let alert_handler = Arc::new(self.alert_handler(tasks));
        let alerts = AlertServiceServer::from_arc(Arc::clone(&alert_handler));
        let api = Api {
            auth: Arc::clone(&auth_layer),
            query: query_handler,
            alerts: alert_handler,
            origins: self.config.cors_origins.clone(),
            tasks: tasks.clone(),
        };
        // Health and reflection stand outside the authentication layer: a load balancer has no
        // token, and neither says anything about a tenant. So their bound on a request is small.
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = ReflectionBuilder::configure()
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_file_descriptor_set(otlp::grpc::description())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(ServerError::Reflection)?;
        // gRPC-Web is outermost, so that authentication and the bounds on a body see plain gRPC
        // whichever way it came. Models and alerts are open to viewers; their handlers ask for an
        // administrator where something is changed.
        let routes =
            Routes::new(with_grpc_web(Authenticated::new(ingest, Access::Ingest, &auth_layer)))
                .add_service(with_grpc_web(Authenticated::new(query, Access::Query, &auth_layer)))
                .add_service(with_grpc_web(Authenticated::new(admin, Access::Admin, &auth_layer)))
                .add_service(with_grpc_web(Authenticated::new(models, Access::Query, &auth_layer)))
                .add_service(with_grpc_web(Authenticated::new(alerts, Access::Query, &auth_layer)))
                .add_service(with_grpc_web(LogsService(Arc::clone(&receiver))))
                .add_service(health_service.max_decoding_message_size(SMALL_REQUEST_BYTES_MAX))
                .add_service(reflection.max_decoding_message_size(SMALL_REQUEST_BYTES_MAX));
        let router = routes.prepare().into_axum_router().merge(self.receivers(&receiver));
        let router = router.merge(http::router(Arc::new(api)));
        let router = router.fallback(listener::unknown_path::refuse);
        let router = match self.config.cors_origins.layer() {
            Some(cors) => router.layer(cors),
            None => router,
        };
        Ok((health, router))
    }

    /// Everything that brings logs in plain HTTP.
    fn receivers(&self, receiver: &Arc<Receiver>) -> Router {
        let (take, clock) = (|| Arc::clone(receiver), || Arc::clone(self.clock));
        otlp::http::router(take())
            .merge(json_logs::http::router(take(), clock()))
            .merge(loki::http::router(take()))
            .merge(elasticsearch::http::router(take(), clock()))
    }

    fn ingest_handler(&self, tasks: &Tasks) -> IngestHandler {
        IngestHandler {
            ingest: Arc::clone(self.ingest),
            auth: Arc::clone(self.auth),
            stop: tasks.stop_token(),
            // With a window of 0 a stream would never be read, and hang without an error.
            window: self.config.stream_window_batches.max(1),
        }
    }

    fn query_handler(&self, tasks: &Tasks) -> Result<QueryHandler, ServerError> {
        Ok(QueryHandler {
            storage: Arc::clone(&self.ports.storage),
            live_feed: self.ports.live_feed.clone(),
            tails: self.shared.tails.clone(),
            matcher: Arc::new(Matcher::start().map_err(ServerError::Thread)?),
            auth: Arc::clone(self.auth),
            clock: Arc::clone(self.clock),
            stop: tasks.stop_token(),
            known_services: Arc::new(self.config.services.clone()),
        })
    }

    fn model_handler(&self, tasks: &Tasks) -> ModelHandler {
        ModelHandler {
            storage: Arc::clone(&self.ports.storage),
            clock: Arc::clone(self.clock),
            jobs: self.jobs(tasks),
        }
    }

    fn jobs(&self, tasks: &Tasks) -> Jobs {
        Jobs {
            storage: Arc::clone(&self.ports.storage),
            clock: Arc::clone(self.clock),
            tasks: tasks.clone(),
        }
    }

    fn alert_handler(&self, tasks: &Tasks) -> AlertHandler {
        AlertHandler {
            storage: Arc::clone(&self.ports.storage),
            clock: Arc::clone(self.clock),
            jobs: self.jobs(tasks),
        }
    }

    fn admin_handler(&self) -> AdminHandler {
        AdminHandler {
            storage: Arc::clone(&self.ports.storage),
            auth: Arc::clone(self.auth),
            ingest: Arc::clone(self.ingest),
            clock: Arc::clone(self.clock),
            partitions: self.ports.partitions,
            shared: self.shared.clone(),
        }
    }
}

/// Looks every few seconds at what changes behind the server's back.
struct ReloadLoop {
    auth: Arc<Auth>,
    tls: Option<Tls>,
    ingest: Arc<Ingest>,
    budget: Budget,
    readiness: Readiness,
    health: HealthReporter,
    clock: Clock,
}

impl ReloadLoop {
    async fn run(self) {
        let stop = self.readiness.stop.clone();
        let looks = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                self.look().await;
            }
        };
        // Whoever is to stop does not wait for a database that does not answer.
        stop.run_until_cancelled(looks).await;
        self.report(ServingStatus::NotServing).await;
    }

    async fn look(&self) {
        // Until it can be read again, the last known list holds.
        match self.readiness.storage.revoked_token_ids((self.clock)()).await {
            Ok(token_ids) => self.auth.set_revoked(token_ids),
            Err(error) => {
                counter!("logweir_revoked_token_reads_failed_total").increment(1);
                warn!(%error, "the revoked tokens cannot be read; the last known ones hold");
            }
        }
        let (auth, tls) = (Arc::clone(&self.auth), self.tls.clone());
        // Files may lie on a network disk that hangs: not on a thread that serves requests.
        let reading = tokio::task::spawn_blocking(move || {
            note_reload("token keys", auth.reload_keys());
            if let Some(tls) = tls {
                note_reload("TLS certificate", tls.reload());
            }
        });
        if let Err(error) = reading.await {
            warn!(%error, "the token keys and certificates were not read");
        }
        self.ingest.rates.forget_idle(Instant::now());
        self.budget.report();
        let ready = self.readiness.check().await.is_ok();
        self.report(if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
    }

    async fn report(&self, status: ServingStatus) {
        // The empty name stands for the whole server in grpc.health.v1. Readiness is about taking
        // batches: while the queue is full, queries are still answered, so those services keep
        // their readers.
        for service in ["", "logweir.v1.IngestService", LogsService::NAME] {
            self.health.set_service_status(service, status).await;
        }
        for service in [
            "logweir.v1.QueryService",
            "logweir.v1.AdminService",
            "logweir.v1.ModelService",
            "logweir.v1.AlertService",
        ] {
            self.health.set_service_status(service, ServingStatus::Serving).await;
        }
    }
}

/// Logs and counts what came of reading a file again. After a failure the server keeps what it read
/// last, so that a file that is just being written stops nobody.
fn note_reload<E: std::error::Error + 'static>(what: &'static str, reloaded: Result<bool, E>) {
    match reloaded {
        Ok(false) => {}
        Ok(true) => info!("the {what} changed and took effect"),
        Err(error) => {
            counter!("logweir_file_reloads_failed_total", "what" => what).increment(1);
            warn!(error = &error as &dyn std::error::Error, "the {what} stay as they were");
        }
    }
}
