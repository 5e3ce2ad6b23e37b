//! `logweir evaluate`: the detection of production, with its settings, over labelled files.
//!
//! It writes predictions; scorers that know the truth read them. Only what judges single logs reads
//! the truth of `logweir loadgen` itself, after the judgement. Nothing can be set here that a server
//! does not have.

mod anomalies;
mod incidents;
mod playing;
mod scenarios;
mod sequences;
mod series;
mod templates;

use std::{
    fs::{self, File},
    io::{self, BufRead, IsTerminal},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use logweir_processor::ProcessorConfig;

use crate::{
    error::{Error, Exit},
    output::{Output, OutputArgs},
    settings::SettingsArgs,
    source::input,
};

/// Arguments of `logweir evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say which logs are anomalies and why and, with a truth, how many of them are
    Anomalies(anomalies::AnomaliesArgs),
    /// Play logs through the built-in rules and list the incidents
    Incidents(incidents::IncidentsArgs),
    /// Play scenarios with known faults through the built-in rules and say how many were found
    Scenarios(scenarios::ScenariosArgs),
    /// Write the pattern of every log: each NAME.ndjson[.gz] becomes NAME.csv
    Templates(templates::TemplatesArgs),
    /// Judge every row of numbers in time: each NAME.csv[.gz] becomes NAME.csv
    Series(series::SeriesArgs),
    /// Judge sessions of events by what others teach
    Sequences(sequences::SequencesArgs),
}

/// What all evaluations take.
#[derive(Debug, Args)]
struct CommonArgs {
    /// The settings of this server's file [default: those that a server has without a file]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The settings that a server has without a file; the default
    #[arg(long, global = true, conflicts_with = "config")]
    defaults: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl EvaluateArgs {
    /// Runs it.
    pub fn run(self) -> anyhow::Result<Exit> {
        let run = Run::begin(&self.common)?;
        match self.what {
            What::Anomalies(args) => args.run(run),
            What::Incidents(args) => args.run(run),
            What::Scenarios(args) => args.run(run),
            What::Templates(args) => args.run(run),
            What::Series(args) => args.run(run),
            What::Sequences(args) => args.run(run),
        }
    }
}

/// What an evaluation works with.
struct Run {
    /// The settings of production.
    config: ProcessorConfig,
    output: Output,
    bar: ProgressBar,
    /// Of all input, before decompression.
    read_bytes: Arc<AtomicU64>,
    started: Instant,
}

impl Run {
    fn begin(args: &CommonArgs) -> anyhow::Result<Self> {
        let config = match &args.config {
            None => ProcessorConfig::default(),
            Some(file) => {
                let settings =
                    SettingsArgs { config: Some(file.clone()), ..SettingsArgs::default() };
                settings.load(&[])?.processor()
            }
        };
        Ok(Self {
            config,
            output: Output::new(&args.output),
            bar: ProgressBar::hidden(),
            read_bytes: Arc::default(),
            started: Instant::now(),
        })
    }

    /// Shows how much of these files has been read, if a person looks on.
    fn expect<'a>(&mut self, files: impl IntoIterator<Item = &'a Path>) {
        if self.output.json || !io::stderr().is_terminal() {
            return;
        }
        let sizes = files.into_iter().filter_map(|path| Some(fs::metadata(path).ok()?.len()));
        let template = "{bar:30} {percent:>3} %  {binary_bytes}  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar = ProgressBar::new(sizes.sum()).with_style(style);
        }
    }

    /// Opens a file, compressed or not.
    fn open(&self, path: &Path) -> Result<Box<dyn BufRead + Send>, Error> {
        self.bar.set_message(path.display().to_string());
        let input = input::open(path, 0, Arc::clone(&self.read_bytes));
        Ok(input.map_err(|source| file_error("read", path, source))?.reader)
    }

    /// To be called now and then while reading.
    fn tick(&self) {
        self.bar.set_position(self.read_bytes.load(Ordering::Relaxed));
    }

    /// Ends the progress; how long it took.
    fn seconds(&self) -> f64 {
        self.bar.finish_and_clear();
        self.started.elapsed().as_secs_f64()
    }
}

/// The files of a directory with one of these endings, by name without the ending.
fn inputs(directory: &Path, endings: &[&str]) -> Result<Vec<(String, PathBuf)>, Error> {
    let failed = |source| file_error("read", directory, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(name) = endings.iter().find_map(|ending| name.strip_suffix(ending)) {
            found.push((name.to_owned(), path.clone()));
        }
    }
    if found.is_empty() {
        let text = format!("no {} in {}", endings.join(" or "), directory.display());
        return Err(Error::Usage(text));
    }
    found.sort();
    Ok(found)
}

/// A new file for a table, and the directory that it lies in.
fn create(path: &Path, header: &[&str]) -> Result<csv::Writer<File>, Error> {
    let failed = |source| file_error("write", path, source);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let mut writer = csv::Writer::from_writer(File::create(path).map_err(failed)?);
    writer.write_record(header).map_err(|error| failed(error.into()))?;
    Ok(writer)
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}
