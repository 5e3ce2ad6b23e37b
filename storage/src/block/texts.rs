//! A column of texts, each split into a skeleton and its variable words.
//!
//! Messages of one pattern differ in a few words. What they have in common, the skeleton, is kept
//! once; the words that stand in one of its gaps make a column of their own kind. A word is
//! variable if it has a digit, or might be part of a hexadecimal id. Since gaps hold whole words,
//! as filters understand words, a phrase can be looked up among the skeletons first.

use logweir_core::filter::{
    Phrase, PhraseBits, PhraseSet,
    words::{is_letter, is_word_byte},
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    BlockError,
    bytes::{put_bytes, put_varint},
    integers,
    section::{Section, SectionReader},
    words::{self, Word, WordColumn},
};

/// Marks a gap of a skeleton: a byte that UTF-8 never has.
const GAP: u8 = 0xff;
/// Further words of a message are left in its skeleton.
// A message of thousands of numbers (a dump, a vector) would otherwise be thousands of columns of
// one word each, whose headers cost more than the words.
const GAPS_MAX: u32 = 128;
/// Most variable words in a column of texts, so that a damaged one cannot fill the memory.
const WORDS_MAX: usize = 1 << 24;
/// Letters that make a hexadecimal word without digits; shorter ones are left alone.
// `a`, `be`, `add` and `bad` are words of the language. In a gap they would make a column where
// there is nothing to tell apart; `beef` or `deadface` are more often part of an id.
const HEX_LETTERS_MIN: usize = 4;

const NOT_UTF8: BlockError = BlockError::Corrupt("a text is not UTF-8");

const WORD: u8 = 1;
const DIGIT: u8 = 2;
const NOT_HEX: u8 = 4;

/// What each byte is, as a set of the three bits above; 0 between words.
// Looked up for every byte of every message, hence a table; what is a word byte is the filter's to
// say, or a phrase could match across a gap.
const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        table[at] = if !is_word_byte(byte) {
            0
        } else if byte.is_ascii_digit() {
            WORD | DIGIT
        } else if byte.is_ascii_hexdigit() {
            WORD
        } else {
            WORD | NOT_HEX
        };
        at += 1;
    }
    table
};

struct Skeleton {
    start: usize,
    length: usize,
    hash: u64,
    gaps: u32,
    texts: u32,
}

/// Collects a column of texts.
pub(super) struct TextWriter<'a> {
    skeletons: Vec<Skeleton>,
    /// The skeletons' bytes.
    bytes: Vec<u8>,
    /// Open addressing: position in `skeletons` plus one.
    table: Vec<u32>,
    /// The skeleton of each text.
    ids: Vec<u32>,
    /// The first of each text's words.
    first_words: Vec<u32>,
    /// As [`words::write`] takes them.
    words: Vec<i64>,
    others: Vec<&'a [u8]>,
    /// The length of all texts.
    text_bytes: usize,
}

impl Default for TextWriter<'_> {
    fn default() -> Self {
        Self {
            skeletons: Vec::new(),
            bytes: Vec::new(),
            table: vec![0; 64],
            ids: Vec::new(),
            first_words: Vec::new(),
            words: Vec::new(),
            others: Vec::new(),
            text_bytes: 0,
        }
    }
}

impl<'a> TextWriter<'a> {
    /// For this many texts.
    pub(super) fn for_texts(count: usize) -> Self {
        Self {
            ids: Vec::with_capacity(count),
            first_words: Vec::with_capacity(count),
            words: Vec::with_capacity(2 * count),
            ..Self::default()
        }
    }

    /// Adds a text, shows its variable words to `on_word`, and gives the number of its skeleton.
    pub(super) fn push(&mut self, text: &'a str, mut on_word: impl FnMut(Word<'_>)) -> u32 {
        let text = text.as_bytes();
        self.text_bytes += text.len();
        // The skeleton is written where a new one would lie, and taken off again if it is known, so
        // that nothing is allocated for a message of a known pattern.
        let skeleton_start = self.bytes.len();
        self.first_words.push(self.words.len() as u32);
        let (mut gaps, mut copied, mut at) = (0, 0, 0);
        while at < text.len() {
            let start = at + not_word_length(&text[at..]);
            let (length, class) = word_length(&text[start..]);
            at = start + length;
            let may_be_hex = class & NOT_HEX == 0 && length >= HEX_LETTERS_MIN;
            if (class & DIGIT != 0 || may_be_hex) && gaps < GAPS_MAX {
                self.bytes.extend_from_slice(&text[copied..start]);
                self.bytes.push(GAP);
                let word = Word::of(&text[start..at]);
                self.push_word(word);
                on_word(word);
                copied = at;
                gaps += 1;
            }
        }
        self.bytes.extend_from_slice(&text[copied..]);
        let id = self.skeleton_id(skeleton_start, gaps);
        self.skeletons[id as usize].texts += 1;
        self.ids.push(id);
        id
    }

    /// Like [`Self::push`], for a text that is split already. `known` remembers the numbers of the
    /// skeletons of `texts`.
    pub(super) fn push_split(
        &mut self,
        texts: &'a Texts,
        at: usize,
        known: &mut KnownSkeletons,
        mut on_word: impl FnMut(Word<'_>),
    ) -> u32 {
        let number = texts.ids[at] as usize;
        let skeleton = &texts.skeletons[number];
        known.0.resize(texts.skeletons.len(), None);
        let id = *known.0[number].get_or_insert_with(|| self.add_skeleton(skeleton));
        let found = &mut self.skeletons[id as usize];
        found.texts += 1;
        self.text_bytes += found.length - found.gaps as usize;
        self.first_words.push(self.words.len() as u32);
        for column in &skeleton.columns {
            let word = column.get(texts.ranks[at] as usize);
            self.text_bytes += word.length();
            self.push_word(word);
            on_word(word);
        }
        self.ids.push(id);
        id
    }

    #[inline]
    fn push_word(&mut self, word: Word<'a>) {
        self.words.push(match word {
            Word::Digits(index) => index,
            Word::Other(word) => {
                self.others.push(word);
                -(self.others.len() as i64)
            }
        });
    }

    fn add_skeleton(&mut self, skeleton: &ReadSkeleton) -> u32 {
        let start = self.bytes.len();
        for (at, piece) in skeleton.pieces.iter().enumerate() {
            self.bytes.extend((at > 0).then_some(GAP));
            self.bytes.extend_from_slice(piece);
        }
        self.skeleton_id(start, skeleton.columns.len() as u32)
    }

    /// The id of the skeleton that was appended to `bytes`; a known one is taken off again.
    fn skeleton_id(&mut self, start: usize, gaps: u32) -> u32 {
        let (known, new) = self.bytes.split_at(start);
        let hash = xxh3_64(new);
        let mask = self.table.len() - 1;
        let mut slot = hash as usize & mask;
        while let Some(id) = self.table[slot].checked_sub(1) {
            let other = &self.skeletons[id as usize];
            if other.hash == hash && &known[other.start..other.start + other.length] == new {
                self.bytes.truncate(start);
                return id;
            }
            slot = (slot + 1) & mask;
        }
        let length = new.len();
        self.skeletons.push(Skeleton { start, length, hash, gaps, texts: 0 });
        self.table[slot] = self.skeletons.len() as u32;
        if self.skeletons.len() * 2 > self.table.len() {
            self.grow();
        }
        self.skeletons.len() as u32 - 1
    }

    fn grow(&mut self) {
        let mask = self.table.len() * 4 - 1;
        self.table.clear();
        self.table.resize(mask + 1, 0);
        for (id, skeleton) in (1..).zip(&self.skeletons) {
            let mut slot = skeleton.hash as usize & mask;
            while self.table[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.table[slot] = id;
        }
    }

    /// How many texts there are.
    pub(super) const fn text_count(&self) -> usize {
        self.ids.len()
    }

    /// The length of all texts, bytes.
    pub(super) const fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// The words that stand in skeletons.
    pub(super) fn fixed_words(&self) -> impl Iterator<Item = Word<'_>> {
        let of = |skeleton: &Skeleton| {
            let bytes = &self.bytes[skeleton.start..skeleton.start + skeleton.length];
            bytes.split(|byte| *byte == GAP || !is_word_byte(*byte))
        };
        self.skeletons.iter().flat_map(of).filter(|word| !word.is_empty()).map(Word::of)
    }

    /// Appends the ids.
    pub(super) fn write_ids(&self, out: &mut Section) {
        let ids: Vec<i64> = self.ids.iter().map(|id| i64::from(*id)).collect();
        integers::write(&ids, out);
    }

    /// Appends the skeletons and the words.
    pub(super) fn write_texts(&self, out: &mut Section) -> Result<(), BlockError> {
        if self.words.len() > WORDS_MAX {
            return Err(BlockError::TooLarge("more than 16 million variable words"));
        }
        put_varint(&mut out.symbols, self.skeletons.len() as u64);
        for skeleton in &self.skeletons {
            put_bytes(&mut out.text, &self.bytes[skeleton.start..skeleton.start + skeleton.length]);
        }
        let mut column = Vec::new();
        let by_skeleton = self.first_words_by_skeleton();
        let mut rest = by_skeleton.as_slice();
        // A column for each gap of each skeleton: what stands in one place is of one kind and
        // compresses as such, which words in the order of the messages would not.
        for skeleton in &self.skeletons {
            let (firsts, others) = rest.split_at(skeleton.texts as usize);
            rest = others;
            for gap in 0..skeleton.gaps {
                column.clear();
                column.extend(firsts.iter().map(|first| self.words[(first + gap) as usize]));
                words::write(&column, &self.others, out);
            }
        }
        Ok(())
    }

    /// The first word of each text, in order of skeletons.
    fn first_words_by_skeleton(&self) -> Vec<u32> {
        // A counting sort: the numbers of skeletons are small and dense, and their order is kept.
        let mut next: Vec<u32> = Vec::with_capacity(self.skeletons.len());
        let mut total = 0;
        for skeleton in &self.skeletons {
            next.push(total);
            total += skeleton.texts;
        }
        let mut sorted = vec![0; self.ids.len()];
        for (id, first) in self.ids.iter().zip(&self.first_words) {
            let place = &mut next[*id as usize];
            sorted[*place as usize] = *first;
            *place += 1;
        }
        sorted
    }
}

#[inline]
fn not_word_length(text: &[u8]) -> usize {
    text.iter().take_while(|byte| CLASS[usize::from(**byte)] == 0).count()
}

/// The length of the word that the text begins with, and the classes of all its bytes.
#[inline]
fn word_length(text: &[u8]) -> (usize, u8) {
    let mut classes = 0;
    for (length, byte) in text.iter().enumerate() {
        let class = CLASS[usize::from(*byte)];
        if class == 0 {
            return (length, classes);
        }
        classes |= class;
    }
    (text.len(), classes)
}

/// A column of texts read back.
#[derive(Debug)]
pub(super) struct Texts {
    skeletons: Vec<ReadSkeleton>,
    /// The skeleton of each text.
    ids: Vec<u32>,
    /// Which of the texts of its skeleton it is.
    ranks: Vec<u32>,
}

#[derive(Debug)]
struct ReadSkeleton {
    /// What stands before, between and after its gaps.
    pieces: Vec<Box<[u8]>>,
    columns: Vec<WordColumn>,
    letters: Letters,
}

/// What the texts of a skeleton have beyond ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letters {
    /// Nothing.
    Ascii,
    /// Letters alone, so that every run of word bytes is a word.
    Words,
    /// Also what cuts such a run into several words.
    Borders,
}

/// The numbers that the skeletons of a column got when they were added to another.
#[derive(Debug, Default)]
pub(super) struct KnownSkeletons(Vec<Option<u32>>);

/// Whether texts of a skeleton have a phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PhraseMatch {
    /// None has.
    Never,
    /// It depends on their words.
    Perhaps,
    /// All have.
    Always,
}

impl Texts {
    /// Reads what [`TextWriter::write_texts`] wrote, for texts with these skeletons.
    pub(super) fn read(ids: Vec<u32>, from: &mut SectionReader<'_>) -> Result<Self, BlockError> {
        let count = from.symbols.varint()?;
        if count > ids.len() as u64 {
            return Err(BlockError::Corrupt("more skeletons than texts"));
        }
        let mut counts = vec![0_u32; count as usize];
        let mut ranks = Vec::with_capacity(ids.len());
        for id in &ids {
            let of_skeleton = counts
                .get_mut(*id as usize)
                .ok_or(BlockError::Corrupt("a text has an unknown skeleton"))?;
            ranks.push(*of_skeleton);
            *of_skeleton += 1;
        }
        let mut skeletons = Vec::with_capacity(counts.len());
        for _ in &counts {
            let pieces: Vec<Box<[u8]>> =
                from.text.bytes()?.split(|byte| *byte == GAP).map(Box::from).collect();
            skeletons.push(ReadSkeleton { pieces, columns: Vec::new(), letters: Letters::Ascii });
        }
        // Counted before the columns are read: one small skeleton with many gaps, said of many
        // texts, could ask for more memory than there is.
        let gaps = |skeleton: &ReadSkeleton| skeleton.pieces.len() - 1;
        let words: usize =
            skeletons.iter().zip(&counts).map(|(s, texts)| gaps(s) * *texts as usize).sum();
        if words > WORDS_MAX || skeletons.iter().any(|s| gaps(s) > GAPS_MAX as usize) {
            return Err(BlockError::Corrupt("too many words"));
        }
        for (skeleton, texts) in skeletons.iter_mut().zip(counts) {
            for _ in 1..skeleton.pieces.len() {
                skeleton.columns.push(words::read(texts as usize, from)?);
            }
            skeleton.letters = skeleton.letters();
        }
        Ok(Self { skeletons, ids, ranks })
    }

    /// The skeleton of a text.
    pub(super) fn skeleton(&self, text: usize) -> usize {
        self.ids[text] as usize
    }

    /// Appends a text's bytes.
    pub(super) fn append(&self, text: usize, out: &mut Vec<u8>) {
        let skeleton = &self.skeletons[self.ids[text] as usize];
        let rank = self.ranks[text] as usize;
        let mut pieces = skeleton.pieces.iter();
        out.extend(pieces.next().into_iter().flatten());
        for (column, piece) in skeleton.columns.iter().zip(pieces) {
            column.append(rank, out);
            out.extend_from_slice(piece);
        }
    }

    /// A text.
    pub(super) fn get(&self, text: usize) -> Result<String, BlockError> {
        let mut bytes = Vec::with_capacity(128);
        self.append(text, &mut bytes);
        String::from_utf8(bytes).map_err(|_| NOT_UTF8)
    }

    /// Those phrases of a set that a text has; `scratch` is overwritten.
    pub(super) fn phrases(
        &self,
        text: usize,
        set: &PhraseSet,
        scratch: &mut Vec<u8>,
    ) -> Result<PhraseBits, BlockError> {
        scratch.clear();
        self.append(text, scratch);
        std::str::from_utf8(scratch).map(|text| set.in_text(text)).map_err(|_| NOT_UTF8)
    }

    /// Whether a text, of which the match is [`PhraseMatch::Perhaps`], has a phrase; `scratch` is
    /// overwritten.
    pub(super) fn has_phrase(
        &self,
        text: usize,
        phrase: &Phrase,
        scratch: &mut Vec<u8>,
    ) -> Result<bool, BlockError> {
        scratch.clear();
        let skeleton = &self.skeletons[self.ids[text] as usize];
        let Some(word) = skeleton.variable_word(phrase) else {
            self.append(text, scratch);
            let message = std::str::from_utf8(scratch);
            return message.map(|message| phrase.matches(message)).map_err(|_| NOT_UTF8);
        };
        let rank = self.ranks[text] as usize;
        Ok(skeleton.columns.iter().any(|column| {
            scratch.clear();
            column.append(rank, scratch);
            fits(scratch, word.as_bytes(), phrase.open_start, phrase.open_end)
        }))
    }

    /// How each skeleton matches.
    pub(super) fn phrase_matches(&self, phrase: &Phrase) -> Vec<PhraseMatch> {
        self.skeletons.iter().map(|skeleton| skeleton.phrase_match(phrase)).collect()
    }
}

/// A word of a skeleton.
enum Part<'a> {
    Fixed(&'a [u8]),
    Variable(&'a WordColumn),
}

impl ReadSkeleton {
    fn parts(&self) -> Vec<Part<'_>> {
        let mut columns = self.columns.iter();
        let mut parts = Vec::new();
        for piece in &self.pieces {
            let words = piece.split(|byte| !is_word_byte(*byte)).filter(|word| !word.is_empty());
            parts.extend(words.map(Part::Fixed));
            parts.extend(columns.next().map(Part::Variable));
        }
        parts
    }

    fn letters(&self) -> Letters {
        let pieces = self.pieces.iter().map(|piece| &**piece);
        let texts = pieces.chain(self.columns.iter().map(WordColumn::text));
        let mut letters = Letters::Ascii;
        for text in texts.filter(|text| !text.is_ascii()) {
            letters = Letters::Words;
            let is_border = |c: char| !c.is_ascii() && !is_letter(c);
            if text.utf8_chunks().any(|chunk| chunk.valid().contains(is_border)) {
                return Letters::Borders;
            }
        }
        letters
    }

    /// The only word of a phrase, if it can be but among the variable ones.
    fn variable_word<'p>(&self, phrase: &'p Phrase) -> Option<&'p str> {
        let is_whole = self.letters != Letters::Borders && phrase.is_ascii();
        match phrase.words.as_slice() {
            // Among the fixed ones it is not, or the match would be another.
            [word] if is_whole => Some(word),
            _ => None,
        }
    }

    fn phrase_match(&self, phrase: &Phrase) -> PhraseMatch {
        match (phrase.is_ascii(), self.letters) {
            (false, Letters::Ascii) => PhraseMatch::Never,
            // Its words cannot be compared byte by byte, or not with whole runs.
            (false, _) | (true, Letters::Borders) => PhraseMatch::Perhaps,
            (true, Letters::Ascii | Letters::Words) => self.match_words(phrase),
        }
    }

    fn match_words(&self, phrase: &Phrase) -> PhraseMatch {
        let Some(last) = phrase.words.len().checked_sub(1) else {
            return PhraseMatch::Always;
        };
        // Every place where the phrase could begin. One that surely matches settles it for all
        // messages of the skeleton; one that may keeps the search going.
        let parts = self.parts();
        let mut found = PhraseMatch::Never;
        for window in parts.windows(phrase.words.len()) {
            let mut here = PhraseMatch::Always;
            for (position, (part, word)) in window.iter().zip(&phrase.words).enumerate() {
                let open_start = phrase.open_start && position == 0;
                let open_end = phrase.open_end && position == last;
                here = weaker(here, part.phrase_match(word.as_bytes(), open_start, open_end));
                if here == PhraseMatch::Never {
                    break;
                }
            }
            match here {
                PhraseMatch::Always => return PhraseMatch::Always,
                PhraseMatch::Perhaps => found = PhraseMatch::Perhaps,
                PhraseMatch::Never => {}
            }
        }
        found
    }
}

/// The less certain of two answers: a phrase matches no better than its worst word.
// Compares the order in which the variants are declared.
fn weaker(one: PhraseMatch, other: PhraseMatch) -> PhraseMatch {
    if (one as u8) < other as u8 { one } else { other }
}

impl Part<'_> {
    fn phrase_match(&self, word: &[u8], open_start: bool, open_end: bool) -> PhraseMatch {
        match self {
            Self::Fixed(found) if fits(found, word, open_start, open_end) => PhraseMatch::Always,
            Self::Variable(column) if open_start || open_end => {
                if column.may_have_part(word) {
                    PhraseMatch::Perhaps
                } else {
                    PhraseMatch::Never
                }
            }
            Self::Variable(column) if column.has_word(word) => PhraseMatch::Perhaps,
            Self::Fixed(_) | Self::Variable(_) => PhraseMatch::Never,
        }
    }
}

/// Whether a whole word of a text is what a phrase asks for.
fn fits(found: &[u8], word: &[u8], open_start: bool, open_end: bool) -> bool {
    match (open_start, open_end) {
        (false, false) => found.eq_ignore_ascii_case(word),
        (true, false) => ends_with(found, word),
        (false, true) => {
            found.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
        }
        (true, true) => {
            found.windows(word.len().max(1)).any(|part| part.eq_ignore_ascii_case(word))
        }
    }
}

fn ends_with(found: &[u8], word: &[u8]) -> bool {
    let start = found.len().checked_sub(word.len());
    start.is_some_and(|start| found[start..].eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::section::tests::round_trip;

    fn check(texts: &[String], look: impl FnOnce(&Texts)) {
        let mut writer = TextWriter::default();
        for text in texts {
            writer.push(text, |_| {});
        }
        let mut section = Section::default();
        writer.write_texts(&mut section).unwrap();
        round_trip(&section, |reader| {
            let read = Texts::read(writer.ids.clone(), reader).unwrap();
            for (at, text) in texts.iter().enumerate() {
                assert_eq!(read.get(at).as_ref(), Ok(text));
            }
            check_split(&read, &section);
            look(&read);
        });
    }

    /// A column made of split texts is the same as one made of whole texts.
    fn check_split(texts: &Texts, expected: &Section) {
        let (mut writer, mut known) = (TextWriter::default(), KnownSkeletons::default());
        for at in 0..texts.ids.len() {
            writer.push_split(texts, at, &mut known, |_| {});
        }
        let length = |at| texts.get(at).unwrap().len();
        assert_eq!(writer.text_bytes(), (0..texts.ids.len()).map(length).sum::<usize>());
        let mut section = Section::default();
        writer.write_texts(&mut section).unwrap();
        assert_eq!(section.text, expected.text);
        assert_eq!(section.symbols, expected.symbols);
        assert_eq!(section.bits, expected.bits);
    }

    #[test]
    fn texts_of_one_pattern_share_a_skeleton() {
        let texts: Vec<String> = (0..50)
            .map(|i| format!("User {i} logged in from 10.0.0.{i} as dead-{i:04x}-beef in {i}ms"))
            .collect();
        check(&texts, |read| {
            assert_eq!(read.skeletons.len(), 1);
            assert_eq!(read.skeletons[0].columns.len(), 9);
        });
    }

    #[test]
    fn more_words_than_gaps_stay_in_the_skeleton() {
        check(&["1 ".repeat(1_000), "1 ".repeat(1_000), "\0 1".into(), String::new()], |read| {
            assert_eq!(read.skeletons.len(), 3);
        });
    }

    #[test]
    fn skeletons_judge_phrases() {
        let texts: Vec<String> =
            (0..20).map(|i| format!("Connection refused by 10.0.0.{i}: err{i}")).collect();
        let phrase = |text: &str, open_start, open_end| Phrase {
            words: text.split(' ').map(str::to_owned).collect(),
            open_start,
            open_end,
        };
        check(&texts, |read| {
            let check = |phrase, expected| assert_eq!(read.phrase_matches(&phrase), [expected]);
            check(phrase("connection refused", false, false), PhraseMatch::Always);
            check(phrase("nection refu", true, true), PhraseMatch::Always);
            check(phrase("refused connection", false, false), PhraseMatch::Never);
            check(phrase("by 10", false, false), PhraseMatch::Perhaps);
            check(phrase("by 11", false, false), PhraseMatch::Never);
            check(phrase("fuse", true, true), PhraseMatch::Always);
            check(phrase("use", false, true), PhraseMatch::Never);
            check(phrase("er", false, true), PhraseMatch::Perhaps);
            check(phrase("err7", false, false), PhraseMatch::Perhaps);
            check(phrase("err77", false, false), PhraseMatch::Never);
        });
    }

    proptest! {
        #[test]
        fn any_texts_come_back(texts in prop::collection::vec(
            prop_oneof![any::<String>(), "[a-f0-9 .-]{0,40}", "(user|GET) [0-9]{1,3}( [0-9a-z]{1,4})?"],
            0..40,
        )) {
            check(&texts, |_| {});
        }
    }
}
