//! The sessions of a detector's logs: which log belongs to which, and what is said of one that was
//! unusual as a whole.
//!
//! A trace is a session across the services of its tenant; logs without a trace id belong to the
//! window of their service's instance. An event is a pattern, by an id that stays when patterns
//! merge.

use logweir_core::{
    identity::{Service, Tenant},
    timestamp::Timestamp,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{
    input::ReceivedLog,
    sequence::{
        ClosedSession, SequenceLog, SequenceReason, SequenceScore, SequenceTracker, SessionKind,
        TrackerConfig, TrackerStats,
    },
};

/// A session that was unusual as a whole, which no single log of it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct UnusualSession {
    /// The tenant whose logs it has.
    pub tenant: Tenant,
    /// The service of its first log.
    pub service: Service,
    /// The trace; none if it is a window of an instance.
    pub trace_id: Option<[u8; 16]>,
    /// The instance of its first log.
    pub instance: String,
    /// When its first log was received.
    pub from: Timestamp,
    /// When its last log was received.
    pub to: Timestamp,
    /// How many it had.
    pub logs: u32,
    /// 0 is usual, 1 was never seen.
    pub score: f64,
    /// Why, in a person's words.
    pub reasons: Vec<String>,
}

/// What a session is told by when it turns out to be unusual. Kept once for each open session.
#[derive(Debug, Clone)]
struct Owner {
    tenant: Tenant,
    service: Service,
    trace_id: Option<[u8; 16]>,
    instance: String,
}

pub(crate) struct Sessions(SequenceTracker<Owner>);

impl Sessions {
    /// With the budget for false alarms that single logs have, too.
    pub(crate) fn new(contamination: f64) -> Self {
        let mut config = TrackerConfig::default();
        config.model.contamination = contamination;
        Self(SequenceTracker::new(config))
    }

    /// Learns from a log of a service with this seed, whose tenant has this account; says so if it
    /// should not have come after those before it.
    pub(crate) fn observe(
        &mut self,
        log: &ReceivedLog<'_>,
        account: usize,
        service_seed: u64,
        event: u64,
    ) -> Option<SequenceScore> {
        let (kind, scope, session) = match log.record.trace_id {
            // The tenant is in the hash: trace ids come from the sender, and one that sends another
            // tenant's must not join its sessions.
            Some(trace_id) => {
                let scope = xxh3_64(log.tenant.as_str().as_bytes());
                (SessionKind::Trace, scope, xxh3_64_with_seed(&trace_id, scope))
            }
            None => {
                let session = xxh3_64_with_seed(log.instance.as_bytes(), service_seed);
                (SessionKind::Window, service_seed, session)
            }
        };
        let received_unix_nano = log.received_at.as_unix_nanos();
        let log_of_session =
            SequenceLog { account, scope, session, kind, event, received_unix_nano };
        self.0.observe(log_of_session, || Owner {
            tenant: log.tenant.clone(),
            service: log.service.clone(),
            trace_id: log.record.trace_id,
            instance: log.instance.to_owned(),
        })
    }

    /// The unusual ones that are over by now; `name` knows what an event is called.
    pub(crate) fn take_unusual(
        &mut self,
        now: Timestamp,
        name: impl Fn(u64) -> String,
    ) -> Vec<UnusualSession> {
        self.0.advance(now.as_unix_nanos());
        self.0.alarms().into_iter().map(|closed| unusual(closed, &name)).collect()
    }

    pub(crate) fn stats(&self) -> TrackerStats {
        self.0.stats()
    }
}

/// Each reason in a person's words.
pub(crate) fn described(reasons: &[SequenceReason], name: impl Fn(u64) -> String) -> Vec<String> {
    reasons.iter().map(|reason| reason.describe(&name)).collect()
}

fn unusual(closed: ClosedSession<Owner>, name: impl Fn(u64) -> String) -> UnusualSession {
    let Owner { tenant, service, trace_id, instance } = closed.owner;
    UnusualSession {
        tenant,
        service,
        trace_id,
        instance,
        from: Timestamp::from_unix_nanos(closed.first_unix_nano),
        to: Timestamp::from_unix_nanos(closed.last_unix_nano),
        logs: closed.logs,
        score: closed.scored.score,
        reasons: described(&closed.scored.reasons, name),
    }
}

#[cfg(test)]
mod tests {
    use logweir_core::record::{Level, Record};

    use crate::{Detector, DetectorConfig, LogScore, UnusualSession};

    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const NAMES: [&str; 8] = ["ann", "bob", "cid", "dan", "eve", "flo", "gus", "hal"];

    /// Traces through two services, one after the other.
    struct Bench {
        detector: Detector,
        now: i64,
        trace: u128,
    }

    impl Bench {
        fn new() -> Self {
            Self { detector: Detector::new(DetectorConfig::default()), now: SECOND, trace: 0 }
        }

        fn trace(&mut self, logs: &[(&str, &str)]) -> Vec<LogScore> {
            self.trace += 1;
            let trace_id = Some(self.trace.to_be_bytes());
            let mut log = |(service, message): &(&str, &str)| {
                self.now += SECOND / 10;
                let message = (*message).to_owned();
                let time = Timestamp::from_unix_nanos(self.now);
                let record = Record { message, trace_id, time, ..Record::default() };
                self.detector.observe(&ReceivedLog {
                    tenant: &Tenant::default(),
                    service: &Service::new(service).unwrap(),
                    instance: "a-1",
                    received_at: time,
                    record: &record,
                    level: Level::Info,
                })
            };
            logs.iter().map(&mut log).collect()
        }

        fn usual(&mut self, traces: usize) {
            for n in 0..traces {
                let login = format!("user {} has logged in", NAMES[n % NAMES.len()]);
                let logs = [("front", &*login), ("shop", "cart opened"), ("shop", "order paid")];
                let again = [logs[0], logs[1], logs[1], logs[2]];
                self.trace(if n % 3 == 0 { &again } else { &logs });
            }
        }

        fn unusual(&mut self) -> Vec<UnusualSession> {
            self.now += 61 * SECOND;
            self.detector.take_unusual_sessions(Timestamp::from_unix_nanos(self.now))
        }
    }

    #[test]
    fn a_step_that_never_followed_is_an_anomaly_whatever_merged() {
        let mut bench = Bench::new();
        bench.usual(1_500);
        assert_eq!(bench.unusual(), [], "what is usual is told of nobody");
        let scores = bench.trace(&[
            ("front", "user zoe has logged in"),
            ("shop", "order paid"),
            ("shop", "cart opened"),
        ]);
        let flagged: Vec<bool> = scores.iter().map(|scored| scored.is_anomaly).collect();
        assert_eq!(flagged, [false, true, false], "a session is told once");
        assert!(scores[1].anomaly_score > 0.99);
        let [reason] = &scores[1].reasons[..] else { panic!("{:?}", scores[1].reasons) };
        assert!(
            reason.starts_with(
                "after 'user <*> has logged in' normally follows 'cart opened' (100 % of 1498); \
                 'order paid'"
            ),
            "{reason}"
        );
        assert_eq!(bench.unusual(), [], "nor again when it ends");
    }

    #[test]
    fn a_session_that_is_unusual_as_a_whole_is_told_when_it_ends() {
        let mut bench = Bench::new();
        bench.usual(1_500);
        let logs = [("front", "user ann has logged in"), ("shop", "cart opened")];
        let scores = bench.trace(&logs);
        assert!(scores.iter().all(|scored| !scored.is_anomaly));
        let [found] = &bench.unusual()[..] else { panic!("one trace ended without payment") };
        assert_eq!((found.service.as_str(), found.logs), ("front", 2));
        assert_eq!(found.trace_id, Some(1_501_u128.to_be_bytes()));
        assert!(found.reasons.iter().any(|reason| reason.contains("order paid")), "{found:?}");
    }
}
