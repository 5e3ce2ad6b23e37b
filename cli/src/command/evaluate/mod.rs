//! `logweir evaluate`: the detection of production, with its settings, over labelled files. What is
//! shown here is worked out by the crate `evaluate`.

mod anomalies;
mod incidents;
mod scenarios;
mod sequences;
mod series;
mod templates;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use logweir_evaluate::{Run, Watch};
use logweir_processor::ProcessorConfig;

use crate::{
    config::ConfigArgs,
    error::Exit,
    output::{Output, OutputArgs},
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
        let config = self.common.processor()?;
        let mut output = Output::new(&self.common.output);
        let progress = Progress::new(&output);
        let run = Run::new(config, &progress);
        match self.what {
            What::Anomalies(args) => args.run(&run, &mut output),
            What::Incidents(args) => args.run(&run, &mut output),
            What::Scenarios(args) => args.run(&run, &mut output),
            What::Templates(args) => args.run(&run, &mut output),
            What::Series(args) => args.run(&run, &mut output),
            What::Sequences(args) => args.run(&run, &mut output),
        }?;
        output.flush()?;
        Ok(Exit::Done)
    }
}

impl CommonArgs {
    fn processor(&self) -> anyhow::Result<ProcessorConfig> {
        let Some(file) = &self.config else { return Ok(ProcessorConfig::default()) };
        let settings = ConfigArgs { config: Some(file.clone()), ..ConfigArgs::default() };
        Ok(settings.load(&[])?.processor())
    }
}

/// Shows how much has been read, if a person looks on; gone before the report is shown.
struct Progress(ProgressBar);

impl Progress {
    fn new(output: &Output) -> Self {
        if output.json || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let template = "{bar:30} {percent:>3} %  {binary_bytes}  {msg}";
        let style = ProgressStyle::with_template(template);
        Self(
            style.map_or_else(
                |_| ProgressBar::hidden(),
                |style| ProgressBar::new(0).with_style(style),
            ),
        )
    }
}

impl Watch for Progress {
    fn expect(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn open(&self, path: &Path) {
        self.0.set_message(path.display().to_string());
    }

    fn read(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
