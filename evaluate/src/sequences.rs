//! Which sessions are unlike those that were normal.

use std::path::Path;

use logweir_analysis::sequence::{SequenceModel, SequenceParameters, event_id};
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    run::{Run, create, file_error},
};

/// Sessions between two looks at the progress.
const TICK_SESSIONS: usize = 1_000;

#[derive(Deserialize)]
struct Row {
    seq_id: String,
    events: String,
}

/// How many sessions were learned and judged, and how many of the judged ones are unusual.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Sessions that the model was trained on.
    pub train_sessions: usize,
    /// Sessions judged.
    pub test_sessions: usize,
    /// Those of them that are called anomalies.
    pub anomalies: u64,
    /// How long training took.
    pub train_seconds: f64,
    /// How long everything took.
    pub seconds: f64,
}

/// Trains on sessions that were normal and judges others, both tables with `seq_id,events` and
/// spaces between events; writes `seq_id,score,anomaly`. The threshold follows from the normal
/// ones.
pub fn evaluate(run: &Run<'_>, train: &Path, test: &Path, output: &Path) -> Result<Summary, Error> {
    run.expect([train, test]);
    let train = read(run, train)?;
    // The one setting that a server has; all else is as it would be there.
    let parameters = SequenceParameters {
        contamination: run.config.detector().contamination,
        ..SequenceParameters::default()
    };
    let begun = run.seconds();
    let events: Vec<&[u64]> = train.iter().map(|(_, events)| &events[..]).collect();
    let model = SequenceModel::train(&events, parameters);
    let train_seconds = run.seconds() - begun;
    let test = read(run, test)?;
    let anomalies = judge(&model, &test, output)?;
    run.finish();
    let (train_sessions, test_sessions) = (train.len(), test.len());
    Ok(Summary { train_sessions, test_sessions, anomalies, train_seconds, seconds: run.seconds() })
}

/// The sessions of a file with their names.
fn read(run: &Run<'_>, path: &Path) -> Result<Vec<(String, Vec<u64>)>, Error> {
    let mut sessions = Vec::new();
    for row in csv::Reader::from_reader(run.open(path)?).deserialize() {
        let row: Row = row.map_err(|error| Error::Input(format!("{}: {error}", path.display())))?;
        sessions.push((row.seq_id, row.events.split_whitespace().map(event_id).collect()));
        if sessions.len() % TICK_SESSIONS == 0 {
            run.tick();
        }
    }
    Ok(sessions)
}

/// Writes what is said about sessions; how many are called anomalies.
fn judge(
    model: &SequenceModel,
    sessions: &[(String, Vec<u64>)],
    path: &Path,
) -> Result<u64, Error> {
    let mut writer = create(path, &["seq_id", "score", "anomaly"])?;
    let mut anomalies = 0;
    for (name, events) in sessions {
        let result = model.score(events);
        anomalies += u64::from(result.is_anomaly);
        let anomaly = if result.is_anomaly { "1" } else { "0" };
        writer.write_record([name, &result.score.to_string(), anomaly])?;
    }
    writer.flush().map_err(|source| file_error("write", path, source))?;
    Ok(anomalies)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use logweir_processor::ProcessorConfig;

    use super::*;
    use crate::run::Unwatched;

    fn judged(train: &Path, test: &Path, output: &Path) -> Result<Summary, Error> {
        evaluate(&Run::new(ProcessorConfig::default(), &Unwatched), train, test, output)
    }

    #[test]
    fn a_session_unlike_the_others_is_an_anomaly() {
        let folder = tempfile::tempdir().unwrap();
        let [train, test, output] = ["train", "test", "out"].map(|name| folder.path().join(name));
        let rows = (0..200).map(|n| format!("n{n},open read {}close\n", "read ".repeat(n % 3)));
        fs::write(&train, format!("seq_id,events\n{}", rows.collect::<String>())).unwrap();
        fs::write(&test, "seq_id,events\nusual,open read close\nodd,open close read\n").unwrap();
        let summary = judged(&train, &test, &output).unwrap();
        assert_eq!((summary.train_sessions, summary.anomalies), (200, 1));
        let table = fs::read_to_string(output).unwrap();
        let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split(',').collect()).collect();
        assert_eq!(rows[0], ["seq_id", "score", "anomaly"]);
        assert_eq!((rows[1][0], rows[1][2], rows[2][0], rows[2][2]), ("usual", "0", "odd", "1"));
        assert!(rows[1][1].parse::<f64>().unwrap() < rows[2][1].parse::<f64>().unwrap());
    }

    #[test]
    fn a_file_without_the_columns_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.csv");
        fs::write(&path, "id,x\n1,2\n").unwrap();
        let error = judged(&path, &path, &folder.path().join("out")).unwrap_err().to_string();
        assert!(error.contains("train.csv: ") && error.contains("seq_id"), "{error}");
    }
}
