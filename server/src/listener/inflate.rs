//! Decompression with a hard bound on what comes out, held while it comes out.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use parking_lot::Mutex;
use zstd::{
    stream::read::Decoder,
    zstd_safe::{DCtx, ResetDirective},
};

// A frame names its window in its header (RFC 8878, 3.1.1.1.2), and the decoder takes the memory
// before anything comes out: with the library's own bound, 128 MiB for a request of 20 bytes, which
// no budget counts. 8 MiB is what the same section recommends that every decoder supports.
/// Largest window that a zstd frame may ask for: 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// A byte of snappy's block form stands for no more than this: a copy of 64 takes three (format
/// description, 2.2).
const SNAPPY_RATIO_MAX: usize = 22;
/// Contexts kept for reuse; each holds a window.
const CONTEXTS_MAX: usize = 8;

/// How a request is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    /// In snappy's block form: always so where a protocol says it, and by no header.
    Snappy,
}

impl Encoding {
    /// The encoding that a `grpc-encoding` or `content-encoding` header names; none if it is not known
    /// here. Over HTTP names have no case, and gzip has a second one (RFC 9110, 8.4.1).
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        let names = [
            (&b"identity"[..], Self::Identity),
            (b"gzip", Self::Gzip),
            (b"x-gzip", Self::Gzip),
            (b"zstd", Self::Zstd),
        ];
        let (_, found) = names.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known))?;
        Some(found)
    }
}

/// Why nothing came out.
#[derive(Debug)]
pub(crate) enum InflateError {
    /// More would come out than allowed.
    TooLarge,
    /// Not compressed as said.
    Malformed(io::Error),
}

/// Decompresses. Keeps zstd's decoding contexts for reuse, because setting one up takes its window.
#[derive(Default)]
pub(crate) struct Inflater {
    contexts: Mutex<Vec<DCtx<'static>>>,
}

impl Inflater {
    /// Appends what `compressed` holds to `out`, at most `bytes_max` bytes of it.
    pub(crate) fn inflate(
        &self,
        encoding: Encoding,
        compressed: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        match encoding {
            Encoding::Identity => read_bounded(compressed, bytes_max, out),
            Encoding::Gzip => {
                let mut decoder = GzDecoder::new(compressed);
                read_bounded(&mut decoder, bytes_max, out)?;
                // A second gzip member would be left out in silence, and its logs with it. (The
                // zstd decoder reads on over further frames by itself.)
                check_all_read(decoder.into_inner())
            }
            Encoding::Zstd => self.inflate_zstd(compressed, bytes_max, out),
            Encoding::Snappy => inflate_snappy(compressed, bytes_max, out),
        }
    }

    fn inflate_zstd(
        &self,
        compressed: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        let pooled = self.contexts.lock().pop();
        let mut context = pooled.unwrap_or_else(DCtx::create);
        let mut decoder = Decoder::with_context(compressed, &mut context);
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(InflateError::Malformed)?;
        read_bounded(&mut decoder, bytes_max, out)?;
        drop(decoder);
        // Only a context that ended well is used again: one that stopped within a damaged frame
        // could read the next request as its rest.
        if context.reset(ResetDirective::SessionOnly).is_ok() {
            let mut contexts = self.contexts.lock();
            if contexts.len() < CONTEXTS_MAX {
                contexts.push(context);
            }
        }
        Ok(())
    }
}

/// Takes memory only for what may come out: a block says its length in its first bytes.
fn inflate_snappy(
    compressed: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), InflateError> {
    let malformed = |error: snap::Error| InflateError::Malformed(io::Error::other(error));
    let length = snap::raw::decompress_len(compressed).map_err(malformed)?;
    if length > bytes_max {
        return Err(InflateError::TooLarge);
    }
    if length > compressed.len().saturating_mul(SNAPPY_RATIO_MAX) {
        let text = "it says that it is longer than it can be";
        return Err(InflateError::Malformed(io::Error::other(text)));
    }
    let before = out.len();
    out.resize(before + length, 0);
    let written = snap::raw::Decoder::new().decompress(compressed, &mut out[before..]);
    out.truncate(before + written.map_err(malformed)?);
    Ok(())
}

fn read_bounded(
    reader: impl Read,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), InflateError> {
    let before = out.len();
    // One byte more than allowed, so that a message of exactly the bound is told from one beyond
    // it; a bomb stops there, whatever it would unfold to.
    let bound = bytes_max as u64 + 1;
    reader.take(bound).read_to_end(out).map_err(InflateError::Malformed)?;
    if out.len() - before > bytes_max { Err(InflateError::TooLarge) } else { Ok(()) }
}

fn check_all_read(mut rest: impl BufRead) -> Result<(), InflateError> {
    match rest.fill_buf() {
        Ok([]) => Ok(()),
        Ok(_) => {
            let text = "something follows the compressed message";
            Err(InflateError::Malformed(io::Error::other(text)))
        }
        Err(error) => Err(InflateError::Malformed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn compress(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Identity => bytes.to_vec(),
            Encoding::Gzip => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(bytes, 3).unwrap(),
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
        }
    }

    const ALL: [Encoding; 4] =
        [Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Snappy];

    #[test]
    fn the_bound_is_exact() {
        let inflater = Inflater::default();
        let plain = vec![b'x'; 100_000];
        for encoding in ALL {
            let compressed = compress(encoding, &plain);
            let mut out = Vec::new();
            inflater.inflate(encoding, &compressed, plain.len(), &mut out).unwrap();
            assert_eq!(out, plain);
            let less = inflater.inflate(encoding, &compressed, plain.len() - 1, &mut Vec::new());
            assert!(matches!(less, Err(InflateError::TooLarge)), "{encoding:?}");
        }
    }

    #[test]
    fn what_follows_or_lacks_is_malformed() {
        let inflater = Inflater::default();
        for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Snappy] {
            let mut longer = compress(encoding, b"abc");
            longer.extend_from_slice(b"junk");
            let mut shorter = compress(encoding, b"abc");
            shorter.truncate(shorter.len() / 2);
            for bad in [longer, shorter, Vec::from(*b"no such thing")] {
                let outcome = inflater.inflate(encoding, &bad, 1_000, &mut Vec::new());
                assert!(matches!(outcome, Err(InflateError::Malformed(_))), "{encoding:?} {bad:?}");
            }
        }
    }

    #[test]
    fn a_snappy_block_takes_no_memory_for_what_it_only_says() {
        let inflater = Inflater::default();
        // 4 GiB less a byte, as a varint, and a literal of a byte.
        let liar = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'a'];
        let outcome = inflater.inflate(Encoding::Snappy, &liar, usize::MAX, &mut Vec::new());
        assert!(matches!(outcome, Err(InflateError::Malformed(_))));
        let outcome = inflater.inflate(Encoding::Snappy, &liar, 1 << 20, &mut Vec::new());
        assert!(matches!(outcome, Err(InflateError::TooLarge)));
        let small = snap::raw::Encoder::new().compress_vec(&[0; 1 << 20]).unwrap();
        let mut out = Vec::new();
        inflater.inflate(Encoding::Snappy, &small, 1 << 20, &mut out).unwrap();
        assert_eq!(out.len(), 1 << 20);
    }

    #[test]
    fn a_zstd_window_beyond_the_bound_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![0; 200_000]).unwrap();
        let compressed = encoder.finish().unwrap();
        let inflater = Inflater::default();
        let outcome = inflater.inflate(Encoding::Zstd, &compressed, 1 << 20, &mut Vec::new());
        assert!(matches!(outcome, Err(InflateError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let inflater = Inflater::default();
            for encoding in ALL {
                let mut out = Vec::new();
                let outcome = inflater.inflate(encoding, &bytes, 400, &mut out);
                prop_assert!(outcome.is_err() || out.len() <= 400);
                let mut back = Vec::new();
                let compressed = compress(encoding, &bytes);
                prop_assert!(inflater.inflate(encoding, &compressed, 500, &mut back).is_ok());
                prop_assert_eq!(&back, &bytes);
            }
        }
    }
}
