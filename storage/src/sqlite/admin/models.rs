//! Models, and what people say of logs.

use async_trait::async_trait;
use logweir_core::{
    identity::{Service, TemplateId, Tenant},
    timestamp::Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::sqlite::read::rows;
use crate::{
    FEEDBACK_MAX, Feedback, KeepModels, MODELS_KEPT, Model, ModelKind, NewModel, StorageError,
    models::{checked, checksum, no_model, none_active, scope_of, scope_text},
    sqlite::{SqliteStorage, admin::numbers, errors::Fault, read::aggregate::service_of},
};

const MODEL: &str = "number, kind, scope, state, parameters, trained_from_unix_nano, \
     trained_to_unix_nano, rows, statistics, metrics, created_unix_nano, activated_unix_nano, \
     checksum, length(body)";

#[async_trait]
impl KeepModels for SqliteStorage {
    async fn insert_model(
        &self,
        tenant: &Tenant,
        model: NewModel,
        body: Vec<u8>,
    ) -> Result<Model, StorageError> {
        self.change(tenant, move |db, tenant_id| insert(db, tenant_id, &model, &body)).await
    }

    async fn list_models(&self, tenant: &Tenant, limit: usize) -> Result<Vec<Model>, StorageError> {
        self.list(tenant, move |db, tenant_id| {
            let mut select = db.prepare_cached(&format!(
                "SELECT {MODEL} FROM models WHERE tenant_id = ?1 ORDER BY number DESC LIMIT ?2"
            ))?;
            let mut rows = select.query(params![tenant_id, limit])?;
            let mut models = Vec::new();
            while let Some(row) = rows.next()? {
                models.push(read(row)?);
            }
            Ok(models)
        })
        .await
    }

    async fn get_model(&self, tenant: &Tenant, model_id: u64) -> Result<Model, StorageError> {
        let found = self.list(tenant, move |db, tenant_id| find(db, tenant_id, model_id)).await?;
        found.ok_or_else(|| no_model(model_id))
    }

    async fn load_model(&self, tenant: &Tenant, model_id: u64) -> Result<Vec<u8>, StorageError> {
        let load = move |db: &Connection,
                         tenant_id: i64|
              -> Result<Option<(i64, Vec<u8>)>, Fault> {
            let select = "SELECT checksum, body FROM models WHERE tenant_id = ?1 AND number = ?2";
            let columns = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let key = params![tenant_id, signed(model_id)];
            Ok(db.prepare_cached(select)?.query_row(key, columns).optional()?)
        };
        let (kept, body) = self.list(tenant, load).await?.ok_or_else(|| no_model(model_id))?;
        checked(model_id, kept as u64, body)
    }

    async fn active_models(&self) -> Result<Vec<(Tenant, Model)>, StorageError> {
        self.readers
            .run_own(|db, _| {
                let mut select = db.prepare_cached(&format!(
                    "SELECT {MODEL}, tenants.name FROM models JOIN tenants USING (tenant_id)
                     WHERE state = 'active' ORDER BY model_id"
                ))?;
                let mut rows = select.query([])?;
                let mut models = Vec::new();
                while let Some(row) = rows.next()? {
                    models.push((tenant_of(row, 14)?, read(row)?));
                }
                Ok(models)
            })
            .await
    }

    async fn promote_model(
        &self,
        tenant: &Tenant,
        model_id: u64,
        now: Timestamp,
    ) -> Result<Model, StorageError> {
        self.change(tenant, move |db, tenant_id| promote(db, tenant_id, model_id, now)).await
    }

    async fn roll_back_model(
        &self,
        tenant: &Tenant,
        kind: ModelKind,
        scope: Option<&Service>,
    ) -> Result<Option<Model>, StorageError> {
        let scope = scope_text(scope).to_owned();
        self.change(tenant, move |db, tenant_id| roll_back(db, tenant_id, kind, &scope)).await
    }

    async fn give_feedback(&self, tenant: &Tenant, said: Feedback) -> Result<(), StorageError> {
        self.change(tenant, move |db, tenant_id| {
            db.prepare_cached(
                "INSERT OR REPLACE INTO feedback (tenant_id, log_id, service, template_id,
                     is_anomaly, given_by, given_unix_nano) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                tenant_id,
                said.log_id.to_string(),
                said.service.as_str(),
                said.template_id.0 as i64,
                said.is_anomaly,
                said.given_by,
                said.given_at.as_unix_nanos(),
            ])?;
            Ok(())
        })
        .await
    }

    async fn list_feedback(&self) -> Result<Vec<(Tenant, Feedback)>, StorageError> {
        self.readers.run_own(|db, _| feedback(db)).await
    }
}

fn insert(db: &Connection, tenant_id: i64, model: &NewModel, body: &[u8]) -> Result<Model, Fault> {
    let scope = scope_text(model.scope.as_ref());
    let number = numbers::take(db, tenant_id, "models", 1)?;
    db.prepare_cached(
        "INSERT INTO models (tenant_id, number, kind, scope, state, parameters,
             trained_from_unix_nano, trained_to_unix_nano, rows, statistics, metrics,
             created_unix_nano, checksum, body)
         VALUES (?1, ?2, ?3, ?4, 'candidate', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        tenant_id,
        number,
        model.kind.as_str(),
        scope,
        model.parameters,
        model.trained_from.as_unix_nanos(),
        model.trained_to.as_unix_nanos(),
        signed(model.rows),
        model.statistics,
        model.metrics,
        model.created_at.as_unix_nanos(),
        checksum(body) as i64,
        body,
    ])?;
    // Here and not in upkeep, so that the table never has more than the limit: bodies are
    // megabytes. The active one is not counted: training often must leave no service without one.
    db.prepare_cached(
        "DELETE FROM models WHERE tenant_id = ?1 AND kind = ?2 AND scope = ?3 AND state <> 'active'
             AND model_id NOT IN (
                 SELECT model_id FROM models WHERE tenant_id = ?1 AND kind = ?2 AND scope = ?3
                     AND state <> 'active'
                 ORDER BY coalesce(activated_unix_nano, created_unix_nano) DESC, model_id DESC
                 LIMIT ?4)",
    )?
    .execute(params![tenant_id, model.kind.as_str(), scope, MODELS_KEPT])?;
    let model_id = number.unsigned_abs();
    find(db, tenant_id, model_id)?.ok_or_else(|| no_model(model_id).into())
}

fn find(db: &Connection, tenant_id: i64, model_id: u64) -> Result<Option<Model>, Fault> {
    let select = format!("SELECT {MODEL} FROM models WHERE tenant_id = ?1 AND number = ?2");
    let key = params![tenant_id, signed(model_id)];
    db.prepare_cached(&select)?.query_row(key, |row| Ok(read(row))).optional()?.transpose()
}

fn promote(db: &Connection, tenant_id: i64, model_id: u64, now: Timestamp) -> Result<Model, Fault> {
    let found = find(db, tenant_id, model_id)?.ok_or_else(|| no_model(model_id))?;
    let scope = scope_text(found.made.scope.as_ref());
    db.prepare_cached(
        "UPDATE models SET state = 'retired'
         WHERE tenant_id = ?1 AND kind = ?2 AND scope = ?3 AND state = 'active' AND number <> ?4",
    )?
    .execute(params![tenant_id, found.made.kind.as_str(), scope, signed(model_id)])?;
    activate(db, tenant_id, model_id, Some(now))
}

/// Makes a model the active one. Without a time, that of its first activation stays, by which the
/// order of retired models goes.
fn activate(
    db: &Connection,
    tenant_id: i64,
    model_id: u64,
    now: Option<Timestamp>,
) -> Result<Model, Fault> {
    db.prepare_cached(
        "UPDATE models SET state = 'active', activated_unix_nano = coalesce(?2, activated_unix_nano)
         WHERE tenant_id = ?1 AND number = ?3",
    )?
    .execute(params![tenant_id, now.map(Timestamp::as_unix_nanos), signed(model_id)])?;
    find(db, tenant_id, model_id)?.ok_or_else(|| no_model(model_id).into())
}

fn roll_back(
    db: &Connection,
    tenant_id: i64,
    kind: ModelKind,
    scope: &str,
) -> Result<Option<Model>, Fault> {
    let key = params![tenant_id, kind.as_str(), scope];
    let demoted = db
        .prepare_cached(
            "UPDATE models SET state = 'candidate', activated_unix_nano = NULL
             WHERE tenant_id = ?1 AND kind = ?2 AND scope = ?3 AND state = 'active'",
        )?
        .execute(key)?;
    if demoted == 0 {
        return Err(none_active(kind, scope).into());
    }
    // The one demoted above became a candidate and not retired: rolled back twice, it would
    // otherwise be the newest retired one, and come back.
    let before: Option<i64> = db
        .prepare_cached(
            "SELECT number FROM models
             WHERE tenant_id = ?1 AND kind = ?2 AND scope = ?3 AND state = 'retired'
             ORDER BY activated_unix_nano DESC, model_id DESC LIMIT 1",
        )?
        .query_row(key, |row| row.get(0))
        .optional()?;
    before.map(|model_id| activate(db, tenant_id, model_id.unsigned_abs(), None)).transpose()
}

fn read(row: &Row<'_>) -> Result<Model, Fault> {
    let text = |column: usize| -> Result<String, Fault> { Ok(row.get(column)?) };
    Ok(Model {
        model_id: row.get::<_, i64>(0)?.unsigned_abs(),
        made: NewModel {
            kind: text(1)?.parse()?,
            scope: scope_of(&text(2)?)?,
            parameters: text(4)?,
            trained_from: rows::timestamp(row, 5)?,
            trained_to: rows::timestamp(row, 6)?,
            rows: row.get(7)?,
            statistics: text(8)?,
            metrics: text(9)?,
            created_at: rows::timestamp(row, 10)?,
        },
        state: text(3)?.parse()?,
        activated_at: rows::maybe_timestamp(row, 11)?,
        checksum: row.get::<_, i64>(12)? as u64,
        bytes: row.get(13)?,
    })
}

fn feedback(db: &Connection) -> Result<Vec<(Tenant, Feedback)>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT tenants.name, log_id, service, template_id, is_anomaly, given_by, given_unix_nano
         FROM feedback JOIN tenants USING (tenant_id)
         ORDER BY given_unix_nano DESC, log_id DESC LIMIT ?1",
    )?;
    let mut rows = select.query([FEEDBACK_MAX])?;
    let mut said = Vec::new();
    while let Some(row) = rows.next()? {
        let log_id: String = row.get(1)?;
        let log_id = log_id.parse().map_err(|error| Fault::corrupt(format!("{error}")))?;
        let feedback = Feedback {
            log_id,
            service: service_of(row, 2)?,
            template_id: TemplateId(row.get::<_, i64>(3)? as u64),
            is_anomaly: row.get(4)?,
            given_by: row.get(5)?,
            given_at: rows::timestamp(row, 6)?,
        };
        said.push((tenant_of(row, 0)?, feedback));
    }
    // The newest are what the limit keeps, but whoever learns from them takes the oldest first.
    said.reverse();
    Ok(said)
}

pub(crate) fn tenant_of(row: &Row<'_>, column: usize) -> Result<Tenant, Fault> {
    let name: String = row.get(column)?;
    Tenant::new(&name).map_err(|error| Fault::corrupt(error.to_string()))
}

/// Ids come from a caller, who may name any number.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
