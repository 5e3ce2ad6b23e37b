//! `logweir feedback`: what a person says of a log.

use clap::Args;
use logweir_proto::v1;
use serde::Serialize;

use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, escape},
};

/// Arguments of `logweir feedback`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("feedback").required(true))]
pub struct FeedbackArgs {
    /// The log's id, as a search with --json shows it
    log_id: String,
    /// It is usual
    #[arg(long, group = "feedback")]
    normal: bool,
    /// It is an anomaly
    #[arg(long, group = "feedback")]
    anomaly: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Feedback<'a> {
    log_id: &'a str,
    is_anomaly: bool,
    service: &'a str,
    template_id: &'a str,
}

impl FeedbackArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let (log_id, is_anomaly) = (self.log_id, self.anomaly);
        let request = v1::GiveFeedbackRequest { log_id: log_id.clone(), is_anomaly };
        let mut client = self.server.models().await?;
        let answer = client.give_feedback(request).await.map_err(Error::from)?.into_inner();
        let v1::GiveFeedbackResponse { service, template_id } = answer;
        let mut output = Output::new(&self.output);
        if output.json {
            let (log_id, service, template_id) = (&*log_id, &*service, &*template_id);
            output.object(&Feedback { log_id, is_anomaly, service, template_id })?;
        } else {
            let likelihood = if is_anomaly { "more" } else { "less" };
            let pattern = escape(&template_id);
            output.line(&format!(
                "logs of pattern {pattern} in {} are {likelihood} likely to be anomalies from now on",
                escape(&service)
            ))?;
        }
        output.flush()?;
        Ok(Exit::Done)
    }
}
