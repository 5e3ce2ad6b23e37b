//! Values as the tables hold them.

use logweir_core::timestamp::Timestamp;
use rusqlite::Row;

/// A column with nanoseconds since 1970.
pub(crate) fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_unix_nanos)
}

/// A column with nanoseconds since 1970, or null.
pub(crate) fn maybe_timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_unix_nanos))
}
