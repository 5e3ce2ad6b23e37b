//! What the clients of a fault test know, and the audit of what is stored against it. Every log has
//! a number of its own, in its time and in its message; an OK is an obligation.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use logweir_proto::v1::{
    Account, Batch, DeliveryReportRequest, ExportLogsRequest, Level, ListServicesRequest,
    LogRecord, Producer, ProducerReport, Resource, query_service_client::QueryServiceClient,
};
use tokio::sync::watch;
use tonic::{Request, metadata::MetadataValue};

/// Event time of log 0; that of the others is so many microseconds later.
const TIME: u64 = 1_700_000_000_000_000_000;

/// How a fault test is to be run.
pub(crate) struct Form {
    pub(crate) seed: u64,
    pub(crate) is_long: bool,
}

/// The short form unless `LOGWEIR_FAULTS` is `long`; `LOGWEIR_FAULT_SEED` repeats a run.
pub(crate) fn form() -> Form {
    #[allow(clippy::disallowed_methods, reason = "a test is told by its environment what to do")]
    let variable = |name| std::env::var(name).ok();
    let is_long = variable("LOGWEIR_FAULTS").is_some_and(|form| form == "long");
    let seed = variable("LOGWEIR_FAULT_SEED").and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("LOGWEIR_FAULT_SEED={seed}");
    Form { seed, is_long }
}

/// What the clients know.
#[derive(Default)]
pub(crate) struct Oracle {
    /// How many numbers were handed out; whoever causes faults waits for more.
    next_number: watch::Sender<u64>,
    /// How many of them are acknowledged or given up.
    answered: watch::Sender<u64>,
    /// First number and size of each acknowledged batch.
    acknowledged: Mutex<Vec<(u64, u64)>>,
    /// The same for batches given up without an answer.
    abandoned: Mutex<Vec<(u64, u64)>>,
    /// Logs that the processor is to choke on.
    poisoned: Mutex<BTreeSet<u64>>,
    done: AtomicBool,
}

/// A sending program with an account of its own.
pub(crate) struct Sending {
    service: String,
    producer_id: [u8; 16],
    sequence: u64,
    emitted: u64,
}

impl Sending {
    pub(crate) fn new(service: &str, producer_id: [u8; 16]) -> Self {
        Self { service: service.to_owned(), producer_id, sequence: 0, emitted: 0 }
    }

    /// Its next batch: its sequence and its account are one consistent cut.
    pub(crate) fn batch(&mut self, oracle: &Oracle, count: u64) -> (u64, Batch) {
        let (first, mut batch) = oracle.batch(&self.service, count);
        self.sequence += 1;
        self.emitted += count;
        batch.producer = Some(Producer {
            producer_id: self.producer_id.to_vec(),
            sequence: self.sequence,
            account: Some(Account { emitted: self.emitted, ..Account::default() }),
            ..Producer::default()
        });
        (first, batch)
    }
}

impl Oracle {
    pub(crate) fn numbers(&self) -> u64 {
        *self.next_number.borrow()
    }

    /// Waits until so many numbers were handed out.
    pub(crate) async fn until(&self, numbers: u64) {
        let mut progress = self.next_number.subscribe();
        progress.wait_for(|now| *now >= numbers).await.expect("the oracle outlives its clients");
    }

    /// A batch of new logs; the number of its first.
    pub(crate) fn batch(&self, service: &str, count: u64) -> (u64, Batch) {
        let mut first = 0;
        self.next_number.send_modify(|next| {
            first = *next;
            *next += count;
        });
        let batch = Batch {
            batch_id: uuid::Uuid::now_v7().into_bytes().to_vec(),
            producer: None,
            resource: Some(Resource { service: service.into(), ..Resource::default() }),
            records: (first..first + count).map(record).collect(),
        };
        (first, batch)
    }

    /// Makes a log of a batch one that the processor chokes on.
    pub(crate) fn poison(&self, first: u64, batch: &mut Batch, index: usize) {
        let number = first + index as u64;
        batch.records[index].message = poison(number);
        self.poisoned.lock().expect("not poisoned").insert(number);
    }

    /// Notes how the sending of a batch ended.
    pub(crate) fn note(&self, first: u64, count: u64, acknowledged: bool) {
        let list = if acknowledged { &self.acknowledged } else { &self.abandoned };
        list.lock().expect("not poisoned").push((first, count));
        self.answered.send_modify(|answered| *answered += count);
    }

    /// Waits until so many logs were acknowledged or given up.
    pub(crate) async fn until_answered(&self, logs: u64) {
        let mut progress = self.answered.subscribe();
        progress.wait_for(|now| *now >= logs).await.expect("the oracle outlives its clients");
    }

    /// Tells the clients to come to an end.
    pub(crate) fn end(&self) {
        self.done.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    /// Holds what is stored against what was acknowledged.
    pub(crate) fn judge(&self, audit: &Audit) -> Judgement {
        let poisoned = self.poisoned.lock().expect("not poisoned");
        let acknowledged = self.acknowledged.lock().expect("not poisoned");
        let abandoned = self.abandoned.lock().expect("not poisoned");
        let numbers = |&(first, count): &(u64, u64)| {
            (first..first + count).filter(|number| !poisoned.contains(number))
        };
        let is_stored = |number: &u64| audit.times_stored.contains_key(number);
        let is_halved = |batch: &&(u64, u64)| {
            let (stored, missing): (Vec<_>, Vec<_>) = numbers(batch).partition(is_stored);
            !stored.is_empty() && !missing.is_empty()
        };
        let is_owed = |number: &&u64| {
            acknowledged.iter().any(|(first, count)| (*first..*first + *count).contains(*number))
        };
        Judgement {
            lost: acknowledged.iter().flat_map(numbers).filter(|n| !is_stored(n)).count(),
            doubled: audit.times_stored.values().filter(|times| **times > 1).count(),
            halved: abandoned.iter().filter(is_halved).count(),
            abandoned: abandoned.len(),
            poisoned: poisoned.iter().filter(is_owed).copied().collect(),
            perhaps_poisoned: poisoned.clone(),
        }
    }
}

/// What an audit comes to.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// Logs that are owed and not there.
    pub(crate) lost: usize,
    /// Logs that are there more than once.
    pub(crate) doubled: usize,
    /// Abandoned batches that are there in part.
    pub(crate) halved: usize,
    pub(crate) abandoned: usize,
    /// Logs that must be among the dead letters.
    pub(crate) poisoned: BTreeSet<u64>,
    /// Logs that may be there.
    pub(crate) perhaps_poisoned: BTreeSet<u64>,
}

fn record(number: u64) -> LogRecord {
    LogRecord {
        time_unix_nano: TIME + number * 1_000,
        level: if number.is_multiple_of(50) { Level::Error } else { Level::Info }.into(),
        message: message(number),
        latency_ms: Some((number % 97) as f64),
        ..LogRecord::default()
    }
}

fn message(number: u64) -> String {
    format!("event {number} of the fault test took {} ms", number % 97)
}

fn poison(number: u64) -> String {
    format!("event {number} of the fault test is poison")
}

/// The number of a log by its message.
pub(crate) fn number_of(message: &str) -> u64 {
    let word = message.split(' ').nth(1).expect("a message has a second word");
    word.parse().expect("it is the number")
}

/// A message with its token and a deadline.
pub(crate) fn request<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a token is ASCII");
    request.metadata_mut().insert("authorization", value);
    request.set_timeout(Duration::from_secs(10));
    request
}

/// What is stored.
pub(crate) struct Audit {
    pub(crate) times_stored: HashMap<u64, u32>,
    /// The ids of logs that were there already when they came.
    pub(crate) repeated: Vec<String>,
    pub(crate) reports: Vec<ProducerReport>,
    /// What the counters say: a log stored twice has one id, and an export shows an id once.
    pub(crate) counted: u64,
}

/// Reads everything.
pub(crate) async fn audit(endpoint: &str, token: &str) -> Audit {
    let mut client = QueryServiceClient::connect(endpoint.to_owned()).await.expect("it is up");
    let mut export = Request::new(ExportLogsRequest::default());
    *export.metadata_mut() = request((), token).metadata().clone();
    let mut stream = client.export_logs(export).await.expect("export starts").into_inner();
    let (mut times_stored, mut repeated) = (HashMap::new(), Vec::new());
    while let Some(part) = stream.message().await.expect("export goes on") {
        for log in part.logs {
            let record = log.record.expect("every log has its record");
            let number = (record.time_unix_nano - TIME) / 1_000;
            let is_as_sent = [message(number), poison(number)].contains(&record.message);
            assert!(is_as_sent, "a log is stored as it was sent: {record:?}");
            let times = times_stored.entry(number).or_insert(0);
            *times += 1;
            if *times > 1 {
                repeated.push(log.id);
            }
        }
    }
    let report = client.delivery_report(request(DeliveryReportRequest::default(), token)).await;
    let services = client.list_services(request(ListServicesRequest {}, token)).await;
    let services = services.expect("the services are there").into_inner().services;
    Audit {
        times_stored,
        repeated,
        reports: report.expect("the report is there").into_inner().producers,
        counted: services.iter().map(|service| service.total).sum(),
    }
}
