//! Tokens: issued, listed, revoked.

use logweir_core::identity::{Role, ServiceScope};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{TokenRecord, sqlite::errors::Fault};

const TOKEN: &str =
    "token_id, service, role, issued_unix_nano, expires_unix_nano, revoked_unix_nano";

pub(crate) fn insert_token(
    db: &Connection,
    tenant_id: i64,
    token: &TokenRecord,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO tokens (tenant_id, token_id, service, role, issued_unix_nano, expires_unix_nano,
                             revoked_unix_nano)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        tenant_id,
        token.token_id,
        token.service.to_string(),
        token.role.as_str(),
        token.issued_unix_nano,
        token.expires_unix_nano,
        token.revoked_unix_nano,
    ])?;
    Ok(())
}

pub(crate) fn list_tokens(db: &Connection, tenant_id: i64) -> Result<Vec<TokenRecord>, Fault> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {TOKEN} FROM tokens WHERE tenant_id = ?1 ORDER BY issued_unix_nano DESC, token_id"
    ))?;
    let mut rows = select.query([tenant_id])?;
    let mut tokens = Vec::new();
    while let Some(row) = rows.next()? {
        tokens.push(read_token(row)?);
    }
    Ok(tokens)
}

/// The token as it is then; nothing if there is none.
pub(crate) fn revoke_token(
    db: &Connection,
    tenant_id: i64,
    token_id: &str,
    now_unix_nano: i64,
) -> Result<Option<TokenRecord>, Fault> {
    let revoke = format!(
        "UPDATE tokens SET revoked_unix_nano = coalesce(revoked_unix_nano, ?3)
         WHERE tenant_id = ?1 AND token_id = ?2 RETURNING {TOKEN}"
    );
    db.prepare_cached(&revoke)?
        .query_row(params![tenant_id, token_id, now_unix_nano], |row| Ok(read_token(row)))
        .optional()?
        .transpose()
}

pub(crate) fn revoked_token_ids(
    db: &Connection,
    now_unix_nano: i64,
) -> rusqlite::Result<Vec<String>> {
    db.prepare_cached(
        "SELECT token_id FROM tokens WHERE revoked_unix_nano IS NOT NULL AND expires_unix_nano > ?1",
    )?
    .query_map([now_unix_nano], |row| row.get(0))?
    .collect()
}

fn read_token(row: &Row<'_>) -> Result<TokenRecord, Fault> {
    let damaged = |error: logweir_core::identity::IdentityError| Fault::corrupt(error.to_string());
    Ok(TokenRecord {
        token_id: row.get(0)?,
        service: row.get::<_, String>(1)?.parse::<ServiceScope>().map_err(damaged)?,
        role: row.get::<_, String>(2)?.parse::<Role>().map_err(damaged)?,
        issued_unix_nano: row.get(3)?,
        expires_unix_nano: row.get(4)?,
        revoked_unix_nano: row.get(5)?,
    })
}
