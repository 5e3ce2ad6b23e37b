//! Waiting for the broker's responses, but not for ever.

use std::future::Future;

use tokio::time::timeout;

use super::{
    config::ANSWER_TIMEOUT,
    error::{PRECONDITION_FAILED, RabbitError, cause, number},
};

/// Waits for an answer of the broker, but not for ever.
pub(super) async fn answered<T>(
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, RabbitError> {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(RabbitError::Unreachable("the broker does not answer".into())),
    }
}

/// The answer to a declaration: an error tells what differs.
pub(super) async fn declared<T>(
    what: &str,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, RabbitError> {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Err(error)) if number(&error) == Some(PRECONDITION_FAILED) => {
            Err(RabbitError::Topology { what: what.to_owned(), difference: cause(&error) })
        }
        Ok(Err(error)) => Err(RabbitError::Unreachable(format!("{what}: {}", cause(&error)))),
        Ok(Ok(value)) => Ok(value),
        Err(_) => Err(RabbitError::Unreachable(format!("{what}: the broker does not answer"))),
    }
}
