//! `logweir models`: what was learned from logs, version after version, and which of it judges.

use clap::{Args, Subcommand};
use logweir_proto::v1;
use serde::Serialize;
use serde_json::Value as Json;

use crate::response_times::{rfc3339, shown};
use crate::{
    client::ServerArgs,
    command::query::search::TimeArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, Value, count, escape, grouped, number, say, say_cut, text},
};

/// Arguments of `logweir models`.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Train a candidate on stored logs, of the last 24 hours unless said otherwise
    Train {
        /// For this service; otherwise for all services without a model of their own
        #[arg(long, default_value = "")]
        service: String,
        /// Go on training if this command is interrupted
        #[arg(long)]
        keep_running: bool,
        #[command(flatten)]
        time: TimeArgs,
    },
    /// List the models, newest first
    List {
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Show a model and what it was trained on
    Show {
        /// Its id
        model: u64,
    },
    /// Judge stored logs by two models, and show where they differ
    Compare {
        /// A model's id
        first: u64,
        /// Another one's
        second: u64,
        #[command(flatten)]
        time: TimeArgs,
    },
    /// Have a model judge, in place of the active one
    Promote {
        /// Its id
        model: u64,
    },
    /// Have the model judge that did before the active one
    Rollback {
        /// Of this service; otherwise of those without a model of their own
        #[arg(long, default_value = "")]
        service: String,
    },
}

#[derive(Serialize)]
struct Model<'a> {
    model_id: u64,
    kind: &'a str,
    service: &'a str,
    state: &'static str,
    created: String,
    activated: Option<String>,
    trained_from: String,
    trained_to: String,
    rows: u64,
    bytes: u64,
    checksum: &'a str,
    parameters: Json,
    metrics: Json,
    #[serde(skip_serializing_if = "Json::is_null")]
    statistics: Json,
}

#[derive(Serialize)]
struct Comparison<'a> {
    logs: u64,
    agreement: f64,
    first_anomalies: u64,
    second_anomalies: u64,
    both: u64,
    only_first: Vec<Differing<'a>>,
    only_second: Vec<Differing<'a>>,
}

#[derive(Serialize)]
struct Differing<'a> {
    id: &'a str,
    service: &'a str,
    message: &'a str,
    reasons: &'a [String],
}

impl ModelsArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut output = Output::new(&self.output);
        let mut client = self.server.models().await?;
        match self.action {
            Action::Train { service, keep_running, time } => {
                let range = Some(time.range()?);
                let request = v1::TrainModelRequest { service, range, keep_running };
                let answer = client.train_model(request).await.map_err(Error::from)?;
                list(&mut output, &[answer.into_inner().model.unwrap_or_default()])?;
            }
            Action::List { limit } => {
                let request = v1::ListModelsRequest { limit };
                let answer = client.list_models(request).await.map_err(Error::from)?.into_inner();
                list(&mut output, &answer.models)?;
                if answer.truncated {
                    say_cut("ask for fewer with -n");
                }
            }
            Action::Show { model } => {
                let request = v1::GetModelRequest { model_id: model };
                let answer = client.get_model(request).await.map_err(Error::from)?;
                show(&mut output, &answer.into_inner().model.unwrap_or_default())?;
            }
            Action::Compare { first, second, time } => {
                let range = Some(time.range()?);
                let request = v1::CompareModelsRequest {
                    first_model_id: first,
                    second_model_id: second,
                    range,
                };
                let answer = client.compare_models(request).await.map_err(Error::from)?;
                compare(&mut output, (first, second), &answer.into_inner())?;
            }
            Action::Promote { model } => {
                let request = v1::PromoteModelRequest { model_id: model };
                let answer = client.promote_model(request).await.map_err(Error::from)?;
                list(&mut output, &[answer.into_inner().model.unwrap_or_default()])?;
            }
            Action::Rollback { service } => {
                let request = v1::RollBackModelRequest { service };
                let answer = client.roll_back_model(request).await.map_err(Error::from)?;
                match answer.into_inner().model {
                    Some(model) => list(&mut output, &[model])?,
                    None => say("no model was active before: what processors learn judges alone"),
                }
            }
        }
        output.flush()?;
        Ok(Exit::Done)
    }
}

fn state(model: &v1::Model) -> (&'static str, Tone) {
    match model.state() {
        v1::ModelState::Unspecified => ("-", Tone::Plain),
        v1::ModelState::Candidate => ("candidate", Tone::Plain),
        v1::ModelState::Active => ("active", Tone::Good),
        v1::ModelState::Retired => ("retired", Tone::Dim),
    }
}

/// What a server of another version says may be no JSON.
fn parsed(json: &str) -> Json {
    // `null` has no members, so that whatever is asked of it is shown as `-`.
    serde_json::from_str(json).unwrap_or(Json::Null)
}

fn json(model: &v1::Model) -> Model<'_> {
    let range = model.trained_on.unwrap_or_default();
    Model {
        model_id: model.model_id,
        kind: &model.kind,
        service: &model.service,
        state: state(model).0,
        created: rfc3339(model.created_unix_nano),
        activated: (model.activated_unix_nano != 0).then(|| rfc3339(model.activated_unix_nano)),
        trained_from: rfc3339(range.from_unix_nano),
        trained_to: rfc3339(range.to_unix_nano),
        rows: model.rows,
        bytes: model.bytes,
        checksum: &model.checksum,
        parameters: parsed(&model.parameters),
        metrics: parsed(&model.metrics),
        statistics: parsed(&model.statistics),
    }
}

fn list(output: &mut Output, models: &[v1::Model]) -> std::io::Result<()> {
    if output.json {
        return models.iter().try_for_each(|model| output.object(&json(model)));
    }
    if models.is_empty() {
        say("no model was trained yet: logweir models train");
        return Ok(());
    }
    let header =
        ["model", "state", "service", "kind", "made", "logs", "rows", "anomalies %", "drift"];
    output.table(&header, models.iter().map(row).collect())
}

fn row(model: &v1::Model) -> Vec<Value> {
    let metrics = parsed(&model.metrics);
    let (state, tone) = state(model);
    let service = if model.service.is_empty() { "(others)" } else { &model.service };
    vec![
        count(model.model_id),
        text(state).tone(tone),
        text(service).tone(Tone::Name),
        text(&model.kind),
        text(&shown(model.created_unix_nano)).tone(Tone::Dim),
        count(metrics["logs"].as_u64().unwrap_or(0)),
        count(model.rows),
        number(metrics["anomaly_share"].as_f64().map(|share| share * 100.0), 3),
        number(metrics["drift"].as_f64(), 2),
    ]
}

fn show(output: &mut Output, model: &v1::Model) -> std::io::Result<()> {
    if output.json {
        return output.object(&json(model));
    }
    list(output, std::slice::from_ref(model))?;
    let range = model.trained_on.unwrap_or_default();
    let (from, to) = (shown(range.from_unix_nano), shown(range.to_unix_nano));
    output.line(&format!("trained on logs from {from} to {to}"))?;
    output.line(&format!("parameters {}", escape(&model.parameters)))?;
    output.line(&format!("metrics    {}", escape(&model.metrics)))?;
    output.line(&format!("checksum   {}, {} bytes", model.checksum, grouped(model.bytes)))?;
    let statistics = parsed(&model.statistics);
    let features = statistics["features"].as_array().map(Vec::as_slice).unwrap_or_default();
    let quantile = |feature: &Json, at: usize| number(feature["quantiles"][at].as_f64(), 2);
    let row = |(number, feature): (usize, &Json)| {
        vec![
            count(number as u64 + 1),
            self::number(feature["mean"].as_f64(), 2),
            quantile(feature, 0),
            quantile(feature, 5),
            quantile(feature, 10),
        ]
    };
    let rows = features.iter().enumerate().map(row).collect();
    output.table(&["feature", "mean", "lowest", "median", "highest"], rows)
}

fn compare(
    output: &mut Output,
    (first, second): (u64, u64),
    found: &v1::CompareModelsResponse,
) -> std::io::Result<()> {
    // Those that only one of the two calls anomalies.
    let differ = found.first_anomalies + found.second_anomalies - 2 * found.both;
    let agreement = 1.0 - differ as f64 / found.logs.max(1) as f64;
    if output.json {
        return output.object(&Comparison {
            logs: found.logs,
            agreement,
            first_anomalies: found.first_anomalies,
            second_anomalies: found.second_anomalies,
            both: found.both,
            only_first: found.only_first.iter().map(differing).collect(),
            only_second: found.only_second.iter().map(differing).collect(),
        });
    }
    let share = |anomalies: u64| {
        let per_cent = anomalies as f64 * 100.0 / found.logs.max(1) as f64;
        format!("{} anomalies ({per_cent:.3} %)", grouped(anomalies))
    };
    output.line(&format!(
        "{} logs, judged alike: {:.3} %",
        grouped(found.logs),
        agreement * 100.0
    ))?;
    output.line(&format!("model {first}: {}", share(found.first_anomalies)))?;
    output.line(&format!("model {second}: {}", share(found.second_anomalies)))?;
    for (model, logs) in [(first, &found.only_first), (second, &found.only_second)] {
        for log in logs {
            // Escaped, as all that senders wrote: it could hold sequences that drive a terminal.
            let (service, message) = (escape(&log.service), escape(&log.message));
            let head = output.paint(&format!("only model {model}:"), Tone::Warning);
            output.line(&format!("{head} {service} {message}"))?;
            output.line(&format!("  {} ({})", escape(&log.reasons.join("; ")), escape(&log.id)))?;
        }
    }
    Ok(())
}

fn differing(log: &v1::DifferingLog) -> Differing<'_> {
    Differing { id: &log.id, service: &log.service, message: &log.message, reasons: &log.reasons }
}
