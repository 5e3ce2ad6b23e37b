//! Properties of the whole language: what is printed reads back, what is evaluated agrees with the
//! plainest evaluation, and what is required is had by every match.

use proptest::prelude::*;

use super::{words::words, *};
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
    (prop::collection::vec("[abé]{1,2}", 1..3), any::<bool>(), any::<bool>())
        .prop_map(|(words, open_start, open_end)| Phrase { words, open_start, open_end })
}

fn term() -> impl Strategy<Value = Term> {
    use TextField::{Environment, Instance, Logger, Service};
    let field = prop::sample::select(vec![Service, Instance, Environment, Logger]);
    prop_oneof![
        phrase().prop_map(Term::Words),
        (field, "[a-b]").prop_map(|(field, text)| Term::Text(field, text)),
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
    ]
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..4_i64).prop_map(Timestamp::from_unix_nanos)
}

prop_compose! {
    fn record()(
        time in time(),
        message in "[abBé. ]{0,8}",
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

fn print_term(term: &Term) -> String {
    let symbol = |comparison| SYMBOLS.iter().find(|(c, _)| *c == comparison).unwrap().1;
    match term {
        Term::Words(phrase) => {
            let star = |is_open| if is_open { "*" } else { "" };
            let words = phrase.words.join(" ");
            quoted(&format!("{}{words}{}", star(phrase.open_start), star(phrase.open_end)))
        }
        Term::Text(field, text) => format!("{field:?}:{}", quoted(text)),
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
        Term::Text(TextField::Service, text) => log.service.as_str() == text,
        Term::Text(TextField::Instance, text) => log.instance == *text,
        Term::Text(TextField::Environment, text) => log.environment == *text,
        Term::Text(TextField::Logger, text) => record.logger == *text,
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
        Term::Attribute(key, c, text) => {
            let found = record.attributes.iter().find(|attribute| attribute.key == *key);
            found.is_some_and(|found| naive_attribute(*c, &found.value, text))
        }
    }
}

fn naive_attribute(comparison: Comparison, value: &Value, text: &str) -> bool {
    let found = value.to_string();
    let is_number = !matches!(value, Value::Bool(_) | Value::Json(_));
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
    let has = |word: &&str| words(&scored.record.message).any(|w| w.eq_ignore_ascii_case(word));
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
        text in r#"([a-bé*"\\():=<>!. -]|or |not |and |level|time|latency>|warn|-1m){0,24}"#,
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
    check(Value::Int(1), "absent>0", false);
    check(Value::Int(1), "absent!=0", true);
    check(Value::Int(1), "not absent>0", true);
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
