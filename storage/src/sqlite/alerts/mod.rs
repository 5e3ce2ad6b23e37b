//! What alerting knows. The data directory is one process's, so the lead changes only when a
//! process follows another.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use logweir_core::{identity::Tenant, timestamp::Timestamp};
use logweir_incident::{
    action::Action,
    channel::ChannelState,
    delivery::Delivery,
    setting::{Setting, SettingKind, StoredSetting},
    tracking::{TrackedIncident, Tracking},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::sqlite::read::rows;
use crate::{
    ACTIONS_WAITING_MAX, ALERTS_KEPT, AlertChanges, DELIVERED_ONLY, DeliveryUpdate, IncidentQuery,
    KeepAlerts, NewDelivery, StorageError, StoredDelivery, StoredIncident, TemplateSummary,
    TimeRange, WaitingAction,
    alerts::{
        incident_state, json, lead_left, no_incident, resolved, severity, stored_setting,
        too_many_actions, understood,
    },
    sqlite::{
        SqliteStorage, admin::models::tenant_of, errors::Fault, read::reports::template_summary,
        write::writer::Writer,
    },
};

const INCIDENT: &str = "incident_id, state, service, began_unix_nano, resolved_unix_nano, body";
const TRACKING: &str = "series, breach_since_unix_nano, last_breach_unix_nano, sequence, \
     notified_unix_nano, notified_severity, reminders, is_changed, is_closed, keep_firing_seconds";
// The thread is that of the first message about the incident in this channel, whichever delivery
// that was: later messages are answers to it.
const DELIVERY: &str = "d.delivery_id, d.channel, d.incident_id, d.created_unix_nano, d.body, \
     d.state, \
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
            .run_own(|db, _| {
                let mut select = db.prepare_cached(
                    "SELECT name FROM tenants
                     WHERE tenant_id IN (SELECT tenant_id FROM services)
                         OR tenant_id IN (SELECT tenant_id FROM alert_settings) ORDER BY name",
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
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError> {
        self.list(tenant, move |db, tenant_id| {
            let mut select = db.prepare_cached(
                "SELECT t.template_id, s.name, t.pattern, totals.total,
                        totals.first_seen_unix_nano, totals.last_seen_unix_nano, totals.level
                 FROM template_totals totals JOIN templates t USING (template_key)
                      JOIN services s USING (service_id)
                 WHERE totals.first_seen_unix_nano >= ?2 AND totals.tenant_id = ?1
                       AND t.merged_into IS NULL AND totals.total > 0
                 ORDER BY totals.first_seen_unix_nano DESC LIMIT ?3",
            )?;
            let mut rows = select.query(params![tenant_id, since.as_unix_nanos(), limit])?;
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
                // The epoch grows with each new holder, and for the old one whose lead had run out:
                // it cannot know whether another led since, so what it has under way must fail.
                let expires = now + lease;
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
                    .query_row(
                        params![holder, expires.as_unix_nanos(), now.as_unix_nanos()],
                        |row| row.get(0),
                    )
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

    async fn put_setting(&self, tenant: &Tenant, setting: Setting) -> Result<(), StorageError> {
        self.change(tenant, move |db, tenant_id| {
            db.prepare_cached(
                "INSERT OR REPLACE INTO alert_settings (tenant_id, kind, name, body)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                tenant_id,
                setting.kind().as_str(),
                setting.name(),
                setting.to_json(),
            ])?;
            Ok(())
        })
        .await
    }

    async fn delete_setting(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
        name: &str,
    ) -> Result<bool, StorageError> {
        let name = name.to_owned();
        self.change(tenant, move |db, tenant_id| {
            let deleted = db
                .prepare_cached(
                    "DELETE FROM alert_settings WHERE tenant_id = ?1 AND kind = ?2 AND name = ?3",
                )?
                .execute(params![tenant_id, kind.as_str(), name])?;
            Ok(deleted > 0)
        })
        .await
    }

    async fn list_settings(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
    ) -> Result<Vec<StoredSetting>, StorageError> {
        self.list(tenant, move |db, tenant_id| {
            let mut select = db.prepare_cached(
                "SELECT kind, name, body FROM alert_settings
                 WHERE tenant_id = ?1 AND kind = ?2 ORDER BY name",
            )?;
            let mut rows = select.query(params![tenant_id, kind.as_str()])?;
            let mut settings = Vec::new();
            while let Some(row) = rows.next()? {
                settings.extend(setting(row, 0)?);
            }
            Ok(settings)
        })
        .await
    }

    async fn count_other_settings(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
        name: &str,
    ) -> Result<u64, StorageError> {
        let name = name.to_owned();
        self.list(tenant, move |db, tenant_id| {
            let count = "SELECT count(*) FROM alert_settings
                         WHERE tenant_id = ?1 AND kind = ?2 AND name <> ?3";
            let key = params![tenant_id, kind.as_str(), name];
            Ok(db.prepare_cached(count)?.query_row(key, |row| row.get(0))?)
        })
        .await
    }

    async fn list_all_settings(&self, tenant: &Tenant) -> Result<Vec<StoredSetting>, StorageError> {
        self.list(tenant, |db, tenant_id| {
            let mut select = db.prepare_cached(
                "SELECT kind, name, body FROM alert_settings
                 WHERE tenant_id = ?1 ORDER BY kind, name",
            )?;
            let mut rows = select.query([tenant_id])?;
            let mut settings = Vec::new();
            while let Some(row) = rows.next()? {
                settings.extend(setting(row, 0)?);
            }
            Ok(settings)
        })
        .await
    }

    async fn insert_action(&self, tenant: &Tenant, action: &Action) -> Result<(), StorageError> {
        let body = json(action);
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

    async fn list_actions(&self, limit: usize) -> Result<Vec<WaitingAction>, StorageError> {
        self.readers
            .run_own(move |db, _| {
                let mut select = db.prepare_cached(
                    "SELECT name, action_id, body FROM alert_actions JOIN tenants USING (tenant_id)
                     ORDER BY row_number() OVER (PARTITION BY tenant_id ORDER BY action_id), action_id
                     LIMIT ?1",
                )?;
                let mut rows = select.query([limit])?;
                let mut actions = Vec::new();
                while let Some(row) = rows.next()? {
                    let (tenant, action_id) = (tenant_of(row, 0)?, row.get(1)?);
                    let body: String = row.get(2)?;
                    let action = understood("action", tenant.as_str(), &body);
                    actions.push(WaitingAction { action_id, tenant, action });
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
            let TimeRange { from, to } = query.range.unwrap_or(TimeRange::ALL);
            let mut select = db.prepare_cached(&format!(
                "SELECT {INCIDENT} FROM incidents
                 WHERE tenant_id = ?1 AND began_unix_nano >= ?2 AND began_unix_nano < ?3
                       AND state <> 'pending'
                       AND (?4 IS NULL OR service = ?4)
                       AND (NOT ?5 OR resolved_unix_nano IS NULL)
                 ORDER BY began_unix_nano DESC, incident_id LIMIT ?6"
            ))?;
            let service = query.service.as_ref().map(ToString::to_string);
            let mut rows = select.query(params![
                tenant_id,
                from.as_unix_nanos(),
                to.as_unix_nanos(),
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
                let mut select = db.prepare_cached(&select)?;
                let mut rows = select.query(params![tenant_id, id])?;
                rows.next()?.map(incident).transpose()
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

    async fn tracked_incidents(
        &self,
        tenant: &Tenant,
        since: Timestamp,
    ) -> Result<Vec<TrackedIncident>, StorageError> {
        self.list(tenant, move |db, tenant_id| {
            let mut select = db.prepare_cached(&format!(
                "SELECT incident_id, body, {TRACKING} FROM incidents
                 WHERE tenant_id = ?1 AND series <> ''
                       AND (resolved_unix_nano IS NULL OR resolved_unix_nano >= ?2
                            OR NOT is_closed)
                 ORDER BY incident_id"
            ))?;
            let mut rows = select.query(params![tenant_id, since.as_unix_nanos()])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.extend(tracked(row)?);
            }
            Ok(found)
        })
        .await
    }

    async fn channel_states(
        &self,
        tenant: &Tenant,
    ) -> Result<BTreeMap<String, ChannelState>, StorageError> {
        self.list(tenant, |db, tenant_id| {
            let mut select =
                db.prepare_cached("SELECT channel, body FROM channel_states WHERE tenant_id = ?1")?;
            let mut rows = select.query([tenant_id])?;
            let mut states = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (channel, body): (String, String) = (row.get(0)?, row.get(1)?);
                let state = understood("state of a channel", &channel, &body);
                states.extend(state.map(|state| (channel, state)));
            }
            Ok(states)
        })
        .await
    }
}

/// How long the epoch leads on; none if it does not.
fn lead_of(db: &Connection, epoch: i64, now: Timestamp) -> Result<Option<Duration>, Fault> {
    let expires: Option<i64> = db
        .prepare_cached(
            "SELECT expires_unix_nano FROM leases WHERE name = 'alerting' AND epoch = ?1",
        )?
        .query_row([epoch], |row| row.get(0))
        .optional()?;
    let left = |expires| Timestamp::from_unix_nanos(expires).nanos_since(now);
    let left = |expires: i64| lead_left(left(expires) as f64 / 1e9);
    Ok(expires.and_then(left))
}

fn commit(db: &Connection, tenant_id: i64, changes: &AlertChanges) -> Result<(), Fault> {
    for incident in &changes.incidents {
        write_incident(db, tenant_id, incident)?;
        write_tracking(db, tenant_id, &incident.incident.id, &incident.tracking)?;
    }
    for (incident_id, tracking) in &changes.tracking {
        write_tracking(db, tenant_id, incident_id, tracking)?;
    }
    for incident_id in &changes.dropped {
        // Pending only: an incident that people were told of stays in the history.
        db.prepare_cached(
            "DELETE FROM incidents
             WHERE tenant_id = ?1 AND incident_id = ?2 AND state = 'pending'",
        )?
        .execute(params![tenant_id, incident_id])?;
    }
    for new in &changes.deliveries {
        insert_delivery(db, tenant_id, new)?;
    }
    for update in &changes.updates {
        update_delivery(db, tenant_id, update)?;
    }
    for (channel, state) in &changes.channels {
        db.prepare_cached(
            "INSERT OR REPLACE INTO channel_states (tenant_id, channel, body) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![tenant_id, channel, json(state)])?;
    }
    for action_id in &changes.actions_done {
        db.prepare_cached("DELETE FROM alert_actions WHERE tenant_id = ?1 AND action_id = ?2")?
            .execute(params![tenant_id, action_id])?;
    }
    Ok(())
}

fn write_incident(
    db: &Connection,
    tenant_id: i64,
    TrackedIncident { incident, .. }: &TrackedIncident,
) -> Result<(), Fault> {
    // Service and beginning of an incident never change, so that only the rest is updated.
    db.prepare_cached(
        "INSERT INTO incidents (tenant_id, incident_id, state, service, began_unix_nano,
             resolved_unix_nano, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (tenant_id, incident_id) DO UPDATE SET state = excluded.state,
             resolved_unix_nano = excluded.resolved_unix_nano, body = excluded.body",
    )?
    .execute(params![
        tenant_id,
        incident.id,
        incident.state.as_str(),
        incident.service,
        incident.pending_at.as_unix_nanos(),
        resolved(incident).map(Timestamp::as_unix_nanos),
        json(incident),
    ])?;
    Ok(())
}

fn write_tracking(
    db: &Connection,
    tenant_id: i64,
    incident_id: &str,
    tracking: &Tracking,
) -> Result<(), Fault> {
    db.prepare_cached(
        "UPDATE incidents SET series = ?3, breach_since_unix_nano = ?4, last_breach_unix_nano = ?5,
             sequence = ?6, notified_unix_nano = ?7, notified_severity = ?8, reminders = ?9,
             is_changed = ?10, is_closed = ?11, keep_firing_seconds = ?12
         WHERE tenant_id = ?1 AND incident_id = ?2",
    )?
    .execute(params![
        tenant_id,
        incident_id,
        tracking.series,
        tracking.breach_since.map(Timestamp::as_unix_nanos),
        tracking.last_breach.as_unix_nanos(),
        tracking.sequence,
        tracking.notified_at.as_unix_nanos(),
        tracking.notified_severity.as_str(),
        tracking.reminders,
        tracking.is_changed,
        tracking.is_closed,
        tracking.keep_firing_seconds,
    ])?;
    Ok(())
}

fn insert_delivery(db: &Connection, tenant_id: i64, new: &NewDelivery) -> Result<(), Fault> {
    let NewDelivery { channel, notification, created_at } = new;
    // DO NOTHING: a leader that did not hear whether its commit succeeded writes the same
    // notifications again, under the same keys, and nobody may be told twice.
    db.prepare_cached(
        "INSERT INTO deliveries (tenant_id, channel, key, incident_id, sequence,
             created_unix_nano, state, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'waiting', ?7)
         ON CONFLICT DO NOTHING",
    )?
    .execute(params![
        tenant_id,
        channel,
        notification.key,
        notification.incident.id,
        notification.sequence,
        created_at.as_unix_nanos(),
        json(&Delivery::new(notification.clone(), *created_at)),
    ])?;
    Ok(())
}

fn update_delivery(db: &Connection, tenant_id: i64, update: &DeliveryUpdate) -> Result<(), Fault> {
    db.prepare_cached(
        "UPDATE deliveries SET state = ?3, body = coalesce(?4, body), thread = coalesce(?5, thread)
         WHERE tenant_id = ?1 AND delivery_id = ?2",
    )?
    .execute(params![
        tenant_id,
        update.delivery_id,
        update.state.as_str(),
        update.delivery.as_ref().map(json),
        update.thread,
    ])?;
    Ok(())
}

fn forget(db: &Connection, tenant_id: i64, now: Timestamp) -> Result<(), Fault> {
    let old = now - ALERTS_KEPT;
    // Deliveries before the incidents by whose age they are chosen. What still waits is kept
    // whatever its age: a message is sent or given up, never forgotten.
    db.prepare_cached(
        "DELETE FROM deliveries WHERE tenant_id = ?1 AND state <> 'waiting' AND incident_id IN (
             SELECT incident_id FROM incidents WHERE tenant_id = ?1 AND began_unix_nano < ?2
                 AND resolved_unix_nano < ?2)",
    )?
    .execute(params![tenant_id, old.as_unix_nanos()])?;
    // Those about a channel belong to no stored incident, and would be kept for ever.
    db.prepare_cached(
        "DELETE FROM deliveries WHERE tenant_id = ?1 AND state <> 'waiting'
             AND created_unix_nano < ?2 AND incident_id >= ?3 AND incident_id < ?3 || '~'",
    )?
    .execute(params![tenant_id, old.as_unix_nanos(), DELIVERED_ONLY])?;
    db.prepare_cached(
        "DELETE FROM incidents
         WHERE tenant_id = ?1 AND began_unix_nano < ?2 AND resolved_unix_nano < ?2",
    )?
    .execute(params![tenant_id, old.as_unix_nanos()])?;
    Ok(())
}

/// A setting from its kind, name and body, which begin at a column.
fn setting(row: &Row<'_>, first: usize) -> Result<Option<StoredSetting>, Fault> {
    let (kind, body): (String, String) = (row.get(first)?, row.get(first + 2)?);
    Ok(stored_setting(&kind, row.get(first + 1)?, &body))
}

fn incident(row: &Row<'_>) -> Result<StoredIncident, Fault> {
    let (incident_id, state, body): (String, String, String) =
        (row.get(0)?, row.get(1)?, row.get(5)?);
    Ok(StoredIncident {
        state: incident_state(&state)?,
        service: row.get(2)?,
        began_at: rows::timestamp(row, 3)?,
        resolved_at: rows::maybe_timestamp(row, 4)?,
        incident: understood("incident", &incident_id, &body),
        incident_id,
    })
}

/// None, with a warning, if this version does not understand the incident.
fn tracked(row: &Row<'_>) -> Result<Option<TrackedIncident>, Fault> {
    let (incident_id, body, notified_severity): (String, String, String) =
        (row.get(0)?, row.get(1)?, row.get(7)?);
    let tracking = Tracking {
        series: row.get(2)?,
        breach_since: rows::maybe_timestamp(row, 3)?,
        last_breach: rows::timestamp(row, 4)?,
        sequence: row.get(5)?,
        notified_at: rows::timestamp(row, 6)?,
        notified_severity: severity(&notified_severity)?,
        reminders: row.get(8)?,
        is_changed: row.get(9)?,
        is_closed: row.get(10)?,
        keep_firing_seconds: row.get(11)?,
    };
    let incident = understood("incident", &incident_id, &body);
    Ok(incident.map(|incident| TrackedIncident { incident, tracking }))
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
    let (delivery_id, body): (i64, String) = (row.get(0)?, row.get(4)?);
    let (state, thread): (String, Option<String>) = (row.get(5)?, row.get(6)?);
    let delivery = understood("delivery", &delivery_id.to_string(), &body);
    Ok(StoredDelivery {
        delivery_id,
        channel: row.get(1)?,
        incident_id: row.get(2)?,
        created_at: rows::timestamp(row, 3)?,
        delivery: delivery.map(|of| Delivery { id: delivery_id, thread, ..of }),
        state: state.parse()?,
    })
}
