//! What a word is: a run of ASCII letters, digits, underscores and bytes from 0x80 up. Phrases and
//! the index of stored messages must agree on it, or a search would miss logs.

/// Which bytes belong to a word.
// By bytes, so that no text has to be decoded: every byte of a character beyond ASCII is 0x80 or
// more. Part of the stored format: word filters of blocks were made with it.
const WORD_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let ascii = byte as u8;
        table[byte] = ascii.is_ascii_alphanumeric() || ascii == b'_' || ascii >= 0x80;
        byte += 1;
    }
    table
};

/// Whether a byte belongs to a word.
pub const fn is_word_byte(byte: u8) -> bool {
    WORD_BYTE[byte as usize]
}

/// The words of a text in order, as they are written. Words are compared without regard to the case
/// of ASCII letters, so an index lowers them first.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + bytes[at..].iter().position(|byte| is_word_byte(*byte))?;
        let rest = &bytes[start..];
        let length = rest.iter().position(|byte| !is_word_byte(*byte)).unwrap_or(rest.len());
        at = start + length;
        Some(&text[start..at])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_runs_of_letters_digits_and_underscores() {
        let found: Vec<&str> = words("  GET /api/v1?user_id=7: größe 5µs!").collect();
        assert_eq!(found, ["GET", "api", "v1", "user_id", "7", "größe", "5µs"]);
        assert_eq!(words("").chain(words(" -!")).count(), 0);
    }

    proptest! {
        #[test]
        fn words_are_those_of_a_split(text in any::<String>()) {
            let is_border = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_';
            let split: Vec<&str> = text.split(is_border).filter(|word| !word.is_empty()).collect();
            prop_assert_eq!(words(&text).collect::<Vec<_>>(), split);
        }
    }
}
