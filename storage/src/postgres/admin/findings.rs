//! Findings.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use logweir_core::identity::{Service, Tenant};
use tokio_postgres::Row;

use crate::{
    FINDINGS_KEPT, Finding, KeepFindings, StorageError, TimeRange,
    findings::{reasons_of, reasons_text},
    models::{scope_of, scope_text},
    postgres::{
        PostgresStorage,
        errors::Fault,
        read::rows,
        statement::{Statement, Value},
    },
};

#[async_trait]
impl KeepFindings for PostgresStorage {
    async fn insert_findings(
        &self,
        tenant: &Tenant,
        findings: Vec<Finding>,
    ) -> Result<(), StorageError> {
        self.own_change(async |db| insert(db, tenant, &findings).await).await
    }

    async fn list_findings(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Finding>, StorageError> {
        self.snapshot(tenant, async |db| {
            let of_range = Statement::new(
                "SELECT kind, service, subject, from_unix_nano, to_unix_nano, logs, score, reasons
                 FROM findings WHERE tenant = ",
            )
            .value(Value::Text(tenant.to_string()))
            .text(" AND to_unix_nano >= ")
            .value(Value::unix_nano(range.from))
            .text(" AND to_unix_nano < ")
            .value(Value::unix_nano(range.to));
            let chosen = match service {
                None => of_range,
                Some(name) => of_range.text(" AND service = ").value(Value::Text(name.to_string())),
            };
            let found = chosen
                .text(" ORDER BY to_unix_nano DESC, finding_id DESC LIMIT ")
                .value(Value::Long(i64::try_from(limit).unwrap_or(i64::MAX)))
                .rows(db)
                .await?;
            found.iter().map(read).collect()
        })
        .await
    }
}

async fn insert(db: &Transaction<'_>, tenant: &Tenant, findings: &[Finding]) -> Result<(), Fault> {
    for found in findings {
        let values = [
            Value::Text(tenant.to_string()),
            Value::Text(found.kind.as_str().to_owned()),
            Value::Text(scope_text(found.service.as_ref()).to_owned()),
            Value::Text(found.subject.replace('\0', "\u{fffd}")),
            Value::unix_nano(found.from),
            Value::unix_nano(found.to),
            Value::Long(found.logs as i64),
            Value::Double(found.score),
            Value::Text(reasons_text(&found.reasons)),
        ];
        Statement::new(
            "INSERT INTO findings (tenant, kind, service, subject, from_unix_nano, to_unix_nano,
                 logs, score, reasons) VALUES ",
        )
        .list(values)
        .text(" ON CONFLICT DO NOTHING")
        .execute(db)
        .await?;
    }
    Statement::new(
        "DELETE FROM findings WHERE finding_id IN (SELECT finding_id FROM findings WHERE tenant = ",
    )
    .value(Value::Text(tenant.to_string()))
    .text(" ORDER BY to_unix_nano DESC, finding_id DESC OFFSET ")
    .value(Value::Long(FINDINGS_KEPT as i64))
    .text(")")
    .execute(db)
    .await?;
    Ok(())
}

fn read(row: &Row) -> Result<Finding, Fault> {
    Ok(Finding {
        kind: rows::get::<String>(row, 0)?.parse()?,
        service: scope_of(&rows::get::<String>(row, 1)?)?,
        subject: rows::get(row, 2)?,
        from: rows::timestamp(row, 3)?,
        to: rows::timestamp(row, 4)?,
        logs: rows::count(row, 5)?,
        score: rows::get(row, 6)?,
        reasons: reasons_of(&rows::get::<String>(row, 7)?)?,
    })
}
