//! A column of small numbers that mostly follow from a log's group, as its level or its template
//! follows from the skeleton of its message: only where one differs from the last of its group is
//! it said.

use super::{
    BlockError, integers,
    section::{Section, SectionReader},
};

/// The group of each log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Groups<'a> {
    /// The groups, below `count`.
    pub(super) of_rows: &'a [u32],
    /// How many groups there are.
    pub(super) count: usize,
}

/// The value is the last of its group; any other value is written one greater.
const AS_LAST: i64 = 0;

/// Collects a column.
#[derive(Debug, Default)]
pub(super) struct CategoryWriter {
    codes: Vec<i64>,
    last: Vec<Option<u32>>,
}

impl CategoryWriter {
    /// The last value of a group: the likely next.
    #[inline]
    pub(super) fn likely(&self, group: u32) -> Option<u32> {
        self.last.get(group as usize).copied().flatten()
    }

    /// Adds a value.
    #[inline]
    pub(super) fn push(&mut self, group: u32, value: u32) {
        if self.likely(group) == Some(value) {
            self.codes.push(AS_LAST);
            return;
        }
        let group = group as usize;
        if self.last.len() <= group {
            self.last.resize(group + 1, None);
        }
        self.last[group] = Some(value);
        self.codes.push(i64::from(value) + 1);
    }

    /// Appends the column.
    pub(super) fn write(&self, out: &mut Section) {
        integers::write(&self.codes, out);
    }
}

/// Reads a column of values below `limit`.
pub(super) fn read(
    limit: usize,
    groups: &Groups<'_>,
    from: &mut SectionReader<'_>,
) -> Result<Vec<u32>, BlockError> {
    let mut last = vec![None; groups.count];
    let mut values = Vec::with_capacity(groups.of_rows.len());
    for (code, group) in integers::read(groups.of_rows.len(), from)?.into_iter().zip(groups.of_rows)
    {
        let last = &mut last[*group as usize];
        if code != AS_LAST {
            if !(1..=limit as i64).contains(&code) {
                return Err(BlockError::Corrupt("a value is not known"));
            }
            *last = Some((code - 1) as u32);
        }
        values.push(last.ok_or(BlockError::Corrupt("a group has no value"))?);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::section::tests::round_trip;

    proptest! {
        #[test]
        fn any_column_comes_back(rows in prop::collection::vec((0_u32..9, 0_u32..5), 0..90)) {
            let (values, of_rows): (Vec<u32>, Vec<u32>) = rows.into_iter().unzip();
            let groups = Groups { of_rows: &of_rows, count: 5 };
            let mut section = Section::default();
            let mut writer = CategoryWriter::default();
            values.iter().zip(&of_rows).for_each(|(value, group)| writer.push(*group, *value));
            writer.write(&mut section);
            round_trip(&section, |reader| assert_eq!(read(9, &groups, reader).unwrap(), values));
        }
    }
}
