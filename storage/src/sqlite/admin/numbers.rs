//! The numbers by which people name rows of their tenant.

use rusqlite::{Connection, params};

/// Takes so many numbers of a table of a tenant, which are never given again; the first of them.
pub(crate) fn take(
    db: &Connection,
    tenant_id: i64,
    table: &str,
    count: u32,
) -> rusqlite::Result<i64> {
    db.prepare_cached(
        "INSERT INTO last_numbers AS known (tenant_id, numbered, number)
         SELECT ?1, ?2, number + ?3 FROM last_numbers WHERE tenant_id = 0 AND numbered = ?2
         ON CONFLICT (tenant_id, numbered) DO UPDATE SET number = known.number + ?3
         RETURNING number - ?3 + 1",
    )?
    .query_row(params![tenant_id, table, count], |row| row.get(0))
}
