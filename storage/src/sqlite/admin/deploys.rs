//! Deploy marks: which version of a service went live when.

use logweir_core::identity::Service;
use rusqlite::{Connection, params};

use crate::{
    Deploy,
    sqlite::{errors::Fault, read::aggregate::service_of},
};

/// Marking the same again changes the remark alone.
pub(crate) fn insert_deploy(
    db: &Connection,
    tenant_id: i64,
    deploy: &Deploy,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO deploys (tenant_id, time_unix_nano, service, version, note)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET note = excluded.note",
    )?
    .execute(params![
        tenant_id,
        deploy.time_unix_nano,
        deploy.service.as_str(),
        deploy.version,
        deploy.note
    ])?;
    Ok(())
}

pub(crate) fn list_deploys(
    db: &Connection,
    tenant_id: i64,
    service: Option<&Service>,
    limit: usize,
) -> Result<Vec<Deploy>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT service, version, time_unix_nano, note FROM deploys
         WHERE tenant_id = ?1 AND (?2 IS NULL OR service = ?2)
         ORDER BY time_unix_nano DESC, service, version LIMIT ?3",
    )?;
    let mut rows = select.query(params![tenant_id, service.map(Service::as_str), limit])?;
    let mut deploys = Vec::new();
    while let Some(row) = rows.next()? {
        deploys.push(Deploy {
            service: service_of(row, 0)?,
            version: row.get(1)?,
            time_unix_nano: row.get(2)?,
            note: row.get(3)?,
        });
    }
    Ok(deploys)
}
