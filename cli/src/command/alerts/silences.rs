//! `logweir silences`: who does not want to know what, for a while.

use std::{collections::HashMap, time::Duration};

use clap::{Args, Subcommand};
use logweir_core::runtime::clock::now_unix_nano;
use logweir_core::timestamp::{parse_duration, rfc3339, shown};
use logweir_proto::v1;
use serde::Serialize;

use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, Value, say, say_cut, text},
    time_argument::parse_time,
};

/// Arguments of `logweir silences`.
#[derive(Debug, Args)]
pub struct SilencesArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the silences, those that end last first
    List,
    /// Keep incidents quiet for a while; they are recorded, and critical ones are told all the same
    Add {
        /// A label and its value, such as service=payments or rule=volume*; several must all match
        #[arg(long = "match", value_name = "LABEL=VALUE", required = true)]
        matchers: Vec<String>,
        /// For how long: 30m, 2h, 1d
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        lasting: Duration,
        /// From when on, if not at once: 2026-01-02T03:04:05Z
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Why
        #[arg(long, default_value = "")]
        comment: String,
        /// Keep also quiet what becomes critical
        #[arg(long)]
        hide_critical: bool,
    },
    /// Delete a silence: what it covered is told
    Delete {
        /// Its id
        id: String,
    },
}

#[derive(Serialize)]
struct Silence<'a> {
    silence_id: &'a str,
    state: &'static str,
    matchers: std::collections::BTreeMap<&'a str, &'a str>,
    from: String,
    to: String,
    comment: &'a str,
    author: &'a str,
    hides_critical: bool,
}

impl SilencesArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut output = Output::new(&self.output);
        match self.action {
            Action::List => {
                let mut client = self.server.alerts().await?;
                let answer = client.list_silences(v1::ListSilencesRequest {}).await;
                let answer = answer.map_err(Error::from)?.into_inner();
                list(&mut output, &answer.silences)?;
                if answer.truncated {
                    say_cut("delete those that have ended");
                }
            }
            Action::Add { matchers, lasting, from, comment, hide_critical } => {
                let now = now_unix_nano();
                let from = from.map_or(Ok(now), |text| parse_time(&text, now));
                let from_unix_nano = from.map_err(Error::Usage)?;
                let nanos = i64::try_from(lasting.as_nanos()).unwrap_or(i64::MAX);
                let silence = v1::Silence {
                    matchers: all_of(&matchers)?,
                    from_unix_nano,
                    to_unix_nano: from_unix_nano.saturating_add(nanos),
                    comment,
                    hides_critical: hide_critical,
                    ..v1::Silence::default()
                };
                let request = v1::PutSilenceRequest { silence: Some(silence) };
                let mut client = self.server.alerts().await?;
                let answer = client.put_silence(request).await.map_err(Error::from)?;
                list(&mut output, answer.into_inner().silence.as_slice())?;
            }
            Action::Delete { id } => {
                let mut client = self.server.alerts().await?;
                let request = v1::DeleteSilenceRequest { silence_id: id };
                client.delete_silence(request).await.map_err(Error::from)?;
                say("deleted");
            }
        }
        output.flush()?;
        Ok(Exit::Done)
    }
}

/// One value alone can be asked of a label.
fn all_of(texts: &[String]) -> Result<HashMap<String, String>, Error> {
    let mut all = HashMap::new();
    for text in texts {
        let (label, value) = matcher(text)?;
        if all.insert(label.clone(), value).is_some() {
            let text = format!("{label:?} is there twice: add a silence for each of its values");
            return Err(Error::Usage(text));
        }
    }
    Ok(all)
}

fn matcher(text: &str) -> Result<(String, String), Error> {
    match text.split_once('=') {
        Some((label, value)) if !label.is_empty() && !value.is_empty() => {
            Ok((label.to_owned(), value.to_owned()))
        }
        _ => Err(Error::Usage(format!("{text:?} is no LABEL=VALUE, such as service=payments"))),
    }
}

fn state(silence: &v1::Silence, now_unix_nano: i64) -> (&'static str, Tone) {
    match now_unix_nano {
        now if now >= silence.to_unix_nano => ("ended", Tone::Dim),
        now if now < silence.from_unix_nano => ("scheduled", Tone::Plain),
        _ => ("active", Tone::Warning),
    }
}

/// By label, whatever order they came in.
fn sorted(matchers: &HashMap<String, String>) -> std::collections::BTreeMap<&str, &str> {
    matchers.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect()
}

fn list(output: &mut Output, silences: &[v1::Silence]) -> std::io::Result<()> {
    let now = now_unix_nano();
    if output.json {
        return silences.iter().try_for_each(|silence| {
            output.object(&Silence {
                silence_id: &silence.silence_id,
                state: state(silence, now).0,
                matchers: sorted(&silence.matchers),
                from: rfc3339(silence.from_unix_nano),
                to: rfc3339(silence.to_unix_nano),
                comment: &silence.comment,
                author: &silence.author,
                hides_critical: silence.hides_critical,
            })
        });
    }
    if silences.is_empty() {
        say("no silences");
        return Ok(());
    }
    let header = ["silence", "state", "covers", "from", "to", "critical", "by", "comment"];
    output.table(&header, silences.iter().map(|silence| row(silence, now)).collect())
}

fn row(silence: &v1::Silence, now_unix_nano: i64) -> Vec<Value> {
    let (word, tone) = state(silence, now_unix_nano);
    let matchers = sorted(&silence.matchers);
    let covers: Vec<String> = matchers.iter().map(|(of, value)| format!("{of}={value}")).collect();
    vec![
        text(&silence.silence_id),
        text(word).tone(tone),
        text(&covers.join(" ")).tone(Tone::Name),
        text(&shown(silence.from_unix_nano)).tone(Tone::Dim),
        text(&shown(silence.to_unix_nano)).tone(Tone::Dim),
        text(if silence.hides_critical { "quiet too" } else { "told" }),
        text(&silence.author).tone(Tone::Dim),
        text(&silence.comment),
    ]
}
