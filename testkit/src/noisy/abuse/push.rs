//! What is done by sending as log shippers do, in plain HTTP.

use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{Request, StatusCode, Uri},
    transport::Channel,
};
use tower::{Service as _, ServiceExt as _};

use super::abuser::Abuser;
use crate::noisy::batch;

const CONNECTIONS: usize = 3;
/// Three of each form.
const WORKERS: usize = 9;
const LOGS: u64 = 2_000;
const TEXT_BYTES: usize = 200;

pub(super) async fn flood(abuser: &Abuser) {
    let act = async |abuser: Abuser, channel, number| {
        let (path, content_type, body) = push(number);
        send(&abuser, channel, path, content_type, body).await?;
        abuser.tally.add("logs acknowledged", LOGS);
        Ok(())
    };
    abuser.repeat(CONNECTIONS, WORKERS, act).await;
}

/// Path, content type and body; of another form each time.
fn push(number: u64) -> (&'static str, &'static str, String) {
    let time = batch::now_unix_nano();
    let texts = (0..LOGS).map(|log| (time + log, format!("push {number} {log:TEXT_BYTES$}")));
    match number % 3 {
        0 => {
            let line = |(time, text)| json!({ "time": time, "service": "push", "msg": text });
            let lines: Vec<String> = texts.map(|log| line(log).to_string()).collect();
            ("/api/logs", "application/x-ndjson", lines.join("\n"))
        }
        1 => {
            let values: Vec<_> =
                texts.map(|(time, text)| json!([time.to_string(), text])).collect();
            let stream = json!({ "stream": { "service_name": "push" }, "values": values });
            let body = json!({ "streams": [stream] }).to_string();
            ("/loki/api/v1/push", "application/json", body)
        }
        _ => {
            let pair = |(time, text): (u64, String)| {
                let document =
                    json!({ "@timestamp": time, "service.name": "push", "message": text });
                format!("{{\"create\":{{\"_index\":\"push\"}}}}\n{document}\n")
            };
            ("/_bulk", "application/x-ndjson", texts.map(pair).collect())
        }
    }
}

async fn send(
    abuser: &Abuser,
    mut channel: Channel,
    path: &'static str,
    content_type: &str,
    body: String,
) -> Result<(), Status> {
    let body = Body::new(Full::from(body).map_err(|never| match never {}));
    let request = Request::post(Uri::from_static(path))
        .header("authorization", format!("Bearer {}", abuser.token))
        .header("content-type", content_type)
        .body(body)
        .map_err(|error| Status::internal(error.to_string()))?;
    let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let sent = channel.ready().await.map_err(unreachable)?.call(request);
    let (head, body) = sent.await.map_err(unreachable)?.into_parts();
    body.collect().await?;
    match head.status {
        status if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS => Err(Status::resource_exhausted("429")),
        StatusCode::SERVICE_UNAVAILABLE => Err(Status::unavailable("503")),
        status => Err(Status::new(Code::Unknown, status.to_string())),
    }
}
