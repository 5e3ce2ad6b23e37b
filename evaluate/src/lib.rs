//! The detection of production, with its settings, over labelled files.
//!
//! Predictions are written; scorers that know the truth read them. Only what judges single logs
//! reads the truth of `loadgen` itself, after the judgement. Nothing can be set here that a server
//! does not have. A [`Run`] reads the files; each kind of evaluation is a module with one function
//! that returns its report.

pub mod anomalies;
mod error;
pub mod incidents;
mod replay;
mod run;
pub mod scenarios;
pub mod sequences;
pub mod series;
pub mod templates;

pub use self::{
    error::Error,
    run::{Run, Watch},
};
