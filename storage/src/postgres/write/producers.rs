//! The producers' accounts in their table, and the sums of each service's.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use logweir_core::{identity::Tenant, record::Account, timestamp::Timestamp};
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql, Type},
};

use crate::{
    ledger_rules::{ProducerAccount, dropped_to_json},
    postgres::{errors::Fault, texts::readable, values::Id},
    producer_totals::{FIGURES, TotalChanges, too_many},
    ranges::RangeSet,
};

/// A producer's key, or a batch's.
pub(super) type Key = (Tenant, [u8; 16]);

/// The accounts, for this transaction alone; new ones are made first.
pub(super) async fn lock<T>(
    db: &Transaction<'_>,
    wanted: &BTreeMap<Key, T>,
) -> Result<BTreeMap<Key, ProducerAccount>, Fault> {
    let (tenants, ids) = columns(wanted.keys());
    let values = [(&tenants as _, Type::TEXT_ARRAY), (&ids as _, Type::UUID_ARRAY)];
    // Producers are made here and not when their batches are entered: one whose batches are all
    // repeats needs no row. Another processor may make the same one now; the select then finds it.
    let create = db.execute_typed(
        "INSERT INTO producers (tenant, producer_id, service, instance, sdk, sequence, emitted, dropped,
             rejected_seen, queued, spooled, stored, dead_lettered, committed_sequences,
             folded_sequences, last_received_unix_nano)
         SELECT tenant, producer_id, '', '', '', 0, 0, '[]', 0, 0, 0, 0, 0, '', '', 0
         FROM unnest($1::text[], $2::uuid[]) AS wanted (tenant, producer_id)
         WHERE NOT EXISTS (SELECT FROM producers known WHERE known.tenant = wanted.tenant
                                                       AND known.producer_id = wanted.producer_id)
         ON CONFLICT DO NOTHING",
        &values,
    );
    let select = format!(
        "SELECT {ACCOUNT_COLUMNS}
         FROM producers p JOIN unnest($1::text[], $2::uuid[]) AS wanted (tenant, producer_id)
              USING (tenant, producer_id)
         ORDER BY p.tenant, p.producer_id FOR UPDATE OF p"
    );
    let select = db.query_typed(&select, &values);
    let (created, rows) = tokio::join!(biased; create, select);
    created?;
    let mut accounts = BTreeMap::new();
    for row in &rows? {
        accounts.insert(key(row)?, account(row)?);
    }
    if accounts.len() < wanted.len() {
        return Err(Fault::passing("a producer long silent was forgotten just now"));
    }
    Ok(accounts)
}

/// The key of a producer `p`, and what [`account`] reads.
const ACCOUNT_COLUMNS: &str = "p.tenant, p.producer_id, p.sequence, p.service, p.instance, p.sdk,
    p.emitted, p.dropped, p.rejected_seen, p.queued, p.spooled, p.stored, p.dead_lettered,
    p.committed_sequences, p.last_received_unix_nano";

fn account(row: &Row) -> Result<ProducerAccount, Fault> {
    let bits = |column| row.try_get(column).map(|number: i64| number as u64);
    let dropped: &str = row.try_get(7)?;
    Ok(ProducerAccount {
        sequence: bits(2)?,
        service: row.try_get(3)?,
        instance: row.try_get(4)?,
        sdk: row.try_get(5)?,
        account: Account {
            emitted: bits(6)?,
            dropped: serde_json::from_str(dropped)
                .map_err(|error| Fault::corrupt(format!("a producer's drops: {error}")))?,
            rejected: bits(8)?,
            queued: bits(9)?,
            spooled: bits(10)?,
        },
        stored: bits(11)?,
        dead_lettered: bits(12)?,
        committed: row.try_get(13)?,
        last_received: Timestamp::from_unix_nanos(row.try_get(14)?),
    })
}

pub(super) async fn save(
    db: &Transaction<'_>,
    accounts: &BTreeMap<Key, ProducerAccount>,
    is_listed: bool,
) -> Result<(), Fault> {
    let (tenants, ids) = columns(accounts.keys());
    let texts = |of: fn(&ProducerAccount) -> &str| -> Vec<String> {
        accounts.values().map(|account| readable(of(account)).into_owned()).collect()
    };
    let numbers = |of: fn(&ProducerAccount) -> u64| -> Vec<i64> {
        accounts.values().map(|account| of(account) as i64).collect()
    };
    let dropped: Vec<String> =
        accounts.values().map(|account| dropped_to_json(&account.account.dropped)).collect();
    let committed: Vec<Vec<u8>> =
        accounts.values().map(|account| account.committed.to_bytes()).collect();
    let received: Vec<i64> =
        accounts.values().map(|account| account.last_received.as_unix_nanos()).collect();
    db.execute_typed(
        "UPDATE producers p SET service = of.service, instance = of.instance, sdk = of.sdk,
             sequence = of.sequence, emitted = of.emitted, dropped = of.dropped,
             rejected_seen = of.rejected_seen, queued = of.queued, spooled = of.spooled,
             stored = of.stored, dead_lettered = of.dead_lettered,
             committed_sequences = of.committed, last_received_unix_nano = of.received,
             is_listed = $16
         FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[],
                     $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[],
                     $12::bigint[], $13::bigint[], $14::bytea[], $15::bigint[])
              AS of (tenant, producer_id, service, instance, sdk, sequence, emitted, dropped,
                     rejected_seen, queued, spooled, stored, dead_lettered, committed, received)
         WHERE p.tenant = of.tenant AND p.producer_id = of.producer_id",
        &[
            (&tenants, Type::TEXT_ARRAY),
            (&ids, Type::UUID_ARRAY),
            (&texts(|account| &account.service), Type::TEXT_ARRAY),
            (&texts(|account| &account.instance), Type::TEXT_ARRAY),
            (&texts(|account| &account.sdk), Type::TEXT_ARRAY),
            (&numbers(|account| account.sequence), Type::INT8_ARRAY),
            (&numbers(|account| account.account.emitted), Type::INT8_ARRAY),
            (&dropped, Type::TEXT_ARRAY),
            (&numbers(|account| account.account.rejected), Type::INT8_ARRAY),
            (&numbers(|account| account.account.queued), Type::INT8_ARRAY),
            (&numbers(|account| account.account.spooled), Type::INT8_ARRAY),
            (&numbers(|account| account.stored), Type::INT8_ARRAY),
            (&numbers(|account| account.dead_lettered), Type::INT8_ARRAY),
            (&committed, Type::BYTEA_ARRAY),
            (&received, Type::INT8_ARRAY),
            (&is_listed, Type::BOOL),
        ],
    )
    .await?;
    Ok(())
}

/// Changes the sums of services. Rows are locked by ascending key, after those of the accounts.
pub(super) async fn save_totals(
    db: &Transaction<'_>,
    changes: &TotalChanges<Tenant>,
) -> Result<(), Fault> {
    if changes.is_empty() {
        return Ok(());
    }
    let (tenants, services): (Vec<&str>, Vec<&str>) =
        changes.iter().map(|((tenant, service), _)| (tenant.as_str(), service.as_str())).unzip();
    let columns: [Vec<i64>; FIGURES.len()] =
        std::array::from_fn(|figure| changes.iter().map(|(_, figures)| figures[figure]).collect());
    let sums = FIGURES.map(|figure| format!("{figure} = known.{figure} + excluded.{figure}"));
    let statement = format!(
        "INSERT INTO producer_totals AS known (tenant, service, {})
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
                              $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
         ON CONFLICT (tenant, service) DO UPDATE SET {}",
        FIGURES.join(", "),
        sums.join(", "),
    );
    let mut values: Vec<(&(dyn ToSql + Sync), Type)> =
        vec![(&tenants, Type::TEXT_ARRAY), (&services, Type::TEXT_ARRAY)];
    values.extend(columns.iter().map(|column| (column as _, Type::INT8_ARRAY)));
    db.execute_typed(&statement, &values).await?;
    Ok(())
}

/// Adds the accounts up anew. A process of the version before sums came changes accounts without them.
pub(crate) async fn sum_anew(db: &Transaction<'_>) -> Result<(), Fault> {
    // Whoever has changed accounts, and not yet the sums, waits here; so none is read whose change of
    // the sums is still to come.
    db.batch_execute(
        "LOCK TABLE producer_totals IN EXCLUSIVE MODE;
         DELETE FROM producer_totals;
         INSERT INTO producer_totals SELECT * FROM producer_sums",
    )
    .await?;
    Ok(())
}

/// Forgets producers not heard of since a moment, a bounded number of them. Those in use just now are
/// left for the next time. Whether there is more to do.
pub(crate) async fn forget_silent(
    db: &Transaction<'_>,
    cutoff: Timestamp,
    producers_max: i64,
) -> Result<bool, Fault> {
    let statement = format!(
        "DELETE FROM producers p WHERE (tenant, producer_id) IN
             (SELECT tenant, producer_id FROM producers WHERE last_received_unix_nano < $1
              LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING {ACCOUNT_COLUMNS}"
    );
    let values = [(&cutoff.as_unix_nanos() as _, Type::INT8), (&producers_max as _, Type::INT8)];
    let rows = db.query_typed(&statement, &values).await?;
    let mut totals = TotalChanges::default();
    for row in &rows {
        totals.subtract(tenant(row)?, &account(row)?);
    }
    save_totals(db, &totals).await?;
    Ok(rows.len() as i64 == producers_max)
}

/// Takes the producers that were silent for longest off the list, where there are too many; the sums
/// stay as they are. Whether there is more to do.
pub(crate) async fn unlist(db: &Transaction<'_>) -> Result<bool, Fault> {
    let listed = db
        .query_typed(
            "SELECT tenant, service, count(*) FROM producers WHERE is_listed
             GROUP BY tenant, service ORDER BY tenant, service",
            &[],
        )
        .await?;
    let counted = |row: &Row| {
        let count: i64 = row.try_get(2)?;
        Ok((tenant(row)?, row.try_get(1)?, count.unsigned_abs() as usize))
    };
    let listed = listed.iter().map(counted).collect::<Result<Vec<_>, Fault>>()?;
    let Some(unlisted) = too_many(&listed) else { return Ok(false) };
    // Those in use just now are not idle.
    let select = format!(
        "SELECT {ACCOUNT_COLUMNS} FROM producers p
         WHERE is_listed AND tenant = $1 AND ($2 IS NULL OR service = $2)
         ORDER BY last_received_unix_nano LIMIT $3 FOR UPDATE SKIP LOCKED"
    );
    let values = [
        (&unlisted.tenant.as_str() as _, Type::TEXT),
        (&unlisted.service as _, Type::TEXT),
        (&(unlisted.count as i64) as _, Type::INT8),
    ];
    let mut accounts = BTreeMap::new();
    for row in &db.query_typed(&select, &values).await? {
        let mut account = account(row)?;
        account.unlist();
        accounts.insert(key(row)?, account);
    }
    save(db, &accounts, false).await?;
    Ok(!accounts.is_empty())
}

pub(super) fn columns<'a>(keys: impl Iterator<Item = &'a Key>) -> (Vec<&'a str>, Vec<Id>) {
    keys.map(|(tenant, id)| (tenant.as_str(), Id(*id))).unzip()
}

/// The first two columns.
pub(super) fn key(row: &Row) -> Result<Key, Fault> {
    let Id(id) = row.try_get(1)?;
    Ok((tenant(row)?, id))
}

pub(super) fn tenant(row: &Row) -> Result<Tenant, Fault> {
    Tenant::new(row.try_get(0)?).map_err(|error| Fault::corrupt(error.to_string()))
}

impl<'a> FromSql<'a> for RangeSet {
    fn from_sql(
        _: &Type,
        bytes: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Self::from_bytes(bytes).ok_or_else(|| "the ranges of sequences are damaged".into())
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::BYTEA
    }
}
