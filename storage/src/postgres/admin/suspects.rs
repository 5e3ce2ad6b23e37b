//! Batches that may end who tries them, by the database's clock.

use deadpool_postgres::Transaction;
use logweir_core::identity::{BatchId, Tenant};

use crate::{
    TRIAL_KEPT,
    postgres::{
        errors::Fault,
        read::rows,
        statement::{Statement, Value},
        values::Id,
    },
};

/// Notes a trial, and forgets those long ago. How often one was noted before.
pub(crate) async fn begin(
    db: &Transaction<'_>,
    tenant: &Tenant,
    batch_id: BatchId,
) -> Result<u32, Fault> {
    let rows =
        Statement::new("INSERT INTO trials AS t (tenant, batch_id, begun, begun_at) SELECT ")
            .value(Value::Text(tenant.as_str().to_owned()))
            .text(", ")
            .value(Value::Id(Id(batch_id.0)))
            .text(
                ", 1, clock_timestamp() ON CONFLICT (tenant, batch_id)
             DO UPDATE SET begun = t.begun + 1, begun_at = excluded.begun_at RETURNING t.begun - 1",
            )
            .rows(db)
            .await?;
    Statement::new(
        "DELETE FROM trials WHERE begun_at < clock_timestamp() - make_interval(secs => ",
    )
    .value(Value::Double(TRIAL_KEPT.as_secs_f64()))
    .text(")")
    .execute(db)
    .await?;
    let begun: i32 = rows.first().map_or(Ok(0), |row| rows::get(row, 0))?;
    Ok(begun.unsigned_abs())
}

/// Forgets a batch's trials.
pub(crate) async fn end(
    db: &Transaction<'_>,
    tenant: &Tenant,
    batch_id: BatchId,
) -> Result<(), Fault> {
    Statement::new("DELETE FROM trials WHERE tenant = ")
        .value(Value::Text(tenant.as_str().to_owned()))
        .text(" AND batch_id = ")
        .value(Value::Id(Id(batch_id.0)))
        .execute(db)
        .await?;
    Ok(())
}
