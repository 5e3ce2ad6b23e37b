//! What is done over plain HTTP: the same that gRPC is abused for.

use std::{io, time::Duration};

use tokio::{io::AsyncReadExt as _, task::JoinSet, time::sleep};

use super::{
    abuser::{Abuser, REFUSED_PAUSE},
    ingest, query,
};
use crate::noisy::http1;

const SEARCHERS: usize = 16;
/// More than one tenant is given.
const TAILS: usize = 1_400;
/// Before a tail that was refused or ended is asked for again: it is tails that are to hurt, and not as many
/// connections as a machine can make.
const AGAIN_PAUSE: Duration = Duration::from_secs(1);
const SWITCHING_PROTOCOLS: u16 = 101;

/// What is nowhere is looked for in every log.
pub(super) async fn search(abuser: &Abuser) {
    let path = format!("/api/logs?filter={}+*zqxj*", encoded(&query::long_filter()));
    let mut running = JoinSet::new();
    for _ in 0..SEARCHERS {
        let (abuser, path) = (abuser.clone(), path.clone());
        running.spawn(async move {
            loop {
                let answer = http1::ask(abuser.address(), &path, &abuser.token).await;
                if note(&abuser, answer) != "OK" {
                    sleep(REFUSED_PAUSE).await;
                }
            }
        });
    }
    running.join_all().await;
}

/// Tails over WebSocket with filters of their own; every second is never read.
pub(super) async fn tail(abuser: &Abuser) {
    let mut running = JoinSet::new();
    for number in 0..TAILS {
        let abuser = abuser.clone();
        running.spawn(async move {
            let filter = format!("{} -any:*tail{number}*", query::long_filter());
            let path = format!("/ws/logs?filter={}", encoded(&filter));
            loop {
                if let Err(error) = tail_once(&abuser, &path, number % 2 == 0).await {
                    abuser.tally.add(&format!("{:?}", error.kind()), 1);
                }
                sleep(AGAIN_PAUSE).await;
            }
        });
    }
    ingest::trickle(abuser).await;
    running.join_all().await;
}

async fn tail_once(abuser: &Abuser, path: &str, reads: bool) -> io::Result<()> {
    let (status, mut socket) = http1::upgrade(abuser.address(), path, &abuser.token).await?;
    if status != SWITCHING_PROTOCOLS {
        abuser.tally.add(&outcome(status), 1);
        return Ok(());
    }
    abuser.tally.add("tails opened", 1);
    if !reads {
        return std::future::pending().await;
    }
    let mut buffer = vec![0; 16 << 10];
    loop {
        match socket.read(&mut buffer).await? {
            0 => return Ok(()),
            bytes => abuser.tally.add("bytes of tails read", bytes as u64),
        }
    }
}

fn note(abuser: &Abuser, answer: io::Result<(u16, Vec<u8>)>) -> String {
    let outcome = match answer {
        Ok((status, _)) => outcome(status),
        Err(error) => format!("{:?}", error.kind()),
    };
    abuser.tally.add("requests", 1);
    abuser.tally.add(&outcome, 1);
    outcome
}

/// In the words of the contract where a request was none, so that it shows.
fn outcome(status: u16) -> String {
    match status {
        200 => "OK".to_owned(),
        400 => "INVALID_FIELD".to_owned(),
        401 => "Unauthenticated".to_owned(),
        403 => "PermissionDenied".to_owned(),
        404 => "NotFound".to_owned(),
        other => format!("status {other}"),
    }
}

/// A filter as a part of a query: it has no other characters that mean something there.
fn encoded(filter: &str) -> String {
    filter.replace(' ', "+")
}
