//! From counts of logs to a person: rules, incidents, notices.
//!
//! The centre is pure: what a rule says, what becomes of an incident and what is told to whom are
//! functions of a state, an input and a moment. The state is plain data that is kept between
//! evaluations and taken up again after a restart, so that no transition is missed and none is told
//! twice under two keys.
//!
//! In reading order: [`rule`] is what may be asked, [`incident`] what is found, [`notice`] what is
//! told of it.

pub mod incident;
pub mod notice;
pub mod rule;
