//! The process under measurement, as the kernel sees it.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Clock ticks a second in `/proc`, fixed by Linux's user interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child that says `ready on URL` once it serves; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) endpoint: String,
}

impl Server {
    pub(crate) async fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(tokio::process::ChildStdout::from_std(stdout)?).lines();
        while let Some(line) = lines.next_line().await? {
            if let Some(endpoint) = line.strip_prefix("ready on ") {
                return Ok(Self { child, endpoint: endpoint.to_owned() });
            }
        }
        bail!("{command:?} ended before it was ready")
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field, a name in brackets, may hold blanks.
        let fields = stat.rsplit_once(')').context("a name in brackets")?.1;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let total: u64 = ticks.sum::<Result<u64, _>>()?;
        Ok(Duration::from_secs_f64(total as f64 / TICKS_PER_SECOND))
    }

    /// The highest resident memory since `reset_peak`, bytes.
    pub(crate) fn memory_peak_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("VmHWM")?;
        let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Size of the files under a folder, bytes.
pub(crate) fn folder_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { folder_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}
