//! What keeps an installation going: tokens, processes, jobs, models, dead letters, upkeep.

pub(crate) mod dead_letters;
pub(crate) mod deploys;
pub(crate) mod findings;
pub(crate) mod heartbeats;
pub(crate) mod jobs;
pub(crate) mod maintain;
pub(crate) mod models;
pub(crate) mod suspects;
pub(crate) mod tokens;
