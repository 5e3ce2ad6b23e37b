//! The first logs of inputs as they would be stored, without sending anything.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    sync::Arc,
};

use logweir_core::runtime::clock::Clock;
use logweir_parse::Context;

use crate::{
    read::{
        files,
        lines::{Joiner, LineReader},
        list::STDIN,
    },
    record::{Ready, Rules, Source, ready},
};

/// Reads the first logs of a file or pipe, compressed or not.
///
/// # Errors
///
/// If it cannot be read.
pub fn preview(path: &Path, rules: &Rules, clock: &Clock, most: usize) -> io::Result<Vec<Ready>> {
    let mut source = open(path)?;
    let (mut lines, mut joiner) = (LineReader::new(0), Joiner::default());
    let from = Source::new(path.to_string_lossy().into_owned(), None);
    let mut previewed = Previewed { source: from, rules, clock, most, logs: Vec::new() };
    while previewed.logs.len() < most {
        let line = lines.next_line(&mut source)?.or_else(|| lines.last_line());
        let Some(line) = line else {
            joiner.finish();
            previewed.take(&mut joiner);
            break;
        };
        joiner.push(line, &previewed.context());
        previewed.take(&mut joiner);
    }
    Ok(previewed.logs)
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    if path == Path::new(STDIN) {
        return Ok(Box::new(io::stdin().lock()));
    }
    if !path.metadata()?.is_file() {
        return Ok(Box::new(BufReader::new(File::open(path)?)));
    }
    Ok(files::open(path, Arc::default())?)
}

struct Previewed<'a> {
    source: Source,
    rules: &'a Rules,
    clock: &'a Clock,
    most: usize,
    logs: Vec<Ready>,
}

impl Previewed<'_> {
    fn context(&self) -> Context {
        Context { zone: self.rules.zone, ..Context::at((self.clock)()) }
    }

    fn take(&mut self, joiner: &mut Joiner) {
        let context = self.context();
        while let Some(line) = joiner.next_log() {
            let ready = ready(&line, &self.source, self.rules, &context);
            if !ready.changes.untimed {
                self.source.last_time = Some(ready.time());
            }
            if self.logs.len() < self.most {
                self.logs.push(ready);
            }
        }
    }
}
