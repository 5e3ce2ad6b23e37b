//! Models as versions: trained on stored logs, compared, and loaded while processors run.
//!
//! - [`jobs`] takes what servers ask for, one job at a time, and does it beside the pipeline.
//! - [`replay`] judges stored logs again, in order of time, by a detector of its own; [`train`] and
//!   [`compare`] stand on it.
//! - [`clusters`] groups the patterns, or the anomalies, of a range.
//! - [`active`] reads every few seconds which models are active and has the detector use them.
//! - [`feedback`] is what people said of logs, as weights of patterns.
//! - [`schedule`] asks for a training once a day.

mod active;
mod clusters;
mod compare;
mod feedback;
mod job_context;
mod jobs;
mod replay;
mod schedule;
mod train;

pub(crate) use self::{
    active::{ActiveModels, InUse, refresh},
    feedback::Said,
    job_context::Tools,
    jobs::Workshop,
    schedule::train_daily,
};
