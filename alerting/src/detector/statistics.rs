//! Small exact statistics of counts. Pure.
//!
//! Everything is told in standard deviations: the signed root of the deviance, which is nearly
//! normal even for small counts, where a normal approximation of the count itself is not.

use super::ratio::Tally;

/// No ratio is taken to be nearer to 0 or to 1: of a ratio of nothing or of all any hit would be
/// infinitely surprising.
const RATIO_MARGIN: f64 = 1e-9;
/// No count is expected to be lower, for the same reason.
const COUNT_MIN: f64 = 1e-9;
/// So much of a hit is taken off a count, as half a step lies between a whole number and the next
/// lower one: the correction for continuity.
const CONTINUITY: f64 = 0.5;

/// How far `hits` of `total` lie above (or, negative, below) a ratio, in standard deviations.
pub(crate) fn ratio_deviance(Tally { hits, total }: Tally, ratio: f64) -> f64 {
    if total <= 0.0 {
        return 0.0;
    }
    let ratio = ratio.clamp(RATIO_MARGIN, 1.0 - RATIO_MARGIN);
    let found = hits / total;
    let part = |count: f64, found: f64, usual: f64| {
        if count > 0.0 { count * (found / usual).ln() } else { 0.0 }
    };
    // Twice the logarithm of how much likelier the found ratio makes these logs than the expected
    // one does (the likelihood ratio of a binomial).
    let deviance = part(hits, found, ratio) + part(total - hits, 1.0 - found, 1.0 - ratio);
    (2.0 * deviance.max(0.0)).sqrt() * if found >= ratio { 1.0 } else { -1.0 }
}

/// How far `hits` of `total` lie above a ratio, in standard deviations; 0 if they do not. For what
/// is asked again and again: of a few hits the deviance alone says more than their chance does,
/// which half a hit less makes up for.
pub(crate) fn ratio_excess(tally: Tally, ratio: f64) -> f64 {
    let hits = (tally.hits - CONTINUITY).max(0.0);
    ratio_deviance(Tally { hits, ..tally }, ratio).max(0.0)
}

/// How far a count lies above (or, negative, below) what is expected, in standard deviations.
pub(crate) fn count_deviance(count: f64, expected: f64) -> f64 {
    let expected = expected.max(COUNT_MIN);
    let part = if count > 0.0 { count * (count / expected).ln() } else { 0.0 };
    // The same of a Poisson distribution, which counts of independent logs follow.
    let deviance = part - (count - expected);
    (2.0 * deviance.max(0.0)).sqrt() * if count >= expected { 1.0 } else { -1.0 }
}

/// The ratio that `hits` of `total` stand for at least (Wilson's bound).
pub(crate) fn ratio_low(Tally { hits, total }: Tally, z: f64) -> f64 {
    if total <= 0.0 {
        return 0.0;
    }
    let ratio = hits / total;
    let z2 = z * z;
    let spread = z * (ratio * (1.0 - ratio) / total + z2 / (4.0 * total * total)).sqrt();
    ((ratio + z2 / (2.0 * total) - spread) / (1.0 + z2 / total)).max(0.0)
}

/// The expectation that a count stands for at least.
pub(crate) fn count_low(count: f64, z: f64) -> f64 {
    // Where the count lies `z` deviations above the expectation, whose deviation is its root.
    let z2 = z * z;
    (count + z2 / 2.0 - z * (count + z2 / 4.0).sqrt()).max(0.0)
}

/// The expectation that a count stands for at most.
pub(crate) fn count_high(count: f64, z: f64) -> f64 {
    let z2 = z * z;
    count + z2 / 2.0 + z * (count + z2 / 4.0).sqrt()
}

/// The middle value; 0 of none. Sorts in place.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn tally(hits: f64, total: f64) -> Tally {
        Tally { hits, total }
    }

    #[test]
    fn deviances_agree_with_the_normal_for_large_counts() {
        assert!((ratio_deviance(tally(260.0, 10_000.0), 0.02) - 4.1).abs() < 0.15);
        assert!((count_deviance(130.0, 100.0) - 2.9).abs() < 0.1);
        assert!(count_deviance(0.0, 8.0) < -3.9 && ratio_deviance(tally(0.0, 0.0), 0.1) == 0.0);
    }

    #[test]
    fn a_few_hits_say_no_more_than_their_chance() {
        // Four of seven where two in a hundred are usual: 5.4 in a million, 4.4 deviations.
        assert!(ratio_deviance(tally(4.0, 7.0), 0.02) > 4.6);
        assert!((4.0..4.4).contains(&ratio_excess(tally(4.0, 7.0), 0.02)));
        assert_eq!(ratio_excess(tally(1.0, 100.0), 0.02), 0.0);
    }

    #[test]
    fn bounds_enclose_the_count() {
        for count in [0.0, 1.0, 5.0, 400.0] {
            assert!(count_low(count, 2.0) <= count && count_high(count, 2.0) > count);
            assert!(ratio_low(tally(count, 500.0), 2.0) <= count / 500.0);
        }
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [3.0, 1.0]), 2.0);
    }
}
