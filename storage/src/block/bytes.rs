//! Variable-length numbers, strings and bit fields in byte buffers, and their checked reading.

use super::BlockError;

const ENDS_EARLY: BlockError = BlockError::Corrupt("a column ends early");

/// Appends a number, seven bits a byte, lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number that may be negative.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends bytes with their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the `put_` functions wrote, never past the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn byte(&mut self) -> Result<u8, BlockError> {
        let (first, rest) = self.rest.split_first().ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], BlockError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BlockError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn varint(&mut self) -> Result<u64, BlockError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BlockError::Corrupt("a number is too long"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, BlockError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A count of things that take at least one byte each in what is left.
    pub(super) fn count(&mut self) -> Result<usize, BlockError> {
        // Checked before anything is allocated for it: a damaged count could ask for all memory.
        let count = self.varint()?;
        if count > self.rest.len() as u64 {
            return Err(ENDS_EARLY);
        }
        Ok(count as usize)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], BlockError> {
        let length = self.count()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, BlockError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| BlockError::Corrupt("a text is not UTF-8"))
    }

    pub(super) fn finish(self) -> Result<(), BlockError> {
        if self.rest.is_empty() { Ok(()) } else { Err(BlockError::Corrupt("a column is too long")) }
    }
}

/// Appends bit fields, lowest bit first; [`BitWriter::finish`] fills up the last byte.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    filled: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, filled: 0 }
    }

    /// Appends the low `width` bits of `value`, which must have no others.
    #[inline]
    pub(super) fn put(&mut self, value: u64, width: u32) {
        self.pending |= value << self.filled;
        self.filled += width;
        if self.filled >= 64 {
            self.out.extend_from_slice(&self.pending.to_le_bytes());
            self.filled -= 64;
            // How many bits of this value went out. 64 leave none, which no shift gives.
            let used = width - self.filled;
            self.pending = if used == 64 { 0 } else { value >> used };
        }
    }

    pub(super) fn finish(self) {
        let bytes = self.filled.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.pending.to_le_bytes()[..bytes]);
    }
}

/// Reads bit fields; zeros follow the end.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    #[inline]
    pub(super) fn take(&mut self, width: u32) -> u64 {
        let shift = (self.position & 7) as u32;
        let at = self.position >> 3;
        self.position += width as usize;
        let low = self.load(at) >> shift;
        // Eight bytes from where the field begins may not reach the end of a wide one.
        let found = if width + shift > 64 { low | self.load(at + 8) << (64 - shift) } else { low };
        if width >= 64 { found } else { found & ((1 << width) - 1) }
    }

    #[inline]
    fn load(&self, at: usize) -> u64 {
        match self.bytes.get(at..at + 8) {
            Some(eight) => u64::from_le_bytes(eight.try_into().expect("eight bytes")),
            None => self.load_end(at),
        }
    }

    #[cold]
    fn load_end(&self, at: usize) -> u64 {
        let mut eight = [0; 8];
        let rest = self.bytes.get(at..).unwrap_or_default();
        let count = rest.len().min(8);
        eight[..count].copy_from_slice(&rest[..count]);
        u64::from_le_bytes(eight)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in prop::collection::vec(any::<i64>(), 0..20)) {
            let mut out = Vec::new();
            for value in &values {
                put_signed(&mut out, *value);
                put_varint(&mut out, *value as u64);
            }
            let mut reader = Reader::new(&out);
            for value in values {
                prop_assert_eq!(reader.signed(), Ok(value));
                prop_assert_eq!(reader.varint(), Ok(value as u64));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn bit_fields_come_back(fields in prop::collection::vec((any::<u64>(), 0_u32..=64), 0..50)) {
            let mut out = Vec::new();
            let mut writer = BitWriter::new(&mut out);
            let cut = |value: u64, width: u32| if width == 64 { value } else { value & ((1 << width) - 1) };
            for &(value, width) in &fields {
                writer.put(cut(value, width), width);
            }
            writer.finish();
            let mut reader = BitReader::new(&out);
            for (value, width) in fields {
                prop_assert_eq!(reader.take(width), cut(value, width));
            }
        }
    }

    #[test]
    fn a_count_beyond_the_end_is_refused() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert!(Reader::new(&out).bytes().is_err());
    }
}
