//! `logweir tenant`: what the caller's tenant may use of what all tenants share.

use clap::{Args, Subcommand};
use logweir_proto::v1;
use serde::Serialize;

use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, Value, count, text},
};

/// Arguments of `logweir tenant`.
#[derive(Debug, Args)]
pub struct TenantArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what the token's tenant uses of what all tenants share, and what it may use
    Show,
}

/// One thing that is used, or could be.
#[derive(Serialize)]
struct Line<'a> {
    tenant: &'a str,
    name: &'a str,
    /// None of a rate, which is limited and not counted.
    used: Option<u64>,
    /// None where there is no limit of its own.
    limit: Option<u64>,
}

impl TenantArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let Action::Show = self.action;
        let mut client = self.server.admin().await?;
        let answer = client.get_tenant(v1::GetTenantRequest {}).await;
        let tenant = answer.map_err(Error::from)?.into_inner();
        let mut output = Output::new(&self.output);
        if output.json {
            for line in lines(&tenant) {
                output.object(&line)?;
            }
        } else {
            let header = ["tenant", "name", "used", "limit"];
            output.table(&header, lines(&tenant).map(row).collect())?;
        }
        output.flush()?;
        Ok(Exit::Done)
    }
}

fn lines(answer: &v1::GetTenantResponse) -> impl Iterator<Item = Line<'_>> {
    let line = |name, used, limit| Line { tenant: &answer.tenant, name, used, limit };
    let rates = answer.rate_limits.iter();
    let rates = rates.map(move |rate| line(&rate.quota, None, Some(rate.per_second.into())));
    let shares = answer.shares.iter();
    let shares =
        shares.map(move |share| line(&share.resource, Some(share.held), Some(share.held_max)));
    let stored = [
        ("stored_bytes", answer.stored_bytes),
        ("dead_letters", answer.dead_letters),
        ("expired_dead_letters", answer.expired_dead_letters),
    ];
    rates.chain(shares).chain(stored.map(|(name, used)| line(name, Some(used), None)))
}

fn row(line: Line<'_>) -> Vec<Value> {
    let cell = |number: Option<u64>| number.map_or_else(|| text("-"), count);
    vec![
        text(line.tenant).tone(Tone::Dim),
        text(line.name).tone(Tone::Name),
        cell(line.used),
        cell(line.limit),
    ]
}
