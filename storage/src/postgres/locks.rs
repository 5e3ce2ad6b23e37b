//! What only one of all processes does at a time: locks of the database that end with the
//! transaction, so that they work through PgBouncer and go with a process that dies.

use deadpool_postgres::Transaction;
use tokio_postgres::types::Type;

use super::errors::Fault;

/// "logweir" as a number, so that other programs' locks are others.
const SPACE: i32 = 0x6c6f_6777;

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lock {
    Migrate = 1,
    Partition = 2,
    Maintain = 3,
    Templates = 4,
    TakeJob = 5,
}

/// Waits until nobody else does it.
pub(super) async fn wait(db: &Transaction<'_>, lock: Lock) -> Result<(), Fault> {
    // `xact`: a lock of the session would stay with one of PgBouncer's connections when the
    // transaction is over, and nobody would get it again while that connection lives.
    let key = lock as i32;
    let keys = [(&SPACE as _, Type::INT4), (&key as _, Type::INT4)];
    // The whole answer of a function without a result is an empty text.
    db.execute_typed("SELECT pg_advisory_xact_lock($1, $2)", &keys).await?;
    Ok(())
}

/// Whether nobody else does it.
pub(super) async fn try_take(db: &Transaction<'_>, lock: Lock) -> Result<bool, Fault> {
    let key = lock as i32;
    let keys = [(&SPACE as _, Type::INT4), (&key as _, Type::INT4)];
    let row = db.query_typed_one("SELECT pg_try_advisory_xact_lock($1, $2)", &keys).await?;
    Ok(row.try_get(0)?)
}
