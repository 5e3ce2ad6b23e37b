//! The producers' accounts in their table, and the sums of each service's.

use logweir_core::{
    record::{Account, Producer},
    timestamp::Timestamp,
};
use rusqlite::{
    Connection, OptionalExtension, Row, ToSql, params, params_from_iter,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use crate::{
    ledger_rules::{ProducerAccount, dropped_to_json},
    producer_totals::{FIGURES, TotalChanges, Unlisted, too_many},
    ranges::RangeSet,
    sqlite::{errors::Fault, read::rows},
};

/// Changes the sums of services; what would go beyond 64 bits stays at the largest number.
pub(super) fn save_totals(db: &Connection, changes: &TotalChanges<i64>) -> rusqlite::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let sums = FIGURES.map(|figure| format!("{figure} = {figure} + excluded.{figure}"));
    let mut upsert = db.prepare_cached(&format!(
        "INSERT INTO producer_totals (tenant_id, service, {})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO UPDATE SET {}",
        FIGURES.join(", "),
        sums.join(", "),
    ))?;
    for ((tenant_id, service), figures) in changes.iter() {
        let keys: [&dyn ToSql; 2] = [tenant_id, service];
        let values = keys.into_iter().chain(figures.iter().map(|figure| figure as &dyn ToSql));
        upsert.execute(params_from_iter(values))?;
    }
    Ok(())
}

/// A row of `producers`.
pub(super) struct ProducerRow {
    pub(super) key: i64,
    pub(super) account: ProducerAccount,
    pub(super) folded: RangeSet,
    pub(super) changed: bool,
}

impl ProducerRow {
    pub(super) fn save(&self, db: &Connection, is_listed: bool) -> rusqlite::Result<()> {
        db.prepare_cached(
            "UPDATE producers SET service = ?2, instance = ?3, sdk = ?4, sequence = ?5, emitted = ?6,
                 dropped = ?7, rejected_seen = ?8, queued = ?9, spooled = ?10, stored = ?11,
                 dead_lettered = ?12, committed_sequences = ?13, last_received_unix_nano = ?14,
                 is_listed = ?15
             WHERE producer_key = ?1",
        )?
        .execute(params![
            self.key,
            self.account.service,
            self.account.instance,
            self.account.sdk,
            self.account.sequence as i64,
            self.account.account.emitted as i64,
            dropped_to_json(&self.account.account.dropped),
            self.account.account.rejected as i64,
            self.account.account.queued as i64,
            self.account.account.spooled as i64,
            self.account.stored as i64,
            self.account.dead_lettered as i64,
            self.account.committed,
            self.account.last_received.as_unix_nanos(),
            is_listed,
        ])?;
        Ok(())
    }
}

/// The row of a producer, made if there is none.
pub(super) fn load(db: &Connection, tenant_id: i64, sent: &Producer) -> Result<ProducerRow, Fault> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {ACCOUNT_COLUMNS}, producer_key, folded_sequences FROM producers
         WHERE tenant_id = ?1 AND producer_id = ?2"
    ))?;
    let found =
        select.query_row(params![tenant_id, sent.producer_id.0], producer_row).optional()?;
    match found {
        Some(row) => Ok(row),
        None => create(db, tenant_id, sent),
    }
}

/// After [`ACCOUNT_COLUMNS`] come the key and the folded sequences.
fn producer_row(row: &Row<'_>) -> rusqlite::Result<ProducerRow> {
    let (account, key, folded) = (account(row)?, row.get(13)?, row.get(14)?);
    Ok(ProducerRow { key, account, folded, changed: false })
}

/// What [`account`] reads.
const ACCOUNT_COLUMNS: &str = "sequence, service, instance, sdk, emitted, dropped, rejected_seen,
    queued, spooled, stored, dead_lettered, committed_sequences, last_received_unix_nano";

fn account(row: &Row<'_>) -> rusqlite::Result<ProducerAccount> {
    // SQLite's integers have a sign. A producer may count to the end of 64 bits, so the bits are
    // kept as they are; nothing is ever compared with them in SQL.
    let bits = |column| row.get(column).map(|number: i64| number as u64);
    Ok(ProducerAccount {
        sequence: bits(0)?,
        service: row.get(1)?,
        instance: row.get(2)?,
        sdk: row.get(3)?,
        account: Account {
            emitted: bits(4)?,
            dropped: row.get::<_, Dropped>(5)?.0,
            rejected: bits(6)?,
            queued: bits(7)?,
            spooled: bits(8)?,
        },
        stored: bits(9)?,
        dead_lettered: bits(10)?,
        committed: row.get(11)?,
        last_received: rows::timestamp(row, 12)?,
    })
}

/// Deletes the rows of producers not heard of since a moment, a bounded number of them. Whether there
/// is more to do.
pub(crate) fn forget_silent(
    db: &Connection,
    cutoff: Timestamp,
    producers_max: usize,
) -> rusqlite::Result<bool> {
    let mut delete = db.prepare_cached(&format!(
        "DELETE FROM producers WHERE producer_key IN
             (SELECT producer_key FROM producers WHERE last_received_unix_nano < ?1
              ORDER BY last_received_unix_nano LIMIT ?2)
         RETURNING {ACCOUNT_COLUMNS}, tenant_id"
    ))?;
    let mut rows = delete.query(params![cutoff.as_unix_nanos(), producers_max])?;
    let (mut totals, mut count) = (TotalChanges::default(), 0);
    while let Some(row) = rows.next()? {
        totals.subtract(row.get(13)?, &account(row)?);
        count += 1;
    }
    save_totals(db, &totals)?;
    Ok(count == producers_max)
}

/// Whose producers are too many to be listed.
pub(crate) fn too_many_producers(db: &Connection) -> rusqlite::Result<Option<Unlisted<i64>>> {
    let mut select = db.prepare_cached(
        "SELECT tenant_id, service, count(*) FROM producers WHERE is_listed = 1
         GROUP BY tenant_id, service",
    )?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(too_many(&rows.collect::<Result<Vec<_>, _>>()?))
}

/// Takes the producers that were silent for longest off the list; the sums stay as they are.
pub(crate) fn unlist(db: &Connection, unlisted: &Unlisted<i64>) -> rusqlite::Result<()> {
    // Which ones, the index alone says: what is sorted must not be whole accounts, of kilobytes each.
    let mut select = db.prepare_cached(&format!(
        "SELECT {ACCOUNT_COLUMNS}, producer_key, folded_sequences FROM producers
         WHERE producer_key IN
             (SELECT producer_key FROM producers INDEXED BY producers_listed
              WHERE is_listed = 1 AND tenant_id = ?1 AND (?2 IS NULL OR service = ?2)
              ORDER BY last_received_unix_nano LIMIT ?3)"
    ))?;
    let of = params![unlisted.tenant, unlisted.service, unlisted.count];
    let rows: Vec<ProducerRow> = select.query_map(of, producer_row)?.collect::<Result<_, _>>()?;
    for mut row in rows {
        row.account.unlist();
        row.save(db, false)?;
    }
    Ok(())
}

/// Adds the row of a producer that was not heard of, so that the ledger may refer to its key.
fn create(db: &Connection, tenant_id: i64, sent: &Producer) -> Result<ProducerRow, Fault> {
    // An empty service and a time of 0 until its account is saved. Where its first batch comes to
    // nothing they stay: reports pass over the row, and upkeep deletes it like a silent producer.
    let key = db
        .prepare_cached(
            "INSERT INTO producers (tenant_id, producer_id, service, instance, sdk, sequence, emitted,
                 dropped, rejected_seen, queued, spooled, stored, dead_lettered,
                 committed_sequences, folded_sequences, last_received_unix_nano)
             VALUES (?1, ?2, '', '', '', 0, 0, '[]', 0, 0, 0, 0, 0, x'', x'', 0)",
        )?
        .insert(params![tenant_id, sent.producer_id.0])?;
    let (account, folded) = (ProducerAccount::default(), RangeSet::default());
    Ok(ProducerRow { key, account, folded, changed: false })
}

impl ToSql for RangeSet {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_bytes().into())
    }
}

impl FromSql for RangeSet {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let damaged = || FromSqlError::Other("the ranges of sequences are damaged".into());
        Self::from_bytes(value.as_blob()?).ok_or_else(damaged)
    }
}

/// The drops of an account as read from the table.
pub(crate) struct Dropped(pub(crate) Vec<(String, u64)>);

impl FromSql for Dropped {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let dropped = serde_json::from_str(value.as_str()?);
        dropped.map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}
