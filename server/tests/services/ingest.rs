//! Batches that are taken, and those that cannot be now.

use std::time::Duration;

use futures::StreamExt;
use logweir_core::identity::Role;
use logweir_proto::v1::{self, ingest_stream_response::Outcome};
use logweir_queue::QueueLimits;
use logweir_server::{RateConfig, ServerConfig};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, codec::CompressionEncoding};
use tonic_types::StatusExt;

use crate::harness::{Bench, NOW, batch, messages, reason, with_token};

#[tokio::test]
async fn an_acknowledged_batch_is_stored_and_a_repeat_adds_nothing() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        let answer = bench.send(batch(1, &["one", "two"])).await.unwrap();
        assert_eq!(answer, v1::IngestResponse { accepted: 2, rejected: vec![] });
    }
    assert_eq!(messages(&bench.stored().await), ["two", "one"]);
}

#[tokio::test]
async fn an_empty_service_is_the_tokens() {
    let bench = Bench::new().await;
    let token = bench.token("default", "orders", Role::Ingest);
    bench.send_with(&token, v1::Batch { resource: None, ..batch(1, &["x"]) }).await.unwrap();
    assert_eq!(bench.stored().await[0].service, "orders");
}

#[tokio::test]
async fn bad_logs_are_named_and_the_rest_is_stored() {
    let bench = Bench::new().await;
    let mut sent = batch(1, &["good", "bad latency", "bad trace", "good too"]);
    sent.records[1].latency_ms = Some(f64::NAN);
    sent.records[2].trace_id = vec![1; 3];
    for _ in 0..2 {
        let answer = bench.send(sent.clone()).await.unwrap();
        assert_eq!(answer.accepted, 2);
        let named: Vec<_> = answer.rejected.iter().map(|r| (r.index, r.reason.as_str())).collect();
        assert_eq!(named, [(1, "invalid_latency"), (2, "invalid_trace_id")]);
    }
    assert_eq!(messages(&bench.stored().await), ["good too", "good"]);
    let request = with_token(&bench.admin(), v1::ListDeadLettersRequest::default());
    let letters = bench.administer().list_dead_letters(request).await.unwrap().into_inner();
    assert_eq!((letters.total, letters.dead_letters.len()), (2, 2));
}

#[tokio::test]
async fn a_batch_of_bad_logs_alone_is_answered_the_same_way() {
    let bench = Bench::new().await;
    let answer = bench.send(batch(1, &[&"x".repeat(65_537)])).await.unwrap();
    assert_eq!((answer.accepted, answer.rejected.len()), (0, 1));
    assert_eq!(answer.rejected[0].message, "the message is 65537 bytes, the limit is 65536");
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn a_batch_without_logs_is_taken() {
    let bench = Bench::new().await;
    assert_eq!(bench.send(batch(1, &[])).await.unwrap().accepted, 0);
}

#[tokio::test]
async fn an_impossible_time_is_replaced_and_kept() {
    let bench = Bench::new().await;
    let mut sent = batch(1, &["zero", "far ahead", "beyond all"]);
    sent.records[0].time_unix_nano = 0;
    let far_ahead = (NOW + Duration::from_secs(601)).as_unix_nanos();
    sent.records[1].time_unix_nano = far_ahead as u64;
    sent.records[2].time_unix_nano = u64::MAX;
    for _ in 0..2 {
        assert_eq!(bench.send(sent.clone()).await.unwrap().accepted, 3);
    }
    let stored = bench.stored().await;
    assert_eq!(stored.len(), 3);
    for log in stored {
        let record = log.record.unwrap();
        assert_eq!(record.time_unix_nano, NOW.as_unix_nanos() as u64);
        let kept = &record.attributes[0];
        assert_eq!(kept.key, "logweir.original_time_unix_nano");
        use v1::attribute::Value;
        let expected = match record.message.as_str() {
            "zero" => Value::IntValue(0),
            "far ahead" => Value::IntValue(far_ahead),
            _ => Value::StringValue(u64::MAX.to_string()),
        };
        assert_eq!(kept.value, Some(expected));
    }
}

#[tokio::test]
async fn compressed_batches_are_taken() {
    let bench = Bench::new().await;
    for (id, encoding) in [(1, CompressionEncoding::Gzip), (2, CompressionEncoding::Zstd)] {
        let mut client = bench.ingest().send_compressed(encoding);
        let long = "compress me ".repeat(1_000);
        let request = v1::IngestRequest { batch: Some(batch(id, &[&long])) };
        let answer = client.ingest(with_token(&bench.admin(), request)).await.unwrap();
        assert_eq!(answer.into_inner().accepted, 1);
    }
    assert_eq!(bench.stored().await.len(), 2);
}

struct Stream {
    batches: mpsc::Sender<v1::IngestStreamRequest>,
    answers: tonic::Streaming<v1::IngestStreamResponse>,
}

impl Stream {
    async fn open(bench: &Bench) -> Self {
        let (batches, receiver) = mpsc::channel(16);
        let request = with_token(&bench.admin(), ReceiverStream::new(receiver));
        let answers = bench.ingest().ingest_stream(request).await.unwrap().into_inner();
        Self { batches, answers }
    }

    async fn send(&self, batch: v1::Batch) {
        self.batches.send(v1::IngestStreamRequest { batch: Some(batch) }).await.unwrap();
    }

    async fn answer(&mut self) -> v1::IngestStreamResponse {
        self.answers.next().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_stream_answers_every_batch_by_its_id() {
    let bench = Bench::new().await;
    bench.set_storing(false);
    let mut stream = Stream::open(&bench).await;
    for id in 1..=10 {
        stream.send(batch(id, &["pipelined"])).await;
    }
    bench.set_storing(true);
    let mut answered = Vec::new();
    for _ in 0..10 {
        let answer = stream.answer().await;
        assert!(matches!(answer.outcome, Some(Outcome::Accepted(_))));
        answered.push(answer.batch_id[0]);
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=10).collect::<Vec<u8>>());
    drop(stream.batches);
    assert!(stream.answers.next().await.is_none(), "it ends well");
    assert_eq!(bench.stored().await.len(), 10);
}

#[tokio::test]
async fn a_refused_batch_leaves_its_stream_open() {
    let bench = Bench::new().await;
    let mut stream = Stream::open(&bench).await;
    stream.send(v1::Batch { batch_id: vec![1; 3], ..batch(1, &["x"]) }).await;
    let answer = stream.answer().await;
    assert_eq!(answer.batch_id, [1; 3]);
    let Some(Outcome::Refused(refused)) = answer.outcome else { panic!("it was taken") };
    assert_eq!(refused.code, Code::InvalidArgument as i32);
    assert_eq!(refused.message, "batch.batch_id: is 3 bytes, must be 16");
    assert_eq!((refused.retry_delay_ms, refused.reason.as_str()), (0, "INVALID_FIELD"));
    stream.send(batch(2, &["x"])).await;
    assert!(matches!(stream.answer().await.outcome, Some(Outcome::Accepted(_))));
}

#[tokio::test]
async fn a_stopping_server_answers_what_it_took_and_ends_its_streams() {
    let mut bench = Bench::new().await;
    bench.set_storing(false);
    let mut stream = Stream::open(&bench).await;
    stream.send(batch(1, &["under way"])).await;
    stream.send(v1::Batch { batch_id: vec![], ..batch(2, &[]) }).await;
    assert!(matches!(stream.answer().await.outcome, Some(Outcome::Refused(_))), "both were read");
    bench.tasks.stop();
    bench.set_storing(true);
    assert_eq!(stream.answer().await.batch_id, [1; 16]);
    let end = stream.answers.next().await.unwrap().unwrap_err();
    assert_eq!((end.code(), reason(&end)), (Code::Unavailable, "STOPPING".into()));
    bench.served().await;
}

#[tokio::test]
async fn who_has_its_share_of_the_queue_is_told_when_to_come_back_and_others_are_served() {
    let limits = QueueLimits { batches_max: 1, bytes_max: 1 << 20 };
    let bench = Bench::with(ServerConfig::default(), limits).await;
    bench.set_storing(false);
    let mut stream = Stream::open(&bench).await;
    stream.send(batch(1, &["first"])).await;
    // Not read while there is no room, and so not to be repeated either.
    stream.send(batch(2, &["second"])).await;
    // Refused for its content until the first batch has taken the room, and before it is looked at
    // from then on.
    let status = loop {
        let invalid = v1::Batch { batch_id: vec![], ..batch(3, &["third"]) };
        let status = bench.send(invalid).await.unwrap_err();
        if status.code() != Code::InvalidArgument {
            break status;
        }
    };
    assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, "TENANT_SHARE".into()));
    let quota = status.get_details_quota_failure().unwrap();
    assert_eq!(quota.violations[0].description, "queue_batches");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    let other = bench.token("other", "payments", Role::Ingest);
    let of_other = bench.send_with(&other, batch(1, &["of another tenant"]));
    let stores = async { bench.set_storing(true) };
    let (of_other, ()) = tokio::join!(of_other, stores);
    assert_eq!(of_other.unwrap().accepted, 1);
    for _ in 0..2 {
        assert!(matches!(stream.answer().await.outcome, Some(Outcome::Accepted(_))));
    }
}

#[tokio::test]
async fn a_quota_is_refused_with_its_name_and_the_wait() {
    let rate = RateConfig { logs_per_second: 1, ..RateConfig::default() };
    let config = ServerConfig { rate, ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    assert!(bench.send(batch(1, &["a", "b"])).await.is_ok());
    let status = bench.send(batch(2, &["a", "b"])).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, "RATE_LIMITED".into()));
    let quota = status.get_details_quota_failure().unwrap();
    assert_eq!(quota.violations[0].description, "logs_per_second");
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!((1.0..=2.0).contains(&wait.as_secs_f64()), "{wait:?}");
    assert!(status.message().contains("default/payments"), "{status}");
}

#[tokio::test]
async fn too_many_logs_are_to_be_split() {
    let bench = Bench::new().await;
    let logs = vec!["x"; 10_001];
    let status = bench.send(batch(1, &logs)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::ResourceExhausted, "BATCH_TOO_LARGE".into())
    );
    assert!(status.get_details_retry_info().is_none());
    assert_eq!(bench.send(batch(1, &logs[1..])).await.unwrap().accepted, 10_000);
}
