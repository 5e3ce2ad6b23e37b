//! What processes have resident.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::interval;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Bytes that all of the processes have resident now.
pub(super) fn resident_bytes(process_ids: &[u32]) -> u64 {
    process_ids.iter().map(|id| resident_bytes_of(*id)).sum()
}

fn resident_bytes_of(process_id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process_id}/status"));
    let status = status.expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("it has a size");
    kibibytes.parse::<u64>().expect("it is a number") << 10
}

/// The most that they had while this was looked at.
#[derive(Clone, Default)]
pub(super) struct Peak(Arc<AtomicU64>);

impl Peak {
    /// Looks until it is dropped.
    pub(super) async fn watch(self, process_ids: Vec<u32>) {
        let mut looks = interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            self.0.fetch_max(resident_bytes(&process_ids), Ordering::Relaxed);
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
