//! `logweir channels`: where people are told.

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand};
use logweir_alerting::yaml::parse_channels;
use logweir_incident::channel::ChannelConfig;
use logweir_proto::v1;
use serde::Serialize;
use serde_json::Value as Json;

use crate::response_times::{rfc3339, shown};
use crate::{
    client::ServerArgs,
    command::alerts::rules::refused,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, Value, escape, say, say_cut, text},
};

/// Arguments of `logweir channels`.
#[derive(Debug, Args)]
pub struct ChannelsArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the channels and how they are; secrets are not shown
    List,
    /// Store the channels of a YAML file, each in place of the one of its name; nothing is sent
    /// while the file holds a mistake
    Put {
        /// The file
        file: PathBuf,
    },
    /// Delete a channel
    Delete {
        /// Its name
        name: String,
    },
    /// Send a test message, and show each step
    Test {
        /// Its name
        name: String,
    },
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    state: &'static str,
    until: Option<String>,
    down_since: Option<String>,
    last_error: &'a str,
    config: Json,
}

#[derive(Serialize)]
struct Tested<'a> {
    succeeded: bool,
    words: &'a str,
    steps: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Step<'a> {
    name: &'a str,
    succeeded: bool,
    detail: &'a str,
    took_ms: f64,
}

impl ChannelsArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut output = Output::new(&self.output);
        let mut exit = Exit::Done;
        match self.action {
            Action::List => {
                let mut client = self.server.alerts().await?;
                let answer = client.list_channels(v1::ListChannelsRequest {}).await;
                let answer = answer.map_err(Error::from)?.into_inner();
                list(&mut output, &answer.channels)?;
                if answer.truncated {
                    say_cut("delete what is not needed");
                }
            }
            Action::Put { file } => {
                // All of it is read before anything is sent: half of a change is worse than none.
                let channels = read(&file)?;
                list(&mut output, &put(&self.server, &channels).await?)?;
            }
            Action::Delete { name } => {
                let mut client = self.server.alerts().await?;
                let request = v1::DeleteChannelRequest { name };
                client.delete_channel(request).await.map_err(Error::from)?;
                say("deleted");
            }
            Action::Test { name } => {
                let mut client = self.server.alerts().await?;
                let request = v1::TestChannelRequest { name };
                let report = client.test_channel(request).await.map_err(Error::from)?;
                let report = report.into_inner();
                tested(&mut output, &report)?;
                // The call succeeded; a script that tests a channel asks for the message.
                if !report.succeeded {
                    exit = Exit::Failed;
                }
            }
        }
        output.flush()?;
        Ok(exit)
    }
}

fn read(path: &PathBuf) -> Result<Vec<ChannelConfig>, Error> {
    let failed = |source| Error::File { action: "read", path: path.clone(), source };
    let content = fs::read_to_string(path).map_err(failed)?;
    parse_channels(&path.display().to_string(), &content).map_err(|mistakes| refused(&mistakes))
}

async fn put(
    server: &ServerArgs,
    channels: &[ChannelConfig],
) -> anyhow::Result<Vec<v1::AlertChannel>> {
    let mut client = server.alerts().await?;
    let mut stored = Vec::with_capacity(channels.len());
    let mut warnings = Vec::new();
    for channel in channels {
        let config = serde_json::to_string(channel)?;
        let answer = client.put_channel(v1::PutChannelRequest { config }).await;
        let answer = answer.map_err(Error::from)?.into_inner();
        // What is missing may come later in the same file.
        let is_missing = |name: &String| !channels.iter().any(|channel| channel.name == *name);
        if channel.fallback.as_ref().is_some_and(is_missing) {
            warnings
                .extend(answer.warnings.iter().map(|text| format!("{:?}: {text}", channel.name)));
        }
        stored.extend(answer.channel);
    }
    warnings.iter().for_each(|warning| say(&format!("channel {warning}")));
    Ok(stored)
}

fn state(channel: &v1::AlertChannel) -> (&'static str, Tone) {
    match channel.state() {
        v1::ChannelState::Unspecified => ("-", Tone::Plain),
        v1::ChannelState::Closed => ("closed", Tone::Good),
        v1::ChannelState::Open => ("open", Tone::Bad),
        v1::ChannelState::HalfOpen => ("half_open", Tone::Warning),
        v1::ChannelState::RateLimited => ("rate_limited", Tone::Warning),
        v1::ChannelState::Misconfigured => ("misconfigured", Tone::Bad),
    }
}

/// What a server of another version says may be no JSON.
fn config(channel: &v1::AlertChannel) -> Json {
    serde_json::from_str(&channel.config).unwrap_or(Json::Null)
}

fn list(output: &mut Output, channels: &[v1::AlertChannel]) -> std::io::Result<()> {
    let moment = |unix_nano: i64| (unix_nano != 0).then(|| rfc3339(unix_nano));
    if output.json {
        return channels.iter().try_for_each(|channel| {
            output.object(&Listed {
                name: &channel.name,
                state: state(channel).0,
                until: moment(channel.until_unix_nano),
                down_since: moment(channel.down_since_unix_nano),
                last_error: &channel.last_error,
                config: config(channel),
            })
        });
    }
    if channels.is_empty() {
        say("nobody is told of anything yet: logweir channels put FILE");
        return Ok(());
    }
    let header =
        ["channel", "kind", "default", "fallback", "breaker", "until", "down since", "last error"];
    output.table(&header, channels.iter().map(row).collect())
}

fn row(channel: &v1::AlertChannel) -> Vec<Value> {
    let known = config(channel);
    let kind = known["kind"].as_object().and_then(|kinds| kinds.keys().next().cloned());
    let (state, tone) = state(channel);
    vec![
        text(&channel.name).tone(Tone::Name),
        text(kind.as_deref().unwrap_or("-")),
        text(if known["is_default"].as_bool() == Some(true) { "yes" } else { "-" }),
        text(known["fallback"].as_str().unwrap_or("-")),
        text(state).tone(tone),
        text(&shown(channel.until_unix_nano)).tone(Tone::Dim),
        text(&shown(channel.down_since_unix_nano)).tone(Tone::Dim),
        text(&channel.last_error),
    ]
}

fn step(step: &v1::TestStep) -> Step<'_> {
    let v1::TestStep { name, succeeded, detail, took_ms } = step;
    Step { name, succeeded: *succeeded, detail, took_ms: *took_ms }
}

fn tested(output: &mut Output, report: &v1::TestChannelResponse) -> std::io::Result<()> {
    if output.json {
        let steps = report.steps.iter().map(step).collect();
        return output.object(&Tested { succeeded: report.succeeded, words: &report.words, steps });
    }
    let outcome = |succeeded| if succeeded { ("ok", Tone::Good) } else { ("failed", Tone::Bad) };
    let row = |step: &v1::TestStep| {
        let (word, tone) = outcome(step.succeeded);
        let took = format!("{:.0} ms", step.took_ms);
        vec![text(&step.name), text(word).tone(tone), text(&took), text(&step.detail)]
    };
    output.table(&["step", "", "took", "detail"], report.steps.iter().map(row).collect())?;
    let (word, tone) = outcome(report.succeeded);
    output.line(&format!("{}: {}", output.paint(word, tone), escape(&report.words)))
}
