//! The process under measurement, as the kernel sees it.

use std::{
    collections::HashMap,
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
        // Its errors go nowhere: a pipe that nobody reads would stop it once full.
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
        cpu_of(self.child.id())
    }

    /// The highest resident memory so far, bytes.
    pub(crate) fn memory_peak_bytes(&self) -> anyhow::Result<u64> {
        memory_of(self.child.id(), "VmHWM:")
    }

    /// Resident memory, bytes.
    pub(crate) fn memory_bytes(&self) -> anyhow::Result<u64> {
        memory_of(self.child.id(), "VmRSS:")
    }
}

/// User and system time of a process and of its children that have ended.
fn cpu_of(process_id: u32) -> anyhow::Result<Duration> {
    let stat = Stat::read(process_id)?;
    Ok(Duration::from_secs_f64(stat.ticks as f64 / TICKS_PER_SECOND))
}

fn memory_of(process_id: u32, what: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process_id}/status"))?;
    let line = status.lines().find(|line| line.starts_with(what)).context("resident memory")?;
    let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib * 1024)
}

/// User and system time of all descendants of a process that run this program.
pub(crate) fn cpu_below(ancestor: u32, program: &str) -> anyhow::Result<Duration> {
    below(ancestor, program)?.into_iter().map(cpu_of).sum()
}

/// Resident memory of all descendants of a process that run this program, bytes.
pub(crate) fn memory_bytes_below(ancestor: u32, program: &str) -> anyhow::Result<u64> {
    below(ancestor, program)?.into_iter().map(|id| memory_of(id, "VmRSS:")).sum()
}

fn below(ancestor: u32, program: &str) -> anyhow::Result<Vec<u32>> {
    let mut parents = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(id) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // It may have ended since.
        if let Ok(stat) = Stat::read(id) {
            parents.insert(id, stat);
        }
    }
    let descends = |mut id: u32| {
        while let Some(stat) = parents.get(&id) {
            if stat.parent == ancestor {
                return true;
            }
            id = stat.parent;
        }
        false
    };
    let named = parents.iter().filter(|(_, stat)| stat.program == program);
    Ok(named.map(|(id, _)| *id).filter(|id| descends(*id)).collect())
}

/// What `/proc/ID/stat` says.
struct Stat {
    program: String,
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn read(process_id: u32) -> anyhow::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{process_id}/stat"))?;
        // The second field, a name in brackets, may hold blanks.
        let (name, fields) = text.rsplit_once(')').context("a name in brackets")?;
        let program = name.split_once('(').context("a name in brackets")?.1.to_owned();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |place: usize| -> anyhow::Result<u64> {
            Ok(fields.get(place).context("a field")?.parse()?)
        };
        // Own user and system time, then that of children waited for.
        let ticks = (11..15).map(number).sum::<anyhow::Result<u64>>()?;
        Ok(Self { program, parent: u32::try_from(number(1)?)?, ticks })
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

/// A token by the binary's own command, which knows where the data lie.
pub(crate) fn admin_token(command: &mut Command) -> anyhow::Result<String> {
    let arguments = ["token", "issue", "--service", "*", "--role", "admin"];
    let output = command.args(arguments).output().context("the binary does not run: build it")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
