//! A program that logs, for those who kill it, or its server, and count what arrived.
//!
//! `sender emit FIRST COUNT WAITING_MAX` emits so many numbered logs, says so, and ends when they
//! are answered. It waits while more than WAITING_MAX of its logs do. `sender spool FIRST` emits
//! for ever, and prints `safe N` when its spool has all before N. `sender adopt` sends what dead
//! processes have left in the spool.
//!
//! `LOGWEIR_ENDPOINT`, `LOGWEIR_TOKEN` and `LOGWEIR_SPOOL_DIR` say where to. `emit` and `adopt`
//! print their counts as one line of JSON.

use std::{error::Error, time::Duration};

use logweir_sdk::{Client, ClientBuilder, Level, Record, RetryPolicy, Stats};
use serde_json::json;

/// When the first log happened, nanoseconds since 1970; each later one a nanosecond later.
const TIME: u64 = 1_700_000_000_000_000_000;
const PATIENCE: Duration = Duration::from_secs(120);
const MOMENT: Duration = Duration::from_millis(10);
/// Logs emitted between two flushes.
const STEP: u64 = 50;
const SPOOL_BATCH_RECORDS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["emit", first, count, max] => emit(first.parse()?, count.parse()?, max.parse()?),
        ["spool", first] => spool(first.parse()?),
        ["adopt"] => adopt(),
        _ => Err("give one of: emit FIRST COUNT WAITING_MAX, spool FIRST, adopt".into()),
    }
}

fn builder() -> ClientBuilder {
    let retry = RetryPolicy {
        first: MOMENT,
        max: MOMENT,
        server_delay_max: MOMENT,
        ..RetryPolicy::default()
    };
    Client::builder().service("rust").retry(retry)
}

fn record(number: u64) -> Record {
    let record = Record::new(Level::Info, format!("log {number} of the sdk test"));
    record.time_unix_nano(TIME + number)
}

fn emit(first: u64, count: u64, waiting_max: u64) -> Result<(), Box<dyn Error>> {
    let client = builder().build()?;
    for number in first..first + count {
        while client.stats().queued > waiting_max {
            std::thread::sleep(Duration::from_millis(1));
        }
        client.emit(record(number));
    }
    println!("emitted");
    end(&client);
    Ok(())
}

fn spool(first: u64) -> Result<(), Box<dyn Error>> {
    let client = builder().batch_records(SPOOL_BATCH_RECORDS).build()?;
    for start in (first..).step_by(STEP as usize) {
        (start..start + STEP).for_each(|number| client.emit(record(number)));
        // What is not answered at once must be in the spool.
        if client.flush(Duration::ZERO).pending == 0 {
            println!("safe {}", start + STEP);
        }
    }
    Ok(())
}

fn adopt() -> Result<(), Box<dyn Error>> {
    let client = builder().build()?;
    // A flush is answered once the spool is open and has been looked through.
    client.flush(PATIENCE);
    while client.stats().adopted_waiting > 0 {
        std::thread::sleep(MOMENT);
    }
    end(&client);
    Ok(())
}

fn end(client: &Client) {
    client.shutdown(PATIENCE);
    println!("{}", line(&client.stats()));
}

fn line(stats: &Stats) -> serde_json::Value {
    let dropped = stats.dropped.iter().map(|(reason, count)| (reason.to_string(), count.into()));
    json!({
        "emitted": stats.emitted,
        "sent": stats.sent,
        "rejected": stats.rejected,
        "dropped": dropped.collect::<serde_json::Map<_, _>>(),
        "queued": stats.queued,
        "in_flight": stats.in_flight,
        "spooled": stats.spooled,
        "adopted_waiting": stats.adopted_waiting,
        "adopted_sent": stats.adopted_sent,
        "adopted_dropped": stats.adopted_dropped,
        "spool_failures": stats.spool_failures,
        "spool_damaged": stats.spool_damaged,
        "emitted_after_shutdown": stats.emitted_after_shutdown,
    })
}
