//! A column of variable words: what stands in one place of messages that are otherwise alike.
//!
//! Most such words are digits, digits with a unit or a prefix, or hexadecimal ids. Those become
//! numbers or half bytes; a few different ones get names; all others stay text.

use std::collections::HashMap;

use super::{
    BlockError,
    bytes::{BitReader, BitWriter, put_bytes, put_varint},
    integers,
    section::{Section, SectionReader},
};

/// Digits, as [`digits_index`].
const DIGITS: u8 = 0;
/// Digits between one of a few prefixes and suffixes.
const AFFIXED: u8 = 1;
/// Hexadecimal digits, letters in lower case, as numbers or as half bytes.
const HEX_LOWER: u8 = 2;
/// The same, letters in upper case.
const HEX_UPPER: u8 = 3;
/// One of a few words.
const NAMED: u8 = 4;
/// Anything.
const PLAIN: u8 = 5;

/// More digits do not fit a number.
// All strings of 1 to 18 digits together are just over 10^18, which 63 bits can count.
const DIGITS_MAX: usize = 18;
/// Most pairs of prefix and suffix in a column of that kind.
// Units and prefixes are few (`ms`, `s`, `err`); a column with more has words of another kind.
const AFFIXES_MAX: usize = 16;
/// Longest word of the hexadecimal kinds.
const HEX_DIGITS_MAX: i64 = 1 << 16;
/// More do not fit a number.
const HEX_NUMBER_MAX: i64 = 16;

/// How many digit strings are shorter than this many digits.
const SHORTER: [i64; DIGITS_MAX + 2] = {
    let mut table = [0; DIGITS_MAX + 2];
    let (mut length, mut power) = (1, 10);
    while length <= DIGITS_MAX {
        table[length + 1] = table[length] + power;
        if length < DIGITS_MAX {
            power *= 10;
        }
        length += 1;
    }
    table
};

/// The position of a string of 1 to 18 digits among all such, by length, then value, so that
/// leading zeros survive; negative for anything else.
#[inline]
pub(super) fn digits_index(bytes: &[u8]) -> i64 {
    if bytes.is_empty() || bytes.len() > DIGITS_MAX {
        return -1;
    }
    let mut value = 0;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return -1;
        }
        value = value * 10 + i64::from(digit);
    }
    SHORTER[bytes.len()] + value
}

/// Appends the string of digits with this index.
#[inline]
fn put_digits(index: i64, out: &mut Vec<u8>) {
    let length = digits_length(index);
    let mut value = index - SHORTER[length];
    let mut digits = [b'0'; DIGITS_MAX];
    for digit in digits[..length].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[..length]);
}

/// What stands before and after the only digits of a word.
type Affix<'a> = (&'a [u8], &'a [u8]);

fn split_affix(word: &[u8]) -> Option<(Affix<'_>, i64)> {
    let start = word.iter().position(u8::is_ascii_digit)?;
    let length = word[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, suffix) = word[start..].split_at(length);
    let index = digits_index(digits);
    let is_only = index >= 0 && !suffix.iter().any(u8::is_ascii_digit);
    is_only.then_some(((&word[..start], suffix), index))
}

/// How long the string of digits with this index is.
#[inline]
pub(super) fn digits_length(index: i64) -> usize {
    let mut length = 1;
    while length < DIGITS_MAX && index >= SHORTER[length + 1] {
        length += 1;
    }
    length
}

/// Appends a column, without its length. A word is its [`digits_index`], or `-1 - at` if it is
/// `others[at]`.
pub(super) fn write(column: &[i64], others: &[&[u8]], out: &mut Section) {
    // Most columns are numbers throughout, and never become text on the way to the disk.
    if column.iter().all(|word| *word >= 0) {
        out.symbols.push(DIGITS);
        integers::write(column, out);
        return;
    }
    let mut digits = Vec::new();
    let mut ends = Vec::new();
    for index in column.iter().filter(|word| **word >= 0) {
        put_digits(*index, &mut digits);
        ends.push(digits.len());
    }
    let (mut start, mut ends) = (0, ends.into_iter());
    let mut next_digits = || {
        let end = ends.next().unwrap_or(start);
        std::mem::replace(&mut start, end)..end
    };
    let words: Vec<&[u8]> = column
        .iter()
        .map(|word| if *word < 0 { others[(-1 - word) as usize] } else { &digits[next_digits()] })
        .collect();
    // From what compresses best to what always works; a kind that does not fit has written nothing.
    if !(write_affixed(&words, out) || write_hex(&words, out) || write_named(&words, out)) {
        out.symbols.push(PLAIN);
        words.iter().for_each(|word| put_bytes(&mut out.text, word));
    }
}

fn write_affixed(column: &[&[u8]], out: &mut Section) -> bool {
    // At least eight words for a pair, or naming the pairs costs more than it saves.
    let limit = AFFIXES_MAX.min(1 + column.len() / 8);
    let mut affixes: Vec<Affix<'_>> = Vec::new();
    let (mut ids, mut numbers) = (Vec::new(), Vec::new());
    for word in column {
        let Some((affix, index)) = split_affix(word) else {
            return false;
        };
        // A walk, not a map: there are sixteen at most.
        let id = affixes.iter().position(|known| *known == affix).unwrap_or(affixes.len());
        if id == affixes.len() {
            if id == limit {
                return false;
            }
            affixes.push(affix);
        }
        ids.push(id as i64);
        numbers.push(index);
    }
    out.symbols.extend_from_slice(&[AFFIXED, affixes.len() as u8]);
    for (prefix, suffix) in affixes {
        put_bytes(&mut out.text, prefix);
        put_bytes(&mut out.text, suffix);
    }
    integers::write(&ids, out);
    integers::write(&numbers, out);
    true
}

fn write_named(column: &[&[u8]], out: &mut Section) -> bool {
    // Four uses of a name on average: below that, names and numbers cost about what the words do.
    let limit = column.len() / 4;
    let mut ids: HashMap<&[u8], i64> = HashMap::new();
    let mut names = Vec::new();
    let mut values = Vec::new();
    for word in column {
        let next = ids.len() as i64;
        let id = *ids.entry(word).or_insert(next);
        if id == next {
            if names.len() == limit {
                return false;
            }
            names.push(*word);
        }
        values.push(id);
    }
    out.symbols.push(NAMED);
    put_varint(&mut out.symbols, names.len() as u64);
    for name in names {
        put_bytes(&mut out.text, name);
    }
    integers::write(&values, out);
    true
}

fn write_hex(column: &[&[u8]], out: &mut Section) -> bool {
    let is_hex = |letters: std::ops::RangeInclusive<u8>| {
        let fits = |byte: &u8| byte.is_ascii_digit() || letters.contains(byte);
        column.iter().all(|word| (word.len() as i64) < HEX_DIGITS_MAX && word.iter().all(fits))
    };
    let coding = if is_hex(b'a'..=b'f') {
        HEX_LOWER
    } else if is_hex(b'A'..=b'F') {
        HEX_UPPER
    } else {
        return false;
    };
    out.symbols.push(coding);
    let lengths: Vec<i64> = column.iter().map(|word| word.len() as i64).collect();
    integers::write(&lengths, out);
    // Bit 6 is set in letters of either case and not in digits, so that `a` and `A` become 10.
    let half = |value: u64, byte: &u8| value << 4 | u64::from((byte & 0xf) + (byte >> 6) * 9);
    // Short ones may be counters or times in hexadecimal, for which there are good codings of
    // integers; of long ones, half bytes are all that can be gained.
    if lengths.iter().all(|length| *length <= HEX_NUMBER_MAX) {
        let number = |word: &&[u8]| word.iter().fold(0, half) as i64;
        integers::write(&column.iter().map(number).collect::<Vec<_>>(), out);
        return true;
    }
    let mut writer = BitWriter::new(&mut out.bits);
    for eight in column.iter().flat_map(|word| word.chunks(8)) {
        writer.put(eight.iter().fold(0, half), 4 * eight.len() as u32);
    }
    writer.finish();
    true
}

/// A variable word of a text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word<'a> {
    /// Digits only, as [`digits_index`].
    Digits(i64),
    /// As it is written.
    Other(&'a [u8]),
}

impl<'a> Word<'a> {
    #[inline]
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        match digits_index(bytes) {
            index if index >= 0 => Self::Digits(index),
            _ => Self::Other(bytes),
        }
    }

    /// How long it is, bytes.
    #[inline]
    pub(super) fn length(self) -> usize {
        match self {
            Self::Digits(index) => digits_length(index),
            Self::Other(bytes) => bytes.len(),
        }
    }
}

/// A column read back.
#[derive(Debug)]
pub(super) enum WordColumn {
    Digits(Vec<i64>),
    Affixed { affixes: Vec<(Vec<u8>, Vec<u8>)>, numbers: Vec<i64>, words: Strings },
    Named { names: Strings, ids: Vec<i64> },
    Hex(Strings),
    Plain(Strings),
}

/// Byte strings one after the other.
#[derive(Debug, Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Strings {
    fn get(&self, position: usize) -> &[u8] {
        let start = position.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[position] as usize]
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(|position| self.get(position))
    }

    fn end(&mut self) -> Result<(), BlockError> {
        let end = u32::try_from(self.bytes.len());
        self.ends.push(end.map_err(|_| BlockError::Corrupt("words are too long"))?);
        Ok(())
    }

    fn read(count: usize, from: &mut SectionReader<'_>) -> Result<Self, BlockError> {
        let mut strings = Self::default();
        for _ in 0..count {
            strings.bytes.extend_from_slice(from.text.bytes()?);
            strings.end()?;
        }
        Ok(strings)
    }

    fn read_hex(count: usize, from: &mut SectionReader<'_>, ten: u8) -> Result<Self, BlockError> {
        let lengths = integers::read(count, from)?;
        if lengths.iter().any(|length| !(0..HEX_DIGITS_MAX).contains(length)) {
            return Err(BlockError::Corrupt("a hexadecimal word is too long"));
        }
        let mut strings = Self::default();
        let put = |number: u64, length: usize, bytes: &mut Vec<u8>| {
            bytes.extend((0..length).rev().map(|at| {
                let half = (number >> (4 * at)) as u8 & 0xf;
                if half < 10 { b'0' + half } else { ten + half - 10 }
            }));
        };
        if lengths.iter().all(|length| *length <= HEX_NUMBER_MAX) {
            for (number, length) in integers::read(count, from)?.into_iter().zip(lengths) {
                put(number as u64, length as usize, &mut strings.bytes);
                strings.end()?;
            }
            return Ok(strings);
        }
        let digits = lengths.iter().sum::<i64>() as usize;
        let mut bits = BitReader::new(from.bits.take(digits.div_ceil(2))?);
        for mut length in lengths.into_iter().map(|length| length as usize) {
            while length > 0 {
                let count = length.min(8);
                put(bits.take(4 * count as u32), count, &mut strings.bytes);
                length -= count;
            }
            strings.end()?;
        }
        Ok(strings)
    }
}

/// Reads a column of `count` words.
pub(super) fn read(count: usize, from: &mut SectionReader<'_>) -> Result<WordColumn, BlockError> {
    match from.symbols.byte()? {
        DIGITS => read_numbers(count, from).map(WordColumn::Digits),
        AFFIXED => {
            let known = usize::from(from.symbols.byte()?);
            let affix = |from: &mut SectionReader<'_>| {
                Ok((from.text.bytes()?.to_vec(), from.text.bytes()?.to_vec()))
            };
            let affixes = (0..known).map(|_| affix(from)).collect::<Result<Vec<_>, _>>()?;
            let ids = read_ids(count, known, from)?;
            let numbers = read_numbers(count, from)?;
            let mut words = Strings::default();
            for (id, number) in ids.iter().zip(&numbers) {
                let (prefix, suffix) = &affixes[*id as usize];
                words.bytes.extend_from_slice(prefix);
                put_digits(*number, &mut words.bytes);
                words.bytes.extend_from_slice(suffix);
                words.end()?;
            }
            Ok(WordColumn::Affixed { affixes, numbers, words })
        }
        NAMED => {
            let known = usize::try_from(from.symbols.varint()?).unwrap_or(usize::MAX);
            let names = Strings::read(known.min(count), from)?;
            Ok(WordColumn::Named { ids: read_ids(count, names.ends.len(), from)?, names })
        }
        HEX_LOWER => Strings::read_hex(count, from, b'a').map(WordColumn::Hex),
        HEX_UPPER => Strings::read_hex(count, from, b'A').map(WordColumn::Hex),
        PLAIN => Strings::read(count, from).map(WordColumn::Plain),
        _ => Err(BlockError::Corrupt("words are coded in an unknown way")),
    }
}

fn read_numbers(count: usize, from: &mut SectionReader<'_>) -> Result<Vec<i64>, BlockError> {
    let numbers = integers::read(count, from)?;
    if numbers.iter().any(|index| !(0..SHORTER[DIGITS_MAX + 1]).contains(index)) {
        return Err(BlockError::Corrupt("a number has too many digits"));
    }
    Ok(numbers)
}

/// Reads a column of positions below `limit`.
pub(super) fn read_ids(
    count: usize,
    limit: usize,
    from: &mut SectionReader<'_>,
) -> Result<Vec<i64>, BlockError> {
    let ids = integers::read(count, from)?;
    if ids.iter().any(|id| !(0..limit as i64).contains(id)) {
        return Err(BlockError::Corrupt("a name is not known"));
    }
    Ok(ids)
}

impl WordColumn {
    /// The word at a position.
    #[inline]
    pub(super) fn get(&self, position: usize) -> Word<'_> {
        match self {
            Self::Digits(numbers) => Word::Digits(numbers[position]),
            Self::Named { names, ids } => Word::of(names.get(ids[position] as usize)),
            Self::Affixed { words, .. } | Self::Hex(words) | Self::Plain(words) => {
                Word::of(words.get(position))
            }
        }
    }

    /// The bytes of its words, if they may be more than digits.
    pub(super) fn text(&self) -> &[u8] {
        match self {
            Self::Digits(_) => &[],
            Self::Named { names: words, .. }
            | Self::Affixed { words, .. }
            | Self::Hex(words)
            | Self::Plain(words) => &words.bytes,
        }
    }

    /// Appends the word at a position.
    pub(super) fn append(&self, position: usize, out: &mut Vec<u8>) {
        match self.get(position) {
            Word::Digits(index) => put_digits(index, out),
            Word::Other(word) => out.extend_from_slice(word),
        }
    }

    /// Whether any word equals this one, in any case; exact, at the cost of a look at each.
    pub(super) fn has_word(&self, word: &[u8]) -> bool {
        let equals = |found: &[u8]| found.eq_ignore_ascii_case(word);
        match self {
            Self::Digits(numbers) => {
                let index = digits_index(word);
                index >= 0 && numbers.contains(&index)
            }
            Self::Affixed { affixes, numbers, .. } => {
                split_affix(word).is_some_and(|(affix, n)| {
                    let fits = |(prefix, suffix): &(Vec<u8>, Vec<u8>)| {
                        prefix.eq_ignore_ascii_case(affix.0) && suffix.eq_ignore_ascii_case(affix.1)
                    };
                    affixes.iter().any(fits) && numbers.contains(&n)
                })
            }
            Self::Named { names, .. } => names.iter().any(equals),
            Self::Hex(words) => word.iter().all(u8::is_ascii_hexdigit) && words.iter().any(equals),
            Self::Plain(words) => words.iter().any(equals),
        }
    }

    /// Whether a word may have this part, given in lower case; quick, `true` if in doubt.
    pub(super) fn may_have_part(&self, part: &[u8]) -> bool {
        match self {
            Self::Digits(_) => part.iter().all(u8::is_ascii_digit),
            // A part may reach over digits into a prefix or suffix, so only its other bytes count.
            Self::Affixed { affixes, .. } => part.iter().filter(|b| !b.is_ascii_digit()).all(|b| {
                let is_it = |other: &u8| other.eq_ignore_ascii_case(b);
                affixes.iter().any(|(prefix, suffix)| prefix.iter().chain(suffix).any(is_it))
            }),
            Self::Hex(_) => part.iter().all(u8::is_ascii_hexdigit),
            Self::Named { names, .. } => names.iter().any(|name| {
                name.windows(part.len().max(1)).any(|found| found.eq_ignore_ascii_case(part))
            }),
            Self::Plain(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::section::tests::round_trip;

    fn check(words: &[String]) -> (u8, usize) {
        let mut others = Vec::new();
        let mut code = |word| match Word::of(word) {
            Word::Digits(index) => index,
            Word::Other(word) => {
                others.push(word);
                -(others.len() as i64)
            }
        };
        let column: Vec<i64> = words.iter().map(|word| code(word.as_bytes())).collect();
        let mut section = Section::default();
        write(&column, &others, &mut section);
        let coding = section.symbols[0];
        let length = round_trip(&section, |reader| {
            let column = read(words.len(), reader).unwrap();
            let mut found = Vec::new();
            for (position, word) in words.iter().enumerate() {
                found.clear();
                column.append(position, &mut found);
                assert_eq!(String::from_utf8_lossy(&found), *word);
                assert!(column.has_word(word.to_ascii_uppercase().as_bytes()), "{word}");
                let part = word.to_ascii_lowercase();
                assert!(
                    part.as_bytes().windows(2).all(|part| column.may_have_part(part)),
                    "{word}"
                );
            }
            assert!(!column.has_word(b"nowhere9"));
        });
        (coding, length)
    }

    #[test]
    fn each_kind_of_word_gets_its_coding() {
        let of = |make: &dyn Fn(usize) -> String| check(&(0..100).map(make).collect::<Vec<_>>());
        assert_eq!(of(&|i| format!("{}", i * 7919 % 1000)).0, DIGITS);
        assert_eq!(of(&|i| format!("{i:06}")).0, DIGITS);
        assert_eq!(of(&|i| format!("{i}ms")).0, AFFIXED);
        assert_eq!(of(&|i| format!("{i:03}{}", ["ms", "s", "µs"][i % 3])).0, AFFIXED);
        let (coding, length) = of(&|i| format!("{:08x}", i.wrapping_mul(0x9e37_79b9) as u32));
        assert_eq!(coding, HEX_LOWER);
        assert!(length < 420, "{length}");
        assert_eq!(of(&|i| format!("{:X}", i * 65_537 + 10)).0, HEX_UPPER);
        assert_eq!(of(&|i| ["a1b2", "c3z4", "q9q9q"][i % 3].into()).0, NAMED);
        assert_eq!(of(&|i| format!("x{i}y{i}")).0, PLAIN);
    }

    #[test]
    fn digits_are_counted_by_length_then_value() {
        for (text, index) in [("0", 0), ("9", 9), ("00", 10), ("99", 109), ("000", 110)] {
            assert_eq!(digits_index(text.as_bytes()), index);
            let mut out = Vec::new();
            put_digits(index, &mut out);
            assert_eq!(out, text.as_bytes());
        }
        assert_eq!(digits_index(&[b'9'; 18]), SHORTER[19] - 1);
        assert_eq!(digits_index(&[b'9'; 19]), -1);
        assert_eq!(digits_index(b""), -1);
        assert_eq!(digits_index(b"1a"), -1);
    }

    proptest! {
        #[test]
        fn any_words_come_back(words in prop_oneof![
            prop::collection::vec("[0-9]{1,19}", 1..60),
            prop::collection::vec("[a-f0-9]{1,20}", 1..60),
            prop::collection::vec("[A-F0-9]{1,20}", 1..60),
            prop::collection::vec("[ab]{0,1}[0-9]{1,4}[ms]{0,2}", 1..60),
            prop::collection::vec("\\PC{1,8}", 1..60),
        ]) {
            check(&words);
        }
    }
}
