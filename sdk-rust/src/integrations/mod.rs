//! The libraries that programs log with, each of a feature of its own.

mod guard;
#[cfg(feature = "tracing")]
mod layer;
#[cfg(feature = "log")]
pub mod log;

pub use guard::Guard;
#[cfg(feature = "tracing")]
pub use layer::{LogweirLayer, init, layer};
