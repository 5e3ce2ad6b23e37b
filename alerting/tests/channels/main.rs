//! The channels and their workers against real listeners that play Slack, a mail server and a
//! webhook's receiver; and against an hour of trouble on a simulated clock.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod deliver;
mod email;
mod harness;
mod render;
mod slack;
mod storm;
mod webhook;
