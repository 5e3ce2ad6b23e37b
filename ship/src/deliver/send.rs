//! Sends one batch by the client library, and tells a refusal of the batch from one of the sender.

use std::time::{Duration, Instant};

use logweir_sdk::{SendOutcome, Sender};
use tonic::{Code, Status};

use crate::{
    deliver::{batch::ServiceBatch, counts::Answer},
    error::Error,
};

/// Delivers one batch: tries again until it is answered for good or so much time has passed;
/// without a patience, for ever.
pub async fn send_batch(
    sender: Sender,
    batch: ServiceBatch,
    patience: Option<Duration>,
) -> Result<Answer, Error> {
    let ServiceBatch { service, encoded } = batch;
    let deadline = patience.map(|patience| Instant::now() + patience);
    match sender.send(&encoded, deadline).await {
        SendOutcome::Accepted { accepted, rejected } => {
            Ok(Answer::Accepted { accepted: accepted.into(), rejected })
        }
        // Not cut in two here: the batch is noted in the journal as it is sent, and halves of it
        // under new ids would be sent once more after a kill.
        SendOutcome::TooLarge { message } => {
            Ok(Answer::Refused { reason: "batch_too_large".to_owned(), message })
        }
        SendOutcome::Refused { code, reason, message, .. } if is_final(code) => {
            Ok(Answer::Refused { reason: reason.to_string(), message })
        }
        SendOutcome::Refused { code, message, .. } => {
            Err(Error::Refused { service, status: Status::new(code, message) })
        }
        SendOutcome::OutOfTime { message } => Err(Error::OutOfTime(message)),
    }
}

/// Whether the batch itself is at fault, so that it is given up; any other refusal concerns all
/// batches and ends the sending, which can be taken up again.
fn is_final(code: Code) -> bool {
    // A revoked token, for one, is not in this list: to give up batches for it would throw away a
    // whole file, one batch after the other.
    matches!(
        code,
        Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists | Code::OutOfRange
    )
}
