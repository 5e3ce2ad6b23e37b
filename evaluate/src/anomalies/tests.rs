use std::fs;

use logweir_processor::ProcessorConfig;

use super::{Options, Report, evaluate};
use crate::{
    error::Error,
    run::{Run, Unwatched},
};

fn judge(options: &Options) -> Result<Report, Error> {
    evaluate(&Run::new(ProcessorConfig::default(), &Unwatched), options)
}

#[test]
fn every_log_is_judged_and_named_by_its_id_or_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let (input, truth) = (folder.path().join("a.ndjson"), folder.path().join("t.csv"));
    let output = folder.path().join("o.csv");
    let mut text = String::new();
    for n in 0..20_000 {
        text += &format!(
            "{{\"time\":\"2026-01-05T{:02}:{:02}:{:02}Z\",\"service\":\"a\",\"message\":\"paid {n}\"}}\n",
            n / 3_600,
            n / 60 % 60,
            n % 60
        );
    }
    text += "{\"line_id\":\"odd\",\"time\":\"2026-01-05T06:00:00Z\",\"service\":\"a\",\"level\":\"ERROR\",\"message\":\"never seen\"}\n";
    fs::write(&input, text).unwrap();
    fs::write(&truth, "seq_id,label,kind\n1,0,\nodd,1,new\n").unwrap();
    let options = Options {
        input: vec![input],
        truth: Some(truth),
        output: Some(output.clone()),
        examples: 1,
    };
    let Report { summary, examples } = judge(&options).unwrap();
    assert_eq!((summary.logs, summary.truth.unwrap().recall, examples.len()), (20_001, 1.0, 1));
    let table = fs::read_to_string(output).unwrap();
    assert_eq!(table.lines().count(), 20_002);
    let last = table.lines().last().unwrap();
    let expected = ",1,\"new ERROR pattern, seen for the first time in a: never seen\"";
    assert!(last.starts_with("odd,") && last.ends_with(expected), "{last}");
    assert_eq!(table.lines().filter(|line| line.contains(",1,new ")).count(), 0);
    assert!(table.lines().nth(1).unwrap().starts_with("1,"));
}

#[test]
fn a_truth_that_does_not_name_all_its_logs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (input, truth) = (folder.path().join("a.ndjson"), folder.path().join("t.ndjson"));
    fs::write(&input, "{\"message\":\"a\"}\n").unwrap();
    let entry = "{\"kind\":\"flood\",\"service\":\"a\",\"start\":\"2026-01-05T00:00:00Z\",\"end\":\"2026-01-05T00:00:01Z\",\"logs\":2,\"after_nanos\":[5]}\n";
    fs::write(&truth, entry).unwrap();
    let options = Options { input: vec![input], truth: Some(truth), ..Options::default() };
    let error = judge(&options).unwrap_err().to_string();
    assert!(error.contains("t.ndjson:1: this fault changed more logs"), "{error}");
}
