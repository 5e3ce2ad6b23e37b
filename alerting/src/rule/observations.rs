//! What an evaluation takes in.

use std::collections::{BTreeMap, BTreeSet};

use logweir_core::timestamp::Timestamp;

use super::self_monitoring::SystemReport;
use crate::detector::{new_pattern::NewPattern, window::Bucket};

/// Through when the logs of each service are known; none while that is not known.
pub type Watermarks = BTreeMap<String, Option<Timestamp>>;

/// What was seen since the last evaluation. What is seen again takes the place of what was seen
/// before, so that a log which came late counts.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    /// Of a service that is left out the last watermark holds, and all is known at once if it never
    /// had one.
    pub watermarks: Watermarks,
    /// What services logged in ten seconds each, as counted so far; of each service ascending.
    pub buckets: Vec<(String, Bucket)>,
    /// By service, the patterns that are less than [`crate::detector::new_pattern::NEW_AGE_MAX`] old,
    /// as counted so far.
    pub new_patterns: Vec<(String, NewPattern)>,
    /// The logs that matched the filters of rules.
    pub matches: Vec<RuleMatches>,
    /// The names of rules whose matches nobody looked for this time: nothing is said of them.
    pub unseen: BTreeSet<String>,
    /// How the system itself does; none if nobody looked.
    pub system: Option<SystemReport>,
}

impl Observations {
    /// Only what one service logged in one bucket.
    pub fn bucket(service: &str, bucket: Bucket) -> Self {
        Self { buckets: vec![(service.to_owned(), bucket)], ..Self::default() }
    }
}

/// How many logs of a service matched a rule's filter in one bucket, as far as could be seen.
#[derive(Debug, Clone)]
pub struct RuleMatches {
    /// The rule's name.
    pub rule: String,
    /// The service's name.
    pub service: String,
    /// Its total are the logs that matched.
    pub bucket: Bucket,
}
