//! Free ports of the loopback address.

use std::net::{Ipv4Addr, TcpListener};

use uuid::Uuid;

/// Below the ports that systems give to outgoing connections, so that none of those takes a
/// server's port while it restarts.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A port that nothing listens on now. Another process may be quicker: retry with a new one.
pub(crate) fn free() -> u16 {
    // By chance: test processes that count up from the same port would all meet the same ones.
    let draws = std::iter::repeat_with(|| {
        let [high, low, ..] = *Uuid::new_v4().as_bytes();
        PORTS.start + u16::from_be_bytes([high, low]) % (PORTS.end - PORTS.start)
    });
    let mut free = draws.take(1_000).filter(|port| is_free(*port));
    free.next().expect("one of a thousand ports is free")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
