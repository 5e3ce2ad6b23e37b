//! What models have in common: how they are stored, and how a bad one is refused.
//!
//! The form is little-endian and made by hand: a magic word, a version, and fields of fixed size.
//! Whoever stores a model keeps a checksum beside it; what is checked here is that nothing that can
//! be read does harm.

use thiserror::Error;

/// Why a model cannot be used. Never worth a retry: train a new one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// Not this kind of model.
    #[error("the bytes are no {0} model")]
    Kind(&'static str),
    /// Written by another version of the program.
    #[error("model format {0} is not known; train the model again")]
    Version(u8),
    /// Damaged.
    #[error("the model is damaged at byte {0}; train it again")]
    Corrupt(usize),
    /// Nothing to learn from.
    #[error("{given} logs are too few to train on; {needed} are needed")]
    TooFew {
        /// Logs there were.
        given: usize,
        /// Logs there must be.
        needed: usize,
    },
}

/// Reads fields in order.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Checks the magic word and the version.
    pub(crate) fn open(
        bytes: &'a [u8],
        magic: [u8; 4],
        version: u8,
        kind: &'static str,
    ) -> Result<Self, ModelError> {
        if bytes.get(..4) != Some(&magic[..]) {
            return Err(ModelError::Kind(kind));
        }
        match bytes.get(4) {
            Some(&found) if found == version => Ok(Self { bytes, at: 5 }),
            Some(&found) => Err(ModelError::Version(found)),
            None => Err(ModelError::Corrupt(4)),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let field = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let field = *field.ok_or(ModelError::Corrupt(self.at))?;
        self.at += N;
        Ok(field)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ModelError> {
        self.take().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ModelError> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ModelError> {
        self.take().map(u64::from_le_bytes)
    }

    /// A finite number.
    pub(crate) fn f32(&mut self) -> Result<f32, ModelError> {
        let at = self.at;
        let number = self.take().map(f32::from_le_bytes)?;
        if number.is_finite() { Ok(number) } else { Err(ModelError::Corrupt(at)) }
    }

    /// That the last field does not make sense.
    pub(crate) fn corrupt(&self) -> ModelError {
        ModelError::Corrupt(self.at)
    }

    /// That nothing is left over.
    pub(crate) fn end(self) -> Result<(), ModelError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(ModelError::Corrupt(self.at)) }
    }
}
