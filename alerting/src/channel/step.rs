//! The steps of a call, for whoever asks why a channel does not work.

use std::time::{Duration, Instant};

use serde::Serialize;

/// One step of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// `dns`, `connect`, `tls`, `authentication` or `answer`.
    pub name: &'static str,
    /// Whether it went well.
    pub succeeded: bool,
    /// What came of it, in words.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
}

/// The steps of a call so far.
#[derive(Debug, Default)]
pub struct Steps(Vec<Step>);

impl Steps {
    /// Notes a step that began at `since`.
    pub fn note<T, E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        since: Instant,
        outcome: Result<(T, String), E>,
    ) -> Result<T, E> {
        let took = since.elapsed();
        match outcome {
            Ok((value, detail)) => {
                self.0.push(Step { name, succeeded: true, detail, took });
                Ok(value)
            }
            Err(error) => {
                let detail = error.to_string();
                self.0.push(Step { name, succeeded: false, detail, took });
                Err(error)
            }
        }
    }

    /// In order.
    pub fn into_vec(self) -> Vec<Step> {
        self.0
    }
}
