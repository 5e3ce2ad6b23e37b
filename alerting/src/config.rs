//! Settings of alerting.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{
    channel::address::AddressPolicy,
    channel::{Network, SystemResolver},
};

/// How alerting reaches the world, and what it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertingConfig {
    /// Whether it runs.
    pub enabled: bool,
    /// A folder with rules in YAML files; empty for none.
    pub rules_folder: PathBuf,
    /// Networks that channels may reach although they are not public, such as `10.1.0.0/16`.
    pub networks_allowed: Vec<IpNet>,
    /// Ports of the public Internet that channels may reach.
    pub ports_allowed: Vec<u16>,
    /// A file with certificate authorities, PEM, that channels trust besides the machine's; empty
    /// for none.
    pub authorities_file: PathBuf,
    /// After the start of `standalone` nothing is evaluated for so long: senders still have logs
    /// from before, whose absence says nothing. Seconds.
    pub start_pause_seconds: u32,
    /// A file that holds an address outside, called again and again while the leader evaluates, so
    /// that whoever owns it misses us when we die; empty for none.
    pub heartbeat_url_file: PathBuf,
    /// Between two such calls, seconds.
    pub heartbeat_seconds: u32,
    /// Where people look at incidents: notifications link to `{link}/incidents/ID`; empty for no
    /// link.
    pub link: String,
}

impl Default for AlertingConfig {
    fn default() -> Self {
        let AddressPolicy { networks_allowed, ports_allowed } = AddressPolicy::default();
        Self {
            enabled: true,
            rules_folder: PathBuf::new(),
            networks_allowed,
            ports_allowed,
            authorities_file: PathBuf::new(),
            start_pause_seconds: 60,
            heartbeat_url_file: PathBuf::new(),
            heartbeat_seconds: 60,
            link: String::new(),
        }
    }
}

impl AlertingConfig {
    /// How channels reach the world; an error says what is wrong with the authorities.
    pub fn network(&self) -> Result<Network, String> {
        let policy = AddressPolicy {
            networks_allowed: self.networks_allowed.clone(),
            ports_allowed: self.ports_allowed.clone(),
        };
        let authorities = if self.authorities_file.as_os_str().is_empty() {
            Vec::new()
        } else {
            std::fs::read(&self.authorities_file).map_err(|error| {
                format!("alerting.authorities_file {}: {error}", self.authorities_file.display())
            })?
        };
        Network::new(policy, Arc::new(SystemResolver), &authorities)
    }

    /// The rule files with their texts; none for one that cannot be read, which is logged. None at
    /// all if the folder cannot be read.
    pub(crate) fn rule_files(&self) -> Option<BTreeMap<String, Option<String>>> {
        if self.rules_folder.as_os_str().is_empty() {
            return Some(BTreeMap::new());
        }
        let warned = |path: &Path, error: &std::io::Error| warn!("{}: {error}", path.display());
        // A mistake with one file is logged and costs only that one: rules of others go on.
        let entries = std::fs::read_dir(&self.rules_folder);
        let entries = entries.inspect_err(|error| warned(&self.rules_folder, error)).ok()?;
        let is_yaml = |path: &PathBuf| {
            path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
        };
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).inspect_err(|error| warned(&path, error));
            (path.display().to_string(), text.ok())
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_yaml);
        Some(paths.map(read).collect())
    }
}
