//! The way of a log from its batch to the incidents, as in production but for storage: scored by a
//! processor's scorer, then counted and judged by the built-in rules on a clock that follows the
//! logs' times.

use std::collections::BTreeMap;

use logweir_alerting::{
    incident::Incidents,
    rule::engine::Engine,
    simulate::replay::{Replay, ReplayedLog},
};
use logweir_core::{
    identity::{BatchId, Service, Tenant},
    latency::bucket_of,
    limits::Limits,
    record::{Batch, Record, Resource},
    timestamp::Timestamp,
};
use logweir_incident::{built_in, incident::Incident, notification::NotificationKind};
use logweir_processor::{ProcessorConfig, Scorer};

use crate::error::Error;

/// Logs of a batch, as a busy client sends them.
const BATCH_LOGS_MAX: usize = 1_000;

/// Plays logs.
pub(crate) struct Playing {
    scorer: Scorer,
    replay: Replay,
    service: String,
    /// Logs in a row of one service.
    batch: Vec<Record>,
    late: u64,
    played_at: Timestamp,
}

/// What the rules made of the logs that were played.
pub(crate) struct Played {
    /// Every incident that fired, by when it did.
    pub(crate) incidents: Vec<Incident>,
    /// The ids of those that people were told of, with the moment; one that another explains is not
    /// told.
    pub(crate) told: BTreeMap<String, Timestamp>,
    /// Logs that came later than a log of a later time.
    pub(crate) late: u64,
}

impl Playing {
    /// With a processor's settings, and the rules that work with nothing configured.
    pub(crate) fn new(config: &ProcessorConfig) -> Self {
        let engine =
            Engine::new(Tenant::default().as_str(), built_in::rules(), Incidents::default());
        Self {
            scorer: Scorer::offline(config, Limits::default()),
            replay: Replay::new(engine),
            service: String::new(),
            batch: Vec::new(),
            late: 0,
            played_at: Timestamp::MIN,
        }
    }

    /// Takes in a log; they come by ascending time.
    pub(crate) fn log(&mut self, service: &str, mut record: Record) -> Result<(), Error> {
        // The clock follows the logs of all services together: one whose batch waited until it was
        // full would be judged long after its time.
        if self.batch.len() >= BATCH_LOGS_MAX || self.service != service {
            self.play()?;
            service.clone_into(&mut self.service);
        }
        record.index = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
        self.batch.push(record);
        Ok(())
    }

    fn play(&mut self) -> Result<(), Error> {
        let records = std::mem::take(&mut self.batch);
        let Some(last) = records.last() else { return Ok(()) };
        // Received when its last log was written, as from a sender that waits for nothing. It needs
        // no id, as nothing is stored.
        let batch = Batch {
            tenant: Tenant::default(),
            batch_id: BatchId([0; 16]),
            checksum: 0,
            received_at: last.time,
            producer: None,
            resource: Resource::of(Service::new(&self.service)?),
            records,
            rejected: Vec::new(),
        };
        let (scored, _) = self.scorer.score(vec![batch]);
        for batch in &scored {
            for log in &batch.records {
                let time = log.record.time;
                self.late += u64::from(time < self.played_at);
                self.played_at = self.played_at.max(time);
                let pattern = batch.templates.get(&log.template_id);
                let trace_id = log.record.trace_id.map(hex::encode).unwrap_or_default();
                self.replay.log(&ReplayedLog {
                    time,
                    service: &self.service,
                    level: log.level,
                    message: &log.record.message,
                    latency_ms: log.record.latency_ms,
                    latency_bucket: log.record.latency_ms.map(bucket_of),
                    template_id: log.template_id.0,
                    pattern: pattern.map_or("", |template| &template.pattern),
                    is_anomaly: log.is_anomaly,
                    trace_id: &trace_id,
                    instance: "",
                });
            }
        }
        Ok(())
    }

    /// Plays the rest, through a moment.
    pub(crate) fn finish(mut self, until: Option<Timestamp>) -> Result<Played, Error> {
        self.play()?;
        if let Some(until) = until {
            self.replay.pass(until);
        }
        let (incidents, notifications) = self.replay.finish();
        // The first word about an incident is its opening, whatever follows: reminders and changes
        // must not count as further alarms.
        let opened = notifications
            .iter()
            .filter(|notification| notification.kind == NotificationKind::Opened);
        let told = opened
            .map(|notification| (notification.incident.id.clone(), notification.at))
            .collect();
        Ok(Played { incidents, told, late: self.late })
    }
}
