//! How rare a magnitude is among those seen so far.
//!
//! A histogram over logarithmic buckets, 19 % wide, says it for what is usual. For the rare it has
//! too few rows, so above its top 5 % a Pareto tail stands in, whose index is Hill's estimate (*A
//! simple general approach to inference about the tail of a distribution*, 1975), shrunk towards a
//! moderate one while there is little to go by. So series with a heavy tail and those without are
//! held to the same measure: not how far, but how often.

/// Buckets of a histogram: a range of 65,000 to 1 between the largest magnitude and the smallest.
pub(super) const BUCKETS: usize = 64;
/// Buckets per doubling.
const PER_DOUBLING: f64 = 4.0;
/// Room above the first magnitude, so that somewhat larger ones move nothing.
const HEADROOM: i32 = 8;
/// Largest exponent of a bucket; magnitudes are those of `f32`.
pub(super) const TOP_MAX: i32 = 1_024;
/// Share of rows that the Pareto tail is fitted to.
const TAIL_SHARE: f64 = 0.05;
/// Rows that it is fitted to at least.
const TAIL_ROWS_MIN: f64 = 10.0;
/// Hill's index that is assumed without data: between an exponential and a heavy tail.
const PRIOR_INDEX: f64 = 0.3;
/// Rows that the assumption is worth.
const PRIOR_ROWS: f64 = 15.0;
/// No tail is believed to be lighter.
const INDEX_MIN: f64 = 0.05;
/// Above this many rows all are halved, so that the past fades.
const ROWS_MAX: f32 = 20_000.0;

/// Magnitudes seen so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MagnitudeHistogram {
    /// Of the first bucket; each further one lies one below.
    pub(super) top: i32,
    pub(super) buckets: [f32; BUCKETS],
    /// All rows, also those without a magnitude or below the last bucket.
    pub(super) rows: f32,
}

impl MagnitudeHistogram {
    pub(super) fn new() -> Self {
        Self { top: -TOP_MAX, buckets: [0.0; BUCKETS], rows: 0.0 }
    }

    /// Counts a row; one of 0 or less has no magnitude.
    pub(super) fn learn(&mut self, magnitude: f64) {
        if self.rows >= ROWS_MAX {
            self.rows /= 2.0;
            self.buckets.iter_mut().for_each(|count| *count /= 2.0);
        }
        self.rows += 1.0;
        if magnitude <= 0.0 {
            return;
        }
        let bucket = position(magnitude).floor() as i32;
        if self.last_used().is_none() {
            self.top = bucket + HEADROOM;
        }
        self.make_room(bucket);
        if let Some(count) = self.buckets.get_mut((self.top - bucket) as usize) {
            *count += 1.0;
        }
    }

    /// Moves the buckets up; what falls off the lower end counts as no magnitude.
    fn make_room(&mut self, bucket: i32) {
        let shift = usize::try_from(bucket - self.top).unwrap_or(0).min(BUCKETS);
        if shift > 0 {
            self.buckets.copy_within(0..BUCKETS - shift, shift);
            self.buckets[..shift].fill(0.0);
            self.top = bucket;
        }
    }

    fn last_used(&self) -> Option<usize> {
        self.buckets.iter().rposition(|&count| count > 0.0)
    }

    /// The share of rows that are expected to reach this magnitude.
    pub(super) fn probability(&self, magnitude: f64) -> f64 {
        let rows = f64::from(self.rows) + 1.0;
        if magnitude <= 0.0 {
            return 1.0;
        }
        let Some(last) = self.last_used() else { return 0.5 / rows };
        let at = position(magnitude);
        let fit = self.fit(last);
        if at >= fit.from {
            let excess = (at - fit.from) * std::f64::consts::LN_2 / PER_DOUBLING;
            return (fit.rows + 0.5) / rows * (-excess / fit.index).exp();
        }
        let mut above = 0.0;
        for (below, &count) in self.buckets.iter().enumerate() {
            let lower = f64::from(self.top) - below as f64;
            above += f64::from(count) * (lower + 1.0 - at).clamp(0.0, 1.0);
        }
        (above + 0.5) / rows
    }

    /// The Pareto tail over the largest rows.
    fn fit(&self, last: usize) -> Fit {
        let wanted = (TAIL_SHARE * f64::from(self.rows)).max(TAIL_ROWS_MIN);
        let (mut rows, mut positions, mut first_below) = (0.0, 0.0, 0);
        for (below, &count) in self.buckets[..=last].iter().enumerate() {
            let count = f64::from(count);
            if rows + count >= wanted {
                break;
            }
            rows += count;
            positions += count * (f64::from(self.top) - below as f64 + 0.5);
            first_below = below + 1;
        }
        let from = f64::from(self.top) - first_below as f64 + 1.0;
        let excess = (positions - rows * from) * std::f64::consts::LN_2 / PER_DOUBLING;
        let index = (excess + PRIOR_INDEX * PRIOR_ROWS) / (rows + PRIOR_ROWS);
        Fit { from, rows, index: index.max(INDEX_MIN) }
    }

    /// The magnitude that this share of rows reaches; 0 if fewer have one at all.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let wanted = share * f64::from(self.rows);
        let mut above = 0.0;
        for (below, &count) in self.buckets.iter().enumerate() {
            let count = f64::from(count);
            if above + count > wanted {
                let within = (wanted - above) / count;
                let position = f64::from(self.top) - below as f64 + 1.0 - within;
                return (position / PER_DOUBLING).exp2();
            }
            above += count;
        }
        0.0
    }
}

/// A Pareto tail.
struct Fit {
    /// Where it begins.
    from: f64,
    /// Rows in it.
    rows: f64,
    index: f64,
}

/// Where a magnitude lies, in buckets.
fn position(magnitude: f64) -> f64 {
    magnitude.log2() * PER_DOUBLING
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taught(magnitudes: impl IntoIterator<Item = f64>) -> MagnitudeHistogram {
        let mut tail = MagnitudeHistogram::new();
        magnitudes.into_iter().for_each(|magnitude| tail.learn(magnitude));
        tail
    }

    #[test]
    fn what_is_usual_is_counted() {
        let tail = taught((1..=1_000).map(f64::from));
        for share in [0.9, 0.5, 0.2, 0.1] {
            let probability = tail.probability(1_000.0 * (1.0 - share));
            assert!((probability - share).abs() < 0.03, "{share}: {probability}");
            let quantile = tail.quantile(share);
            assert!((quantile / 1_000.0 - (1.0 - share)).abs() < 0.05, "{share}: {quantile}");
        }
    }

    #[test]
    fn a_tail_is_extrapolated_by_its_own_weight() {
        let uniform = (1..=5_000).map(|n| (f64::from(n) - 0.5) / 5_000.0);
        let pareto = taught(uniform.clone().map(|u| u.powf(-0.5)));
        let exponential = taught(uniform.map(|u| -u.ln()));
        let heavy = pareto.probability(200.0) / 200.0_f64.powi(-2);
        assert!((0.3..3.0).contains(&heavy), "{heavy}");
        assert!(exponential.probability(30.0) < 1e-5);
    }

    #[test]
    fn where_all_was_nothing_something_is_as_rare_as_its_rows() {
        let mut tail = taught([0.0; 999]);
        assert_eq!(tail.probability(5.0), 0.5 / 1_000.0);
        tail.learn(5.0);
        let again = tail.probability(5.0);
        assert!((5e-4..2e-3).contains(&again), "{again}");
        assert_eq!(tail.probability(0.0), 1.0);
    }

    #[test]
    fn far_larger_magnitudes_push_small_ones_out() {
        let mut tail = taught([1e-30; 100]);
        tail.learn(1e30);
        assert_eq!(tail.rows, 101.0);
        assert_eq!(tail.buckets.iter().sum::<f32>(), 1.0);
        tail.learn(1e-30);
        assert_eq!(tail.buckets.iter().sum::<f32>(), 1.0);
    }

    #[test]
    fn the_past_fades() {
        let mut tail = taught([100.0; 30_000]);
        let before = tail.probability(90.0);
        (0..60_000).for_each(|_| tail.learn(1.0));
        assert!(tail.probability(90.0) < before / 8.0);
        assert!(tail.rows <= ROWS_MAX);
    }
}
