//! `logweir evaluate series`: which rows of a number in time are unusual.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use chrono::{DateTime, NaiveDateTime};
use clap::Args;
use logweir_detect::{SeriesConfig, SeriesDetector};
use serde::{Deserialize, Serialize};

use super::{Run, create, file_error, inputs};
use crate::{
    error::{Error, Exit},
    output::{count, text},
};

/// Rows between two looks at the progress.
const TICK_ROWS: usize = 1_000;

/// Arguments of `logweir evaluate series`.
#[derive(Debug, Args)]
pub(super) struct SeriesArgs {
    /// Where the files NAME.csv[.gz] lie, with `timestamp,value`
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// Where NAME.csv is written for each, with `timestamp,score,alert,reason`
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(Deserialize)]
struct Row {
    timestamp: String,
    value: f64,
}

#[derive(Serialize)]
struct Summary {
    name: String,
    rows: usize,
    alerts: usize,
    seconds: f64,
}

impl SeriesArgs {
    /// Runs it.
    pub(super) fn run(self, mut run: Run) -> anyhow::Result<Exit> {
        let files = inputs(&self.input, &[".csv", ".csv.gz"])?;
        run.expect(files.iter().map(|(_, path)| path.as_path()));
        let mut summaries = Vec::new();
        for (name, path) in files {
            summaries.push(self.file(&run, name, &path)?);
        }
        let seconds = run.seconds();
        if run.output.json {
            for summary in &summaries {
                run.output.object(summary)?;
            }
        } else {
            let row = |summary: &Summary| {
                let (rows, alerts) = (summary.rows as u64, summary.alerts as u64);
                vec![text(&summary.name), count(rows), count(alerts)]
            };
            run.output.table(&["series", "rows", "alerts"], summaries.iter().map(row).collect())?;
            run.output.line(&format!("{seconds:.1} s"))?;
        }
        run.output.flush()?;
        Ok(Exit::Done)
    }

    /// Row by row, as they would come in; written when all have been read, so that the output may
    /// lie beside the input.
    fn file(&self, run: &Run, name: String, path: &Path) -> anyhow::Result<Summary> {
        let started = Instant::now();
        let mut detector = SeriesDetector::new(SeriesConfig::default());
        let mut judged = Vec::new();
        for (number, row) in csv::Reader::from_reader(run.open(path)?).deserialize().enumerate() {
            let place = |what: String| Error::Usage(format!("{}: {what}", path.display()));
            let row: Row = row.map_err(|error| place(error.to_string()))?;
            let time = unix_nano(&row.timestamp).ok_or_else(|| {
                place(format!("row {}: \"{}\" is no time", number + 1, row.timestamp))
            })?;
            judged.push((row.timestamp, detector.observe(time, row.value)));
            if number % TICK_ROWS == 0 {
                run.tick();
            }
        }
        let target = self.output.join(format!("{name}.csv"));
        let mut writer = create(&target, &["timestamp", "score", "alert", "reason"])?;
        for (timestamp, verdict) in &judged {
            let alert = if verdict.is_alert { "1" } else { "0" };
            let score = verdict.score.to_string();
            writer.write_record([timestamp, score.as_str(), alert, &verdict.reason])?;
        }
        writer.flush().map_err(|source| file_error("write", &target, source))?;
        let alerts = judged.iter().filter(|(_, verdict)| verdict.is_alert).count();
        let seconds = started.elapsed().as_secs_f64();
        Ok(Summary { name, rows: judged.len(), alerts, seconds })
    }
}

/// RFC 3339, or the same with a blank and without a zone, which is UTC.
fn unix_nano(text: &str) -> Option<i64> {
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let plain = || NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok();
    zoned.or_else(|| plain().map(|time| time.and_utc()))?.timestamp_nanos_opt()
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write, fs};

    use clap::Parser;

    use super::*;
    use crate::command::{Cli, Command};

    fn evaluate(input: &Path, output: &Path) -> anyhow::Result<Exit> {
        let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
        let args = ["logweir", "evaluate", "series", "--input", input, "--output", output];
        let Command::Evaluate(command) = Cli::parse_from(args).command else { panic!() };
        command.run()
    }

    #[test]
    fn each_file_becomes_a_table_of_its_verdicts() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = "timestamp,value\n".to_owned();
        for n in 0..1_000 {
            let value = if n == 900 { 80 } else { n % 3 };
            let (hour, minute) = (n / 60, n % 60);
            let day = 1 + hour / 24;
            writeln!(table, "2026-01-{day:02} {:02}:{minute:02}:00,{value}", hour % 24).unwrap();
        }
        fs::write(folder.path().join("a.csv"), table).unwrap();
        let output = folder.path().join("predicted");
        assert_eq!(evaluate(folder.path(), &output).unwrap(), Exit::Done);
        let table = fs::read_to_string(output.join("a.csv")).unwrap();
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!((rows.len(), rows[0]), (1_001, "timestamp,score,alert,reason"));
        let alerts: Vec<&&str> = rows.iter().filter(|row| row.contains(",1,")).collect();
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        assert!(alerts[0].starts_with("2026-01-01 15:00:00,0."), "{alerts:?}");
        assert!(alerts[0].contains("80, normal 1 "), "{alerts:?}");
    }

    #[test]
    fn a_row_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for (row, named) in [("yesterday,1", "row 1: \"yesterday\" is no time"), ("1", "1 field")] {
            fs::write(folder.path().join("a.csv"), format!("timestamp,value\n{row}\n")).unwrap();
            let error = evaluate(folder.path(), folder.path()).unwrap_err().to_string();
            assert!(error.contains("a.csv") && error.contains(named), "{error}");
        }
    }

    #[test]
    fn times_have_a_zone_or_are_utc() {
        let at = Some(1_400_000_000_500_000_000);
        for text in
            ["2014-05-13 16:53:20.5", "2014-05-13T16:53:20.5Z", "2014-05-13T18:53:20.5+02:00"]
        {
            assert_eq!(unix_nano(text), at, "{text}");
        }
        assert_eq!(unix_nano("1400000000"), None);
    }
}
