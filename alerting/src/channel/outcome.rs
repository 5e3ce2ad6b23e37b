//! What came of sending a message: a receipt, or a failure in the breaker's and the schedule's
//! terms.

use std::{fmt, time::Duration};

use logweir_incident::channel::breaker::CallResult;

/// Bytes of a provider's response that are shown to people.
pub const WORDS_BYTES_MAX: usize = 512;

/// The destination took the message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// What later messages about the incident need, to edit it and to stand below it.
    pub thread: Option<String>,
    /// What the destination returned, in its own words, or what is worth knowing of it.
    pub words: String,
}

/// Why a message did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The name does not exist.
    Unresolved,
    /// It does not answer, or says that it fails: try again, not before the pause if it named one.
    Failing {
        /// How long to wait at least.
        pause: Option<Duration>,
    },
    /// It was called too often.
    RateLimited {
        /// How long it wants not to be called, if it said.
        pause: Option<Duration>,
    },
    /// Address, name or password is wrong: a person must look.
    Misconfigured,
    /// It finds fault with this message: trying the same again is useless.
    Rejected,
    /// This process may no longer be the leader, and must not send.
    TooLate,
}

/// A message did not get through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SendError {
    /// What kind of failure it is.
    pub failure: Failure,
    /// What happened, in words, the provider's own included; no secrets.
    pub text: String,
    /// Whether the destination may have taken the message all the same. It is then repeated with
    /// the same key and the same content.
    pub may_have_arrived: bool,
}

impl SendError {
    pub(crate) fn new(failure: Failure, text: impl fmt::Display) -> Self {
        Self { failure, text: text.to_string(), may_have_arrived: false }
    }

    /// As the breaker counts it; none where it says nothing about the destination.
    pub const fn call_result(&self) -> Option<CallResult> {
        Some(match self.failure {
            Failure::Unresolved => CallResult::Unresolved,
            Failure::Failing { .. } => CallResult::Failed,
            Failure::RateLimited { pause } => CallResult::RateLimited { pause },
            Failure::Misconfigured => CallResult::Misconfigured,
            // It answered and only this message is wrong: the destination is well.
            Failure::Rejected => CallResult::Well,
            Failure::TooLate => return None,
        })
    }

    /// How long the destination wants to be left alone.
    pub const fn pause(&self) -> Option<Duration> {
        match self.failure {
            Failure::Failing { pause } | Failure::RateLimited { pause } => pause,
            _ => None,
        }
    }
}
