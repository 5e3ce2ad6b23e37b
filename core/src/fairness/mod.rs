//! Shares of what all tenants use: who may take how much of something bounded, so that what one of
//! them does ends at its own share. Pure.
//!
//! [`threshold`] is the rule.

pub mod threshold;
