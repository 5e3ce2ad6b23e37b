//! From counts of logs to a person: rules, incidents, notifications.
//!
//! The centre is pure: what a rule says, what becomes of an incident and what is told to whom are
//! functions of a state, an input and a moment. The state is plain data that is kept between
//! evaluations and taken up again after a restart, so that no transition is missed and none is told
//! twice under two keys.
//!
//! In reading order: [`rule`] is what may be asked, [`incident`] what is found, [`notification`] what is
//! told of it. [`engine`] is what drives the rest: `window` sums up, `normal` knows what is usual,
//! `judge` and [`novelty`] say what is not, [`evidence`] why it may be, [`keeper`] leads incidents
//! through their lives and says what is told. A notification then waits in the [`outbox`]; [`plan`] decides
//! what a channel's worker does next, the [`breaker`] and the [`pace`] whether it may, and [`deliver`]
//! does it through a [`channel`].

pub mod engine;
pub mod evidence;
pub mod file;
mod judge;
pub mod keeper;
pub mod live;
mod normal;
pub mod novelty;
pub mod play;
mod statistics;
pub mod system;
pub mod window;

pub mod channel;
pub mod deliver;
pub mod outbox;
pub mod plan;

pub mod address;
mod email_body;
pub mod slack_blocks;
