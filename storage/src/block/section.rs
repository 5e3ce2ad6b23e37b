//! A group of columns that are read together. Each column writes to up to three streams, so that
//! bytes of one kind lie together: text and byte symbols are compressed, bit fields are dense
//! already. Few large streams cost less than a frame per column.

use zstd::bulk::{Compressor, Decompressor};

use super::{
    BlockError,
    bytes::{Reader, put_varint},
};

/// Most bytes of a stream before compression.
// A block has 32 MiB of logs at most; below this no length can overflow 32 bits of offsets.
const STREAM_BYTES_MAX: usize = 512 << 20;
/// Zstandard makes at most about this many bytes of one; more is a lie.
const EXPANSION_MAX: usize = 1 << 16;
/// Not worth a frame below this.
// A frame of Zstandard has about ten bytes of its own, and little repeats in so few.
const COMPRESSED_BYTES_MIN: usize = 48;

const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;

/// The streams of a section being written.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// Strings with their lengths.
    pub(super) text: Vec<u8>,
    /// Headers of columns and one-byte symbols.
    pub(super) symbols: Vec<u8>,
    /// Bit fields; each column begins with a new byte.
    pub(super) bits: Vec<u8>,
}

impl Section {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.symbols.clear();
        self.bits.clear();
    }

    /// Appends the section to a body.
    pub(super) fn write(
        &self,
        compressor: &mut Compressor<'static>,
        out: &mut Vec<u8>,
    ) -> Result<(), BlockError> {
        write_stream(&self.text, Some(compressor), out)?;
        write_stream(&self.symbols, Some(compressor), out)?;
        write_stream(&self.bits, None, out)
    }
}

fn write_stream(
    stream: &[u8],
    compressor: Option<&mut Compressor<'static>>,
    out: &mut Vec<u8>,
) -> Result<(), BlockError> {
    if stream.len() > STREAM_BYTES_MAX {
        return Err(BlockError::TooLarge("a column is longer than 512 MiB"));
    }
    if let Some(compressor) = compressor.filter(|_| stream.len() >= COMPRESSED_BYTES_MIN) {
        let compressed = compressor
            .compress(stream)
            .map_err(|_| BlockError::TooLarge("a column could not be compressed"))?;
        if compressed.len() < stream.len() {
            out.push(COMPRESSED);
            put_varint(out, stream.len() as u64);
            put_varint(out, compressed.len() as u64);
            out.extend_from_slice(&compressed);
            return Ok(());
        }
    }
    out.push(PLAIN);
    put_varint(out, stream.len() as u64);
    out.extend_from_slice(stream);
    Ok(())
}

/// A section as it lies in a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedSection<'a> {
    streams: [PackedStream<'a>; 3],
}

#[derive(Debug, Clone, Copy)]
struct PackedStream<'a> {
    /// The length before compression, if it is compressed.
    expanded: Option<usize>,
    bytes: &'a [u8],
}

impl<'a> PackedSection<'a> {
    /// Takes a section off a body without looking into it.
    pub(super) fn take(body: &mut Reader<'a>) -> Result<Self, BlockError> {
        Ok(Self { streams: [take_stream(body)?, take_stream(body)?, take_stream(body)?] })
    }

    /// How much it takes, without the few bytes of lengths.
    pub(super) fn packed_bytes(&self) -> usize {
        self.streams.iter().map(|stream| stream.bytes.len()).sum()
    }

    /// Decompresses it.
    pub(super) fn expand(&self) -> Result<Streams<'a>, BlockError> {
        let mut decompressor =
            Decompressor::new().map_err(|_| BlockError::Corrupt("no memory to decompress it"))?;
        let [text, symbols, bits] = &self.streams;
        Ok(Streams {
            text: text.expand(&mut decompressor)?,
            symbols: symbols.expand(&mut decompressor)?,
            bits: bits.expand(&mut decompressor)?,
        })
    }
}

fn take_stream<'a>(body: &mut Reader<'a>) -> Result<PackedStream<'a>, BlockError> {
    match body.byte()? {
        PLAIN => Ok(PackedStream { expanded: None, bytes: body.bytes()? }),
        COMPRESSED => {
            let expanded = usize::try_from(body.varint()?).unwrap_or(usize::MAX);
            let bytes = body.bytes()?;
            // So much is allocated for it later: a few damaged bytes must not ask for 512 MiB.
            if expanded > STREAM_BYTES_MAX || expanded / EXPANSION_MAX > bytes.len() {
                return Err(BlockError::Corrupt("a column cannot be as long as it says"));
            }
            Ok(PackedStream { expanded: Some(expanded), bytes })
        }
        _ => Err(BlockError::Corrupt("a column is compressed in an unknown way")),
    }
}

impl<'a> PackedStream<'a> {
    fn expand(
        &self,
        decompressor: &mut Decompressor<'static>,
    ) -> Result<std::borrow::Cow<'a, [u8]>, BlockError> {
        let Some(length) = self.expanded else {
            return Ok(self.bytes.into());
        };
        let expanded = decompressor
            .decompress(self.bytes, length)
            .map_err(|_| BlockError::Corrupt("a column cannot be decompressed"))?;
        if expanded.len() != length {
            return Err(BlockError::Corrupt("a column has another length than it says"));
        }
        Ok(expanded.into())
    }
}

/// The decompressed streams of a section.
#[derive(Debug)]
pub(super) struct Streams<'a> {
    text: std::borrow::Cow<'a, [u8]>,
    symbols: std::borrow::Cow<'a, [u8]>,
    bits: std::borrow::Cow<'a, [u8]>,
}

impl Streams<'_> {
    pub(super) fn reader(&self) -> SectionReader<'_> {
        SectionReader {
            text: Reader::new(&self.text),
            symbols: Reader::new(&self.symbols),
            bits: Reader::new(&self.bits),
        }
    }
}

/// Reads columns in the order in which they were written.
#[derive(Debug)]
pub(super) struct SectionReader<'a> {
    pub(super) text: Reader<'a>,
    pub(super) symbols: Reader<'a>,
    pub(super) bits: Reader<'a>,
}

impl SectionReader<'_> {
    /// Checks that everything was read.
    pub(super) fn finish(self) -> Result<(), BlockError> {
        self.text.finish()?;
        self.symbols.finish()?;
        self.bits.finish()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes the section, reads it with `read` to its end, and returns its length.
    pub(in crate::block) fn round_trip(
        section: &Section,
        read: impl FnOnce(&mut SectionReader<'_>),
    ) -> usize {
        let mut body = Vec::new();
        section.write(&mut Compressor::new(1).unwrap(), &mut body).unwrap();
        let mut rest = Reader::new(&body);
        let streams = PackedSection::take(&mut rest).unwrap().expand().unwrap();
        let mut reader = streams.reader();
        read(&mut reader);
        reader.finish().unwrap();
        rest.finish().unwrap();
        body.len()
    }

    #[test]
    fn a_length_that_cannot_be_true_is_refused() {
        let mut body = vec![COMPRESSED];
        put_varint(&mut body, 1 << 28);
        put_varint(&mut body, 3);
        body.extend_from_slice(&[1, 2, 3]);
        assert!(take_stream(&mut Reader::new(&body)).is_err());
    }
}
