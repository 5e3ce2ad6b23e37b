//! The filter over a block's words, templates and traces: says of most blocks without a match that
//! they have none.
//!
//! A filter ends with a byte that says which words are in it. One without, of an earlier version,
//! knew only what stands between bytes of ASCII, and is not asked for words.
//!
//! A Bloom filter in which all bits of one entry lie in one block of 64 bytes. It is sized by the
//! distinct entries: about 3 % of the words it does not have seem to be there.

use logweir_core::{
    filter::{
        Expression, Filter, Term,
        words::{folded, words},
    },
    identity::TemplateId,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::words::Word;

/// Bits of the filter for each entry, and how many of them an entry sets; a line is a cache line.
// 8 bits and 6 set give 3 % of false hits with whole lines (2 % if bits could lie anywhere, but
// then each look would miss the cache six times). A false hit costs one block opened in vain.
const BITS_PER_ENTRY: usize = 8;
const BITS_SET: u32 = 6;
const LINE_BYTES: usize = 64;
/// The last byte of a filter: it has the words of `logweir_core::filter::words`, folded.
const FOLDED_WORDS: u8 = 1;
/// Seeds that keep traces and templates apart from words.
const TRACE_SEED: u64 = 1;
const TEMPLATE_SEED: u64 = 2;

/// Collects what a block has.
#[derive(Debug, Default)]
pub(super) struct FilterWriter {
    hashes: Vec<u64>,
    lower: Vec<u8>,
    seen: Vec<u64>,
}

impl FilterWriter {
    pub(super) fn clear(&mut self) {
        self.hashes.clear();
    }

    #[inline]
    pub(super) fn add_word(&mut self, word: Word<'_>) {
        match word {
            Word::Digits(index) => self.hashes.push(digits_hash(index)),
            Word::Other(word) => self.add_other_word(word),
        }
    }

    fn add_other_word(&mut self, word: &[u8]) {
        // Searches ignore case, so the filter knows words in lower case. Most are already, and are
        // hashed where they lie.
        if !word.is_ascii() {
            self.add_words_within(word);
        } else if word.iter().any(u8::is_ascii_uppercase) {
            self.lower.clear();
            self.lower.extend(word.iter().map(u8::to_ascii_lowercase));
            self.hashes.push(xxh3_64(&self.lower));
        } else {
            self.hashes.push(xxh3_64(word));
        }
    }

    /// What lies between bytes of ASCII may be several words.
    fn add_words_within(&mut self, run: &[u8]) {
        let text = String::from_utf8_lossy(run);
        self.hashes.extend(words(&text).map(|word| word_hash(folded(word).as_bytes())));
    }

    pub(super) fn add_trace(&mut self, trace_id: &[u8; 16]) {
        self.hashes.push(xxh3_64_with_seed(trace_id, TRACE_SEED));
    }

    pub(super) fn add_template(&mut self, template_id: TemplateId) {
        self.hashes.push(template_hash(template_id));
    }

    /// The filter.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let lines = (self.distinct() * BITS_PER_ENTRY).div_ceil(LINE_BYTES * 8).max(1);
        let mut filter = vec![0; lines * LINE_BYTES];
        for hash in &self.hashes {
            let (line, bits) = places(*hash, lines);
            let line = &mut filter[line * LINE_BYTES..][..LINE_BYTES];
            bits.for_each(|bit| line[bit / 8] |= 1 << (bit % 8));
        }
        filter.push(FOLDED_WORDS);
        filter
    }

    /// About how many different hashes there are: from how many bits of a map stay unset.
    fn distinct(&mut self) -> usize {
        // Linear counting, with four bits or more for each hash: exact to a few percent. A set of
        // the hashes would be exact, and would cost more than the rest of the filter.
        let words = (self.hashes.len() / 16).next_power_of_two();
        self.seen.clear();
        self.seen.resize(words, 0);
        for hash in &self.hashes {
            self.seen[(hash >> 6) as usize & (words - 1)] |= 1 << (hash & 63);
        }
        let unset: u32 = self.seen.iter().map(|word| word.count_zeros()).sum();
        let all = (words * 64) as f64;
        (all * (all / f64::from(unset.max(1))).ln()).ceil() as usize
    }
}

/// Strings of digits are known by number, and need not be written out to be added.
const fn digits_hash(index: i64) -> u64 {
    let mixed = (index as u64 ^ 0x2545_f491_4f6c_dd1d).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 32).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// The hash of a folded word.
fn word_hash(word: &[u8]) -> u64 {
    match Word::of(word) {
        Word::Digits(index) => digits_hash(index),
        Word::Other(word) => xxh3_64(word),
    }
}

fn template_hash(template_id: TemplateId) -> u64 {
    xxh3_64_with_seed(&template_id.0.to_le_bytes(), TEMPLATE_SEED)
}

/// The line of an entry, and its bits in the line.
#[inline]
fn places(hash: u64, lines: usize) -> (usize, impl Iterator<Item = usize>) {
    // The upper half scaled to the number of lines: even for any number, without a division. The
    // bits are taken from a product, because bits of the same half would follow from the line.
    let line = (((hash >> 32) * lines as u64) >> 32) as usize;
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (line, (1..=BITS_SET).map(move |at| (mixed >> (64 - 9 * at)) as usize & 511))
}

fn has(filter: &[u8], hash: u64) -> bool {
    let lines = filter.len() / LINE_BYTES;
    if lines == 0 {
        return true;
    }
    let (line, mut bits) = places(hash, lines);
    let line = &filter[line * LINE_BYTES..][..LINE_BYTES];
    bits.all(|bit| line[bit / 8] & 1 << (bit % 8) != 0)
}

fn knows_words(filter: &[u8]) -> bool {
    !filter.len().is_multiple_of(LINE_BYTES) && filter.last() == Some(&FOLDED_WORDS)
}

/// Whether a block with this word filter may hold a match; `true` if in doubt.
pub fn may_match(word_filter: &[u8], filter: &Filter) -> bool {
    may_hold(word_filter, &filter.expression)
}

fn may_hold(word_filter: &[u8], expression: &Expression) -> bool {
    match expression {
        Expression::And(all) => all.iter().all(|one| may_hold(word_filter, one)),
        Expression::Or(any) => any.iter().any(|one| may_hold(word_filter, one)),
        // That a word is in the block says nothing of the logs in it that lack the word.
        Expression::Not(_) => true,
        Expression::Term(Term::Words(phrase)) => {
            !knows_words(word_filter)
            // A word that is open at an end may be part of a longer one, of which the filter knows
            // only the whole.
                || phrase.closed_words().all(|word| has(word_filter, word_hash(word.as_bytes())))
        }
        Expression::Term(Term::Template(id)) => has(word_filter, template_hash(*id)),
        Expression::Term(Term::Trace(id)) => has(word_filter, xxh3_64_with_seed(id, TRACE_SEED)),
        Expression::Term(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logweir_core::timestamp::Timestamp;

    #[test]
    fn what_is_there_is_found_and_little_else() {
        let mut writer = FilterWriter::default();
        let word = |i: usize| if i.is_multiple_of(2) { format!("Word{i}") } else { i.to_string() };
        for i in (0..10_000).chain(0..10_000) {
            writer.add_word(Word::of(word(i).as_bytes()));
        }
        let filter = writer.finish();
        assert!((9_500..10_700).contains(&filter.len()), "{}", filter.len());
        let found = |i: usize| has(&filter, word_hash(word(i).to_lowercase().as_bytes()));
        assert!((0..10_000).all(found));
        let wrong = (10_000..110_000).filter(|i| found(*i)).count();
        assert!(wrong < 4_000, "{wrong} of 100,000");
    }

    #[test]
    fn an_expression_is_ruled_out_only_by_what_it_needs() {
        let mut writer = FilterWriter::default();
        ["connection", "refused"]
            .iter()
            .for_each(|word| writer.add_word(Word::of(word.as_bytes())));
        writer.add_template(TemplateId(7));
        writer.add_trace(&[7; 16]);
        let word_filter = writer.finish();
        let trace = |byte: &str| format!("trace:{}", byte.repeat(16));
        for (text, expected) in [
            ("", true),
            ("Connection REFUSED", true),
            ("connection nowhere", false),
            ("connection or nowhere", true),
            ("-nowhere", true),
            ("*nowhere*", true),
            ("template:7", true),
            ("template:8", false),
            (&trace("07"), true),
            (&trace("08"), false),
            ("level:error", true),
        ] {
            let filter = Filter::parse(text, Timestamp::EPOCH).unwrap();
            assert_eq!(may_match(&word_filter, &filter), expected, "{text}");
        }
        assert!(
            may_match(&[], &Filter::parse("nowhere", Timestamp::EPOCH).unwrap()),
            "no filter, no verdict"
        );
    }
}
