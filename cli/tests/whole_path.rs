//! The whole path through the real binary: files in, logs and counts out.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;
use support::{FIXTURE_LOGS, Process, client, logweir, succeeded, token, write_fixture};

struct World {
    folder: tempfile::TempDir,
    server: Process,
    token: String,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data_dir = folder.path().join("data");
        let server = Process::standalone(&data_dir);
        let token = token(&data_dir, "*", "admin");
        Self { folder, server, token }
    }

    fn run(&self, args: &[&str]) -> String {
        succeeded(&client(&self.server, &self.token, args))
    }

    /// The objects of a command's `--json` output.
    fn objects(&self, args: &[&str]) -> Vec<Value> {
        let text = self.run(&[args, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
    }

    fn send_fixture(&self) -> String {
        let file = self.folder.path().join("fixture.ndjson");
        write_fixture(&file);
        let journal = self.folder.path().join("journal");
        let (file, journal) = (file.display().to_string(), journal.display().to_string());
        self.run(&["send", &file, "--journal", &journal])
    }
}

fn count_by(objects: &[Value], key: impl Fn(&Value) -> String) -> BTreeMap<String, usize> {
    objects.iter().fold(BTreeMap::new(), |mut counts, object| {
        *counts.entry(key(object)).or_default() += 1;
        counts
    })
}

#[test]
fn counts_by_service_level_and_template_come_back_exactly() {
    let world = World::start();
    world.send_fixture();
    let logs = world.objects(&["export"]);
    assert_eq!(logs.len(), FIXTURE_LOGS);
    let field = |name: &'static str| move |log: &Value| log[name].as_str().unwrap_or("").to_owned();
    let by_service = count_by(&logs, field("service"));
    assert_eq!(by_service.values().copied().collect::<Vec<_>>(), [200, 200, 200]);
    let by_level = count_by(&logs, field("level"));
    assert_eq!((by_level["ERROR"], by_level["INFO"] + by_level["WARN"]), (12, 588));

    let services = world.objects(&["services"]);
    let totals = services.iter().map(|s| s["total"].as_u64().expect("a number")).sum::<u64>();
    let errors = services.iter().map(|s| s["errors"].as_u64().expect("a number")).sum::<u64>();
    assert_eq!((services.len(), totals, errors), (3, 600, 12));
    let templates = world.objects(&["templates"]);
    let per_template = count_by(&logs, field("template_id"));
    assert_eq!((templates.len(), per_template.len()), (6, 6));
    for template in &templates {
        let id = template["template_id"].as_str().expect("an id");
        assert_eq!(template["count"].as_u64(), Some(per_template[id] as u64), "{template}");
    }
    for report in world.objects(&["report"]) {
        assert_eq!((report["missing"].as_i64(), report["stored"].as_u64()), (Some(0), Some(200)));
    }
}

#[test]
fn sending_again_adds_nothing_and_everything_survives_a_kill() {
    let world = World::start();
    world.send_fixture();
    world.send_fixture();
    assert_eq!(world.objects(&["export"]).len(), FIXTURE_LOGS);
    let World { folder, server, token } = world;
    server.kill();
    let server = Process::standalone(&folder.path().join("data"));
    let world = World { folder, server, token };
    let found = world.objects(&["search", "service:shop", "level>=error", "order"]);
    assert_eq!(found.len(), 4);
    assert_eq!(world.objects(&["search", "user_id=42"]).len(), 1);
    assert_eq!(world.server.stop().code(), Some(0), "SIGTERM ends it in order");
}

const TYPED: &str = r#"
{"time": "2026-02-03T10:00:00Z", "level": "warn", "msg": "GET https://till.example:8443/pay?id=9 slow", "order": {"lines": [{"sku": "A7"}, {"sku": "B8"}], "total": 12.5}}
{"time": "2026-02-03T10:00:01Z", "level": "error", "msg": "ЗАПРОС db1:5433 refused at 23:59:58", "cashier": "Zoë.Quinn"}
{"time": "2026-02-03T10:00:02Z", "level": "debug", "msg": "用户carol支付失败 in till::pay::settle"}
"#;

#[test]
fn a_search_finds_what_a_person_types_or_pastes() {
    let world = World::start();
    let file = world.folder.path().join("typed.ndjson");
    fs::write(&file, TYPED.trim_start()).expect("the disk takes it");
    let journal = world.folder.path().join("journal").display().to_string();
    let file = file.display().to_string();
    world.run(&["send", &file, "--journal", &journal, "--service", "Till-1"]);
    for (terms, expected) in [
        (&["service:Till*"][..], 3),
        (&["cashier:*"], 1),
        (&["order.lines.sku=B8"], 1),
        (&["order.total>12"], 1),
        (&["any:quinn"], 1),
        (&["https://till.example:8443/pay"], 1),
        (&["db1:5433"], 1),
        (&["23:59:58"], 1),
        (&["till::pay::settle"], 1),
        (&["запрос"], 1),
        (&["支付"], 1),
        (&["carol"], 1),
        (&["slow or refused", "service:Till-1"], 2),
        (&["service:Till-1", "-level:debug"], 2),
        (&["time>=2026-02-03 10:00:01"], 2),
    ] {
        assert_eq!(world.objects(&[&["search"], terms].concat()).len(), expected, "{terms:?}");
    }
    for (term, hint) in [
        ("service:till-1", "there are Till-1"),
        ("cashir=Zoë*", "no log there has an attribute \"cashir\""),
        ("quinn", "any:WORD"),
    ] {
        let output = client(&world.server, &world.token, &["search", term]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(hint), "{term}: {stderr}");
    }
}

#[test]
fn mistakes_get_one_clear_line_and_their_exit_code() {
    let world = World::start();
    let fails = |args: &[&str], token: &str, code: i32, says: &str| {
        let output = client(&world.server, token, args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    };
    fails(&["search", "level>=lowd"], &world.token, 2, "^");
    fails(&["search"], "nonsense", 4, "token");
    let data_dir = world.folder.path().join("data");
    fails(&["search"], &token(&data_dir, "shop", "ingest"), 4, "role");
    fails(&["send", "/nowhere/at-all.log"], &world.token, 2, "/nowhere/at-all.log");
    fails(&["search", "--from", "-1h", "--to", "-2h"], &world.token, 2, "--from");
    fails(&["stats", "--every", "7s"], &world.token, 2, "--every");
    fails(&["dead-letters", "replay", "7"], &world.token, 5, "not there");
    let shop = token(&data_dir, "shop", "ingest");
    let file = world.folder.path().join("app.log");
    fs::write(&file, "a line\n").expect("it can be written");
    let (file, journal) = (file.display().to_string(), world.folder.path().display().to_string());
    fails(&["send", &file, "--journal", &journal], &shop, 4, "--service NAME");
    let place = data_dir.display().to_string();
    fails(&["token", "revoke", "abc", "--data-dir", &place], "", 5, "abc");
    let elsewhere = format!("{place}-mistyped");
    fails(&["token", "list", "--data-dir", &elsewhere], "", 5, &elsewhere);
    assert!(!Path::new(&elsewhere).exists(), "a mistyped directory is not made");
    fails(&["config", "check", "--config", "/nowhere.toml"], "", 2, "/nowhere.toml");

    let listen = world.server.address();
    let start = |data_dir: &Path, listen: &str| {
        let mut command = logweir();
        command.arg("standalone").arg("--data-dir").arg(data_dir).args(["--listen", listen]);
        let output = command.output().expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, stderr) = start(&world.folder.path().join("other"), listen);
    assert_eq!((code, stderr.contains("another program has it")), (Some(3), true), "{stderr}");
    let (code, stderr) = start(&data_dir, "127.0.0.1:0");
    assert_eq!((code, stderr.contains("another process uses")), (Some(1), true), "{stderr}");
}

#[test]
fn a_tail_goes_on_over_a_restart_and_says_where_logs_may_be_missing() {
    let World { folder, server, token } = World::start();
    let mut command = logweir();
    command.args(["tail", "--json"]);
    command.env("LOGWEIR_ENDPOINT", &server.endpoint).env("LOGWEIR_TOKEN", &token);
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tail = piped.spawn().expect("the binary starts");
    let shown = BufReader::new(tail.stdout.take().expect("it is piped")).lines();
    let mut shown =
        shown.map(|line| -> Value { serde_json::from_str(&line.expect("UTF-8")).expect("NDJSON") });
    let mut said = BufReader::new(tail.stderr.take().expect("it is piped")).lines();
    let mut says = |what: &str| {
        let line = said.next().expect("it goes on").expect("UTF-8");
        assert!(line.contains(what), "{line}");
    };
    let send = |server: &Process, name: &str| {
        let file = folder.path().join(name);
        fs::write(&file, format!("{name}\n")).expect("it can be written");
        let (file, journal) = (file.display().to_string(), folder.path().join("journal"));
        let journal = journal.display().to_string();
        succeeded(&client(server, &token, &["send", &file, "--journal", &journal]));
    };
    // Until the tail has begun nothing is shown.
    let has_begun = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let knock = || {
            let is_over = |_: &i32| !has_begun.load(Ordering::SeqCst);
            (0..).take_while(is_over).for_each(|n| send(&server, &format!("knock{n}")));
        };
        scope.spawn(knock);
        assert!(shown.next().expect("a log")["message"].to_string().contains("knock"));
        has_begun.store(true, Ordering::SeqCst);
    });
    let address = server.address().to_owned();
    assert!(server.stop().success());
    says("the tail broke off");
    let server = Process::standalone_with(&folder.path().join("data"), &address, &[]);
    says("what was stored meanwhile is not shown");
    send(&server, "after");
    let is_knock = |line: &Value| line["message"].to_string().contains("knock");
    let mut shown = shown.skip_while(is_knock);
    assert!(shown.next().expect("the place")["reconnected"].is_string());
    assert_eq!(shown.next().expect("a log")["message"], "after");
    tail.kill().expect("it runs");
    tail.wait().expect("it ends");
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_one_that_nobody_reads_is_none() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data_dir = folder.path().display().to_string();
    let issue = ["token", "issue", "--service", "shop", "--data-dir", &data_dir];
    for args in [&["config", "check"][..], &["completions", "bash"], &issue] {
        let output = logweir().args(args).stdout(full()).output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = logweir().args(args).stdout(writer).status().expect("the binary runs");
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn a_revoked_token_is_refused_within_five_seconds() {
    let world = World::start();
    let data_dir = world.folder.path().join("data").display().to_string();
    let listed = logweir().args(["token", "list", "--json", "--data-dir", &data_dir]).output();
    let listed = succeeded(&listed.expect("the binary runs"));
    let token: Value = serde_json::from_str(listed.lines().next().expect("one")).expect("JSON");
    let id = token["token_id"].as_str().expect("an id");
    assert!(client(&world.server, &world.token, &["stats"]).status.success());
    let revoke = logweir().args(["token", "revoke", id, "--data-dir", &data_dir]).output();
    succeeded(&revoke.expect("the binary runs"));
    let begun = std::time::Instant::now();
    while client(&world.server, &world.token, &["stats"]).status.success() {
        assert!(begun.elapsed() < Duration::from_secs(5), "the promise is 5 s");
    }
}

#[test]
fn without_a_server_it_says_how_to_reach_one() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", free.local_addr().expect("it is bound"));
    drop(free);
    let mut command = logweir();
    let output = command.args(["stats", "--endpoint", &endpoint, "--token", "x.y.z"]).output();
    let output = output.expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains(&endpoint), "{stderr}");
}
