//! Sequences: what usually follows what, and how often, in a session.
//!
//! A session is what belongs together: the logs of a trace, or else those of one instance of a
//! service for a while. Three things are scored, each by minus the logarithm of its probability:
//!
//! - **events**: that one is in the session which few sessions have;
//! - **transitions**: what follows the last event, the last two and the last three;
//! - **counts**: how often an event came, given how often another did.
//!
//! The three have different scales, and what is new in one need not be rare: some systems bring a
//! new event every hour, others never. So each is compared with its own history, taken from
//! sessions that were scored before they were learned, and the rarest decides. The threshold is
//! where that history allows as many alarms as the budget says; nothing else is set.
//!
//! [`SequenceModel`] learns from a batch of sessions; [`SequenceTracker`] learns as logs come.
//! Both have bounded memory. Sources: Du et al., DeepLog (2017) for next-event sessions; Lou et
//! al. (2010) for invariants of counts; Witten and Bell (1991) for the share of the new.

mod calibration;
mod counts;
mod grams;
mod hash;
mod model;
mod reason;
mod surprises;
mod tracker;

pub use self::{
    model::{SequenceMetrics, SequenceModel, SequenceParameters, SequenceScore},
    reason::SequenceReason,
    tracker::{
        ClosedSession, SequenceLog, SequenceTracker, SessionKind, TrackerConfig, TrackerStats,
    },
};

/// The event that goes by a name, for sequences of something else than templates.
pub fn event_id(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

#[cfg(test)]
mod tests;
