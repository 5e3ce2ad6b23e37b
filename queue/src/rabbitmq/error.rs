//! Why the queue in RabbitMQ cannot be used, and what the broker's refusals mean.

use lapin::ErrorKind;

/// AMQP's number for what a user may not do.
pub(super) const ACCESS_REFUSED: u16 = 403;
/// AMQP's number for a virtual host that is not there.
pub(super) const NOT_ALLOWED: u16 = 530;
/// AMQP's number for arguments that differ.
pub(super) const PRECONDITION_FAILED: u16 = 406;

/// Why the queue in RabbitMQ cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RabbitError {
    /// The address is no URL of a broker.
    #[error("the address of RabbitMQ is not valid: {0}; use amqp://user:password@host:port/vhost")]
    Url(String),
    /// The broker knows the user not, or the virtual host.
    #[error(
        "RabbitMQ at {address} refuses the connection: {cause}; check user, password and vhost"
    )]
    Refused {
        /// Host and port.
        address: String,
        /// What the broker or the library says.
        cause: String,
    },
    /// Something of the same name is there and differs.
    #[error(
        "{what} is in RabbitMQ with other settings: {difference}; use the settings it was made with, \
         or let it run empty and delete it"
    )]
    Topology {
        /// The queue or exchange.
        what: String,
        /// What differs, in the broker's words.
        difference: String,
    },
    /// The broker is not there, or the connection was lost. Try again.
    #[error("RabbitMQ cannot be reached: {0}; check that it runs")]
    Unreachable(String),
}

impl RabbitError {
    /// Whether it may pass by itself.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

impl From<lapin::Error> for RabbitError {
    fn from(error: lapin::Error) -> Self {
        Self::Unreachable(cause(&error))
    }
}

/// The broker's own words where it spoke.
pub(super) fn cause(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => refusal.get_message().to_string(),
        _ => error.to_string(),
    }
}

pub(super) fn number(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => Some(refusal.get_id()),
        _ => None,
    }
}
