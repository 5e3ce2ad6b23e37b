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
    dropped nor waiting at their sender. While senders are busy this may pass. Of a service with \
    thousands of senders only those heard of last are listed; the sums for each service are of all. \
    Exits with 5 too if some senders are in neither.")]
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

/// All senders of a service together.
#[derive(Serialize)]
struct Totals<'a> {
    service: &'a str,
    producers: u64,
    emitted: u64,
    stored: u64,
    rejected: u64,
    dropped: u64,
    queued: u64,
    spooled: u64,
    missing: u64,
}

impl ReportArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let request =
            v1::DeliveryReportRequest { service: self.service.clone().unwrap_or_default() };
        let mut client = self.server.query().await?;
        let answer = client.delivery_report(request).await.map_err(Error::from)?;
        let answer = answer.into_inner();
        let sums = if answer.truncated { &answer.totals[..] } else { &[] };
        let mut output = Output::new(&self.output);
        if output.json {
            for producer in &answer.producers {
                output.object(&json(producer))?;
            }
            for of_service in sums {
                output.object(&json_totals(of_service))?;
            }
        } else if answer.producers.is_empty() && sums.is_empty() {
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
            let listed = answer.producers.iter().map(row);
            output.table(&header, listed.chain(sums.iter().map(row_of_totals)).collect())?;
        }
        output.flush()?;
        if answer.repeated_logs > 0 && !output.json {
            let logs = grouped(answer.repeated_logs);
            say(&format!(
                "{logs} logs came again from senders without an account, and add nothing"
            ));
        }
        let missing = missing(&answer);
        if missing > 0 && !output.json {
            say(&format!("{} logs are missing", grouped(missing)));
        }
        if is_unknown(&answer) {
            say_cut("nothing is known of the other senders; ask for one --service");
        }
        Ok(exit(missing, is_unknown(&answer)))
    }
}

/// Logs that are missing, of the senders that are listed or of all.
fn missing(answer: &v1::DeliveryReportResponse) -> u64 {
    // One producer that has stored more than it said (a batch ahead of its account) must not hide
    // what another lacks.
    let listed = answer.producers.iter().map(|producer| producer.missing.max(0).unsigned_abs());
    let of_all = answer.totals.iter().map(|of| of.missing);
    listed.fold(0, u64::saturating_add).max(of_all.fold(0, u64::saturating_add))
}

/// Whether senders are in neither the list nor the sums: an older server gives no sums.
fn is_unknown(answer: &v1::DeliveryReportResponse) -> bool {
    answer.truncated && answer.totals.is_empty()
}

/// The exit code: "partial" also where nothing is known of some senders, for theirs may lack.
fn exit(missing: u64, is_unknown: bool) -> Exit {
    if missing > 0 || is_unknown { Exit::Partial } else { Exit::Done }
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

fn json_totals(of: &v1::ProducerTotals) -> Totals<'_> {
    Totals {
        service: &of.service,
        producers: of.producers,
        emitted: of.emitted,
        stored: of.stored,
        rejected: of.rejected,
        dropped: of.dropped,
        queued: of.queued,
        spooled: of.spooled,
        missing: of.missing,
    }
}

fn row_of_totals(of: &v1::ProducerTotals) -> Vec<crate::output::Value> {
    let missing = count(of.missing);
    vec![
        text(&format!("all {}", grouped(of.producers))).tone(Tone::Dim),
        text(&of.service).tone(Tone::Name),
        count(of.emitted),
        count(of.stored),
        count(of.rejected),
        count(of.dropped),
        count(of.queued.saturating_add(of.spooled)),
        if of.missing > 0 { missing.tone(Tone::Bad) } else { missing },
        text("-"),
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

    #[test]
    fn the_sums_tell_of_senders_that_are_not_listed() {
        let listed = [-2, 3].map(|missing| v1::ProducerReport { missing, ..Default::default() });
        let older = v1::DeliveryReportResponse {
            producers: listed.into(),
            truncated: true,
            totals: Vec::new(),
            ..v1::DeliveryReportResponse::default()
        };
        assert_eq!((missing(&older), is_unknown(&older)), (3, true));
        let totals = vec![v1::ProducerTotals { missing: 8, ..Default::default() }];
        let answer = v1::DeliveryReportResponse { totals, ..older };
        assert_eq!((missing(&answer), is_unknown(&answer)), (8, false));
    }
}
