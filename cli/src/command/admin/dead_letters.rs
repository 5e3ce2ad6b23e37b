//! `logweir dead-letters`: what could not be stored.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use logweir_proto::v1;
use serde::Serialize;

use crate::response_times::{rfc3339, shown};
use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, grouped, say, text},
};

/// Arguments of `logweir dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List them, newest first
    List {
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
        /// Only ids below this
        #[arg(long, value_name = "ID", default_value_t = 0)]
        before: u64,
    },
    /// Send them through ingest again; each is stored at most once, and one that fails again
    /// becomes a dead letter anew
    Replay(Which),
    /// Delete them for good
    Discard(Which),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Their ids
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    /// All of them
    #[arg(long)]
    all: bool,
}

impl Which {
    /// How many letters are named one by one.
    fn asked(&self) -> u64 {
        // An id that is given twice is one letter, which is found once.
        self.ids.iter().collect::<BTreeSet<_>>().len() as u64
    }
}

/// Whether letters that were named are not there, which is said.
fn say_missing(asked: u64, found: u64) -> bool {
    let missing = asked.saturating_sub(found);
    if missing > 0 {
        say(&format!("{} of {} are not there", grouped(missing), grouped(asked)));
    }
    missing > 0
}

#[derive(Serialize)]
struct Letter<'a> {
    dead_letter_id: u64,
    created: String,
    service: &'a str,
    batch_id: &'a str,
    index: u32,
    reason: &'a str,
    detail: &'a str,
    preview: &'a str,
    replayed: Option<String>,
}

#[derive(Serialize)]
struct Replayed {
    replayed: u64,
    rejected: u64,
    waiting: u64,
}

#[derive(Serialize)]
struct Discarded {
    discarded: u64,
}

impl DeadLettersArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.server.admin().await?;
        let mut output = Output::new(&self.output);
        let exit = match self.action {
            Action::List { limit, before } => {
                let request = v1::ListDeadLettersRequest { limit, before_dead_letter_id: before };
                let answer = client.list_dead_letters(request).await.map_err(Error::from)?;
                list(&mut output, &answer.into_inner())?;
                Exit::Done
            }
            Action::Replay(which) => {
                let asked = which.asked();
                // Without ids the server takes all of them: the arguments hold ids or `--all`.
                let request = v1::ReplayDeadLettersRequest { dead_letter_ids: which.ids };
                let answer = client.replay_dead_letters(request).await.map_err(Error::from)?;
                let v1::ReplayDeadLettersResponse { replayed, rejected, waiting } =
                    answer.into_inner();
                if output.json {
                    output.object(&Replayed { replayed, rejected, waiting })?;
                } else {
                    let (stored, again) = (grouped(replayed), grouped(rejected));
                    output.line(&format!("{stored} stored, {again} rejected again"))?;
                }
                if waiting > 0 {
                    say(&format!(
                        "{} wait for a processor; `logweir dead-letters list` shows those that fail",
                        grouped(waiting)
                    ));
                }
                let are_missing = say_missing(asked, replayed + rejected + waiting);
                if rejected > 0 || are_missing { Exit::Partial } else { Exit::Done }
            }
            Action::Discard(which) => {
                let asked = which.asked();
                // Here all must be said in so many words: what is deleted does not come back.
                let request =
                    v1::DiscardDeadLettersRequest { dead_letter_ids: which.ids, all: which.all };
                let answer = client.discard_dead_letters(request).await.map_err(Error::from)?;
                let discarded = answer.into_inner().discarded;
                if output.json {
                    output.object(&Discarded { discarded })?;
                } else {
                    output.line(&format!("{} deleted", grouped(discarded)))?;
                }
                if say_missing(asked, discarded) { Exit::Partial } else { Exit::Done }
            }
        };
        output.flush()?;
        Ok(exit)
    }
}

fn list(output: &mut Output, answer: &v1::ListDeadLettersResponse) -> std::io::Result<()> {
    let letters = &answer.dead_letters;
    if output.json {
        return letters.iter().try_for_each(|letter| output.object(&json(letter)));
    }
    if letters.is_empty() {
        say("no dead letters");
        return Ok(());
    }
    let header = ["id", "since", "service", "reason", "detail", "message", "replayed"];
    output.table(&header, letters.iter().map(row).collect())?;
    if answer.total > letters.len() as u64 {
        say(&format!("{} of {}", grouped(letters.len() as u64), grouped(answer.total)));
    }
    Ok(())
}

fn json(letter: &v1::DeadLetter) -> Letter<'_> {
    Letter {
        dead_letter_id: letter.dead_letter_id,
        created: rfc3339(letter.created_unix_nano),
        service: &letter.service,
        batch_id: &letter.batch_id,
        index: letter.index,
        reason: &letter.reason,
        detail: &letter.detail,
        preview: &letter.preview,
        replayed: (letter.replayed_unix_nano != 0).then(|| rfc3339(letter.replayed_unix_nano)),
    }
}

fn row(letter: &v1::DeadLetter) -> Vec<crate::output::Value> {
    vec![
        text(&letter.dead_letter_id.to_string()),
        text(&shown(letter.created_unix_nano)).tone(Tone::Dim),
        text(&letter.service).tone(Tone::Name),
        text(&letter.reason).tone(Tone::Warning),
        text(&letter.detail),
        text(&letter.preview),
        text(&shown(letter.replayed_unix_nano)),
    ]
}
