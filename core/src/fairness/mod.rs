//! Shares of what all tenants use: who may take how much of something bounded, so that what one of
//! them does ends at its own share. Pure, but for the waiting of [`permits`].
//!
//! [`threshold`] is the rule for space and [`queue`] that for turns, [`permits`] keeps account, and
//! [`resource`] names what is shared.

pub mod permits;
pub mod queue;
pub mod resource;
pub mod threshold;
