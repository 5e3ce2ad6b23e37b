//! The last rows of a series.

/// A ring of the last values, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recent {
    values: Vec<f32>,
    /// Of the oldest once the ring is full.
    next: usize,
    rows_max: usize,
}

impl Recent {
    pub(super) fn new(rows_max: usize) -> Self {
        Self { values: Vec::new(), next: 0, rows_max: rows_max.max(1) }
    }

    pub(super) fn push(&mut self, value: f32) {
        if self.values.len() < self.rows_max {
            self.values.push(value);
        } else {
            self.values[self.next] = value;
            self.next = (self.next + 1) % self.rows_max;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The values in order of time, in two pieces.
    pub(super) fn pieces(&self) -> (&[f32], &[f32]) {
        let (newer, older) = self.values.split_at(self.next);
        (older, newer)
    }

    /// Copies the last values into `into`, oldest first.
    pub(super) fn last(&self, rows: usize, into: &mut Vec<f32>) {
        into.clear();
        let (older, newer) = self.pieces();
        let from_older = rows.saturating_sub(newer.len()).min(older.len());
        into.extend_from_slice(&older[older.len() - from_older..]);
        into.extend_from_slice(&newer[newer.len() - rows.min(newer.len())..]);
    }
}

/// The middle value, which reorders them; 0 of none.
pub(super) fn median(values: &mut [f32]) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let even = values.len().is_multiple_of(2);
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    let upper = f64::from(upper);
    if !even {
        return upper;
    }
    let lower = below.iter().copied().max_by(f32::total_cmp).map_or(upper, f64::from);
    f64::midpoint(lower, upper)
}

/// How far the last `shape` values are from the most similar stretch before them: the root of the
/// mean squared difference. `values` are in order of time and end with the row that is tested.
///
/// This is the left discord of matrix profiles (Yeh and others, 2016; Lu and others, *DAMP*, 2022),
/// without their normalisation: of a service's rate or latency also the level matters.
pub(super) fn discord(values: &[f32], shape: usize) -> Option<f64> {
    let (before, now) = values.split_at_checked(values.len().checked_sub(shape)?)?;
    let mut nearest = f32::INFINITY;
    for stretch in before.windows(shape) {
        let mut sum = 0.0;
        for (then, now) in stretch.iter().zip(now).rev() {
            sum += (then - now) * (then - now);
            if sum >= nearest {
                break;
            }
        }
        nearest = nearest.min(sum);
    }
    nearest.is_finite().then(|| (f64::from(nearest) / shape as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_values_come_in_order() {
        let mut recent = Recent::new(5);
        let mut last = Vec::new();
        for n in 0..13_u8 {
            recent.push(f32::from(n));
            recent.last(3, &mut last);
            let expected: Vec<f32> = (n.saturating_sub(2)..=n).map(f32::from).collect();
            assert_eq!(last, expected);
        }
        recent.last(9, &mut last);
        assert_eq!(last, [8.0, 9.0, 10.0, 11.0, 12.0]);
        assert_eq!(recent.len(), 5);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [3.0]), 3.0);
        assert_eq!(median(&mut [9.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&mut [9.0, 1.0, 3.0, 4.0]), 3.5);
    }

    #[test]
    fn a_stretch_seen_before_is_near_and_a_new_one_far() {
        let mut values = [0.0, 1.0, 5.0, 1.0, 0.0, 0.0, 1.0, 5.0, 1.0];
        assert_eq!(discord(&values, 3), Some(0.0));
        values[7] = 1.0;
        assert_eq!(discord(&values, 3), Some((2.0_f64 / 3.0).sqrt()));
        assert_eq!(discord(&values[..5], 3), None);
        assert_eq!(discord(&values[..2], 3), None);
    }
}
