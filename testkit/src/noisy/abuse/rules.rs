//! What is done by having others work: rules, previews and trainings.

use std::time::Duration;

use logweir_proto::v1::{
    DeleteRuleRequest, ListRulesRequest, PreviewRuleRequest, PutRuleRequest, TimeRange,
    TrainModelRequest, alert_service_client::AlertServiceClient,
    model_service_client::ModelServiceClient,
};
use tokio::{task::JoinSet, time::sleep};
use tonic::Status;

use super::{abuser::Abuser, ingest, query::long_filter};
use crate::noisy::{batch, client::ANSWER_BYTES_MAX};

/// The most that a preview may play.
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const CONNECTIONS: usize = 4;
const PREVIEWERS: usize = 16;
const TRAININGS: usize = 80;
/// Long enough for a call to arrive, and too short for it to be done.
const ABANDONED_AFTER: Duration = Duration::from_millis(300);
const PUTTERS: usize = 16;
/// For what must succeed in the end.
const TRIES: usize = 30;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The most that a tenant may have.
const RULES: u64 = 10_000;

fn rule(number: u64) -> String {
    let filter = long_filter();
    format!(
        r#"{{"name": "dear {number}", "measure": {{"kind": "match_count",
        "filter": "{filter} -any:*rule{number}*", "window_seconds": 60,
        "threshold": {{"absolute": 1000000000}}}}}}"#
    )
}

pub(super) async fn preview(abuser: &Abuser) {
    abuser
        .repeat(CONNECTIONS, PREVIEWERS, |abuser, channel, number| async move {
            let from_unix_nano = batch::before_now(WEEK - Duration::from_secs(60)).cast_signed();
            let range = Some(TimeRange { from_unix_nano, to_unix_nano: 0 });
            let preview = PreviewRuleRequest { definition: rule(number), range };
            abuser.tally.add("previews asked", 1);
            AlertServiceClient::new(channel).preview_rule(abuser.request(preview)).await.map(drop)
        })
        .await;
}

pub(super) async fn abandon_trainings(abuser: &Abuser) {
    let client = ModelServiceClient::new(abuser.channel());
    loop {
        let mut running = JoinSet::new();
        for _ in 0..TRAININGS {
            let (abuser, mut client) = (abuser.clone(), client.clone());
            running.spawn(async move {
                let train = TrainModelRequest {
                    service: ingest::SERVICE.to_owned(),
                    ..TrainModelRequest::default()
                };
                let answer = client.train_model(abuser.request(train)).await;
                abuser.tally.note(&answer);
            });
        }
        sleep(ABANDONED_AFTER).await;
        while running.try_join_next().is_some() {}
        abuser.tally.add("trainings abandoned", running.len() as u64);
        running.shutdown().await;
    }
}

/// Puts as many as there may be.
pub(super) async fn put_many(abuser: &Abuser) {
    let mut running = JoinSet::new();
    for putter in 0..PUTTERS as u64 {
        let (abuser, mut client) = (abuser.clone(), AlertServiceClient::new(abuser.channel()));
        running.spawn(async move {
            for number in (putter..RULES).step_by(PUTTERS) {
                let put = PutRuleRequest { definition: rule(number) };
                let answer = client.put_rule(abuser.request(put)).await;
                abuser.tally.note(&answer);
                if answer.is_ok() {
                    abuser.tally.add("rules put", 1);
                }
            }
        });
    }
    running.join_all().await;
}

/// Deletes what [`put_many`] put.
pub(super) async fn delete_many(abuser: &Abuser) {
    let mut tries = 0;
    while tries < TRIES {
        match delete_some(abuser).await {
            Ok(0) => return,
            Ok(_) => {}
            // The server may still be busy with what has just ended.
            Err(_) => {
                tries += 1;
                sleep(RETRY_PAUSE).await;
            }
        }
    }
    panic!("the rules of tenant b cannot be deleted");
}

/// Of as many as one list shows; how many that were.
async fn delete_some(abuser: &Abuser) -> Result<usize, Status> {
    let client = AlertServiceClient::new(abuser.channel());
    let mut client = client.max_decoding_message_size(ANSWER_BYTES_MAX);
    let listed = client.list_rules(abuser.request(ListRulesRequest {})).await?.into_inner();
    let names = listed.rules.into_iter().filter(|rule| !rule.built_in).map(|rule| rule.name);
    let names: Vec<String> = names.collect();
    let mut running = JoinSet::new();
    for some in names.chunks(names.len().div_ceil(PUTTERS).max(1)) {
        let (some, abuser, mut client) = (some.to_vec(), abuser.clone(), client.clone());
        running.spawn(async move {
            for name in some {
                client.delete_rule(abuser.request(DeleteRuleRequest { name })).await?;
            }
            Ok::<_, Status>(())
        });
    }
    while let Some(deleted) = running.join_next().await {
        deleted.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    }
    Ok(names.len())
}
