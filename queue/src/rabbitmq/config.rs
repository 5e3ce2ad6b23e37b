//! Settings of the queues in RabbitMQ.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// How long the queue waits for an answer of the broker to anything but a batch.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the broker is, what lies in it, and what may wait. Names, partitions and limits of the
/// queues must be the same in every process: they are arguments of the queues, which the broker
/// compares.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RabbitConfig {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. `heartbeat` in seconds and
    /// `connection_timeout` in milliseconds may follow behind a `?`. Comes from its own setting.
    #[serde(skip)]
    pub url: String,
    /// Certificates (PEM) that the broker's may be signed with, besides those of the system.
    #[serde(skip)]
    pub tls_authorities_pem: Option<String>,
    /// What connections are called in the broker's lists, such as `processor on host-1`.
    #[serde(skip)]
    pub process: String,
    /// What the names of all queues and exchanges begin with.
    pub prefix: String,
    /// Partitions that services are spread over, each of two queues: one for tenants that send much. One
    /// service is in one of them and so processed by one processor at a time. To change it, stop the servers, let the queues run empty and stop the
    /// processors.
    pub partitions: u16,
    /// What may wait in one queue, bytes; further batches are refused.
    pub partition_bytes_max: u64,
    /// What may wait among the broker's dead letters, bytes; beyond it they stay in their queues.
    pub dead_letters_bytes_max: u64,
    /// How often a batch is handed out before the broker puts it among its dead letters. High, for
    /// each death of a processor counts for all the batches that it had fetched.
    pub deliveries_max: u32,
    /// Batches of a server that wait for the broker's confirmation.
    pub unconfirmed_batches_max: usize,
    /// Memory of those batches, compressed, bytes.
    pub unconfirmed_bytes_max: usize,
    /// A batch that is larger than this when compressed is refused, for the broker would close the
    /// channel over it. RabbitMQ 4 takes 16 MiB by default.
    pub message_bytes_max: usize,
    /// How long publishing waits for the confirmation, milliseconds.
    pub confirm_ms_max: u64,
    /// Batches of one queue that a processor has fetched and not settled.
    pub prefetch_batches_max: u16,
    /// About how much memory all fetched batches take, compressed, bytes. The broker counts batches
    /// only, so that their number follows from their average size.
    pub prefetch_bytes_max: usize,
    /// Batches wait, none comes: after this time the consumer connects again, milliseconds.
    pub silence_ms_max: u64,
    /// How often the queues' lengths are looked up, milliseconds.
    pub lag_interval_ms: u64,
    /// How long the start waits for a broker that does not answer, milliseconds.
    pub start_ms_max: u64,
}

impl Default for RabbitConfig {
    fn default() -> Self {
        // 1,000 deliveries, because good batches reach the broker's 20 when a processor is killed
        // 20 times: each death counts for all that it had fetched. 8 s for a confirmation are less
        // than the 10 s that the client libraries wait for an answer. 64 MiB each way bound what a
        // process holds, and 512 batches let small ones still make a large transaction.
        Self {
            url: String::new(),
            tls_authorities_pem: None,
            process: "logweir".into(),
            prefix: "logweir".into(),
            partitions: 4,
            partition_bytes_max: 8 << 30,
            dead_letters_bytes_max: 1 << 30,
            deliveries_max: 1_000,
            unconfirmed_batches_max: 1_024,
            unconfirmed_bytes_max: 64 << 20,
            message_bytes_max: 16 << 20,
            confirm_ms_max: 8_000,
            prefetch_batches_max: 512,
            prefetch_bytes_max: 64 << 20,
            silence_ms_max: 30_000,
            lag_interval_ms: 2_000,
            start_ms_max: 60_000,
        }
    }
}

impl RabbitConfig {
    pub(super) fn confirm_timeout(&self) -> Duration {
        Duration::from_millis(self.confirm_ms_max.max(100))
    }

    pub(super) fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms_max.max(1_000))
    }

    /// At least a tenth of a second: 0 would never rest.
    pub(super) fn lag_interval(&self) -> Duration {
        Duration::from_millis(self.lag_interval_ms.max(100))
    }

    pub(super) fn start_timeout(&self) -> Duration {
        Duration::from_millis(self.start_ms_max)
    }
}

/// Without the URL, which holds a password.
impl fmt::Debug for RabbitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitConfig")
            .field("process", &self.process)
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}
