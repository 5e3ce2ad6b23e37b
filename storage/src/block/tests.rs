//! What goes in comes out, and a scan finds what a look at each log would.

use logweir_core::{
    filter::{CompiledFilter, Filter},
    identity::{BatchId, LogId, Service, TemplateId},
    record::{
        Attribute, Level, Record, Resource, ScoredRecord, StoredLog, Value, content_checksum,
    },
    timestamp::Timestamp,
};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::query::TimeRange;

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "(user|GET|Refused|a_b) [0-9]{1,3}( [0-9a-f]{4,6})?( in [0-9]{1,2}ms)?",
        2 => "[a-c0-9 .:-]{0,20}",
        2 => "(错误|“|É|é|用户)?(user|7|ms)(错误|”|é| É)?",
        1 => any::<String>(),
        1 => Just("\0".to_owned()),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-c]", any::<String>()]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any_text().prop_map(Value::String),
        any_text().prop_map(Value::Json),
        "\\[(\"user 7\"|1[0-9]|\"\\\\\\\\u00e9\"), \\{\"a\": [0-9]\\}\\]".prop_map(Value::Json),
        "\\{\"[a-c]\": (\"user\"|[0-9]|\\[[0-9], true\\])\\}".prop_map(Value::Json),
        (0_i64..50).prop_map(Value::Int),
        any::<i64>().prop_map(Value::Int),
        (0_u32..5_000).prop_map(|n| Value::Double(f64::from(n) / 10.0)),
        any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))),
        any::<bool>().prop_map(Value::Bool),
    ]
}

fn any_level() -> impl Strategy<Value = Level> {
    prop::sample::select(Level::ALL.to_vec())
}

prop_compose! {
    fn any_record()(
        index in prop_oneof![9 => 0_u32..20, 1 => any::<u32>()],
        time_unix_nano in prop_oneof![
            9 => (0_i64..20).prop_map(|second| second * 1_000_000_000),
            1 => any::<i64>(),
        ],
        level in prop::option::of(any_level()),
        severity_number in prop_oneof![Just(0), any::<u8>()],
        message in any_text(),
        latency_ms in prop::option::of(prop_oneof![
            (0_u32..10_000).prop_map(|n| f64::from(n) / 1e3),
            any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(f64::abs),
        ]),
        trace_id in prop::option::of((0_u8..4).prop_map(|byte| [byte; 16])),
        span_id in prop::option::of(any::<[u8; 8]>()),
        logger in any_name(),
        attributes in prop::collection::btree_map("[a-c]{1,2}", any_value(), 0..4),
    ) -> Record {
        let attributes = attributes.into_iter().map(|(key, value)| Attribute { key, value });
        let attributes = attributes.collect();
        Record {
            index, time: Timestamp::from_unix_nanos(time_unix_nano), level, severity_number, message, latency_ms, trace_id, span_id,
            logger, attributes,
        }
    }
}

prop_compose! {
    fn any_log()(
        record in any_record(),
        batch in 0_u8..3,
        origin in (any::<i64>(), "[a-c]", any_name(), any_name()),
        level in any_level(),
        template in prop_oneof![9 => 0_u64..5, 1 => any::<u64>()],
        score in prop_oneof![
            (0_u16..=1000).prop_map(|n| f32::from(n) / 1e3),
            any::<u32>().prop_map(f32::from_bits),
        ],
        is_anomaly in any::<bool>(),
        anomaly_reasons in prop::collection::vec(any_name(), 0..3),
    ) -> StoredLog {
        let (received_unix_nano, service, instance, environment) = origin;
        let Record { time: time_unix_nano, index, .. } = record;
        StoredLog {
            id: LogId { time: time_unix_nano, batch_id: BatchId([batch; 16]), index },
            received_at: Timestamp::from_unix_nanos(received_unix_nano),
            service: Service::new(&service).unwrap(),
            instance,
            environment,
            scored: ScoredRecord {
                record,
                level,
                template_id: TemplateId(template),
                anomaly_score: score,
                is_anomaly,
                anomaly_reasons,
            },
        }
    }
}

fn any_logs() -> impl Strategy<Value = Vec<StoredLog>> {
    prop::collection::vec(any_log(), 1..60)
}

fn any_filter() -> impl Strategy<Value = CompiledFilter> {
    prop_oneof![3 => any_terms(), 1 => any_many_phrases()].prop_map(|text| {
        let filter = Filter::parse(&text, Timestamp::EPOCH);
        filter.unwrap_or_else(|error| panic!("{text}: {error}")).into()
    })
}

/// So many that they are looked for together.
fn any_many_phrases() -> impl Strategy<Value = String> {
    let phrase = prop_oneof![
        "[*]?(user|refu|[a-f0-9]{1,3}|ms|é|错|错误user)[*]?",
        "\"[*]?(user|get|r|7) [0-9]{1,2}[*]?\"",
    ];
    let term = (any::<bool>(), phrase)
        .prop_map(|(anywhere, phrase)| if anywhere { format!("any:{phrase}") } else { phrase });
    let terms = prop::collection::vec(term, 5..40);
    (any::<bool>(), terms).prop_map(|(any, terms)| match any {
        true => terms.join(" or "),
        false => terms.iter().map(|term| format!("-{term} ")).collect(),
    })
}

fn any_terms() -> impl Strategy<Value = String> {
    let term = prop_oneof![
        "[*]?(user|refu|ref|get|a_b|7|1[0-9]|[a-f0-9]{2}|ms)[*]?",
        "[*]?(é|错|用户|错误user|useré)[*]?",
        "any:[*]?(user|get|7|1[0-9]|é|错|true|[a-c])[*]?",
        "any:\"(user|get) [0-9]{1,2}\"",
        "\"(user|get) [0-9]{1,2}\"",
        "level(>=|<|=)(warn|info|error)",
        "latency(>|<=)[0-9]",
        "score>=0\\.[0-9]",
        "time>1970-01-01T00:00:0[0-9]Z",
        "anomaly:(true|false)",
        "template:[0-5]",
        "trace:(01|02){16}",
        "service:[a-c]",
        "(instance|environment|logger):[a-c]",
        "[a-c]{1,2}(=|>|<)[0-9]{1,2}",
        "[a-c]=(true|user)",
        "[a-c]{1,2}[.][a-c](=|>|<)[0-9]{1,2}",
        "[a-c](=|!=)([*]|u[*]|[*]s|[*]1[*])",
        "[a-c]:(user|[0-9])",
        "(service|instance|logger):[ab]?[*]",
        "(latency|trace|span):[*]",
    ];
    let term = (any::<bool>(), term).prop_map(|(not, t)| if not { format!("-{t}") } else { t });
    let all = prop::collection::vec(term, 0..3).prop_map(|terms| terms.join(" "));
    (all.clone(), all).prop_map(|(one, other)| {
        if one.is_empty() || other.is_empty() {
            format!("{one}{other}")
        } else {
            format!("({one}) or ({other})")
        }
    })
}

fn encode(logs: &[StoredLog], effort: Effort) -> EncodedBlock {
    let rows: Vec<Row<'_>> = logs.iter().map(Row::from).collect();
    Encoder::new().encode(&rows, effort).unwrap()
}

/// Equal to the bit, as `==` is not where there are NaN and negative zero.
fn assert_same(found: &StoredLog, expected: &StoredLog) {
    let resource = Resource::of(found.service.clone());
    let checksum =
        |log: &StoredLog| content_checksum(&resource, std::slice::from_ref(&log.scored.record));
    assert_eq!(checksum(found), checksum(expected), "{found:?} {expected:?}");
    assert_eq!(found.scored.anomaly_score.to_bits(), expected.scored.anomaly_score.to_bits());
    let rest = |log: &StoredLog| {
        let mut log = log.clone();
        log.scored.anomaly_score = 0.0;
        log.scored.record.latency_ms = None;
        log.scored.record.attributes.clear();
        log
    };
    assert_eq!(rest(found), rest(expected));
}

fn assert_all_same(found: &[StoredLog], expected: &[StoredLog]) {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).for_each(|(found, expected)| assert_same(found, expected));
}

/// Replaces the checksum by the right one, as if the damage had been done on purpose.
fn seal(body: &mut [u8]) {
    if body.len() >= 12 {
        let checksum = xxh3_64(&body[12..]);
        body[4..12].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Reads everything; only that it neither panics nor fills the memory is of interest.
fn read_all(body: &[u8], filter: &CompiledFilter) -> Result<usize, BlockError> {
    let block = Block::open(body)?;
    let rows = block.row_count().min(100) as u32;
    let read = (0..rows).filter(|row| block.log(*row).is_ok()).count();
    Ok(read + block.matching(filter, &Window::ALL, &|| true)?.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn logs_come_back(logs in any_logs(), merged in any::<bool>()) {
        let effort = if merged { Effort::Merged } else { Effort::Fresh };
        let encoded = encode(&logs, effort);
        let block = Block::open(&encoded.body).unwrap();
        prop_assert_eq!(block.row_count(), logs.len());
        assert_all_same(&block.logs().unwrap(), &logs);
        for (row, log) in (0..).zip(&logs) {
            prop_assert_eq!(block.id(row).unwrap(), log.id);
            let found = block.find(log.id).unwrap().unwrap();
            prop_assert_eq!(logs[found as usize].id, log.id);
        }
    }

    #[test]
    fn the_summary_tells_what_is_there(logs in any_logs()) {
        let summary = encode(&logs, Effort::Fresh).summary;
        prop_assert_eq!(summary.rows as usize, logs.len());
        let times = || logs.iter().map(|log| log.id.time.as_unix_nanos());
        prop_assert_eq!(Some(summary.time_min_unix_nano), times().min());
        prop_assert_eq!(Some(summary.time_max_unix_nano), times().max());
        prop_assert_eq!(summary.has_anomaly, logs.iter().any(|log| log.scored.is_anomaly));
        for log in &logs {
            prop_assert!(summary.template_ids.contains(&log.scored.template_id));
            prop_assert!(summary.level_mask & 1 << log.scored.level as u8 != 0);
        }
        prop_assert!(summary.template_ids.is_sorted());
        prop_assert!(summary.parts.is_sorted_by_key(|part| part.service.clone()));
        let mut rows = 0;
        for part in &summary.parts {
            let logs: Vec<&StoredLog> = logs.iter().filter(|l| l.service == part.service).collect();
            let times = || logs.iter().map(|log| log.id.time.as_unix_nanos());
            prop_assert_eq!(part.rows as usize, logs.len());
            prop_assert_eq!(Some(part.time_min_unix_nano), times().min());
            prop_assert_eq!(Some(part.time_max_unix_nano), times().max());
            prop_assert_eq!(part.has_anomaly, logs.iter().any(|log| log.scored.is_anomaly));
            rows += part.rows;
        }
        prop_assert_eq!(rows, summary.rows);
    }

    #[test]
    fn merging_is_reading_and_encoding_again(
        one in any_logs(),
        other in any_logs(),
        picks in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..80),
    ) {
        let bodies = [&one, &other].map(|logs| encode(logs, Effort::Fresh).body);
        let blocks = bodies.each_ref().map(|body| Block::open(body).unwrap());
        let mut places = Vec::new();
        let mut picked = Vec::new();
        for (second, index) in picks {
            let logs = if second { &other } else { &one };
            let row = index.index(logs.len());
            places.push((u32::from(second), row as u32));
            picked.push(logs[row].clone());
        }
        let merged = Encoder::new().merge(&blocks, &places).unwrap();
        prop_assert_eq!(merged, encode(&picked, Effort::Merged));
    }

    #[test]
    fn a_scan_finds_what_a_look_at_each_log_would(
        logs in any_logs(),
        filter in any_filter(),
        from in 0_i64..20,
        to in prop_oneof![0_i64..25, Just(i64::MAX)],
        after in prop::option::of(0_usize..60),
        before in prop::option::of(0_usize..60),
    ) {
        let encoded = encode(&logs, Effort::Fresh);
        let block = Block::open(&encoded.body).unwrap();
        let id = |at: Option<usize>| at.and_then(|at| logs.get(at)).map(|log| log.id);
        let range = TimeRange {
            from: Timestamp::from_unix_nanos(from * 1_000_000_000),
            to: Timestamp::from_unix_nanos(to.saturating_mul(1_000_000_000)),
        };
        let matches = |window: &Window| {
            let found = (0..).zip(&logs).filter(|(_, log)| {
                (window.range.from..window.range.to).contains(&log.id.time)
                    && window.after.is_none_or(|after| log.id > after)
                    && window.before.is_none_or(|before| log.id < before)
                    && filter.filter().matches(*log)
            });
            found.map(|(row, _)| row).collect::<Vec<u32>>()
        };
        let window = Window { range, after: id(after), before: id(before) };
        for window in [Window::ALL, window] {
            prop_assert_eq!(block.matching(&filter, &window, &|| true).unwrap(), matches(&window));
        }
        prop_assert!(
            matches(&Window::ALL).is_empty() || may_match(&encoded.word_filter, filter.filter()),
            "the word filter rules out a match of {:?}", filter.filter()
        );
    }

    #[test]
    fn damage_is_an_error_and_nothing_worse(
        logs in any_logs(),
        filter in any_filter(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
        length in any::<prop::sample::Index>(),
    ) {
        let body = encode(&logs, Effort::Fresh).body;
        let mut flipped = body.clone();
        for (at, change) in flips {
            flipped[at.index(body.len())] ^= change;
        }
        if flipped != body {
            prop_assert!(Block::open(&flipped).is_err());
        }
        seal(&mut flipped);
        let mut cut = body[..length.index(body.len())].to_vec();
        prop_assert!(Block::open(&cut).is_err());
        seal(&mut cut);
        for body in [flipped, cut] {
            prop_assert!(read_all(&body, &filter).is_err() || !body.is_empty());
        }
    }
}

#[test]
fn a_scan_stops_when_it_is_not_wanted() {
    let block = encode(&[plain_log("one two three")], Effort::Fresh);
    let block = Block::open(&block.body).unwrap();
    let filter = Filter::parse("-zero one two -(four five) three", Timestamp::EPOCH).unwrap();
    let found = |looks: usize| {
        let left = std::cell::Cell::new(looks);
        let is_wanted = || left.replace(left.get().saturating_sub(1)) > 0;
        block.matching(&filter.clone().into(), &Window::ALL, &is_wanted).unwrap()
    };
    assert_eq!(found(usize::MAX), [0]);
    for looks in 0..8 {
        assert_eq!(found(looks), [0; 0], "{looks}");
    }
}

#[test]
fn a_filter_of_an_earlier_version_hides_no_words() {
    let filter = |text| Filter::parse(text, Timestamp::EPOCH).unwrap();
    let encoded = encode(&[plain_log("连接timeout了")], Effort::Fresh);
    let Some((_, of_earlier_version)) = encoded.word_filter.split_last() else { panic!() };
    for (text, expected) in [("timeout", true), ("连接", true), ("nowhere", false), ("里", false)]
    {
        assert_eq!(may_match(&encoded.word_filter, &filter(text)), expected, "{text}");
        assert!(may_match(of_earlier_version, &filter(text)), "{text}");
    }
    assert!(!may_match(of_earlier_version, &filter("template:77")));
}

pub(super) fn plain_log(message: &str) -> StoredLog {
    let record = Record { message: message.into(), ..Record::default() };
    StoredLog {
        id: LogId { time: Timestamp::EPOCH, batch_id: BatchId([0; 16]), index: 0 },
        received_at: Timestamp::EPOCH,
        service: Service::new("a").unwrap(),
        instance: String::new(),
        environment: String::new(),
        scored: ScoredRecord {
            record,
            level: Level::Info,
            template_id: TemplateId(0),
            anomaly_score: 0.0,
            is_anomaly: false,
            anomaly_reasons: Vec::new(),
        },
    }
}

#[test]
fn the_largest_log_comes_back() {
    let mut log = plain_log(&"7 \0ä".repeat(13_107));
    log.scored.record.attributes = (0..128)
        .map(|i| Attribute::new(format!("{i:0256}"), Value::String("x9 ".repeat(5_461))))
        .collect();
    let logs = [log, plain_log("")];
    assert_all_same(
        &Block::open(&encode(&logs, Effort::Fresh).body).unwrap().logs().unwrap(),
        &logs,
    );
}

#[test]
fn a_latency_that_is_no_duration_is_named() {
    for latency_ms in [f64::NAN, f64::INFINITY, -1.0] {
        let mut logs = [plain_log("a"), plain_log("b")];
        logs[1].scored.record.latency_ms = Some(latency_ms);
        let rows: Vec<Row<'_>> = logs.iter().map(Row::from).collect();
        let found = Encoder::new().encode(&rows, Effort::Fresh);
        assert!(matches!(found, Err(BlockError::Unstorable { row: 1, .. })), "{found:?}");
        assert!(Encoder::new().encode(&rows[..1], Effort::Fresh).is_ok());
    }
}

#[test]
fn no_rows_are_no_block() {
    assert!(matches!(Encoder::new().encode(&[], Effort::Fresh), Err(BlockError::TooLarge(_))));
    assert!(Block::open(&[]).is_err());
    assert!(Block::open(b"LWB\x02 a later version").is_err());
}
