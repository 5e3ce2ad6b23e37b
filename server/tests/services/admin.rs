//! Tokens, dead letters and deploy marks.

use std::time::Duration;

use logweir_proto::v1;
use tonic::Code;

use crate::harness::{Bench, NOW, batch, messages, reason, with_token};

#[tokio::test]
async fn a_token_works_until_it_is_revoked() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let request = v1::IssueTokenRequest {
        service: "payments".into(),
        role: v1::Role::Ingest.into(),
        ttl_seconds: 0,
    };
    let request = with_token(&admin, request);
    let issued = bench.administer().issue_token(request).await.unwrap().into_inner();
    assert!(bench.send_with(&issued.jwt, batch(1, &["x"])).await.is_ok());
    let token = issued.token.unwrap();
    assert_eq!(token.expires_unix_nano, (NOW + Duration::from_secs(90 * 86_400)).as_unix_nanos());

    let request = v1::RevokeTokenRequest { token_id: token.token_id.clone() };
    let request = with_token(&admin, request);
    let revoked = bench.administer().revoke_token(request).await.unwrap().into_inner();
    assert_eq!(revoked.token.unwrap().revoked_unix_nano, NOW.as_unix_nanos());
    let status = bench.send_with(&issued.jwt, batch(2, &["x"])).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unauthenticated, "TOKEN_REVOKED".into()));

    let request = with_token(&admin, v1::ListTokensRequest {});
    let tokens = bench.administer().list_tokens(request).await.unwrap().into_inner().tokens;
    assert_eq!((tokens.len(), tokens[0].token_id.as_str()), (1, token.token_id.as_str()));
    let request = with_token(&admin, v1::RevokeTokenRequest { token_id: "nobody".into() });
    let status = bench.administer().revoke_token(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_bad_token_request_is_refused() {
    let bench = Bench::new().await;
    let good = v1::IssueTokenRequest { service: "*".into(), role: 1, ttl_seconds: 60 };
    for (bad, field) in [
        (v1::IssueTokenRequest { service: String::new(), ..good.clone() }, "service"),
        (v1::IssueTokenRequest { role: 0, ..good.clone() }, "role"),
        (v1::IssueTokenRequest { ttl_seconds: 59, ..good }, "ttl_seconds"),
    ] {
        let request = with_token(&bench.admin(), bad);
        let status = bench.administer().issue_token(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{status}");
    }
}

async fn dead_letters(bench: &Bench) -> v1::ListDeadLettersResponse {
    let request = with_token(&bench.admin(), v1::ListDeadLettersRequest::default());
    bench.administer().list_dead_letters(request).await.unwrap().into_inner()
}

async fn replay(bench: &Bench, dead_letter_ids: Vec<u64>) -> (u64, u64) {
    let request = with_token(&bench.admin(), v1::ReplayDeadLettersRequest { dead_letter_ids });
    let answer = bench.administer().replay_dead_letters(request).await.unwrap().into_inner();
    (answer.replayed, answer.rejected)
}

#[tokio::test]
async fn a_dead_letter_is_replayed_once_or_stays() {
    let bench = Bench::new().await;
    let mut sent = batch(1, &["curable", "incurable"]);
    // The trace id is put aside with the log, so that the log itself can be taken.
    sent.records[0].trace_id = vec![1; 3];
    sent.records[1].latency_ms = Some(-1.0);
    bench.send(sent).await.unwrap();
    let letters = dead_letters(&bench).await.dead_letters;
    assert_eq!(letters.len(), 2);
    assert_eq!(replay(&bench, vec![]).await, (1, 1));
    assert_eq!(messages(&bench.stored().await), ["curable"]);
    assert_eq!(replay(&bench, vec![]).await, (0, 1));
    // What was replayed is not sent in again, even once its batch is forgotten; this would wait.
    bench.set_storing(false);
    let all = letters.iter().map(|letter| letter.dead_letter_id).collect();
    assert_eq!(replay(&bench, all).await, (1, 1));
    assert_eq!(bench.stored().await.len(), 1);
    let replayed: Vec<_> = dead_letters(&bench)
        .await
        .dead_letters
        .iter()
        .map(|letter| (letter.reason.clone(), letter.replayed_unix_nano))
        .collect();
    assert!(replayed.contains(&("invalid_trace_id".into(), NOW.as_unix_nanos())), "{replayed:?}");
    assert!(replayed.contains(&("invalid_latency".into(), 0)), "{replayed:?}");
}

#[tokio::test]
async fn those_that_are_rejected_again_do_not_stand_in_the_way_of_others() {
    let bench = Bench::new().await;
    let mut sent = batch(1, &["incurable"; 150]);
    sent.records.iter_mut().for_each(|record| record.latency_ms = Some(-1.0));
    bench.send(sent).await.unwrap();
    let mut sent = batch(2, &["curable"]);
    sent.records[0].trace_id = vec![1; 3];
    bench.send(sent).await.unwrap();
    let mut sent = batch(3, &["incurable"; 1_100]);
    sent.records.iter_mut().for_each(|record| record.latency_ms = Some(-1.0));
    bench.send(sent).await.unwrap();
    assert_eq!(replay(&bench, vec![]).await, (1, 1_250));
    assert_eq!(messages(&bench.stored().await), ["curable"]);
    assert_eq!(replay(&bench, vec![]).await, (0, 1_250));
    let request = v1::ListDeadLettersRequest { limit: 1_000, before_dead_letter_id: 0 };
    let request = with_token(&bench.admin(), request);
    let listed = bench.administer().list_dead_letters(request).await.unwrap().into_inner();
    let ids: Vec<u64> = listed.dead_letters.iter().map(|letter| letter.dead_letter_id).collect();
    assert_eq!((ids.len(), listed.total), (1_000, 1_251));
    assert!(ids.is_sorted_by(|newer, older| newer > older));
}

#[tokio::test]
async fn dead_letters_are_discarded_by_id_or_all() {
    let bench = Bench::new().await;
    let mut sent = batch(1, &["a", "b", "c"]);
    sent.records.iter_mut().for_each(|record| record.latency_ms = Some(-1.0));
    bench.send(sent).await.unwrap();
    let discard = |dead_letter_ids: Vec<u64>, all| {
        let request = v1::DiscardDeadLettersRequest { dead_letter_ids, all };
        let (mut client, request) = (bench.administer(), with_token(&bench.admin(), request));
        async move { client.discard_dead_letters(request).await.map(|a| a.into_inner().discarded) }
    };
    let first = dead_letters(&bench).await.dead_letters[0].dead_letter_id;
    assert_eq!(discard(vec![], false).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(discard(vec![first], true).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(discard(vec![first], false).await.unwrap(), 1);
    assert_eq!(discard(vec![], true).await.unwrap(), 2);
    assert_eq!(dead_letters(&bench).await.total, 0);
}

#[tokio::test]
async fn deploys_are_marked_and_listed() {
    let bench = Bench::new().await;
    let deploy =
        v1::Deploy { service: "payments".into(), version: "1.2".into(), ..Default::default() };
    let request = with_token(&bench.admin(), v1::MarkDeployRequest { deploy: Some(deploy) });
    let marked =
        bench.administer().mark_deploy(request).await.unwrap().into_inner().deploy.unwrap();
    assert_eq!(marked.time_unix_nano, NOW.as_unix_nanos());
    let list = |service: &str| {
        with_token(&bench.admin(), v1::ListDeploysRequest { service: service.into(), limit: 0 })
    };
    let found = bench.administer().list_deploys(list("payments")).await.unwrap().into_inner();
    assert_eq!(found.deploys, [marked]);
    let found = bench.administer().list_deploys(list("orders")).await.unwrap().into_inner();
    assert!(found.deploys.is_empty());
}

#[tokio::test]
async fn a_process_is_listed_while_it_lives() {
    let bench = Bench::new().await;
    let list = || with_token(&bench.admin(), v1::ListProcessesRequest::default());
    // Its first word is said while it starts to serve.
    let answer = loop {
        let answer = bench.administer().list_processes(list()).await.unwrap().into_inner();
        if !answer.processes.is_empty() {
            break answer;
        }
    };
    let [process] = &answer.processes[..] else { panic!("{answer:?}") };
    assert_eq!((process.kind.as_str(), process.started_unix_nano), ("server", NOW.as_unix_nanos()));
    assert!(process.alive && process.process_id.starts_with("server-"), "{process:?}");
    assert_eq!(answer.unowned_partitions, [0, 1], "a server reads from none");
    assert!(!process.host.is_empty(), "{process:?}");
    let stranger = bench.token("stranger", "*", logweir_core::identity::Role::Admin);
    let request = with_token(&stranger, v1::ListProcessesRequest::default());
    let answer = bench.administer().list_processes(request).await.unwrap().into_inner();
    assert_eq!(answer.processes[0].host, "", "where it runs is for who runs it");
    let viewer = bench.token("default", "*", logweir_core::identity::Role::Viewer);
    let request = with_token(&viewer, v1::ListProcessesRequest::default());
    let status = bench.administer().list_processes(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_tenant_sees_what_it_holds_and_may_hold() {
    let bench = Bench::new().await;
    let tail = with_token(&bench.admin(), v1::TailLogsRequest::default());
    let open = bench.query().tail_logs(tail).await.unwrap();
    let of = async |tenant: &str| {
        let token = bench.token(tenant, "*", logweir_core::identity::Role::Admin);
        let request = with_token(&token, v1::GetTenantRequest {});
        bench.administer().get_tenant(request).await.unwrap().into_inner()
    };
    let tails = |answer: &v1::GetTenantResponse| {
        let share = answer.shares.iter().find(|share| share.resource == "tails");
        share.map(|share| (share.held, share.held_max))
    };
    let [own, other] = [of("default").await, of("other").await];
    assert_eq!((own.tenant.as_str(), other.tenant.as_str()), ("default", "other"));
    assert_eq!((tails(&own), tails(&other)), (Some((1, 1_024)), Some((0, 1_024))));
    let quotas: Vec<_> = own.rate_limits.iter().map(|limit| limit.quota.as_str()).collect();
    assert_eq!(quotas, ["tenant_logs_per_second", "tenant_bytes_per_second"]);
    drop(open);
}
