//! The receiver of logs as JSON: `POST /api/logs`, and the paths that earlier systems had for it.
//!
//! `records` finds the records of a body, `translate` makes logs of them by the one reader of log text,
//! `idempotency_key` reads what a sender calls its request. `http` is the way in. Everything else is what
//! every receiver has in common.

pub(crate) mod http;
mod idempotency_key;
mod records;
mod translate;
