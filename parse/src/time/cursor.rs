//! A place in a text whose bytes are read one after the other. Pure.

use std::time::Duration;

use logweir_core::timestamp::nanos_of;

const SECOND_NANOS: i64 = nanos_of(Duration::from_secs(1));
const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
const WEEKDAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_blanks(&mut self) {
        while self.eat(b' ') {}
    }

    pub(super) fn expect(&mut self, wanted: u8) -> Option<()> {
        self.eat(wanted).then_some(())
    }

    /// The next byte if it is one of these.
    pub(super) fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        self.peek().filter(|byte| wanted.contains(byte)).inspect(|_| self.at += 1)
    }

    /// Whether a blank or the end follows.
    pub(super) fn is_at_blank(&self) -> bool {
        self.peek().is_none_or(|byte| byte.is_ascii_whitespace())
    }

    /// Whether what follows can be no part of a number or word.
    pub(super) fn is_at_end_of_word(&self) -> bool {
        self.peek().is_none_or(|byte| !byte.is_ascii_alphanumeric() && byte < 0x80)
    }

    pub(super) fn number(&mut self, digits_min: usize, digits_max: usize) -> Option<u32> {
        let digits =
            self.rest().iter().take(digits_max).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < digits_min {
            return None;
        }
        let number = self.rest()[..digits].iter().fold(0, |n, b| n * 10 + u32::from(b - b'0'));
        self.at += digits;
        Some(number)
    }

    /// A month by name, also in full; 1 to 12.
    pub(super) fn month(&mut self) -> Option<u32> {
        let number = self.name(&MONTHS)?;
        self.skip_letters();
        Some(number)
    }

    /// A weekday by name, with the comma and blank behind it. It says nothing that the date does not.
    pub(super) fn skip_weekday(&mut self) {
        let start = self.at;
        let is_weekday = self.name(&WEEKDAYS).is_some();
        self.skip_letters();
        self.eat(b',');
        if !is_weekday || !self.eat(b' ') {
            self.at = start;
        }
    }

    fn name(&mut self, names: &[&[u8]]) -> Option<u32> {
        let head = self.rest().get(..3)?;
        let found = names.iter().position(|name| head.eq_ignore_ascii_case(name))?;
        self.at += 3;
        u32::try_from(found + 1).ok()
    }

    fn skip_letters(&mut self) {
        self.at += self.rest().iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    }

    /// `03:04`, `3:04:05`, `03:04:05.678`, `03:04:05,678`, `3:04:05 PM` or `03.04.05`, in nanoseconds
    /// since midnight.
    pub(super) fn clock(&mut self) -> Option<i64> {
        let hour = self.number(1, 2).filter(|hour| *hour < 24)?;
        let separator = self.one_of(b":.")?;
        let minute = self.number(2, 2).filter(|minute| *minute < 60)?;
        let second = match self.eat(separator) {
            // A leap second is counted into the next minute.
            true => self.number(2, 2).filter(|second| *second <= 60)?,
            // `03.04` alone may be any number.
            false if separator == b'.' => return None,
            false => 0,
        };
        let fraction_at = self.at;
        let fraction = self.fraction();
        // `10.20.30.40` is an address: a fraction of a second has at least three digits.
        if separator == b'.' && (1..=3).contains(&(self.at - fraction_at)) {
            return None;
        }
        let hour = self.half_of_day(hour)?;
        Some(i64::from(hour * 3_600 + minute * 60 + second) * SECOND_NANOS + fraction)
    }

    /// `030405`, as ISO 8601's basic format has it.
    pub(super) fn basic_clock(&mut self) -> Option<i64> {
        let hour = self.number(2, 2).filter(|hour| *hour < 24)?;
        let minute = self.number(2, 2).filter(|minute| *minute < 60)?;
        let second = self.number(2, 2).filter(|second| *second <= 60)?;
        let seconds = i64::from(hour * 3_600 + minute * 60 + second);
        Some(seconds * SECOND_NANOS + self.fraction())
    }

    /// The hour of 24, if `AM` or `PM` stands behind one of 12; none if that cannot be.
    fn half_of_day(&mut self, hour: u32) -> Option<u32> {
        let start = self.at;
        // A no-break space stands there since Unicode's CLDR 42, as Java 20 and later write it.
        if let Some(rest) = self.rest().strip_prefix("\u{202f}".as_bytes()) {
            self.at = self.bytes.len() - rest.len();
        } else {
            self.eat(b' ');
        }
        let noon = match self.rest() {
            [b'A' | b'a', b'M' | b'm', ..] => 0,
            [b'P' | b'p', b'M' | b'm', ..] => 12,
            _ => {
                self.at = start;
                return Some(hour);
            }
        };
        self.at += 2;
        if !self.is_at_end_of_word() {
            self.at = start;
            return Some(hour);
        }
        (1..=12).contains(&hour).then_some(hour % 12 + noon)
    }

    fn fraction(&mut self) -> i64 {
        let is_marked = matches!(self.peek(), Some(b'.' | b','));
        let digits = self.rest().iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
        if !is_marked || digits == 0 {
            return 0;
        }
        // Digits beyond the ninth are read over: rounding could carry into the next second.
        let nanos = (0..9).fold(0, |nanos, place| {
            let digit = if place < digits { self.rest()[1 + place] - b'0' } else { 0 };
            nanos * 10 + i64::from(digit)
        });
        self.at += 1 + digits;
        nanos
    }
}
