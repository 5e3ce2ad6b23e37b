//! From counts of logs to a person: rules, incidents, notifications.
//!
//! The centre is pure: what a rule finds, what becomes of an incident and who is told what are
//! functions of a state, an input and a moment. The state is plain data that is kept between
//! evaluations and taken up again after a restart, so that no transition is missed and none is told
//! twice under two keys. I/O is at the edge: in [`leader`], `observe`,
//! [`jobs`], [`channel`] and the outbox in storage.
//!
//! In the order in which an evaluation goes through them:
//!
//! - [`leader`] — one process leads: it evaluates the rules of every tenant and commits what they found;
//! - `observe` — reads from storage what an evaluation takes in;
//! - [`rule`] — evaluates every rule for every service, and how the system itself does;
//! - [`detector`] — what is unusual about a service although nobody set a number, against a baseline;
//! - [`incident`] — the life of incidents, and the evidence of their probable cause;
//! - [`notify`] — the whole way of a notification to a channel's outbox, and the worker that sends it;
//! - [`render`] and [`channel`] — how it looks on a channel, and how it gets there.
//!
//! Beside them, [`simulate`] plays logs or a stored past through the same rules, [`jobs`] does what
//! servers ask for, and [`yaml`] reads rules, channels and policies from YAML.

pub mod config;
pub mod dependencies;
pub mod jobs;
pub mod leader;
mod observe;
pub mod yaml;

pub mod rule;

pub mod detector;

pub mod incident;

pub mod notify;

pub mod channel;
pub mod render;

pub mod simulate;
