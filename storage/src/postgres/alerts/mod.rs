//! What alerting knows. The database's clock says who leads.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use logweir_core::{identity::Tenant, timestamp::Timestamp};
use logweir_incident::{
    action::Action,
    channel::ChannelState,
    delivery::Delivery,
    setting::{Setting, SettingKind, StoredSetting},
    tracking::{TrackedIncident, Tracking},
};
use tokio_postgres::Row;

use crate::{
    ACTIONS_WAITING_MAX, ALERTS_KEPT, AlertChanges, DELIVERED_ONLY, DeliveryUpdate, IncidentQuery,
    KeepAlerts, NewDelivery, StorageError, StoredDelivery, StoredIncident, TemplateSummary,
    TimeRange, WaitingAction,
    alerts::{
        incident_state, json, lead_left, no_incident, resolved, severity, stored_setting,
        too_many_actions, understood,
    },
    postgres::{
        PostgresStorage,
        admin::models::tenant_of,
        errors::Fault,
        read::{reports::template_summary, rows},
        statement::{Statement, Value},
    },
};

const INCIDENT: &str =
    "SELECT incident_id, state, service, began_unix_nano, resolved_unix_nano, body
     FROM incidents WHERE tenant = ";
const TRACKED: &str = "SELECT incident_id, body, series, breach_since_unix_nano,
         last_breach_unix_nano, sequence, notified_unix_nano, notified_severity, reminders,
         is_changed, is_closed, keep_firing_seconds
     FROM incidents WHERE series <> '' AND tenant = ";
// The thread is that of the first message about the incident in this channel, whichever delivery
// that was: later messages are answers to it.
const DELIVERY: &str =
    "SELECT d.delivery_id, d.channel, d.incident_id, d.created_unix_nano, d.body,
         d.state,
         (SELECT t.thread FROM deliveries t WHERE t.tenant = d.tenant
              AND t.incident_id = d.incident_id AND t.channel = d.channel AND t.thread IS NOT NULL
          ORDER BY t.delivery_id LIMIT 1)
     FROM deliveries d WHERE d.tenant = ";

#[async_trait]
impl KeepAlerts for PostgresStorage {
    async fn waiting_channels(&self, tenant: &Tenant) -> Result<Vec<String>, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new(
                "SELECT DISTINCT channel FROM deliveries WHERE state = 'waiting' AND tenant = ",
            )
            .value(Value::Text(tenant.to_string()))
            .text(" ORDER BY channel")
            .rows(db)
            .await?;
            found.iter().map(|row| rows::get(row, 0)).collect()
        })
        .await
    }

    async fn list_tenants(&self) -> Result<Vec<Tenant>, StorageError> {
        self.own_snapshot(async |db| {
            let found = Statement::new(
                "SELECT tenant FROM services UNION SELECT tenant FROM alert_settings ORDER BY 1",
            )
            .rows(db)
            .await?;
            found.iter().map(|row| tenant_of(row, 0)).collect()
        })
        .await
    }

    async fn new_templates(
        &self,
        tenant: &Tenant,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new(
                "SELECT template_id, service, pattern, pattern_exact, first_seen_unix_nano,
                        last_seen_unix_nano, level, total
                 FROM templates WHERE merged_into IS NULL AND total > 0 AND tenant = ",
            )
            .value(Value::Text(tenant.to_string()))
            .text(" AND first_seen_unix_nano >= ")
            .value(Value::unix_nano(since))
            .text(" ORDER BY first_seen_unix_nano DESC LIMIT ")
            .value(at_most(limit))
            .rows(db)
            .await?;
            found.iter().map(template_summary).collect()
        })
        .await
    }

    async fn lead(&self, holder: &str, lease: Duration) -> Result<Option<i64>, StorageError> {
        self.own_change(async |db| {
            // One statement asks and takes, so that two who ask at once cannot both get it. The
            // epoch also grows for a holder whose lead had run out: another may have led since.
            let led = Statement::new(
                "INSERT INTO leases (name, holder, epoch, expires_at) SELECT 'alerting', ",
            )
            .value(Value::Text(holder.to_owned()))
            .text(", 1, clock_timestamp() + make_interval(secs => ")
            .value(Value::Double(lease.as_secs_f64()))
            .text(
                ") ON CONFLICT (name) DO UPDATE SET
                       epoch = leases.epoch + (leases.holder <> excluded.holder
                           OR leases.expires_at <= clock_timestamp())::int,
                       holder = excluded.holder, expires_at = excluded.expires_at
                   WHERE leases.holder = excluded.holder OR leases.expires_at <= clock_timestamp()
                   RETURNING epoch",
            )
            .rows(db)
            .await?;
            led.first().map(|row| rows::get(row, 0)).transpose()
        })
        .await
    }

    async fn resign(&self, holder: &str) -> Result<(), StorageError> {
        self.own_change(async |db| {
            Statement::new("UPDATE leases SET expires_at = '-infinity' WHERE holder = ")
                .value(Value::Text(holder.to_owned()))
                .execute(db)
                .await?;
            Ok(())
        })
        .await
    }

    async fn put_setting(&self, tenant: &Tenant, setting: Setting) -> Result<(), StorageError> {
        self.change(tenant, async |db| {
            let values = [
                text(tenant.as_str()),
                text(setting.kind().as_str()),
                text(setting.name()),
                Value::Text(setting.to_json()),
            ];
            Statement::new("INSERT INTO alert_settings (tenant, kind, name, body) VALUES ")
                .list(values)
                .text(" ON CONFLICT (tenant, kind, name) DO UPDATE SET body = excluded.body")
                .execute(db)
                .await?;
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
        self.change(tenant, async |db| {
            let deleted = Statement::new("DELETE FROM alert_settings WHERE tenant = ")
                .value(text(tenant.as_str()))
                .text(" AND kind = ")
                .value(text(kind.as_str()))
                .text(" AND name = ")
                .value(text(name))
                .text(" RETURNING name")
                .rows(db)
                .await?;
            Ok(!deleted.is_empty())
        })
        .await
    }

    async fn list_settings(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
    ) -> Result<Vec<StoredSetting>, StorageError> {
        self.snapshot(tenant, async |db| {
            let found =
                Statement::new("SELECT kind, name, body FROM alert_settings WHERE tenant = ")
                    .value(text(tenant.as_str()))
                    .text(" AND kind = ")
                    .value(text(kind.as_str()))
                    .text(" ORDER BY name")
                    .rows(db)
                    .await?;
            found.iter().filter_map(|row| setting(row, 0).transpose()).collect()
        })
        .await
    }

    async fn count_other_settings(
        &self,
        tenant: &Tenant,
        kind: SettingKind,
        name: &str,
    ) -> Result<u64, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new("SELECT count(*) FROM alert_settings WHERE tenant = ")
                .value(text(tenant.as_str()))
                .text(" AND kind = ")
                .value(text(kind.as_str()))
                .text(" AND name <> ")
                .value(text(name))
                .rows(db)
                .await?;
            found.first().map_or(Ok(0), |row| rows::count(row, 0))
        })
        .await
    }

    async fn list_all_settings(&self, tenant: &Tenant) -> Result<Vec<StoredSetting>, StorageError> {
        self.snapshot(tenant, async |db| {
            let found =
                Statement::new("SELECT kind, name, body FROM alert_settings WHERE tenant = ")
                    .value(text(tenant.as_str()))
                    .text(" ORDER BY kind, name")
                    .rows(db)
                    .await?;
            found.iter().filter_map(|row| setting(row, 0).transpose()).collect()
        })
        .await
    }

    async fn insert_action(&self, tenant: &Tenant, action: &Action) -> Result<(), StorageError> {
        self.change(tenant, async |db| {
            let waiting = Statement::new("SELECT count(*) FROM alert_actions WHERE tenant = ")
                .value(text(tenant.as_str()))
                .rows(db)
                .await?;
            let waiting = waiting.first().map_or(Ok(0), |row| rows::count(row, 0))?;
            if waiting >= ACTIONS_WAITING_MAX as u64 {
                return Err(too_many_actions().into());
            }
            Statement::new("INSERT INTO alert_actions (tenant, body) VALUES ")
                .list([text(tenant.as_str()), Value::Text(json(action))])
                .execute(db)
                .await?;
            Ok(())
        })
        .await
    }

    async fn list_actions(&self, limit: usize) -> Result<Vec<WaitingAction>, StorageError> {
        self.own_snapshot(async |db| {
            let found = Statement::new(
                "SELECT tenant, action_id, body FROM alert_actions
                 ORDER BY row_number() OVER (PARTITION BY tenant ORDER BY action_id), action_id LIMIT ",
            )
            .value(at_most(limit))
            .rows(db)
            .await?;
            let action = |row: &Row| {
                let (tenant, action_id) = (tenant_of(row, 0)?, rows::get(row, 1)?);
                let body: String = rows::get(row, 2)?;
                let action = understood("action", tenant.as_str(), &body);
                Ok(WaitingAction { action_id, tenant, action })
            };
            found.iter().map(action).collect()
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
        self.change(tenant, async |db| {
            // In the transaction of the changes: asked before it, the lead could be lost between.
            let Some(left) = lead_of(db, epoch).await? else { return Ok(None) };
            commit(db, tenant, changes).await?;
            forget(db, tenant, now).await?;
            Ok(Some(left))
        })
        .await
    }

    async fn list_incidents(
        &self,
        tenant: &Tenant,
        query: IncidentQuery,
    ) -> Result<Vec<StoredIncident>, StorageError> {
        self.snapshot(tenant, async |db| {
            let TimeRange { from, to } = query.range.unwrap_or(TimeRange::ALL);
            let mut select = Statement::new(INCIDENT)
                .value(Value::Text(tenant.to_string()))
                .text(" AND state <> 'pending' AND began_unix_nano >= ")
                .value(Value::unix_nano(from))
                .text(" AND began_unix_nano < ")
                .value(Value::unix_nano(to));
            if let Some(service) = &query.service {
                select = select.text(" AND service = ").value(Value::Text(service.to_string()));
            }
            if query.is_open {
                select = select.text(" AND resolved_unix_nano IS NULL");
            }
            let found = select
                .text(" ORDER BY began_unix_nano DESC, incident_id LIMIT ")
                .value(at_most(query.limit))
                .rows(db)
                .await?;
            found.iter().map(incident).collect()
        })
        .await
    }

    async fn get_incident(
        &self,
        tenant: &Tenant,
        incident_id: &str,
    ) -> Result<StoredIncident, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new(INCIDENT)
                .value(Value::Text(tenant.to_string()))
                .text(" AND incident_id = ")
                .value(Value::Text(incident_id.to_owned()))
                .rows(db)
                .await?;
            incident(found.first().ok_or_else(|| no_incident(incident_id))?)
        })
        .await
    }

    async fn waiting_deliveries(
        &self,
        tenant: &Tenant,
        channel: &str,
        limit: usize,
    ) -> Result<Vec<StoredDelivery>, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new(DELIVERY)
                .value(Value::Text(tenant.to_string()))
                .text(" AND d.state = 'waiting' AND d.channel = ")
                .value(Value::Text(channel.to_owned()))
                .text(" ORDER BY d.delivery_id LIMIT ")
                .value(at_most(limit))
                .rows(db)
                .await?;
            found.iter().map(delivery).collect()
        })
        .await
    }

    async fn deliveries_of(
        &self,
        tenant: &Tenant,
        incident_id: &str,
    ) -> Result<Vec<StoredDelivery>, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new(DELIVERY)
                .value(Value::Text(tenant.to_string()))
                .text(" AND d.incident_id = ")
                .value(Value::Text(incident_id.to_owned()))
                .text(" ORDER BY d.delivery_id")
                .rows(db)
                .await?;
            found.iter().map(delivery).collect()
        })
        .await
    }

    async fn tracked_incidents(
        &self,
        tenant: &Tenant,
        since: Timestamp,
    ) -> Result<Vec<TrackedIncident>, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new(TRACKED)
                .value(text(tenant.as_str()))
                .text(" AND (resolved_unix_nano IS NULL OR NOT is_closed OR resolved_unix_nano >= ")
                .value(Value::unix_nano(since))
                .text(") ORDER BY incident_id")
                .rows(db)
                .await?;
            found.iter().filter_map(|row| tracked(row).transpose()).collect()
        })
        .await
    }

    async fn channel_states(
        &self,
        tenant: &Tenant,
    ) -> Result<BTreeMap<String, ChannelState>, StorageError> {
        self.snapshot(tenant, async |db| {
            let found = Statement::new("SELECT channel, body FROM channel_states WHERE tenant = ")
                .value(text(tenant.as_str()))
                .rows(db)
                .await?;
            let mut states = BTreeMap::new();
            for row in &found {
                let (channel, body): (String, String) = (rows::get(row, 0)?, rows::get(row, 1)?);
                let state = understood("state of a channel", &channel, &body);
                states.extend(state.map(|state| (channel, state)));
            }
            Ok(states)
        })
        .await
    }
}

/// How long the epoch leads on; none if it does not. Nobody takes over until this transaction ends.
// FOR SHARE: whoever takes over updates this row, and so waits until this commit is done. Without
// it a new leader could commit between the question and the answer, and this one after it.
async fn lead_of(db: &Transaction<'_>, epoch: i64) -> Result<Option<Duration>, Fault> {
    let found = Statement::new(
        "SELECT extract(epoch FROM expires_at - clock_timestamp())::double precision
         FROM leases WHERE name = 'alerting' AND isfinite(expires_at) AND epoch = ",
    )
    .value(Value::Long(epoch))
    .text(" FOR SHARE")
    .rows(db)
    .await?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(lead_left(rows::get(row, 0)?))
}

async fn commit(db: &Transaction<'_>, tenant: &Tenant, changes: AlertChanges) -> Result<(), Fault> {
    for incident in changes.incidents {
        write_incident(db, tenant, &incident).await?;
        write_tracking(db, tenant, &incident.incident.id, incident.tracking).await?;
    }
    for (incident_id, tracking) in changes.tracking {
        write_tracking(db, tenant, &incident_id, tracking).await?;
    }
    Statement::new("DELETE FROM incidents WHERE state = 'pending' AND tenant = ")
        .value(text(tenant.as_str()))
        .text(" AND incident_id = ANY(")
        .value(Value::Texts(changes.dropped))
        .text(")")
        .execute(db)
        .await?;
    for new in changes.deliveries {
        insert_delivery(db, tenant, new).await?;
    }
    for update in changes.updates {
        update_delivery(db, tenant, update).await?;
    }
    for (channel, state) in changes.channels {
        Statement::new("INSERT INTO channel_states (tenant, channel, body) VALUES ")
            .list([text(tenant.as_str()), Value::Text(channel), Value::Text(json(&state))])
            .text(" ON CONFLICT (tenant, channel) DO UPDATE SET body = excluded.body")
            .execute(db)
            .await?;
    }
    Statement::new("DELETE FROM alert_actions WHERE tenant = ")
        .value(text(tenant.as_str()))
        .text(" AND action_id = ANY(")
        .value(Value::Longs(changes.actions_done))
        .text(")")
        .execute(db)
        .await?;
    Ok(())
}

async fn write_incident(
    db: &Transaction<'_>,
    tenant: &Tenant,
    TrackedIncident { incident, .. }: &TrackedIncident,
) -> Result<(), Fault> {
    let values = [
        text(tenant.as_str()),
        text(&incident.id),
        text(incident.state.as_str()),
        text(&incident.service),
        Value::unix_nano(incident.pending_at),
        Value::maybe_unix_nano(resolved(incident)),
        Value::Text(json(incident)),
    ];
    // Service and beginning of an incident never change, so that only the rest is updated.
    Statement::new(
        "INSERT INTO incidents (tenant, incident_id, state, service, began_unix_nano,
             resolved_unix_nano, body) VALUES ",
    )
    .list(values)
    .text(
        " ON CONFLICT (tenant, incident_id) DO UPDATE SET state = excluded.state,
              resolved_unix_nano = excluded.resolved_unix_nano, body = excluded.body",
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn write_tracking(
    db: &Transaction<'_>,
    tenant: &Tenant,
    incident_id: &str,
    tracking: Tracking,
) -> Result<(), Fault> {
    let values = [
        Value::Text(tracking.series),
        Value::maybe_unix_nano(tracking.breach_since),
        Value::unix_nano(tracking.last_breach),
        Value::Long(i64::from(tracking.sequence)),
        Value::unix_nano(tracking.notified_at),
        text(tracking.notified_severity.as_str()),
        Value::Long(i64::from(tracking.reminders)),
        Value::Bool(tracking.is_changed),
        Value::Bool(tracking.is_closed),
        Value::Long(i64::from(tracking.keep_firing_seconds)),
    ];
    Statement::new(
        "UPDATE incidents SET (series, breach_since_unix_nano, last_breach_unix_nano, sequence,
             notified_unix_nano, notified_severity, reminders, is_changed, is_closed,
             keep_firing_seconds) = ",
    )
    .list(values)
    .text(" WHERE tenant = ")
    .value(text(tenant.as_str()))
    .text(" AND incident_id = ")
    .value(text(incident_id))
    .execute(db)
    .await?;
    Ok(())
}

async fn insert_delivery(
    db: &Transaction<'_>,
    tenant: &Tenant,
    new: NewDelivery,
) -> Result<(), Fault> {
    let NewDelivery { channel, notification, created_at } = new;
    let (key, incident_id) = (text(&notification.key), text(&notification.incident.id));
    let sequence = Value::Long(i64::from(notification.sequence));
    let values = [
        text(tenant.as_str()),
        Value::Text(channel),
        key,
        incident_id,
        sequence,
        Value::unix_nano(created_at),
        text("waiting"),
        Value::Text(json(&Delivery::new(notification, created_at))),
    ];
    // DO NOTHING: a leader that did not hear whether its commit succeeded writes the same
    // notifications again, under the same keys, and nobody may be told twice.
    Statement::new(
        "INSERT INTO deliveries (tenant, channel, key, incident_id, sequence, created_unix_nano,
             state, body) VALUES ",
    )
    .list(values)
    .text(" ON CONFLICT DO NOTHING")
    .execute(db)
    .await?;
    Ok(())
}

async fn update_delivery(
    db: &Transaction<'_>,
    tenant: &Tenant,
    update: DeliveryUpdate,
) -> Result<(), Fault> {
    let set = Statement::new("UPDATE deliveries SET state = ").value(text(update.state.as_str()));
    let set = match update.delivery {
        None => set,
        Some(delivery) => set.text(", body = ").value(Value::Text(json(&delivery))),
    };
    let set = match update.thread {
        None => set,
        Some(thread) => set.text(", thread = ").value(Value::Text(thread)),
    };
    set.text(" WHERE tenant = ")
        .value(text(tenant.as_str()))
        .text(" AND delivery_id = ")
        .value(Value::Long(update.delivery_id))
        .execute(db)
        .await?;
    Ok(())
}

async fn forget(db: &Transaction<'_>, tenant: &Tenant, now: Timestamp) -> Result<(), Fault> {
    let old = now - ALERTS_KEPT;
    let is_old = |statement: Statement| {
        statement
            .value(Value::Text(tenant.to_string()))
            .text(" AND began_unix_nano < ")
            .value(Value::unix_nano(old))
            .text(" AND resolved_unix_nano < ")
            .value(Value::unix_nano(old))
    };
    // Deliveries before the incidents by whose age they are chosen. What still waits is kept
    // whatever its age: a message is sent or given up, never forgotten.
    let done = Statement::new("DELETE FROM deliveries WHERE state <> 'waiting' AND tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND incident_id IN (SELECT incident_id FROM incidents WHERE tenant = ");
    is_old(done).text(")").execute(db).await?;
    Statement::new("DELETE FROM deliveries WHERE state <> 'waiting' AND tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND created_unix_nano < ")
        .value(Value::unix_nano(old))
        .text(" AND incident_id >= ")
        .value(Value::Text(DELIVERED_ONLY.to_owned()))
        .text(" AND incident_id < ")
        .value(Value::Text(format!("{DELIVERED_ONLY}~")))
        .execute(db)
        .await?;
    is_old(Statement::new("DELETE FROM incidents WHERE tenant = ")).execute(db).await?;
    Ok(())
}

fn at_most(limit: usize) -> Value {
    Value::Long(i64::try_from(limit).unwrap_or(i64::MAX))
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A setting from its kind, name and body, which begin at a column.
fn setting(row: &Row, first: usize) -> Result<Option<StoredSetting>, Fault> {
    let (kind, body): (String, String) = (rows::get(row, first)?, rows::get(row, first + 2)?);
    Ok(stored_setting(&kind, rows::get(row, first + 1)?, &body))
}

fn incident(row: &Row) -> Result<StoredIncident, Fault> {
    let (incident_id, body): (String, String) = (rows::get(row, 0)?, rows::get(row, 5)?);
    Ok(StoredIncident {
        state: incident_state(&rows::get::<String>(row, 1)?)?,
        service: rows::get(row, 2)?,
        began_at: rows::timestamp(row, 3)?,
        resolved_at: rows::maybe_timestamp(row, 4)?,
        incident: understood("incident", &incident_id, &body),
        incident_id,
    })
}

/// None, with a warning, if this version does not understand the incident.
fn tracked(row: &Row) -> Result<Option<TrackedIncident>, Fault> {
    let count = |column| -> Result<u32, Fault> {
        let count: i64 = rows::get(row, column)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    };
    let tracking = Tracking {
        series: rows::get(row, 2)?,
        breach_since: rows::maybe_timestamp(row, 3)?,
        last_breach: rows::timestamp(row, 4)?,
        sequence: count(5)?,
        notified_at: rows::timestamp(row, 6)?,
        notified_severity: severity(&rows::get::<String>(row, 7)?)?,
        reminders: count(8)?,
        is_changed: rows::get(row, 9)?,
        is_closed: rows::get(row, 10)?,
        keep_firing_seconds: count(11)?,
    };
    let (incident_id, body): (String, String) = (rows::get(row, 0)?, rows::get(row, 1)?);
    let incident = understood("incident", &incident_id, &body);
    Ok(incident.map(|incident| TrackedIncident { incident, tracking }))
}

fn delivery(row: &Row) -> Result<StoredDelivery, Fault> {
    let (delivery_id, body): (i64, String) = (rows::get(row, 0)?, rows::get(row, 4)?);
    let thread: Option<String> = rows::get(row, 6)?;
    let delivery = understood("delivery", &delivery_id.to_string(), &body);
    Ok(StoredDelivery {
        delivery_id,
        channel: rows::get(row, 1)?,
        incident_id: rows::get(row, 2)?,
        created_at: rows::timestamp(row, 3)?,
        delivery: delivery.map(|of| Delivery { id: delivery_id, thread, ..of }),
        state: rows::get::<String>(row, 5)?.parse()?,
    })
}
