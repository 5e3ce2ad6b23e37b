//! The networks between clients and servers, and between these or processors and what they share.

use std::time::Duration;

use testkit::{Faults, Proxy};

use super::{Process, cluster::Cluster};

/// Where a network fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hop {
    /// Between clients and servers.
    Clients,
    /// Between RabbitMQ and its clients.
    Broker,
    /// Between PostgreSQL and its clients.
    Database,
}

/// A proxy before everything that connections lead to.
pub(crate) struct Network {
    /// One before each server.
    pub(crate) clients: Vec<Proxy>,
    pub(crate) broker: Proxy,
    pub(crate) database: Proxy,
}

impl Network {
    pub(crate) fn before(cluster: &Cluster, seed: u64) -> Self {
        let proxy = |port: u16| Proxy::start(format!("127.0.0.1:{port}"), seed);
        let broker = proxy(cluster.rabbitmq.port());
        Self { clients: Vec::new(), broker, database: proxy(cluster.postgres.port()) }
    }

    pub(crate) fn add_servers(&mut self, servers: &[Process], seed: u64) {
        self.clients.extend(servers.iter().map(|server| Proxy::start(server.address(), seed)));
    }

    fn at(&self, hop: Hop) -> Vec<&Proxy> {
        match hop {
            Hop::Clients => self.clients.iter().collect(),
            Hop::Broker => vec![&self.broker],
            Hop::Database => vec![&self.database],
        }
    }

    /// Changes what a hop does to what passes.
    pub(crate) fn set(&self, hop: Hop, faults: Faults) {
        self.at(hop).into_iter().for_each(|proxy| proxy.set(faults));
    }

    /// Takes the peers of all open connections away.
    pub(crate) fn lose(&self, hop: Hop) {
        self.at(hop).into_iter().for_each(Proxy::lose);
    }

    /// Chunks that were cut, on every hop.
    pub(crate) fn cuts(&self) -> u64 {
        let hops = [Hop::Clients, Hop::Broker, Hop::Database];
        hops.into_iter().flat_map(|hop| self.at(hop)).map(Proxy::cuts).sum()
    }
}

/// What a bad network does, one after the other. A cut may befall any chunk of either way; what a
/// black hole swallowed comes out when it ends.
pub(crate) fn spells(latency_max: Duration) -> [Faults; 3] {
    let cut = 0.02;
    [
        Faults { latency_max, ..Faults::default() },
        Faults { cut_question: cut, cut_answer: cut, ..Faults::default() },
        Faults { is_black_hole: true, ..Faults::default() },
    ]
}

/// What a socket speaks.
#[derive(Clone, Copy)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// The addresses on the loopback that a process listens on. Which ones the system gave it, it does not
/// say: the kernel does.
pub(crate) fn listening(process_id: u32, transport: Transport) -> Vec<String> {
    // The states `LISTEN` and, of UDP, bound to no peer.
    let (table, state) = match transport {
        Transport::Tcp => ("tcp", "0A"),
        Transport::Udp => ("udp", "07"),
    };
    let folder = format!("/proc/{process_id}/fd");
    let links = std::fs::read_dir(folder).expect("it runs");
    let links = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    let names: Vec<String> = links.map(|link| link.display().to_string()).collect();
    let path = format!("/proc/{process_id}/net/{table}");
    let table = std::fs::read_to_string(path).expect("it runs");
    let listens = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let inode = format!("socket:[{}]", fields.get(9)?);
        let (_, port) = fields.get(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (fields.get(3) == Some(&state) && names.contains(&inode))
            .then(|| format!("127.0.0.1:{port}"))
    };
    table.lines().filter_map(listens).collect()
}
