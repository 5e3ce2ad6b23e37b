//! A pattern's latency: single slow logs, and phases in which it is slow.
//!
//! A phase is noticed in the service as a whole or in the pattern alone; see
//! [`super::level_shift`]. While it lasts nothing is learned from it. A level that stays is learned
//! afresh after half an hour.

use super::{
    episode::{GAP_NANOS, USUAL_NANOS},
    latency::{LatencyHistogram, LatencyRank},
    level_shift::Shift,
};

/// Evidence in a pattern itself without which a slow phase of its service does not concern it.
const OWN_EVIDENCE_MIN: f32 = 2.0;

/// Logs that tell which runs of slow logs are usual, for a pattern and for a service.
const LEARNING_LOGS: u32 = 50;
const SERVICE_LEARNING_LOGS: u32 = 300;

/// The latency of a service as a whole.
#[derive(Debug, Clone)]
pub(crate) struct ServiceLatency {
    shift: Shift,
    slow_since_unix_nano: Option<i64>,
    /// Slow phases that have ended.
    phases: u32,
    /// Slow phases that lasted until they were accepted as the new level.
    accepted: u32,
}

/// The latency of a pattern.
#[derive(Debug, Clone)]
pub(crate) struct LatencyBaseline {
    histogram: LatencyHistogram,
    shift: Shift,
    slow_since_unix_nano: Option<i64>,
    /// An outlier, and when: it is learned if it turns out to be alone.
    pending: Option<(f64, i64)>,
    /// Slow phases of the service that had ended or been accepted at the last log.
    phases: u32,
    accepted: u32,
}

/// Whether the service has a spell of outliers, and from which tail on a latency is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutlierBurst {
    pub(crate) is_running: bool,
    pub(crate) bound: f64,
}

/// What a latency is for its pattern.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LatencyDeviation {
    /// The chance of a latency as high.
    pub(crate) latency_tail: f64,
    /// The chance of so many slow ones lately, if it belongs to a slow phase.
    pub(crate) slowdown_tail: Option<f64>,
    /// The slow phase began with an earlier log.
    pub(crate) continues: bool,
    /// When the slow phase began; 0 if there is none.
    pub(crate) slow_since_unix_nano: i64,
}

impl ServiceLatency {
    pub(crate) fn new() -> Self {
        let shift = Shift::new(SERVICE_LEARNING_LOGS);
        Self { shift, slow_since_unix_nano: None, phases: 0, accepted: 0 }
    }

    fn observe(&mut self, tail: LatencyRank, time_unix_nano: i64) {
        self.shift.observe(tail.middle);
        if self.shift.has_changed() {
            let since = *self.slow_since_unix_nano.get_or_insert(time_unix_nano);
            if time_unix_nano.saturating_sub(since) > USUAL_NANOS {
                self.accepted += 1;
                self.slow_since_unix_nano = None;
                self.shift.end_phase();
            }
        } else if self.slow_since_unix_nano.take().is_some() {
            self.phases += 1;
            self.shift.end_phase();
        }
    }
}

impl LatencyBaseline {
    pub(crate) fn new(time_unix_nano: i64) -> Self {
        Self {
            histogram: LatencyHistogram::new(time_unix_nano),
            shift: Shift::new(LEARNING_LOGS),
            slow_since_unix_nano: None,
            pending: None,
            phases: 0,
            accepted: 0,
        }
    }

    /// Scores a latency, then learns it unless it belongs to a slow phase or a spell of outliers:
    /// the first few would make the next ones usual. So an outlier, one whose tail is within
    /// `bound`, is learned when no other has followed for ten minutes. None while too little is
    /// known.
    pub(crate) fn observe(
        &mut self,
        service: &mut ServiceLatency,
        latency_ms: f64,
        time_unix_nano: i64,
        burst_state: OutlierBurst,
    ) -> Option<LatencyDeviation> {
        let Some(tail) = self.histogram.tail(latency_ms) else {
            self.histogram.learn(latency_ms, time_unix_nano);
            return None;
        };
        // Phases of the service end while this pattern is silent; its numbers say at its next log
        // what was missed, so nothing need be told to each pattern.
        service.observe(tail, time_unix_nano);
        if self.accepted != service.accepted {
            self.accepted = service.accepted;
            if self.slow_since_unix_nano.is_some() {
                self.accept(latency_ms, time_unix_nano);
                return None;
            }
        }
        if self.phases != service.phases {
            (self.phases, self.slow_since_unix_nano) = (service.phases, None);
            self.shift.end_phase();
        }
        self.shift.observe(tail.middle);
        let finding = |slowdown_tail, continues, since| LatencyDeviation {
            latency_tail: tail.at_least,
            slowdown_tail,
            continues,
            slow_since_unix_nano: since,
        };
        let Some(deciding) = self.deciding_shift(service) else {
            if self.slow_since_unix_nano.take().is_some() && service.slow_since_unix_nano.is_none()
            {
                self.shift.end_phase();
            }
            self.learn(tail, latency_ms, time_unix_nano, burst_state);
            return Some(finding(None, false, 0));
        };
        let belongs = deciding.explains(tail.middle).then(|| deciding.tail());
        let started = service.slow_since_unix_nano.or(self.slow_since_unix_nano);
        let since = *self.slow_since_unix_nano.get_or_insert(time_unix_nano);
        if time_unix_nano.saturating_sub(since) > USUAL_NANOS {
            self.accept(latency_ms, time_unix_nano);
            return None;
        }
        let continues = started.is_some_and(|started| started < time_unix_nano);
        Some(finding(belongs, continues, started.unwrap_or(since)))
    }

    fn learn(
        &mut self,
        tail: LatencyRank,
        latency_ms: f64,
        time_unix_nano: i64,
        burst_state: OutlierBurst,
    ) {
        let is_due = |(_, time): &(f64, i64)| time_unix_nano.saturating_sub(*time) > GAP_NANOS;
        if burst_state.is_running {
            self.pending = None;
        } else if let Some((pending_ms, _)) = self.pending.take_if(|pending| is_due(pending)) {
            self.histogram.learn(pending_ms, time_unix_nano);
        }
        if tail.at_least > burst_state.bound {
            self.histogram.learn(latency_ms, time_unix_nano);
        } else if !burst_state.is_running {
            self.pending.get_or_insert((latency_ms, time_unix_nano));
        }
    }

    /// Learns an outlier after all.
    pub(crate) fn learn_outlier(&mut self, latency_ms: f64, time_unix_nano: i64) {
        self.histogram.learn(latency_ms, time_unix_nano);
    }

    fn deciding_shift<'a>(&'a self, service: &'a ServiceLatency) -> Option<&'a Shift> {
        // Its own evidence first. The service's counts only where the pattern shows a little of it
        // too: when one endpoint becomes slow, the others are not part of that.
        let own = self.shift.has_changed().then_some(&self.shift);
        let common = service.shift.has_changed() && self.shift.evidence() >= OWN_EVIDENCE_MIN;
        own.or(common.then_some(&service.shift))
    }

    /// What there is now is usual from now on.
    fn accept(&mut self, latency_ms: f64, time_unix_nano: i64) {
        // Learned afresh: the old distribution, which fades within hours, would call the new level
        // slow for as long.
        let (phases, accepted) = (self.phases, self.accepted);
        *self = Self { phases, accepted, ..Self::new(time_unix_nano) };
        self.histogram.learn(latency_ms, time_unix_nano);
    }

    /// The latency in milliseconds below which this share lies.
    pub(crate) fn percentile(&self, quantile: f64) -> f64 {
        self.histogram.percentile(quantile)
    }

    /// Adds what another pattern, now the same, has learned.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.histogram.merge(&other.histogram);
    }
}
