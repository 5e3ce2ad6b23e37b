//! Finding the rows of a block that have a phrase: each phrase by itself while that is little work,
//! and from then on all phrases of the filter by one look at each row.

use std::cell::{Cell, OnceCell, RefCell};

use logweir_core::filter::{Phrase, PhraseBits, PhraseSet};

use super::{
    BlockError,
    open::{Block, Origin},
    texts::PhraseMatch,
};

/// Looks at a text for one phrase alone, for each row of the block.
// One look for all phrases takes about as long as these. So a search takes at most twice what the
// better of the two ways would have taken, and one whose first words leave few rows, or that has few
// words, never comes to look for all.
const LOOKS_PER_ROW_MAX: usize = 4;
/// Marks a row that was looked at; no phrase has this bit.
const IS_KNOWN: PhraseBits = 1 << (PhraseBits::BITS - 1);

/// Looks for the phrases of one filter.
pub(super) struct PhraseScan<'b, 'a> {
    block: &'b Block<'a>,
    set: Option<&'b PhraseSet>,
    /// At how many texts it has looked for one phrase alone.
    looks: Cell<usize>,
    in_messages: FoundInRows,
    beside_messages: FoundInRows,
    in_names: OnceCell<FoundInNames>,
}

/// The phrases that rows have; without [`IS_KNOWN`] where that was not asked yet.
#[derive(Default)]
struct FoundInRows(RefCell<Vec<PhraseBits>>);

impl FoundInRows {
    fn get(
        &self,
        row: usize,
        rows: usize,
        look: impl FnOnce() -> Result<PhraseBits, BlockError>,
    ) -> Result<PhraseBits, BlockError> {
        let mut found = self.0.borrow_mut();
        found.resize(rows, 0);
        if found[row] & IS_KNOWN == 0 {
            found[row] = look()? | IS_KNOWN;
        }
        Ok(found[row])
    }
}

/// The phrases that what rows share has.
struct FoundInNames {
    of_origins: Vec<PhraseBits>,
    of_loggers: Vec<PhraseBits>,
}

impl<'b, 'a> PhraseScan<'b, 'a> {
    pub(super) fn new(block: &'b Block<'a>, set: Option<&'b PhraseSet>) -> Self {
        Self {
            block,
            set,
            looks: Cell::new(0),
            in_messages: FoundInRows::default(),
            beside_messages: FoundInRows::default(),
            in_names: OnceCell::new(),
        }
    }

    /// Those of the rows whose message has a phrase.
    pub(super) fn in_messages(
        &self,
        phrase: &Phrase,
        rows: Vec<u32>,
    ) -> Result<Vec<u32>, BlockError> {
        let Some((set, bit)) = self.together(phrase) else {
            return self.alone_in_messages(phrase, rows);
        };
        let (messages, mut scratch) = (self.block.messages()?, Vec::new());
        let count = self.block.row_count();
        filtered(rows, |row| {
            let look = || messages.phrases(row, set, &mut scratch);
            Ok(self.in_messages.get(row, count, look)? & bit != 0)
        })
    }

    /// Those of the rows that have a phrase in their message, in another text or in the value of an
    /// attribute.
    pub(super) fn anywhere(&self, phrase: &Phrase, rows: Vec<u32>) -> Result<Vec<u32>, BlockError> {
        let mut matching = self.in_messages(phrase, rows.clone())?;
        let rest = without(rows, &matching);
        matching.extend(self.beside_messages(phrase, rest)?);
        matching.sort_unstable();
        Ok(matching)
    }

    /// The set with a phrase's bit in it, once looking for all phrases together is worth it.
    fn together(&self, phrase: &Phrase) -> Option<(&'b PhraseSet, PhraseBits)> {
        let set = self.set?;
        let is_worth_it = self.looks.get() >= LOOKS_PER_ROW_MAX * self.block.row_count();
        is_worth_it.then_some(set).zip(set.bit(phrase))
    }

    fn has_looked_at(&self, texts: usize) {
        self.looks.set(self.looks.get() + texts);
    }

    fn alone_in_messages(&self, phrase: &Phrase, rows: Vec<u32>) -> Result<Vec<u32>, BlockError> {
        let skeletons = &self.block.keys()?.skeletons;
        let messages = self.block.messages()?;
        // Each skeleton is asked once for all of its messages. Only where the answer depends on
        // variable words is a message put together.
        let phrase_matches = messages.phrase_matches(phrase);
        self.has_looked_at(phrase_matches.len());
        let mut scratch = Vec::new();
        filtered(rows, |row| match phrase_matches[skeletons[row] as usize] {
            PhraseMatch::Never => Ok(false),
            PhraseMatch::Always => Ok(true),
            PhraseMatch::Perhaps => {
                self.has_looked_at(1);
                messages.has_phrase(row, phrase, &mut scratch)
            }
        })
    }

    fn beside_messages(&self, phrase: &Phrase, rows: Vec<u32>) -> Result<Vec<u32>, BlockError> {
        if rows.is_empty() {
            return Ok(rows);
        }
        let Some((set, bit)) = self.together(phrase) else {
            return self.alone_beside_messages(phrase, rows);
        };
        let (attributes, mut scratch) = (self.block.attributes()?, Vec::new());
        let count = self.block.row_count();
        filtered(rows, |row| {
            let look =
                || Ok(self.names_of(row, set)? | attributes.phrases(row, set, &mut scratch)?);
            Ok(self.beside_messages.get(row, count, look)? & bit != 0)
        })
    }

    fn alone_beside_messages(
        &self,
        phrase: &Phrase,
        rows: Vec<u32>,
    ) -> Result<Vec<u32>, BlockError> {
        let (keys, details) = (self.block.keys()?, self.block.details()?);
        // Rows share a few of these, so that each is asked once.
        let of_origin = |origin: &Origin| origin.texts().iter().any(|text| phrase.matches(text));
        let origins: Vec<bool> = keys.origins.iter().map(of_origin).collect();
        let loggers: Vec<bool> =
            details.loggers.iter().map(|logger| phrase.matches(logger)).collect();
        let mut in_values = self.block.attributes()?.phrase_search(phrase);
        self.has_looked_at(origins.len() + loggers.len() + in_values.skeleton_count() + rows.len());
        filtered(rows, |row| {
            Ok(origins[keys.origin_of_rows[row] as usize]
                || loggers[details.logger_of_rows[row] as usize]
                || in_values.has(row)?)
        })
    }

    /// The phrases in what a row has in common with others.
    fn names_of(&self, row: usize, set: &PhraseSet) -> Result<PhraseBits, BlockError> {
        let (keys, details) = (self.block.keys()?, self.block.details()?);
        let in_names = self.in_names.get_or_init(|| {
            let of_origin = |origin: &Origin| {
                origin.texts().iter().fold(0, |found, text| found | set.in_text(text))
            };
            FoundInNames {
                of_origins: keys.origins.iter().map(of_origin).collect(),
                of_loggers: details.loggers.iter().map(|logger| set.in_text(logger)).collect(),
            }
        });
        let of_origin = in_names.of_origins[keys.origin_of_rows[row] as usize];
        Ok(of_origin | in_names.of_loggers[details.logger_of_rows[row] as usize])
    }
}

/// Those of the rows of which something holds.
pub(super) fn filtered(
    rows: Vec<u32>,
    mut holds: impl FnMut(usize) -> Result<bool, BlockError>,
) -> Result<Vec<u32>, BlockError> {
    rows.into_iter()
        .filter_map(|row| holds(row as usize).map(|holds| holds.then_some(row)).transpose())
        .collect()
}

/// The rows that are not among `found`; both ascend.
pub(super) fn without(mut rows: Vec<u32>, found: &[u32]) -> Vec<u32> {
    let mut found = found.iter().peekable();
    rows.retain(|row| found.next_if_eq(&row).is_none());
    rows
}

#[cfg(test)]
mod tests {
    use logweir_core::{
        filter::{CompiledFilter, Expression, Filter, Term},
        timestamp::Timestamp,
    };

    use super::*;
    use crate::block::{Effort, Encoder, Row, tests::plain_log};

    /// How many looks at a text for one phrase alone a search for all of them takes, for each row.
    fn looks_per_row(terms: &[String]) -> usize {
        const ROWS: usize = 500;
        let text = |row: usize| format!("user {row} has {:08x}", row.wrapping_mul(0x9e37_79b9));
        let logs: Vec<_> = (0..ROWS).map(|row| plain_log(&text(row))).collect();
        let rows: Vec<Row<'_>> = logs.iter().map(Row::from).collect();
        let encoded = Encoder::new().encode(&rows, Effort::Fresh).unwrap();
        let block = Block::open(&encoded.body).unwrap();
        let filter = Filter::parse(&terms.join(" or "), Timestamp::EPOCH).unwrap();
        let filter = CompiledFilter::from(filter);
        let scan = PhraseScan::new(&block, filter.phrases());
        let all: Vec<u32> = (0..ROWS as u32).collect();
        for term in terms {
            let phrase = Filter::parse(term, Timestamp::EPOCH).unwrap();
            let Expression::Term(Term::Words(phrase) | Term::Anywhere(phrase)) = phrase.expression
            else {
                panic!("{term} is a phrase")
            };
            scan.anywhere(&phrase, all.clone()).unwrap();
        }
        scan.looks.get() / ROWS
    }

    #[test]
    fn many_phrases_take_few_looks_at_each_row() {
        let parts: Vec<String> = (0..98).map(|n| format!("any:*{n:02x}*")).collect();
        assert!(looks_per_row(&parts) <= LOOKS_PER_ROW_MAX + 2);
        let phrases: Vec<String> = (0..98).map(|n| format!("\"user {n}\"")).collect();
        assert!(looks_per_row(&phrases) <= LOOKS_PER_ROW_MAX + 2);
        assert!(looks_per_row(&phrases[..4]) >= 4);
    }
}
