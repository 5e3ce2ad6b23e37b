//! `logweir rules`: what is watched, and when it is worth an incident.

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand};
use logweir_alerting::yaml::{FileError, parse};
use logweir_core::json::Incident;
use logweir_incident::rule::Rule;
use logweir_proto::v1;
use serde::Serialize;
use serde_json::Value as Json;

use crate::response_times::{rfc3339, shown};
use crate::{
    client::ServerArgs,
    command::{alerts::incidents::table, query::search::TimeArgs},
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, Value, escape, say, say_cut, text},
};

/// Arguments of `logweir rules`.
#[derive(Debug, Args)]
pub struct RulesArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the rules, those that came with the program first
    List,
    /// Store the rules of YAML files, each in place of the one of its name; nothing is sent while a
    /// file holds a mistake
    Put {
        /// The files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Show what the rules of YAML files would have found in the stored past; nothing is stored and
    /// nobody is told
    Preview {
        /// The files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        time: TimeArgs,
    },
    /// Delete a stored rule; a built-in one whose place it took holds again
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    built_in: bool,
    enabled: bool,
    definition: Json,
}

#[derive(Serialize)]
struct Previewed<'a> {
    rule: &'a str,
    from: String,
    to: String,
    incidents: Vec<Incident<'a>>,
}

impl RulesArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut output = Output::new(&self.output);
        match self.action {
            Action::List => {
                let mut client = self.server.alerts().await?;
                let answer = client.list_rules(v1::ListRulesRequest {}).await;
                let answer = answer.map_err(Error::from)?.into_inner();
                list(&mut output, &answer.rules)?;
                if answer.truncated {
                    say_cut("delete what is not needed");
                }
            }
            Action::Put { files } => {
                // All files are read before any rule is sent: half of a change is worse than none.
                let rules = read(&files)?;
                let mut client = self.server.alerts().await?;
                let mut stored = Vec::with_capacity(rules.len());
                for rule in &rules {
                    let definition = serde_json::to_string(rule)?;
                    let request = v1::PutRuleRequest { definition };
                    let answer = client.put_rule(request).await.map_err(Error::from)?.into_inner();
                    let warn = |warning| say(&format!("rule {:?}: {warning}", rule.name));
                    answer.warnings.iter().for_each(warn);
                    stored.extend(answer.rule);
                }
                list(&mut output, &stored)?;
            }
            Action::Preview { files, time } => {
                let range = time.range()?;
                for rule in read(&files)? {
                    preview(&self.server, &mut output, &rule, range).await?;
                }
            }
            Action::Delete { name } => {
                let mut client = self.server.alerts().await?;
                let request = v1::DeleteRuleRequest { name };
                client.delete_rule(request).await.map_err(Error::from)?;
                say("deleted");
            }
        }
        output.flush()?;
        Ok(Exit::Done)
    }
}

async fn preview(
    server: &ServerArgs,
    output: &mut Output,
    rule: &Rule,
    range: v1::TimeRange,
) -> anyhow::Result<()> {
    let definition = serde_json::to_string(rule)?;
    let request = v1::PreviewRuleRequest { definition, range: Some(range) };
    let mut client = server.alerts().await?;
    let answer = client.preview_rule(request).await.map_err(Error::from)?.into_inner();
    let v1::TimeRange { from_unix_nano, to_unix_nano } = answer.range.unwrap_or_default();
    let incidents = &answer.incidents;
    if output.json {
        output.object(&Previewed {
            rule: &rule.name,
            from: rfc3339(from_unix_nano),
            to: rfc3339(to_unix_nano),
            incidents: incidents.iter().map(Incident::new).collect(),
        })?;
    } else {
        let (from, to) = (shown(from_unix_nano), shown(to_unix_nano));
        let name = escape(&rule.name);
        output.line(&format!("{name}: {} incidents from {from} to {to}", incidents.len()))?;
        if !incidents.is_empty() {
            table(output, incidents)?;
        }
    }
    if answer.truncated {
        say_cut("ask for a shorter time");
    }
    Ok(())
}

/// The rules of all files, or every mistake in them.
fn read(files: &[PathBuf]) -> Result<Vec<Rule>, Error> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut mistakes = Vec::new();
    for path in files {
        let failed = |source| Error::File { action: "read", path: path.clone(), source };
        let content = fs::read_to_string(path).map_err(failed)?;
        match parse(&path.display().to_string(), &content) {
            Ok(found) => rules.extend(found),
            Err(found) => mistakes.extend(found),
        }
    }
    // Within a file the reader says so; over two, the later one would replace the other in silence.
    for (at, rule) in rules.iter().enumerate() {
        if rules[..at].iter().any(|other| other.name == rule.name) {
            let text = format!("the name {:?} is in two files: use another", rule.name);
            return Err(Error::Usage(text));
        }
    }
    if mistakes.is_empty() { Ok(rules) } else { Err(refused(&mistakes)) }
}

/// What is wrong with files, a line each.
pub(super) fn refused(mistakes: &[FileError]) -> Error {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    Error::Usage(format!("nothing was sent\n{}", lines.join("\n")))
}

fn list(output: &mut Output, rules: &[v1::AlertRule]) -> std::io::Result<()> {
    if output.json {
        return rules.iter().try_for_each(|rule| {
            output.object(&Listed {
                name: &rule.name,
                built_in: rule.built_in,
                enabled: rule.enabled,
                definition: definition(rule),
            })
        });
    }
    let header = ["rule", "from", "enabled", "severity", "kind", "services", "for s", "channels"];
    output.table(&header, rules.iter().map(row).collect())
}

/// What a server of another version says may be no JSON.
fn definition(rule: &v1::AlertRule) -> Json {
    serde_json::from_str(&rule.definition).unwrap_or(Json::Null)
}

fn row(rule: &v1::AlertRule) -> Vec<Value> {
    let known = definition(rule);
    let names = |list: &Json| {
        let names = list.as_array().into_iter().flatten().filter_map(Json::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    let services = names(&known["services"]);
    let (enabled, tone) = if rule.enabled { ("yes", Tone::Good) } else { ("no", Tone::Warning) };
    vec![
        text(&rule.name).tone(Tone::Name),
        text(if rule.built_in { "built in" } else { "stored" }).tone(Tone::Dim),
        text(enabled).tone(tone),
        text(known["severity"].as_str().unwrap_or("-")),
        text(known["measure"]["kind"].as_str().unwrap_or("-")),
        text(if services.is_empty() { "all" } else { &services }),
        text(&known["for_seconds"].as_u64().unwrap_or(0).to_string()),
        text(&names(&known["channels"])),
    ]
}
