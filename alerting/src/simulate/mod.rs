//! Rules on a simulated clock: [`player`] plays logs, [`preview`] the stored past of a tenant.

pub mod player;
pub(crate) mod preview;
