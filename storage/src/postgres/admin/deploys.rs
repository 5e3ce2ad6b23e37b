//! Deploy marks: which version of a service went live when.

use deadpool_postgres::Transaction;
use logweir_core::identity::{Service, Tenant};

use crate::{
    Deploy,
    postgres::{
        errors::Fault,
        read::rows,
        statement::{Statement, Value},
    },
};

/// Marking the same again changes the remark alone.
pub(crate) async fn insert_deploy(
    db: &Transaction<'_>,
    tenant: &Tenant,
    deploy: &Deploy,
) -> Result<(), Fault> {
    let values = [
        Value::Text(tenant.to_string()),
        Value::unix_nano(deploy.time),
        Value::Text(deploy.service.to_string()),
        Value::Text(deploy.version.clone()),
        Value::Text(deploy.note.clone()),
    ];
    Statement::new("INSERT INTO deploys (tenant, time_unix_nano, service, version, note) VALUES ")
        .list(values)
        .text(
            " ON CONFLICT (tenant, time_unix_nano, service, version)
              DO UPDATE SET note = excluded.note",
        )
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn list_deploys(
    db: &Transaction<'_>,
    tenant: &Tenant,
    service: Option<&Service>,
    limit: usize,
) -> Result<Vec<Deploy>, Fault> {
    let mut statement = Statement::new(
        "SELECT service, version, time_unix_nano, note FROM deploys WHERE tenant = ",
    )
    .value(Value::Text(tenant.to_string()));
    if let Some(service) = service {
        statement = statement.text(" AND service = ").value(Value::Text(service.to_string()));
    }
    let found = statement
        .text(" ORDER BY time_unix_nano DESC, service, version LIMIT ")
        .value(Value::Long(i64::try_from(limit).unwrap_or(i64::MAX)))
        .rows(db)
        .await?;
    let deploy = |row| -> Result<Deploy, Fault> {
        Ok(Deploy {
            service: rows::service(rows::get(row, 0)?)?,
            version: rows::get(row, 1)?,
            time: rows::timestamp(row, 2)?,
            note: rows::get(row, 3)?,
        })
    };
    found.iter().map(deploy).collect()
}
