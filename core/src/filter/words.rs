//! What a word is, and when two are the same. Phrases and the index of stored messages must agree
//! on it, or a search would miss logs.
//!
//! A word is a run of letters, digits and underscores. A character of a script that is written
//! without blanks is a word by itself, and so is a symbol: what is looked for may stand anywhere
//! in such a text. Words are the same in any case.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// Which bytes may belong to a word.
// By bytes, so that no text has to be decoded to be cut between words: every byte of a character
// beyond ASCII is 0x80 or more. Part of the stored format: messages of blocks are split by it.
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

/// Scripts that are written without blanks, or with endings that are written onto the word, as
/// ranges of characters (blocks of Unicode 16), ascending.
const UNSPACED: [(char, char); 15] = [
    ('\u{0e00}', '\u{0eff}'),   // Thai, Lao
    ('\u{0f00}', '\u{109f}'),   // Tibetan, Burmese
    ('\u{1100}', '\u{11ff}'),   // Korean
    ('\u{1780}', '\u{17ff}'),   // Khmer
    ('\u{2e80}', '\u{2fdf}'),   // Chinese radicals
    ('\u{3005}', '\u{3007}'),   // Chinese marks of repetition, zero
    ('\u{3040}', '\u{318f}'),   // Japanese, Bopomofo, Korean
    ('\u{31a0}', '\u{31ff}'),   // Bopomofo, strokes, Japanese
    ('\u{3400}', '\u{4dbf}'),   // Chinese
    ('\u{4e00}', '\u{9fff}'),   // Chinese
    ('\u{a960}', '\u{a97f}'),   // Korean
    ('\u{ac00}', '\u{d7ff}'),   // Korean
    ('\u{f900}', '\u{faff}'),   // Chinese
    ('\u{ff66}', '\u{ffdc}'),   // Japanese and Korean of half width
    ('\u{20000}', '\u{3ffff}'), // Chinese
];

/// What a character is to words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// One of the letters of a word.
    Letter,
    /// A word by itself.
    Word,
    /// Nothing that is looked for.
    Separator,
}

impl Role {
    fn of(c: char) -> Self {
        match c {
            _ if c.is_ascii_alphanumeric() || c == '_' => Self::Letter,
            _ if c.is_ascii() => Self::Separator,
            _ if UNSPACED.iter().any(|(first, last)| (*first..=*last).contains(&c)) => Self::Word,
            // They follow a symbol to say how it is drawn, and are no part of the word behind it.
            '\u{fe00}'..='\u{fe0f}' => Self::Separator,
            _ => match c.general_category_group() {
                GeneralCategoryGroup::Letter
                | GeneralCategoryGroup::Mark
                | GeneralCategoryGroup::Number => Self::Letter,
                GeneralCategoryGroup::Symbol => Self::Word,
                GeneralCategoryGroup::Punctuation
                | GeneralCategoryGroup::Separator
                | GeneralCategoryGroup::Other => Self::Separator,
            },
        }
    }
}

/// Whether a byte may belong to a word.
pub const fn is_word_byte(byte: u8) -> bool {
    WORD_BYTE[byte as usize]
}

/// Whether a character makes one word with the letters beside it.
pub fn is_letter(c: char) -> bool {
    Role::of(c) == Role::Letter
}

/// Whether a character stands between words.
pub fn is_separator(c: char) -> bool {
    Role::of(c) == Role::Separator
}

/// The words of a text in order, as they are written. An index takes them [`folded`].
pub fn words(text: &str) -> impl Iterator<Item = &str> + Clone {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(is_separator);
        let first = rest.chars().next()?;
        let length = match is_letter(first) {
            true => rest.find(|c| !is_letter(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (word, after) = rest.split_at(length);
        rest = after;
        Some(word)
    })
}

/// A word as all words are that are the same but for their case.
pub fn folded(word: &str) -> String {
    word.chars().map(fold).collect()
}

/// The small letter of a letter, of which there is one for all its forms.
// One character for one, and none beyond ASCII for one of ASCII (`K` of kelvin, long `s`): so a
// word in ASCII is only ever found in ASCII, and can be looked for byte by byte.
pub(super) fn fold(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    // By way of the capital, or the two small sigmas and the two signs of micro would differ.
    let capital = only(c.to_uppercase()).unwrap_or(c);
    only(capital.to_lowercase()).unwrap_or(capital)
}

/// The character, if it is the only one and beyond ASCII.
fn only(mut characters: impl Iterator<Item = char>) -> Option<char> {
    let first = characters.next().filter(|c| !c.is_ascii());
    first.filter(|_| characters.next().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_runs_of_letters_digits_and_underscores() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(words(text).collect::<Vec<_>>(), expected, "{text}");
        };
        check(
            "  GET /api/v1?user_id=7: größe 5µs!",
            &["GET", "api", "v1", "user_id", "7", "größe", "5µs"],
        );
        check(" -!", &[]);
        check("„Größe“ – naïve…", &["Größe", "naïve"]);
        check("用户admin登录,失败。", &["用", "户", "admin", "登", "录", "失", "败"]);
        check("로그인이 done🚀❤\u{fe0f}ok", &["로", "그", "인", "이", "done", "🚀", "❤", "ok"]);
        check("cafe\u{301}s", &["cafe\u{301}s"]);
    }

    #[test]
    fn letters_are_the_same_in_any_case() {
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!(folded(one) == folded(other), expected, "{one} {other}");
        };
        check("MÜLLER", "müller", true);
        check("ОШИБКА", "ошибка", true);
        check("ΟΔΟΣ", "οδος", true);
        check("ΟΔΟΣ", "οδός", false);
        check("5\u{b5}s", "5\u{3bc}s", true);
        check("STRA\u{1e9e}E", "straße", true);
        check("\u{212a}", "k", false);
        check("ı", "i", false);
    }

    #[test]
    fn a_folded_character_is_folded_and_of_the_same_role() {
        for c in '\u{80}'..=char::MAX {
            let folded = fold(c);
            assert!(!folded.is_ascii(), "{c:?}");
            assert_eq!(fold(folded), folded, "{c:?}");
            assert_eq!(Role::of(folded), Role::of(c), "{c:?} {folded:?}");
        }
    }

    proptest! {
        #[test]
        fn words_lie_between_bytes_that_are_of_none(text in any::<String>()) {
            let runs = text.split(|c: char| c.is_ascii() && !is_word_byte(c as u8));
            let found: Vec<&str> = runs.flat_map(words).collect();
            prop_assert_eq!(words(&text).collect::<Vec<_>>(), found);
        }
    }
}
