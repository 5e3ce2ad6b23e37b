//! `logweir report`: what each sender emitted, what became of it, and what is missing.

use clap::Args;
use logweir_proto::v1;
use serde::Serialize;

use crate::response_times::{rfc3339, shown};
use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, count, grouped, integer, say, say_cut, text},
};

/// Arguments of `logweir report`.
#[derive(Debug, Args)]
#[command(after_help = "Exits with 5 if logs are missing: emitted, but neither stored, rejected, \
    dropped nor waiting at their sender. While senders are busy this may pass. Exits with 5 too if \
    not all senders fit the answer.")]
pub struct ReportArgs {
    /// Only this service
    #[arg(long)]
    service: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Producer<'a> {
    producer_id: &'a str,
    service: &'a str,
    instance: &'a str,
    sequence: u64,
    emitted: u64,
    stored: u64,
    rejected: u64,
    dropped: u64,
    queued: u64,
    spooled: u64,
    missing: i64,
    missing_sequences: Vec<(u64, u64)>,
    last_received: String,
}

impl ReportArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let request =
            v1::DeliveryReportRequest { service: self.service.clone().unwrap_or_default() };
        let mut client = self.server.query().await?;
        let answer = client.delivery_report(request).await.map_err(Error::from)?;
        let v1::DeliveryReportResponse { producers, truncated } = answer.into_inner();
        let mut output = Output::new(&self.output);
        if output.json {
            for producer in &producers {
                output.object(&json(producer))?;
            }
        } else if producers.is_empty() {
            say("no sender has said what it emitted");
        } else {
            let header = [
                "producer",
                "service",
                "emitted",
                "stored",
                "rejected",
                "dropped",
                "waiting",
                "missing",
                "last received",
            ];
            output.table(&header, producers.iter().map(row).collect())?;
        }
        output.flush()?;
        // One producer that has stored more than it said (a batch ahead of its account) must not
        // hide what another lacks.
        let missing: i64 = producers.iter().map(|producer| producer.missing.max(0)).sum();
        if missing > 0 && !output.json {
            say(&format!("{} logs are missing", grouped(missing.unsigned_abs())));
        }
        if truncated {
            say_cut("nothing is known of the other senders; ask for one --service");
        }
        Ok(exit(missing, truncated))
    }
}

/// The exit code: "partial" also where producers were cut from the answer, for theirs may lack.
fn exit(missing: i64, truncated: bool) -> Exit {
    if missing > 0 || truncated { Exit::Partial } else { Exit::Done }
}

fn dropped(account: &v1::Account) -> u64 {
    account.dropped.iter().map(|drop| drop.count).sum()
}

/// What still waits at the sender: logs that it said to be in its spool may have arrived since.
fn waiting(producer: &v1::ProducerReport, account: &v1::Account) -> u64 {
    let gone = producer.stored + producer.rejected + dropped(account) + account.queued;
    account.queued + account.spooled.min(account.emitted.saturating_sub(gone))
}

fn json(producer: &v1::ProducerReport) -> Producer<'_> {
    let account = producer.account.clone().unwrap_or_default();
    Producer {
        producer_id: &producer.producer_id,
        service: &producer.service,
        instance: &producer.instance,
        sequence: producer.sequence,
        emitted: account.emitted,
        stored: producer.stored,
        rejected: producer.rejected,
        dropped: dropped(&account),
        queued: account.queued,
        spooled: account.spooled,
        missing: producer.missing,
        missing_sequences: producer
            .missing_sequences
            .iter()
            .map(|range| (range.first, range.last))
            .collect(),
        last_received: rfc3339(producer.last_received_unix_nano),
    }
}

fn row(producer: &v1::ProducerReport) -> Vec<crate::output::Value> {
    let account = producer.account.clone().unwrap_or_default();
    let missing = integer(producer.missing);
    vec![
        text(producer.producer_id.get(..12).unwrap_or(&producer.producer_id)).tone(Tone::Dim),
        text(&producer.service).tone(Tone::Name),
        count(account.emitted),
        count(producer.stored),
        count(producer.rejected),
        count(dropped(&account)),
        count(waiting(producer, &account)),
        if producer.missing > 0 { missing.tone(Tone::Bad) } else { missing },
        text(&shown(producer.last_received_unix_nano)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_is_cut_is_no_proof() {
        let exits = [exit(0, false), exit(3, false), exit(0, true)];
        assert_eq!(exits, [Exit::Done, Exit::Partial, Exit::Partial]);
    }
}
