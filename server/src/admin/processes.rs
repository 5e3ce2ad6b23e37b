//! The processes of the installation: this one says that it lives, and the admin service
//! lists all that do.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use logweir_core::{
    runtime::identity::{BEAT_EVERY, DEAD_AFTER, ProcessIdentity},
    timestamp::Timestamp,
};
use logweir_proto::v1;
use logweir_storage::{Heartbeat, LiveProcess, Storage};
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::status::Refusal;

const SILENT_SECONDS_DEFAULT: u32 = 60;
const SILENT_SECONDS_MAX: u32 = 86_400;

/// Says that this process lives until it stops; then nobody need wait for its silence.
pub(crate) async fn beat(
    identity: ProcessIdentity,
    storage: Arc<dyn Storage>,
    load: impl Fn() -> f64,
    stop: CancellationToken,
) {
    loop {
        let heartbeat = Heartbeat {
            process_id: identity.process_id.clone(),
            kind: identity.kind.to_owned(),
            host: identity.host.clone(),
            version: identity.version().to_owned(),
            started_at: identity.started_at,
            partitions: Vec::new(),
            committed_through: None,
            regular_committed_through: None,
            bulk_tenants: Vec::new(),
            load: load(),
        };
        // A heartbeat that fails is only told: the process still serves, and the next one says the
        // same again.
        if let Err(error) = storage.beat(heartbeat).await {
            counter!("logweir_heartbeats_failed_total").increment(1);
            warn!(%error, "storage does not know that this process lives");
        }
        if tokio::time::timeout(BEAT_EVERY, stop.cancelled()).await.is_ok() {
            break;
        }
    }
    // Signed off, so that alerts about silent processes and the sharing of partitions need not wait
    // until it counts as dead.
    if let Err(error) = storage.forget_process(&identity.process_id).await {
        warn!(%error, "storage will take this process for silent, not for ended");
    }
}

/// How long a process may have been silent to be listed.
pub(crate) fn silence_max(seconds: u32) -> Result<Duration, Refusal> {
    match seconds {
        0 => Ok(Duration::from_secs(SILENT_SECONDS_DEFAULT.into())),
        1..=SILENT_SECONDS_MAX => Ok(Duration::from_secs(seconds.into())),
        _ => {
            let why = format!("is {seconds}, the limit is {SILENT_SECONDS_MAX}");
            Err(Refusal::invalid("silent_seconds_max", why))
        }
    }
}

/// What is answered about the processes of a queue with so many partitions.
pub(crate) fn listed(
    processes: Vec<LiveProcess>,
    partitions: u16,
    now: Timestamp,
) -> v1::ListProcessesResponse {
    let living = processes.iter().filter(|process| process.age <= DEAD_AFTER);
    let owned: BTreeSet<u16> =
        living.flat_map(|process| process.heartbeat.partitions.iter().copied()).collect();
    let unowned = (0..partitions).filter(|partition| !owned.contains(partition));
    v1::ListProcessesResponse {
        unowned_partitions: unowned.map(u32::from).collect(),
        processes: processes.into_iter().map(|one| process(one, now)).collect(),
    }
}

/// The same for a tenant that does not run the installation: not on which machines it runs, nor how
/// much work all tenants together give it, which would tell one how busy the others are.
pub(crate) fn without_work(answer: v1::ListProcessesResponse) -> v1::ListProcessesResponse {
    let processes = answer.processes.into_iter().map(|process| v1::Process {
        host: String::new(),
        committed_unix_nano: None,
        lag_ms: None,
        load: 0.0,
        ..process
    });
    v1::ListProcessesResponse { processes: processes.collect(), ..answer }
}

fn process(LiveProcess { heartbeat, age }: LiveProcess, now: Timestamp) -> v1::Process {
    // How far it was behind when it last said so, and not until now: for a process that is silent
    // the time since then is its silence, which is shown beside it.
    let said_at = now - age;
    let lag_ms = |committed: Timestamp| said_at.since(committed).as_millis() as u64;
    v1::Process {
        process_id: heartbeat.process_id,
        kind: heartbeat.kind,
        host: heartbeat.host,
        version: heartbeat.version,
        started_unix_nano: heartbeat.started_at.as_unix_nanos(),
        silent_ms: age.as_millis() as u64,
        alive: age <= DEAD_AFTER,
        partitions: heartbeat.partitions.into_iter().map(u32::from).collect(),
        committed_unix_nano: heartbeat.committed_through.map(Timestamp::as_unix_nanos),
        lag_ms: heartbeat.committed_through.map(lag_ms),
        load: heartbeat.load,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_760_000_000);

    fn live(partitions: &[u16], age_ms: u64, committed_ms_ago: Option<u64>) -> LiveProcess {
        let committed = |ms| NOW - Duration::from_millis(ms);
        let heartbeat = Heartbeat {
            process_id: format!("processor-{age_ms}"),
            kind: "processor".into(),
            host: "h".into(),
            version: "1".into(),
            started_at: Timestamp::from_unix_nanos(1),
            partitions: partitions.to_vec(),
            committed_through: committed_ms_ago.map(committed),
            regular_committed_through: None,
            bulk_tenants: Vec::new(),
            load: 0.5,
        };
        LiveProcess { heartbeat, age: Duration::from_millis(age_ms) }
    }

    #[test]
    fn what_only_the_dead_read_is_unowned() {
        let processes = vec![live(&[0, 2], 100, None), live(&[1, 3], 7_000, None)];
        let answer = listed(processes, 4, NOW);
        assert_eq!(answer.unowned_partitions, [1, 3]);
        let alive: Vec<bool> = answer.processes.iter().map(|process| process.alive).collect();
        assert_eq!(alive, [true, false]);
    }

    #[test]
    fn the_lag_is_that_of_the_last_word() {
        let lags = |process| listed(vec![process], 1, NOW).processes[0].lag_ms;
        assert_eq!(lags(live(&[0], 1_000, Some(3_500))), Some(2_500));
        assert_eq!(lags(live(&[0], 1_000, Some(900))), Some(0), "the clocks differ");
        assert_eq!(lags(live(&[], 1_000, None)), None);
    }

    #[test]
    fn a_tenant_is_not_told_of_the_work_of_others() {
        let answer = |load| {
            let mut process = live(&[0], 1_000, Some(3_500));
            process.heartbeat.load = load;
            without_work(listed(vec![process], 1, NOW))
        };
        assert_eq!(answer(0.1), answer(0.9));
        let process = &answer(0.5).processes[0];
        assert_eq!((process.lag_ms, process.committed_unix_nano, process.load), (None, None, 0.0));
        assert!(process.alive && process.host.is_empty(), "{process:?}");
    }

    #[test]
    fn a_silence_has_bounds() {
        assert_eq!(silence_max(0), Ok(Duration::from_secs(60)));
        assert_eq!(silence_max(86_400), Ok(Duration::from_secs(86_400)));
        assert!(silence_max(86_401).is_err());
    }
}
