//! Finding the rows of a block that match a filter, a term at a time, cheapest columns first.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
};

use logweir_core::{
    filter::{CompiledFilter, Expression, Filter, Subject, Term, TextField},
    identity::{LogId, TemplateId},
    record::{Level, Value},
    timestamp::Timestamp,
};

use super::{
    BlockError,
    open::Block,
    phrases::{PhraseScan, without},
};
use crate::query::TimeRange;

/// Which rows of a block are of interest, besides what a filter says.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Event time.
    pub range: TimeRange,
    /// Only ids greater than this.
    pub after: Option<LogId>,
    /// Only ids less than this.
    pub before: Option<LogId>,
}

impl Window {
    /// Every row.
    pub const ALL: Self = Self { range: TimeRange::ALL, after: None, before: None };

    fn has(&self, id: LogId) -> bool {
        let TimeRange { from, to } = self.range;
        // The end of all time is within it.
        (from..to).contains(&id.time) || (id.time == Timestamp::MAX && to == Timestamp::MAX)
    }
}

impl Block<'_> {
    /// The rows in the window that match, ascending by row (not by time). None, and as soon as it
    /// is asked, if they are no longer wanted.
    pub fn matching(
        &self,
        filter: &CompiledFilter,
        window: &Window,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<u32>, BlockError> {
        let keys = self.keys()?;
        let in_window = |row: &u32| {
            let id = keys.id(*row as usize);
            window.has(id)
                && window.after.is_none_or(|after| id > after)
                && window.before.is_none_or(|before| id < before)
        };
        // The window first, from the keys alone: of a block that is wholly behind the cursor
        // nothing else is decompressed.
        let rows: Vec<u32> = (0..self.row_count() as u32).filter(in_window).collect();
        let phrases = PhraseScan::new(self, filter.phrases());
        let scan = Scan { block: self, phrases, is_wanted };
        match scan.select(&filter.filter().expression, rows) {
            Err(Stop::Unwanted) => Ok(Vec::new()),
            Err(Stop::Damaged(error)) => Err(error),
            Ok(rows) => Ok(rows),
        }
    }
}

/// Looks through one block for one filter.
struct Scan<'b, 'a> {
    block: &'b Block<'a>,
    phrases: PhraseScan<'b, 'a>,
    is_wanted: &'b dyn Fn() -> bool,
}

/// Why a block was not looked through.
enum Stop {
    Damaged(BlockError),
    /// Rows found so far would be wrong within a negation, so that there are none.
    Unwanted,
}

impl From<BlockError> for Stop {
    fn from(error: BlockError) -> Self {
        Self::Damaged(error)
    }
}

impl Scan<'_, '_> {
    /// Those of the rows that match; they ascend before and after.
    fn select(&self, expression: &Expression, rows: Vec<u32>) -> Result<Vec<u32>, Stop> {
        // This is what spares a section: with no row left, later terms read no columns.
        if rows.is_empty() {
            return Ok(rows);
        }
        // With each term: that is a look at all rows of one block at most, mostly some milliseconds.
        if !(self.is_wanted)() {
            return Err(Stop::Unwanted);
        }
        match expression {
            Expression::And(all) => {
                let mut ordered: Vec<&Expression> = all.iter().collect();
                // Any order matches the same, but the dear ones then look at the fewest rows.
                ordered.sort_by_key(|one| cost(one));
                ordered.into_iter().try_fold(rows, |rows, one| self.select(one, rows))
            }
            Expression::Or(any) => {
                let mut matching = Vec::new();
                let mut rest = rows;
                // What one alternative found the next need not see: no row comes twice.
                for one in any {
                    let found = self.select(one, rest.clone())?;
                    rest = without(rest, &found);
                    matching.extend(found);
                }
                matching.sort_unstable();
                Ok(matching)
            }
            Expression::Not(negated) => {
                let found = self.select(negated, rows.clone())?;
                Ok(without(rows, &found))
            }
            Expression::Term(Term::Words(phrase)) => Ok(self.phrases.in_messages(phrase, rows)?),
            Expression::Term(Term::Anywhere(phrase)) => Ok(self.phrases.anywhere(phrase, rows)?),
            Expression::Term(term) => Ok(self.select_term(term, rows)?),
        }
    }

    fn select_term(&self, term: &Term, mut rows: Vec<u32>) -> Result<Vec<u32>, BlockError> {
        // What it means to hold is the filter's to say; the columns it will ask for are read
        // first, so that only single values can turn out damaged.
        self.prepare(term)?;
        let filter = Filter { expression: Expression::Term(term.clone()) };
        let subject =
            RowSubject { block: self.block, row: Cell::new(0), damage: RefCell::new(None) };
        rows.retain(|row| {
            subject.row.set(*row as usize);
            filter.matches(&subject)
        });
        subject.damage.into_inner().map_or(Ok(rows), Err)
    }

    fn prepare(&self, term: &Term) -> Result<(), BlockError> {
        match term {
            Term::Attribute(..) | Term::AttributeLike(..) => self.block.attributes().map(drop),
            Term::Latency(..)
            | Term::Score(..)
            | Term::Trace(_)
            | Term::Span(_)
            | Term::Present(_)
            | Term::Text(TextField::Logger, _)
            | Term::TextLike(TextField::Logger, _) => self.block.details().map(drop),
            _ => Ok(()),
        }
    }
}

/// How much is read to evaluate it, roughly.
fn cost(expression: &Expression) -> u8 {
    match expression {
        Expression::And(parts) | Expression::Or(parts) => {
            parts.iter().map(cost).max().unwrap_or_default()
        }
        Expression::Not(negated) => cost(negated),
        Expression::Term(term) => match term {
            Term::Level(..) | Term::Time(..) | Term::Template(_) | Term::Anomaly(_) => 0,
            Term::Text(TextField::Logger, _) | Term::TextLike(TextField::Logger, _) => 3,
            Term::Text(..) | Term::TextLike(..) => 1,
            Term::Words(_) => 2,
            Term::Latency(..)
            | Term::Score(..)
            | Term::Trace(_)
            | Term::Span(_)
            | Term::Present(_) => 3,
            Term::Attribute(..) | Term::AttributeLike(..) => 4,
            Term::Anywhere(_) => 5,
        },
    }
}

/// A row as a filter sees it.
struct RowSubject<'b, 'a> {
    block: &'b Block<'a>,
    row: Cell<usize>,
    damage: RefCell<Option<BlockError>>,
}

impl RowSubject<'_, '_> {
    /// Notes damage; the row's value is then of no consequence.
    fn sound<T: Default>(&self, value: Result<T, BlockError>) -> T {
        value.unwrap_or_else(|damage| {
            self.damage.replace(Some(damage));
            T::default()
        })
    }
}

impl Subject for RowSubject<'_, '_> {
    fn time(&self) -> Timestamp {
        let time = self.block.keys().map(|keys| keys.times[self.row.get()]);
        Timestamp::from_unix_nanos(self.sound(time))
    }

    fn level(&self) -> Level {
        self.sound(self.block.keys().map(|keys| keys.levels[self.row.get()]))
    }

    fn text(&self, field: TextField) -> Cow<'_, str> {
        let row = self.row.get();
        let text = self.block.keys().and_then(|keys| {
            let origin = &keys.origins[keys.origin_of_rows[row] as usize];
            Ok(match field {
                TextField::Service => origin.service.as_str(),
                TextField::Instance => &origin.instance,
                TextField::Environment => &origin.environment,
                TextField::Logger => {
                    let details = self.block.details()?;
                    &details.loggers[details.logger_of_rows[row] as usize]
                }
            })
        });
        Cow::Borrowed(self.sound(text))
    }

    fn message(&self) -> Cow<'_, str> {
        let messages = self.block.messages();
        Cow::Owned(self.sound(messages.and_then(|messages| messages.get(self.row.get()))))
    }

    fn template_id(&self) -> TemplateId {
        let id = self.block.keys().map(|keys| keys.template_id(self.row.get()).0);
        TemplateId(self.sound(id))
    }

    fn latency_ms(&self) -> Option<f64> {
        self.sound(self.block.details().map(|details| details.latencies[self.row.get()]))
    }

    fn anomaly_score(&self) -> f32 {
        self.sound(self.block.details().map(|details| details.scores[self.row.get()]))
    }

    fn is_anomaly(&self) -> bool {
        self.sound(self.block.keys().map(|keys| keys.anomalies[self.row.get()]))
    }

    fn trace_id(&self) -> Option<[u8; 16]> {
        self.sound(self.block.details().map(|details| details.trace_ids[self.row.get()]))
    }

    fn span_id(&self) -> Option<[u8; 8]> {
        self.sound(self.block.details().map(|details| details.span_ids[self.row.get()]))
    }

    fn attribute(&self, key: &str) -> Option<Cow<'_, Value>> {
        let attributes = self.block.attributes();
        let value = attributes.and_then(|attributes| attributes.get(self.row.get(), key));
        self.sound(value).map(Cow::Owned)
    }

    fn has_value(&self, holds: &dyn Fn(&Value) -> bool) -> bool {
        let attributes = self.block.attributes().and_then(|found| found.all(self.row.get()));
        self.sound(attributes).iter().any(|attribute| holds(&attribute.value))
    }
}
