//! What alerting knows. The data directory is one process's, so the lead changes only when a process
//! follows another.

use std::time::Duration;

use async_trait::async_trait;
use logweir_core::identity::Tenant;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    SqliteStorage, faults::Fault, models::tenant_of, reports::template_summary, writer::Writer,
};
use crate::{
    ACTIONS_WAITING_MAX, ALERTS_KEPT, AlertChanges, AlertSetting, DELIVERED_ONLY, IncidentQuery,
    KeepAlerts, NewDelivery, StorageError, StoredDelivery, StoredIncident, TemplateSummary,
    TimeRange,
    alerts::{lead_left, no_incident, too_many_actions},
};

const INCIDENT: &str = "incident_id, state, service, began_unix_nano, resolved_unix_nano, body";
const DELIVERY: &str = "d.delivery_id, d.channel, d.key, d.incident_id, d.sequence, \
     d.created_unix_nano, d.body, d.state, \
     (SELECT t.thread FROM deliveries t WHERE t.tenant_id = d.tenant_id \
          AND t.incident_id = d.incident_id AND t.channel = d.channel AND t.thread IS NOT NULL \
      ORDER BY t.delivery_id LIMIT 1)";

#[async_trait]
impl KeepAlerts for SqliteStorage {
    async fn waiting_channels(&self, tenant: &Tenant) -> Result<Vec<String>, StorageError> {
        self.list(tenant, |db, tenant_id| {
            let mut select = db.prepare_cached(
                "SELECT DISTINCT channel FROM deliveries
                 WHERE tenant_id = ?1 AND state = 'waiting' ORDER BY channel",
            )?;
            let rows = select.query_map([tenant_id], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn list_tenants(&self) -> Result<Vec<Tenant>, StorageError> {
        self.readers
            .run(|db, _| {
                let mut select = db.prepare_cached(
                    "SELECT name FROM tenants
                     WHERE tenant_id IN (SELECT tenant_id FROM services) ORDER BY name",
                )?;
                let mut rows = select.query([])?;
                let mut tenants = Vec::new();
                while let Some(row) = rows.next()? {
                    tenants.push(tenant_of(row, 0)?);
                }
                Ok(tenants)
            })
            .await
    }

    async fn new_templates(
        &self,
        tenant: &Tenant,
        since_unix_nano: i64,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError> {
        self.list(tenant, move |db, tenant_id| {
            let mut select = db.prepare_cached(
                "SELECT t.template_id, s.name, t.pattern, totals.total,
                        totals.first_seen_unix_nano, totals.last_seen_unix_nano, totals.level
                 FROM template_totals totals JOIN templates t USING (template_key)
                      JOIN services s USING (service_id)
                 WHERE totals.first_seen_unix_nano >= ?2 AND t.tenant_id = ?1
                       AND t.merged_into IS NULL AND totals.total > 0
                 ORDER BY totals.first_seen_unix_nano DESC LIMIT ?3",
            )?;
            let mut rows = select.query(params![tenant_id, since_unix_nano, limit])?;
            let mut templates = Vec::new();
            while let Some(row) = rows.next()? {
                templates.push(template_summary(row)?);
            }
            Ok(templates)
        })
        .await
    }

    async fn lead(&self, holder: &str, lease: Duration) -> Result<Option<i64>, StorageError> {
        let (holder, now) = (holder.to_owned(), (self.clock)());
        let lead = move |writer: &mut Writer| {
            writer.free(|db, _| {
                let expires = now.saturating_add(lease.as_nanos() as i64);
                Ok(db
                    .prepare_cached(
                        "INSERT INTO leases (name, holder, epoch, expires_unix_nano)
                         VALUES ('alerting', ?1, 1, ?2)
                         ON CONFLICT (name) DO UPDATE SET
                             epoch = epoch + (holder <> excluded.holder OR expires_unix_nano <= ?3),
                             holder = excluded.holder,
                             expires_unix_nano = excluded.expires_unix_nano
                         WHERE holder = excluded.holder OR expires_unix_nano <= ?3
                         RETURNING epoch",
                    )?
                    .query_row(params![holder, expires, now], |row| row.get(0))
                    .optional()?)
            })
        };
        self.writer.run(lead).await
    }

    async fn resign(&self, holder: &str) -> Result<(), StorageError> {
        let holder = holder.to_owned();
        let resign = move |writer: &mut Writer| {
            writer.free(|db, _| {
                db.prepare_cached("UPDATE leases SET expires_unix_nano = 0 WHERE holder = ?1")?
                    .execute([&holder])?;
                Ok(())
            })
        };
        self.writer.run(resign).await
    }

    async fn put_setting(
        &self,
        tenant: &Tenant,
        kind: &str,
        name: &str,
        body: Option<String>,
    ) -> Result<(), StorageError> {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        self.change(tenant, move |db, tenant_id| {
            match &body {
                Some(body) => db
                    .prepare_cached(
                        "INSERT OR REPLACE INTO alert_settings (tenant_id, kind, name, body)
                         VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![tenant_id, kind, name, body])?,
                None => db
                    .prepare_cached(
                        "DELETE FROM alert_settings
                         WHERE tenant_id = ?1 AND kind = ?2 AND name = ?3",
                    )?
                    .execute(params![tenant_id, kind, name])?,
            };
            Ok(())
        })
        .await
    }

    async fn list_settings(&self) -> Result<Vec<(Tenant, AlertSetting)>, StorageError> {
        self.readers
            .run(|db, _| {
                let mut select = db.prepare_cached(
                    "SELECT tenants.name, kind, s.name, body
                     FROM alert_settings s JOIN tenants USING (tenant_id) ORDER BY 1, 2, 3",
                )?;
                let mut rows = select.query([])?;
                let mut settings = Vec::new();
                while let Some(row) = rows.next()? {
                    let (kind, name, body) = (row.get(1)?, row.get(2)?, row.get(3)?);
                    settings.push((tenant_of(row, 0)?, AlertSetting { kind, name, body }));
                }
                Ok(settings)
            })
            .await
    }

    async fn insert_action(&self, tenant: &Tenant, body: String) -> Result<(), StorageError> {
        self.change(tenant, move |db, tenant_id| {
            let waiting: usize = db
                .prepare_cached("SELECT count(*) FROM alert_actions WHERE tenant_id = ?1")?
                .query_row([tenant_id], |row| row.get(0))?;
            if waiting >= ACTIONS_WAITING_MAX {
                return Err(too_many_actions().into());
            }
            db.prepare_cached("INSERT INTO alert_actions (tenant_id, body) VALUES (?1, ?2)")?
                .execute(params![tenant_id, body])?;
            Ok(())
        })
        .await
    }

    async fn list_actions(&self, limit: usize) -> Result<Vec<(Tenant, i64, String)>, StorageError> {
        self.readers
            .run(move |db, _| {
                let mut select = db.prepare_cached(
                    "SELECT name, action_id, body FROM alert_actions JOIN tenants USING (tenant_id)
                     ORDER BY action_id LIMIT ?1",
                )?;
                let mut rows = select.query([limit])?;
                let mut actions = Vec::new();
                while let Some(row) = rows.next()? {
                    actions.push((tenant_of(row, 0)?, row.get(1)?, row.get(2)?));
                }
                Ok(actions)
            })
            .await
    }

    async fn commit_alerts(
        &self,
        epoch: i64,
        tenant: &Tenant,
        changes: AlertChanges,
    ) -> Result<Option<Duration>, StorageError> {
        let now = (self.clock)();
        self.change(tenant, move |db, tenant_id| {
            let Some(left) = lead_of(db, epoch, now)? else { return Ok(None) };
            commit(db, tenant_id, &changes)?;
            forget(db, tenant_id, now)?;
            Ok(Some(left))
        })
        .await
    }

    async fn list_incidents(
        &self,
        tenant: &Tenant,
        query: IncidentQuery,
    ) -> Result<Vec<StoredIncident>, StorageError> {
        self.list(tenant, move |db, tenant_id| {
            let TimeRange { from_unix_nano, to_unix_nano } = query.range.unwrap_or(TimeRange::ALL);
            let mut select = db.prepare_cached(&format!(
                "SELECT {INCIDENT} FROM incidents
                 WHERE tenant_id = ?1 AND began_unix_nano >= ?2 AND began_unix_nano < ?3
                       AND (?4 IS NULL OR service = ?4)
                       AND (NOT ?5 OR resolved_unix_nano IS NULL)
                 ORDER BY began_unix_nano DESC, incident_id LIMIT ?6"
            ))?;
            let service = query.service.as_ref().map(ToString::to_string);
            let mut rows = select.query(params![
                tenant_id,
                from_unix_nano,
                to_unix_nano,
                service,
                query.is_open,
                query.limit,
            ])?;
            let mut incidents = Vec::new();
            while let Some(row) = rows.next()? {
                incidents.push(incident(row)?);
            }
            Ok(incidents)
        })
        .await
    }

    async fn get_incident(
        &self,
        tenant: &Tenant,
        incident_id: &str,
    ) -> Result<StoredIncident, StorageError> {
        let id = incident_id.to_owned();
        let find =
            move |db: &Connection, tenant_id: i64| -> Result<Option<StoredIncident>, Fault> {
                let select = format!(
                    "SELECT {INCIDENT} FROM incidents WHERE tenant_id = ?1 AND incident_id = ?2"
                );
                Ok(db
                    .prepare_cached(&select)?
                    .query_row(params![tenant_id, id], incident)
                    .optional()?)
            };
        self.list(tenant, find).await?.ok_or_else(|| no_incident(incident_id))
    }

    async fn waiting_deliveries(
        &self,
        tenant: &Tenant,
        channel: &str,
        limit: usize,
    ) -> Result<Vec<StoredDelivery>, StorageError> {
        let channel = channel.to_owned();
        self.list(tenant, move |db, tenant_id| {
            let which = "d.channel = ?2 AND d.state = 'waiting' ORDER BY d.delivery_id LIMIT ?3";
            deliveries(db, which, params![tenant_id, channel, limit])
        })
        .await
    }

    async fn deliveries_of(
        &self,
        tenant: &Tenant,
        incident_id: &str,
    ) -> Result<Vec<StoredDelivery>, StorageError> {
        let incident_id = incident_id.to_owned();
        self.list(tenant, move |db, tenant_id| {
            let which = "d.incident_id = ?2 ORDER BY d.delivery_id";
            deliveries(db, which, params![tenant_id, incident_id])
        })
        .await
    }

    async fn alert_states(&self, tenant: &Tenant) -> Result<Vec<(String, String)>, StorageError> {
        self.list(tenant, |db, tenant_id| {
            let mut select = db.prepare_cached(
                "SELECT name, body FROM alert_states WHERE tenant_id = ?1 ORDER BY name",
            )?;
            let rows = select.query_map([tenant_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// How long the epoch leads on; none if it does not.
fn lead_of(db: &Connection, epoch: i64, now_unix_nano: i64) -> Result<Option<Duration>, Fault> {
    let expires: Option<i64> = db
        .prepare_cached(
            "SELECT expires_unix_nano FROM leases WHERE name = 'alerting' AND epoch = ?1",
        )?
        .query_row([epoch], |row| row.get(0))
        .optional()?;
    let left = |expires: i64| lead_left(expires.saturating_sub(now_unix_nano) as f64 / 1e9);
    Ok(expires.and_then(left))
}

fn commit(db: &Connection, tenant_id: i64, changes: &AlertChanges) -> Result<(), Fault> {
    for incident in &changes.incidents {
        db.prepare_cached(
            "INSERT OR REPLACE INTO incidents (tenant_id, incident_id, state, service,
                 began_unix_nano, resolved_unix_nano, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            tenant_id,
            incident.incident_id,
            incident.state,
            incident.service,
            incident.began_unix_nano,
            incident.resolved_unix_nano,
            incident.body,
        ])?;
    }
    for new in &changes.deliveries {
        db.prepare_cached(
            "INSERT INTO deliveries (tenant_id, channel, key, incident_id, sequence,
                 created_unix_nano, state, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'waiting', ?7)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            tenant_id,
            new.channel,
            new.key,
            new.incident_id,
            new.sequence,
            new.created_unix_nano,
            new.body,
        ])?;
    }
    for update in &changes.updates {
        db.prepare_cached(
            "UPDATE deliveries SET state = ?3, body = ?4, thread = coalesce(?5, thread)
             WHERE tenant_id = ?1 AND delivery_id = ?2",
        )?
        .execute(params![
            tenant_id,
            update.delivery_id,
            update.state.as_str(),
            update.body,
            update.thread,
        ])?;
    }
    for (name, body) in &changes.states {
        db.prepare_cached(
            "INSERT OR REPLACE INTO alert_states (tenant_id, name, body) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![tenant_id, name, body])?;
    }
    for action_id in &changes.actions_done {
        db.prepare_cached("DELETE FROM alert_actions WHERE tenant_id = ?1 AND action_id = ?2")?
            .execute(params![tenant_id, action_id])?;
    }
    Ok(())
}

fn forget(db: &Connection, tenant_id: i64, now_unix_nano: i64) -> Result<(), Fault> {
    let old = now_unix_nano.saturating_sub(ALERTS_KEPT.as_nanos() as i64);
    db.prepare_cached(
        "DELETE FROM deliveries WHERE tenant_id = ?1 AND state <> 'waiting' AND incident_id IN (
             SELECT incident_id FROM incidents WHERE tenant_id = ?1 AND began_unix_nano < ?2
                 AND resolved_unix_nano < ?2)",
    )?
    .execute(params![tenant_id, old])?;
    db.prepare_cached(
        "DELETE FROM deliveries WHERE tenant_id = ?1 AND state <> 'waiting'
             AND created_unix_nano < ?2 AND incident_id >= ?3 AND incident_id < ?3 || '~'",
    )?
    .execute(params![tenant_id, old, DELIVERED_ONLY])?;
    db.prepare_cached(
        "DELETE FROM incidents
         WHERE tenant_id = ?1 AND began_unix_nano < ?2 AND resolved_unix_nano < ?2",
    )?
    .execute(params![tenant_id, old])?;
    Ok(())
}

fn incident(row: &Row<'_>) -> rusqlite::Result<StoredIncident> {
    Ok(StoredIncident {
        incident_id: row.get(0)?,
        state: row.get(1)?,
        service: row.get(2)?,
        began_unix_nano: row.get(3)?,
        resolved_unix_nano: row.get(4)?,
        body: row.get(5)?,
    })
}

fn deliveries(
    db: &Connection,
    which: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<StoredDelivery>, Fault> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {DELIVERY} FROM deliveries d WHERE d.tenant_id = ?1 AND {which}"
    ))?;
    let mut rows = select.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(delivery(row)?);
    }
    Ok(found)
}

fn delivery(row: &Row<'_>) -> Result<StoredDelivery, Fault> {
    Ok(StoredDelivery {
        delivery_id: row.get(0)?,
        delivery: NewDelivery {
            channel: row.get(1)?,
            key: row.get(2)?,
            incident_id: row.get(3)?,
            sequence: row.get(4)?,
            created_unix_nano: row.get(5)?,
            body: row.get(6)?,
        },
        state: row.get::<_, String>(7)?.parse()?,
        thread: row.get(8)?,
    })
}
