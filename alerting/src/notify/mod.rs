//! From an incident that changed to a message that a channel took.
//!
//! [`pipeline`] shows the whole way to the outbox; [`suppress`], [`repeat`] and [`route`] are its
//! stages. What then waits in the [`outbox`] is sent by one [`worker`] for each channel, which a
//! [`plan`] tells what to do next.

pub(crate) mod channel_change;
pub mod outbox;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod repeat;
pub mod route;
pub mod suppress;
pub mod worker;
