//! Which logs follow the same pattern.

use std::{
    collections::{HashMap, HashSet},
    io::BufRead,
    path::Path,
    sync::Arc,
    time::Instant,
};

use logweir_analysis::{Detector, ReceivedLog};
use logweir_core::{
    identity::{Service, TemplateId, Tenant},
    record::{Level, Record, Template},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    run::{Run, create, file_error},
};

/// Logs between two looks at the progress.
const TICK_LOGS: usize = 1_000;

#[derive(Deserialize)]
struct Line {
    line_id: String,
    #[serde(default)]
    level: String,
    message: String,
}

/// The result for one file.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The file's name, without its ending.
    pub name: String,
    /// Its logs.
    pub logs: usize,
    /// The patterns that they follow.
    pub templates: usize,
    /// How long it took.
    pub seconds: f64,
}

/// Finds the pattern of every log: each `NAME.ndjson[.gz]` of a directory, an object a line with
/// `line_id` and `message`, becomes `NAME.csv` with `line_id,cluster_id,template` in another one.
pub fn evaluate(run: &Run<'_>, input: &Path, output: &Path) -> Result<Vec<Summary>, Error> {
    run.each_file(input, &[".ndjson", ".ndjson.gz"], |name, path| file(run, name, path, output))
}

/// The logs of a file are those of one service, as when a program's log file is sent.
fn file(run: &Run<'_>, name: String, path: &Path, output: &Path) -> Result<Summary, Error> {
    let started = Instant::now();
    let (tenant, service) = (Tenant::default(), Service::new("evaluated")?);
    let mut detector = Detector::new(run.config.detector());
    let mut assigned = Vec::new();
    for (number, line) in run.open(path)?.lines().enumerate() {
        let line = line.map_err(|source| file_error("read", path, source))?;
        let line: Line = serde_json::from_str(&line)
            .map_err(|error| Error::Input(format!("{}:{}: {error}", path.display(), number + 1)))?;
        let level = line.level.parse().unwrap_or(Level::Info);
        let record = Record { message: line.message, ..Record::default() };
        let log = ReceivedLog {
            tenant: &tenant,
            service: &service,
            instance: "",
            received_at: Timestamp::EPOCH,
            record: &record,
            level,
        };
        assigned.push((line.line_id, detector.observe(&log).template));
        if number % TICK_LOGS == 0 {
            run.tick();
        }
    }
    // As a processor does from time to time: a reader is shown the merged patterns.
    detector.merge_patterns();
    let changes = detector.take_template_changes().into_iter();
    let changes = changes.map(|template| (template.template_id, template)).collect();
    let logs = assigned.len();
    let target = output.join(format!("{name}.csv"));
    let templates = write(&target, assigned, &changes)?;
    Ok(Summary { name, logs, templates, seconds: started.elapsed().as_secs_f64() })
}

/// Writes the patterns of logs as a reader is shown them; how many patterns there are.
fn write(
    path: &Path,
    assigned: Vec<(String, Arc<Template>)>,
    changes: &HashMap<TemplateId, Arc<Template>>,
) -> Result<usize, Error> {
    let mut writer = create(path, &["line_id", "cluster_id", "template"])?;
    let mut templates = HashSet::new();
    for (line_id, template) in assigned {
        // A pattern widens with later logs: what a log was assigned to may have become another text
        // since, or part of a wider pattern.
        let current = |id: TemplateId| changes.get(&id);
        let template = current(template.template_id).unwrap_or(&template);
        let template = template.merged_into.and_then(current).unwrap_or(template);
        let id = template.template_id;
        writer.write_record([&line_id, &id.to_string(), &template.pattern])?;
        templates.insert(id);
    }
    writer.flush().map_err(|source| file_error("write", path, source))?;
    Ok(templates.len())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use flate2::{Compression, write::GzEncoder};
    use logweir_processor::ProcessorConfig;

    use super::*;
    use crate::run::Unwatched;

    fn patterns(input: &Path, output: &Path) -> Result<Vec<Summary>, Error> {
        evaluate(&Run::new(ProcessorConfig::default(), &Unwatched), input, output)
    }

    #[test]
    fn each_file_becomes_a_table_of_its_logs() {
        let folder = tempfile::tempdir().unwrap();
        let log = |id, message| format!("{{\"line_id\":\"{id}\",\"message\":\"{message}\"}}\n");
        let plain = log("1", "took 5 ms") + &log("2", "done") + &log("3", "took 7 ms");
        fs::write(folder.path().join("a.ndjson"), plain).unwrap();
        let file = fs::File::create(folder.path().join("b.ndjson.gz")).unwrap();
        let mut gzip = GzEncoder::new(file, Compression::fast());
        gzip.write_all(log("x", "a, b").as_bytes()).unwrap();
        gzip.finish().unwrap();

        let output = folder.path().join("predicted");
        let summaries = patterns(folder.path(), &output).unwrap();
        assert_eq!((summaries.len(), summaries[0].logs, summaries[0].templates), (2, 3, 2));

        let table = fs::read_to_string(output.join("a.csv")).unwrap();
        let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split(',').collect()).collect();
        assert_eq!(rows[0], ["line_id", "cluster_id", "template"]);
        assert_eq!((rows[1][1], rows[1][2]), (rows[3][1], "took <*> ms"));
        assert_ne!(rows[1][1], rows[2][1]);
        let table = fs::read_to_string(output.join("b.csv")).unwrap();
        assert!(table.contains(",\"a, b\"\n"), "{table}");
    }

    #[test]
    fn a_line_that_is_no_log_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.ndjson"), "{}\n").unwrap();
        let error = patterns(folder.path(), folder.path()).unwrap_err().to_string();
        assert!(error.contains("a.ndjson:1: missing field `line_id`"), "{error}");
    }
}
