//! `logweir findings`: what was noticed about more than one log.

use clap::Args;
use logweir_proto::v1;
use serde::Serialize;

use crate::response_times::{rfc3339, shown};
use crate::{
    client::ServerArgs,
    command::query::search::TimeArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, Value, count, say, text},
};

/// Arguments of `logweir findings`.
#[derive(Debug, Args)]
#[command(
    after_help = "An unusual session is a trace, or 64 logs of an instance, that went as none \
    before: `logweir search trace:SUBJECT` shows it. A drift says that logs are no longer what a \
    model was trained on."
)]
pub struct FindingsArgs {
    /// Only this service
    #[arg(long, default_value = "")]
    service: String,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[command(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Finding<'a> {
    kind: &'static str,
    service: &'a str,
    subject: &'a str,
    from: String,
    to: String,
    logs: u64,
    score: f64,
    reasons: &'a [String],
}

impl FindingsArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let request = v1::ListFindingsRequest {
            service: self.service.clone(),
            range: Some(self.time.range()?),
            limit: self.limit,
        };
        let mut client = self.server.query().await?;
        let answer = client.list_findings(request).await.map_err(Error::from)?.into_inner();
        let mut output = Output::new(&self.output);
        if output.json {
            for finding in &answer.findings {
                output.object(&json(finding))?;
            }
        } else if answer.findings.is_empty() {
            say("no findings");
        } else {
            let header = ["time", "what", "service", "subject", "logs", "why"];
            output.table(&header, answer.findings.iter().map(row).collect())?;
        }
        output.flush()?;
        if answer.truncated {
            say("there are more: ask for a shorter time");
        }
        Ok(Exit::Done)
    }
}

fn kind(finding: &v1::Finding) -> &'static str {
    match finding.kind() {
        v1::FindingKind::Unspecified => "unknown",
        v1::FindingKind::UnusualSession => "unusual session",
        v1::FindingKind::ModelDrift => "model drift",
    }
}

fn json(finding: &v1::Finding) -> Finding<'_> {
    Finding {
        kind: kind(finding),
        service: &finding.service,
        subject: &finding.subject,
        from: rfc3339(finding.from_unix_nano),
        to: rfc3339(finding.to_unix_nano),
        logs: finding.logs,
        score: finding.score,
        reasons: &finding.reasons,
    }
}

fn row(finding: &v1::Finding) -> Vec<Value> {
    vec![
        text(&shown(finding.to_unix_nano)),
        text(kind(finding)),
        text(&finding.service).tone(Tone::Name),
        text(&finding.subject).tone(Tone::Dim),
        count(finding.logs),
        text(&finding.reasons.join("; ")),
    ]
}
