//! Kills servers, processors, the broker and the database again and again under load, loses
//! answers, spoils every network, blocks the broker, fills queue and disks, and sends logs that the
//! processors choke on; then audits what is stored against what was acknowledged. A short form by
//! default; `make faults` runs the long one. Each prints its seed, and `LOGWEIR_FAULT_SEED` repeats
//! its faults.

#![allow(clippy::disallowed_methods, reason = "the clients of a test are supervised by the test")]

mod support;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use logweir_proto::v1::DeadLetter;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use support::{
    clients::Clients,
    cluster::{Cluster, PATIENCE},
    faulty_cluster::{Kind, Settings, World, blocking},
    network::{Hop, spells},
    oracle::{Audit, Form, form, number_of},
};
use testkit::Faults;

/// A dead peer is noticed, and everything goes on, within so long.
const NOTICED: Duration = Duration::from_secs(30);

/// Steps at which processes kill themselves.
const PROCESSOR_STEPS: [&str; 4] =
    ["write_after_ledger", "write_after_rows", "write_before_commit", "write_after_commit"];
const SERVER_STEPS: [&str; 2] = ["ingest_before_publish", "ingest_before_answer"];

/// What is done to the cluster, while logs flow.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillProcessor,
    KillServer,
    KillBoth,
    ProcessorDiesAt(&'static str),
    ServerDiesAt(&'static str),
    KillBroker,
    KillDatabase,
    BlockBroker,
    LoseAnswers,
    BadNetwork(Hop),
    LosePeers(Hop),
    RestartInOrder,
}

struct Plan {
    seed: u64,
    /// Logs between two faults.
    share: u64,
    /// How long a network is bad in each way, and how late then.
    spell: Duration,
    latency_max: Duration,
    faults: Vec<Fault>,
}

fn plan() -> Plan {
    use Fault::{
        BadNetwork, BlockBroker, KillBoth, KillBroker, KillDatabase, KillProcessor, KillServer,
        LoseAnswers, LosePeers, ProcessorDiesAt, RestartInOrder, ServerDiesAt,
    };
    let Form { seed, is_long } = form();
    let mut random = StdRng::seed_from_u64(seed);
    let times = |short: usize, long: usize| if is_long { long } else { short };
    let mut faults = Vec::new();
    for (fault, count) in [
        (KillProcessor, times(2, 14)),
        (KillServer, times(1, 14)),
        (KillBoth, times(1, 6)),
        (KillBroker, times(1, 10)),
        (KillDatabase, times(2, 10)),
        (BlockBroker, times(1, 4)),
        (LoseAnswers, times(1, 6)),
        (BadNetwork(Hop::Clients), times(0, 2)),
        (BadNetwork(Hop::Broker), times(0, 3)),
        (BadNetwork(Hop::Database), times(0, 3)),
        (LosePeers(Hop::Clients), times(0, 2)),
        (LosePeers(Hop::Broker), times(0, 2)),
        (LosePeers(Hop::Database), times(0, 3)),
        (RestartInOrder, times(1, 10)),
    ] {
        faults.extend(vec![fault; count]);
    }
    let at_a_step = |steps: &[&'static str], fault: fn(&'static str) -> Fault| -> Vec<Fault> {
        steps.iter().map(|step| fault(step)).collect()
    };
    faults.extend(at_a_step(&PROCESSOR_STEPS, ProcessorDiesAt));
    faults.extend(at_a_step(&SERVER_STEPS, ServerDiesAt));
    faults.shuffle(&mut random);
    let (spell, latency_max) = match is_long {
        false => (Duration::from_secs(1), Duration::from_millis(200)),
        true => (Duration::from_secs(12), Duration::from_secs(2)),
    };
    Plan { seed, share: times(3_000, 25_000) as u64, spell, latency_max, faults }
}

impl World {
    async fn suffer(&mut self, fault: Fault, clients: &Clients, plan: &Plan) {
        match fault {
            Fault::KillProcessor => {
                let at = self.random.random_range(0..2);
                self.exchange(Kind::Processor, at, |old| old.kill()).await;
            }
            Fault::KillServer => {
                let at = self.random.random_range(0..2);
                self.exchange(Kind::Server, at, |old| old.kill()).await;
            }
            Fault::KillBoth => {
                for kind in [Kind::Processor, Kind::Server] {
                    self.exchange(kind, 0, |old| old.kill()).await;
                    self.exchange(kind, 1, |old| old.kill()).await;
                }
            }
            Fault::ProcessorDiesAt(step) => self.die_at(Kind::Processor, step, clients).await,
            Fault::ServerDiesAt(step) => self.die_at(Kind::Server, step, clients).await,
            Fault::KillBroker => {
                self.cluster.rabbitmq.kill().await;
                self.cluster.rabbitmq.restart().await;
            }
            Fault::KillDatabase => {
                self.cluster.postgres.kill().await;
                // The queue takes logs meanwhile.
                clients.send(plan.share / 4).await;
                self.cluster.postgres.restart().await;
            }
            Fault::BlockBroker => {
                self.cluster.rabbitmq.block().await;
                self.assert_refused_at_once("refused", &clients.oracle).await;
                self.cluster.rabbitmq.unblock().await;
            }
            Fault::LoseAnswers => {
                let faults = Faults { cut_answer: 0.1, ..Faults::default() };
                self.network.set(Hop::Clients, faults);
                clients.send(plan.share / 2).await;
                self.network.set(Hop::Clients, Faults::default());
            }
            Fault::BadNetwork(hop) => {
                for faults in spells(plan.latency_max) {
                    self.network.set(hop, faults);
                    clients.send_during(plan.spell, plan.share / 20).await;
                }
                self.network.set(hop, Faults::default());
                self.assert_flows_within(NOTICED, clients, plan.share / 4).await;
            }
            Fault::LosePeers(hop) => {
                self.network.lose(hop);
                self.assert_flows_within(NOTICED, clients, plan.share / 4).await;
            }
            Fault::RestartInOrder => {
                for kind in [Kind::Server, Kind::Processor] {
                    let at = self.random.random_range(0..2);
                    self.exchange(kind, at, |old| {
                        assert_eq!(old.stop().code(), Some(0), "SIGTERM ends it in order");
                    })
                    .await;
                }
            }
        }
    }
}

/// The numbers of the dead letters, each of which must be there for its own fault alone.
fn choked_on(letters: &[DeadLetter]) -> BTreeSet<u64> {
    let number = |letter: &DeadLetter| {
        assert_eq!(letter.reason, "processing_failed", "a good log among them: {letter:?}");
        number_of(&letter.preview)
    };
    let numbers: BTreeSet<u64> = letters.iter().map(number).collect();
    assert_eq!(numbers.len(), letters.len(), "each is put aside once");
    numbers
}

/// Once everything is quiet: nothing acknowledged is lost, nothing is there twice, no batch in
/// part, and among the dead letters is what was choked on alone.
async fn assert_whole(world: &World, clients: &Clients) -> (Audit, BTreeSet<u64>) {
    let found = world.until_quiet(&clients.oracle).await;
    let judgement = clients.oracle.judge(&found);
    let letters = choked_on(&world.dead_letters().await);
    println!(
        "{} logs stored, {} batches abandoned, {} logs choked on, {} chunks cut",
        found.times_stored.len(),
        judgement.abandoned,
        letters.len(),
        world.network.cuts(),
    );
    println!("counted {}, more than once: {:?}", found.counted, found.repeated);
    let counts = (judgement.lost, judgement.doubled, judgement.halved);
    println!("lost, doubled, halved: {counts:?}");
    assert_eq!(counts, (0, 0, 0), "lost, doubled, halved");
    assert_eq!(found.counted, found.times_stored.len() as u64, "counted once");
    assert!(judgement.poisoned.is_subset(&letters), "every poisoned log is put aside");
    assert!(letters.is_subset(&judgement.perhaps_poisoned), "and no good one");
    for report in found.reports.iter().filter(|report| report.sequence > 0) {
        let emitted = report.account.as_ref().expect("it gave one").emitted;
        let arrived = report.stored + report.rejected;
        assert_eq!((report.missing, arrived), (0, emitted), "{report:?}");
        assert!(report.missing_sequences.is_empty(), "{report:?}");
    }
    (found, letters)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_any_process_loses_doubles_or_halves_a_batch() {
    let plan = plan();
    let mut world = World::start(Cluster::private().await, &[], plan.seed).await;
    let clients = Clients::new(world.sender());
    let running = clients.start(plan.seed);

    let begun = Instant::now();
    for (number, &fault) in plan.faults.iter().enumerate() {
        let sent = clients.oracle.numbers();
        clients.send(world.random.random_range(1..=plan.share / 2)).await;
        // So that the fault comes while logs flow.
        clients.allow(plan.share / 2);
        println!("{:>6.1?} {number:>3}: {fault:?} at {sent}", begun.elapsed());
        world.suffer(fault, &clients, &plan).await;
    }
    clients.end(running).await;
    println!("{} faults", plan.faults.len());
    let (found, letters) = assert_whole(&world, &clients).await;

    // Once the processors are mended, what they choked on is stored, and once however often it is
    // sent in again.
    for at in 0..2 {
        let old = world.processors.remove(at);
        let listen = old.address().to_owned();
        blocking(move || assert_eq!(old.stop().code(), Some(0))).await;
        let new = world.start_again(Kind::Processor, &listen, String::new()).await;
        world.processors.insert(at, new);
    }
    assert_eq!(world.replay_all().await, (letters.len() as u64, 0));
    assert_eq!(world.replay_all().await, (0, 0));
    let mended = world.until_quiet(&clients.oracle).await;
    let stored: BTreeSet<u64> = mended.times_stored.keys().copied().collect();
    assert!(letters.is_subset(&stored), "they are stored now");
    assert_eq!(stored.len(), found.times_stored.len() + letters.len(), "and nothing else");
    assert!(mended.times_stored.values().all(|times| *times == 1), "and once");
    assert_eq!(mended.counted, stored.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leads_queues_dies_and_the_others_go_on() {
    let Form { seed, is_long } = form();
    let (rounds, share) = if is_long { (10, 20_000) } else { (2, 3_000) };
    let mut world = World::start(Cluster::with_peers().await, &[], seed).await;
    let clients = Clients::new(world.sender());
    let running = clients.start(seed);
    for round in 0..rounds {
        clients.send(share).await;
        clients.allow(share);
        let partition = world.random.random_range(0..4);
        let leader = world.cluster.leader(partition).await;
        println!("{round}: {} leads partition {partition} and dies", leader.name());
        leader.kill().await;
        // Everybody is connected to the first node.
        let carries_all = leader.name() == world.cluster.rabbitmq.name();
        if !carries_all {
            world.assert_flows_within(NOTICED, &clients, share).await;
        }
        leader.restart().await;
        world.assert_flows_within(NOTICED, &clients, share).await;
    }
    clients.end(running).await;
    assert_whole(&world, &clients).await;
}

/// A small queue, of which processors fetch little.
const SMALL_QUEUE: Settings = &[
    ("LOGWEIR_RABBITMQ__PARTITION_BYTES_MAX", "100000"),
    ("LOGWEIR_RABBITMQ__PREFETCH_BATCHES_MAX", "8"),
];
const MEBIBYTE: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_down_a_full_queue_refuses_and_memory_stays() {
    let Form { seed, is_long } = form();
    let outage = Duration::from_secs(if is_long { 60 } else { 5 });
    let world = World::start(Cluster::private().await, SMALL_QUEUE, seed).await;
    let clients = Clients::new(world.sender());
    let running = clients.start(seed);
    clients.send(3_000).await;

    world.cluster.postgres.kill().await;
    clients.allow(u64::MAX / 2);
    world.assert_refused_at_once("service-0", &clients.oracle).await;
    let memory = |field| world.servers.iter().map(|one| one.memory(field)).max().expect("two");
    let (begun, before, mut refusals) = (Instant::now(), memory("RssAnon"), 0);
    while begun.elapsed() < outage {
        world.assert_refused_at_once("service-0", &clients.oracle).await;
        refusals += 1;
    }
    let (after, most) = (memory("RssAnon"), memory("VmHWM"));
    println!(
        "full at {} logs, {refusals} times refused, memory {} to {} MiB, {} at most",
        clients.oracle.numbers(),
        before / MEBIBYTE,
        after / MEBIBYTE,
        most / MEBIBYTE,
    );
    assert!(after.saturating_sub(before) <= 64 * MEBIBYTE, "memory grows: {before} to {after}");
    assert!(most <= 512 * MEBIBYTE, "{most} bytes of memory");

    clients.allow(0);
    world.cluster.postgres.restart().await;
    world.assert_flows_within(PATIENCE, &clients, 1_000).await;
    clients.end(running).await;
    assert_whole(&world, &clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_of_database_and_broker_refuse_and_go_on_by_themselves() {
    if !testkit::may_mount() {
        println!("no disk may be mounted here: full disks are not tested");
        return;
    }
    let Form { seed, is_long } = form();
    let (rounds, share) = if is_long { (4, 20_000) } else { (1, 3_000) };
    let world = World::start(Cluster::on_disks().await, &[], seed).await;
    let clients = Clients::new(world.sender());
    let running = clients.start(seed);
    for round in 0..rounds {
        clients.send(share).await;
        clients.allow(share);
        println!("{round}: the broker's disk is full");
        world.cluster.rabbitmq.fill_disk().await;
        world.assert_refused_at_once("refused", &clients.oracle).await;
        world.cluster.rabbitmq.free_disk().await;
        world.assert_flows_within(NOTICED, &clients, share).await;

        clients.allow(share);
        println!("{round}: the database's disk is full");
        world.cluster.postgres.fill_disk().await;
        world.until_a_write_fails(&clients).await;
        world.cluster.postgres.free_disk().await;
        let ended = world.cluster.postgres.restart_if_ended().await;
        println!("        the database had ended: {ended}");
        world.assert_flows_within(NOTICED, &clients, share).await;
    }
    clients.end(running).await;
    assert_whole(&world, &clients).await;
}
