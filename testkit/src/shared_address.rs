//! Where a test finds the servers that all tests of a run share: in its environment.

use std::env;

/// Holds the address of the shared PostgreSQL.
pub(crate) const POSTGRES: &str = "LOGWEIR_TESTKIT_POSTGRES";
/// Holds the address of the shared RabbitMQ.
pub(crate) const RABBITMQ: &str = "LOGWEIR_TESTKIT_RABBITMQ";

/// The address of a shared server; none if this run shares none.
pub(crate) fn address(variable: &str) -> Option<String> {
    env::var_os(variable)?.into_string().ok()
}
