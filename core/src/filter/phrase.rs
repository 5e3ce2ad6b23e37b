//! Finding a phrase in a message: a scan for the rarest byte of its first word, then a comparison
//! on the spot. For phrases in ASCII nothing is allocated or copied, for a search does this for
//! every log it reads; others are rarer, and looked for in a folded copy.

use memchr::memchr2_iter;

use super::{
    expression::Phrase,
    words::{folded, is_letter, is_separator, words},
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
        let text = text.trim();
        let is_word = |c: char| !is_separator(c);
        let open_start = text.strip_prefix('*').is_some_and(|rest| rest.starts_with(is_word));
        let open_end = text.strip_suffix('*').is_some_and(|rest| rest.ends_with(is_word));
        let words: Vec<String> = words(text).map(folded).collect();
        (!words.is_empty()).then_some(Self { words, open_start, open_end })
    }

    /// Whether all its words are ASCII, so that they are found in ASCII only.
    pub fn is_ascii(&self) -> bool {
        self.words.iter().all(|word| word.is_ascii())
    }

    /// Whether it has digits alone, as whole numbers do.
    pub fn is_number(&self) -> bool {
        self.words.iter().flat_map(|word| word.bytes()).all(|byte| byte.is_ascii_digit())
    }

    /// Whether a message has this phrase.
    pub fn matches(&self, message: &str) -> bool {
        match self.is_ascii() {
            true => self.is_in(message),
            false => !message.is_ascii() && self.is_in(&folded(message)),
        }
    }

    /// Whether a text has it; the text is folded, or the phrase is in ASCII.
    fn is_in(&self, text: &str) -> bool {
        let Some(first) = self.words.first().map(String::as_bytes) else {
            return true;
        };
        let Some((offset, rarest)) =
            first.iter().copied().enumerate().max_by_key(|(_, byte)| RARITY[usize::from(*byte)])
        else {
            return true;
        };
        // Both cases of the one byte at once. Lowering the message first would copy every log.
        memchr2_iter(rarest, rarest.to_ascii_uppercase(), text.as_bytes())
            .filter_map(|at| text.split_at_checked(at.checked_sub(offset)?))
            .any(|(before, rest)| self.begins(before, rest))
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

    /// Whether a text, cut in two, has the phrase at the start of its second part; the text is
    /// folded, or the phrase is in ASCII.
    pub(super) fn begins(&self, before: &str, mut rest: &str) -> bool {
        for (position, word) in self.words.iter().enumerate() {
            // Only letters make one word with the letters beside them.
            let began_earlier =
                position == 0 && before.ends_with(is_letter) && word.starts_with(is_letter);
            if began_earlier && !self.open_start {
                return false;
            }
            let Some((found, after)) = rest.split_at_checked(word.len()) else {
                return false;
            };
            let may_go_on = self.open_end && position + 1 == self.words.len();
            let goes_on = after.starts_with(is_letter) && word.ends_with(is_letter);
            if !found.eq_ignore_ascii_case(word) || (goes_on && !may_go_on) {
                return false;
            }
            // Whatever stands between two words: `a.b`, `a b` and `a -> b` have the phrase "a b".
            rest = after.trim_start_matches(is_separator);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(phrase: &Phrase, message: &str) -> bool {
        let found: Vec<String> = words(message).map(folded).collect();
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
        check("größe", "die GRÖßE", true);
        check("gr", "die größe", false);
        check("nutzer müller", "Nutzer: „MÜLLER“", true);
        check("müll*", "an Müller", true);
        check("müll", "an Müller", false);
        check("超时", "连接超时了", true);
        check("*超时*", "连接超时了", true);
        check("时超", "连接超时了", false);
        check("timeout", "连接timeout了", true);
        check("time", "连接timeout了", false);
        check("time*", "连接timeout了", true);
        check("连接 timeout", "连接timeout了", true);
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
            text in "[*]?[abA_éÉ错ſ -]{1,6}[*]?",
            message in "[abA_éÉ错ſ“. -]{0,12}",
        ) {
            if let Some(phrase) = Phrase::of(&text) {
                prop_assert_eq!(phrase.matches(&message), naive(&phrase, &message));
            }
        }

        #[test]
        fn a_match_has_every_closed_word(text in "[*]?[abé错 ]{1,6}[*]?", message in "[abBÉ错 ]{0,12}") {
            if let Some(phrase) = Phrase::of(&text).filter(|phrase| phrase.matches(&message)) {
                let has = |word| words(&message).any(|found| folded(found) == word);
                prop_assert!(phrase.closed_words().all(has));
            }
        }
    }
}
