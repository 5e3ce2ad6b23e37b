//! Tokens: issued, listed, revoked.

use deadpool_postgres::Transaction;
use logweir_core::{
    identity::{IdentityError, Role, ServiceScope, Tenant},
    timestamp::Timestamp,
};
use tokio_postgres::Row;

use crate::{
    TokenRecord,
    postgres::{
        errors::Fault,
        read::rows,
        statement::{Statement, Value},
    },
};

const TOKEN: &str =
    "token_id, service, role, issued_unix_nano, expires_unix_nano, revoked_unix_nano";

pub(crate) async fn insert_token(
    db: &Transaction<'_>,
    tenant: &Tenant,
    token: &TokenRecord,
) -> Result<(), Fault> {
    let values = [
        Value::Text(tenant.to_string()),
        Value::Text(token.token_id.clone()),
        Value::Text(token.service.to_string()),
        Value::Text(token.role.as_str().to_owned()),
        Value::unix_nano(token.issued_at),
        Value::unix_nano(token.expires_at),
        Value::maybe_unix_nano(token.revoked_at),
    ];
    let statement = Statement::new("INSERT INTO tokens (tenant, ").text(TOKEN).text(") VALUES ");
    statement.list(values).execute(db).await?;
    Ok(())
}

pub(crate) async fn list_tokens(
    db: &Transaction<'_>,
    tenant: &Tenant,
) -> Result<Vec<TokenRecord>, Fault> {
    let found = Statement::new("SELECT ")
        .text(TOKEN)
        .text(" FROM tokens WHERE tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" ORDER BY issued_unix_nano DESC, token_id")
        .rows(db)
        .await?;
    found.iter().map(read_token).collect()
}

/// The token as it is then; nothing if there is none.
pub(crate) async fn revoke_token(
    db: &Transaction<'_>,
    tenant: &Tenant,
    token_id: &str,
    now: Timestamp,
) -> Result<Option<TokenRecord>, Fault> {
    // It comes from a caller, and cannot be bound: a mere wrong id would be a fault of the server.
    if token_id.contains('\0') {
        return Ok(None);
    }
    let found =
        Statement::new("UPDATE tokens SET revoked_unix_nano = coalesce(revoked_unix_nano, ")
            .value(Value::unix_nano(now))
            .text(") WHERE tenant = ")
            .value(Value::Text(tenant.to_string()))
            .text(" AND token_id = ")
            .value(Value::Text(token_id.to_owned()))
            .text(" RETURNING ")
            .text(TOKEN)
            .rows(db)
            .await?;
    found.first().map(read_token).transpose()
}

pub(crate) async fn revoked_token_ids(
    db: &Transaction<'_>,
    now: Timestamp,
) -> Result<Vec<String>, Fault> {
    let found = Statement::new(
        "SELECT token_id FROM tokens WHERE revoked_unix_nano IS NOT NULL AND expires_unix_nano > ",
    )
    .value(Value::unix_nano(now))
    .rows(db)
    .await?;
    found.iter().map(|row| rows::get(row, 0)).collect()
}

fn read_token(row: &Row) -> Result<TokenRecord, Fault> {
    let damaged = |error: IdentityError| Fault::corrupt(error.to_string());
    Ok(TokenRecord {
        token_id: rows::get(row, 0)?,
        service: rows::get::<&str>(row, 1)?.parse::<ServiceScope>().map_err(damaged)?,
        role: rows::get::<&str>(row, 2)?.parse::<Role>().map_err(damaged)?,
        issued_at: rows::timestamp(row, 3)?,
        expires_at: rows::timestamp(row, 4)?,
        revoked_at: rows::maybe_timestamp(row, 5)?,
    })
}
