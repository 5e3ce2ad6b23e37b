//! A column of whole numbers, in whichever of a few codings costs least.
//!
//! Columns differ: some are constant, some hold few values, some grow steadily, some are noise. The
//! cost of each coding is estimated from one or two passes; short columns get the simple ones.

use std::borrow::Cow;

use super::{
    BlockError,
    bytes::{BitReader, BitWriter, put_signed},
    section::{Section, SectionReader},
};

/// All the same.
const CONSTANT: u8 = 0;
/// The distance from the least one, in as many bits as the greatest needs.
const PACKED: u8 = 1;
/// Sign and bit length as a symbol, the other bits as they are: for spread-out magnitudes.
const LENGTHS: u8 = 2;
/// Symbols that stand for at most 256 values.
const NAMED: u8 = 3;
/// [`PACKED`] in chunks: for values that are near to their neighbours.
const CHUNKED: u8 = 4;
/// Low and high byte of the distance from the least one, as symbols.
const PLANES: u8 = 5;
/// Added to [`LENGTHS`]: the first value, then differences.
const DIFFERENCES: u8 = 8;

/// Shorter columns are constant or packed: choosing costs more than it gains.
const CHOICE_MIN: usize = 48;
/// Values of a chunk, each of which has a least value and a width of its own.
// Its head costs about 20 bits, a sixth of a bit for each value.
const CHUNK: usize = 128;
/// Of columns longer than this many, only as many are looked at to choose.
const SAMPLE: usize = 8 * CHUNK;
/// Most values that can be named: a symbol is a byte.
const NAMES_MAX: usize = 256;

/// Appends a column. Its length is not written.
pub(super) fn write(values: &[i64], out: &mut Section) {
    let Some((&first, _)) = values.split_first() else {
        return;
    };
    if values.len() == 1 {
        put_signed(&mut out.symbols, first);
        return;
    }
    let (min, max) = values.iter().fold((first, first), |(a, b), v| (a.min(*v), b.max(*v)));
    if min == max {
        out.symbols.push(CONSTANT);
        put_signed(&mut out.symbols, min);
    } else if values.len() < CHOICE_MIN {
        out.symbols.push(PACKED);
        write_packed(values, min, max, out);
    } else {
        write_cheapest(values, min, max, out);
    }
}

fn write_cheapest(values: &[i64], min: i64, max: i64, out: &mut Section) {
    let sample = sample(values);
    let mut best = (PACKED, sample.len() as f32 * width_of(min, max) as f32);
    let mut offer = |coding: u8, cost: f32| {
        // Costs are estimates. For less than 2 % the simpler coding stays, quicker to read.
        if cost < best.1 * 0.98 {
            best = (coding, cost);
        }
    };
    offer(LENGTHS, lengths_cost(sample.iter().map(|v| v.wrapping_sub(min))));
    offer(LENGTHS | DIFFERENCES, lengths_cost(differences(&sample)));
    offer(CHUNKED, chunked_cost(&sample));
    if min.abs_diff(max) < 1 << 16 {
        offer(PLANES, planes_cost(&sample, min));
    }
    // That the sample has few values does not say it of the column, so its names are taken from all
    // of it, and there may turn out to be too many.
    let names = Names::of(&sample);
    let is_named = names.is_some_and(|names| names.cost(sample.len() as f32) < best.1);
    if is_named && let Some(names) = Names::of(values) {
        out.symbols.push(NAMED);
        names.write(values, out);
        return;
    }
    out.symbols.push(best.0);
    match best.0 {
        PACKED => write_packed(values, min, max, out),
        CHUNKED => write_chunked(values, out),
        PLANES => write_planes(values, min, out),
        LENGTHS => {
            put_signed(&mut out.symbols, min);
            write_lengths(values.iter().map(|v| v.wrapping_sub(min)), out);
        }
        _ => {
            put_signed(&mut out.symbols, values[0]);
            write_lengths(differences(values), out);
        }
    }
}

/// A few stretches of a long column, else all of it.
fn sample(values: &[i64]) -> Cow<'_, [i64]> {
    if values.len() <= 2 * SAMPLE {
        return values.into();
    }
    // Stretches and not single values: what differences and chunks cost shows only among
    // neighbours. From all over the column, since it is sorted by service.
    let step = values.len() / (SAMPLE / CHUNK);
    values.chunks_exact(step).flat_map(|stretch| &stretch[..CHUNK]).copied().collect()
}

/// Reads a column of `count` values.
pub(super) fn read(count: usize, from: &mut SectionReader<'_>) -> Result<Vec<i64>, BlockError> {
    match count {
        0 => return Ok(Vec::new()),
        1 => return Ok(vec![from.symbols.signed()?]),
        _ => {}
    }
    match from.symbols.byte()? {
        CONSTANT => Ok(vec![from.symbols.signed()?; count]),
        PACKED => {
            let mut values = Vec::new();
            read_packed(count, from, &mut values)?;
            Ok(values)
        }
        LENGTHS => {
            let min = from.symbols.signed()?;
            let mut values = read_lengths(count, from)?;
            values.iter_mut().for_each(|value| *value = value.wrapping_add(min));
            Ok(values)
        }
        NAMED => read_named(count, from),
        CHUNKED => {
            let mut values = Vec::new();
            for start in (0..count).step_by(CHUNK) {
                read_packed(CHUNK.min(count - start), from, &mut values)?;
            }
            Ok(values)
        }
        PLANES => {
            let min = from.symbols.signed()?;
            let (low, high) = (from.symbols.take(count)?, from.symbols.take(count)?);
            let value = |(low, high): (&u8, &u8)| {
                min.wrapping_add(i64::from(u16::from_le_bytes([*low, *high])))
            };
            Ok(low.iter().zip(high).map(value).collect())
        }
        coding if coding == LENGTHS | DIFFERENCES => {
            let mut last = from.symbols.signed()?;
            let mut values = vec![last];
            for difference in read_lengths(count - 1, from)? {
                last = last.wrapping_add(difference);
                values.push(last);
            }
            Ok(values)
        }
        _ => Err(BlockError::Corrupt("numbers are coded in an unknown way")),
    }
}

fn differences(values: &[i64]) -> impl Iterator<Item = i64> + Clone {
    // Wrapping: the distance of two values may not fit, and wrapping back gives the value again.
    values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]))
}

const fn width_of(min: i64, max: i64) -> u32 {
    u64::BITS - (max.wrapping_sub(min) as u64).leading_zeros()
}

fn write_packed(values: &[i64], min: i64, max: i64, out: &mut Section) {
    let width = width_of(min, max);
    put_signed(&mut out.symbols, min);
    out.symbols.push(width as u8);
    let mut writer = BitWriter::new(&mut out.bits);
    for value in values {
        writer.put(value.wrapping_sub(min) as u64, width);
    }
    writer.finish();
}

fn read_packed(
    count: usize,
    from: &mut SectionReader<'_>,
    values: &mut Vec<i64>,
) -> Result<(), BlockError> {
    let min = from.symbols.signed()?;
    let width = u32::from(from.symbols.byte()?);
    if width > u64::BITS {
        return Err(BlockError::Corrupt("a number is too wide"));
    }
    let mut bits = BitReader::new(from.bits.take((count * width as usize).div_ceil(8))?);
    values.extend((0..count).map(|_| min.wrapping_add(bits.take(width) as i64)));
    Ok(())
}

fn chunked_cost(values: &[i64]) -> f32 {
    let cost = |chunk: &[i64]| {
        let (min, max) = bounds(chunk);
        20 + width_of(min, max) as usize * chunk.len()
    };
    values.chunks(CHUNK).map(cost).sum::<usize>() as f32
}

fn write_chunked(values: &[i64], out: &mut Section) {
    for chunk in values.chunks(CHUNK) {
        let (min, max) = bounds(chunk);
        write_packed(chunk, min, max, out);
    }
}

fn bounds(values: &[i64]) -> (i64, i64) {
    values.iter().fold((i64::MAX, i64::MIN), |(min, max), v| (min.min(*v), max.max(*v)))
}

/// The bits after the leading one of the magnitude, and how many there are.
const fn tail_of(value: i64) -> (u64, u32) {
    let magnitude = value.unsigned_abs();
    let length = u64::BITS - magnitude.leading_zeros();
    if length <= 1 { (0, 0) } else { (magnitude & ((1 << (length - 1)) - 1), length - 1) }
}

/// Sign in the highest bit, below it how many bits the magnitude has.
const fn symbol_of(value: i64) -> u8 {
    let length = (u64::BITS - value.unsigned_abs().leading_zeros()) as u8;
    if value < 0 { length | 0x80 } else { length }
}

fn lengths_cost(values: impl Iterator<Item = i64>) -> f32 {
    let mut counts = [0_u32; 256];
    let mut tails = 0;
    for value in values {
        counts[usize::from(symbol_of(value))] += 1;
        tails += tail_of(value).1 as usize;
    }
    tails as f32 + symbol_bits(&counts)
}

fn write_lengths(values: impl Iterator<Item = i64> + Clone, out: &mut Section) {
    out.symbols.extend(values.clone().map(symbol_of));
    let mut writer = BitWriter::new(&mut out.bits);
    for value in values {
        let (tail, width) = tail_of(value);
        writer.put(tail, width);
    }
    writer.finish();
}

fn read_lengths(count: usize, from: &mut SectionReader<'_>) -> Result<Vec<i64>, BlockError> {
    let symbols = from.symbols.take(count)?;
    let tail_width = |symbol: &u8| usize::from(symbol & 0x7f).saturating_sub(1);
    let width: usize = symbols.iter().map(tail_width).sum();
    if symbols.iter().any(|symbol| symbol & 0x7f > 64) {
        return Err(BlockError::Corrupt("a number is too wide"));
    }
    let mut bits = BitReader::new(from.bits.take(width.div_ceil(8))?);
    let value = |symbol: &u8| {
        let length = u32::from(symbol & 0x7f);
        let magnitude = match length {
            0 => 0,
            1 => 1,
            _ => bits.take(length - 1) | 1 << (length - 1),
        };
        if *symbol < 0x80 { magnitude as i64 } else { (magnitude as i64).wrapping_neg() }
    };
    Ok(symbols.iter().map(value).collect())
}

/// The few values of a column, each with the symbol that stands for it.
struct Names {
    values: Vec<i64>,
    counts: [u32; NAMES_MAX],
    table: [u16; Self::SLOTS],
}

impl Names {
    const SLOTS: usize = 1024;

    /// None if there are too many to be worth it.
    fn of(values: &[i64]) -> Option<Self> {
        // Each name is written out once, about 12 bits: below six uses it does not pay.
        let limit = NAMES_MAX.min(values.len() / 6);
        let mut names =
            Self { values: Vec::new(), counts: [0; NAMES_MAX], table: [0; Self::SLOTS] };
        for &value in values {
            let slot = names.slot(value);
            if names.table[slot] == 0 {
                if names.values.len() == limit {
                    return None;
                }
                names.values.push(value);
                names.table[slot] = names.values.len() as u16;
            }
            names.counts[usize::from(names.table[slot] - 1)] += 1;
        }
        Some(names)
    }

    /// Where the value is in the table, or would be.
    #[inline]
    fn slot(&self, value: i64) -> usize {
        // Fibonacci hashing: the upper 10 bits of the product, as many as the table has slots. At
        // most a quarter of them is filled, so that a free one is near.
        let hash = (value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        let mut slot = hash as usize;
        while let Some(name) = self.table[slot].checked_sub(1) {
            if self.values[usize::from(name)] == value {
                break;
            }
            slot = (slot + 1) % Self::SLOTS;
        }
        slot
    }

    fn cost(&self, count: f32) -> f32 {
        // A repeated symbol costs something all the same.
        symbol_bits(&self.counts).max(count * 0.02) + self.values.len() as f32 * 12.0
    }

    fn write(&self, values: &[i64], out: &mut Section) {
        out.symbols.push((self.values.len() - 1) as u8);
        for value in &self.values {
            put_signed(&mut out.symbols, *value);
        }
        out.symbols.extend(values.iter().map(|v| (self.table[self.slot(*v)] - 1) as u8));
    }
}

fn read_named(count: usize, from: &mut SectionReader<'_>) -> Result<Vec<i64>, BlockError> {
    let names = usize::from(from.symbols.byte()?) + 1;
    let mut values = [0; NAMES_MAX];
    for value in &mut values[..names] {
        *value = from.symbols.signed()?;
    }
    Ok(from.symbols.take(count)?.iter().map(|name| values[usize::from(*name)]).collect())
}

fn planes_cost(values: &[i64], min: i64) -> f32 {
    let (mut low, mut high) = ([0_u32; 256], [0_u32; 256]);
    for value in values {
        let [a, b, ..] = value.wrapping_sub(min).to_le_bytes();
        low[usize::from(a)] += 1;
        high[usize::from(b)] += 1;
    }
    symbol_bits(&low) + symbol_bits(&high)
}

fn write_planes(values: &[i64], min: i64, out: &mut Section) {
    put_signed(&mut out.symbols, min);
    out.symbols.extend(values.iter().map(|value| value.wrapping_sub(min) as u8));
    out.symbols.extend(values.iter().map(|value| (value.wrapping_sub(min) >> 8) as u8));
}

/// About how many bits it takes to say which symbol comes, for all of them. Columns share the
/// compressor's tables, so they do not get quite what each has coming.
fn symbol_bits(counts: &[u32; 256]) -> f32 {
    let total: u32 = counts.iter().sum();
    let used = counts.iter().filter(|count| **count > 0);
    let entropy: f32 = used.map(|&count| count as f32 * (total as f32 / count as f32).log2()).sum();
    60.0 + 1.2 * entropy
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::section::tests::round_trip;

    fn check(values: &[i64]) -> usize {
        let mut section = Section::default();
        write(values, &mut section);
        round_trip(&section, |reader| assert_eq!(read(values.len(), reader).unwrap(), values))
    }

    #[test]
    fn each_kind_of_column_comes_back_in_few_bytes() {
        let noise = |i: i64| i.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_shr(7) & 0xffff;
        assert!(check(&[7; 1_000]) < 10);
        assert!(check(&[i64::MIN, i64::MAX]) < 40);
        assert!(check(&(0..1_000).collect::<Vec<_>>()) < 60);
        assert!(check(&(0..1_000).map(|i| (1 << 40) + noise(i) % 3).collect::<Vec<_>>()) < 400);
        assert!(check(&(0..1_000).map(|i| i * 1_000_000 + noise(i)).collect::<Vec<_>>()) < 3_400);
        assert!(check(&(0..1_000).map(noise).collect::<Vec<_>>()) < 2_100);
        assert!(
            check(&(0..1_000).map(|i| i / 100 * 5_000 + noise(i) % 16).collect::<Vec<_>>()) < 700
        );
        check(&[]);
        check(&[i64::MIN]);
    }

    proptest! {
        #[test]
        fn any_column_comes_back(
            values in prop::collection::vec(any::<i64>(), 0..300),
            mask in prop_oneof![Just(-1), Just(0xffff), Just(0xfff), Just(3), Just(-4096)],
            step in prop_oneof![Just(0), any::<i64>()],
        ) {
            let mut sum = 0_i64;
            let values: Vec<i64> = values.iter().map(|value| {
                sum = sum.wrapping_add(step);
                sum.wrapping_add(value & mask)
            }).collect();
            check(&values);
        }
    }
}
