//! Which logs tenant a sent, and whether each that was acknowledged is found exactly once.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use logweir_proto::v1::{
    ExportLogsRequest, LogEntry, TimeRange, attribute::Value,
    query_service_client::QueryServiceClient,
};
use tokio::time::{Instant, sleep};
use tonic::{Status, transport::Channel};

use super::client::{ANSWER_BYTES_MAX, request};

/// The attribute that holds a log's number.
pub(super) const NUMBER: &str = "n";
/// How long what is acknowledged may take to be found: with a broker between, it is stored later.
const FOUND_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Numbers of logs, and which of them are acknowledged.
#[derive(Default)]
pub(super) struct Ledger(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    acknowledged: Vec<Range<u64>>,
}

impl Ledger {
    /// Numbers that nobody else has.
    pub(super) fn take(&self, count: u64) -> Range<u64> {
        let mut state = self.state();
        state.next += count;
        state.next - count..state.next
    }

    pub(super) fn acknowledge(&self, numbers: Range<u64>) {
        self.state().acknowledged.push(numbers);
    }

    /// The first number that nobody has.
    pub(super) fn next(&self) -> u64 {
        self.state().next
    }

    /// What is wrong with those that are stored from a moment on, and have at least the number that
    /// was next then; empty if nothing is.
    pub(super) async fn audit(
        &self,
        from_number: u64,
        from_unix_nano: i64,
        query: QueryServiceClient<Channel>,
        token: &str,
    ) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let found = match found(from_unix_nano, query.clone(), token).await {
                Ok(found) => found,
                Err(status) => return vec![format!("the export for the audit: {status}")],
            };
            let mistakes = self.compare(from_number, &found);
            // A log that is there twice stays so; one that is missing may come.
            if mistakes.is_empty() || begun.elapsed() > FOUND_WITHIN {
                return mistakes;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn compare(&self, from_number: u64, found: &HashMap<u64, u32>) -> Vec<String> {
        let state = self.state();
        let acknowledged = state.acknowledged.iter().cloned().flatten();
        let missing = acknowledged
            .filter(|number| *number >= from_number && !found.contains_key(number))
            .count();
        let doubled = found.values().filter(|times| **times > 1).count();
        let unknown = found.keys().filter(|number| **number >= state.next).count();
        let counts = [
            (missing, "acknowledged logs are not found"),
            (doubled, "logs are found more than once"),
            (unknown, "logs are found that were never sent"),
        ];
        let wrong = counts.iter().filter(|(count, _)| *count > 0);
        wrong.map(|(count, what)| format!("{count} {what}")).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often each number is stored.
async fn found(
    from_unix_nano: i64,
    query: QueryServiceClient<Channel>,
    token: &str,
) -> Result<HashMap<u64, u32>, Status> {
    let range = TimeRange { from_unix_nano, to_unix_nano: 0 };
    let export = ExportLogsRequest { filter: String::new(), range: Some(range) };
    let mut query = query.max_decoding_message_size(ANSWER_BYTES_MAX);
    let mut parts = query.export_logs(request(export, token)).await?.into_inner();
    let mut found = HashMap::new();
    while let Some(part) = parts.message().await? {
        for number in part.logs.iter().filter_map(number) {
            *found.entry(number).or_default() += 1;
        }
    }
    Ok(found)
}

/// The number of a log, if it is of those.
pub(super) fn number(log: &LogEntry) -> Option<u64> {
    let attributes = &log.record.as_ref()?.attributes;
    let number = attributes.iter().find(|attribute| attribute.key == NUMBER)?;
    match number.value {
        Some(Value::IntValue(number)) => u64::try_from(number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_doubled_is_told() {
        let ledger = Ledger::default();
        let old = ledger.take(5);
        ledger.acknowledge(old);
        let numbers = ledger.take(3);
        assert_eq!(numbers, 5..8);
        ledger.acknowledge(numbers);
        let refused = ledger.take(1);
        assert_eq!(refused, 8..9);
        let found = |numbers: &[u64]| {
            numbers.iter().fold(HashMap::new(), |mut found, number| {
                *found.entry(*number).or_default() += 1;
                found
            })
        };
        assert!(ledger.compare(5, &found(&[5, 6, 7])).is_empty());
        assert!(ledger.compare(5, &found(&[5, 6, 7, 8])).is_empty());
        assert_eq!(ledger.compare(5, &found(&[5, 7])), ["1 acknowledged logs are not found"]);
        assert_eq!(ledger.compare(5, &found(&[5, 6, 6, 7])), ["1 logs are found more than once"]);
        assert_eq!(ledger.compare(5, &found(&[5, 6, 7, 9])).len(), 1);
    }
}
