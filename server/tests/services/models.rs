//! The model service: who may do what, and what is said where no processor answers.

use std::time::Duration;

use logweir_core::{identity::Role, timestamp::Timestamp};
use logweir_proto::v1::{self, model_service_client::ModelServiceClient};
use logweir_storage::{Job, JobKind, JobState, PassJobs};
use tonic::{Code, transport::Channel};

use crate::harness::{Bench, batch, reason, with_token};

fn client(bench: &Bench) -> ModelServiceClient<Channel> {
    ModelServiceClient::new(bench.channel.clone())
}

#[tokio::test]
async fn a_viewer_lists_and_an_administrator_changes() {
    let bench = Bench::new().await;
    let viewer = bench.token("default", "*", Role::Viewer);
    let mut client = client(&bench);
    let listed = client.list_models(with_token(&viewer, v1::ListModelsRequest::default())).await;
    assert_eq!(listed.unwrap().into_inner().models, []);
    for token in [&viewer, &bench.token("default", "*", Role::Ingest)] {
        let request = v1::PromoteModelRequest { model_id: 1 };
        let refused = client.promote_model(with_token(token, request)).await.unwrap_err();
        assert_eq!(
            (refused.code(), &*reason(&refused)),
            (Code::PermissionDenied, "ROLE_INSUFFICIENT")
        );
    }
    let request = v1::TrainModelRequest::default();
    let refused = client.train_model(with_token(&viewer, request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let admin = bench.admin();
    let request = v1::PromoteModelRequest { model_id: 1 };
    let unknown = client.promote_model(with_token(&admin, request)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let request = v1::RollBackModelRequest { service: "a b".into() };
    let bad = client.roll_back_model(with_token(&admin, request)).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    let request = v1::RollBackModelRequest::default();
    let none = client.roll_back_model(with_token(&admin, request)).await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
}

#[tokio::test]
async fn feedback_names_a_log_of_the_tenant() {
    let bench = Bench::new().await;
    bench.send(batch(1, &["a"])).await.unwrap();
    let log_id = bench.stored().await[0].id.clone();
    let mut client = client(&bench);
    let request =
        |log_id: &str| v1::GiveFeedbackRequest { log_id: log_id.into(), is_anomaly: true };
    let given = client.give_feedback(with_token(&bench.admin(), request(&log_id))).await;
    let given = given.unwrap().into_inner();
    assert_eq!((&*given.service, &*given.template_id), ("payments", "0000000000000007"));
    let stranger = bench.token("other", "*", Role::Admin);
    let refused = client.give_feedback(with_token(&stranger, request(&log_id))).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let refused = client.give_feedback(with_token(&bench.admin(), request("x"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

/// The next job of a tenant, once it is there.
async fn taken(bench: &Bench) -> Job {
    let (now, lease) = (Timestamp::from_unix_nanos(1), Duration::from_secs(60));
    loop {
        if let Some(job) = bench.storage.take_job(JobKind::Detection, now, lease).await.unwrap() {
            return job;
        }
        tokio::task::yield_now().await;
    }
}

/// Asks for a training and leaves once it is begun.
async fn abandoned(bench: &Bench, token: &str, keep_running: bool) -> Job {
    let request = v1::TrainModelRequest { keep_running, ..Default::default() };
    let mut client = client(bench);
    tokio::select! {
        answer = client.train_model(with_token(token, request)) => panic!("{answer:?}"),
        job = taken(bench) => job,
    }
}

#[tokio::test]
async fn a_training_ends_with_its_caller_unless_it_is_to_go_on() {
    let bench = Bench::new().await;
    let kept = abandoned(&bench, &bench.admin(), true).await;
    let ended = abandoned(&bench, &bench.token("other", "*", Role::Admin), false).await;
    let state = async |job: &Job| bench.storage.job_state(&job.tenant, job.job_id).await.unwrap();
    while state(&ended).await == JobState::Running {
        tokio::task::yield_now().await;
    }
    assert!(matches!(state(&ended).await, JobState::Failed(_)));
    assert_eq!(state(&kept).await, JobState::Running);
}

#[tokio::test]
async fn whoever_waits_for_a_processor_is_told_when_the_server_stops() {
    let bench = Bench::new().await;
    let mut client = client(&bench);
    let request = with_token(&bench.admin(), v1::ListClustersRequest::default());
    let (answer, ()) = tokio::join!(client.list_clusters(request), async {
        while bench
            .storage
            .take_job(JobKind::Detection, Timestamp::from_unix_nanos(1), Duration::ZERO)
            .await
            .unwrap()
            .is_none()
        {
            tokio::task::yield_now().await;
        }
        bench.tasks.stop();
    });
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
}
