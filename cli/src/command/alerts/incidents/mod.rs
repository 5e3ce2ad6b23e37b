//! `logweir incidents`: what is wrong, what is known about it, and what somebody does about it.

mod labels;
mod show;

use std::time::Duration;

use clap::{Args, Subcommand};
use logweir_core::timestamp::parse_duration;
use logweir_core::{json, runtime::clock::now};
use logweir_proto::v1::{self, act_on_incident_request::Action as Act};
use serde::Serialize;

use self::labels::{began, quiet, severity, state};
use crate::{
    client::ServerArgs,
    command::query::search::TimeArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, Value, escape, say, say_cut, text},
};

/// Arguments of `logweir incidents`.
#[derive(Debug, Args)]
pub struct IncidentsArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List incidents, those that began last first
    List {
        /// Only those that are not resolved
        #[arg(long)]
        open: bool,
        /// Only this service
        #[arg(long, default_value = "")]
        service: String,
        #[command(flatten)]
        time: TimeArgs,
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Show an incident: what, since when, why perhaps, who was told, and what to type next
    Show(Which),
    /// Say that you see to it: it is not escalated, and reminders grow rarer
    Ack(Which),
    /// Take that back
    Unack(Which),
    /// Say that it is over
    Resolve {
        #[command(flatten)]
        which: Which,
        /// Why
        #[arg(long, short = 'm', default_value = "")]
        message: String,
    },
    /// Hear of it later
    Snooze {
        #[command(flatten)]
        which: Which,
        /// For how long: 30m, 2h, 1d; at most 7d
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        lasting: Duration,
    },
    /// Write something down in its timeline
    Note {
        #[command(flatten)]
        which: Which,
        /// What
        text: String,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// Its id, or as much of its beginning as no other has
    id: String,
}

#[derive(Serialize)]
struct Taken<'a> {
    incident_id: &'a str,
    action: &'a str,
}

impl IncidentsArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut output = Output::new(&self.output);
        let (which, name, act) = match self.action {
            Action::List { open, service, time, limit } => {
                let range = Some(time.range()?);
                let request = v1::ListIncidentsRequest { service, open, range, limit };
                list(&self.server, &mut output, request).await?;
                output.flush()?;
                return Ok(Exit::Done);
            }
            Action::Show(which) => {
                show(&self.server, &mut output, which.id).await?;
                output.flush()?;
                return Ok(Exit::Done);
            }
            Action::Ack(which) => (which, "acknowledge", Act::Acknowledge(v1::Acknowledge {})),
            Action::Unack(which) => {
                (which, "unacknowledge", Act::Unacknowledge(v1::Unacknowledge {}))
            }
            Action::Resolve { which, message } => {
                (which, "resolve", Act::Resolve(v1::Resolve { text: message }))
            }
            Action::Snooze { which, lasting } => {
                let until_unix_nano = (now() + lasting).as_unix_nanos();
                (which, "snooze", Act::Snooze(v1::Snooze { until_unix_nano }))
            }
            Action::Note { which, text } => (which, "note", Act::Note(v1::Note { text })),
        };
        let request = v1::ActOnIncidentRequest { incident_id: which.id, action: Some(act) };
        let mut client = self.server.alerts().await?;
        let answer = client.act_on_incident(request).await.map_err(Error::from)?;
        taken(&mut output, &answer.into_inner().incident_id, name)?;
        output.flush()?;
        Ok(Exit::Done)
    }
}

fn taken(output: &mut Output, incident_id: &str, action: &str) -> std::io::Result<()> {
    if output.json {
        return output.object(&Taken { incident_id, action });
    }
    let id = escape(incident_id);
    output.line(&format!("{action}: done within seconds, see logweir incidents show {id}"))
}

async fn list(
    server: &ServerArgs,
    output: &mut Output,
    request: v1::ListIncidentsRequest,
) -> anyhow::Result<()> {
    let limit = request.limit as usize;
    let mut client = server.alerts().await?;
    let answer = client.list_incidents(request).await.map_err(Error::from)?.into_inner();
    let incidents = &answer.incidents;
    if output.json {
        for incident in incidents {
            output.object(&json::Incident::new(incident))?;
        }
    } else if incidents.is_empty() {
        say("no incidents");
    } else {
        table(output, incidents)?;
    }
    if answer.truncated {
        say_cut("ask for fewer with -n, or a shorter time");
    } else if incidents.len() == limit {
        // The server does not say whether there are more than were asked for.
        say(&format!("there may be more than {limit}: ask with -n, or for a shorter time"));
    }
    Ok(())
}

async fn show(server: &ServerArgs, output: &mut Output, id: String) -> anyhow::Result<()> {
    let mut client = server.alerts().await?;
    let answer = client.get_incident(v1::GetIncidentRequest { incident_id: id }).await;
    let incident = answer.map_err(Error::from)?.into_inner().incident.unwrap_or_default();
    if output.json {
        output.object(&json::Incident::new(&incident))?;
        return Ok(());
    }
    Ok(show::write(output, &incident, now())?)
}

/// Writes what there is of incidents in a list.
pub(super) fn table(output: &mut Output, incidents: &[v1::Incident]) -> std::io::Result<()> {
    let header = ["incident", "began", "state", "severity", "service", "rule", "quiet", "what"];
    output.table(&header, incidents.iter().map(row).collect())
}

fn row(incident: &v1::Incident) -> Vec<Value> {
    let (state, tone) = state(incident);
    let (severity, loudness) = severity(incident);
    vec![
        text(&incident.incident_id),
        text(&began(incident).shown()).tone(Tone::Dim),
        text(state).tone(tone),
        text(severity).tone(loudness),
        text(if incident.service.is_empty() { "(logweir)" } else { &incident.service })
            .tone(Tone::Name),
        text(&incident.rule),
        text(&quiet(incident).join(", ")).tone(Tone::Dim),
        text(&incident.summary),
    ]
}
