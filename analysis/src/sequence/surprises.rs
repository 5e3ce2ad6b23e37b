//! How rare a value is among those seen, and the value above which alarms stay within a budget.

use crate::model::{ModelError, Reader};

const BINS: usize = 640;
const BINS_PER_NAT: f32 = 20.0;
/// Counts are halved here, so that the tail follows what changes.
const TOTAL_MAX: u32 = 1 << 20;
/// Values, at most, from which the tail is drawn on beyond the largest one seen.
const EXCESSES_MAX: u32 = 20;

/// A histogram of surprises.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SurpriseHistogram {
    bins: Vec<u32>,
    total: u32,
}

impl Default for SurpriseHistogram {
    fn default() -> Self {
        Self { bins: vec![0; BINS], total: 0 }
    }
}

impl SurpriseHistogram {
    pub(super) fn add(&mut self, value: f32) {
        if self.total >= TOTAL_MAX {
            self.halve();
        }
        self.total += 1;
        self.bins[bin(value)] += 1;
    }

    /// Halves every count; halves left over are handed on to the next smaller value, so that the
    /// few largest ones do not fade quicker than the rest.
    pub(super) fn halve(&mut self) {
        let mut left = 0;
        for count in self.bins.iter_mut().rev() {
            let whole = *count + left;
            (*count, left) = (whole / 2, whole % 2);
        }
        self.total = self.bins.iter().sum();
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Minus the logarithm of the share of values that were as large.
    pub(super) fn rarity(&self, value: f32) -> f32 {
        let at = bin(value);
        let as_large: u32 = self.bins[at..].iter().sum();
        let all = (self.total + 1) as f32;
        if as_large > 0 || self.total == 0 {
            return (all / (as_large + 1) as f32).ln();
        }
        let largest = self.bins.iter().rposition(|&count| count > 0).unwrap_or(0);
        all.ln() + (value - edge(largest + 1)).max(0.0) / self.excess(largest)
    }

    /// How far the largest values go beyond the one below them, on average: the tail is taken to
    /// fall off exponentially.
    fn excess(&self, largest: usize) -> f32 {
        let wanted = (self.total / 10).clamp(1, EXCESSES_MAX);
        let (mut taken, mut sum) = (0, 0.0);
        for at in (0..=largest).rev() {
            let count = self.bins[at].min(wanted - taken);
            if taken == wanted && self.bins[at] > 0 {
                return (sum / wanted as f32 - edge(at)).max(0.5);
            }
            taken += count;
            sum += count as f32 * edge(at);
        }
        0.5
    }

    /// The least value that alarms, if at most the budget's share of the values seen may, and one
    /// in any case: fewer can not be told from so few.
    pub(super) fn threshold(&self, budget: f64) -> f32 {
        let allowed = (budget * f64::from(self.total)).ceil() as u32;
        let mut above = 0;
        for at in (0..BINS).rev() {
            above += self.bins[at];
            if above > allowed {
                return edge(at + 1);
            }
        }
        0.0
    }

    /// The share of values that were as large.
    pub(super) fn share(&self, value: f32) -> f64 {
        let as_large: u32 = self.bins[bin(value)..].iter().sum();
        f64::from(as_large) / f64::from(self.total.max(1))
    }

    /// The least value that is at least so rare.
    pub(super) fn value_of(&self, rarity: f32) -> f32 {
        let (mut low, mut high) = (0, BINS);
        while low < high {
            let middle = (low + high) / 2;
            if self.rarity(edge(middle)) >= rarity { high = middle } else { low = middle + 1 }
        }
        if low < BINS { edge(low) } else { f32::MAX }
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        self.bins.iter().for_each(|count| bytes.extend(count.to_le_bytes()));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ModelError> {
        let mut tail = Self::default();
        for at in 0..BINS {
            tail.bins[at] = reader.u32()?;
            let total = tail.total.checked_add(tail.bins[at]);
            tail.total =
                total.filter(|&total| total <= TOTAL_MAX).ok_or_else(|| reader.corrupt())?;
        }
        Ok(tail)
    }
}

fn bin(value: f32) -> usize {
    // What is no number or negative lands in the lowest bin.
    ((value * BINS_PER_NAT) as usize).min(BINS - 1)
}

fn edge(bin: usize) -> f32 {
    bin as f32 / BINS_PER_NAT
}
