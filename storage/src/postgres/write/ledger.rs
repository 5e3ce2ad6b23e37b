//! The ledger of batches in its table, a statement for all batches of a transaction at a time.
//!
//! A batch is entered before its producer's folded sequences are read: folding takes the entry away
//! and adds to the sequences in one transaction, so that one of the two always knows the batch.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use deadpool_postgres::Transaction;
use logweir_core::{
    identity::{BatchId, ProducerId},
    record::ScoredBatch,
    timestamp::Timestamp,
};
use tokio_postgres::types::Type;

use super::producers::{Key, columns, key, lock, save, save_totals, tenant};
use crate::{
    ledger_rules::{Admission, Past, conflict_id, is_minted_lately, report_reuse},
    postgres::{
        errors::Fault,
        values::{Id, Timestamptz},
    },
    producer_totals::TotalChanges,
    ranges::{Membership, RangeSet},
};

type Folded = HashMap<Key, RangeSet>;

/// Enters the batches that were not committed before; an entry is the id that it is entered under.
pub(crate) async fn admit(
    db: &Transaction<'_>,
    batches: &[ScoredBatch],
    now: Timestamp,
    age: Duration,
) -> Result<Vec<Admission<BatchId>>, Fault> {
    // A statement must not touch a row twice, so of batches with one id the first is entered and
    // the others are compared with it. A BTreeMap, because rows are then locked by ascending key.
    let mut first: BTreeMap<Key, usize> = BTreeMap::new();
    for (position, batch) in batches.iter().enumerate() {
        first.entry((batch.tenant.clone(), batch.batch_id.0)).or_insert(position);
    }
    // Both are sent at once and save a round trip; the connection runs them one after the other,
    // and `biased` makes the entering the first (see above why it must be).
    let (entered, folded) =
        tokio::join!(biased; enter(db, batches, &first, now), folded(db, batches));
    let (entered, folded) = (entered?, folded?);
    let known = checksums(db, batches, &first, &entered).await?;

    let mut removed = Vec::new();
    let mut conflicts: BTreeMap<Key, usize> = BTreeMap::new();
    let mut admissions = Vec::with_capacity(batches.len());
    for (position, batch) in batches.iter().enumerate() {
        let key = (batch.tenant.clone(), batch.batch_id.0);
        let past = past(batch, &folded, is_minted_lately(batch.batch_id, now, age));
        if entered.contains(&position) {
            // A repeat of a batch that was folded: its entry was gone, so that it could be entered.
            // Left there it would be folded once more, and say that the batch was stored today.
            if past == Past::Committed {
                removed.push(key);
            }
            admissions.push(past.admit(batch.batch_id));
        } else if past == Past::Committed || known.get(&key) == Some(&batch.checksum) {
            admissions.push(Admission::Duplicate);
        } else {
            let id = conflict_id(batch.batch_id, batch.checksum);
            let is_first =
                *conflicts.entry((batch.tenant.clone(), id.0)).or_insert(position) == position;
            admissions.push(Admission::Conflict { entry: is_first.then_some(id) });
        }
    }
    remove(db, &removed).await?;
    let entered = enter(db, batches, &conflicts, now).await?;
    for position in conflicts.into_values().filter(|position| !entered.contains(position)) {
        admissions[position] = Admission::Conflict { entry: None };
    }
    Ok(admissions)
}

fn past(batch: &ScoredBatch, folded: &Folded, is_minted_lately: bool) -> Past {
    let Some(sent) = &batch.producer else { return Past::Unknown };
    folded
        .get(&(batch.tenant.clone(), sent.producer_id.0))
        .map_or(Past::Unknown, |folded| Past::of(folded, sent.sequence, is_minted_lately))
}

/// Enters batches under these keys; the positions of those that were not there.
async fn enter(
    db: &Transaction<'_>,
    batches: &[ScoredBatch],
    keys: &BTreeMap<Key, usize>,
    now: Timestamp,
) -> Result<HashSet<usize>, Fault> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let (tenants, ids) = columns(keys.keys());
    let entries: Vec<&ScoredBatch> = keys.values().map(|&position| &batches[position]).collect();
    let checksums: Vec<i64> = entries.iter().map(|batch| batch.checksum as i64).collect();
    let sent: Vec<_> = entries.iter().map(|batch| batch.producer.as_ref()).collect();
    let producers: Vec<Option<Id>> =
        sent.iter().map(|sent| sent.map(|sent| Id(sent.producer_id.0))).collect();
    let sequences: Vec<Option<i64>> =
        sent.iter().map(|sent| sent.map(|sent| sent.sequence as i64)).collect();
    let stored: Vec<i32> = entries.iter().map(|batch| batch.records.len() as i32).collect();
    let dead_lettered: Vec<i32> = entries.iter().map(|batch| batch.rejected.len() as i32).collect();
    let received: Vec<i64> =
        entries.iter().map(|batch| batch.received_at.as_unix_nanos()).collect();
    let (now, _) = Timestamptz::of(now);
    // One statement with arrays for all batches: one round trip, whatever their number. DO NOTHING
    // waits for another transaction that has entered the same id, and so tells a repeat that is
    // being written at this moment from a new batch.
    let rows = db
        .query_typed(
            "INSERT INTO batches (tenant, batch_id, checksum, producer_id, sequence, stored,
                                  dead_lettered, received_unix_nano, committed_at)
             SELECT *, $9 FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::uuid[], $5::bigint[],
                                      $6::int[], $7::int[], $8::bigint[])
             ON CONFLICT DO NOTHING RETURNING tenant, batch_id",
            &[
                (&tenants, Type::TEXT_ARRAY),
                (&ids, Type::UUID_ARRAY),
                (&checksums, Type::INT8_ARRAY),
                (&producers, Type::UUID_ARRAY),
                (&sequences, Type::INT8_ARRAY),
                (&stored, Type::INT4_ARRAY),
                (&dead_lettered, Type::INT4_ARRAY),
                (&received, Type::INT8_ARRAY),
                (&now, Type::TIMESTAMPTZ),
            ],
        )
        .await?;
    let mut entered = HashSet::with_capacity(rows.len());
    for row in &rows {
        entered.extend(keys.get(&key(row)?));
    }
    Ok(entered)
}

/// What the ledger holds under the keys: of batches entered now, and of those before.
async fn checksums(
    db: &Transaction<'_>,
    batches: &[ScoredBatch],
    keys: &BTreeMap<Key, usize>,
    entered: &HashSet<usize>,
) -> Result<HashMap<Key, u64>, Fault> {
    let (new, old): (Vec<_>, Vec<_>) =
        keys.iter().partition(|(_, position)| entered.contains(position));
    let mut known: HashMap<Key, u64> =
        new.into_iter().map(|(key, &position)| (key.clone(), batches[position].checksum)).collect();
    if old.is_empty() {
        return Ok(known);
    }
    let (tenants, ids) = columns(old.iter().map(|(key, _)| *key));
    let rows = db
        .query_typed(
            "SELECT tenant, batch_id, checksum FROM batches
             JOIN unnest($1::text[], $2::uuid[]) AS wanted (tenant, batch_id)
                  USING (tenant, batch_id)",
            &[(&tenants, Type::TEXT_ARRAY), (&ids, Type::UUID_ARRAY)],
        )
        .await?;
    for row in &rows {
        known.insert(key(row)?, row.try_get::<_, i64>(2)? as u64);
    }
    if known.len() < keys.len() {
        // It stood in the way of the new entry, and was folded before it could be read.
        return Err(Fault::passing("an entry of the ledger was folded just now"));
    }
    Ok(known)
}

/// The folded sequences of the batches' producers, as far as there are any.
async fn folded(db: &Transaction<'_>, batches: &[ScoredBatch]) -> Result<Folded, Fault> {
    let sent = batches.iter().filter_map(|batch| {
        batch.producer.as_ref().map(|sent| (batch.tenant.clone(), sent.producer_id.0))
    });
    let wanted: BTreeSet<Key> = sent.collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let (tenants, ids) = columns(wanted.iter());
    let rows = db
        .query_typed(
            "SELECT tenant, producer_id, folded_sequences FROM producers
             JOIN unnest($1::text[], $2::uuid[]) AS wanted (tenant, producer_id)
                  USING (tenant, producer_id)",
            &[(&tenants, Type::TEXT_ARRAY), (&ids, Type::UUID_ARRAY)],
        )
        .await?;
    let mut folded = HashMap::with_capacity(rows.len());
    for row in &rows {
        folded.insert(key(row)?, row.try_get(2)?);
    }
    Ok(folded)
}

/// Takes entries back.
async fn remove(db: &Transaction<'_>, keys: &[Key]) -> Result<(), Fault> {
    if keys.is_empty() {
        return Ok(());
    }
    let (tenants, ids) = columns(keys.iter());
    db.execute_typed(
        "DELETE FROM batches USING unnest($1::text[], $2::uuid[]) AS gone (tenant, batch_id)
         WHERE batches.tenant = gone.tenant AND batches.batch_id = gone.batch_id",
        &[(&tenants, Type::TEXT_ARRAY), (&ids, Type::UUID_ARRAY)],
    )
    .await?;
    Ok(())
}

/// What became of an admitted batch.
pub(crate) struct Settled<'a> {
    pub(crate) batch: &'a ScoredBatch,
    pub(crate) entry: BatchId,
    pub(crate) stored: u32,
    pub(crate) dead_lettered: u32,
}

/// Corrects the entries of batches of which not everything came as it was sent.
pub(crate) async fn correct(db: &Transaction<'_>, settled: &[Settled<'_>]) -> Result<(), Fault> {
    let differs = |settled: &&Settled<'_>| {
        let as_entered = (settled.batch.records.len(), settled.batch.rejected.len());
        (settled.stored as usize, settled.dead_lettered as usize) != as_entered
    };
    let changed: Vec<&Settled<'_>> = settled.iter().filter(differs).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let keys: Vec<Key> = changed.iter().map(|of| (of.batch.tenant.clone(), of.entry.0)).collect();
    let (tenants, ids) = columns(keys.iter());
    let stored: Vec<i32> = changed.iter().map(|of| of.stored as i32).collect();
    let dead_lettered: Vec<i32> = changed.iter().map(|of| of.dead_lettered as i32).collect();
    db.execute_typed(
        "UPDATE batches SET stored = of.stored, dead_lettered = of.dead_lettered
         FROM unnest($1::text[], $2::uuid[], $3::int[], $4::int[])
              AS of (tenant, batch_id, stored, dead_lettered)
         WHERE batches.tenant = of.tenant AND batches.batch_id = of.batch_id",
        &[
            (&tenants, Type::TEXT_ARRAY),
            (&ids, Type::UUID_ARRAY),
            (&stored, Type::INT4_ARRAY),
            (&dead_lettered, Type::INT4_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

/// Notes repeats of senders without an account; logs of them by tenant. What the queue hands out once
/// more is none.
pub(crate) async fn mark_repeats(
    db: &Transaction<'_>,
    repeats: &[&ScoredBatch],
) -> Result<Vec<(String, i64)>, Fault> {
    // The last one of each id: a statement must not touch a row twice.
    let mut last: BTreeMap<Key, i64> = BTreeMap::new();
    for batch in repeats.iter().filter(|batch| batch.producer.is_none()) {
        let key = (batch.tenant.clone(), batch.batch_id.0);
        let received = last.entry(key).or_insert(i64::MIN);
        *received = (*received).max(batch.received_at.as_unix_nanos());
    }
    if last.is_empty() {
        return Ok(Vec::new());
    }
    let (tenants, ids) = columns(last.keys());
    let received: Vec<i64> = last.values().copied().collect();
    let rows = db
        .query_typed(
            "WITH again AS (
                 UPDATE batches b SET received_unix_nano = of.received
                 FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS of (tenant, batch_id, received)
                 WHERE b.tenant = of.tenant AND b.batch_id = of.batch_id
                     AND coalesce(b.received_unix_nano, 0) < of.received
                 RETURNING b.tenant, b.stored + b.dead_lettered AS logs)
             SELECT tenant, sum(logs)::bigint FROM again GROUP BY tenant ORDER BY tenant",
            &[
                (&tenants, Type::TEXT_ARRAY),
                (&ids, Type::UUID_ARRAY),
                (&received, Type::INT8_ARRAY),
            ],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Adds logs that came again to the counts of their tenants, which come in ascending order.
pub(crate) async fn add_repeats(
    db: &Transaction<'_>,
    repeats: Vec<(String, i64)>,
) -> Result<(), Fault> {
    if repeats.is_empty() {
        return Ok(());
    }
    let (tenants, logs): (Vec<String>, Vec<i64>) = repeats.into_iter().unzip();
    db.execute_typed(
        "INSERT INTO repeats (tenant, logs) SELECT * FROM unnest($1::text[], $2::bigint[])
         ON CONFLICT (tenant) DO UPDATE SET logs = repeats.logs + excluded.logs",
        &[(&tenants, Type::TEXT_ARRAY), (&logs, Type::INT8_ARRAY)],
    )
    .await?;
    Ok(())
}

/// Notes what became of batches in their producers' accounts, which are locked by ascending key.
pub(crate) async fn note(db: &Transaction<'_>, settled: &[Settled<'_>]) -> Result<(), Fault> {
    let mut of_producers: BTreeMap<Key, Vec<&Settled<'_>>> = BTreeMap::new();
    for of in settled {
        if let Some(sent) = &of.batch.producer {
            of_producers.entry((of.batch.tenant.clone(), sent.producer_id.0)).or_default().push(of);
        }
    }
    if of_producers.is_empty() {
        return Ok(());
    }
    // Locked before they are read: two processors that each add to what they have read would lose
    // one of the two additions, and the account would say that logs are missing.
    let mut accounts = lock(db, &of_producers).await?;
    let mut totals = TotalChanges::default();
    for (key, settled) in &of_producers {
        let account = accounts.entry(key.clone()).or_default();
        totals.subtract(key.0.clone(), account);
        for of in settled {
            let Some(sent) = &of.batch.producer else { continue };
            if account.committed.find(sent.sequence) == Membership::In {
                report_reuse(of.batch);
            }
            account.note(of.batch, sent, of.stored, of.dead_lettered);
        }
        totals.add(key.0.clone(), account);
    }
    let (saved, added) = tokio::join!(biased; save(db, &accounts, true), save_totals(db, &totals));
    saved.and(added)
}

/// Folds old entries into their producers, a bounded number of them. Whether there is more to do.
pub(crate) async fn fold(
    db: &Transaction<'_>,
    cutoff: Timestamp,
    entries_max: i64,
) -> Result<bool, Fault> {
    let (cutoff, _) = Timestamptz::of(cutoff);
    let rows = db
        .query_typed(
            "DELETE FROM batches b USING
                 (SELECT tenant, batch_id FROM batches WHERE committed_at <= $1
                  ORDER BY committed_at LIMIT $2) AS old
             WHERE b.tenant = old.tenant AND b.batch_id = old.batch_id
             RETURNING b.tenant, b.producer_id, b.sequence",
            &[(&cutoff, Type::TIMESTAMPTZ), (&entries_max, Type::INT8)],
        )
        .await?;
    // One DELETE that returns what it took: an entry that a second statement read could be gone, or
    // have been entered anew, by the time it is deleted.
    let mut of_producers: BTreeMap<Key, Vec<u64>> = BTreeMap::new();
    for row in &rows {
        if let Some(Id(producer)) = row.try_get(1)? {
            let sequence: i64 = row.try_get(2)?;
            let key = (tenant(row)?, ProducerId(producer).0);
            of_producers.entry(key).or_default().push(sequence as u64);
        }
    }
    add_folded(db, &of_producers).await?;
    Ok(rows.len() as i64 == entries_max)
}

async fn add_folded(
    db: &Transaction<'_>,
    sequences: &BTreeMap<Key, Vec<u64>>,
) -> Result<(), Fault> {
    if sequences.is_empty() {
        return Ok(());
    }
    let (tenants, ids) = columns(sequences.keys());
    let rows = db
        .query_typed(
            "SELECT p.tenant, p.producer_id, p.folded_sequences FROM producers p
             JOIN unnest($1::text[], $2::uuid[]) AS wanted (tenant, producer_id)
                  USING (tenant, producer_id)
             ORDER BY p.tenant, p.producer_id FOR UPDATE OF p",
            &[(&tenants, Type::TEXT_ARRAY), (&ids, Type::UUID_ARRAY)],
        )
        .await?;
    // Of a producer that was forgotten meanwhile there is no row, and nothing to remember.
    let (mut tenants, mut ids, mut folded) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let key = key(row)?;
        let mut ranges: RangeSet = row.try_get(2)?;
        sequences.get(&key).into_iter().flatten().for_each(|sequence| ranges.insert(*sequence));
        tenants.push(key.0.as_str().to_owned());
        ids.push(Id(key.1));
        folded.push(ranges.to_bytes());
    }
    db.execute_typed(
        "UPDATE producers p SET folded_sequences = of.folded
         FROM unnest($1::text[], $2::uuid[], $3::bytea[]) AS of (tenant, producer_id, folded)
         WHERE p.tenant = of.tenant AND p.producer_id = of.producer_id",
        &[(&tenants, Type::TEXT_ARRAY), (&ids, Type::UUID_ARRAY), (&folded, Type::BYTEA_ARRAY)],
    )
    .await?;
    Ok(())
}
