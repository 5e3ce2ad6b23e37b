//! Which logs are known to be anomalies, and of what kind.

use std::{
    collections::HashMap,
    io::{BufRead, Read},
    path::Path,
};

use logweir_core::{record::ScoredRecord, timestamp::Timestamp};
use logweir_loadgen::truth::TruthEntry;
use serde::Deserialize;

use crate::{
    error::Error,
    run::{Run, file_error},
};

/// Which logs are known to be anomalies. Kinds are numbers in a list of names.
pub(super) struct Truth {
    kinds: Vec<String>,
    /// By service and time, for logs of `loadgen`.
    by_time: HashMap<String, HashMap<Timestamp, usize>>,
    /// By a log's own number.
    by_id: HashMap<String, usize>,
}

#[derive(Deserialize)]
struct Label {
    seq_id: String,
    label: u8,
    #[serde(default)]
    kind: String,
}

impl Truth {
    /// Reads either form: `loadgen`'s faults, a JSON object a line, or a table with
    /// `seq_id,label,kind`, which begins with the names of its columns and so never with a brace.
    pub(super) fn read(run: &Run<'_>, path: &Path) -> Result<Self, Error> {
        let mut reader = run.open(path)?;
        let start = reader.fill_buf().map_err(|source| file_error("read", path, source))?;
        let mut truth = Self { kinds: Vec::new(), by_time: HashMap::new(), by_id: HashMap::new() };
        if start.first() == Some(&b'{') {
            truth.read_faults(reader, path)?;
        } else {
            truth.read_labels(reader)?;
        }
        Ok(truth)
    }

    fn read_faults(&mut self, reader: impl BufRead, path: &Path) -> Result<(), Error> {
        for (number, line) in reader.lines().enumerate() {
            let line = line.map_err(|source| file_error("read", path, source))?;
            let wrong = |text| Error::Input(format!("{}:{}: {text}", path.display(), number + 1));
            let entry: TruthEntry =
                serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            // A silence names no log, for it left them out. But logs that were changed and are not
            // named would count as false alarms when they are found.
            let is_changing = !entry.after_nanos.is_empty();
            if is_changing && (entry.after_nanos.len() as u64) < entry.logs {
                let text = "this fault changed more logs than the truth names; make it shorter";
                return Err(wrong(text.to_owned()));
            }
            let kind = self.kind_number(&entry.kind.to_string());
            let times = self.by_time.entry(entry.service).or_default();
            let start = entry.start.as_unix_nanos();
            let time = |after: &i64| Timestamp::from_unix_nanos(start.saturating_add(*after));
            times.extend(entry.after_nanos.iter().map(|after| (time(after), kind)));
        }
        Ok(())
    }

    fn read_labels(&mut self, reader: impl Read) -> Result<(), Error> {
        for label in csv::Reader::from_reader(reader).into_deserialize() {
            let Label { seq_id, label, kind } = label?;
            if label != 0 {
                let kind = self.kind_number(if kind.is_empty() { "anomaly" } else { &kind });
                self.by_id.insert(seq_id, kind);
            }
        }
        Ok(())
    }

    fn kind_number(&mut self, name: &str) -> usize {
        // Millions of logs have a handful of kinds: a number each takes less than a text.
        self.kinds.iter().position(|known| known == name).unwrap_or_else(|| {
            self.kinds.push(name.to_owned());
            self.kinds.len() - 1
        })
    }

    /// The kind of a log, if it is an anomaly.
    pub(super) fn kind(&self, service: &str, scored: &ScoredRecord, id: &str) -> Option<&str> {
        let by_time = || self.by_time.get(service)?.get(&scored.record.time);
        let kind = self.by_id.get(id).or_else(by_time)?;
        self.kinds.get(*kind).map(String::as_str)
    }
}
