//! What keeps a data directory going: tokens, jobs, models, dead letters, upkeep, retention.

pub(crate) mod dead_letters;
pub(crate) mod deploys;
pub(crate) mod findings;
pub(crate) mod heartbeats;
pub(crate) mod jobs;
pub(crate) mod maintain;
pub(crate) mod merge;
pub(crate) mod models;
pub(crate) mod numbers;
pub(crate) mod retention;
pub(crate) mod suspects;
pub(crate) mod tokens;
