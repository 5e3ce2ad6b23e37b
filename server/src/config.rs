//! The server's section of the settings.

use std::{collections::BTreeMap, thread::available_parallelism};

use logweir_core::limits::Limits;
use serde::{Deserialize, Serialize};

use crate::listener::grpc_web::CorsOrigins;

/// How the server behaves. Every number here is a bound; at the bound the caller is told what to
/// do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// What one request may carry.
    pub limits: Limits,
    /// What one tenant, and one service of it, may send in a second.
    pub rate: RateConfig,
    /// Open connections of one tenant; all together may have a third more, and one more is closed at
    /// once.
    pub connections_max: usize,
    /// Requests at a time on one connection; one more waits in the client.
    pub connection_streams_max: u32,
    /// Batches of one `IngestStream` that wait for their answer; beyond, its reading pauses.
    pub stream_window_batches: usize,
    /// A request must be read within this, seconds, from its first byte; one of which nothing comes
    /// for a tenth of it is given up before.
    pub read_timeout_seconds: u64,
    /// How long requests under way may take to finish when the server stops, seconds.
    pub drain_timeout_seconds: u64,
    /// The origins whose pages may call from a browser (CORS); none by default. Comes from the
    /// common section.
    #[serde(skip)]
    pub cors_origins: CorsOrigins,
    /// What is known about services: shown by `ListServices`. Comes from the common section.
    #[serde(skip)]
    pub services: BTreeMap<String, ServiceConfig>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            rate: RateConfig::default(),
            // Reading one request on each of these connections is bounded by `in_flight_bytes_max`,
            // whatever this number is; it bounds sockets and what each connection keeps idle.
            connections_max: 4_096,
            connection_streams_max: 256,
            stream_window_batches: 64,
            read_timeout_seconds: 30,
            drain_timeout_seconds: 10,
            cors_origins: CorsOrigins::default(),
            services: BTreeMap::new(),
        }
    }
}

/// Rates of one tenant and of one service of it. A rate of 0 means without limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateConfig {
    /// Logs a second of one service.
    pub logs_per_second: u32,
    /// Bytes a second of one service: encoded requests, after decompression.
    pub bytes_per_second: u32,
    /// Logs a second of a tenant, all its services together. By default 1,000,000 for each core.
    pub tenant_logs_per_second: u32,
    /// Bytes a second of a tenant, counted alike. By default 256 MiB for each core.
    pub tenant_bytes_per_second: u32,
    /// How many seconds' worth may come at once. A batch larger than that is charged as that much,
    /// so that it is not refused for ever.
    pub burst_seconds: u32,
}

// Several times what a core takes in, so that nobody is refused whom this process could serve; what
// divides it among tenants is the queue. This caps who sends to be refused.
const CORE_LOGS_PER_SECOND: u32 = 1_000_000;
const CORE_BYTES_PER_SECOND: u32 = 256 << 20;

impl Default for RateConfig {
    fn default() -> Self {
        // Cores as the process may use them: a quota of a container counts.
        let cores = available_parallelism().map_or(1, |cores| cores.get() as u32);
        Self {
            logs_per_second: 0,
            bytes_per_second: 0,
            tenant_logs_per_second: cores.saturating_mul(CORE_LOGS_PER_SECOND),
            tenant_bytes_per_second: cores.saturating_mul(CORE_BYTES_PER_SECOND),
            burst_seconds: 2,
        }
    }
}

/// What is known about a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceConfig {
    /// The region it runs in.
    pub region: String,
    /// Who owns it.
    pub owner: String,
}
