//! `logweir templates`: the patterns that messages follow, most frequent first.

use clap::Args;
use logweir_core::runtime::clock::now_unix_nano;
use logweir_proto::v1;
use serde::Serialize;

use crate::{
    client::ServerArgs,
    entry::level_name,
    error::{Error, Exit},
    moment::{parse_moment, rfc3339, shown},
    output::{Output, OutputArgs, Tone, count, number, say, text},
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
    /// Only from this time on: -1h, 2026-01-02, 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Template<'a> {
    template_id: &'a str,
    service: &'a str,
    pattern: &'a str,
    count: u64,
    first_seen: String,
    last_seen: String,
    level: &'static str,
    trend: Option<f64>,
}

impl TemplatesArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let request = v1::ListTemplatesRequest {
            service: self.service.clone().unwrap_or_default(),
            range: self.range()?,
            limit: self.limit,
        };
        let mut client = self.server.query().await?;
        let answer = client.list_templates(request).await.map_err(Error::from)?;
        let templates = answer.into_inner().templates;
        let mut output = Output::new(&self.output);
        if output.json {
            for template in &templates {
                output.object(&json(template))?;
            }
        } else if templates.is_empty() {
            say("no patterns");
        } else {
            let header = ["template", "service", "level", "logs", "trend", "last", "pattern"];
            output.table(&header, templates.iter().map(row).collect())?;
        }
        output.flush()?;
        Ok(Exit::Done)
    }

    fn range(&self) -> Result<Option<v1::TimeRange>, Error> {
        if self.from.is_none() && self.to.is_none() {
            return Ok(None);
        }
        let now = now_unix_nano();
        let read = |text: &Option<String>| {
            text.as_deref().map_or(Ok(0), |text| parse_moment(text, now)).map_err(Error::Usage)
        };
        let range =
            v1::TimeRange { from_unix_nano: read(&self.from)?, to_unix_nano: read(&self.to)? };
        Ok(Some(range))
    }
}

fn json(template: &v1::TemplateSummary) -> Template<'_> {
    Template {
        template_id: &template.template_id,
        service: &template.service,
        pattern: &template.pattern,
        count: template.count,
        first_seen: rfc3339(template.first_seen_unix_nano),
        last_seen: rfc3339(template.last_seen_unix_nano),
        level: level_name(template.level()),
        trend: template.trend,
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
