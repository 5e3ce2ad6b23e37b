//! Reading connections: a few, on threads that may block, each used by one call at a time.
//!
//! Calls of tenants take turns at them, so that no tenant keeps another one waiting for longer than a
//! turn; what a process reads for itself has places of its own.

use std::{
    num::NonZero,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::Duration,
};

use logweir_core::{
    fairness::permits::{LineNumber, TenantPermit, TenantPermits},
    identity::Tenant,
};
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::threads::ReadThreads;
use crate::{
    StorageError,
    sqlite::{errors::Fault, files::Files},
};

/// Calls that read for one tenant at a time while no other tenant reads: as many as there are cores,
/// within this; one more finds room then.
// Each may hold a decompressed block and a page of logs. With those of the background and the process's
// own there are twelve at most.
const READERS_OF_ONE: RangeInclusive<usize> = 2..=3;
/// Calls at a time that a process reads for itself with.
const OWN_READERS_MAX: usize = 4;
/// A snapshot is let go after this, so that the write-ahead log can be cut.
const SNAPSHOT_MAX: Duration = Duration::from_secs(2);
/// A long read lets another tenant's go first after this.
const TURN: Duration = Duration::from_millis(100);

/// The pool. Clones share its connections and its places.
#[derive(Clone)]
pub(crate) struct Readers {
    files: Files,
    idle: Arc<Mutex<Vec<Connection>>>,
    places: TenantPermits,
    /// What tenants ask for is read on these; what is read in the background, for alerts, is not: it is
    /// little at a time, and must be done in time whatever comes in.
    threads: Option<Arc<ReadThreads>>,
    own_places: Arc<Semaphore>,
}

/// Who waits for a long read, so that it can stop when nobody does, and how long it may take.
pub(crate) struct Caller {
    waiting: Weak<()>,
    /// How long it may hold a snapshot.
    pub(crate) snapshot_max: Duration,
    /// Whose turn it is, and among whom.
    turn: Option<(Tenant, TenantPermits)>,
}

/// A place among the readers, and where it stands among those of its tenant.
pub(crate) struct ReaderPlace {
    permit: TenantPermit,
    number: LineNumber,
}

impl Caller {
    pub(crate) fn new(waiting: &Arc<()>, snapshot_max: Duration) -> Self {
        Self { waiting: Arc::downgrade(waiting), snapshot_max, turn: None }
    }

    /// Whether nobody waits for the result any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.waiting.strong_count() == 0
    }

    /// Whether a read should let its snapshot go after so long.
    pub(crate) fn is_to_pause(&self, after: Duration) -> bool {
        after >= self.snapshot_max || after >= TURN && self.is_awaited()
    }

    fn is_awaited(&self) -> bool {
        self.turn.as_ref().is_some_and(|(tenant, places)| places.is_awaited_by_others(tenant))
    }
}

fn tenants_places() -> TenantPermits {
    // More threads would take turns on the cores, and a short read of another tenant among them.
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let alone = cores.clamp(*READERS_OF_ONE.start(), *READERS_OF_ONE.end()) as u64;
    // With α as large as what one may have, there is one more for all.
    TenantPermits::for_one(alone, alone)
}

impl Readers {
    pub(crate) fn new(files: Files) -> Result<Self, StorageError> {
        let threads =
            ReadThreads::new().map_err(|error| StorageError::Unavailable(Box::new(error)))?;
        Ok(Self {
            files,
            idle: Arc::default(),
            places: tenants_places(),
            threads: Some(Arc::new(threads)),
            own_places: Arc::new(Semaphore::new(OWN_READERS_MAX)),
        })
    }

    /// The same connections, with places for tenants that nobody else has, and at ordinary priority.
    pub(crate) fn with_places_of_its_own(&self) -> Self {
        Self { places: tenants_places(), threads: None, ..self.clone() }
    }

    /// Runs a read that this process needs itself.
    pub(crate) async fn run_own<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &Caller) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        let acquired = Arc::clone(&self.own_places).acquire_owned().await;
        let place = acquired.map_err(|error| StorageError::Unavailable(error.into()))?;
        self.spawn(place, None, read).await.map(|(done, _)| done)
    }

    /// Runs a tenant's read in its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        tenant: &Tenant,
        read: impl FnOnce(&Connection, &Caller) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        let place = self.place(tenant).await;
        self.run_at(place, tenant, read).await.map(|(done, _)| done)
    }

    /// A place for a tenant's read, once it is its turn.
    pub(crate) async fn place(&self, tenant: &Tenant) -> ReaderPlace {
        let mut number = self.places.next_in_line();
        ReaderPlace { permit: self.places.take_at(&mut number, tenant, 1).await, number }
    }

    /// Runs a part of a tenant's read; the place comes back with what it gives.
    pub(crate) async fn run_at<T: Send + 'static>(
        &self,
        place: ReaderPlace,
        tenant: &Tenant,
        read: impl FnOnce(&Connection, &Caller) -> Result<T, Fault> + Send + 'static,
    ) -> Result<(T, ReaderPlace), StorageError> {
        self.spawn(place, Some((tenant.clone(), self.places.clone())), read).await
    }

    /// Lets other tenants' reads go first if some wait; this one goes on before those of its tenant
    /// that came later.
    pub(crate) async fn let_others_go_first(
        &self,
        place: ReaderPlace,
        tenant: &Tenant,
    ) -> ReaderPlace {
        let ReaderPlace { permit, mut number } = place;
        if !self.places.is_awaited_by_others(tenant) {
            return ReaderPlace { permit, number };
        }
        drop(permit);
        ReaderPlace { permit: self.places.take_at(&mut number, tenant, 1).await, number }
    }

    /// Runs a read on a thread, which has the place meanwhile.
    async fn spawn<T: Send + 'static, P: Send + 'static>(
        &self,
        place: P,
        turn: Option<(Tenant, TenantPermits)>,
        read: impl FnOnce(&Connection, &Caller) -> Result<T, Fault> + Send + 'static,
    ) -> Result<(T, P), StorageError> {
        // Dropped together with this future when the caller gives up, which a blocking thread
        // cannot be told in another way.
        let waiting = Arc::new(());
        let is_of_tenant = turn.is_some();
        let caller = Caller { turn, ..Caller::new(&waiting, SNAPSHOT_MAX) };
        let pool = self.clone();
        // The place is given back by the thread and not by the caller: callers that give up and ask
        // again would otherwise pile up threads that still read.
        let work = move || {
            let result = pool.with_connection(|connection| read(connection, &caller));
            let done = result.map_err(|fault| fault.into_storage_error(pool.files.directory()))?;
            Ok((done, place))
        };
        let reading = match &self.threads {
            Some(threads) if is_of_tenant => threads.spawn(work),
            // A revocation waits for no search.
            _ => tokio::task::spawn_blocking(work),
        };
        let result = reading.await.map_err(|error| StorageError::Unavailable(error.into()))?;
        drop(waiting);
        result
    }

    fn with_connection<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.files.open_reader()?,
        };
        let result = read(&connection);
        // After an error of SQLite the connection is closed: the file may have been replaced or
        // damaged, and a cached page would go on answering.
        if matches!(result, Ok(_) | Err(Fault::Answer(_))) {
            self.idle().push(connection);
        }
        result
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
