//! The computing part of the pipeline, for one batch at a time: enrich, template, score.
//!
//! A log on which the computing panics is a defect of ours and no reason to stop: it alone goes to
//! the dead letters, as [`PROCESSING_FAILED`].

use std::{
    any::Any,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use logweir_analysis::{Detector, LogScore, ReceivedLog};
use logweir_core::{
    limits::Limits,
    record::{Batch, Level, Record, RejectedRecord, ScoredBatch, ScoredRecord, Template},
    timestamp::Timestamp,
};
use metrics::{counter, gauge};
use tracing::error;

use crate::{
    config::ProcessorConfig,
    enrich::{DeployMarks, Enricher, Marks, Shared},
    findings::{Findings, unusual},
    model::{ActiveModels, InUse, Said},
};

/// The reason under which a log that cannot be processed is dead-lettered.
pub(crate) const PROCESSING_FAILED: &str = "processing_failed";

/// How often patterns are merged and ended sessions are looked for. The detector merges by itself
/// while many templates are new; this is for the last few of a service.
const SETTLE_PAUSE: Duration = Duration::from_secs(5);

/// Enriches, templates and scores.
pub struct Scorer {
    enricher: Enricher,
    detector: Detector,
    marks: DeployMarks,
    models: InUse,
    findings: Findings,
    /// Receive time from which on the templates are settled again.
    settle_at: Timestamp,
}

impl Scorer {
    pub(crate) fn new(
        enricher: Enricher,
        detector: Detector,
        marks: DeployMarks,
        (models, said): (ActiveModels, Said),
        findings: Findings,
    ) -> Self {
        let models = InUse::new(models, said);
        Self { enricher, detector, marks, models, findings, settle_at: Timestamp::MIN }
    }

    /// One that knows nothing yet: no templates, no deploys and no models. For judging logs that
    /// are not stored.
    pub fn offline(config: &ProcessorConfig, limits: Limits) -> Self {
        let detector = Detector::new(config.detector());
        let enricher = Enricher::new(config, limits);
        let (marks, findings) = (DeployMarks::default(), Findings::default());
        Self::new(enricher, detector, marks, Default::default(), findings)
    }

    /// Scores the batches of a group; also the templates that turned out to be the same as others.
    pub fn score(&mut self, batches: Vec<Batch>) -> (Vec<ScoredBatch>, Vec<Arc<Template>>) {
        // Marks and models are looked at once for a group: all of its logs are judged by the same.
        let marks = self.marks.current();
        let received = batches.iter().map(|batch| batch.received_at).max();
        self.models.follow(&mut self.detector);
        let scored: Vec<_> = batches.into_iter().map(|batch| self.batch(batch, &marks)).collect();
        // By the time of receipt and not by the clock, so that a backlog is judged as it would have
        // been when it came, and scoring stays a function of its input.
        if let Some(received) = received.filter(|received| *received >= self.settle_at) {
            self.detector.merge_patterns();
            for session in self.detector.take_unusual_sessions(received) {
                let (tenant, finding) = unusual(session);
                self.findings.add(tenant, finding);
            }
            self.settle_at = received + SETTLE_PAUSE;
        }
        self.report(&scored, received.unwrap_or(Timestamp::EPOCH));
        (scored, self.detector.take_template_changes())
    }

    fn batch(&mut self, batch: Batch, marks: &Marks) -> ScoredBatch {
        self.marks.watch(&batch.tenant);
        let key = (batch.tenant.clone(), batch.resource.service.clone());
        let marks = marks.get(&key).map_or(&[][..], Vec::as_slice);
        let shared = self.enricher.shared(&batch.resource, batch.received_at, marks);
        let mut scored = ScoredBatch {
            tenant: batch.tenant,
            batch_id: batch.batch_id,
            checksum: batch.checksum,
            received_at: batch.received_at,
            producer: batch.producer,
            resource: batch.resource,
            records: Vec::with_capacity(batch.records.len()),
            rejected: batch.rejected,
            templates: HashMap::new(),
        };
        for mut record in batch.records {
            // The catalogue and the counts that a panic may leave behind are each valid by
            // themselves: at worst a log is partly completed and a count one too high. So the
            // scorer is used on, where a restart would meet the same log again.
            let score = AssertUnwindSafe(|| self.score_record(&mut record, &shared, &scored));
            match catch_unwind(score) {
                Ok((level, log_score)) => add(&mut scored, record, level, log_score),
                Err(panic) => scored.rejected.push(failed(record, panic.as_ref())),
            }
        }
        scored
    }

    fn score_record(
        &mut self,
        record: &mut Record,
        shared: &Shared<'_>,
        batch: &ScoredBatch,
    ) -> (Level, LogScore) {
        fail::fail_point!("process_record", record.message.contains("poison"), |_| {
            panic!("asked for by a fail point")
        });
        let level = self.enricher.enrich(record, shared);
        let received = ReceivedLog {
            tenant: &batch.tenant,
            service: &batch.resource.service,
            instance: &batch.resource.instance,
            received_at: batch.received_at,
            record,
            level,
        };
        (level, self.detector.observe(&received))
    }

    fn report(&mut self, scored: &[ScoredBatch], received_at: Timestamp) {
        let records = || scored.iter().flat_map(|batch| &batch.records);
        let anomalies = records().filter(|record| record.is_anomaly).count() as u64;
        let logs = records().count() as u64;
        for (tenant, drift) in self.models.note(logs, anomalies, &self.detector, received_at) {
            self.findings.add(tenant, drift);
        }
        let stats = self.detector.stats();
        gauge!("logweir_detector_services").set(stats.services as f64);
        gauge!("logweir_detector_templates").set(stats.templates as f64);
        gauge!("logweir_detector_sessions").set(stats.sessions as f64);
        counter!("logweir_detector_sessions_dropped_total").absolute(stats.sessions_dropped);
        counter!("logweir_detector_catch_all_logs_total").absolute(stats.catch_all_logs);
        counter!("logweir_detector_services_forgotten_total").absolute(stats.services_forgotten);
        counter!("logweir_processor_attributes_left_out_total")
            .absolute(self.enricher.attributes_left_out);
    }
}

fn add(batch: &mut ScoredBatch, record: Record, level: Level, log_score: LogScore) {
    let template_id = log_score.template.template_id;
    batch.templates.entry(template_id).or_insert(log_score.template);
    batch.records.push(ScoredRecord {
        record,
        level,
        template_id,
        anomaly_score: log_score.anomaly_score,
        is_anomaly: log_score.is_anomaly,
        anomaly_reasons: log_score.reasons,
    });
}

fn failed(record: Record, panic: &(dyn Any + Send)) -> RejectedRecord {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    error!(reason = PROCESSING_FAILED, "a log goes to the dead letters: {text}");
    counter!("logweir_processor_failed_logs_total").increment(1);
    let detail = format!("the processor panicked on this log: {text}");
    RejectedRecord { record, reason: PROCESSING_FAILED.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use logweir_core::{
        identity::{BatchId, Service, Tenant},
        record::Resource,
    };

    use super::*;

    #[test]
    fn a_log_that_panics_is_dead_lettered_alone() {
        let scenario = fail::FailScenario::setup();
        fail::cfg("process_record", "return").unwrap();
        let mut scorer = Scorer::offline(&ProcessorConfig::default(), Limits::default());
        let record =
            |index, message: &str| Record { index, message: message.into(), ..Record::default() };
        let batch = |messages: [&str; 3]| Batch {
            tenant: Tenant::default(),
            batch_id: BatchId([1; 16]),
            checksum: 1,
            received_at: Timestamp::from_unix_nanos(1),
            producer: None,
            resource: Resource::of(Service::new("a").unwrap()),
            records: (0..).zip(messages).map(|(index, message)| record(index, message)).collect(),
            rejected: Vec::new(),
        };
        let (scored, _) =
            scorer.score(vec![batch(["x", "y", "z"]), batch(["x 1", "poison", "x 2"])]);
        let kept: Vec<u32> = scored[1].records.iter().map(|scored| scored.record.index).collect();
        assert_eq!((scored[0].records.len(), kept), (3, vec![0, 2]));
        assert_eq!(scored[1].templates.len(), 1);
        let [rejected] = &scored[1].rejected[..] else { panic!("{:?}", scored[1].rejected) };
        assert_eq!(
            (rejected.reason.as_str(), &rejected.record),
            (PROCESSING_FAILED, &record(1, "poison"))
        );
        scenario.teardown();
    }
}
