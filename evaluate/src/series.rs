//! Which rows of a number in time are unusual.

use std::{path::Path, time::Instant};

use chrono::{DateTime, NaiveDateTime};
use logweir_analysis::{SeriesConfig, SeriesDetector};
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    run::{Run, create, file_error},
};

/// Rows between two looks at the progress.
const TICK_ROWS: usize = 1_000;

#[derive(Deserialize)]
struct Row {
    timestamp: String,
    value: f64,
}

/// The result for one file.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The file's name, without its ending.
    pub name: String,
    /// Its rows.
    pub rows: usize,
    /// Those of them that are unusual.
    pub alerts: usize,
    /// How long it took.
    pub seconds: f64,
}

/// Judges every row of numbers in time: each `NAME.csv[.gz]` of a directory, with
/// `timestamp,value`, becomes `NAME.csv` with `timestamp,score,alert,reason` in another one.
pub fn evaluate(run: &Run<'_>, input: &Path, output: &Path) -> Result<Vec<Summary>, Error> {
    run.each_file(input, &[".csv", ".csv.gz"], |name, path| file(run, name, path, output))
}

/// Row by row, as they would come in; written when all have been read, so that the output may
/// lie beside the input.
fn file(run: &Run<'_>, name: String, path: &Path, output: &Path) -> Result<Summary, Error> {
    let started = Instant::now();
    let mut detector = SeriesDetector::new(SeriesConfig::default());
    let mut judged = Vec::new();
    for (number, row) in csv::Reader::from_reader(run.open(path)?).deserialize().enumerate() {
        let place = |what: String| Error::Input(format!("{}: {what}", path.display()));
        let row: Row = row.map_err(|error| place(error.to_string()))?;
        let time = unix_nano(&row.timestamp).ok_or_else(|| {
            place(format!("row {}: \"{}\" is no time", number + 1, row.timestamp))
        })?;
        judged.push((row.timestamp, detector.observe(time, row.value)));
        if number % TICK_ROWS == 0 {
            run.tick();
        }
    }
    let target = output.join(format!("{name}.csv"));
    let mut writer = create(&target, &["timestamp", "score", "alert", "reason"])?;
    for (timestamp, result) in &judged {
        let alert = if result.is_alert { "1" } else { "0" };
        let score = result.score.to_string();
        writer.write_record([timestamp, score.as_str(), alert, &result.reason])?;
    }
    writer.flush().map_err(|source| file_error("write", &target, source))?;
    let alerts = judged.iter().filter(|(_, result)| result.is_alert).count();
    let seconds = started.elapsed().as_secs_f64();
    Ok(Summary { name, rows: judged.len(), alerts, seconds })
}

/// RFC 3339, or the same with a blank and without a zone, which is UTC.
fn unix_nano(text: &str) -> Option<i64> {
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    // As the files of the Numenta benchmark have it.
    let plain = || NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok();
    zoned.or_else(|| plain().map(|time| time.and_utc()))?.timestamp_nanos_opt()
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write, fs};

    use logweir_processor::ProcessorConfig;

    use super::*;
    use crate::run::Unwatched;

    fn judge(input: &Path, output: &Path) -> Result<Vec<Summary>, Error> {
        evaluate(&Run::new(ProcessorConfig::default(), &Unwatched), input, output)
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
        let summaries = judge(folder.path(), &output).unwrap();
        assert_eq!((summaries[0].rows, summaries[0].alerts), (1_000, 1));
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
            let error = judge(folder.path(), folder.path()).unwrap_err().to_string();
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
