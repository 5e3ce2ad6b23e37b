//! Small numbers in place of names: tenants, services and templates. Numbers are given once and
//! never change, so what is known stays true until a transaction that gave some is rolled back.

use std::collections::HashMap;

use logweir_core::{
    identity::{Service, TemplateId, Tenant},
    record::Template,
};
use rusqlite::{Connection, OptionalExtension, params};

/// Names remembered of each kind; above this it starts afresh.
// Twice the templates that a processor keeps apart by default, so that it is seldom met. Starting
// afresh costs a look-up for each name and needs no record of which was used last.
const REMEMBERED_MAX: usize = 200_000;

/// The writer's memory of numbers.
#[derive(Default)]
pub(super) struct Ids {
    tenants: HashMap<Tenant, i64>,
    services: HashMap<(i64, Service), i64>,
    templates: HashMap<(i64, TemplateId), i64>,
}

impl Ids {
    /// The number of a tenant, given now if it is new.
    pub(super) fn tenant(&mut self, db: &Connection, tenant: &Tenant) -> rusqlite::Result<i64> {
        if let Some(id) = self.tenants.get(tenant) {
            return Ok(*id);
        }
        let id = match find_tenant(db, tenant)? {
            Some(id) => id,
            None => db
                .prepare_cached("INSERT INTO tenants (name) VALUES (?1)")?
                .insert([tenant.as_str()])?,
        };
        remember(&mut self.tenants, tenant.clone(), id);
        Ok(id)
    }

    /// The number of a service, given now if it is new.
    pub(super) fn service(
        &mut self,
        db: &Connection,
        tenant_id: i64,
        service: &Service,
    ) -> rusqlite::Result<i64> {
        let key = (tenant_id, service.clone());
        if let Some(id) = self.services.get(&key) {
            return Ok(*id);
        }
        let id = match find_service(db, tenant_id, service)? {
            Some(id) => id,
            None => db
                .prepare_cached("INSERT INTO services (tenant_id, name) VALUES (?1, ?2)")?
                .insert(params![tenant_id, service.as_str()])?,
        };
        remember(&mut self.services, key, id);
        Ok(id)
    }

    /// The number of a template, given now if it is new.
    pub(super) fn template(
        &mut self,
        db: &Connection,
        tenant_id: i64,
        template: &Template,
    ) -> rusqlite::Result<i64> {
        let key = (tenant_id, template.template_id);
        if let Some(id) = self.templates.get(&key) {
            return Ok(*id);
        }
        let hash = template.template_id.0 as i64;
        let id = match find_template(db, tenant_id, template.template_id)? {
            Some(id) => id,
            None => {
                // Mostly known already; an alias may be saved before its service has stored a log.
                let service_id = self.service(db, tenant_id, &template.service)?;
                db.prepare_cached(
                    "INSERT INTO templates
                         (tenant_id, template_id, service_id, pattern, merged_into, is_merger)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .insert(params![
                    tenant_id,
                    hash,
                    service_id,
                    template.pattern,
                    template.merged_into.map(|id| id.0 as i64),
                    template.is_merger,
                ])?
            }
        };
        remember(&mut self.templates, key, id);
        Ok(id)
    }
}

fn remember<K: std::hash::Hash + Eq>(map: &mut HashMap<K, i64>, key: K, id: i64) {
    if map.len() >= REMEMBERED_MAX {
        map.clear();
    }
    map.insert(key, id);
}

/// The number of a tenant that is known.
pub(super) fn find_tenant(db: &Connection, tenant: &Tenant) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT tenant_id FROM tenants WHERE name = ?1")?
        .query_row([tenant.as_str()], |row| row.get(0))
        .optional()
}

/// The number of a service that is known.
pub(super) fn find_service(
    db: &Connection,
    tenant_id: i64,
    service: &Service,
) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT service_id FROM services WHERE tenant_id = ?1 AND name = ?2")?
        .query_row(params![tenant_id, service.as_str()], |row| row.get(0))
        .optional()
}

fn find_template(
    db: &Connection,
    tenant_id: i64,
    template_id: TemplateId,
) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached(
        "SELECT template_key FROM templates WHERE tenant_id = ?1 AND template_id = ?2",
    )?
    .query_row(params![tenant_id, template_id.0 as i64], |row| row.get(0))
    .optional()
}
