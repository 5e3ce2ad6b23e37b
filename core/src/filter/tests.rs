//! Properties of the whole language: what is printed reads back, what is evaluated agrees with the
//! plainest evaluation, and what is required is had by every match.

use proptest::prelude::*;

use super::{
    words::{folded, words},
    *,
};
use crate::{
    identity::{BatchId, LogId, Service, TemplateId},
    record::{Attribute, Level, Record, ScoredRecord, StoredLog, Value},
    timestamp::Timestamp,
};

const SYMBOLS: [(Comparison, &str); 5] = [
    (Comparison::Equal, "="),
    (Comparison::Less, "<"),
    (Comparison::LessOrEqual, "<="),
    (Comparison::Greater, ">"),
    (Comparison::GreaterOrEqual, ">="),
];

fn comparison() -> impl Strategy<Value = Comparison> {
    prop::sample::select(SYMBOLS.map(|(comparison, _)| comparison).to_vec())
}

fn level() -> impl Strategy<Value = Level> {
    prop::sample::select(Level::ALL.to_vec())
}

fn phrase() -> impl Strategy<Value = Phrase> {
    (prop::collection::vec("[abé]{1,2}|错", 1..3), any::<bool>(), any::<bool>())
        .prop_map(|(words, open_start, open_end)| Phrase { words, open_start, open_end })
}

fn glob() -> impl Strategy<Value = Glob> {
    "[*]|[ab01]?[*][ab01]?|[*][a01][*]".prop_map(|text| Glob::of(&text).unwrap())
}

fn term() -> impl Strategy<Value = Term> {
    let field = || prop::sample::select(TextField::ALL.to_vec());
    let detail = prop::sample::select(vec![Detail::Latency, Detail::Trace, Detail::Span]);
    prop_oneof![
        phrase().prop_map(Term::Words),
        phrase().prop_map(Term::Anywhere),
        (field(), "[a-b]").prop_map(|(field, text)| Term::Text(field, text)),
        (field(), glob()).prop_map(|(field, glob)| Term::TextLike(field, glob)),
        detail.prop_map(Term::Present),
        ("k(\\.[ab]){0,3}", glob()).prop_map(|(path, glob)| Term::AttributeLike(path, glob)),
        ("k(\\.[ab]){0,3}", comparison(), "[a01]")
            .prop_map(|(path, comparison, text)| Term::Attribute(path, comparison, text)),
        (comparison(), level()).prop_map(|(comparison, level)| Term::Level(comparison, level)),
        (comparison(), 0..4).prop_map(|(c, n)| Term::Latency(c, f64::from(n) / 2.0)),
        (comparison(), 0..4).prop_map(|(c, n)| Term::Score(c, f64::from(n) * 0.3)),
        (comparison(), time()).prop_map(|(c, time)| Term::Time(c, time)),
        (0..3_u64).prop_map(|id| Term::Template(TemplateId(id))),
        (1..3_u8).prop_map(|byte| Term::Trace([byte; 16])),
        (1..3_u8).prop_map(|byte| Term::Span([byte; 8])),
        any::<bool>().prop_map(Term::Anomaly),
        ("[k-l ]", comparison(), r#"[a01.:"\\-]{0,3}|true|false"#)
            .prop_map(|(key, comparison, text)| Term::Attribute(key, comparison, text)),
    ]
}

fn expression() -> impl Strategy<Value = Expression> {
    term().prop_map(Expression::Term).prop_recursive(4, 24, 3, |inner| {
        let parts = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            parts().prop_map(Expression::And),
            parts().prop_map(Expression::Or),
            inner.clone().prop_map(|negated| Expression::Not(Box::new(negated))),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a01.]{0,3}".prop_map(Value::String),
        (-1..12_i64).prop_map(Value::Int),
        prop::sample::select(vec![0.0, 1.0, 0.5, 11.0, f64::NAN]).prop_map(Value::Double),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Json("null".into())),
        json().prop_map(Value::Json),
    ]
}

/// Lists and objects, some of which have names with dots.
fn json() -> impl Strategy<Value = String> {
    let leaf = "[01]|1\\.5|true|null|\"[a01]?\"|\"b \\\\u00e9\"".prop_map(String::from);
    leaf.prop_recursive(3, 12, 3, |inner| {
        let fields = prop::collection::btree_map("[ab](\\.[ab])?", inner.clone(), 0..3);
        prop_oneof![
            prop::collection::vec(inner, 0..3)
                .prop_map(|members| format!("[{}]", members.join(","))),
            fields.prop_map(|fields| {
                let fields = fields.iter().map(|(name, json)| format!("\"{name}\": {json}"));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
            }),
        ]
    })
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..4_i64).prop_map(Timestamp::from_unix_nanos)
}

prop_compose! {
    fn record()(
        time in time(),
        message in "[abBéÉ错. ]{0,8}",
        latency_ms in prop::option::of(prop::sample::select(vec![0.0, 0.5, 1.0, 1.5])),
        trace_id in prop::option::of((1..3_u8).prop_map(|byte| [byte; 16])),
        span_id in prop::option::of((1..3_u8).prop_map(|byte| [byte; 8])),
        logger in "[ab]?",
        value in prop::option::of(value()),
    ) -> Record {
        let attributes = value.into_iter().map(|value| Attribute::new("k", value)).collect();
        let record = Record { time, message, latency_ms, trace_id, ..Record::default() };
        Record { span_id, logger, attributes, ..record }
    }
}

prop_compose! {
    fn log()(
        record in record(),
        level in level(),
        template_id in (0..3_u64).prop_map(TemplateId),
        anomaly_score in prop::sample::select(vec![0.0_f32, 0.3, 0.6, 0.9]),
        is_anomaly in any::<bool>(),
        (service, instance, environment) in ("[ab]", "[ab]?", "[ab]?"),
    ) -> StoredLog {
        let id = LogId { time: record.time, batch_id: BatchId([1; 16]), index: 0 };
        let anomaly_reasons = Vec::new();
        let scored =
            ScoredRecord { record, level, template_id, anomaly_score, is_anomaly, anomaly_reasons };
        let service = Service::new(&service).unwrap();
        StoredLog { id, received_at: Timestamp::EPOCH, service, instance, environment, scored }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn print_phrase(phrase: &Phrase) -> String {
    let star = |is_open| if is_open { "*" } else { "" };
    let words = phrase.words.join(" ");
    quoted(&format!("{}{words}{}", star(phrase.open_start), star(phrase.open_end)))
}

fn print_term(term: &Term) -> String {
    let symbol = |comparison| SYMBOLS.iter().find(|(c, _)| *c == comparison).unwrap().1;
    let print_glob = |glob: &Glob| glob.pieces().collect::<Vec<_>>().join("*");
    match term {
        Term::Words(phrase) => print_phrase(phrase),
        Term::Anywhere(phrase) => format!("any:{}", print_phrase(phrase)),
        Term::Text(field, text) => format!("{field:?}:{}", quoted(text)),
        Term::TextLike(field, glob) => format!("{field:?}:{}", print_glob(glob)),
        Term::Present(detail) => format!("{detail:?}:*"),
        Term::AttributeLike(path, glob) => format!("{path}={}", print_glob(glob)),
        Term::Level(comparison, level) => format!("level{}{level}", symbol(*comparison)),
        Term::Latency(comparison, number) => format!("latency{}{number}", symbol(*comparison)),
        Term::Score(comparison, number) => format!("score{}{number}", symbol(*comparison)),
        Term::Time(comparison, time) => {
            format!("time{}{}", symbol(*comparison), time.to_rfc3339())
        }
        Term::Template(template_id) => format!("template:{template_id}"),
        Term::Trace(id) => format!("trace:{}", hex::encode(id)),
        Term::Span(id) => format!("span:{}", hex::encode(id)),
        Term::Anomaly(expected) => format!("anomaly:{expected}"),
        Term::Attribute(key, comparison, text) => {
            format!("{}{}{}", quoted(key), symbol(*comparison), quoted(text))
        }
    }
}

fn print(expression: &Expression) -> String {
    let each = |parts: &[Expression]| parts.iter().map(print).collect::<Vec<_>>();
    match expression {
        Expression::And(parts) => format!("({})", each(parts).join(" ")),
        Expression::Or(parts) => format!("({})", each(parts).join(" or ")),
        Expression::Not(negated) => format!("-{}", print(negated)),
        Expression::Term(term) => print_term(term),
    }
}

/// Every expression as the set of its terms' outcomes, by the textbook.
fn naive(expression: &Expression, log: &StoredLog) -> bool {
    match expression {
        Expression::And(parts) => !parts.iter().any(|part| !naive(part, log)),
        Expression::Or(parts) => parts.iter().filter(|part| naive(part, log)).count() > 0,
        Expression::Not(negated) => !naive(negated, log),
        Expression::Term(term) => naive_term(term, log),
    }
}

fn naive_term(term: &Term, log: &StoredLog) -> bool {
    let record = &log.scored.record;
    match term {
        // Phrases have a naive search of their own.
        Term::Words(phrase) => phrase.matches(&record.message),
        Term::Anywhere(phrase) => {
            let texts = TextField::ALL.map(|field| naive_text(field, log).to_owned());
            let values = record.attributes.iter().flat_map(|found| naive_texts(&found.value));
            let message = record.message.clone();
            texts.into_iter().chain(values).chain([message]).any(|text| phrase.matches(&text))
        }
        Term::Text(field, text) => naive_text(*field, log) == text,
        Term::TextLike(field, glob) => {
            let text = naive_text(*field, log);
            !text.is_empty() && glob.matches(text)
        }
        Term::Present(Detail::Latency) => record.latency_ms.is_some(),
        Term::Present(Detail::Trace) => record.trace_id.is_some(),
        Term::Present(Detail::Span) => record.span_id.is_some(),
        Term::AttributeLike(path, glob) => {
            let found = record.attributes.iter().flat_map(|found| naive_at(found, path));
            found.map(|value| value.to_string()).any(|text| glob.matches(&text))
        }
        Term::Level(c, level) => naive_compare(*c, log.scored.level as u8, *level as u8),
        Term::Latency(c, bound) => {
            record.latency_ms.is_some_and(|ms| naive_compare(*c, ms, *bound))
        }
        Term::Score(c, bound) => naive_compare(*c, log.scored.anomaly_score, *bound as f32),
        Term::Time(c, bound) => naive_compare(*c, record.time, *bound),
        Term::Template(id) => log.scored.template_id == *id,
        Term::Trace(id) => record.trace_id.is_some_and(|found| found == *id),
        Term::Span(id) => record.span_id.is_some_and(|found| found == *id),
        Term::Anomaly(expected) => log.scored.is_anomaly == *expected,
        Term::Attribute(path, c, text) => {
            let mut found = record.attributes.iter().flat_map(|found| naive_at(found, path));
            found.any(|found| naive_attribute(*c, &found, text))
        }
    }
}

fn naive_text(field: TextField, log: &StoredLog) -> &str {
    match field {
        TextField::Service => log.service.as_str(),
        TextField::Instance => &log.instance,
        TextField::Environment => &log.environment,
        TextField::Logger => &log.scored.record.logger,
    }
}

/// The values at a path: every place in the attribute that has a name, joined by dots, like this.
fn naive_at(attribute: &Attribute, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    if attribute.key == path {
        found.push(attribute.value.clone());
    }
    if let Value::Json(text) = &attribute.value
        && let Ok(json) = serde_json::from_str(text)
    {
        let mut places = Vec::new();
        name_places(&attribute.key, &json, true, &mut places);
        found.extend(places.into_iter().filter(|(name, _)| name == path).map(|(_, value)| value));
    }
    found
}

/// Every value within JSON, but lists, which are their members, and its whole, which is known.
fn name_places(
    name: &str,
    json: &serde_json::Value,
    is_whole: bool,
    places: &mut Vec<(String, Value)>,
) {
    use serde_json::Value as Json;
    match json {
        Json::Array(members) => {
            members.iter().for_each(|one| name_places(name, one, false, places))
        }
        _ if is_whole && !json.is_object() => {}
        Json::Object(fields) => {
            if !is_whole {
                places.push((name.into(), Value::Json(json.to_string())));
            }
            for (field, json) in fields {
                name_places(&format!("{name}.{field}"), json, false, places);
            }
        }
        Json::String(text) => places.push((name.into(), Value::String(text.clone()))),
        Json::Bool(truth) => places.push((name.into(), Value::Bool(*truth))),
        Json::Number(number) => {
            let value = number
                .as_i64()
                .map_or_else(|| number.as_f64().map(Value::Double), |n| Some(Value::Int(n)));
            places.push((name.into(), value.unwrap()));
        }
        Json::Null => places.push((name.into(), Value::Json("null".into()))),
    }
}

/// The texts of a value: its own, or those of what is in it.
fn naive_texts(value: &Value) -> Vec<String> {
    match value {
        Value::Json(text) => {
            let mut places = Vec::new();
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            name_places("", &serde_json::json!([json]), false, &mut places);
            let is_leaf =
                |value: &Value| !matches!(value, Value::Json(text) if text.starts_with('{'));
            places
                .iter()
                .filter(|(_, value)| is_leaf(value))
                .map(|(_, value)| value.to_string())
                .collect()
        }
        other => vec![other.to_string()],
    }
}

fn naive_attribute(comparison: Comparison, value: &Value, text: &str) -> bool {
    let found = value.to_string();
    let is_number = !matches!(value, Value::Bool(_));
    match (found.parse::<f64>(), text.parse::<f64>()) {
        (Ok(found), Ok(bound)) if is_number => naive_compare(comparison, found, bound),
        _ => naive_compare(comparison, found.as_str(), text),
    }
}

fn naive_compare<T: PartialOrd>(comparison: Comparison, found: T, bound: T) -> bool {
    match comparison {
        Comparison::Equal => found == bound,
        Comparison::Less => found < bound,
        Comparison::LessOrEqual => found <= bound,
        Comparison::Greater => found > bound,
        Comparison::GreaterOrEqual => found >= bound,
    }
}

fn has_required(required: &Required<'_>, log: &StoredLog) -> bool {
    let scored = &log.scored;
    let has = |word: &&str| words(&scored.record.message).any(|found| folded(found) == **word);
    required.words.iter().all(has)
        && required.service.is_none_or(|service| service == log.service.as_str())
        && required.level_mask & (1 << scored.level as u8) != 0
        && required.template.is_none_or(|id| id == scored.template_id)
        && required.anomaly.is_none_or(|expected| expected == scored.is_anomaly)
        && required.trace.is_none_or(|id| Some(id) == scored.record.trace_id)
        && (required.time.0..required.time.1).contains(&scored.record.time)
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_at_a_place_within(text in any::<String>()) {
        if let Err(error) = Filter::parse(&text, Timestamp::EPOCH) {
            prop_assert!(error.position <= text.chars().count());
            prop_assert_eq!(error.pointed(&text).lines().count(), 2);
        }
    }

    #[test]
    fn texts_in_the_language_are_read_or_refused_within(
        text in r#"([a-bé错*"\\():=<>!./0-9 -]|or |not |and |level|time|latency>|warn|-1m){0,24}"#,
        now in any::<i64>().prop_map(Timestamp::from_unix_nanos),
    ) {
        if let Err(error) = Filter::parse(&text, now) {
            prop_assert!(error.position <= text.chars().count());
        }
    }

    #[test]
    fn what_is_printed_reads_back(expression in expression()) {
        let text = print(&expression);
        let read = Filter::parse(&text, Timestamp::EPOCH);
        prop_assert_eq!(read.map(|filter| filter.expression), Ok(expression), "{}", text);
    }

    #[test]
    fn a_filter_evaluates_like_a_naive_one(expression in expression(), log in log()) {
        let expected = naive(&expression, &log);
        prop_assert_eq!(expression.matches(&log), expected);
        let negated = Filter { expression: Expression::Not(Box::new(expression)) };
        prop_assert_eq!(negated.matches(&log), !expected);
    }

    #[test]
    fn every_match_has_what_is_required(expression in expression(), log in log()) {
        let filter = Filter { expression };
        if filter.matches(&log) {
            prop_assert!(has_required(&filter.required(), &log), "{:?}", filter.required());
        }
    }
}

fn a_log(attributes: Vec<Attribute>) -> StoredLog {
    let record = Record { message: "Payment timeout".into(), attributes, ..Record::default() };
    StoredLog {
        id: LogId { time: Timestamp::EPOCH, batch_id: BatchId([1; 16]), index: 0 },
        received_at: Timestamp::EPOCH,
        service: Service::new("payments").unwrap(),
        instance: String::new(),
        environment: String::new(),
        scored: ScoredRecord {
            record,
            level: Level::Warn,
            template_id: TemplateId(1),
            anomaly_score: 0.9,
            is_anomaly: true,
            anomaly_reasons: Vec::new(),
        },
    }
}

#[test]
fn attributes_compare_as_numbers_only_if_they_are() {
    let check = |value: Value, filter: &str, expected: bool| {
        let log = a_log(vec![Attribute::new("k", value.clone())]);
        assert_eq!(
            Filter::parse(filter, Timestamp::EPOCH).unwrap().matches(&log),
            expected,
            "{value:?} {filter}"
        );
    };
    check(Value::Int(42), "k=42.0", true);
    check(Value::Int(42), "k>9", true);
    check(Value::Int(1_000_000), "k>=1e6", true);
    check(Value::Int(9_007_199_254_740_993), "k=9007199254740992", false);
    check(Value::String("100".into()), "k>9", true);
    check(Value::String("100a".into()), "k>9", false);
    check(Value::String("0e12".into()), "k=0e34", false);
    check(Value::String("18446744073709551615".into()), "k=18446744073709551614", false);
    check(Value::Double(f64::NAN), "k>1", false);
    check(Value::Double(f64::NAN), "k=NaN", true);
    check(Value::Double(f64::INFINITY), "k>1", true);
    check(Value::Bool(true), "k=TRUE", true);
    check(Value::Bool(true), "k!=false", true);
    check(Value::Json("null".into()), "k=null", true);
    check(Value::Json("18446744073709551615".into()), "k>18446744073709551614", true);
    check(Value::Int(1), "absent>0", false);
    check(Value::Int(1), "absent!=0", true);
    check(Value::Int(1), "not absent>0", true);
}

#[test]
fn paths_lead_into_attributes_and_lists_are_their_members() {
    let json = r#"{"size": {"w.h": 12, "unit": "Cm"}, "made.in": {"year": 1999}, "parts": [{"id": 7}, {"id": "x 9"}]}"#;
    let log = a_log(vec![
        Attribute::new("box", Value::Json(json.into())),
        Attribute::new("box.lid", Value::Json(r#"["red", "dark \u0062lue", [3]]"#.into())),
        Attribute::new("broken", Value::Json("{\"a\": 1".into())),
    ]);
    for (filter, expected) in [
        ("box.size.w.h=12.0", true),
        ("box.size.w.h>9", true),
        ("box.made.in.year=1999", true),
        ("box.size.unit=Cm", true),
        ("box.size.unit=cm", false),
        ("box.size.unit:C*", true),
        ("box.size:*", true),
        ("box.size.depth:*", false),
        ("box.parts.id=7", true),
        ("box.parts.id<7", false),
        ("box.parts.id!=7", false),
        ("box.lid=red", true),
        ("box.lid>=3", true),
        ("box.lid=*blue", true),
        ("box.lid=green", false),
        ("broken.a=1", false),
        ("broken:*", true),
        ("any:unit", false),
        ("any:cm", true),
        ("any:\"x 9\"", true),
        ("any:blue", true),
        ("any:\"red dark\"", false),
        ("any:payments", true),
        ("any:timeout", true),
        ("any:time", false),
    ] {
        let parsed = Filter::parse(filter, Timestamp::EPOCH).unwrap();
        assert_eq!(parsed.matches(&log), expected, "{filter}");
    }
}

#[test]
fn a_whole_filter_finds_its_log() {
    let log = a_log(Vec::new());
    for (filter, expected) in [
        ("", true),
        ("timeout payment", true),
        ("\"timeout payment\"", false),
        ("service:payments level>=warn score>=0.9 anomaly:true -refused", true),
        ("level:error or (service:payments time*)", true),
        ("service:pay$", false),
    ] {
        assert_eq!(
            Filter::parse(filter, Timestamp::EPOCH).unwrap().matches(&log),
            expected,
            "{filter}"
        );
    }
}

#[test]
fn required_is_read_from_the_conjunction() {
    let text = "Payment time* (service:a template:ff) (level:error or level:fatal) -anomaly:false \
                time>=1970-01-01T00:00:01Z time<=1970-01-01T00:00:02Z (trace:x or b)";
    let text = text.replace("trace:x", &format!("trace:{}", "01".repeat(16)));
    let filter = Filter::parse(&text, Timestamp::EPOCH).unwrap();
    let expected = Required {
        words: vec!["payment"],
        service: Some("a"),
        level_mask: 0b0110_0000,
        template: Some(TemplateId(255)),
        anomaly: Some(true),
        trace: None,
        time: (
            Timestamp::from_unix_nanos(1_000_000_000),
            Timestamp::from_unix_nanos(2_000_000_001),
        ),
    };
    assert_eq!(filter.required(), expected);
    let mask = |text| Filter::parse(text, Timestamp::EPOCH).unwrap().required().level_mask;
    assert_eq!(mask("a"), Required::ALL_LEVELS);
    assert_eq!(mask("level>=warn -level:fatal"), 0b0011_0000);
    assert_eq!(mask("-(level<=warn or a)"), 0b0110_0000);
    assert_eq!(mask("level:error or a"), Required::ALL_LEVELS);
}
