//! Messages over UDP, each a datagram. What comes while those before it become durable waits in a bounded
//! buffer; beyond it datagrams are dropped and counted. What the system itself drops nobody counts here.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use metrics::counter;
use tokio::{
    net::UdpSocket,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tracing::debug;

use super::{
    framing::Message,
    intake::{Intake, weight},
};

/// Datagrams that wait: their bytes, and how many.
const WAITING_BYTES_MAX: usize = 8 << 20;
const WAITING_MAX: usize = 8_192;
/// Datagrams that become durable together.
const GROUP_MAX: usize = 2_000;
/// After the socket had an error.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Takes datagrams.
pub(super) struct Datagrams {
    bytes_max: usize,
    intake: Arc<Intake>,
}

/// One that waits, with its place.
type Waiting = (Message, IpAddr, OwnedSemaphorePermit);

impl Datagrams {
    pub(super) const fn new(bytes_max: usize, intake: Arc<Intake>) -> Self {
        Self { bytes_max, intake }
    }

    /// Takes them until the process is to stop.
    pub(super) async fn take(self, socket: UdpSocket) {
        let (waiting, arrived) = mpsc::channel(WAITING_MAX);
        let stop = self.intake.stop.clone();
        let receiving = stop.run_until_cancelled(receive(socket, self.bytes_max, waiting));
        // What waits at the end is still taken.
        tokio::join!(receiving, pass_on(arrived, &self.intake));
    }
}

async fn receive(socket: UdpSocket, bytes_max: usize, waiting: mpsc::Sender<Waiting>) {
    let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX));
    // A byte more, so that a datagram that is too long can be told.
    let mut buffer = vec![0; bytes_max + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) => put(&buffer[..length], bytes_max, peer, &room, &waiting),
            Err(error) => {
                debug!(%error, "a datagram cannot be received");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

fn put(
    datagram: &[u8],
    bytes_max: usize,
    peer: SocketAddr,
    room: &Arc<Semaphore>,
    waiting: &mpsc::Sender<Waiting>,
) {
    let is_truncated = datagram.len() > bytes_max;
    let bytes = datagram[..datagram.len().min(bytes_max)].trim_ascii_end();
    if bytes.is_empty() {
        return;
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let place = Arc::clone(room).try_acquire_many_owned(length);
    let is_put = place.is_ok_and(|place| {
        let message = Message { bytes: bytes.to_vec(), is_truncated };
        waiting.try_send((message, peer.ip().to_canonical(), place)).is_ok()
    });
    if !is_put {
        counter!("logweir_syslog_datagrams_dropped_total").increment(1);
    }
}

async fn pass_on(mut arrived: mpsc::Receiver<Waiting>, intake: &Intake) {
    while let Some((message, peer, place)) = arrived.recv().await {
        let (mut group, mut places) = (vec![(message, peer)], vec![place]);
        while group.len() < GROUP_MAX
            && let Some(Some((message, peer, place))) = arrived.recv().now_or_never()
        {
            group.push((message, peer));
            places.push(place);
        }
        let bytes = group.iter().map(|(message, _)| message.bytes.len()).sum();
        match intake.room(weight(group.len(), bytes)).await {
            Ok(charge) => {
                intake.take(&group).await;
                drop(charge);
            }
            Err(refusal) => intake.refuse(group.len(), &refusal),
        }
        drop(places);
    }
}
