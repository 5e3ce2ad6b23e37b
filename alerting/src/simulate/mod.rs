//! Rules on a simulated clock: [`replay`] goes through given logs, `preview` through the stored
//! past of a tenant.

pub(crate) mod preview;
pub mod replay;
