//! `logweir clusters`: a few groups of patterns, or of anomalies, instead of thousands of lines.

use clap::Args;
use logweir_proto::v1;
use serde::Serialize;

use crate::{
    client::ServerArgs,
    command::query::search::TimeArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, Value, count, grouped, say, text},
};

/// Arguments of `logweir clusters`.
#[derive(Debug, Args)]
pub struct ClustersArgs {
    /// Only this service
    #[arg(long, default_value = "")]
    service: String,
    /// Only anomalies
    #[arg(long)]
    anomalies: bool,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    #[command(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Cluster<'a> {
    logs: u64,
    patterns: u64,
    services: &'a [String],
    representative: &'a str,
    sample_ids: &'a [String],
}

impl ClustersArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let request = v1::ListClustersRequest {
            service: self.service.clone(),
            range: Some(self.time.range()?),
            anomalies: self.anomalies,
            limit: self.limit,
        };
        let mut client = self.server.models().await?;
        let answer = client.list_clusters(request).await.map_err(Error::from)?.into_inner();
        let mut output = Output::new(&self.output);
        if output.json {
            for cluster in &answer.clusters {
                output.object(&json(cluster))?;
            }
        } else if answer.clusters.is_empty() {
            say(if self.anomalies { "no anomalies" } else { "no patterns" });
        } else {
            let header = ["logs", "patterns", "services", "sample", "most frequent pattern"];
            output.table(&header, answer.clusters.iter().map(row).collect())?;
        }
        output.flush()?;
        if answer.total > answer.clusters.len() as u64 {
            let (total, logs) = (grouped(answer.total), grouped(answer.logs));
            say(&format!("of {total} groups with {logs} logs; -n shows more"));
        }
        Ok(Exit::Done)
    }
}

fn json(cluster: &v1::Cluster) -> Cluster<'_> {
    Cluster {
        logs: cluster.logs,
        patterns: cluster.patterns,
        services: &cluster.services,
        representative: &cluster.representative,
        sample_ids: &cluster.sample_ids,
    }
}

fn row(cluster: &v1::Cluster) -> Vec<Value> {
    vec![
        count(cluster.logs),
        count(cluster.patterns),
        text(&cluster.services.join(", ")).tone(Tone::Name),
        text(cluster.sample_ids.first().map_or("", String::as_str)).tone(Tone::Dim),
        text(&cluster.representative),
    ]
}
