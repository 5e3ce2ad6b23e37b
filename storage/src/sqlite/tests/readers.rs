//! How readers are shared.

use std::time::Duration;

use futures::FutureExt as _;
use logweir_core::identity::Tenant;

use super::*;
use crate::sqlite::read::readers::ReaderPlace;

fn other() -> Tenant {
    Tenant::new("other").unwrap()
}

/// All places that a tenant gets at once.
fn take_all(storage: &SqliteStorage, tenant: &Tenant) -> Vec<ReaderPlace> {
    std::iter::from_fn(|| storage.readers.place(tenant).now_or_never()).collect()
}

#[tokio::test]
async fn what_one_tenant_reads_keeps_neither_another_nor_the_process_waiting() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    store(&storage, &[batch(1, "payments", 3, Duration::ZERO)]).await;
    let held = take_all(&storage, &other());
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(held.len(), cores.clamp(2, 3));
    assert!(storage.list_services(&other()).now_or_never().is_none(), "one more waits");
    assert_eq!(search_all(&storage, &tenant(), "", 10).await.len(), 3);
    storage.list_tokens(&tenant()).await.unwrap();
    storage.revoked_token_ids(NOW).await.unwrap();
    storage.for_background().list_services(&other()).await.unwrap();
    drop(held);
    storage.list_services(&other()).await.unwrap();
}

/// What tenants ask for must not keep the processor from what brings logs, or judges them in time.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn only_what_tenants_ask_for_is_read_at_a_lower_priority() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let niceness = |_: &Connection, _: &Caller| {
        Ok(rustix::process::getpriority_process(None).expect("Linux has one for each thread"))
    };
    let own = rustix::process::getpriority_process(None).unwrap();
    assert!(storage.readers.run(&other(), niceness).await.unwrap() > own);
    assert_eq!(storage.readers.run_own(niceness).await.unwrap(), own);
    let background = storage.for_background();
    assert_eq!(background.readers.run(&other(), niceness).await.unwrap(), own);
}

#[tokio::test]
async fn a_long_read_lets_others_go_first_and_then_goes_on_before_its_own() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).unwrap();
    let other = &other();
    let (readers, long) = (&storage.readers, Duration::from_secs(1));
    let mut held = take_all(&storage, other);
    let paused = |place, after| async move {
        let is_to_pause = move |_: &Connection, caller: &Caller| Ok(caller.is_to_pause(after));
        readers.run_at(place, other, is_to_pause).await.unwrap()
    };
    let (is_to_pause, place) = paused(held.pop().unwrap(), long).await;
    assert!(!is_to_pause, "nobody waits");
    // Two more tenants: the first takes the place that is left, the second waits.
    let (third, fourth) = (Tenant::new("third").unwrap(), Tenant::new("fourth").unwrap());
    let of_third = readers.place(&third).now_or_never();
    let mut waiting = Box::pin(readers.place(&fourth));
    assert!((&mut waiting).now_or_never().is_none());
    let mut later = Box::pin(readers.place(other));
    assert!((&mut later).now_or_never().is_none());
    let (is_to_pause, place) = paused(place, Duration::ZERO).await;
    assert!(!is_to_pause, "it has not had its turn");
    let (is_to_pause, place) = paused(place, long).await;
    assert!(is_to_pause);
    let mut going_on = Box::pin(readers.let_others_go_first(place, other));
    assert!((&mut going_on).now_or_never().is_none());
    let of_fourth = (&mut waiting).now_or_never();
    assert!(of_fourth.is_some(), "the other tenant had its turn");
    drop((of_third, of_fourth));
    assert!((&mut later).now_or_never().is_none());
    assert!(going_on.now_or_never().is_some(), "it came before what is later");
}
