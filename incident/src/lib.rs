//! What alerting is about, as typed values: what is watched, what was found, who is told of it and
//! how.
//!
//! Everything here is plain data with the rules that it must keep, and functions of a value, an
//! input and a moment: no I/O, no clock, no randomness. Storage keeps these values, the server
//! shows and checks them, alerting brings them about, and the command line reads them from files.
//!
//! In reading order: a [`rule`] says what is watched; an [`incident`] is what was found, from the
//! first doubt to its end; a [`suppression`] says who does not want to know of it, and the
//! [`policy`] how often people are told; an [`action`] is what somebody does about it. A
//! [`notification`] stands for one transition of an incident, a [`delivery`] for its way to one
//! [`channel`], and [`render`] puts it into words. A [`job`] is what a server has alerting do.

pub mod action;
pub mod built_in;
pub mod channel;
pub mod delivery;
pub mod example;
pub mod incident;
pub mod job;
pub mod notification;
pub mod policy;
pub mod render;
pub mod rule;
pub mod secret;
pub mod setting;
pub mod suppression;
pub mod tracking;
