//! What keeps an installation in order: tokens, processes, models, and what could not be stored.

pub mod completions;
pub mod dead_letters;
pub mod deploy;
pub mod feedback;
pub mod models;
pub mod processes;
pub mod tenant;
pub mod token;
