//! What the tests against a broker share.

use std::collections::BTreeSet;

use logweir_queue::RabbitConfig;
use testkit::RabbitMq;

/// Two partitions: making a quorum queue takes its time.
pub(crate) fn config(broker: &RabbitMq) -> RabbitConfig {
    RabbitConfig { url: broker.url(), partitions: 2, ..RabbitConfig::default() }
}

/// All partitions.
pub(crate) fn all(config: &RabbitConfig) -> BTreeSet<u16> {
    (0..config.partitions).collect()
}
