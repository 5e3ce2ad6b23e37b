//! Two models on the same logs.

use logweir_analysis::{Detector, ForestModel};
use logweir_core::{
    identity::{Service, Tenant},
    job::{Comparison, Differing},
    record::StoredLog,
};
use logweir_storage::{Model, TimeRange};

use super::{
    job_context::{Failure, Tools, scope},
    replay::{Judge, Window, observe, replay},
};

/// Differing logs that are told of each model.
const DIFFERING_MAX: usize = 5;
const MESSAGE_CHARS: usize = 200;

struct Pair {
    first: Detector,
    second: Detector,
    found: Comparison,
}

impl Judge for Pair {
    fn judge(&mut self, tenant: &Tenant, log: &StoredLog) {
        let first = observe(&mut self.first, tenant, log);
        let second = observe(&mut self.second, tenant, log);
        let found = &mut self.found;
        found.logs += 1;
        found.first_anomalies += u64::from(first.is_anomaly);
        found.second_anomalies += u64::from(second.is_anomaly);
        match (first.is_anomaly, second.is_anomaly) {
            (true, true) => found.both += 1,
            (true, false) => note(&mut found.only_first, log, first.reasons),
            (false, true) => note(&mut found.only_second, log, second.reasons),
            (false, false) => {}
        }
    }
}

fn note(noted: &mut Vec<Differing>, log: &StoredLog, reasons: Vec<String>) {
    if noted.len() < DIFFERING_MAX {
        noted.push(Differing {
            id: log.id.to_string(),
            service: log.service.to_string(),
            message: log.scored.record.message.chars().take(MESSAGE_CHARS).collect(),
            reasons,
        });
    }
}

/// Judges the logs of a range by both models, each for whom it is made; of two models of a service,
/// only its logs.
pub(super) async fn compare(
    tools: &Tools,
    tenant: &Tenant,
    (first, second): (u64, u64),
    range: TimeRange,
) -> Result<Comparison, Failure> {
    let first = load(tools, tenant, first).await?;
    let second = load(tools, tenant, second).await?;
    let service: Option<Service> =
        if first.0.made.scope == second.0.made.scope { first.0.made.scope.clone() } else { None };
    let detector = |(model, forest): (Model, ForestModel)| {
        let mut detector = Detector::new(tools.detector.clone());
        detector.install(scope(tenant, model.made.scope.as_ref()), Some(forest.into()));
        detector
    };
    let pair =
        Pair { first: detector(first), second: detector(second), found: Comparison::default() };
    let window = Window { tenant: tenant.clone(), service, range };
    Ok(replay(&tools.read, &window, pair).await?.found)
}

async fn load(tools: &Tools, tenant: &Tenant, id: u64) -> Result<(Model, ForestModel), Failure> {
    let model = tools.models.get_model(tenant, id).await?;
    let forest = ForestModel::decode(&tools.models.load_model(tenant, id).await?)?;
    Ok((model, forest))
}
