//! Alerting at work: one process leads, feeds the engine from storage, keeps what it finds and tells
//! people.

pub mod action;
pub mod settings;

mod outbox;
