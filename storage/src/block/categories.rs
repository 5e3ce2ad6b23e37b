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

const AS_LAST: i64 = 0;

/// Appends a column.
pub(super) fn write(
    values: &[u32],
    groups: &Groups<'_>,
    out: &mut Section,
    scratch: &mut Vec<i64>,
) {
    let mut last = vec![u32::MAX; groups.count];
    scratch.clear();
    scratch.extend(values.iter().zip(groups.of_rows).map(|(&value, group)| {
        let last = &mut last[*group as usize];
        if *last == value {
            AS_LAST
        } else {
            *last = value;
            i64::from(value) + 1
        }
    }));
    integers::write(scratch, out);
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
            write(&values, &groups, &mut section, &mut Vec::new());
            round_trip(&section, |reader| assert_eq!(read(9, &groups, reader).unwrap(), values));
        }
    }
}
