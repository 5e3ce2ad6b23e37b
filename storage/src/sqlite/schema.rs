//! Numbered migrations; the number of the last one applied is the database's `user_version`. A
//! database that has the number but not the tables, because a program that was never released made
//! it or somebody changed it, is refused when it is opened: every write to it would fail for ever.

use std::collections::BTreeSet;

use rusqlite::{Connection, TransactionBehavior};

use super::errors::Fault;
use crate::StorageError;

pub(super) const MIGRATIONS: [&str; 14] = [
    include_str!("../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../migrations/sqlite/0002_heartbeats.sql"),
    include_str!("../../migrations/sqlite/0003_template_aliases.sql"),
    include_str!("../../migrations/sqlite/0004_models.sql"),
    include_str!("../../migrations/sqlite/0005_findings.sql"),
    include_str!("../../migrations/sqlite/0006_alerts.sql"),
    include_str!("../../migrations/sqlite/0007_job_kinds.sql"),
    include_str!("../../migrations/sqlite/0008_incident_tracking.sql"),
    include_str!("../../migrations/sqlite/0009_tenants.sql"),
    include_str!("../../migrations/sqlite/0010_producers.sql"),
    include_str!("../../migrations/sqlite/0011_numbers.sql"),
    include_str!("../../migrations/sqlite/0012_bulk.sql"),
    include_str!("../../migrations/sqlite/0013_bucket_usage.sql"),
    include_str!("../../migrations/sqlite/0014_repeats.sql"),
];

/// The version that this program knows.
const KNOWN: u32 = MIGRATIONS.len() as u32;

/// All that statements depend on, a line each: columns with type, constraint and place in the key,
/// indices with their columns, and triggers.
const SHAPE: &str = "
    SELECT format('column %s.%s %s%s%s%s', m.name, c.name, c.type, iif(c.\"notnull\", ' NOT NULL', ''),
                  iif(c.pk, ' key ' || c.pk, ''),
                  iif(c.pk AND m.sql LIKE '%AUTOINCREMENT%', ' AUTOINCREMENT', ''))
    FROM sqlite_schema m JOIN pragma_table_xinfo(m.name) c WHERE m.type = 'table'
    UNION ALL
    SELECT format('%s %s ON %s %s', iif(l.\"unique\", 'unique index', 'index'), l.name, m.name,
                  group_concat(c.name))
    FROM sqlite_schema m JOIN pragma_index_list(m.name) l JOIN pragma_index_info(l.name) c
    WHERE m.type = 'table' GROUP BY m.name, l.name
    UNION ALL
    SELECT format('trigger %s ON %s', name, tbl_name) FROM sqlite_schema WHERE type = 'trigger'";

/// Brings the database to the known version and makes sure that it has the shape of that version.
/// Several processes may do so at once.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), Fault> {
    migrate(connection)?;
    check(connection)
}

/// Each step in a transaction of its own; refuses a newer version.
fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    if version(connection)? == KNOWN {
        return Ok(());
    }
    for (number, sql) in (1..).zip(MIGRATIONS) {
        // The version is read again under the write lock: another process may have taken this step
        // while this one waited for it, and a table cannot be created twice.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found = version(&transaction)?;
        if found > KNOWN {
            return Err(StorageError::NewerSchema { found, known: KNOWN }.into());
        }
        if found < number {
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", number)?;
            transaction.commit()?;
        }
    }
    Ok(())
}

/// Compares with what the migrations make of an empty database. What somebody added is let be.
pub(super) fn check(connection: &Connection) -> Result<(), Fault> {
    // The migrations are the only description of the shape: a list beside them could disagree.
    let mut model = Connection::open_in_memory()?;
    migrate(&mut model)?;
    let found = shape(connection)?;
    match shape(&model)?.difference(&found).next() {
        None => Ok(()),
        Some(missing) => Err(StorageError::OtherSchema { missing: missing.clone() }.into()),
    }
}

fn shape(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    connection.prepare(SHAPE)?.query_map([], |row| row.get(0))?.collect()
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_again_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(version(&connection).unwrap(), KNOWN);
    }

    #[test]
    fn the_version_with_another_shape_is_refused() {
        for (change, missing) in [
            ("ALTER TABLE blocks DROP COLUMN made_unix_seconds", "column blocks.made_unix_seconds"),
            ("DROP TABLE tokens", "column tokens."),
            ("DROP INDEX blocks_by_end", "index blocks_by_end ON blocks time_max_unix_nano"),
            ("DROP TRIGGER blocks_added", "trigger blocks_added ON blocks"),
            (
                "ALTER TABLE tenants RENAME COLUMN name TO title",
                "column tenants.name TEXT NOT NULL",
            ),
        ] {
            let mut connection = Connection::open_in_memory().unwrap();
            prepare(&mut connection).unwrap();
            connection.execute_batch(change).unwrap();
            match prepare(&mut connection) {
                Err(Fault::Answer(StorageError::OtherSchema { missing: found })) => {
                    assert!(found.starts_with(missing), "{change}: {found}");
                }
                other => panic!("{change}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_somebody_added_is_let_be() {
        let mut connection = Connection::open_in_memory().unwrap();
        prepare(&mut connection).unwrap();
        let added = "CREATE INDEX own ON services (name); CREATE TABLE notes (text); ANALYZE;";
        connection.execute_batch(added).unwrap();
        prepare(&mut connection).unwrap();
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", KNOWN + 1).unwrap();
        let refused = migrate(&mut connection);
        assert!(matches!(
            refused,
            Err(Fault::Answer(StorageError::NewerSchema { found, known })) if found == known + 1
        ));
    }
}
