//! What every evaluation works with: the settings, the files, and who looks on.

use std::{
    fs::{self, File},
    io::{self, BufRead},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use logweir_processor::ProcessorConfig;
use logweir_ship::read::files;

use crate::error::Error;

/// Who looks on while files are read.
pub trait Watch {
    /// All input will have so many bytes, before decompression.
    fn expect(&self, bytes: u64);
    /// A file is read from now on, in place of the one before.
    fn open(&self, path: &Path);
    /// Of all input, so much has been read.
    fn read(&self, bytes: u64);
    /// Everything has been read.
    fn finish(&self);
}

/// An evaluation under way.
pub struct Run<'a> {
    /// The settings of production.
    pub config: ProcessorConfig,
    watch: &'a dyn Watch,
    /// Of all input, before decompression.
    read_bytes: Arc<AtomicU64>,
    started: Instant,
}

impl<'a> Run<'a> {
    /// Begins now.
    pub fn new(config: ProcessorConfig, watch: &'a dyn Watch) -> Self {
        Self { config, watch, read_bytes: Arc::default(), started: Instant::now() }
    }

    /// Says how much these files hold together.
    pub(crate) fn expect<'p>(&self, files: impl IntoIterator<Item = &'p Path>) {
        // A file that cannot be looked at only lacks in the total; opening it will say why.
        let sizes = files.into_iter().filter_map(|path| Some(fs::metadata(path).ok()?.len()));
        self.watch.expect(sizes.sum());
    }

    /// Opens a file, compressed or not.
    pub(crate) fn open(&self, path: &Path) -> Result<Box<dyn BufRead + Send>, Error> {
        self.watch.open(path);
        let input = files::open(path, Arc::clone(&self.read_bytes));
        input.map_err(|source| file_error("read", path, source))
    }

    /// To be called now and then while reading.
    pub(crate) fn tick(&self) {
        // Relaxed: it is shown to a person, and nothing else depends on it.
        self.watch.read(self.read_bytes.load(Ordering::Relaxed));
    }

    /// Nothing is read from here on.
    pub(crate) fn finish(&self) {
        self.watch.finish();
    }

    /// Evaluates each file of a directory with one of these endings; it is given the name without the
    /// ending, and the path. The first that fails ends it.
    pub(crate) fn each_file<T>(
        &self,
        directory: &Path,
        endings: &[&str],
        evaluate: impl Fn(String, &Path) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let files = inputs(directory, endings)?;
        self.expect(files.iter().map(|(_, path)| path.as_path()));
        let evaluated = files.into_iter().map(|(name, path)| evaluate(name, &path)).collect();
        self.finish();
        evaluated
    }

    /// How long it has taken so far.
    pub fn seconds(&self) -> f64 {
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
    // Nothing to judge is a wrong path, and must not pass for a result without faults.
    if found.is_empty() {
        let text = format!("no {} in {}", endings.join(" or "), directory.display());
        return Err(Error::Input(text));
    }
    // A directory has its files in an order that differs between machines.
    found.sort();
    Ok(found)
}

/// A new file for a table, and the directory that it lies in.
pub(crate) fn create(path: &Path, header: &[&str]) -> Result<csv::Writer<File>, Error> {
    let failed = |source| file_error("write", path, source);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let mut writer = csv::Writer::from_writer(File::create(path).map_err(failed)?);
    writer.write_record(header).map_err(|error| failed(error.into()))?;
    Ok(writer)
}

pub(crate) fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
pub(crate) struct Unwatched;

#[cfg(test)]
impl Watch for Unwatched {
    fn expect(&self, _bytes: u64) {}
    fn open(&self, _path: &Path) {}
    fn read(&self, _bytes: u64) {}
    fn finish(&self) {}
}
