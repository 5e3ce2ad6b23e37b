//! The servers of the kit: they start, die, come back and leave nothing behind.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use testkit::{Faults, PgBouncer, Postgres, Proxy, RabbitMq, TimescaleDb, may_mount};

fn sql(url: &str, statement: &str) -> Result<String, String> {
    let mut command = Command::new("psql");
    command.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", statement]);
    let output = command.arg(url).output().expect("psql runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[tokio::test]
async fn what_postgres_committed_outlives_its_death() {
    let postgres = Postgres::private().await;
    sql(&postgres.url(), "create table kept as select 7 as value").expect("it runs");
    postgres.kill().await;
    let error = sql(&postgres.url(), "select 1").expect_err("it is dead");
    assert!(error.contains("refused"), "{error}");
    postgres.restart().await;
    assert_eq!(sql(&postgres.url(), "select value from kept").as_deref(), Ok("7"));
    postgres.stop().await;
    assert!(sql(&postgres.url(), "select 1").is_err());
    postgres.restart().await;
    assert_eq!(sql(&postgres.url(), "select value from kept").as_deref(), Ok("7"));
}

#[tokio::test]
async fn a_paused_server_takes_a_question_and_answers_when_it_goes_on() {
    let postgres = Postgres::private().await;
    postgres.pause().await;
    let mut client = TcpStream::connect(("127.0.0.1", postgres.port())).expect("the port is open");
    let may_i_encrypt = [0, 0, 0, 8, 4, 210, 22, 47];
    client.write_all(&may_i_encrypt).expect("it is taken");
    client.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit can be set");
    let mut answer = [0];
    assert!(client.read_exact(&mut answer).is_err(), "it was answered");
    client.set_read_timeout(None).expect("a limit can be set");
    postgres.resume().await;
    client.read_exact(&mut answer).expect("it is answered");
    assert_eq!(&answer, b"N");
}

async fn assert_knows_vhost(rabbitmq: &RabbitMq) {
    let names = rabbitmq.evaluate("rabbit_vhost:list_names()").await;
    assert!(names.contains(rabbitmq.vhost()), "{names}");
}

#[tokio::test]
async fn rabbitmq_dies_and_comes_back() {
    let rabbitmq = RabbitMq::private().await;
    assert_knows_vhost(&rabbitmq).await;
    rabbitmq.kill().await;
    assert!(TcpStream::connect(("127.0.0.1", rabbitmq.port())).is_err());
    rabbitmq.restart().await;
    assert_knows_vhost(&rabbitmq).await;
    rabbitmq.block().await;
    let alarms = rabbitmq.evaluate("rabbit_alarm:get_alarms()").await;
    assert!(alarms.contains("memory"), "{alarms}");
    rabbitmq.unblock().await;
    assert_eq!(rabbitmq.evaluate("rabbit_alarm:get_alarms()").await, "[]");
    rabbitmq.restart().await;
    assert_knows_vhost(&rabbitmq).await;
}

#[tokio::test]
async fn tests_do_not_see_each_others_data() {
    let (mine, yours) = tokio::join!(Postgres::start(), Postgres::start());
    sql(&mine.url(), "create table hidden ()").expect("it runs");
    let found = sql(&yours.url(), "select count(*) from pg_class where relname = 'hidden'");
    assert_eq!(found.as_deref(), Ok("0"));
    let (mine, yours) = tokio::join!(RabbitMq::start(), RabbitMq::start());
    assert_ne!(mine.url(), yours.url());
}

const MEBIBYTE: u64 = 1 << 20;

#[tokio::test]
async fn a_database_whose_disk_is_full_goes_on_when_there_is_room() {
    if !may_mount() {
        println!("no tmpfs may be mounted here");
        return;
    }
    let postgres = Postgres::on_disk(160 * MEBIBYTE, "").await;
    let grow = "create table if not exists big as select 1 as number; \
        insert into big select * from generate_series(1, 300000)";
    sql(&postgres.url(), grow).expect("there is room");
    postgres.fill_disk().await;
    let error = sql(&postgres.url(), grow).expect_err("there is none");
    assert!(error.contains("No space left on device"), "{error}");
    postgres.free_disk().await;
    // A log that could not be written ends the server: what was committed is there again.
    postgres.restart().await;
    assert_eq!(sql(&postgres.url(), "select count(*) from big").as_deref(), Ok("300001"));
    sql(&postgres.url(), grow).expect("there is room again");
    postgres.kill().await;
    postgres.restart().await;
    assert_eq!(sql(&postgres.url(), "select count(*) from big").as_deref(), Ok("600001"));
}

#[tokio::test]
async fn a_broker_whose_disk_is_full_says_so() {
    if !may_mount() {
        println!("no tmpfs may be mounted here");
        return;
    }
    let rabbitmq = RabbitMq::on_disk(160 * MEBIBYTE, "").await;
    let alarms = "rabbit_alarm:get_alarms()";
    assert_eq!(rabbitmq.evaluate(alarms).await, "[]");
    rabbitmq.fill_disk().await;
    let raised = rabbitmq.evaluate(alarms).await;
    assert!(raised.contains("disk"), "{raised}");
    rabbitmq.free_disk().await;
    assert_eq!(rabbitmq.evaluate(alarms).await, "[]");
}

#[tokio::test]
async fn timescaledb_takes_rows_by_copy_on_two_connections() {
    let timescaledb = TimescaleDb::start().await;
    let url = timescaledb.url();
    sql(&url, "create table measured (time timestamptz not null, value integer)").expect("it runs");
    sql(&url, "select create_hypertable('measured', 'time')").expect("it runs");
    let copy = |rows: &str| {
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--command", "copy measured from stdin csv", &url]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("psql runs");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(rows.as_bytes()).expect("psql reads");
        drop(stdin);
        child
    };
    let copies = [copy("2026-01-01,1\n"), copy("2026-02-01,2\n"), copy("2026-03-01,three\n")];
    let succeeded = copies.map(|mut child| child.wait().expect("psql ends").success());
    assert_eq!(succeeded, [true, true, false]);
    let found = sql(&url, "select count(*), count(distinct tableoid) from measured");
    assert_eq!(found.as_deref(), Ok("2|2"));
}

#[tokio::test]
async fn servers_show_a_certificate_of_their_authority() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::private_tls(), RabbitMq::private_tls());
    let url = format!("{}&sslrootcert={}", postgres.url(), postgres.ca_file().display());
    let url = url.replace("require", "verify-full");
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(sql(&url, encrypted).as_deref(), Ok("t"));
    let mut command = Command::new("openssl");
    command.args(["s_client", "-verify_return_error", "-verify_ip", "127.0.0.1", "-CAfile"]);
    command.arg(rabbitmq.ca_file()).arg("-connect").arg(format!("127.0.0.1:{}", rabbitmq.port()));
    let output = command.stdin(Stdio::null()).output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn pgbouncer_hands_a_connection_to_each_transaction() {
    let postgres = Postgres::start().await;
    let pool = PgBouncer::start(&postgres).await;
    assert_eq!(sql(&pool.url(), "select current_database()").as_deref(), Ok(postgres.database()));
}

#[tokio::test]
async fn a_proxy_cuts_resets_and_swallows() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(format!("127.0.0.1:{}", postgres.port()), 7);
    let url = proxy.url(&postgres.url());
    let slow = Faults { latency_max: Duration::from_millis(5), ..Faults::default() };
    proxy.set(slow);
    assert_eq!(sql(&url, "select 1").as_deref(), Ok("1"));
    proxy.set(Faults { cut_answer: 1.0, ..slow });
    assert!(sql(&url, "select 1").is_err());
    assert!(proxy.cuts() > 0, "psql was told that there was nothing to cut");
    proxy.set(Faults { refuses: true, ..Faults::default() });
    assert!(sql(&url, "select 1").is_err());
    proxy.set(Faults::default());
    assert_eq!(sql(&url, "select 1").as_deref(), Ok("1"));
}

#[test]
fn a_black_hole_gives_back_what_it_held() {
    let echo = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let proxy = Proxy::start(echo.local_addr().expect("it is bound").to_string(), 7);
    let mut client = TcpStream::connect(proxy.address()).expect("it listens");
    let (mut server, _) = echo.accept().expect("the proxy connects");
    proxy.set(Faults { is_black_hole: true, ..Faults::default() });
    client.write_all(b"held").expect("it is taken");
    server.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit can be set");
    let mut read = [0; 4];
    assert!(server.read_exact(&mut read).is_err(), "it came through");
    server.set_read_timeout(None).expect("a limit can be set");
    proxy.set(Faults::default());
    server.read_exact(&mut read).expect("it comes through");
    assert_eq!(&read, b"held");
    proxy.reset();
    let error = client.read_exact(&mut read).expect_err("the connection ends");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_lost_peer_is_silent_and_the_next_is_there() {
    let echo = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let proxy = Proxy::start(echo.local_addr().expect("it is bound").to_string(), 7);
    let connect = || {
        let client = TcpStream::connect(proxy.address()).expect("it listens");
        (client, echo.accept().expect("the proxy connects").0)
    };
    let (mut client, mut server) = connect();
    let mut read = [0; 4];
    client.write_all(b"here").expect("it is taken");
    server.read_exact(&mut read).expect("it comes through");
    proxy.lose();
    client.write_all(b"lost").expect("it is taken");
    server.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit can be set");
    let error = server.read_exact(&mut read).expect_err("nothing comes");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "nor does it end");
    let (mut next, mut next_server) = connect();
    next.write_all(b"next").expect("it is taken");
    next_server.read_exact(&mut read).expect("it comes through");
    assert_eq!(&read, b"next");
    server.set_read_timeout(None).expect("a limit can be set");
    drop(client);
    let error = server.read_exact(&mut read).expect_err("it hears of the end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// What is left of a run of the kit's own binary that is killed.
#[test]
fn nothing_outlives_a_killed_test() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testkit"));
    command.args(["share", "sh", "-c", "ls -d \"$TMPDIR\"/logweir-*; exec cat"]);
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir();
    let place = place.expect("a temporary folder can be made");
    command.env("TMPDIR", place.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut kit = command.spawn().expect("the kit starts");
    let mut said = [0; 4096];
    let read =
        kit.stdout.take().expect("stdout is piped").read(&mut said).expect("the shell speaks");
    let folders = String::from_utf8_lossy(&said[..read]).into_owned();
    assert_eq!(folders.lines().count(), 3, "{folders}");
    kit.kill().expect("it runs");
    kit.wait().expect("it ends");
    while folders.lines().any(|folder| Path::new(folder).exists()) {
        std::thread::yield_now();
    }
    let processes = std::fs::read_dir("/proc").expect("Linux has /proc").flatten();
    let places = processes.filter_map(|entry| std::fs::read_link(entry.path().join("cwd")).ok());
    assert!(!places.into_iter().any(|found| found.starts_with(place.path())), "something runs");
}

fn open_to_all() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}
