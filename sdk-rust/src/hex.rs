//! Bytes as hexadecimal digits.

use std::fmt::Write;

/// Two lower-case digits a byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // A string takes whatever is written to it.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The bytes that digits of either case stand for; none if it is anything but just so many digits.
pub(crate) fn decode<const SIZE: usize>(text: &str) -> Option<[u8; SIZE]> {
    if text.len() != 2 * SIZE {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; SIZE];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_for_bytes_and_nothing_else_does() {
        assert_eq!(encode(&[0x00, 0x0f, 0xa0]), "000fa0");
        assert_eq!(decode("000Fa0"), Some([0x00, 0x0f, 0xa0]));
        for wrong in ["", "000fa", "000fa0b", "000fag", "+00fa0", "ää0"] {
            assert_eq!(decode::<3>(wrong), None, "{wrong}");
        }
    }
}
