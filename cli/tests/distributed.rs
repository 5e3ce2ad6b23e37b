//! The distributed setting through the real binary: several servers and processors over a real
//! RabbitMQ and a real PostgreSQL.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use logweir_core::identity::{Service, Tenant};
use logweir_queue::partition_of;
use logweir_sdk::{Client as Sdk, Level, Record};
use serde_json::Value;
use support::{
    FIXTURE_LOGS, Process,
    cluster::{Client, Cluster, PATIENCE, until},
    write_fixture,
};

/// How long a partition may be without a processor.
const MOVE_MAX: Duration = Duration::from_secs(10);

/// Servers and processors on a database and a broker, and a token that may do anything.
struct World {
    cluster: Cluster,
    servers: Vec<Process>,
    processors: Vec<Process>,
    token: String,
}

impl World {
    fn start(servers: usize, processors: usize) -> Self {
        Self::start_with(servers, processors, &[])
    }

    fn start_with(servers: usize, processors: usize, env: &[(&str, &str)]) -> Self {
        let cluster = testkit::wait(Cluster::shared());
        let start = |kind: &str| cluster.start_with(kind, "127.0.0.1:0", env);
        let servers: Vec<_> = (0..servers).map(|_| start("server")).collect();
        let processors: Vec<_> = (0..processors).map(|_| start("processor")).collect();
        let token = cluster.token("*", "admin");
        let world = Self { cluster, servers, processors, token };
        world.at(0).until_shared_by(world.processors.len());
        world
    }

    /// A client of one of the servers.
    fn at(&self, server: usize) -> Client<'_> {
        Client { endpoint: &self.servers[server].endpoint, token: &self.token }
    }

    /// All servers, for a sender.
    fn endpoints(&self) -> String {
        let endpoints: Vec<&str> =
            self.servers.iter().map(|server| server.endpoint.as_str()).collect();
        endpoints.join(",")
    }

    fn send(&self, endpoint: &str, args: &[&str]) -> Output {
        let journal = self.cluster.folder.path().join("journal").display().to_string();
        let client = Client { endpoint, token: &self.token };
        client.output(&[&["send", "--journal", &journal], args].concat())
    }
}

fn count_by(objects: &[Value], key: &str) -> BTreeMap<String, u64> {
    objects.iter().fold(BTreeMap::new(), |mut counts, object| {
        *counts.entry(object[key].as_str().expect("a name").to_owned()).or_default() += 1;
        counts
    })
}

/// Holds what is counted against the logs themselves.
fn assert_counts_are_a_recount(client: &Client<'_>) {
    let logs = client.objects(&["export"]);
    let ids: BTreeSet<&str> = logs.iter().map(|log| log["id"].as_str().expect("an id")).collect();
    assert_eq!(ids.len(), logs.len(), "each log is exported once");
    let counted = |command: &[&str], key: &str, count: &str| -> BTreeMap<String, u64> {
        let objects = client.objects(command);
        let pair = |object: &Value| {
            let name = object[key].as_str().expect("a name").to_owned();
            (name, object[count].as_u64().expect("a number"))
        };
        let counts: BTreeMap<_, _> = objects.iter().map(pair).collect();
        assert_eq!(counts.len(), objects.len(), "each {key} once");
        counts
    };
    assert_eq!(counted(&["services"], "service", "total"), count_by(&logs, "service"));
    let templates = counted(&["templates", "-n", "10000"], "template_id", "count");
    assert_eq!(templates, count_by(&logs, "template_id"));
}

#[test]
fn what_is_sent_through_any_server_is_stored_once_and_read_at_all() {
    let world = World::start(2, 2);
    let file = world.cluster.folder.path().join("fixture.ndjson");
    write_fixture(&file);
    let file = file.display().to_string();
    let args = [file.as_str(), "--batch", "10"];
    for endpoint in [&world.endpoints(), &world.servers[0].endpoint, &world.servers[1].endpoint] {
        support::succeeded(&world.send(endpoint, &args));
    }
    world.at(0).until_total(FIXTURE_LOGS as u64);
    for server in 0..2 {
        let client = world.at(server);
        let logs = client.objects(&["export"]);
        let by_service: Vec<u64> = count_by(&logs, "service").into_values().collect();
        assert_eq!(by_service, [200, 200, 200]);
        assert_eq!(count_by(&logs, "level")["ERROR"], 12);
        assert_counts_are_a_recount(&client);
        assert_eq!(client.objects(&["templates"]).len(), 6);
        assert_eq!(client.objects(&["search", "service:shop", "level>=error", "order"]).len(), 4);
        let id = logs[300]["id"].as_str().expect("an id");
        assert_eq!(client.objects(&["get", id, "--neighbours", "2"]).len(), 5);
        for report in client.objects(&["report"]) {
            let found = (report["missing"].as_i64(), report["stored"].as_u64());
            assert_eq!(found, (Some(0), Some(200)), "{report}");
        }
        let kinds = count_by(&client.objects(&["processes"]), "kind");
        assert_eq!(kinds, BTreeMap::from([("processor".into(), 2), ("server".into(), 2)]));
    }
}

/// Services that lie in the partitions 0 to 3, in this order, one after the other.
fn services() -> impl Iterator<Item = String> {
    let named = |partition: u16| {
        (0..).map(|number| format!("service-{number}")).filter(move |name| {
            let service = Service::new(name).expect("a name");
            partition_of(&Tenant::default(), &service, 4) == partition
        })
    };
    let mut named: Vec<_> = (0..4).map(named).collect();
    (0..4).cycle().map(move |at: usize| named[at].next().expect("there are more"))
}

fn sdk(endpoint: &str, token: &str, service: &str) -> Sdk {
    let builder = Sdk::builder().endpoint(endpoint).token(token).service(service);
    builder.on_notice(|_| {}).build().expect("the settings are good")
}

#[test]
fn the_partitions_of_a_killed_processor_move_within_ten_seconds() {
    let mut world = World::start(1, 1);
    let client = world.at(0);
    let (survivor, all) = client.processors().remove(0);
    assert_eq!(all, BTreeSet::from([0, 1, 2, 3]));
    let victim = world.cluster.start("processor");
    client.until_shared_by(2);
    let shares = client.processors();
    assert!(shares.iter().all(|(_, owned)| owned.len() == 2), "{shares:?}");

    // A log in each partition before and after the death.
    let endpoint = world.servers[0].endpoint.clone();
    let services: Vec<String> = services().take(8).collect();
    let emit = |services: &[String]| {
        for service in services {
            let sdk = sdk(&endpoint, &world.token, service);
            sdk.emit(Record::new(Level::Info, "hello"));
            assert_eq!(sdk.shutdown(PATIENCE).sent, 1);
        }
    };
    emit(&services[..4]);
    client.until_total(4);
    victim.kill();
    let died = Instant::now();
    emit(&services[4..]);
    let accepted = died.elapsed();
    client.until_total(8);
    let (stored, most) = (died.elapsed(), MOVE_MAX);
    assert!(stored < most, "its logs were stored {stored:?} after the death");
    client.until_shared_by(1);
    let moved = died.elapsed();
    assert!(moved < most, "its partitions were read {moved:?} after the death");
    assert_eq!(client.processors()[0].0, survivor);
    println!("accepted {accepted:?}, stored {stored:?}, moved {moved:?} after the death");

    // One that ends in order is not waited for.
    let newcomer = world.cluster.start("processor");
    client.until_shared_by(2);
    let begun = Instant::now();
    let processor = std::mem::replace(&mut world.processors[0], newcomer);
    assert_eq!(processor.stop().code(), Some(0), "SIGTERM ends it in order");
    world.at(0).until_shared_by(1);
    let moved = begun.elapsed();
    assert!(moved < Duration::from_secs(5), "its partitions were read {moved:?} after SIGTERM");
}

#[test]
fn rolling_restarts_under_load_lose_nothing() {
    let mut world = World::start(2, 2);
    let (done, emitted) = (AtomicBool::new(false), AtomicU64::new(0));
    let (endpoints, token) = (world.endpoints(), world.token.clone());
    let services: Vec<String> = services().take(4).collect();
    let emit = |service: &str| {
        let sdk = sdk(&endpoints, &token, service);
        while !done.load(Ordering::SeqCst) {
            for _ in 0..50 {
                let number = emitted.fetch_add(1, Ordering::SeqCst);
                sdk.emit(Record::new(Level::Info, format!("order {number} of a restart")));
            }
            // Waits for the answers, so that the queue in memory never overflows.
            sdk.flush(PATIENCE);
        }
        let report = sdk.shutdown(PATIENCE);
        assert_eq!((report.pending, sdk.stats().dropped.total()), (0, 0), "{report:?}");
    };
    std::thread::scope(|scope| {
        for service in &services {
            scope.spawn(|| emit(service));
        }
        for round in 0..4 {
            let before = emitted.load(Ordering::SeqCst);
            until("logs flow", || emitted.load(Ordering::SeqCst) > before + 2_000);
            let (kind, processes) = match round % 2 {
                0 => ("server", &mut world.servers),
                _ => ("processor", &mut world.processors),
            };
            let stopped = processes.remove(0);
            let listen = stopped.address().to_owned();
            let begun = Instant::now();
            assert_eq!(stopped.stop().code(), Some(0), "a {kind} ends in order");
            let drained = begun.elapsed();
            assert!(drained < Duration::from_secs(10), "a {kind} took {drained:?}");
            println!("{kind} ended within {drained:?}");
            processes.push(world.cluster.start_with(kind, &listen, &[]));
        }
        done.store(true, Ordering::SeqCst);
    });
    let emitted = emitted.into_inner();
    world.at(0).until_total(emitted);
    assert_counts_are_a_recount(&world.at(1));
    for report in world.at(0).objects(&["report"]) {
        assert_eq!(report["missing"].as_i64(), Some(0), "{report}");
    }
    println!("{emitted} logs");
}

/// Two processors see one service at the same time: servers that disagree about the number of
/// partitions put its batches into two of them.
#[test]
fn two_processors_on_one_service_agree_and_count_once() {
    let world = World::start(1, 2);
    let odd =
        world.cluster.start_with("server", "127.0.0.1:0", &[("LOGWEIR_RABBITMQ__PARTITIONS", "3")]);
    let shares = world.at(0).processors();
    let owner = |partition: u64| shares.iter().position(|(_, owned)| owned.contains(&partition));
    let split = |name: &String| {
        let service = Service::new(name).expect("a name");
        let of = |count| u64::from(partition_of(&Tenant::default(), &service, count));
        owner(of(4)) != owner(of(3))
    };
    let split: Vec<String> = services().filter(split).take(2).collect();
    let clients: Vec<Sdk> = [&world.servers[0].endpoint, &odd.endpoint]
        .into_iter()
        .flat_map(|endpoint| split.iter().map(move |service| (endpoint, service)))
        .map(|(endpoint, service)| {
            let builder = Sdk::builder().endpoint(endpoint.as_str()).token(world.token.as_str());
            builder.service(service.as_str()).batch_records(7).build().expect("they are good")
        })
        .collect();
    const LOGS: u64 = 4_000;
    for number in 0..LOGS {
        let message = match number % 5 {
            0 => format!("payment {number} of user {} took {} ms", number * 7, number % 97),
            1 => format!("cache miss for key user:{number}"),
            2 => format!("GET /orders/{number} answered 200 in {} ms", number % 31),
            3 => format!("connection from 10.0.{}.{} closed", number % 200, number % 250),
            _ => format!("retrying job {number:08x} after {} s", number % 9),
        };
        let level = if number % 50 == 0 { Level::Error } else { Level::Info };
        for client in &clients {
            client.emit(Record::new(level, message.as_str()));
        }
    }
    for client in &clients {
        assert_eq!(client.shutdown(PATIENCE).sent, LOGS);
    }
    world.at(0).until_total(LOGS * clients.len() as u64);
    assert_counts_are_a_recount(&world.at(0));
    let templates = world.at(0).objects(&["templates", "-n", "10000"]);
    let patterns: BTreeSet<(String, String)> = templates
        .iter()
        .map(|one| (one["service"].to_string(), one["pattern"].to_string()))
        .collect();
    assert_eq!(
        (templates.len(), patterns.len()),
        (10, 10),
        "each pattern has one id: {patterns:?}"
    );
}

#[test]
fn a_tail_shows_what_came_through_another_server() {
    let world = World::start(2, 2);
    let client = world.at(0);
    let mut tail = client.command(&["tail", "--json", "said"]);
    let mut tail = tail.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let lines = BufReader::new(tail.stdout.take().expect("stdout is piped")).lines();
    let mut messages = lines.map(|line| {
        let line: Value = serde_json::from_str(&line.expect("UTF-8")).expect("NDJSON");
        assert!(line["skipped"].is_null(), "nothing is missed: {line}");
        line["message"].as_str().expect("a log").to_owned()
    });
    let services: Vec<String> = services().take(4).collect();
    let sdks: Vec<Sdk> = services
        .iter()
        .map(|service| sdk(&world.servers[1].endpoint, &world.token, service))
        .collect();
    // Until the tail has begun nothing is shown.
    let has_begun = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !has_begun.load(Ordering::SeqCst) {
                sdks[0].emit(Record::new(Level::Info, "knock said nobody"));
                sdks[0].flush(PATIENCE);
            }
        });
        assert_eq!(messages.next().as_deref(), Some("knock said nobody"));
        has_begun.store(true, Ordering::SeqCst);
    });
    let sent: BTreeSet<String> = (0..400).map(|number| format!("{number} said hello")).collect();
    for (number, message) in sent.iter().enumerate() {
        sdks[number % 4].emit(Record::new(Level::Info, message.as_str()));
    }
    let shown = messages.filter(|message| message.ends_with("hello")).take(sent.len());
    let shown: Vec<String> = shown.collect();
    assert_eq!(shown.iter().cloned().collect::<BTreeSet<_>>(), sent, "each is shown once");
    tail.kill().expect("it runs");
    tail.wait().expect("it ends");
}

#[test]
fn a_token_holds_at_every_server_until_it_is_revoked() {
    let world = World::start(2, 1);
    let listed = world.cluster.command(&["token", "list", "--json"]).output();
    let listed = support::succeeded(&listed.expect("the binary runs"));
    let token: Value = serde_json::from_str(listed.lines().next().expect("one")).expect("JSON");
    let id = token["token_id"].as_str().expect("an id");
    let is_let_in = |server: usize| world.at(server).output(&["stats"]).status.success();
    assert!(is_let_in(0) && is_let_in(1));
    let revoke = world.cluster.command(&["token", "revoke", id]).output();
    support::succeeded(&revoke.expect("the binary runs"));
    let begun = Instant::now();
    until("it is refused", || !is_let_in(0) && !is_let_in(1));
    assert!(begun.elapsed() < Duration::from_secs(5), "the promise is 5 s");
}

#[test]
fn dead_letters_are_replayed_through_the_queue() {
    let poison = [("FAILPOINTS", "process_record=return")];
    let mut world = World::start_with(1, 1, &poison);
    let sdk = sdk(&world.servers[0].endpoint, &world.token, "bar");
    for taste in ["water", "poison", "wine", "poison again"] {
        sdk.emit(Record::new(Level::Info, taste));
    }
    assert_eq!(sdk.shutdown(PATIENCE).sent, 4);
    world.at(0).until_total(2);
    let letters = world.at(0).objects(&["dead-letters", "list"]);
    assert_eq!(count_by(&letters, "reason"), BTreeMap::from([("processing_failed".into(), 2)]));
    let replayed = world.at(0).objects(&["dead-letters", "replay", "--all"]);
    let expected = |stored: u64, rejected: u64| {
        [serde_json::json!({ "replayed": stored, "rejected": rejected, "waiting": 0 })]
    };
    assert_eq!(replayed, expected(0, 2), "what fails again does not count as stored");
    assert_eq!(world.processors.remove(0).stop().code(), Some(0));
    world.processors.push(world.cluster.start("processor"));
    world.at(0).until_shared_by(1);
    let replayed = world.at(0).objects(&["dead-letters", "replay", "--all"]);
    assert_eq!(replayed, expected(2, 0));
    world.at(0).until_total(4);
    for report in world.at(0).objects(&["report"]) {
        assert_eq!(report["missing"].as_i64(), Some(0), "{report}");
    }
}

/// Who sends is not turned away by what only storing and reading need.
#[test]
fn a_server_stays_ready_while_the_database_is_away() {
    let cluster = testkit::wait(Cluster::private());
    let (server, processor) = (cluster.start("server"), cluster.start("processor"));
    let token = cluster.token("*", "admin");
    let client = Client { endpoint: &server.endpoint, token: &token };
    client.until_shared_by(1);
    testkit::wait(cluster.postgres.kill());
    let not_ready = || processor.readiness().starts_with("HTTP/1.1 503");
    until("the processor is not ready", not_ready);
    let answer = server.readiness();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let sdk = sdk(&server.endpoint, &token, "bar");
    sdk.emit(Record::new(Level::Info, "it waits in the queue"));
    assert_eq!(sdk.shutdown(PATIENCE).sent, 1);
    testkit::wait(cluster.postgres.restart());
    client.until_total(1);
}

#[test]
fn any_number_may_migrate_at_once() {
    let cluster = testkit::wait(Cluster::shared());
    let start = |_| {
        let mut command = cluster.command(&["migrate"]);
        command.stderr(Stdio::piped()).spawn().expect("the binary starts")
    };
    let running: Vec<_> = (0..5).map(start).collect();
    for migration in running {
        let output = migration.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains(":***@127.0.0.1:"), "without its password: {stderr}");
    }
}

#[test]
fn mistakes_in_the_settings_say_what_to_do_and_tell_no_secret() {
    let cluster = testkit::wait(Cluster::shared());
    let fails = |command: &mut Command, code: i32, says: &str| {
        let output = command.output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {stderr}");
        assert!(stderr.contains(says), "{says}: {stderr}");
        assert!(!stderr.contains("s3cret"), "{stderr}");
    };
    let (database, broker) = (cluster.postgres.url(), cluster.rabbitmq.url());
    let with_password = |url: &str| {
        let (before, host) = url.split_once('@').expect("it has a user");
        let user = before.rsplit_once(':').expect("it has a password").0;
        format!("{user}:s3cret@{host}")
    };
    for kind in ["server", "processor"] {
        let command = |database: &str, broker: &str| {
            let mut command = cluster.command(&[kind, "--listen", "127.0.0.1:0"]);
            command.env_remove("LOGWEIR_DATABASE_URL_FILE").env_remove("LOGWEIR_AMQP_URL_FILE");
            command.env("LOGWEIR_DATABASE_URL", database).env("LOGWEIR_AMQP_URL", broker);
            command.env("LOGWEIR_RABBITMQ__START_MS_MAX", "1");
            command
        };
        fails(&mut command("", &broker), 2, "LOGWEIR_DATABASE_URL");
        fails(&mut command(&database, ""), 2, "LOGWEIR_AMQP_URL");
        fails(
            &mut command(&database, &with_password(&broker)),
            2,
            "check user, password and vhost",
        );
        fails(&mut command("postgresql://u:s3cret@[", &broker), 1, "the database's URL");
        let gone = "amqp://u:s3cret@127.0.0.1:1/v";
        fails(&mut command(&database, gone), 3, "127.0.0.1:1");
    }
    let mut check = cluster.command(&["config", "check"]);
    check.env_remove("LOGWEIR_AMQP_URL_FILE").env("LOGWEIR_AMQP_URL", "amqp://u:s3cret@h/v");
    let printed = support::succeeded(&check.output().expect("the binary runs"));
    assert!(printed.contains("amqp_url = \"amqp://u:***@h/v\""), "{printed}");
    let secret =
        fs::read_to_string(cluster.folder.path().join("database_url")).expect("it is there");
    assert!(!printed.contains(&secret), "{printed}");
}
