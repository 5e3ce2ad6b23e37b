//! `logweir evaluate sequences`: which sessions are unlike those that were normal.

use std::path::{Path, PathBuf};

use clap::Args;
use logweir_detect::sequence::{SequenceModel, SequenceParameters, event_id};
use serde::{Deserialize, Serialize};

use super::{Run, create, file_error};
use crate::{
    error::{Error, Exit},
    output::count,
};

/// Sessions between two looks at the progress.
const TICK_SESSIONS: usize = 1_000;

/// Arguments of `logweir evaluate sequences`.
#[derive(Debug, Args)]
pub(super) struct SequencesArgs {
    /// Normal sessions, `seq_id,events` with spaces between events; the threshold follows from them
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// The sessions to judge, in the same form
    #[arg(long, value_name = "FILE")]
    test: PathBuf,
    /// Where `seq_id,score,anomaly` is written
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Deserialize)]
struct Row {
    seq_id: String,
    events: String,
}

#[derive(Serialize)]
struct Summary {
    train_sessions: usize,
    test_sessions: usize,
    anomalies: u64,
    train_seconds: f64,
    seconds: f64,
}

impl SequencesArgs {
    /// Runs it.
    pub(super) fn run(self, mut run: Run) -> anyhow::Result<Exit> {
        run.expect([self.train.as_path(), self.test.as_path()]);
        let train = read(&run, &self.train)?;
        let parameters = SequenceParameters {
            contamination: run.config.detector().contamination,
            ..SequenceParameters::default()
        };
        let begun = run.started.elapsed().as_secs_f64();
        let events: Vec<&[u64]> = train.iter().map(|(_, events)| &events[..]).collect();
        let model = SequenceModel::train(&events, parameters);
        let train_seconds = run.started.elapsed().as_secs_f64() - begun;
        let test = read(&run, &self.test)?;
        let anomalies = judge(&model, &test, &self.output)?;
        let (train_sessions, test_sessions) = (train.len(), test.len());
        let seconds = run.seconds();
        let summary = Summary { train_sessions, test_sessions, anomalies, train_seconds, seconds };
        if run.output.json {
            run.output.object(&summary)?;
        } else {
            let numbers = [train_sessions as u64, test_sessions as u64, anomalies];
            let headers = ["trained on", "judged", "anomalies"];
            run.output.table(&headers, vec![numbers.map(count).into()])?;
            run.output.line(&format!("{seconds:.1} s"))?;
        }
        run.output.flush()?;
        Ok(Exit::Done)
    }
}

/// The sessions of a file with their names.
fn read(run: &Run, path: &Path) -> anyhow::Result<Vec<(String, Vec<u64>)>> {
    let mut sessions = Vec::new();
    for row in csv::Reader::from_reader(run.open(path)?).deserialize() {
        let row: Row = row.map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
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
) -> anyhow::Result<u64> {
    let mut writer = create(path, &["seq_id", "score", "anomaly"])?;
    let mut anomalies = 0;
    for (name, events) in sessions {
        let verdict = model.score(events);
        anomalies += u64::from(verdict.is_anomaly);
        let anomaly = if verdict.is_anomaly { "1" } else { "0" };
        writer.write_record([name, &verdict.score.to_string(), anomaly])?;
    }
    writer.flush().map_err(|source| file_error("write", path, source))?;
    Ok(anomalies)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::command::{Cli, Command};

    fn evaluate(train: &Path, test: &Path, output: &Path) -> anyhow::Result<Exit> {
        let [train, test, output] = [train, test, output].map(|path| path.to_str().unwrap());
        let args = ["logweir", "evaluate", "sequences", "--train", train, "--test", test];
        let args = args.into_iter().chain(["--output", output]);
        let Command::Evaluate(command) = Cli::parse_from(args).command else { panic!() };
        command.run()
    }

    #[test]
    fn a_session_unlike_the_others_is_an_anomaly() {
        let folder = tempfile::tempdir().unwrap();
        let [train, test, output] = ["train", "test", "out"].map(|name| folder.path().join(name));
        let rows = (0..200).map(|n| format!("n{n},open read {}close\n", "read ".repeat(n % 3)));
        fs::write(&train, format!("seq_id,events\n{}", rows.collect::<String>())).unwrap();
        fs::write(&test, "seq_id,events\nusual,open read close\nodd,open close read\n").unwrap();
        assert_eq!(evaluate(&train, &test, &output).unwrap(), Exit::Done);
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
        let error = evaluate(&path, &path, &folder.path().join("out")).unwrap_err().to_string();
        assert!(error.contains("train.csv: ") && error.contains("seq_id"), "{error}");
    }
}
