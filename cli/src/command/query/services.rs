//! `logweir services`: who has sent logs.

use clap::Args;
use logweir_core::json;
use logweir_proto::v1;

use crate::response_times::{shown, shown_hour};
use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, count, say, say_cut, text},
};

/// Arguments of `logweir services`.
#[derive(Debug, Args)]
pub struct ServicesArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ServicesArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.server.query().await?;
        let answer = client.list_services(v1::ListServicesRequest {}).await.map_err(Error::from)?;
        let v1::ListServicesResponse { services, truncated } = answer.into_inner();
        let mut output = Output::new(&self.output);
        if output.json {
            for service in &services {
                output.object(&json::Service::new(service))?;
            }
        } else if services.is_empty() {
            say("no service has sent logs yet: try `logweir send FILE`");
        } else {
            let header =
                ["service", "logs", "errors", "anomalies", "first", "last", "region", "owner"];
            output.table(&header, services.iter().map(row).collect())?;
        }
        // Written out first: the remark goes to standard error and would stand above the table.
        output.flush()?;
        if truncated {
            say_cut("`logweir stats --service NAME` knows the others");
        }
        Ok(Exit::Done)
    }
}

fn row(service: &v1::ServiceSummary) -> Vec<crate::output::Value> {
    vec![
        text(&service.service).tone(Tone::Name),
        count(service.total),
        count(service.errors),
        count(service.anomalies),
        text(&shown_hour(service.first_seen_unix_nano)),
        text(&shown(service.last_seen_unix_nano)),
        text(&service.region),
        text(&service.owner),
    ]
}
