//! Findings.

use async_trait::async_trait;
use logweir_core::identity::{Service, Tenant};
use rusqlite::{Connection, Row, params};

use crate::{
    FINDINGS_KEPT, Finding, KeepFindings, StorageError, TimeRange,
    findings::{reasons_of, reasons_text},
    models::{scope_of, scope_text},
    sqlite::{SqliteStorage, errors::Fault},
};

#[async_trait]
impl KeepFindings for SqliteStorage {
    async fn insert_findings(
        &self,
        tenant: &Tenant,
        findings: Vec<Finding>,
    ) -> Result<(), StorageError> {
        self.change(tenant, move |db, tenant_id| insert(db, tenant_id, &findings)).await
    }

    async fn list_findings(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Finding>, StorageError> {
        let service = service.map(ToString::to_string);
        self.list(tenant, move |db, tenant_id| {
            let mut select = db.prepare_cached(
                "SELECT kind, service, subject, from_unix_nano, to_unix_nano, logs, score, reasons
                 FROM findings
                 WHERE tenant_id = ?1 AND to_unix_nano >= ?2 AND to_unix_nano < ?3
                       AND (?4 IS NULL OR service = ?4)
                 ORDER BY to_unix_nano DESC, finding_id DESC LIMIT ?5",
            )?;
            let (from, to) = (range.from_unix_nano, range.to_unix_nano);
            let mut rows = select.query(params![tenant_id, from, to, service, limit])?;
            let mut findings = Vec::new();
            while let Some(row) = rows.next()? {
                findings.push(read(row)?);
            }
            Ok(findings)
        })
        .await
    }
}

fn insert(db: &Connection, tenant_id: i64, findings: &[Finding]) -> Result<(), Fault> {
    for found in findings {
        db.prepare_cached(
            "INSERT INTO findings (tenant_id, kind, service, subject, from_unix_nano,
                 to_unix_nano, logs, score, reasons)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            tenant_id,
            found.kind.as_str(),
            scope_text(found.service.as_ref()),
            found.subject,
            found.from_unix_nano,
            found.to_unix_nano,
            found.logs as i64,
            found.score,
            reasons_text(&found.reasons),
        ])?;
    }
    db.prepare_cached(
        "DELETE FROM findings WHERE finding_id IN (
             SELECT finding_id FROM findings WHERE tenant_id = ?1
             ORDER BY to_unix_nano DESC, finding_id DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![tenant_id, FINDINGS_KEPT])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Finding, Fault> {
    Ok(Finding {
        kind: row.get::<_, String>(0)?.parse()?,
        service: scope_of(&row.get::<_, String>(1)?)?,
        subject: row.get(2)?,
        from_unix_nano: row.get(3)?,
        to_unix_nano: row.get(4)?,
        logs: row.get::<_, i64>(5)?.unsigned_abs(),
        score: row.get(6)?,
        reasons: reasons_of(&row.get::<_, String>(7)?)?,
    })
}
