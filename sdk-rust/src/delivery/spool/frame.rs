//! The form of a batch on disk, and how it is found again in a damaged file. Pure.
//!
//! A frame is `magic, payload length, payload checksum, header checksum`, each 4 bytes, little
//! endian, then the payload: what is known of the batch, and its bytes. Both checksums (CRC-32)
//! start from the salt of the folder. It is random, so that a log whose text imitates a frame is
//! never taken for one where a damaged file is searched for the next frame.

use bytes::Bytes;
use crc32fast::Hasher;

use crate::delivery::batch::EncodedBatch;

const MAGIC: [u8; 4] = *b"LwF1";
const HEADER_BYTES: usize = 16;
const FACTS_BYTES: usize = 52;
/// Size of one mark in a file of acknowledgements.
const MARK_BYTES: usize = 12;

fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

/// The salt of a folder, from its random name.
pub(crate) fn salt(folder_name: &str) -> u32 {
    checksum(0, folder_name.as_bytes())
}

/// A batch as a frame.
pub(crate) fn encode(salt: u32, batch: &EncodedBatch) -> Vec<u8> {
    let payload_bytes = FACTS_BYTES + batch.request.len();
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload_bytes);
    frame.extend_from_slice(&[0; HEADER_BYTES]);
    frame.extend_from_slice(&batch.created_unix_nano.to_le_bytes());
    frame.extend_from_slice(&batch.sequence.to_le_bytes());
    frame.extend_from_slice(&batch.record_count.to_le_bytes());
    frame.extend_from_slice(&batch.batch_id);
    frame.extend_from_slice(&batch.producer_id);
    frame.extend_from_slice(&batch.request);
    let payload_checksum = checksum(salt, &frame[HEADER_BYTES..]);
    frame[..4].copy_from_slice(&MAGIC);
    frame[4..8].copy_from_slice(&u32::try_from(payload_bytes).unwrap_or(u32::MAX).to_le_bytes());
    frame[8..12].copy_from_slice(&payload_checksum.to_le_bytes());
    let header_checksum = checksum(salt, &frame[..12]);
    frame[12..16].copy_from_slice(&header_checksum.to_le_bytes());
    frame
}

/// The frame that `data` starts with, and its length; none if there is no whole, sound one.
pub(crate) fn decode(salt: u32, data: &[u8]) -> Option<(EncodedBatch, usize)> {
    let (payload_bytes, payload_checksum) = header(salt, data).ok()?;
    let end = HEADER_BYTES.checked_add(payload_bytes)?;
    let payload = data.get(HEADER_BYTES..end)?;
    if checksum(salt, payload) != payload_checksum {
        return None;
    }
    let (facts, request) = payload.split_at_checked(FACTS_BYTES)?;
    let batch = EncodedBatch {
        created_unix_nano: i64::from_le_bytes(facts[..8].try_into().ok()?),
        sequence: u64::from_le_bytes(facts[8..16].try_into().ok()?),
        record_count: u32::from_le_bytes(facts[16..20].try_into().ok()?),
        batch_id: facts[20..36].try_into().ok()?,
        producer_id: facts[36..52].try_into().ok()?,
        request: Bytes::copy_from_slice(request),
    };
    Some((batch, end))
}

enum BadHeader {
    /// The data ends within it.
    Short,
    Damaged,
}

/// Length and checksum of the payload.
fn header(salt: u32, data: &[u8]) -> Result<(usize, u32), BadHeader> {
    let header = data.get(..HEADER_BYTES).ok_or(BadHeader::Short)?;
    let number = |from: usize| {
        u32::from_le_bytes([header[from], header[from + 1], header[from + 2], header[from + 3]])
    };
    let is_sound = header[..4] == MAGIC && checksum(salt, &header[..12]) == number(12);
    if is_sound { Ok((number(4) as usize, number(8))) } else { Err(BadHeader::Damaged) }
}

/// What a file holds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Scan {
    /// Whole and sound frames: where, how long, what.
    pub(crate) frames: Vec<(u64, u32, EncodedBatch)>,
    /// Runs of bytes that are no frame, other than the last frame cut off by a crash.
    pub(crate) damaged_runs: u32,
}

/// Finds every sound frame, whatever lies between them.
pub(crate) fn scan(salt: u32, data: &[u8]) -> Scan {
    let (mut found, mut offset, mut in_damage) = (Scan::default(), 0, false);
    while offset < data.len() {
        if let Some((batch, length)) = decode(salt, &data[offset..]) {
            found.frames.push((offset as u64, u32::try_from(length).unwrap_or(u32::MAX), batch));
            offset += length;
            in_damage = false;
            continue;
        }
        if !in_damage && !is_cut_off(salt, &data[offset..]) {
            found.damaged_runs += 1;
        }
        in_damage = true;
        offset += next_magic(&data[offset..]);
    }
    found
}

/// Whether a frame starts here that the end of the file cuts off: a crash while writing, no damage.
fn is_cut_off(salt: u32, data: &[u8]) -> bool {
    match header(salt, data) {
        Ok((payload_bytes, _)) => data.len() - HEADER_BYTES < payload_bytes,
        Err(BadHeader::Short) => MAGIC.starts_with(&data[..data.len().min(MAGIC.len())]),
        Err(BadHeader::Damaged) => false,
    }
}

/// Distance to the next place, beyond this one, where a frame may start.
fn next_magic(data: &[u8]) -> usize {
    let rest = data.windows(MAGIC.len()).skip(1).position(|window| window == MAGIC);
    rest.map_or(data.len(), |position| position + 1)
}

/// The mark that the frame at an offset is done with.
pub(crate) fn encode_mark(salt: u32, offset: u64) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark[..8].copy_from_slice(&offset.to_le_bytes());
    mark[8..].copy_from_slice(&checksum(salt, &offset.to_le_bytes()).to_le_bytes());
    mark
}

/// The offsets marked in a file of acknowledgements. A damaged mark is left out: its batch is sent
/// once more, which is harmless.
pub(crate) fn decode_marks(salt: u32, data: &[u8]) -> impl Iterator<Item = u64> + '_ {
    data.chunks_exact(MARK_BYTES).filter_map(move |mark| {
        let offset = u64::from_le_bytes(mark[..8].try_into().ok()?);
        (encode_mark(salt, offset) == mark).then_some(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SALT: u32 = 0xDEAD_BEEF;

    fn batch(sequence: u64, payload: &[u8]) -> EncodedBatch {
        EncodedBatch {
            batch_id: [sequence as u8; 16],
            producer_id: [7; 16],
            sequence,
            record_count: 3,
            created_unix_nano: -5,
            request: Bytes::copy_from_slice(payload),
        }
    }

    fn file(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let (mut data, mut ends) = (Vec::new(), Vec::new());
        for (sequence, payload) in payloads.iter().enumerate() {
            data.extend(encode(SALT, &batch(sequence as u64, payload)));
            ends.push(data.len());
        }
        (data, ends)
    }

    fn sequences(scan: &Scan) -> Vec<u64> {
        scan.frames.iter().map(|(_, _, batch)| batch.sequence).collect()
    }

    #[test]
    fn frames_read_back() {
        let payloads = [b"one".to_vec(), Vec::new(), vec![0; 5_000]];
        let (data, _) = file(&payloads);
        let found = scan(SALT, &data);
        assert_eq!(found.damaged_runs, 0);
        for (sequence, payload) in payloads.iter().enumerate() {
            assert_eq!(found.frames[sequence].2, batch(sequence as u64, payload));
        }
        assert_eq!(scan(SALT + 1, &data).frames, [], "another folder's salt");
    }

    #[test]
    fn a_log_that_imitates_a_frame_is_not_taken_for_one() {
        let forged = encode(0, &batch(66, b"forged"));
        let (mut data, _) = file(&[forged, b"next".to_vec()]);
        data[5] ^= 1;
        let found = scan(SALT, &data);
        assert_eq!((sequences(&found), found.damaged_runs), (vec![1], 1));
    }

    #[test]
    fn marks_read_back_without_the_damaged() {
        let mut data: Vec<u8> = [3, 99, 1 << 40].map(|at| encode_mark(SALT, at)).concat();
        data.push(1);
        assert_eq!(decode_marks(SALT, &data).collect::<Vec<_>>(), [3, 99, 1 << 40]);
        data[13] ^= 4;
        assert_eq!(decode_marks(SALT, &data).collect::<Vec<_>>(), [3, 1 << 40]);
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_flipped_bit_costs_the_frame_it_lies_in_and_no_other(
            payloads in payloads(),
            place in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let (mut data, ends) = file(&payloads);
            let at = place.index(data.len());
            data[at] ^= 1 << bit;
            let hit = ends.iter().position(|end| at < *end).unwrap() as u64;
            let found = scan(SALT, &data);
            let expected: Vec<u64> = (0..ends.len() as u64).filter(|n| *n != hit).collect();
            prop_assert_eq!(sequences(&found), expected);
            prop_assert_eq!(found.damaged_runs, 1);
        }

        #[test]
        fn a_file_cut_off_anywhere_keeps_its_whole_frames_and_is_not_called_damaged(
            payloads in payloads(),
            place in any::<prop::sample::Index>(),
        ) {
            let (data, ends) = file(&payloads);
            let at = place.index(data.len());
            let found = scan(SALT, &data[..at]);
            prop_assert_eq!(found.frames.len(), ends.iter().filter(|end| **end <= at).count());
            prop_assert_eq!(found.damaged_runs, 0);
        }

        #[test]
        fn any_bytes_are_survived(data in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(scan(SALT, &data).frames, []);
            prop_assert!(decode_marks(SALT, &data).count() <= data.len());
        }
    }
}
