//! Lines as programs write them, and what must be read in them.

use logweir_core::{
    record::{Level, Value},
    timestamp::Timestamp,
};
use logweir_parse::{Context, Format, Parsed, parse};

/// 2026-01-02T03:04:05Z.
const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_323_045);

fn read(text: &str) -> Parsed {
    parse(text, &Context::at(NOW))
}

/// A line with the moment [`NOW`] in it, its level and its message.
#[track_caller]
fn check(line: &str, level: Level, message: &str) {
    let parsed = read(line);
    let since = parsed.time.map(|time| time.nanos_since(NOW));
    assert!(since.is_some_and(|nanos| (0..1_000_000_000).contains(&nanos)), "{line}: {since:?}");
    assert_eq!(parsed.record.level, Some(level), "{line}");
    assert_eq!(parsed.record.message, message, "{line}");
}

#[track_caller]
fn attribute(parsed: &Parsed, key: &str, expected: impl Into<Option<Value>>) {
    assert_eq!(parsed.record.attribute(key), expected.into().as_ref(), "{key}");
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[test]
fn level_and_logger_stand_where_loggers_put_them() {
    check(
        "2026-01-02 03:04:05,123 - orders.db - WARNING - pool is full",
        Level::Warn,
        "pool is full",
    );
    check("2026-01-02 03:04:05,123 orders.db ERROR pool is gone", Level::Error, "pool is gone");
    check("2026-01-02T03:04:05Z orders::db DEBUG connected", Level::Debug, "connected");
    check(
        "2026-01-02T03:04:05Z | WARN     | orders:run:7 - slow",
        Level::Warn,
        "orders:run:7 - slow",
    );
    check("WARN 2026-01-02 03:04:05 pool is full", Level::Warn, "pool is full");
    check("[FATAL] 2026-01-02T03:04:05Z gone", Level::Fatal, "gone");
    check("ERROR [2026-01-02 03:04:05] gone", Level::Error, "gone");
    check("2026-01-02T03:04:05Z|ERROR|gone", Level::Error, "gone");
    check("2026-01-02 03:04:05|Warn|slow", Level::Warn, "slow");
    check("2026-01-02T03:04:05Z error - gone", Level::Error, "gone");
    check("2026-01-02 03:04:05 \u{1b}[31mERROR\u{1b}[0m in red", Level::Error, "in red");
    check("\0\0\0\u{feff}2026-01-02 03:04:05 ERROR behind a hole", Level::Error, "behind a hole");
    assert_eq!(read("2026-01-02 03:04:05,1 - orders.db - INFO - x").record.logger, "orders.db");
}

#[test]
fn springs_head_is_taken_apart() {
    let line = "2026-01-02 03:04:05.123  WARN 17 --- [orders] [   main] o.s.Pool    : pool is full";
    check(line, Level::Warn, "pool is full");
    let parsed = read(line);
    assert_eq!(parsed.record.logger, "o.s.Pool");
    attribute(&parsed, "thread", text("main"));
    attribute(&parsed, "pid", Value::Int(17));
}

#[test]
fn servers_have_heads_of_their_own() {
    check("E0102 03:04:05.678901    7 run.go:5] no route", Level::Error, "no route");
    check("9:S 02 Jan 2026 03:04:05.678 # no memory", Level::Warn, "no memory");
    check(
        "[Fri Jan 02 03:04:05.678901 2026] [ssl:error] [pid 7] broken",
        Level::Error,
        "[ssl:error] [pid 7] broken",
    );
    check(
        "2026-01-02 04:04:05 CET [7] a@b FATAL:  no room",
        Level::Fatal,
        "[7] a@b FATAL:  no room",
    );
    check(
        "2026-01-02T03:04:05.1Z 0 [Warning] [MY-1] [Server] old",
        Level::Warn,
        "0 [Warning] [MY-1] [Server] old",
    );
    check("Jan 2, 2026 3:04:05 AM a.B run\nWARNING: slow", Level::Warn, "a.B run\nWARNING: slow");
    let access = r#"::1 - - [02/Jan/2026:03:04:05 +0000] "GET / HTTP/1.1" 200 12"#;
    assert_eq!((read(access).time, read(access).notes.format), (Some(NOW), Format::AccessLog));
}

#[test]
fn heads_of_one_program_are_taken_off() {
    let nest = "[Nest] 17  - 01/02/2026, 3:04:05 AM   ERROR [OrderService] no money +3ms";
    check(nest, Level::Error, "no money +3ms");
    assert_eq!(read(nest).record.logger, "OrderService");
    check("[Nest] 17  - 01/02/2026, 3:04:05 AM     LOG ready", Level::Info, "ready");
    let gin = read("[GIN] 2026/01/02 - 03:04:05 | 503 |     1.5ms |   10.0.0.7 | GET  \"/cart\"");
    assert_eq!((gin.time, gin.record.latency_ms), (Some(NOW), Some(1.5)));
    attribute(&gin, "status", Value::Int(503));
    let file = "####<Jan 2, 2026 4:04:05 AM CET> <Error> <HTTP> <h1> <s1> <main> <> <> <> <1> <BEA-7> <no route>";
    check(file, Level::Error, "no route");
    assert_eq!(read(file).record.logger, "HTTP");
    attribute(&read(file), "server", text("s1"));
    attribute(&read(file), "message.id", text("BEA-7"));
    let console = "<Jan 2, 2026 4:04:05 AM CET> <Warning> <JDBC> <BEA-8> <slow pool>";
    check(console, Level::Warn, "slow pool");
}

#[test]
fn what_a_program_says_last_has_a_level_and_stays_whole() {
    for (line, level) in [
        ("panic: no map", Level::Fatal),
        ("PHP Fatal error:  Uncaught E: x", Level::Fatal),
        ("PHP Warning:  no such file", Level::Warn),
        ("fatal error: all goroutines are asleep - deadlock!", Level::Fatal),
        ("app/a.swift:7: Fatal error: no value", Level::Fatal),
    ] {
        let parsed = read(line);
        assert_eq!((parsed.record.level, parsed.record.message.as_str()), (Some(level), line));
    }
    let server = read("2026-01-02 03:04:05.00 spid7       Error: 701, Severity: 17, State: 1.");
    assert_eq!((server.time, server.record.level), (Some(NOW), Some(Level::Error)));
}

#[test]
fn a_time_may_stand_within_brackets_or_behind_a_few_words() {
    check("[2026-01-02T03:04:05Z ERROR orders::db] gone", Level::Error, "gone");
    check("[2026-01-02 03:04:05,123: WARNING/Worker-1] slow", Level::Warn, "slow");
    check("[2026-01-02 03:04:05] shop.ERROR: gone", Level::Error, "gone");
    for line in [
        "E, [2026-01-02T03:04:05.123456 #17] ERROR -- : gone",
        "ERROR [main] 2026-01-02 03:04:05,123 Db.java:7 - gone",
        "[main] 2026-01-02 03:04:05 ERROR gone",
        "packager 2026-01-02 03:04:05: ERROR gone",
        "01-02 03:04:05.123  17  18 ERROR Tag: gone",
    ] {
        let parsed = read(line);
        assert_eq!(parsed.record.level, Some(Level::Error), "{line}");
        assert!(parsed.time.is_some_and(|time| time.since(NOW).as_secs() == 0), "{line}");
    }
}

#[test]
fn a_number_is_no_time_and_no_level_unless_it_can_be_one() {
    let parsed = read(r#"{"time":153,"timestamp":"2026-01-02T03:04:05Z","priority":1,"msg":"m"}"#);
    assert_eq!((parsed.time, parsed.record.level), (Some(NOW), None));
    attribute(&parsed, "time", Value::Int(153));
    attribute(&parsed, "priority", Value::Int(1));
    assert_eq!(read("sent 1767323045 bytes").time, None);
    assert_eq!(read("Begun:  2026-01-02  03:04:05").time, Some(NOW));
    assert_eq!(read("Build finished: 2026-01-02  03:04:05").time, Some(NOW));
    for name in ["Certificate expires", "Build time", "Release date", "Scheduled start"] {
        assert_eq!(read(&format!("{name}: 2026-01-02 03:04:05")).time, None, "{name}");
    }
    let audit = read("type=SYSCALL msg=audit(1767323045.123:7): comm=\"sh\"");
    assert_eq!(audit.time.map(|time| time.as_unix_seconds()), Some(1_767_323_045));
    assert_eq!(audit.service, None);
}

#[test]
fn a_sentence_has_no_level() {
    for line in [
        "Alert: the shop opens late",
        "Error handling is on",
        "0 errors, ERROR_COUNT=0",
        "GET /error/fatal?level=x 200",
        "[ERROR-PAGES] shown",
        "12 checks, 3 ERROR",
        "somebody opened [Error] twice",
    ] {
        assert_eq!((read(line).record.level, read(line).record.message.as_str()), (None, line));
    }
}

#[test]
fn syslog_names_host_and_program() {
    for line in [
        "Jan  2 03:04:05 gw dhcpd[7]: lease over",
        "<28>Jan  2 03:04:05 gw dhcpd[7]: lease over",
        "2026-01-02T04:04:05.123456+01:00 gw dhcpd[7]: lease over",
        r#"<28>1 2026-01-02T03:04:05.1Z gw dhcpd 7 - [a@1 b="c \"d\""] lease over"#,
        "<28>1 2026-01-02T03:04:05.1Z gw dhcpd 7 - - lease over",
    ] {
        let parsed = read(line);
        assert_eq!(parsed.service.as_deref(), Some("dhcpd"), "{line}");
        assert_eq!(parsed.record.message, "lease over", "{line}");
        assert_eq!(parsed.record.level, line.starts_with('<').then_some(Level::Warn), "{line}");
        attribute(&parsed, "host", text("gw"));
        attribute(&parsed, "pid", text("7"));
    }
    let inside = read(r#"Jan  2 03:04:05 gw app[7]: {"level":"error","msg":"inside","n":1}"#);
    assert_eq!(
        (inside.record.level, inside.record.message.as_str()),
        (Some(Level::Error), "inside")
    );
    assert_eq!(inside.service.as_deref(), Some("app"));
    // Another program's line that also begins with a time of RFC 3339.
    assert_eq!(read("2026-01-02T03:04:05Z main worker: up").service, None);
}

#[test]
fn a_name_means_the_same_in_every_schema() {
    for line in [
        r#"{"time":"2026-01-02T03:04:05Z","level":"error","msg":"m"}"#,
        r#"{"Timestamp":"2026-01-02T03:04:05Z","LogLevel":"Error","Message":"m"}"#,
        r#"{"@t":"2026-01-02T03:04:05Z","@l":"Error","@m":"m"}"#,
        r#"{"t":{"$date":"2026-01-02T03:04:05Z"},"s":"E","c":"X","msg":"m"}"#,
        r#"{"timestamp":{"seconds":1767323045,"nanos":5},"severity":"ERROR","message":"m"}"#,
        r#"{"version":"1.1","short_message":"m","timestamp":1767323045.5,"level":3}"#,
        r#"{"__REALTIME_TIMESTAMP":"1767323045000000","PRIORITY":"3","MESSAGE":"m"}"#,
        r#"{"__REALTIME_TIMESTAMP":"1767323045000000","PRIORITY":"3","MESSAGE":[109]}"#,
        r#"{"@timestamp":"2026-01-02T03:04:05Z","log":{"level":"error"},"message":"m"}"#,
        r#"{"timeUnixNano":"1767323045000000000","severityText":"ERROR","body":{"stringValue":"m"}}"#,
        r#"{"instant":{"epochSecond":1767323045,"nanoOfSecond":7},"level":"ERROR","message":"m"}"#,
        r#"{"datetime":"2026-01-02T03:04:05+00:00","level":400,"level_name":"ERROR","message":"m"}"#,
        r#"{"timestamp":"2026-01-02T03:04:05Z","level":"ERROR","fields":{"message":"m"},"target":"a"}"#,
        r#"{"asctime":"2026-01-02 03:04:05,123","levelname":"ERROR","message":"m"}"#,
        r#"{"time":1767323045000,"level":50,"msg":"m"}"#,
        r#"{"time":"2026-01-02T03:04:05Z","level":"ERROR+2","msg":"m"}"#,
        r#"{"timestamp":"2026-01-02T03:04:05Z","severity":"ERROR","jsonPayload":{"message":"m"}}"#,
        r#"ts=2026-01-02T03:04:05Z lvl=error msg="m" n=1"#,
        r#"2026-01-02T03:04:05Z {"level":"error","msg":"m"}"#,
        r#"    2026-01-02T03:04:05Z ERROR m"#,
        r#"{"text":"x","record":{"level":{"name":"ERROR","no":40},"message":"m","time":{"timestamp":1767323045.0}}}"#,
        r#"{"time":"2026-01-02T03:04:05Z","Level":"Error","properties":{"message":"m"},"operationName":"o"}"#,
        r#"{"time":"2026-01-02T03:04:05Z","level":"error","msg":"m"},"#,
        r#"{"time":"2026-01-02T03:04:05Z","level":"error","msg":"m","n":NaN,}"#,
        r#"{'time': '2026-01-02 03:04:05', 'level': 'ERROR', 'msg': "m", 'n': None, 'ok': True}"#,
    ] {
        check(line, Level::Error, "m");
    }
}

#[test]
fn a_cluster_names_the_service_by_label_container_or_pod() {
    for (line, service) in [
        (
            r#"{"log":"m","kubernetes":{"pod_name":"pay-6d4cf56db6-x2x4b","container_name":"app"}}"#,
            "app",
        ),
        (r#"{"log":"m","kubernetes":{"container_name":"app","labels":{"app":"shop"}}}"#, "shop"),
        (r#"{"log":"m","kubernetes":{"pod_name":"pay-6d4cf56db6-x2x4b"}}"#, "pay"),
        (
            r#"{"textPayload":"m","resource":{"type":"k","labels":{"container_name":"till"}}}"#,
            "till",
        ),
        (
            r#"{"textPayload":"m","resource":{"labels":{"service_name":"cart","region":"x"}}}"#,
            "cart",
        ),
    ] {
        let parsed = read(line);
        assert_eq!(parsed.service.as_deref(), Some(service), "{line}");
        assert_eq!(parsed.record.message, "m", "{line}");
    }
}

#[test]
fn a_record_of_otlp_has_the_service_of_its_resource() {
    let parsed = read(
        r#"{"timeUnixNano":"1767323045000000000","severityNumber":17,"body":{"stringValue":"m"},
            "attributes":[{"key":"n","value":{"intValue":"7"}}],
            "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}},
                                      {"key":"host.name","value":{"stringValue":"h1"}}]}}"#,
    );
    assert_eq!((parsed.time, parsed.service.as_deref()), (Some(NOW), Some("cart")));
    attribute(&parsed, "n", Value::Int(7));
    attribute(&parsed, "host.name", text("h1"));
}

#[test]
fn of_two_levels_by_number_the_other_is_kept() {
    let parsed = read(r#"{"msg":"m","level":50,"severity":3}"#);
    assert_eq!(parsed.record.level, Some(Level::Error));
    attribute(&parsed, "severity", Value::Int(3));
}

#[test]
fn the_better_name_is_the_message() {
    for line in [
        r#"{"event":"login","message":"signed in"}"#,
        r#"{"message":"signed in","log":"login","event":"x"}"#,
        r#"{"text":"login","msg":"signed in"}"#,
    ] {
        let parsed = read(line);
        assert_eq!(parsed.record.message, "signed in", "{line}");
        assert!(
            parsed.record.attributes.iter().any(|known| known.value == text("login")),
            "{line}"
        );
    }
}

#[test]
fn exceptions_traces_latencies_and_statuses_have_one_name() {
    let parsed = read(
        r#"{"msg":"m","err":{"type":"IoError","message":"no route","stack":"IoError: no route\n at a","code":7},
            "duration_ms":12,"statusCode":503,"trace":{"id":"0102030405060708090a0b0c0d0e0f10"}}"#,
    );
    attribute(&parsed, "exception.type", text("IoError"));
    attribute(&parsed, "exception.message", text("no route"));
    attribute(&parsed, "err.code", Value::Int(7));
    attribute(&parsed, "status", Value::Int(503));
    assert_eq!(parsed.record.latency_ms, Some(12.0));
    assert!(parsed.record.trace_id.is_some());
    let parsed = read(r#"{"message":"m","thrown":{"name":"a.IoException","message":"no route"}}"#);
    attribute(&parsed, "exception.type", text("a.IoException"));
    let parsed = read("{\"msg\":\"m\",\"stack_trace\":\"a.b.IoException: no route\\n\\tat a\"}");
    attribute(&parsed, "exception.type", text("a.b.IoException"));
}

#[test]
fn what_has_no_meaning_stays_as_it_is() {
    let parsed = read(
        r#"{"msg":"m","n":7,"f":1.5,"b":true,"z":null,"o":{"a":[1, 2]},"level":"odd","time":"noon",
            "big":123456789012345678901,"attributes":{"k":"v"},"span_id":"xx"}"#,
    );
    for (key, value) in [
        ("n", Value::Int(7)),
        ("f", Value::Double(1.5)),
        ("b", Value::Bool(true)),
        ("z", Value::Json("null".into())),
        ("o", Value::Json(r#"{"a":[1, 2]}"#.into())),
        ("level", text("odd")),
        ("time", text("noon")),
        ("big", Value::Json("123456789012345678901".into())),
        ("k", text("v")),
        ("span_id", text("xx")),
    ] {
        attribute(&parsed, key, value);
    }
    assert!(parsed.notes.has_unknown_level);
    assert_eq!((parsed.time, parsed.record.message.as_str()), (None, "m"));
    let alone = read(r#"{"level":"info","n":1}"#);
    assert_eq!(alone.record.message, r#"{"level":"info","n":1}"#);
}

#[test]
fn what_is_cut_off_is_read_as_far_as_it_goes_and_marked() {
    let parsed = read(r#"{"level":"error","time":"2026-01-02T03:04:05Z","msg":"half a sent"#);
    assert_eq!((parsed.time, parsed.record.level), (Some(NOW), Some(Level::Error)));
    assert_eq!(parsed.record.message, "half a sent");
    assert_eq!(parsed.notes.format, Format::DamagedJson);
    assert_eq!(read("{broken").record.message, "{broken");
}

#[test]
fn what_was_exported_is_read_as_it_was_sent() {
    let parsed = read(
        r#"{"id":"01","time":"2026-01-02T03:04:05Z","service":"shop","level":"ERROR","message":"m",
            "received":"2026-01-02T03:04:05Z","template_id":"7","anomaly_score":0.5,"is_anomaly":true,
            "anomaly_reasons":["new"],"attributes":{"id":"5","status":"late"}}"#,
    );
    let names: Vec<_> = parsed.record.attributes.iter().map(|known| known.key.as_str()).collect();
    assert_eq!((names, parsed.service.as_deref()), (vec!["id", "status"], Some("shop")));
}

#[test]
fn an_unknown_zone_is_noted() {
    assert!(read("2026-01-02 03:04:05 XYZ ERROR gone").notes.has_unknown_zone);
    assert!(!read("2026-01-02 03:04:05 GET /x").notes.has_unknown_zone);
}

proptest::proptest! {
    #[test]
    fn no_text_panics_and_none_is_lost(text in "\\PC{0,120}") {
        let parsed = read(&text);
        proptest::prop_assert!(!parsed.record.message.is_empty() || text.trim().is_empty());
    }

    #[test]
    fn no_line_like_text_panics(text in "[0-9TZ:. \\[\\]A-Za-z<>|={}\",'\u{1b}\\\\-]{0,80}") {
        read(&text);
    }

    #[test]
    fn no_json_like_text_panics(text in "\\{[a-z\":,{}\\[\\]0-9.e\\\\u-]{0,60}\\}?") {
        read(&text);
    }

    #[test]
    fn words_of_a_message_are_kept(words in "[a-z]{1,8}( [a-z]{1,8}){0,6}") {
        let words = format!("said: {words}");
        for line in [
            format!("2026-01-02 03:04:05 ERROR {words}"),
            format!("2026-01-02 03:04:05,123 - a.b - ERROR - {words}"),
            format!("Jan  2 03:04:05 gw app[7]: {words}"),
            format!("{{\"msg\":\"{words}\"}}"),
            words.clone(),
        ] {
            proptest::prop_assert_eq!(&read(&line).record.message, &words, "{}", line);
        }
    }
}
