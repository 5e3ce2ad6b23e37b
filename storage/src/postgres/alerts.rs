//! What alerting knows. The database's clock says who leads.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use logweir_core::identity::Tenant;
use tokio_postgres::Row;

use super::{
    PostgresStorage,
    faults::Fault,
    models::tenant_of,
    reports::template_summary,
    rows,
    statement::{Statement, Value},
};
use crate::{
    ACTIONS_WAITING_MAX, ALERTS_KEPT, AlertChanges, AlertSetting, DELIVERED_ONLY, IncidentQuery,
    KeepAlerts, NewDelivery, StorageError, StoredDelivery, StoredIncident, TemplateSummary,
    TimeRange,
    alerts::{lead_left, no_incident, too_many_actions},
};

const INCIDENT: &str =
    "SELECT incident_id, state, service, began_unix_nano, resolved_unix_nano, body
     FROM incidents WHERE tenant = ";
const DELIVERY: &str = "SELECT d.delivery_id, d.channel, d.key, d.incident_id, d.sequence,
         d.created_unix_nano, d.body, d.state,
         (SELECT t.thread FROM deliveries t WHERE t.tenant = d.tenant
              AND t.incident_id = d.incident_id AND t.channel = d.channel AND t.thread IS NOT NULL
          ORDER BY t.delivery_id LIMIT 1)
     FROM deliveries d WHERE d.tenant = ";

#[async_trait]
impl KeepAlerts for PostgresStorage {
    async fn waiting_channels(&self, tenant: &Tenant) -> Result<Vec<String>, StorageError> {
        self.snapshot(async |db| {
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
        self.snapshot(async |db| {
            let found =
                Statement::new("SELECT DISTINCT tenant FROM services ORDER BY 1").rows(db).await?;
            found.iter().map(|row| tenant_of(row, 0)).collect()
        })
        .await
    }

    async fn new_templates(
        &self,
        tenant: &Tenant,
        since_unix_nano: i64,
        limit: usize,
    ) -> Result<Vec<TemplateSummary>, StorageError> {
        self.snapshot(async |db| {
            let found = Statement::new(
                "SELECT template_id, service, pattern, pattern_exact, first_seen_unix_nano,
                        last_seen_unix_nano, level, total
                 FROM templates WHERE merged_into IS NULL AND total > 0 AND tenant = ",
            )
            .value(Value::Text(tenant.to_string()))
            .text(" AND first_seen_unix_nano >= ")
            .value(Value::Long(since_unix_nano))
            .text(" ORDER BY first_seen_unix_nano DESC LIMIT ")
            .value(at_most(limit))
            .rows(db)
            .await?;
            found.iter().map(template_summary).collect()
        })
        .await
    }

    async fn lead(&self, holder: &str, lease: Duration) -> Result<Option<i64>, StorageError> {
        self.change(async |db| {
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
        self.change(async |db| {
            Statement::new("UPDATE leases SET expires_at = '-infinity' WHERE holder = ")
                .value(Value::Text(holder.to_owned()))
                .execute(db)
                .await?;
            Ok(())
        })
        .await
    }

    async fn put_setting(
        &self,
        tenant: &Tenant,
        kind: &str,
        name: &str,
        body: Option<String>,
    ) -> Result<(), StorageError> {
        let text = |text: &str| Value::Text(text.to_owned());
        self.change(async |db| {
            match body {
                Some(body) => {
                    let values = [text(tenant.as_str()), text(kind), text(name), Value::Text(body)];
                    Statement::new("INSERT INTO alert_settings (tenant, kind, name, body) VALUES ")
                        .list(values)
                        .text(
                            " ON CONFLICT (tenant, kind, name) DO UPDATE SET body = excluded.body",
                        )
                        .execute(db)
                        .await?;
                }
                None => {
                    Statement::new("DELETE FROM alert_settings WHERE tenant = ")
                        .value(text(tenant.as_str()))
                        .text(" AND kind = ")
                        .value(text(kind))
                        .text(" AND name = ")
                        .value(text(name))
                        .execute(db)
                        .await?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn list_settings(&self) -> Result<Vec<(Tenant, AlertSetting)>, StorageError> {
        self.snapshot(async |db| {
            let found = Statement::new(
                "SELECT tenant, kind, name, body FROM alert_settings ORDER BY 1, 2, 3",
            )
            .rows(db)
            .await?;
            let setting = |row: &Row| {
                let kind = rows::get(row, 1)?;
                let (name, body) = (rows::get(row, 2)?, rows::get(row, 3)?);
                Ok((tenant_of(row, 0)?, AlertSetting { kind, name, body }))
            };
            found.iter().map(setting).collect()
        })
        .await
    }

    async fn insert_action(&self, tenant: &Tenant, body: String) -> Result<(), StorageError> {
        self.change(async |db| {
            let waiting = Statement::new("SELECT count(*) FROM alert_actions WHERE tenant = ")
                .value(Value::Text(tenant.to_string()))
                .rows(db)
                .await?;
            let waiting = waiting.first().map_or(Ok(0), |row| rows::count(row, 0))?;
            if waiting >= ACTIONS_WAITING_MAX as u64 {
                return Err(too_many_actions().into());
            }
            Statement::new("INSERT INTO alert_actions (tenant, body) VALUES ")
                .list([Value::Text(tenant.to_string()), Value::Text(body)])
                .execute(db)
                .await?;
            Ok(())
        })
        .await
    }

    async fn list_actions(&self, limit: usize) -> Result<Vec<(Tenant, i64, String)>, StorageError> {
        self.snapshot(async |db| {
            let found = Statement::new(
                "SELECT tenant, action_id, body FROM alert_actions ORDER BY action_id LIMIT ",
            )
            .value(at_most(limit))
            .rows(db)
            .await?;
            let action =
                |row: &Row| Ok((tenant_of(row, 0)?, rows::get(row, 1)?, rows::get(row, 2)?));
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
        self.change(async |db| {
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
        self.snapshot(async |db| {
            let TimeRange { from_unix_nano, to_unix_nano } = query.range.unwrap_or(TimeRange::ALL);
            let mut select = Statement::new(INCIDENT)
                .value(Value::Text(tenant.to_string()))
                .text(" AND began_unix_nano >= ")
                .value(Value::Long(from_unix_nano))
                .text(" AND began_unix_nano < ")
                .value(Value::Long(to_unix_nano));
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
        self.snapshot(async |db| {
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
        self.snapshot(async |db| {
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
        self.snapshot(async |db| {
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

    async fn alert_states(&self, tenant: &Tenant) -> Result<Vec<(String, String)>, StorageError> {
        self.snapshot(async |db| {
            let found = Statement::new("SELECT name, body FROM alert_states WHERE tenant = ")
                .value(Value::Text(tenant.to_string()))
                .text(" ORDER BY name")
                .rows(db)
                .await?;
            found.iter().map(|row| Ok((rows::get(row, 0)?, rows::get(row, 1)?))).collect()
        })
        .await
    }
}

/// How long the epoch leads on; none if it does not. Nobody takes over until this transaction ends.
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
    let whose = || Value::Text(tenant.to_string());
    for incident in changes.incidents {
        let values = [
            whose(),
            Value::Text(incident.incident_id),
            Value::Text(incident.state),
            Value::Text(incident.service),
            Value::Long(incident.began_unix_nano),
            Value::MaybeLong(incident.resolved_unix_nano),
            Value::Text(incident.body),
        ];
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
    }
    for new in changes.deliveries {
        let values = [
            whose(),
            Value::Text(new.channel),
            Value::Text(new.key),
            Value::Text(new.incident_id),
            Value::Long(i64::from(new.sequence)),
            Value::Long(new.created_unix_nano),
            Value::Text("waiting".to_owned()),
            Value::Text(new.body),
        ];
        Statement::new(
            "INSERT INTO deliveries (tenant, channel, key, incident_id, sequence,
                 created_unix_nano, state, body) VALUES ",
        )
        .list(values)
        .text(" ON CONFLICT DO NOTHING")
        .execute(db)
        .await?;
    }
    for update in changes.updates {
        let set = Statement::new("UPDATE deliveries SET state = ")
            .value(Value::Text(update.state.as_str().to_owned()))
            .text(", body = ")
            .value(Value::Text(update.body));
        let set = match update.thread {
            None => set,
            Some(thread) => set.text(", thread = ").value(Value::Text(thread)),
        };
        set.text(" WHERE tenant = ")
            .value(whose())
            .text(" AND delivery_id = ")
            .value(Value::Long(update.delivery_id))
            .execute(db)
            .await?;
    }
    for (name, body) in changes.states {
        Statement::new("INSERT INTO alert_states (tenant, name, body) VALUES ")
            .list([whose(), Value::Text(name), Value::Text(body)])
            .text(" ON CONFLICT (tenant, name) DO UPDATE SET body = excluded.body")
            .execute(db)
            .await?;
    }
    Statement::new("DELETE FROM alert_actions WHERE tenant = ")
        .value(whose())
        .text(" AND action_id = ANY(")
        .value(Value::Longs(changes.actions_done))
        .text(")")
        .execute(db)
        .await?;
    Ok(())
}

async fn forget(db: &Transaction<'_>, tenant: &Tenant, now_unix_nano: i64) -> Result<(), Fault> {
    let old = now_unix_nano.saturating_sub(ALERTS_KEPT.as_nanos() as i64);
    let is_old = |statement: Statement| {
        statement
            .value(Value::Text(tenant.to_string()))
            .text(" AND began_unix_nano < ")
            .value(Value::Long(old))
            .text(" AND resolved_unix_nano < ")
            .value(Value::Long(old))
    };
    let done = Statement::new("DELETE FROM deliveries WHERE state <> 'waiting' AND tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND incident_id IN (SELECT incident_id FROM incidents WHERE tenant = ");
    is_old(done).text(")").execute(db).await?;
    Statement::new("DELETE FROM deliveries WHERE state <> 'waiting' AND tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND created_unix_nano < ")
        .value(Value::Long(old))
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

fn incident(row: &Row) -> Result<StoredIncident, Fault> {
    Ok(StoredIncident {
        incident_id: rows::get(row, 0)?,
        state: rows::get(row, 1)?,
        service: rows::get(row, 2)?,
        began_unix_nano: rows::get(row, 3)?,
        resolved_unix_nano: rows::get(row, 4)?,
        body: rows::get(row, 5)?,
    })
}

fn delivery(row: &Row) -> Result<StoredDelivery, Fault> {
    let sequence: i64 = rows::get(row, 4)?;
    Ok(StoredDelivery {
        delivery_id: rows::get(row, 0)?,
        delivery: NewDelivery {
            channel: rows::get(row, 1)?,
            key: rows::get(row, 2)?,
            incident_id: rows::get(row, 3)?,
            sequence: u32::try_from(sequence).unwrap_or(u32::MAX),
            created_unix_nano: rows::get(row, 5)?,
            body: rows::get(row, 6)?,
        },
        state: rows::get::<String>(row, 7)?.parse()?,
        thread: rows::get(row, 8)?,
    })
}
