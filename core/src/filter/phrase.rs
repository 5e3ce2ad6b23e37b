//! Finding a phrase in a message: a scan for the rarest byte of its first word, then a comparison
//! on the spot. Nothing is allocated or copied, for a search does this for every log it reads.

use memchr::memchr2_iter;

use super::{
    expression::Phrase,
    words::{is_word_byte, words},
};

/// Letters and digits as they occur in logs, commonest first; every other byte is rarer.
const COMMON: &[u8] = b"e0ta1oinsr2lcd3u45m86p9f7gh_bwyvkxjqz";

/// How rare a byte is: 255 at most.
// The scan stops at every hit to compare, so it looks for the byte that has the fewest: in logs a
// `q` comes hundreds of times more seldom than an `e`. The order need not be exact, only steep.
const RARITY: [u8; 256] = {
    let mut table = [u8::MAX; 256];
    let mut rank = 0;
    while rank < COMMON.len() {
        table[COMMON[rank] as usize] = rank as u8;
        rank += 1;
    }
    table
};

impl Phrase {
    /// The phrase that a text stands for; none if the text has no word. A `*` opens the end where
    /// it touches a word.
    pub(super) fn of(text: &str) -> Option<Self> {
        let touches = |byte: Option<&u8>| byte.is_some_and(|byte| is_word_byte(*byte));
        let bytes = text.trim().as_bytes();
        let open_start = bytes.first() == Some(&b'*') && touches(bytes.get(1));
        let open_end = bytes.last() == Some(&b'*') && touches(bytes.iter().rev().nth(1));
        let words: Vec<String> = words(text).map(str::to_ascii_lowercase).collect();
        (!words.is_empty()).then_some(Self { words, open_start, open_end })
    }

    /// Whether a message has this phrase.
    pub fn matches(&self, message: &str) -> bool {
        let Some(first) = self.words.first().map(String::as_bytes) else {
            return true;
        };
        let message = message.as_bytes();
        let Some((offset, rarest)) =
            first.iter().copied().enumerate().max_by_key(|(_, byte)| RARITY[usize::from(*byte)])
        else {
            return true;
        };
        // Both cases of the one byte at once. Lowering the message first would copy every log.
        memchr2_iter(rarest, rarest.to_ascii_uppercase(), message)
            .filter_map(|at| at.checked_sub(offset))
            .any(|start| self.starts_at(message, start))
    }

    /// Words that a matching message has in full, in lower case. An open end leaves its word out.
    pub fn closed_words(&self) -> impl Iterator<Item = &str> {
        let last = self.words.len().saturating_sub(1);
        let is_open = move |position| {
            (position == 0 && self.open_start) || (position == last && self.open_end)
        };
        let words = self.words.iter().enumerate();
        words.filter(move |(position, _)| !is_open(*position)).map(|(_, word)| word.as_str())
    }

    fn starts_at(&self, message: &[u8], start: usize) -> bool {
        if !self.open_start && start > 0 && is_word_byte(message[start - 1]) {
            return false;
        }
        let mut at = start;
        for (position, word) in self.words.iter().enumerate() {
            let end = at + word.len();
            let may_go_on = self.open_end && position + 1 == self.words.len();
            let ends = |rest: &[u8]| !rest.first().is_some_and(|byte| is_word_byte(*byte));
            let found = message.get(at..end);
            if !found.is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
                || !(may_go_on || ends(&message[end..]))
            {
                return false;
            }
            // Whatever stands between two words: `a.b`, `a b` and `a -> b` have the phrase "a b".
            let gap = message[end..].iter().position(|byte| is_word_byte(*byte));
            at = end + gap.unwrap_or(message.len() - end);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(phrase: &Phrase, message: &str) -> bool {
        let found: Vec<String> = words(message).map(str::to_ascii_lowercase).collect();
        let last = phrase.words.len() - 1;
        found.windows(phrase.words.len()).any(|window| {
            window.iter().zip(&phrase.words).enumerate().all(|(position, (found, word))| {
                let start_is_open = position == 0 && phrase.open_start;
                let end_is_open = position == last && phrase.open_end;
                match (start_is_open, end_is_open) {
                    (false, false) => found == word,
                    (true, false) => found.ends_with(word),
                    (false, true) => found.starts_with(word),
                    (true, true) => found.contains(word),
                }
            })
        })
    }

    #[test]
    fn a_phrase_matches_whole_words_in_any_case() {
        let check = |text: &str, message: &str, expected: bool| {
            let phrase = Phrase::of(text).unwrap();
            assert_eq!(phrase.matches(message), expected, "{text:?} in {message:?}");
        };
        check("connection refused", "Connection REFUSED by peer", true);
        check("connection refused", "connection: 'refused'", true);
        check("connection refused", "connection was refused", false);
        check("fuse", "refused", false);
        check("*fuse*", "it was REFUSED", true);
        check("*fused", "refused", true);
        check("*fused", "refusedly", false);
        check("refuse*", "refused", true);
        check("blk_-123", "lost blk_-123.", true);
        check("a", "ab ba a", true);
        check("größe", "die größe", true);
        check("b a", "b b a", true);
    }

    #[test]
    fn only_whole_words_are_closed() {
        let closed = |text: &str| {
            Phrase::of(text).unwrap().closed_words().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(closed("One two THREE"), ["one", "two", "three"]);
        assert_eq!(closed("*one two three*"), ["two"]);
        assert_eq!(closed("*one*"), [""; 0]);
        assert_eq!(closed("SELECT * FROM *"), ["select", "from"]);
        assert_eq!(Phrase::of("*!?*"), None);
    }

    proptest! {
        #[test]
        fn a_phrase_matches_where_a_naive_search_does(
            text in "[*]?[abA_é -]{1,6}[*]?",
            message in "[abA_é. -]{0,12}",
        ) {
            if let Some(phrase) = Phrase::of(&text) {
                prop_assert_eq!(phrase.matches(&message), naive(&phrase, &message));
            }
        }

        #[test]
        fn a_match_has_every_closed_word(text in "[*]?[ab ]{1,6}[*]?", message in "[abB ]{0,12}") {
            if let Some(phrase) = Phrase::of(&text).filter(|phrase| phrase.matches(&message)) {
                let has = |word| words(&message).any(|found| found.eq_ignore_ascii_case(word));
                prop_assert!(phrase.closed_words().all(has));
            }
        }
    }
}
