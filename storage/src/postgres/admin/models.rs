//! Models, and what people say of logs.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use logweir_core::{
    identity::{Service, Tenant},
    timestamp::Timestamp,
};
use tokio_postgres::Row;

use crate::{
    FEEDBACK_MAX, Feedback, KeepModels, MODELS_KEPT, Model, ModelKind, NewModel, StorageError,
    models::{checked, checksum, no_model, none_active, scope_of, scope_text},
    postgres::{
        PostgresStorage,
        errors::Fault,
        read::rows,
        statement::{Statement, Value},
    },
};

const MODEL: &str = "number, kind, scope, state, parameters, trained_from_unix_nano, \
     trained_to_unix_nano, rows, statistics, metrics, created_unix_nano, activated_unix_nano, \
     checksum, length(body)::bigint, tenant";

#[async_trait]
impl KeepModels for PostgresStorage {
    async fn insert_model(
        &self,
        tenant: &Tenant,
        model: NewModel,
        body: Vec<u8>,
    ) -> Result<Model, StorageError> {
        self.change(tenant, async |db| insert(db, tenant, model, body).await).await
    }

    async fn list_models(&self, tenant: &Tenant, limit: usize) -> Result<Vec<Model>, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new("SELECT ")
                .text(MODEL)
                .text(" FROM models WHERE tenant = ")
                .value(Value::Text(tenant.to_string()))
                .text(" ORDER BY number DESC LIMIT ")
                .value(Value::Long(i64::try_from(limit).unwrap_or(i64::MAX)))
                .rows(db)
                .await?;
            found.iter().map(read).collect()
        })
        .await
    }

    async fn get_model(&self, tenant: &Tenant, model_id: u64) -> Result<Model, StorageError> {
        self.snapshot(tenant, async |db| find(db, tenant, model_id).await).await
    }

    async fn load_model(&self, tenant: &Tenant, model_id: u64) -> Result<Vec<u8>, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new("SELECT checksum, body FROM models WHERE tenant = ")
                .value(Value::Text(tenant.to_string()))
                .text(" AND number = ")
                .value(signed(model_id))
                .rows(db)
                .await?;
            let row = found.first().ok_or_else(|| no_model(model_id))?;
            let kept: i64 = rows::get(row, 0)?;
            Ok(checked(model_id, kept as u64, rows::get(row, 1)?)?)
        })
        .await
    }

    async fn active_models(&self) -> Result<Vec<(Tenant, Model)>, StorageError> {
        self.own_snapshot(async |db| {
            let found = Statement::new("SELECT ")
                .text(MODEL)
                .text(" FROM models WHERE state = 'active' ORDER BY model_id")
                .rows(db)
                .await?;
            found.iter().map(|row| Ok((tenant_of(row, 14)?, read(row)?))).collect()
        })
        .await
    }

    async fn promote_model(
        &self,
        tenant: &Tenant,
        model_id: u64,
        now: Timestamp,
    ) -> Result<Model, StorageError> {
        self.change(tenant, async |db| promote(db, tenant, model_id, now).await).await
    }

    async fn roll_back_model(
        &self,
        tenant: &Tenant,
        kind: ModelKind,
        scope: Option<&Service>,
    ) -> Result<Option<Model>, StorageError> {
        self.change(tenant, async |db| roll_back(db, tenant, kind, scope_text(scope)).await).await
    }

    async fn give_feedback(&self, tenant: &Tenant, said: Feedback) -> Result<(), StorageError> {
        self.change(tenant, async |db| {
            let values = [
                Value::Text(tenant.to_string()),
                Value::Text(said.log_id.to_string()),
                Value::Text(said.service.to_string()),
                Value::Long(said.template_id.0 as i64),
                Value::Bool(said.is_anomaly),
                Value::Text(said.given_by.clone()),
                Value::unix_nano(said.given_at),
            ];
            Statement::new(
                "INSERT INTO feedback (tenant, log_id, service, template_id, is_anomaly, given_by,
                     given_unix_nano) VALUES ",
            )
            .list(values)
            .text(
                " ON CONFLICT (tenant, log_id) DO UPDATE SET is_anomaly = excluded.is_anomaly,
                     given_by = excluded.given_by, given_unix_nano = excluded.given_unix_nano",
            )
            .execute(db)
            .await?;
            Ok(())
        })
        .await
    }

    async fn list_feedback(&self) -> Result<Vec<(Tenant, Feedback)>, StorageError> {
        self.own_snapshot(async |db| {
            let found = Statement::new(
                "SELECT tenant, log_id, service, template_id, is_anomaly, given_by, given_unix_nano
                 FROM feedback ORDER BY given_unix_nano DESC, log_id DESC LIMIT ",
            )
            .value(Value::Long(FEEDBACK_MAX as i64))
            .rows(db)
            .await?;
            found.iter().rev().map(feedback).collect()
        })
        .await
    }
}

async fn insert(
    db: &Transaction<'_>,
    tenant: &Tenant,
    model: NewModel,
    body: Vec<u8>,
) -> Result<Model, Fault> {
    let scope = scope_text(model.scope.as_ref()).to_owned();
    let values = [
        Value::Text(tenant.to_string()),
        Value::Text(model.kind.as_str().to_owned()),
        Value::Text(scope.clone()),
        Value::Text("candidate".to_owned()),
        Value::Text(model.parameters),
        Value::unix_nano(model.trained_from),
        Value::unix_nano(model.trained_to),
        signed(model.rows),
        Value::Text(model.statistics),
        Value::Text(model.metrics),
        Value::unix_nano(model.created_at),
        Value::Long(checksum(&body) as i64),
        Value::Bytes(body),
    ];
    let inserted = Statement::new(
        "INSERT INTO models (tenant, kind, scope, state, parameters, trained_from_unix_nano,
             trained_to_unix_nano, rows, statistics, metrics, created_unix_nano, checksum, body)
         VALUES ",
    )
    .list(values)
    .text(" RETURNING ")
    .text(MODEL)
    .rows(db)
    .await?;
    let inserted = inserted.first().map(read).transpose()?.ok_or_else(|| no_model(0))?;
    // Of the same kind and scope, those that are not active. Here and not in upkeep, so that there
    // are never more than the limit: bodies are megabytes.
    let idle = |statement: Statement| {
        let kind = Value::Text(inserted.made.kind.as_str().to_owned());
        of_scope(statement, tenant, kind, &scope).text(" AND state <> 'active'")
    };
    let delete = idle(Statement::new("DELETE FROM models WHERE "));
    let delete = delete.text(" AND model_id NOT IN (SELECT model_id FROM models WHERE ");
    idle(delete)
        .text(
            " ORDER BY coalesce(activated_unix_nano, created_unix_nano) DESC, model_id DESC LIMIT ",
        )
        .value(Value::Long(MODELS_KEPT as i64))
        .text(")")
        .execute(db)
        .await?;
    Ok(inserted)
}

fn of_scope(statement: Statement, tenant: &Tenant, kind: Value, scope: &str) -> Statement {
    statement
        .text("tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND kind = ")
        .value(kind)
        .text(" AND scope = ")
        .value(Value::Text(scope.to_owned()))
}

async fn find(db: &Transaction<'_>, tenant: &Tenant, model_id: u64) -> Result<Model, Fault> {
    let found = Statement::new("SELECT ")
        .text(MODEL)
        .text(" FROM models WHERE tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND number = ")
        .value(signed(model_id))
        .rows(db)
        .await?;
    read(found.first().ok_or_else(|| no_model(model_id))?)
}

/// Changes the states of a kind and scope one at a time: the index that keeps one active would
/// refuse the second.
async fn lock_scope(
    db: &Transaction<'_>,
    tenant: &Tenant,
    kind: ModelKind,
    scope: &str,
) -> Result<(), Fault> {
    let select = Statement::new("SELECT model_id FROM models WHERE ");
    of_scope(select, tenant, Value::Text(kind.as_str().to_owned()), scope)
        .text(" ORDER BY model_id FOR UPDATE")
        .rows(db)
        .await?;
    Ok(())
}

async fn promote(
    db: &Transaction<'_>,
    tenant: &Tenant,
    model_id: u64,
    now: Timestamp,
) -> Result<Model, Fault> {
    let found = find(db, tenant, model_id).await?;
    let (kind, scope) = (found.made.kind, scope_text(found.made.scope.as_ref()));
    lock_scope(db, tenant, kind, scope).await?;
    let retire = Statement::new("UPDATE models SET state = 'retired' WHERE ");
    of_scope(retire, tenant, Value::Text(kind.as_str().to_owned()), scope)
        .text(" AND state = 'active' AND number <> ")
        .value(signed(model_id))
        .execute(db)
        .await?;
    activate(db, tenant, model_id, Some(now)).await
}

/// Makes a model the active one. Without a time, that of its first activation stays, by which the
/// order of retired models goes.
async fn activate(
    db: &Transaction<'_>,
    tenant: &Tenant,
    model_id: u64,
    now: Option<Timestamp>,
) -> Result<Model, Fault> {
    Statement::new("UPDATE models SET state = 'active', activated_unix_nano = coalesce(")
        .value(Value::maybe_unix_nano(now))
        .text(", activated_unix_nano) WHERE tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND number = ")
        .value(signed(model_id))
        .execute(db)
        .await?;
    find(db, tenant, model_id).await
}

async fn roll_back(
    db: &Transaction<'_>,
    tenant: &Tenant,
    kind: ModelKind,
    scope: &str,
) -> Result<Option<Model>, Fault> {
    lock_scope(db, tenant, kind, scope).await?;
    let name = || Value::Text(kind.as_str().to_owned());
    let demote =
        Statement::new("UPDATE models SET state = 'candidate', activated_unix_nano = NULL WHERE ");
    let demote = of_scope(demote, tenant, name(), scope).text(" AND state = 'active'");
    if demote.execute(db).await? == 0 {
        return Err(none_active(kind, scope).into());
    }
    let select = Statement::new("SELECT number FROM models WHERE ");
    let before = of_scope(select, tenant, name(), scope)
        .text(" AND state = 'retired' ORDER BY activated_unix_nano DESC, model_id DESC LIMIT 1")
        .rows(db)
        .await?;
    match before.first() {
        None => Ok(None),
        Some(row) => {
            let model_id = rows::count(row, 0)?;
            Ok(Some(activate(db, tenant, model_id, None).await?))
        }
    }
}

fn read(row: &Row) -> Result<Model, Fault> {
    let text = |column: usize| -> Result<&str, Fault> { rows::get(row, column) };
    Ok(Model {
        model_id: rows::count(row, 0)?,
        made: NewModel {
            kind: text(1)?.parse()?,
            scope: scope_of(text(2)?)?,
            parameters: text(4)?.to_owned(),
            trained_from: rows::timestamp(row, 5)?,
            trained_to: rows::timestamp(row, 6)?,
            rows: rows::count(row, 7)?,
            statistics: text(8)?.to_owned(),
            metrics: text(9)?.to_owned(),
            created_at: rows::timestamp(row, 10)?,
        },
        state: text(3)?.parse()?,
        activated_at: rows::maybe_timestamp(row, 11)?,
        checksum: rows::get::<i64>(row, 12)? as u64,
        bytes: rows::count(row, 13)?,
    })
}

fn feedback(row: &Row) -> Result<(Tenant, Feedback), Fault> {
    let log_id = rows::get::<&str>(row, 1)?.parse();
    let said = Feedback {
        log_id: log_id.map_err(|error| Fault::corrupt(format!("{error}")))?,
        service: rows::service(rows::get(row, 2)?)?,
        template_id: rows::template_id(rows::get(row, 3)?),
        is_anomaly: rows::get(row, 4)?,
        given_by: rows::get(row, 5)?,
        given_at: rows::timestamp(row, 6)?,
    };
    Ok((tenant_of(row, 0)?, said))
}

pub(crate) fn tenant_of(row: &Row, column: usize) -> Result<Tenant, Fault> {
    Tenant::new(rows::get(row, column)?).map_err(|error| Fault::corrupt(error.to_string()))
}

/// Ids come from a caller, who may name any number.
pub(crate) fn signed(number: u64) -> Value {
    Value::Long(i64::try_from(number).unwrap_or(i64::MAX))
}
