//! Numbered migrations; the number of the last one applied is the database's `user_version`.

use rusqlite::{Connection, TransactionBehavior};

use super::faults::Fault;
use crate::StorageError;

const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/sqlite/0001_initial.sql")];

/// The version that this program knows.
const KNOWN: u32 = MIGRATIONS.len() as u32;

/// Brings the database to the known version, each step in a transaction of its own, and refuses a
/// newer one. Several processes may do so at once.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    if version(connection)? == KNOWN {
        return Ok(());
    }
    for (number, sql) in (1..).zip(MIGRATIONS) {
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
