//! Models, what people say of logs, and jobs.

use std::time::Duration;

use logweir_core::{
    identity::{LogId, Service, TemplateId, Tenant},
    timestamp::Timestamp,
};

use super::{
    NOW, StorageUnderTest,
    sample::{SECOND, at, batch_id, service, tenant},
};
use crate::{
    FINDINGS_KEPT, Feedback, Finding, FindingKind, JOB_ATTEMPTS_MAX, JOBS_OPEN_MAX, JobKind,
    JobState, MODELS_KEPT, Model, ModelKind, ModelState, NewJob, NewModel, Storage, StorageError,
    TimeRange,
};

const FOREST: ModelKind = ModelKind::IsolationForest;

fn new_model(scope: Option<&str>, rows: u64) -> NewModel {
    NewModel {
        kind: FOREST,
        scope: scope.map(service),
        parameters: r#"{"trees":100}"#.into(),
        trained_from: NOW - Duration::from_nanos(10),
        trained_to: NOW,
        rows,
        statistics: r#"{"rows":1,"text":"\u0000"}"#.into(),
        metrics: "{}".into(),
        created_at: NOW + Duration::from_nanos(rows),
    }
}

pub(super) async fn models_are_kept_promoted_and_rolled_back(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let tenant = tenant();
    let mut models = Vec::new();
    for (scope, rows) in [(Some("payments"), 1), (Some("payments"), 2), (None, 3)] {
        let body = vec![rows as u8; 1_000];
        models.push(storage.insert_model(&tenant, new_model(scope, rows), body).await.unwrap());
    }
    let [first, second, wide] = [0, 1, 2].map(|number| models[number].clone());
    assert_eq!(
        (first.state, first.activated_at, first.bytes),
        (ModelState::Candidate, None, 1_000)
    );
    assert!(first.model_id < second.model_id && first.checksum != second.checksum);
    assert_eq!(first.made, new_model(Some("payments"), 1));
    let newest = [wide.clone(), second.clone(), first.clone()];
    assert_eq!(storage.list_models(&tenant, 10).await.unwrap(), newest);
    assert_eq!(storage.list_models(&tenant, 1).await.unwrap(), newest[..1]);
    assert_eq!(storage.get_model(&tenant, wide.model_id).await.unwrap(), wide);
    assert_eq!(storage.load_model(&tenant, second.model_id).await.unwrap(), [2; 1_000]);
    assert_eq!(storage.active_models().await.unwrap(), []);

    let ids = async || -> Vec<u64> {
        let active = storage.active_models().await.unwrap();
        active.into_iter().map(|(_, model)| model.model_id).collect()
    };
    for (now, model) in [(5, &first), (6, &wide), (7, &second), (8, &second)] {
        let promoted = storage.promote_model(&tenant, model.model_id, at(now)).await.unwrap();
        assert_eq!((promoted.state, promoted.activated_at), (ModelState::Active, Some(at(now))));
    }
    assert_eq!(ids().await, [second.model_id, wide.model_id]);
    let retired = storage.get_model(&tenant, first.model_id).await.unwrap();
    assert_eq!((retired.state, retired.activated_at), (ModelState::Retired, Some(at(5))));

    let payments = service("payments");
    let back = storage.roll_back_model(&tenant, FOREST, Some(&payments)).await.unwrap().unwrap();
    assert_eq!((back.model_id, back.state), (first.model_id, ModelState::Active));
    assert_eq!(storage.get_model(&tenant, second.model_id).await.unwrap(), second);
    assert_eq!(storage.roll_back_model(&tenant, FOREST, None).await.unwrap(), None);
    assert_eq!(ids().await, [first.model_id]);
    let refused = storage.roll_back_model(&tenant, FOREST, None).await;
    assert!(matches!(refused, Err(StorageError::NotFound(_))));
    for unknown in [0, u64::MAX] {
        let refused = storage.promote_model(&tenant, unknown, at(9)).await;
        assert!(matches!(refused, Err(StorageError::NotFound(_))));
    }
    assert_eq!(ids().await, [first.model_id]);
    only_the_newest_are_kept(&*storage, &first).await;
}

async fn only_the_newest_are_kept(storage: &dyn crate::Storage, active: &Model) {
    for rows in 100..100 + MODELS_KEPT as u64 {
        let model = new_model(Some("payments"), rows);
        storage.insert_model(&tenant(), model, vec![1]).await.unwrap();
    }
    let kept = storage.list_models(&tenant(), 1_000).await.unwrap();
    let of_scope: Vec<u64> = kept
        .iter()
        .filter(|model| model.made.scope.is_some())
        .map(|model| model.made.rows)
        .collect();
    assert_eq!(of_scope.len(), MODELS_KEPT + 1);
    assert_eq!(of_scope.last(), Some(&active.made.rows), "what is active stays");
    assert_eq!(kept.len(), of_scope.len() + 1, "other scopes are not touched");
}

pub(super) async fn promotions_at_the_same_time_leave_one_active(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let tenant = tenant();
    let mut ids = Vec::new();
    for rows in 1..=4 {
        let model = storage.insert_model(&tenant, new_model(None, rows), vec![0]).await.unwrap();
        ids.push(model.model_id);
    }
    let promote = |id: u64| storage.promote_model(&tenant, id, NOW);
    let promoted = tokio::join!(promote(ids[0]), promote(ids[1]), promote(ids[2]), promote(ids[3]));
    for result in [promoted.0, promoted.1, promoted.2, promoted.3] {
        assert_eq!(result.unwrap().state, ModelState::Active);
    }
    assert_eq!(storage.active_models().await.unwrap().len(), 1);
}

pub(super) async fn the_last_word_on_a_log_holds(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let said = |index: u32, is_anomaly: bool, given_at: Timestamp| Feedback {
        log_id: LogId { time: NOW, batch_id: batch_id(1), index },
        service: service("payments"),
        template_id: TemplateId(u64::MAX - 1),
        is_anomaly,
        given_by: "token".into(),
        given_at,
    };
    assert_eq!(storage.list_feedback().await.unwrap(), []);
    for feedback in [said(1, true, at(10)), said(2, true, at(20)), said(1, false, at(30))] {
        storage.give_feedback(&tenant(), feedback).await.unwrap();
    }
    let other = Tenant::new("other").unwrap();
    storage.give_feedback(&other, said(1, true, at(25))).await.unwrap();
    let expected = [
        (tenant(), said(2, true, at(20))),
        (other, said(1, true, at(25))),
        (tenant(), said(1, false, at(30))),
    ];
    assert_eq!(storage.list_feedback().await.unwrap(), expected);
}

pub(super) async fn a_job_is_done_once_and_answered(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let (tenant, lease, now) = (tenant(), Duration::from_secs(60), NOW);
    let kind = JobKind::Detection;
    let insert = async |request: &str, key: Option<&str>| {
        let unique_key = key.map(str::to_owned);
        let job = NewJob { unique_key, ..NewJob::new(kind, request.into(), now) };
        storage.insert_job(&tenant, job).await.unwrap()
    };
    assert_eq!(storage.take_job(kind, now, lease).await.unwrap(), None);
    let first = insert("first", None).await.unwrap();
    let second = insert("second", Some("daily")).await.unwrap();
    assert_eq!(insert("again", Some("daily")).await, None);

    let taken = storage.take_job(kind, now, lease).await.unwrap().unwrap();
    assert_eq!((taken.job_id, taken.tenant, &*taken.request), (first, tenant.clone(), "first"));
    assert_eq!(storage.take_job(kind, now, lease).await.unwrap(), None, "one of it at a time");
    assert_eq!(storage.job_state(&tenant, first).await.unwrap(), JobState::Running);
    assert!(storage.keep_job(first, now + lease * 3).await.unwrap());
    let over = now + lease * 2;
    assert_eq!(storage.take_job(kind, over, lease).await.unwrap(), None, "it is kept");
    storage.finish_job(first, Ok("answer".into())).await.unwrap();
    assert!(!storage.keep_job(first, now + lease * 3).await.unwrap(), "it is done");
    assert_eq!(storage.take_job(kind, now, lease).await.unwrap().unwrap().job_id, second);
    assert_eq!(storage.take_job(kind, now, lease).await.unwrap(), None);
    storage.finish_job(first, Err("too late".into())).await.unwrap();
    let done = storage.job_state(&tenant, first).await.unwrap();
    assert_eq!(done, JobState::Done("answer".into()));
    let other = Tenant::new("other").unwrap();
    for (whose, id) in [(&other, first), (&tenant, u64::MAX)] {
        let refused = storage.job_state(whose, id).await;
        assert!(matches!(refused, Err(StorageError::NotFound(_))));
    }

    // Whoever took the second has died, again and again.
    let mut later = now;
    for _ in 1..JOB_ATTEMPTS_MAX {
        later += 61 * SECOND;
        assert_eq!(storage.take_job(kind, later, lease).await.unwrap().unwrap().job_id, second);
    }
    assert_eq!(storage.take_job(kind, later + 61 * SECOND, lease).await.unwrap(), None);
    let failed = storage.job_state(&tenant, second).await.unwrap();
    assert!(matches!(failed, JobState::Failed(_)), "{failed:?}");
    assert_eq!(insert("again", Some("daily")).await, None, "a failed one counts too");

    for _ in 0..JOBS_OPEN_MAX {
        insert("more", None).await.unwrap();
    }
    let more = |kind| NewJob::new(kind, "more".into(), now);
    let refused = storage.insert_job(&tenant, more(kind)).await;
    assert!(matches!(refused, Err(StorageError::LimitExceeded(_))));
    assert!(storage.insert_job(&tenant, more(JobKind::ChannelTest)).await.unwrap().is_some());
    let days_later = now + 3 * 86_400 * SECOND;
    let clears = NewJob::new(kind, "clears".into(), days_later);
    storage.insert_job(&other, clears).await.unwrap();
    let forgotten = storage.job_state(&tenant, first).await;
    assert!(matches!(forgotten, Err(StorageError::NotFound(_))));
}

pub(super) async fn jobs_of_tenants_go_by_turns(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let kind = JobKind::Detection;
    let tenants = ["many", "few"].map(|name| Tenant::new(name).unwrap());
    for (tenant, count) in tenants.iter().zip([10, 2]) {
        for _ in 0..count {
            let job = NewJob::new(kind, "{}".into(), NOW);
            storage.insert_job(tenant, job).await.unwrap();
        }
    }
    let mut order = Vec::new();
    for second in 1..=6 {
        let now = NOW + second * SECOND;
        let job = storage.take_job(kind, now, Duration::from_secs(60)).await.unwrap().unwrap();
        storage.finish_job(job.job_id, Ok("{}".into())).await.unwrap();
        order.push(job.tenant.to_string());
    }
    assert_eq!(order, ["many", "few", "many", "few", "many", "many"]);
}

pub(super) async fn a_job_that_nobody_waits_for_ends(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let kind = JobKind::Detection;
    let [a, b] = ["a", "b"].map(|name| Tenant::new(name).unwrap());
    let insert = async |tenant: &Tenant| {
        let job = NewJob::new(kind, "{}".into(), NOW);
        storage.insert_job(tenant, job).await.unwrap().unwrap()
    };
    let take = async |second: u32| {
        let lease = Duration::from_secs(60);
        storage.take_job(kind, NOW + second * SECOND, lease).await.unwrap().map(|job| job.job_id)
    };
    let (begun, waiting) = (insert(&b).await, insert(&b).await);
    assert_eq!(take(1).await, Some(begun));
    for job_id in [begun, waiting] {
        storage.cancel_job(&a, job_id).await.unwrap();
    }
    assert_eq!(storage.job_state(&b, waiting).await.unwrap(), JobState::Waiting, "it is not a's");
    assert_eq!(storage.job_state(&b, begun).await.unwrap(), JobState::Running);
    for job_id in [begun, waiting] {
        storage.cancel_job(&b, job_id).await.unwrap();
    }
    let gone = storage.job_state(&b, waiting).await;
    assert!(matches!(gone, Err(StorageError::NotFound(_))), "{gone:?}");
    storage.finish_job(begun, Ok("{}".into())).await.unwrap();
    let failed = storage.job_state(&b, begun).await.unwrap();
    assert!(matches!(failed, JobState::Failed(_)), "{failed:?}");
    // Who asks and leaves has had a turn all the same.
    let (of_b, of_a) = (insert(&b).await, insert(&a).await);
    assert_eq!([take(2).await, take(2).await, take(2).await], [Some(of_a), Some(of_b), None]);
    storage.cancel_job(&a, of_a).await.unwrap();
    storage.cancel_job(&a, of_a).await.unwrap();
    let again = insert(&a).await;
    assert_eq!(take(3).await, Some(again), "nothing of it is worked on any more");
}

pub(super) async fn a_job_is_taken_by_its_kind_and_only_in_time(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let (tenant, lease, now) = (tenant(), Duration::from_secs(60), NOW);
    let insert = async |kind, begin_before| {
        let job = NewJob { begin_before, ..NewJob::new(kind, "{}".into(), now) };
        storage.insert_job(&tenant, job).await.unwrap().unwrap()
    };
    let take = async |kind, now| storage.take_job(kind, now, lease).await.unwrap();
    let state = async |job_id| storage.job_state(&tenant, job_id).await.unwrap();
    let preview = insert(JobKind::RulePreview, Some(now + 10 * SECOND)).await;
    let late = insert(JobKind::RulePreview, Some(now + 5 * SECOND)).await;
    let patient = insert(JobKind::ChannelTest, None).await;
    assert_eq!(take(JobKind::Detection, now).await, None, "none of them is for a processor");
    let tested = take(JobKind::ChannelTest, now + 100 * SECOND).await.unwrap();
    assert_eq!((tested.job_id, state(patient).await), (patient, JobState::Running));
    let taken = take(JobKind::RulePreview, now + 5 * SECOND).await.unwrap();
    assert_eq!((taken.job_id, state(preview).await), (preview, JobState::Running));
    assert_eq!(take(JobKind::RulePreview, now + 5 * SECOND).await, None, "it is too late");
    assert_eq!(state(late).await, JobState::Waiting);
    // Whoever began in time and died is followed by nobody: who asked has gone.
    assert_eq!(take(JobKind::RulePreview, now + 70 * SECOND).await, None);
    let asked_later = |at| NewJob::new(JobKind::Detection, "{}".into(), at);
    storage.insert_job(&tenant, asked_later(now + 6 * SECOND)).await.unwrap();
    assert!(matches!(state(late).await, JobState::Failed(_)), "it takes up no room");
    assert_eq!(state(preview).await, JobState::Running, "its lease is not over");
    storage.insert_job(&tenant, asked_later(now + 70 * SECOND)).await.unwrap();
    assert!(matches!(state(preview).await, JobState::Failed(_)));
    // One that names no moment is taken again.
    let again = take(JobKind::ChannelTest, now + 170 * SECOND).await.unwrap();
    assert_eq!(again.job_id, patient);
}

pub(super) async fn sees_no_models(storage: &dyn crate::Storage, other: &Tenant) {
    let model = storage.insert_model(&tenant(), new_model(None, 1), vec![1]).await.unwrap();
    assert_eq!(storage.list_models(other, 10).await.unwrap(), []);
    let id = model.model_id;
    let refused = storage.get_model(other, id).await;
    assert!(matches!(refused, Err(StorageError::NotFound(_))));
    let refused = storage.load_model(other, id).await;
    assert!(matches!(refused, Err(StorageError::NotFound(_))));
    let refused = storage.promote_model(other, id, NOW).await;
    assert!(matches!(refused, Err(StorageError::NotFound(_))));
    let refused = storage.roll_back_model(other, FOREST, None).await;
    assert!(matches!(refused, Err(StorageError::NotFound(_))));
    assert_eq!(storage.get_model(&tenant(), id).await.unwrap(), model);
}

pub(super) async fn a_finding_is_kept_once(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let found = |subject: &str, to: Timestamp| Finding {
        kind: FindingKind::UnusualSession,
        service: Some(service("payments")),
        subject: subject.into(),
        from: NOW - Duration::from_nanos(5),
        to,
        logs: 3,
        score: 0.999,
        reasons: vec!["a \"reason\"".into(), String::new()],
    };
    let drift = Finding { kind: FindingKind::ModelDrift, service: None, ..found("7", at(40)) };
    let findings = vec![found("a", at(20)), found("b", at(30)), drift.clone()];
    storage.insert_findings(&tenant(), findings.clone()).await.unwrap();
    storage.insert_findings(&tenant(), findings).await.unwrap();
    let other = Tenant::new("other").unwrap();
    storage.insert_findings(&other, vec![found("c", at(50))]).await.unwrap();
    let list = async |service: Option<&Service>, from, to, limit| {
        let range = TimeRange { from, to };
        storage.list_findings(&tenant(), service, range, limit).await.unwrap()
    };
    let all = [drift, found("b", at(30)), found("a", at(20))];
    assert_eq!(list(None, Timestamp::EPOCH, Timestamp::MAX, 9).await, all);
    assert_eq!(list(None, at(20), at(40), 9).await, all[1..], "from inclusive, to exclusive");
    assert_eq!(list(None, Timestamp::EPOCH, Timestamp::MAX, 1).await, all[..1]);
    assert_eq!(
        list(Some(&service("payments")), Timestamp::EPOCH, Timestamp::MAX, 9).await,
        all[1..]
    );
    assert_eq!(list(Some(&service("nobody")), Timestamp::EPOCH, Timestamp::MAX, 9).await, []);

    let many = (0..FINDINGS_KEPT as i64).map(|n| found("many", at(100 + n))).collect();
    storage.insert_findings(&tenant(), many).await.unwrap();
    assert_eq!(list(None, at(0), at(100), 9).await, [], "the oldest make room");
    assert_eq!(
        list(None, Timestamp::EPOCH, Timestamp::MAX, FINDINGS_KEPT + 1).await.len(),
        FINDINGS_KEPT
    );
}

pub(super) async fn ids_count_within_their_tenant(storage: &dyn Storage, other: &Tenant) {
    let tenant = tenant();
    for (of, rows) in [(other, 1), (&tenant, 2), (other, 3)] {
        storage.insert_model(of, new_model(None, rows), vec![rows as u8]).await.unwrap();
    }
    let promoted = storage.promote_model(other, 1, NOW).await.unwrap();
    assert_eq!((promoted.model_id, promoted.made.rows), (1, 1));
    let own = storage.list_models(&tenant, 10).await.unwrap();
    let found: Vec<_> = own.iter().map(|model| (model.model_id, model.state)).collect();
    assert_eq!(found, [(1, ModelState::Candidate)]);
    assert_eq!(storage.load_model(&tenant, 1).await.unwrap(), [2]);
}
