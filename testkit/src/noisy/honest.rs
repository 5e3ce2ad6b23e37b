//! Tenant a: what it has stored, and the steady load that it puts on a server while another abuses
//! it.
//!
//! Requests are begun at fixed times, however long the ones before take, and measured from those
//! times: a server that stands still is seen by each of them.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use logweir_proto::v1::{
    AggregateLogsRequest, IncidentState, ListIncidentsRequest, LogRecord, PutRuleRequest,
    SearchLogsRequest, ServiceStatsRequest, TailLogsRequest, TimeRange,
    alert_service_client::AlertServiceClient, ingest_service_client::IngestServiceClient,
    query_service_client::QueryServiceClient,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};
use tonic::{Status, transport::Channel};

use super::{
    batch,
    client::{PATIENCE, channel, request, stream_channel},
    ledger::{Ledger, NUMBER, number},
    samples::{Operation, Samples},
};

const SERVICE: &str = "honest";
const RULE: &str = "detonations";
const HISTORY_BATCHES: u64 = 30;
const HISTORY_BATCH_LOGS: u64 = 1_000;
const HISTORY: Duration = Duration::from_secs(3_600);
const BATCH_LOGS: u64 = 50;
const BURST_LOGS: u64 = 20;
/// One log in so many is what the search looks for.
const NEEDLE_EVERY: u64 = 500;
const SEARCH_FILTER: &str = "*eedlewor*";
const PAGE: u32 = 10;

const INGEST_EVERY: Duration = Duration::from_millis(50);
const SEARCH_EVERY: Duration = Duration::from_millis(200);
const STATS_EVERY: Duration = Duration::from_millis(200);
const CONNECT_EVERY: Duration = Duration::from_millis(500);
/// Not a divisor of the two seconds between evaluations, so that bursts fall anywhere in between.
const BURST_EVERY: Duration = Duration::from_millis(700);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long an incident may take, and a log to be shown, before that has failed.
const INCIDENT_WITHIN: Duration = Duration::from_secs(60);
const SHOWN_WITHIN: Duration = Duration::from_secs(20);

/// The tenant that must not be hurt. Clones are one.
#[derive(Clone)]
pub(super) struct Honest {
    endpoint: Arc<str>,
    token: Arc<str>,
    ingest: IngestServiceClient<Channel>,
    query: QueryServiceClient<Channel>,
    alerts: AlertServiceClient<Channel>,
    pub(super) ledger: Arc<Ledger>,
    samples: Arc<Mutex<Samples>>,
    bursts: Arc<AtomicU64>,
    /// The first log of each batch that the tail has not shown yet, and when it was sent.
    unseen: Arc<watch::Sender<HashMap<u64, Instant>>>,
}

impl Honest {
    /// With its history and its rule stored.
    pub(super) async fn set_up(endpoint: &str, token: &str) -> Result<Self, Status> {
        let shared = channel(endpoint);
        let mut honest = Self {
            endpoint: endpoint.into(),
            token: token.into(),
            ingest: IngestServiceClient::new(channel(endpoint)),
            query: QueryServiceClient::new(shared.clone()),
            alerts: AlertServiceClient::new(shared),
            ledger: Arc::default(),
            samples: Arc::default(),
            bursts: Arc::default(),
            unseen: Arc::default(),
        };
        let definition = format!(
            r#"{{"name": "{RULE}", "services": ["burst-*"], "keep_firing_seconds": 10, "measure":
            {{"kind": "match_count", "filter": "detonated", "window_seconds": 60,
            "threshold": {{"absolute": 10}}}}}}"#
        );
        honest.alerts.put_rule(request(PutRuleRequest { definition }, token)).await?;
        for batch in 0..HISTORY_BATCHES {
            let numbers = honest.ledger.take(HISTORY_BATCH_LOGS);
            let age = HISTORY * (HISTORY_BATCHES - batch) as u32 / HISTORY_BATCHES as u32;
            let time_unix_nano = batch::before_now(age);
            let records = numbers.clone().map(|n| LogRecord { time_unix_nano, ..order(n) });
            honest.send(SERVICE, numbers.clone(), records.collect()).await?;
        }
        Ok(honest)
    }

    /// Follows its logs for as long as it is not dropped, anew whenever that ends.
    pub(super) async fn follow(self) {
        let mut query = QueryServiceClient::new(stream_channel(&self.endpoint));
        loop {
            let filter = format!("service:{SERVICE}");
            let tail = query.tail_logs(request(TailLogsRequest { filter }, &self.token)).await;
            let ended = match tail {
                Ok(tail) => self.see(tail.into_inner()).await,
                Err(status) => Err(status),
            };
            let how = ended.err().map_or("the tail ended".to_owned(), |status| status.to_string());
            self.samples().failed(Operation::Tail, how);
            sleep(LOOK_EVERY).await;
        }
    }

    async fn see(
        &self,
        mut tail: tonic::Streaming<logweir_proto::v1::TailLogsResponse>,
    ) -> Result<(), Status> {
        while let Some(part) = tail.message().await? {
            let now = Instant::now();
            let lost = part.skipped + part.gap;
            if lost > 0 {
                self.samples().failed(Operation::Tail, format!("{lost} logs were passed over"));
            }
            for number in part.logs.iter().filter_map(number) {
                self.unseen.send_if_modified(|unseen| match unseen.remove(&number) {
                    Some(sent) => {
                        self.samples().took(Operation::Tail, now - sent);
                        true
                    }
                    None => false,
                });
            }
        }
        Ok(())
    }

    /// Sends batches until the tail shows one, from when on it shows all, and a rule sees its logs.
    pub(super) async fn until_served(&self) {
        let begun = Instant::now();
        while begun.elapsed() < SHOWN_WITHIN {
            self.clone().send_orders(Instant::now()).await;
            let shown = self.unseen.subscribe();
            let all = async move {
                let mut shown = shown;
                shown.wait_for(HashMap::is_empty).await.is_ok()
            };
            if timeout(Duration::from_secs(1), all).await.is_ok() {
                break;
            }
            self.unseen.send_modify(HashMap::clear);
        }
        self.clone().detonate(Instant::now()).await;
        // What went before is no measurement.
        drop(self.take_samples());
    }

    /// Works for so long, and until all that it began is done; what it measured.
    pub(super) async fn work(&self, length: Duration) -> Samples {
        let until = Instant::now() + length;
        let each = |every, act: fn(Self, Instant) -> Act| self.paced(every, until, act);
        tokio::join!(
            each(INGEST_EVERY, |honest, due| Box::pin(honest.send_orders(due))),
            each(SEARCH_EVERY, |honest, due| Box::pin(honest.search(due))),
            each(STATS_EVERY, |honest, due| Box::pin(honest.ask_for_counts(due))),
            each(CONNECT_EVERY, |honest, due| Box::pin(honest.connect(due))),
            each(BURST_EVERY, |honest, due| Box::pin(honest.detonate(due))),
        );
        let mut unseen = self.unseen.subscribe();
        // Failed below if it takes too long.
        drop(timeout(SHOWN_WITHIN, unseen.wait_for(HashMap::is_empty)).await);
        let left = self.unseen.send_replace(HashMap::new()).len();
        if left > 0 {
            self.samples().failed(Operation::Tail, format!("{left} batches were not shown"));
        }
        self.take_samples()
    }

    /// What acknowledged logs are missing, or doubled.
    pub(super) async fn audit(&self, from_number: u64, from_unix_nano: i64) -> Vec<String> {
        let query = QueryServiceClient::new(stream_channel(&self.endpoint));
        self.ledger.audit(from_number, from_unix_nano, query, &self.token).await
    }

    async fn paced(&self, every: Duration, until: Instant, act: fn(Self, Instant) -> Act) {
        let mut ticks = interval(every);
        let mut running = JoinSet::new();
        loop {
            let due = ticks.tick().await;
            if due >= until {
                break;
            }
            running.spawn(act(self.clone(), due));
            while running.try_join_next().is_some() {}
        }
        running.join_all().await;
    }

    async fn send_orders(mut self, due: Instant) {
        let numbers = self.ledger.take(BATCH_LOGS);
        let records = numbers.clone().map(order).collect();
        let first = numbers.start;
        self.unseen.send_modify(|unseen| {
            unseen.insert(first, due);
        });
        let sent = self.send(SERVICE, numbers, records).await;
        if sent.is_err() {
            self.unseen.send_modify(|unseen| {
                unseen.remove(&first);
            });
        }
        self.note(Operation::Ingest, due, sent);
    }

    async fn send(
        &mut self,
        service: &str,
        numbers: Range<u64>,
        records: Vec<LogRecord>,
    ) -> Result<(), Status> {
        let count = records.len();
        let sent = batch::request(service, records);
        let answer = self.ingest.ingest(request(sent, &self.token)).await?.into_inner();
        if answer.accepted as usize != count {
            return Err(Status::internal(format!("{} of {count} were accepted", answer.accepted)));
        }
        self.ledger.acknowledge(numbers);
        Ok(())
    }

    async fn search(mut self, due: Instant) {
        let filter = SEARCH_FILTER.to_owned();
        let search = SearchLogsRequest { filter, page_size: PAGE, ..SearchLogsRequest::default() };
        let answer = self.query.search_logs(request(search, &self.token)).await;
        let found = answer.and_then(|answer| match answer.get_ref() {
            part if part.logs.len() == PAGE as usize => Ok(()),
            part => Err(Status::internal(format!("{} were found", part.logs.len()))),
        });
        self.note(Operation::Search, due, found);
    }

    async fn ask_for_counts(mut self, due: Instant) {
        let stats = ServiceStatsRequest::default();
        let from_unix_nano = batch::before_now(HISTORY).cast_signed();
        let range = Some(TimeRange { from_unix_nano, to_unix_nano: 0 });
        let counts = AggregateLogsRequest { range, ..AggregateLogsRequest::default() };
        let answer = async {
            self.query.service_stats(request(stats, &self.token)).await?;
            self.query.aggregate_logs(request(counts, &self.token)).await
        };
        let answer = answer.await;
        self.note(Operation::Stats, due, answer);
    }

    async fn connect(self, due: Instant) {
        let mut query = QueryServiceClient::new(channel(&self.endpoint));
        let stats = ServiceStatsRequest { service: SERVICE.to_owned(), ..Default::default() };
        let answer = query.service_stats(request(stats, &self.token)).await;
        self.note(Operation::Connect, due, answer);
    }

    /// Has an incident open, in a service that had none.
    async fn detonate(mut self, due: Instant) {
        let service = format!("burst-{}", self.bursts.fetch_add(1, Ordering::Relaxed));
        let numbers = self.ledger.take(BURST_LOGS);
        let records = numbers.clone().map(|n| numbered(n, format!("charge {n} detonated")));
        let records = records.collect();
        let seen = async {
            self.send(&service, numbers, records).await?;
            while !self.has_incident(&service).await? {
                if due.elapsed() > INCIDENT_WITHIN {
                    return Err(Status::deadline_exceeded("no incident was opened"));
                }
                sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        let seen = seen.await;
        self.note(Operation::Alert, due, seen);
    }

    async fn has_incident(&mut self, service: &str) -> Result<bool, Status> {
        let list = ListIncidentsRequest {
            service: service.to_owned(),
            open: true,
            ..ListIncidentsRequest::default()
        };
        let listed = self.alerts.list_incidents(request(list, &self.token)).await?;
        let mut incidents = listed.get_ref().incidents.iter();
        Ok(incidents.any(|one| one.rule == RULE && one.state() == IncidentState::Firing))
    }

    fn note<T>(&self, operation: Operation, due: Instant, answer: Result<T, Status>) {
        let took = due.elapsed();
        match answer {
            Ok(_) if took <= INCIDENT_WITHIN.max(PATIENCE) => self.samples().took(operation, took),
            Ok(_) => self.samples().failed(operation, format!("it took {took:?}")),
            Err(status) => self.samples().failed(operation, status),
        }
    }

    fn take_samples(&self) -> Samples {
        std::mem::take(&mut self.samples())
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Act = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn numbered(number: u64, message: String) -> LogRecord {
    let attributes = vec![batch::attribute(NUMBER, number.cast_signed())];
    LogRecord { attributes, ..batch::log(message) }
}

fn order(number: u64) -> LogRecord {
    let what = if number.is_multiple_of(NEEDLE_EVERY) { "needlework" } else { "cloth" };
    let message =
        format!("order {number} of {what} by user {} took {} ms", number * 7, number % 90);
    numbered(number, message)
}
