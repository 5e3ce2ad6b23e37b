//! Patterns that were merged, in the table of templates; see [`crate::template_aliases`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use deadpool_postgres::Transaction;
use logweir_core::{
    filter::Filter,
    identity::{TemplateId, Tenant},
    record::{StoredLog, Template},
};
use tokio_postgres::types::Type;

use super::{
    errors::Fault,
    locks::{self, Lock},
    read::rows,
    statement::{Statement, Value},
    texts::readable,
};
use crate::template_aliases::{self, Family};

/// Notes templates and what they were merged into. One process at a time, or two could lead each
/// other's ends astray.
pub(super) async fn save(db: &Transaction<'_>, templates: &[Arc<Template>]) -> Result<(), Fault> {
    locks::wait(db, Lock::Templates).await?;
    // In the order in which writers of logs lock them, or each could wait for the other: by the id
    // as it is in `TemplateId`, not as the table sorts it. The updates below are too few to be
    // worth an order: should one meet a writer, PostgreSQL ends either, and it is tried again.
    let mut templates: Vec<&Template> = templates.iter().map(|template| &**template).collect();
    templates.sort_unstable_by_key(|of| (of.tenant.as_str(), of.template_id));
    insert(db, &templates).await?;
    // Those that are merged into nothing first: where an alias leads is asked of the table below,
    // and an old end that no longer holds must be gone by then.
    for template in templates.iter().filter(|template| template.merged_into.is_none()) {
        set_alias(db, template, None).await?;
    }
    for template in templates {
        if let Some(merger) = template.merged_into {
            save_alias(db, template, merger).await?;
        }
    }
    Ok(())
}

/// Those that are not there yet, with no logs so far.
async fn insert(db: &Transaction<'_>, templates: &[&Template]) -> Result<(), Fault> {
    let tenants: Vec<&str> = templates.iter().map(|of| of.tenant.as_str()).collect();
    let ids: Vec<i64> = templates.iter().map(|of| of.template_id.0 as i64).collect();
    let services: Vec<&str> = templates.iter().map(|of| of.service.as_str()).collect();
    let patterns: Vec<_> = templates.iter().map(|of| readable(&of.pattern)).collect();
    let shown: Vec<&str> = patterns.iter().map(|pattern| &**pattern).collect();
    let exact: Vec<Option<&[u8]>> = templates
        .iter()
        .map(|of| of.pattern.contains('\0').then_some(of.pattern.as_bytes()))
        .collect();
    let mergers: Vec<bool> = templates.iter().map(|of| of.is_merger).collect();
    db.execute_typed(
        "INSERT INTO templates (tenant, template_id, service, pattern, pattern_exact, is_merger,
                                total, level, first_seen_unix_nano, last_seen_unix_nano)
         SELECT tenant, id, service, pattern, exact, is_merger, 0, 1, 9223372036854775807,
                -9223372036854775808
         FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::boolean[])
              AS new (tenant, id, service, pattern, exact, is_merger)
         ON CONFLICT (tenant, template_id) DO NOTHING",
        &[
            (&tenants, Type::TEXT_ARRAY),
            (&ids, Type::INT8_ARRAY),
            (&services, Type::TEXT_ARRAY),
            (&shown, Type::TEXT_ARRAY),
            (&exact, Type::BYTEA_ARRAY),
            (&mergers, Type::BOOL_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

/// The way is kept to one step: to where the merged pattern leads itself, and those that led here
/// are led there too. Should it lead back here, it ends here.
async fn save_alias(
    db: &Transaction<'_>,
    template: &Template,
    merger: TemplateId,
) -> Result<(), Fault> {
    let mergers = merged_into(db, &template.tenant, [merger].into()).await?;
    let end = mergers.get(&merger).copied().unwrap_or(merger);
    // Two processors may merge in opposite directions. No filter would find an alias of itself.
    let end = Some(end).filter(|end| *end != template.template_id);
    set_alias(db, template, end).await?;
    if let Some(end) = end {
        let (tenant, id) = (template.tenant.as_str(), template.template_id.0 as i64);
        db.execute_typed(
            "UPDATE templates SET merged_into = $3 WHERE tenant = $1 AND merged_into = $2",
            &[(&tenant, Type::TEXT), (&id, Type::INT8), (&(end.0 as i64), Type::INT8)],
        )
        .await?;
    }
    Ok(())
}

async fn set_alias(
    db: &Transaction<'_>,
    template: &Template,
    merger: Option<TemplateId>,
) -> Result<(), Fault> {
    let (tenant, id) = (template.tenant.as_str(), template.template_id.0 as i64);
    let merger = merger.map(|merger| merger.0 as i64);
    // Only where it changes: an update writes a new row and locks it, and whoever writes logs of
    // this template would wait for that.
    db.execute_typed(
        "UPDATE templates SET merged_into = $3
         WHERE tenant = $1 AND template_id = $2 AND merged_into IS DISTINCT FROM $3",
        &[(&tenant, Type::TEXT), (&id, Type::INT8), (&merger, Type::INT8)],
    )
    .await?;
    Ok(())
}

async fn merged_into(
    db: &Transaction<'_>,
    tenant: &Tenant,
    ids: BTreeSet<TemplateId>,
) -> Result<HashMap<TemplateId, TemplateId>, Fault> {
    let found = Statement::new("SELECT template_id, merged_into FROM templates WHERE tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND template_id = ANY(")
        .value(Value::Longs(ids.into_iter().map(|id| id.0 as i64).collect()))
        .text(") AND merged_into IS NOT NULL")
        .rows(db)
        .await?;
    let id = |row, column| Ok::<_, Fault>(rows::template_id(rows::get(row, column)?));
    found.iter().map(|row| Ok((id(row, 0)?, id(row, 1)?))).collect()
}

/// The filter that asks for all patterns that are the same as those it names.
pub(super) async fn expanded(
    db: &Transaction<'_>,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<Option<Filter>, Fault> {
    let asked_for = template_aliases::asked_for(&filter.expression);
    if asked_for.is_empty() {
        return Ok(None);
    }
    let mergers = merged_into(db, tenant, asked_for.clone()).await?;
    let mut families = HashMap::new();
    for id in asked_for {
        let head = mergers.get(&id).copied().unwrap_or(id);
        if let Some(family) = family(db, tenant, head).await? {
            families.insert(id, family);
        }
    }
    Ok(Some(template_aliases::expanded(filter, &families)))
}

async fn family(
    db: &Transaction<'_>,
    tenant: &Tenant,
    head: TemplateId,
) -> Result<Option<Family>, Fault> {
    let found = Statement::new("SELECT template_id, service FROM templates WHERE tenant = ")
        .value(Value::Text(tenant.to_string()))
        .text(" AND merged_into = ")
        .value(Value::Long(head.0 as i64))
        .rows(db)
        .await?;
    let mut family = None;
    for row in &found {
        let service = rows::service(rows::get(row, 1)?)?;
        let family = family.get_or_insert_with(|| Family { service, members: vec![head] });
        family.members.push(rows::template_id(rows::get(row, 0)?));
    }
    Ok(family)
}

/// Shows logs with the ids of the merged patterns.
pub(super) async fn show<'a>(
    db: &Transaction<'_>,
    tenant: &Tenant,
    ids: BTreeSet<TemplateId>,
    logs: impl IntoIterator<Item = &'a mut StoredLog>,
) -> Result<(), Fault> {
    if !ids.is_empty() {
        template_aliases::show(logs, &merged_into(db, tenant, ids).await?);
    }
    Ok(())
}
