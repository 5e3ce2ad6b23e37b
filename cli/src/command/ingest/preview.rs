//! What `logweir send --dry-run` shows: the first logs of each input as they would be stored, and what
//! was guessed.

use std::{
    io,
    path::{Path, PathBuf},
};

use logweir_core::runtime::clock::system_clock;
use logweir_parse::Format;
use logweir_proto::v1;
use logweir_ship::{
    preview::preview,
    record::{Changes, Ready, Rules},
};

use crate::{
    log_output,
    output::{Output, Tone, escape, say},
};

/// Logs shown of each input.
const LOGS_MAX: usize = 10;

/// Whether all inputs could be read.
pub(super) fn write(output: &mut Output, paths: &[PathBuf], rules: &Rules) -> io::Result<bool> {
    let mut is_whole = true;
    for path in paths {
        match preview(path, rules, &system_clock(), LOGS_MAX) {
            Ok(logs) => write_logs(output, path, logs)?,
            Err(error) => {
                say(&escape(&format!("cannot read {}: {error}", path.display())));
                is_whole = false;
            }
        }
    }
    Ok(is_whole)
}

/// A line for each log, and what a person should know of it.
fn write_logs(output: &mut Output, path: &Path, logs: Vec<Ready>) -> io::Result<()> {
    if !output.json {
        output.line(&output.paint(&escape(&path.display().to_string()), Tone::Dim))?;
    }
    for Ready { service, record, changes } in logs {
        let guesses = guesses(&changes);
        if output.json {
            log_output::write_unsent(output, &service, &record)?;
            continue;
        }
        let entry = v1::LogEntry { service, record: Some(record), ..v1::LogEntry::default() };
        log_output::write(output, &entry)?;
        if !guesses.is_empty() {
            output.line(&output.paint(&format!("    {}", guesses.join(", ")), Tone::Warning))?;
        }
    }
    Ok(())
}

fn guesses(changes: &Changes) -> Vec<String> {
    let notes = [
        (changes.joined, "several lines"),
        (changes.untimed, "no time: that of sending"),
        (changes.inherited_time, "no time: that of the line before"),
        (changes.notes.has_unknown_level, "unknown level"),
        (changes.notes.has_unknown_zone, "unknown zone: see --timezone"),
        (changes.latin1, "read as Latin-1"),
        (changes.invalid_utf8, "no UTF-8"),
        (changes.truncated, "cut to the limits"),
        (changes.renamed, "names another service"),
    ];
    let found = notes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text.to_owned());
    let format = changes.notes.format;
    let format = (format != Format::Text).then(|| format.as_str().to_owned());
    format.into_iter().chain(found).collect()
}
