use std::fs;

use clap::Parser;

use crate::{
    command::{Cli, Command},
    error::Exit,
};

fn run(args: &[&str]) -> anyhow::Result<Exit> {
    let all = ["logweir", "evaluate", "anomalies"].iter().chain(args);
    let Command::Evaluate(command) = Cli::parse_from(all).command else { panic!() };
    command.run()
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
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let args = ["--input", &path(&input), "--truth", &path(&truth), "--output", &path(&output)];
    assert_eq!(run(&args).unwrap(), Exit::Done);
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
    let args = ["--input", input.to_str().unwrap(), "--truth", truth.to_str().unwrap()];
    let error = run(&args).unwrap_err().to_string();
    assert!(error.contains("t.ndjson:1: this fault changed more logs"), "{error}");
}
