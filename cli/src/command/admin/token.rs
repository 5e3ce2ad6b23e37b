//! `logweir token`: issues, lists and revokes tokens, whether a server runs or not: on the machine
//! that holds the data directory, or where the database and the file of the keys can be reached.

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use logweir_core::timestamp::{Timestamp, parse_duration};
use logweir_core::{
    identity::{Role, ServiceScope, Tenant},
    runtime::clock::{now, system_clock},
};
use logweir_server::issue;
use logweir_storage::{SqliteStorage, Storage, TokenRecord};
use serde::Serialize;

use crate::{
    config::{ConfigArgs, ProcessConfig},
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, say, text},
    wiring::{open_database, token_keys},
};

/// Shorter tokens expire before they are used.
const TTL_MIN: Duration = Duration::from_secs(60);
/// Ten years.
const TTL_MAX: Duration = Duration::from_secs(315_360_000);

/// Arguments of `logweir token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Issue a token and print it, alone, on standard output
    Issue(IssueArgs),
    /// List tokens, newest first
    List(ListArgs),
    /// Revoke a token; it is refused everywhere within 5 seconds
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct IssueArgs {
    /// The service it may write, or `*` for any
    #[arg(long, value_name = "NAME")]
    service: ServiceScope,
    /// What it may do: ingest, viewer or admin
    #[arg(long, default_value = "ingest")]
    role: Role,
    /// How long it is valid
    #[arg(long, default_value = "90d", value_parser = parse_duration)]
    ttl: Duration,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The token's id, as `logweir token list` shows it
    token_id: String,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// Whose tokens
    #[arg(long, default_value = "default", value_parser = Tenant::new)]
    tenant: Tenant,
    #[command(flatten)]
    settings: ConfigArgs,
}

impl PlaceArgs {
    /// Opens what is there; a mistyped directory is not made.
    async fn open_existing(&self) -> anyhow::Result<Arc<dyn Storage>> {
        let settings = self.settings.load(&[])?;
        let directory = settings.data_dir();
        if settings.database_url.is_empty() && !directory.is_dir() {
            let text = format!("there is no data directory {}", directory.display());
            return Err(Error::Missing(text).into());
        }
        open(&settings).await
    }
}

/// The database where one is given, else the data directory.
async fn open(settings: &ProcessConfig) -> anyhow::Result<Arc<dyn Storage>> {
    let clock = system_clock();
    if settings.database_url.is_empty() {
        // A server may have the same data directory open: this opens it beside that process, for
        // one small transaction.
        let config = settings.storage();
        return Ok(Arc::new(SqliteStorage::open_for_administration(&config, clock)?));
    }
    Ok(Arc::new(open_database(settings, &clock).await?))
}

impl TokenArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        match self.action {
            Action::Issue(args) => args.run().await,
            Action::List(args) => args.run().await,
            Action::Revoke(args) => args.run().await,
        }
    }
}

impl IssueArgs {
    async fn run(self) -> anyhow::Result<Exit> {
        if !(TTL_MIN..=TTL_MAX).contains(&self.ttl) {
            return Err(Error::Usage("--ttl must be between 1m and 3650d".into()).into());
        }
        let settings = self.place.settings.load(&[])?;
        let storage = open(&settings).await?;
        let keys = token_keys(&settings)?;
        let tenant = &self.place.tenant;
        let (record, jwt) = issue(&keys, tenant, &self.service, self.role, self.ttl, now());
        storage.insert_token(tenant, record).await?;
        // The token alone, so that `export LOGWEIR_TOKEN=$(logweir token issue …)` works; and only
        // once it is stored, for one in use that no list shows could not be revoked.
        let mut output = Output::new(&OutputArgs::default());
        output.line(&jwt)?;
        output.flush()?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Token<'a> {
    token_id: &'a str,
    service: String,
    role: &'a str,
    issued: String,
    expires: String,
    revoked: Option<String>,
}

impl ListArgs {
    async fn run(self) -> anyhow::Result<Exit> {
        let storage = self.place.open_existing().await?;
        let tokens = storage.list_tokens(&self.place.tenant).await?;
        let mut output = Output::new(&self.output);
        if output.json {
            for token in &tokens {
                output.object(&Token {
                    token_id: &token.token_id,
                    service: token.service.to_string(),
                    role: token.role.as_str(),
                    issued: token.issued_at.to_rfc3339(),
                    expires: token.expires_at.to_rfc3339(),
                    revoked: token.revoked_at.map(Timestamp::to_rfc3339),
                })?;
            }
        } else if tokens.is_empty() {
            say("no tokens yet: make one with `logweir token issue --service NAME`");
        } else {
            let now = now();
            let rows = tokens.iter().map(|token| row(token, now)).collect();
            output.table(&["id", "service", "role", "issued", "expires", "state"], rows)?;
        }
        output.flush()?;
        Ok(Exit::Done)
    }
}

fn row(token: &TokenRecord, now: Timestamp) -> Vec<crate::output::Value> {
    let state = match token.revoked_at {
        Some(_) => "revoked",
        None if token.expires_at <= now => "expired",
        None => "valid",
    };
    vec![
        text(&token.token_id).tone(Tone::Name),
        text(&token.service.to_string()),
        text(token.role.as_str()),
        text(&token.issued_at.shown()),
        text(&token.expires_at.shown()),
        text(state),
    ]
}

impl RevokeArgs {
    async fn run(self) -> anyhow::Result<Exit> {
        let storage = self.place.open_existing().await?;
        storage.revoke_token(&self.place.tenant, &self.token_id, now()).await?;
        say(&format!("token {} is revoked", self.token_id));
        Ok(Exit::Done)
    }
}
