//! Patterns that were merged, in the table of templates; see [`crate::template_aliases`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use logweir_core::{
    filter::Filter,
    identity::{TemplateId, Tenant},
    record::{StoredLog, Template},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    errors::Fault,
    ids::{Ids, find_tenant},
    read::aggregate::service_of,
};
use crate::template_aliases::{self, Family};

/// Notes templates and what they were merged into.
pub(super) fn save(
    db: &Connection,
    ids: &mut Ids,
    templates: &[Arc<Template>],
) -> Result<(), Fault> {
    // All templates before the first alias: one may lead to another that comes later in the list,
    // and the update of a row that is not there yet would change nothing and say nothing.
    for template in templates {
        let tenant_id = ids.tenant(db, &template.tenant)?;
        ids.template(db, tenant_id, template)?;
    }
    // Those that are merged into nothing first: where an alias leads is asked of the table, and an
    // old end that no longer holds must be gone by then.
    let (ends, aliases): (Vec<_>, Vec<_>) =
        templates.iter().partition(|template| template.merged_into.is_none());
    for template in ends.into_iter().chain(aliases) {
        let tenant_id = ids.tenant(db, &template.tenant)?;
        save_alias(db, tenant_id, template)?;
    }
    Ok(())
}

/// The way is kept to one step: to where the merged pattern leads itself, and those that led here
/// are led there too. Should it lead back here, it ends here.
fn save_alias(db: &Connection, tenant_id: i64, template: &Template) -> Result<(), Fault> {
    let id = template.template_id;
    let end = match template.merged_into {
        Some(merger) => Some(merged_into(db, tenant_id, merger)?.unwrap_or(merger)),
        None => None,
    };
    // Two processors may merge in opposite directions. No filter would find an alias of itself.
    let end = end.filter(|end| *end != id).map(|end| end.0 as i64);
    db.prepare_cached(
        "UPDATE templates SET merged_into = ?3 WHERE tenant_id = ?1 AND template_id = ?2",
    )?
    .execute(params![tenant_id, id.0 as i64, end])?;
    // One step is all that readers follow; a chain would show logs under a pattern in its middle.
    if end.is_some() {
        db.prepare_cached(
            "UPDATE templates SET merged_into = ?3 WHERE tenant_id = ?1 AND merged_into = ?2",
        )?
        .execute(params![tenant_id, id.0 as i64, end])?;
    }
    Ok(())
}

fn merged_into(
    db: &Connection,
    tenant_id: i64,
    template_id: TemplateId,
) -> Result<Option<TemplateId>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT merged_into FROM templates WHERE tenant_id = ?1 AND template_id = ?2",
    )?;
    let found = select.query_row(params![tenant_id, template_id.0 as i64], |row| row.get(0));
    let found: Option<Option<i64>> = found.optional()?;
    Ok(found.flatten().map(|id| TemplateId(id as u64)))
}

/// The filter that asks for all patterns that are the same as those it names.
pub(super) fn expanded(
    db: &Connection,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<Option<Filter>, Fault> {
    let asked_for = template_aliases::asked_for(&filter.expression);
    if asked_for.is_empty() {
        return Ok(None);
    }
    let snapshot = db.unchecked_transaction()?;
    let Some(tenant_id) = find_tenant(&snapshot, tenant)? else { return Ok(None) };
    let mut families = HashMap::new();
    for id in asked_for {
        if let Some(family) = family(&snapshot, tenant_id, id)? {
            families.insert(id, family);
        }
    }
    Ok(Some(template_aliases::expanded(filter, &families)))
}

fn family(db: &Connection, tenant_id: i64, asked: TemplateId) -> Result<Option<Family>, Fault> {
    // Whoever asks for a member, from an old link for example, gets the logs of the whole family.
    let head = merged_into(db, tenant_id, asked)?.unwrap_or(asked);
    let mut select = db.prepare_cached(
        "SELECT t.template_id, s.name FROM templates t JOIN services s USING (service_id)
         WHERE t.tenant_id = ?1 AND t.merged_into = ?2",
    )?;
    let mut rows = select.query(params![tenant_id, head.0 as i64])?;
    let mut family = None;
    while let Some(row) = rows.next()? {
        let service = service_of(row, 1)?;
        let family = family.get_or_insert_with(|| Family { service, members: vec![head] });
        family.members.push(TemplateId(row.get::<_, i64>(0)? as u64));
    }
    Ok(family)
}

/// Shows logs with the ids of the merged patterns.
pub(super) fn show<'a>(
    db: &Connection,
    tenant: &Tenant,
    ids: &BTreeSet<TemplateId>,
    logs: impl IntoIterator<Item = &'a mut StoredLog>,
) -> Result<(), Fault> {
    let snapshot = db.unchecked_transaction()?;
    let Some(tenant_id) = find_tenant(&snapshot, tenant)? else { return Ok(()) };
    let mut mergers = HashMap::new();
    for &id in ids {
        if let Some(merger) = merged_into(&snapshot, tenant_id, id)? {
            mergers.insert(id, merger);
        }
    }
    template_aliases::show(logs, &mergers);
    Ok(())
}
