//! Cuts the logs of a request into batches. Pure: a request that is sent again is the same batches,
//! whatever the settings are.

use std::collections::HashMap;

use logweir_proto::v1;
use prost::Message;

use super::repeat::Evidence;
use crate::{
    ingest::split::{Group, Part, Rejected},
    status::Refusal,
};

/// Logs of a part: as many as a native batch has by default.
const PART_RECORDS_MAX: usize = 10_000;
/// Bytes of a part's logs, encoded; a log that is larger is a part by itself.
pub(crate) const PART_BYTES_MAX: usize = 1 << 20;
/// Bytes of a log, encoded: what a native request may have by default. A larger one breaks other rules
/// too, and would take a whole queue with it to the dead letters.
pub(crate) const RECORD_BYTES_MAX: usize = 4 << 20;
/// Bytes that the resource takes on the logs of a part, each of which gets its values; what the native
/// contract allows by default.
const COPIES_BYTES_MAX: usize = 32 << 20;
/// Bytes of what logs have in common (a scope, the labels of a stream) and each of them gets a copy of.
const SHARED_COPIES_BYTES_MAX: usize = 64 << 20;
/// Bytes that resources take in the parts of a request, each of which has its own once more.
const PART_COPIES_BYTES_MAX: usize = 64 << 20;
/// Parts of a request: each is a message of the queue and an entry of the ledger.
pub(crate) const PARTS_MAX: usize = 4_096;
/// About what an attribute takes in memory besides its text.
pub(crate) const ATTRIBUTE_BYTES: usize = 64;
/// Why logs are rejected that are too large for any batch.
const TOO_LARGE: &str = "too_large_for_a_batch";

/// A request as batches.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Translation {
    pub(crate) groups: Vec<Group>,
    pub(crate) rejected: Rejected,
    /// Whether the same bytes again can only be the same logs again.
    pub(crate) can_be_told: bool,
}

impl Translation {
    /// Of all logs, encoded.
    pub(crate) fn bytes(&self) -> usize {
        self.groups.iter().flat_map(|group| &group.parts).map(|part| part.bytes).sum()
    }
}

/// Takes logs, and makes batches of them.
#[derive(Default)]
pub(crate) struct Batches {
    groups: Vec<Group>,
    /// Logs that a part may have, of each group.
    records_max: Vec<usize>,
    /// By the resource, encoded. A collector puts the same one into a request many times.
    known: HashMap<Vec<u8>, usize>,
    shared_copies_bytes: usize,
    rejected: Rejected,
    evidence: Evidence,
}

impl Batches {
    /// The number of the logs of a service of which nothing else is known.
    pub(crate) fn group_of_service(&mut self, service: String) -> usize {
        self.group(v1::Resource { service, ..v1::Resource::default() })
    }

    /// The number of a resource's logs.
    pub(crate) fn group(&mut self, resource: v1::Resource) -> usize {
        let encoded = resource.encode_to_vec();
        let memory = encoded.len() + resource.attributes.len() * ATTRIBUTE_BYTES;
        *self.known.entry(encoded).or_insert_with(|| {
            let records_max = COPIES_BYTES_MAX / memory.max(1);
            self.records_max.push(records_max.clamp(1, PART_RECORDS_MAX));
            self.groups.push(Group { resource, parts: Vec::new() });
            self.groups.len() - 1
        })
    }

    /// Whether there is room for so many bytes of what the logs in these places have in common on each of
    /// them; else they are rejected.
    pub(crate) fn takes_copies(
        &mut self,
        what: &str,
        bytes: usize,
        places: std::ops::Range<u32>,
    ) -> bool {
        let copies = bytes.saturating_mul(places.len());
        let bytes = copies.saturating_add(self.shared_copies_bytes);
        if bytes <= SHARED_COPIES_BYTES_MAX {
            self.shared_copies_bytes = bytes;
            return true;
        }
        self.rejected.add(places, TOO_LARGE, || {
            format!(
                "the memory in bytes for the values of {what} on each of the request's logs is \
                 {bytes}, the limit is {SHARED_COPIES_BYTES_MAX}: send fewer of them at once"
            )
        });
        false
    }

    /// Adds the log that stands in this place of the request.
    pub(crate) fn add(&mut self, group: usize, place: u32, record: v1::LogRecord) {
        self.evidence.add(&record);
        let bytes = record.encoded_len();
        if bytes > RECORD_BYTES_MAX {
            self.reject(place, TOO_LARGE, || {
                format!("the log is {bytes} bytes, the limit is {RECORD_BYTES_MAX}")
            });
            return;
        }
        let (parts, records_max) = (&mut self.groups[group].parts, self.records_max[group]);
        let has_room =
            |part: &Part| part.records.len() < records_max && part.bytes + bytes <= PART_BYTES_MAX;
        if !parts.last().is_some_and(has_room) {
            parts.push(Part::default());
        }
        if let Some(part) = parts.last_mut() {
            part.bytes += bytes;
            part.records.push(record);
            part.places.push(place);
        }
    }

    /// Rejects what stands in this place of the request.
    pub(crate) fn reject(
        &mut self,
        place: u32,
        reason: &'static str,
        why: impl FnOnce() -> String,
    ) {
        self.rejected.add(place..place + 1, reason, why);
    }

    /// Notes a time of the next log beside its own.
    pub(crate) fn note_time(&mut self, unix_nano: u64) {
        self.evidence.note_time(unix_nano);
    }

    /// The request as batches.
    pub(crate) fn finish(mut self) -> Result<Translation, Refusal> {
        // A resource without logs asks for nothing, and so for nothing that is not allowed.
        self.groups.retain(|group| !group.parts.is_empty());
        let parts: usize = self.groups.iter().map(|group| group.parts.len()).sum();
        if parts > PARTS_MAX {
            let what = "the number of batches that the request falls into";
            return Err(Refusal::TooLarge { what, value: parts.to_string(), limit: PARTS_MAX });
        }
        let of_group = |group: &Group| group.resource.encoded_len() * (group.parts.len() - 1);
        let copies: usize = self.groups.iter().map(of_group).sum();
        if copies > PART_COPIES_BYTES_MAX {
            let what = "the bytes for the values of resources in each of the request's batches";
            let limit = PART_COPIES_BYTES_MAX;
            return Err(Refusal::TooLarge { what, value: copies.to_string(), limit });
        }
        let can_be_told = self.evidence.is_enough();
        Ok(Translation { groups: self.groups, rejected: self.rejected, can_be_told })
    }
}
