//! Evaluates rules: [`engine`] goes through all of them for every service; `measure` compares a
//! number with a threshold, [`self_monitoring`] watches the installation itself.

mod check;
pub mod engine;
pub(crate) mod late;
mod measure;
pub mod observations;
pub mod self_monitoring;
