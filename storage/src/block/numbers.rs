//! Columns of floating-point numbers, and of ids that repeat. Both come back to the bit.

use std::collections::HashMap;

use super::{
    BlockError,
    bytes::put_varint,
    integers,
    section::{Section, SectionReader},
};

/// How a column of floating-point numbers is coded if not as decimals.
const BITS: u8 = u8::MAX;
/// Tried in this order: a unit, tenths, hundredths, and so on.
// Latencies and scores are decimals that somebody rounded. As whole numbers of the last digit they
// take a few bits, where the bits of a floating-point number look like noise.
const SCALES: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Whole numbers beyond this are not exact.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// A floating-point number of either width.
pub(super) trait Float: Copy {
    fn widen(self) -> f64;
    fn narrow(wide: f64) -> Self;
    fn bits(self) -> i64;
    fn from_bits(bits: i64) -> Self;
}

impl Float for f64 {
    fn widen(self) -> f64 {
        self
    }
    fn narrow(wide: f64) -> Self {
        wide
    }
    fn bits(self) -> i64 {
        self.to_bits() as i64
    }
    fn from_bits(bits: i64) -> Self {
        Self::from_bits(bits as u64)
    }
}

impl Float for f32 {
    fn widen(self) -> f64 {
        self.into()
    }
    fn narrow(wide: f64) -> Self {
        wide as Self
    }
    fn bits(self) -> i64 {
        self.to_bits().into()
    }
    fn from_bits(bits: i64) -> Self {
        Self::from_bits(bits as u32)
    }
}

/// The whole number that stands for `value` at this scale, if it leads back to the same bits.
#[inline]
fn scaled<F: Float>(value: F, scale: f64) -> Option<i64> {
    let whole = (value.widen() * scale).round();
    if whole.is_nan() || whole.abs() >= WHOLE_MAX {
        return None;
    }
    let whole = whole as i64;
    // Compared by bits: -0.0 equals 0.0, but would come back with the other sign.
    (F::narrow(whole as f64 / scale).bits() == value.bits()).then_some(whole)
}

/// Appends a column without its length: as decimals if all values are, else their bits.
pub(super) fn write_floats<F: Float>(values: &[F], out: &mut Section) {
    let mut at = 0;
    let mut scratch: Vec<i64> = Vec::with_capacity(values.len());
    while at < SCALES.len() {
        let start = scratch.len();
        scratch.extend(values[start..].iter().map_while(|value| scaled(*value, SCALES[at])));
        if scratch.len() == values.len() {
            break;
        }
        // A finer scale: what was fitted to a coarser one must be fitted again, and is at the end.
        at += 1;
    }
    let refit = |scale: f64| values.iter().map(|v| scaled(*v, scale)).collect::<Option<Vec<_>>>();
    let decimals = SCALES.get(at).and_then(|scale| refit(*scale));
    match decimals {
        Some(decimals) => {
            out.symbols.push(at as u8);
            integers::write(&decimals, out);
        }
        None => {
            out.symbols.push(BITS);
            scratch.clear();
            scratch.extend(values.iter().map(|value| value.bits()));
            integers::write(&scratch, out);
        }
    }
}

/// Reads a column of `count` floating-point numbers.
pub(super) fn read_floats<F: Float>(
    count: usize,
    from: &mut SectionReader<'_>,
) -> Result<Vec<F>, BlockError> {
    let coding = from.symbols.byte()?;
    let numbers = integers::read(count, from)?;
    if coding == BITS {
        return Ok(numbers.into_iter().map(F::from_bits).collect());
    }
    let scale = SCALES
        .get(usize::from(coding))
        .ok_or(BlockError::Corrupt("a number has an unknown scale"))?;
    Ok(numbers.into_iter().map(|whole| F::narrow(whole as f64 / scale)).collect())
}

/// No id.
const ABSENT: i64 = 0;
/// An id that did not occur before; greater codes count back to one that did.
const NEW: i64 = 1;

/// Appends a column of ids, each distinct one once.
pub(super) fn write_ids<const N: usize>(
    ids: &[Option<[u8; N]>],
    out: &mut Section,
    mut on_new: impl FnMut(&[u8; N]),
) {
    let mut known: HashMap<[u8; N], i64> = HashMap::new();
    let mut last = None;
    let mut codes = Vec::with_capacity(ids.len());
    for &id in ids {
        codes.push(match id {
            None => ABSENT,
            Some(id) => {
                let count = known.len() as i64;
                // Logs of one trace mostly come together, so that the map is asked once for each.
                let first_seen = match last {
                    Some((same, seen)) if same == id => seen,
                    _ => *known.entry(id).or_insert(count),
                };
                last = Some((id, first_seen));
                if first_seen == count {
                    out.bits.extend_from_slice(&id);
                    on_new(&id);
                    NEW
                } else {
                    NEW + count - first_seen
                }
            }
        });
    }
    put_varint(&mut out.symbols, known.len() as u64);
    integers::write(&codes, out);
}

/// Reads a column of `count` ids.
pub(super) fn read_ids<const N: usize>(
    count: usize,
    from: &mut SectionReader<'_>,
) -> Result<Vec<Option<[u8; N]>>, BlockError> {
    let known = usize::try_from(from.symbols.varint()?).unwrap_or(usize::MAX);
    let mut distinct = Vec::new();
    for _ in 0..known.min(count) {
        distinct.push(from.bits.array::<N>()?);
    }
    let mut seen = 0_i64;
    let mut ids = Vec::with_capacity(count);
    for code in integers::read(count, from)? {
        let position = match code {
            ABSENT => None,
            NEW => {
                seen += 1;
                Some(seen - 1)
            }
            _ => Some(seen.wrapping_sub(code.wrapping_sub(NEW))),
        };
        let id = position.map(|position| {
            let position = usize::try_from(position).unwrap_or(usize::MAX);
            distinct.get(position).copied().ok_or(BlockError::Corrupt("an id is not known"))
        });
        ids.push(id.transpose()?);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::section::tests::round_trip;

    fn check<F: Float>(values: &[F]) -> u8 {
        let mut section = Section::default();
        write_floats(values, &mut section);
        let coding = section.symbols[0];
        round_trip(&section, |reader| {
            let read = read_floats::<F>(values.len(), reader).unwrap();
            let bits = |values: &[F]| values.iter().map(|v| v.bits()).collect::<Vec<_>>();
            assert_eq!(bits(&read), bits(values));
        });
        coding
    }

    #[test]
    fn decimals_take_the_coarsest_scale_that_is_exact() {
        assert_eq!(check(&[1.0, 20.0, 3e15]), 0);
        assert_eq!(check(&[1.5, 20.0, 0.001]), 3);
        assert_eq!(check(&[0.123_456_f64]), 6);
        assert_eq!(check(&[0.001_f32, 0.999, 1.0]), 3);
        assert_eq!(check(&[1.5, -0.0]), BITS);
        assert_eq!(check(&[f64::NAN, f64::INFINITY]), BITS);
        assert_eq!(check(&[std::f64::consts::PI]), BITS);
        assert_eq!(check(&[9e15, 0.001]), BITS);
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(
            bits in prop::collection::vec(any::<u64>(), 1..20),
            narrow in prop::collection::vec(any::<u32>(), 1..20),
            thousandths in prop::collection::vec(any::<u32>(), 1..80),
        ) {
            check(&bits.into_iter().map(f64::from_bits).collect::<Vec<_>>());
            check(&narrow.into_iter().map(f32::from_bits).collect::<Vec<_>>());
            check(&thousandths.into_iter().map(|n| f64::from(n) / 1e3).collect::<Vec<_>>());
        }

        #[test]
        fn ids_come_back(picks in prop::collection::vec(prop::option::of(0_u8..20), 0..100)) {
            let ids: Vec<Option<[u8; 8]>> =
                picks.iter().map(|pick| pick.map(|pick| [pick; 8])).collect();
            let (mut section, mut new) = (Section::default(), Vec::new());
            write_ids(&ids, &mut section, |id| new.push(*id));
            round_trip(&section, |reader| {
                assert_eq!(read_ids(picks.len(), reader).unwrap(), ids);
            });
            let distinct: std::collections::BTreeSet<[u8; 8]> = ids.iter().copied().flatten().collect();
            prop_assert_eq!(new.len(), distinct.len());
        }
    }
}
