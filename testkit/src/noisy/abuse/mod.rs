//! Tenant b, who has one valid token and means ill.
//!
//! All of its clients run on one thread of lower priority than the servers and tenant a: they stand
//! for machines elsewhere, and what is measured is what a server does to a, not what is left of the
//! processor on the machine of the test.

mod abuser;
mod case;
mod http;
mod ingest;
mod push;
mod query;
mod rules;
mod running;
mod wire;

pub use case::Case;

pub(super) use abuser::Abuser;
pub(super) use ingest::store_a_week;
pub(super) use running::Running;
