//! `logweir templates`: the patterns that messages follow, most frequent first.

use clap::Args;
use logweir_core::json::{self, level_name};
use logweir_proto::v1;

use crate::response_times::shown;
use crate::{
    client::ServerArgs,
    command::query::search::TimeArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, count, number, say, say_cut, text},
};

/// Arguments of `logweir templates`.
#[derive(Debug, Args)]
pub struct TemplatesArgs {
    /// Only this service
    #[arg(long)]
    service: Option<String>,
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

impl TemplatesArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let request = v1::ListTemplatesRequest {
            service: self.service.clone().unwrap_or_default(),
            range: Some(self.time.range()?),
            limit: self.limit,
        };
        let mut client = self.server.query().await?;
        let answer = client.list_templates(request).await.map_err(Error::from)?;
        let v1::ListTemplatesResponse { templates, truncated } = answer.into_inner();
        let mut output = Output::new(&self.output);
        if output.json {
            for template in &templates {
                output.object(&json::Template::new(template))?;
            }
        } else if templates.is_empty() {
            say("no patterns");
        } else {
            let header = ["template", "service", "level", "logs", "trend", "last", "pattern"];
            output.table(&header, templates.iter().map(row).collect())?;
        }
        output.flush()?;
        if truncated {
            say_cut("ask for one --service, or for fewer with -n");
        }
        Ok(Exit::Done)
    }
}

fn row(template: &v1::TemplateSummary) -> Vec<crate::output::Value> {
    vec![
        text(&template.template_id).tone(Tone::Dim),
        text(&template.service).tone(Tone::Name),
        text(level_name(template.level())).tone(Tone::of_level(template.level())),
        count(template.count),
        number(template.trend, 2),
        text(&shown(template.last_seen_unix_nano)).tone(Tone::Dim),
        text(&template.pattern),
    ]
}
