//! A detector as bytes, little-endian and made by hand: a magic word, a version, fields of fixed
//! size. Whoever stores it keeps a checksum; here it is checked that what can be read does no harm.

use thiserror::Error;

use super::{
    SeriesConfig, SeriesDetector,
    magnitudes::{MagnitudeHistogram, TOP_MAX},
    season::{DAY_SLOTS, Slot, WEEK_SLOTS},
};

const MAGIC: [u8; 4] = *b"LWSE";
const VERSION: u8 = 1;

/// Why the state of a series cannot be used. Not worth a retry: start the series afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SeriesStateError {
    /// Something else.
    #[error("the bytes are no state of a series; start it afresh")]
    Kind,
    /// Written by another version of the program.
    #[error("series state format {0} is not known; start the series afresh")]
    Version(u8),
    /// Damaged.
    #[error("the state of the series is damaged at byte {0}; start it afresh")]
    Corrupt(usize),
}

impl SeriesDetector {
    /// What it knows, as bytes; the configuration is not part of it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(super::STATE_BYTES_MAX);
        bytes.extend(MAGIC);
        bytes.push(VERSION);
        bytes.extend(self.rows.to_le_bytes());
        bytes.extend(self.last_time_unix_nano.to_le_bytes());
        bytes.extend((self.interval_nanos as u64).to_le_bytes());
        bytes.extend(self.rest.to_le_bytes());
        bytes.extend(self.raised.to_le_bytes());
        bytes.extend(self.rows_since_gap.to_le_bytes());
        let (older, newer) = self.recent.pieces();
        bytes.extend((self.recent.len() as u32).to_le_bytes());
        older.iter().chain(newer).for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes.extend(self.season.last.0.to_le_bytes());
        bytes.extend(self.season.last.1.to_le_bytes());
        bytes.extend(self.season.deviation.to_le_bytes());
        bytes.extend(self.season.deviation_rows.to_le_bytes());
        for slot in self.season.day.iter().chain(&self.season.week) {
            bytes.extend(slot.mean.to_le_bytes());
            bytes.extend(slot.rows.to_le_bytes());
            bytes.push(slot.visits);
        }
        for deviations in [&self.value, &self.day, &self.week] {
            write_tail(&deviations.above, &mut bytes);
            write_tail(&deviations.below, &mut bytes);
        }
        write_tail(&self.shape, &mut bytes);
        bytes
    }

    /// Reads what [`SeriesDetector::encode`] wrote.
    pub fn decode(config: SeriesConfig, bytes: &[u8]) -> Result<Self, SeriesStateError> {
        let mut reader = Reader::open(bytes)?;
        let mut detector = Self::new(config);
        detector.rows = reader.u64()?;
        detector.last_time_unix_nano = reader.u64()?.cast_signed();
        detector.interval_nanos = reader.u64()? as f64;
        detector.rest = reader.u32()?.min(config.rest_rows);
        detector.raised = reader.count()?;
        detector.rows_since_gap = reader.u32()?;
        for _ in 0..reader.u32()? {
            detector.recent.push(reader.f32()?);
        }
        detector.season.last = (reader.u32()?, reader.u32()?);
        detector.season.deviation = reader.count()?;
        detector.season.deviation_rows = reader.count()?;
        for slot in 0..DAY_SLOTS + WEEK_SLOTS {
            let read = Slot { mean: reader.f32()?, rows: reader.count()?, visits: reader.u8()? };
            match slot.checked_sub(DAY_SLOTS) {
                None => detector.season.day[slot] = read,
                Some(slot) => detector.season.week[slot] = read,
            }
        }
        for deviations in [&mut detector.value, &mut detector.day, &mut detector.week] {
            read_tail(&mut reader, &mut deviations.above)?;
            read_tail(&mut reader, &mut deviations.below)?;
        }
        read_tail(&mut reader, &mut detector.shape)?;
        reader.end()?;
        Ok(detector)
    }
}

fn write_tail(tail: &MagnitudeHistogram, bytes: &mut Vec<u8>) {
    bytes.extend(tail.top.to_le_bytes());
    bytes.extend(tail.rows.to_le_bytes());
    tail.buckets.iter().for_each(|count| bytes.extend(count.to_le_bytes()));
}

fn read_tail(
    reader: &mut Reader<'_>,
    tail: &mut MagnitudeHistogram,
) -> Result<(), SeriesStateError> {
    tail.top = reader.u32()?.cast_signed();
    if tail.top.unsigned_abs() > TOP_MAX.unsigned_abs() {
        return Err(reader.corrupt());
    }
    tail.rows = reader.count()?;
    for count in &mut tail.buckets {
        *count = reader.count()?;
    }
    Ok(())
}

/// Reads fields in order.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, SeriesStateError> {
        match bytes.split_first_chunk() {
            Some((&MAGIC, [VERSION, ..])) => Ok(Self { bytes, at: MAGIC.len() + 1 }),
            Some((&MAGIC, [version, ..])) => Err(SeriesStateError::Version(*version)),
            _ => Err(SeriesStateError::Kind),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SeriesStateError> {
        let field = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let field = *field.ok_or(self.corrupt())?;
        self.at += N;
        Ok(field)
    }

    fn u8(&mut self) -> Result<u8, SeriesStateError> {
        self.take().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, SeriesStateError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, SeriesStateError> {
        self.take().map(u64::from_le_bytes)
    }

    /// A finite number.
    fn f32(&mut self) -> Result<f32, SeriesStateError> {
        let number = self.take().map(f32::from_le_bytes)?;
        if number.is_finite() { Ok(number) } else { Err(self.corrupt()) }
    }

    /// A number that counts something.
    fn count(&mut self) -> Result<f32, SeriesStateError> {
        let number = self.f32()?;
        if number >= 0.0 { Ok(number) } else { Err(self.corrupt()) }
    }

    fn corrupt(&self) -> SeriesStateError {
        SeriesStateError::Corrupt(self.at)
    }

    fn end(self) -> Result<(), SeriesStateError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.corrupt()) }
    }
}
