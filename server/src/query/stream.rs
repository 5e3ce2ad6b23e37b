//! The readers' streams: exports and live tails. Both are pulled by the client, so a slow one costs
//! no memory; both end when the server stops or the token does.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures::{FutureExt, Stream, future::BoxFuture, stream};
use logweir_core::{
    fairness::permits::TenantPermit, filter::Filter, identity::Tenant, record::StoredLog, wire,
};
use logweir_proto::v1;
use logweir_queue::LiveFeedReader;
use logweir_storage::{SearchQuery, Storage};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::matcher::{Matcher, terms};
use crate::{
    auth::{Auth, Caller},
    response_size::{cut, cut_at},
    status::Refusal,
};

/// What a message of a tail holds, but for a log that is larger.
// A thousand tails may see the same event at once, and each translates a few parts before anybody else's
// task gets on: some 100 µs each.
const TAIL_PART_BYTES_MAX: usize = 32 << 10;

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Every match, oldest first, a page at a time.
pub(crate) struct Export {
    storage: Arc<dyn Storage>,
    auth: Arc<Auth>,
    caller: Arc<Caller>,
    /// What comes next; none once all was sent.
    query: Option<SearchQuery>,
    stop: CancellationToken,
}

impl Export {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        auth: Arc<Auth>,
        caller: Arc<Caller>,
        query: SearchQuery,
        stop: CancellationToken,
    ) -> Self {
        Self { storage, auth, caller, query: Some(query), stop }
    }

    /// The parts of the export.
    pub(crate) fn parts(self) -> Parts<v1::ExportLogsResponse> {
        Box::pin(stream::unfold(self, |mut export| async move {
            let part = export.next_part().await.transpose()?;
            Some((part.map_err(Status::from), export))
        }))
    }

    async fn next_part(&mut self) -> Result<Option<v1::ExportLogsResponse>, Refusal> {
        // After an error nothing follows, for the query was taken.
        while let Some(mut query) = self.query.take() {
            // With every page: an export may take hours, and its token be revoked meanwhile.
            self.auth.check_current(&self.caller)?;
            if self.stop.is_cancelled() {
                return Err(Refusal::stopping());
            }
            let page = self.storage.export(&self.caller.tenant, query.clone()).await?;
            let ids: Vec<_> = page.logs.iter().map(|log| log.id).collect();
            let (logs, _) = cut(page.logs.into_iter().map(wire::log_entry_to_wire));
            // As in a search: after what fitted, not after what was found.
            query.cursor =
                if logs.len() < ids.len() { Some(ids[logs.len() - 1]) } else { page.next };
            self.query = query.cursor.is_some().then_some(query);
            // A page that ended at its limits may have no match, and the next one some.
            if !logs.is_empty() {
                return Ok(Some(v1::ExportLogsResponse { logs }));
            }
        }
        Ok(None)
    }
}

/// Logs as they are stored.
pub(crate) struct Tail {
    matches: Matches,
    ended: BoxFuture<'static, Refusal>,
    stop: CancellationToken,
    done: bool,
}

/// What a tail shows, for as long as it may.
struct Matches {
    reader: LiveFeedReader,
    filter: TailFilter,
    tenant: Tenant,
    /// What is left of the event at hand.
    rest: Rest,
}

/// What a tail shows, and how its matches are found.
pub(crate) struct TailFilter {
    pub(crate) filter: Arc<Filter>,
    pub(crate) matcher: Arc<Matcher>,
    /// Given back when the tail ends.
    pub(crate) _permit: TenantPermit,
}

struct Rest {
    logs: Arc<[StoredLog]>,
    /// Places of the matches among them that were not sent yet.
    matches: VecDeque<usize>,
}

impl Rest {
    /// The next matches, as many as fit a part.
    fn take_part(&mut self) -> Vec<v1::LogEntry> {
        // Translated one by one while they fit: a log is copied only if it is sent, or is the first
        // that did not fit.
        let entries = self.matches.iter().map(|&at| wire::log_entry_to_wire(self.logs[at].clone()));
        let (part, _) = cut_at(TAIL_PART_BYTES_MAX, 1, entries);
        self.matches.drain(..part.len());
        part
    }
}

impl Tail {
    pub(crate) fn new(
        reader: LiveFeedReader,
        filter: TailFilter,
        auth: Arc<Auth>,
        caller: Arc<Caller>,
        stop: CancellationToken,
    ) -> Self {
        let tenant = caller.tenant.clone();
        let ended = async move { auth.ended(&caller).await }.boxed();
        let rest = Rest { logs: Arc::new([]), matches: VecDeque::new() };
        let matches = Matches { reader, filter, tenant, rest };
        Self { matches, ended, stop, done: false }
    }

    /// The parts of the tail; a refusal is the last.
    pub(crate) fn parts(self) -> impl Stream<Item = Result<v1::TailLogsResponse, Refusal>> + Send {
        stream::unfold(self, |mut tail| async move {
            if tail.done {
                return None;
            }
            let part = tail.next_part().await;
            tail.done = part.is_err();
            Some((part, tail))
        })
    }

    async fn next_part(&mut self) -> Result<v1::TailLogsResponse, Refusal> {
        // Looked at with every part, or a slow reader would be shown the rest of an event after its token
        // ended; and the end waits for nobody, not for the matcher either.
        tokio::select! {
            biased;
            refusal = &mut self.ended => Err(refusal),
            () = self.stop.cancelled() => Err(Refusal::stopping()),
            part = self.matches.next_part() => part,
        }
    }
}

impl Matches {
    async fn next_part(&mut self) -> Result<v1::TailLogsResponse, Refusal> {
        let (mut skipped, mut gap) = (0, 0);
        loop {
            if self.rest.matches.is_empty() {
                let event = self.reader.next().await.ok_or_else(Refusal::stopping)?;
                (skipped, gap) = (skipped + event.skipped, gap + event.gap);
                self.rest = self.of(event.logs).await?;
            }
            let logs = self.rest.take_part();
            // A part without a match is sent only if it tells of something lost: the reader of a
            // rare filter would else get an empty message for every commit of the tenant.
            if !logs.is_empty() || skipped + gap > 0 {
                return Ok(v1::TailLogsResponse { logs, skipped, gap });
            }
        }
    }

    /// Those of an event.
    async fn of(&mut self, logs: Arc<[StoredLog]>) -> Result<Rest, Refusal> {
        let TailFilter { filter, matcher, .. } = &self.filter;
        let looks = logs.len() as u64 * terms(filter);
        let (filter, looked_at) = (Arc::clone(filter), Arc::clone(&logs));
        let find = move || {
            (0..looked_at.len())
                .filter(|&at| filter.matches(&looked_at[at]))
                .collect::<VecDeque<_>>()
        };
        let found = matcher.run(&self.tenant, looks, find).await;
        Ok(Rest { logs, matches: found.ok_or_else(Refusal::stopping)? })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use futures::{StreamExt, TryStreamExt};
    use logweir_core::{
        fairness::permits::TenantPermits,
        identity::{BatchId, LogId, Role, Service, ServiceScope, TemplateId, Tenant},
        record::{Level, Record, Resource, ScoredBatch, ScoredRecord, Template},
        timestamp::Timestamp,
    };
    use logweir_queue::LiveFeed;
    use logweir_storage::{
        ReadLogs, SearchLimits, SqliteConfig, SqliteStorage, TimeRange, WriteLogs,
    };
    use tonic::Code;

    use super::*;
    use crate::{
        auth::{Access, issue, token_keys::TokenKeys},
        query::QueryHandler,
    };

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_760_000_000);

    struct Bench {
        auth: Arc<Auth>,
        caller: Arc<Caller>,
        token_id: String,
        feed: LiveFeed,
        tails: TenantPermits,
        matcher: Arc<Matcher>,
    }

    impl Bench {
        fn new() -> Self {
            let (keys, tenant) = (TokenKeys::generate(), Tenant::default());
            let ttl = Duration::from_secs(3_600);
            let (record, jwt) = issue(&keys, &tenant, &ServiceScope::Any, Role::Viewer, ttl, NOW);
            let auth = Arc::new(Auth::new(keys, Arc::new(|| NOW)));
            let caller = auth.admit_token(&jwt, Access::Query);
            let (caller, feed) = (caller.unwrap(), LiveFeed::default());
            let tails = TenantPermits::for_one(1, 3);
            let matcher = Arc::new(Matcher::start().unwrap());
            Self { auth, caller, token_id: record.token_id, feed, tails, matcher }
        }

        fn tail(&self, filter: &str) -> Parts<v1::TailLogsResponse> {
            let reader = self.feed.subscribe(Tenant::default());
            let filter = TailFilter {
                filter: Arc::new(Filter::parse(filter, NOW).unwrap()),
                matcher: Arc::clone(&self.matcher),
                _permit: self.tails.try_take(&Tenant::default(), 1).unwrap(),
            };
            let (auth, caller) = (Arc::clone(&self.auth), Arc::clone(&self.caller));
            let tail = Tail::new(reader, filter, auth, caller, CancellationToken::new());
            Box::pin(tail.parts().map_err(Status::from))
        }

        fn publish(&self, messages: &[&str]) {
            let logs = (0..).zip(messages).map(|(index, message)| log(index, message)).collect();
            self.feed.publish(Tenant::default(), logs);
        }
    }

    fn log(index: u32, message: &str) -> StoredLog {
        StoredLog {
            id: LogId { time: NOW, batch_id: BatchId([1; 16]), index },
            received_at: NOW,
            service: Service::new("a").unwrap(),
            instance: String::new(),
            environment: String::new(),
            scored: ScoredRecord {
                record: Record { index, message: message.into(), ..Record::default() },
                level: Level::Info,
                template_id: TemplateId(1),
                anomaly_score: 0.0,
                is_anomaly: false,
                anomaly_reasons: Vec::new(),
            },
        }
    }

    fn batch(number: u8, message: &str) -> ScoredBatch {
        let mut scored = log(0, message).scored;
        scored.record.time = NOW + Duration::from_secs(number.into());
        let resource = Resource::of(Service::new("a").unwrap());
        let template = Template {
            template_id: scored.template_id,
            tenant: Tenant::default(),
            service: resource.service.clone(),
            pattern: "any".into(),
            merged_into: None,
            is_merger: false,
        };
        ScoredBatch {
            tenant: Tenant::default(),
            batch_id: BatchId([number; 16]),
            checksum: 0,
            received_at: NOW,
            producer: None,
            resource,
            templates: HashMap::from([(scored.template_id, Arc::new(template))]),
            records: vec![scored],
            rejected: Vec::new(),
        }
    }

    #[tokio::test]
    async fn an_export_goes_on_where_a_page_met_its_limits() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path());
        let storage = Arc::new(SqliteStorage::open(&config, Arc::new(|| NOW)).unwrap());
        for (number, message) in (1..).zip(["one", "two", "three"]) {
            storage.write([batch(number, message)].into()).await.unwrap();
        }
        let query = SearchQuery {
            filter: Filter::parse("three", NOW).unwrap(),
            range: TimeRange::ALL,
            cursor: None,
            page_size: 10,
            limits: SearchLimits { work: Duration::ZERO, ..SearchLimits::NONE },
        };
        let first = storage.export(&Tenant::default(), query.clone()).await.unwrap();
        assert!(first.is_partial && first.logs.is_empty());
        let Bench { auth, caller, .. } = Bench::new();
        let export = Export::new(storage, auth, caller, query, CancellationToken::new());
        let parts: Vec<_> = export.parts().collect().await;
        let logs = parts.into_iter().flat_map(|part| part.unwrap().logs);
        let messages: Vec<String> = logs.map(|log| log.record.unwrap().message).collect();
        assert_eq!(messages, ["three"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tail_ends_when_its_token_is_revoked() {
        let bench = Bench::new();
        let mut tail = bench.tail("");
        bench.publish(&["one"]);
        assert_eq!(tail.next().await.unwrap().unwrap().logs.len(), 1);
        bench.auth.add_revoked(bench.token_id.clone());
        let began = tokio::time::Instant::now();
        let status = tail.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(began.elapsed() <= Duration::from_secs(2));
        assert!(tail.next().await.is_none());
    }

    #[tokio::test]
    async fn a_tail_takes_its_place_before_its_filter_is_put_together() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path());
        let storage = Arc::new(SqliteStorage::open(&config, Arc::new(|| NOW)).unwrap());
        let Bench { auth, caller, feed: live_feed, tails, matcher, .. } = Bench::new();
        let (clock, known_services) = (Arc::new(|| NOW), Arc::default());
        let stop = CancellationToken::new();
        let _held = tails.try_take(&caller.tenant, 1).unwrap();
        let handler =
            QueryHandler { storage, live_feed, tails, matcher, auth, clock, stop, known_services };
        let refusal = handler.tail(caller, || panic!("there is no place")).err().unwrap();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_ends_its_tail_amid_an_event() {
        let bench = Bench::new();
        let mut tail = bench.tail("");
        let long = "x".repeat(TAIL_PART_BYTES_MAX);
        bench.publish(&[&long, &long, &long]);
        assert_eq!(tail.next().await.unwrap().unwrap().logs.len(), 1);
        bench.auth.add_revoked(bench.token_id.clone());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(tail.next().await.unwrap().unwrap_err().code(), Code::Unauthenticated);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_ends_its_tail_while_the_matcher_is_busy() {
        let bench = Bench::new();
        let (done, busy) = std::sync::mpsc::sync_channel::<()>(0);
        let tenant = Tenant::default();
        let work = bench.matcher.run(&tenant, 10_000, move || busy.recv());
        tokio::pin!(work);
        assert!(futures::poll!(&mut work).is_pending());
        let terms: Vec<String> = (0..90).map(|number| format!("wanted-{number}")).collect();
        let mut tail = bench.tail(&terms.join(" OR "));
        bench.publish(&["wanted-1"; 100]);
        bench.auth.add_revoked(bench.token_id.clone());
        let ended = tokio::time::timeout(Duration::from_secs(5), tail.next()).await;
        assert_eq!(ended.unwrap().unwrap().unwrap_err().code(), Code::Unauthenticated);
        drop(done);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_event_comes_in_parts_and_only_its_matches() {
        let bench = Bench::new();
        let mut tail = bench.tail("-unwanted");
        let (long, huge) = ("x".repeat(400 << 10), "x".repeat(3 << 20));
        bench.publish(&[&long, "unwanted", &huge, "unwanted", "short"]);
        let mut indices = Vec::new();
        let mut parts = 0;
        while indices.len() < 3 {
            let part = tail.next().await.unwrap().unwrap();
            let ids = part.logs.iter().map(|log| log.id.parse::<LogId>().unwrap().index);
            indices.extend(ids);
            parts += 1;
        }
        assert_eq!((indices, parts), (vec![0, 2, 4], 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_is_small_and_the_parts_are_all_there_is() {
        let bench = Bench::new();
        let mut tail = bench.tail("-unwanted");
        let messages: Vec<String> = (0..200).map(|_| "x".repeat(1_000)).collect();
        bench.publish(&messages.iter().map(String::as_str).collect::<Vec<_>>());
        let mut indices = Vec::new();
        while indices.len() < 200 {
            let part = tail.next().await.unwrap().unwrap();
            let bytes: usize = part.logs.iter().map(prost::Message::encoded_len).sum();
            assert!(bytes <= TAIL_PART_BYTES_MAX, "{bytes}");
            indices.extend(part.logs.iter().map(|log| log.id.parse::<LogId>().unwrap().index));
        }
        assert_eq!(indices, (0..200).collect::<Vec<u32>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dear_filter_finds_the_same() {
        let bench = Bench::new();
        let terms: Vec<String> = (0..90).map(|number| format!("wanted-{number}")).collect();
        let mut tail = bench.tail(&terms.join(" OR "));
        let messages: Vec<String> = (0..100).map(|number| format!("wanted-{number} !")).collect();
        bench.publish(&messages.iter().map(String::as_str).collect::<Vec<_>>());
        let part = tail.next().await.unwrap().unwrap();
        assert_eq!(part.logs.len(), 90);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_told_what_it_missed_even_without_a_match() {
        let bench = Bench::new();
        let mut tail = bench.tail("nothing-like-it");
        for _ in 0..200 {
            bench.publish(&["passing"]);
        }
        let part = tail.next().await.unwrap().unwrap();
        assert!(part.logs.is_empty() && part.skipped > 0, "{part:?}");
    }
}
