//! What every receiver of logs over HTTP has in common: a request is taken whole, whatever form it has,
//! and becomes batches.
//!
//! `request` reads it within its tenant's share of the bytes in flight, has it decoded where it holds no
//! other request up, and gives its batches to `Ingest`, which tells repeats and what was rejected.
//! `batches` cuts logs into batches, `repeat` says what a request is known by, `named` keeps two of one
//! name apart, `record` reads what is JSON or text, `service` says how a service is called. What differs
//! is a [`Format`]: how bytes of it become logs, as a pure function.

pub(crate) mod batches;
pub(crate) mod json;
mod named;
pub(crate) mod record;
pub(crate) mod repeat;
pub(crate) mod request;
pub(crate) mod service;

pub(crate) use self::{
    batches::{Batches, Translation},
    request::{Format, Receiver, Request},
};
