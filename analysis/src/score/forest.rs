//! An isolation forest: what is easy to separate from the rest is unusual.
//!
//! Liu, Ting, Zhou, "Isolation Forest" (ICDM 2008), with the paper's parameters: each tree splits a
//! sample of 256 rows at random features and values until its height limit, and a row's score comes
//! from the mean depth at which it ends. How unusual a score is follows from the scores of the rows
//! that it was trained on; no claim is made beyond one in a thousand, for the sample has no more
//! rows.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::features::{FEATURE_COUNT, FeatureStatistics, FeatureSummary, Features};
use crate::model::{ModelError, Reader};

const MAGIC: [u8; 4] = *b"LWIF";
const FORMAT: u8 = 1;
const KIND: &str = "isolation forest";
/// Fewer rows than this have no distribution.
const ROWS_MIN: usize = 64;
/// Rows scored to calibrate.
const CALIBRATED_ROWS_MAX: usize = 2_048;
const QUANTILES: usize = 64;
const LEAF: u16 = u16::MAX;
const TREES_MAX: usize = 1_000;
const SAMPLE_MAX: usize = 4_096;

/// How a forest is grown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForestParameters {
    /// How many trees a score is the mean of.
    pub trees: usize,
    /// Rows that a tree is grown from.
    pub sample: usize,
    /// All that is random follows from it.
    pub seed: u64,
}

impl Default for ForestParameters {
    fn default() -> Self {
        Self { trees: 100, sample: 256, seed: 1 }
    }
}

/// A trained forest, with what it was trained on in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct ForestModel {
    nodes: Vec<Node>,
    roots: Vec<u32>,
    /// The expected depth of a tree of the sample's size.
    depth_scale: f32,
    /// Scores of the training rows at falling tails: 1/2, …; see [`tail_of`].
    quantiles: Vec<f32>,
    statistics: FeatureStatistics,
}

/// A split, or a leaf with its depth as threshold. The right child follows the left one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    threshold: f32,
    feature: u16,
    left: u16,
}

impl ForestModel {
    /// Grows a forest from logs.
    pub fn train(rows: &[Features], parameters: &ForestParameters) -> Result<Self, ModelError> {
        if rows.len() < ROWS_MIN {
            return Err(ModelError::TooFew { given: rows.len(), needed: ROWS_MIN });
        }
        let sample = parameters.sample.clamp(ROWS_MIN, SAMPLE_MAX).min(rows.len());
        let mut random = Random(parameters.seed ^ 0x9e37_79b9_7f4a_7c15);
        let mut forest = Self {
            nodes: Vec::new(),
            roots: Vec::new(),
            depth_scale: expected_depth(sample),
            quantiles: Vec::new(),
            statistics: FeatureStatistics::of(rows),
        };
        // The mean height of a tree of so many rows, as in the paper: what is usual lies deeper,
        // and need not be told apart.
        let depth_max = sample.ilog2() + u32::from(!sample.is_power_of_two());
        for _ in 0..parameters.trees.clamp(1, TREES_MAX) {
            let mut chosen = random.choose(rows, sample);
            let root = forest.nodes.len();
            forest.roots.push(u32::try_from(root).map_err(|_| ModelError::Corrupt(root))?);
            forest.nodes.push(Node { threshold: 0.0, feature: LEAF, left: 0 });
            grow(&mut forest.nodes, root, root, &mut chosen, depth_max, 0, &mut random);
        }
        forest.calibrate(rows);
        Ok(forest)
    }

    fn calibrate(&mut self, rows: &[Features]) {
        let step = rows.len().div_ceil(CALIBRATED_ROWS_MAX);
        let mut scores: Vec<f32> = rows.iter().step_by(step).map(|row| self.score(row)).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        let rank = |quantile: usize| (tail_of(quantile) * scores.len() as f64) as usize;
        self.quantiles =
            (0..QUANTILES).map(|quantile| scores[rank(quantile).min(scores.len() - 1)]).collect();
    }

    /// 0 to 1; about 0.5 is usual, towards 1 is easy to separate.
    pub fn score(&self, row: &Features) -> f32 {
        let depth: f32 = self.roots.iter().map(|&root| self.depth(root as usize, row)).sum();
        (-(depth / self.roots.len().max(1) as f32) / self.depth_scale).exp2()
    }

    fn depth(&self, root: usize, row: &Features) -> f32 {
        let mut node = self.nodes[root];
        while node.feature != LEAF {
            let is_right = row[usize::from(node.feature)] >= node.threshold;
            node = self.nodes[root + usize::from(node.left) + usize::from(is_right)];
        }
        node.threshold
    }

    /// The chance of a score as high as this log's among those that it was trained on.
    pub fn tail(&self, row: &Features) -> f64 {
        let score = self.score(row);
        let reached = self.quantiles.partition_point(|quantile| *quantile >= score);
        // Above all rows of the training it is the smallest tail that so few of them can show.
        tail_of(reached.saturating_sub(1))
    }

    /// What it was trained on, in numbers.
    pub fn statistics(&self) -> &FeatureStatistics {
        &self.statistics
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.nodes.len() * 8 + 1_024);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&(self.roots.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.nodes.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.depth_scale.to_le_bytes());
        self.roots.iter().for_each(|root| bytes.extend_from_slice(&root.to_le_bytes()));
        for node in &self.nodes {
            bytes.extend_from_slice(&node.threshold.to_le_bytes());
            bytes.extend_from_slice(&node.feature.to_le_bytes());
            bytes.extend_from_slice(&node.left.to_le_bytes());
        }
        let mut number = |number: &f32| bytes.extend_from_slice(&number.to_le_bytes());
        self.quantiles.iter().for_each(&mut number);
        for summary in &self.statistics.features {
            number(&summary.mean);
            summary.quantiles.iter().for_each(&mut number);
        }
        bytes.extend_from_slice(&self.statistics.rows.to_le_bytes());
        bytes
    }

    /// Reads the stored form; refuses whatever could lead a walk astray.
    pub fn decode(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut reader = Reader::open(bytes, MAGIC, FORMAT, KIND)?;
        let (trees, nodes) = (reader.u32()? as usize, reader.u32()? as usize);
        let depth_scale = reader.f32()?;
        // Before anything is reserved: a damaged count would ask for gigabytes.
        if trees == 0 || trees > TREES_MAX || nodes > trees * 2 * SAMPLE_MAX || depth_scale <= 0.0 {
            return Err(reader.corrupt());
        }
        let roots = (0..trees).map(|_| reader.u32()).collect::<Result<Vec<_>, _>>()?;
        let node = |reader: &mut Reader<'_>| {
            let (threshold, feature, left) = (reader.f32()?, reader.u16()?, reader.u16()?);
            Ok(Node { threshold, feature, left })
        };
        let nodes = (0..nodes).map(|_| node(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        check_trees(&roots, &nodes).ok_or_else(|| reader.corrupt())?;
        let numbers = |reader: &mut Reader<'_>, count: usize| {
            (0..count).map(|_| reader.f32()).collect::<Result<Vec<f32>, _>>()
        };
        let quantiles = numbers(&mut reader, QUANTILES)?;
        if !quantiles.is_sorted_by(|a, b| a >= b) {
            return Err(reader.corrupt());
        }
        let summary = |reader: &mut Reader<'_>| {
            Ok(FeatureSummary { mean: reader.f32()?, quantiles: numbers(reader, 11)? })
        };
        let features =
            (0..FEATURE_COUNT).map(|_| summary(&mut reader)).collect::<Result<_, ModelError>>()?;
        let statistics = FeatureStatistics { rows: reader.u64()?, features };
        reader.end()?;
        Ok(Self { nodes, roots, depth_scale, quantiles, statistics })
    }
}

/// Children come after their parent and within their tree, so every walk ends.
fn check_trees(roots: &[u32], nodes: &[Node]) -> Option<()> {
    for (number, &root) in roots.iter().enumerate() {
        let root = root as usize;
        let end = roots.get(number + 1).map_or(nodes.len(), |&next| next as usize);
        for (offset, node) in nodes.get(root..end)?.iter().enumerate() {
            let left = usize::from(node.left);
            let is_split =
                usize::from(node.feature) < FEATURE_COUNT && left > offset && root + left + 1 < end;
            // A leaf says how deep it lies.
            let is_leaf = node.feature == LEAF && node.threshold >= 0.0;
            if !is_leaf && !is_split {
                return None;
            }
        }
        (root < end).then_some(())?;
    }
    Some(())
}

fn grow(
    nodes: &mut Vec<Node>,
    root: usize,
    at: usize,
    rows: &mut [Features],
    depth_max: u32,
    depth: u32,
    random: &mut Random,
) {
    let split = if rows.len() < 2 || depth >= depth_max { None } else { random.split(rows) };
    let Some((feature, threshold)) = split else {
        nodes[at].threshold = depth as f32 + expected_depth(rows.len());
        return;
    };
    let mut middle = 0;
    for index in 0..rows.len() {
        if rows[index][feature] < threshold {
            rows.swap(index, middle);
            middle += 1;
        }
    }
    // Fits 16 bits: a tree has fewer than two nodes for each row, of which it has `SAMPLE_MAX`.
    let left = nodes.len() - root;
    nodes[at] = Node { threshold, feature: feature as u16, left: left as u16 };
    nodes.extend([Node { threshold: 0.0, feature: LEAF, left: 0 }; 2]);
    let (lower, upper) = rows.split_at_mut(middle);
    grow(nodes, root, root + left, lower, depth_max, depth + 1, random);
    grow(nodes, root, root + left + 1, upper, depth_max, depth + 1, random);
}

/// The mean depth of an unsuccessful search in a binary tree of so many rows (equation 1 of the
/// paper).
fn expected_depth(rows: usize) -> f32 {
    const EULER: f64 = 0.577_215_664_9;
    match rows {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let rows = rows as f64;
            (2.0 * ((rows - 1.0).ln() + EULER) - 2.0 * (rows - 1.0) / rows) as f32
        }
    }
}

/// Tails from a thousandth up to one half, evenly in their logarithm.
fn tail_of(quantile: usize) -> f64 {
    0.001 * (500.0_f64).powf(quantile as f64 / (QUANTILES - 1) as f64)
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // Lemire (2019): the high half of the product, which needs no division.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Rows without repetition (Floyd's algorithm).
    fn choose(&mut self, rows: &[Features], count: usize) -> Vec<Features> {
        let mut chosen = HashSet::with_capacity(count);
        let mut sample = Vec::with_capacity(count);
        for last in rows.len() - count..rows.len() {
            let pick = self.below(last as u64 + 1) as usize;
            let pick = if chosen.insert(pick) { pick } else { last };
            chosen.insert(pick);
            sample.push(rows[pick]);
        }
        sample
    }

    /// A random value between the lowest and highest of a random feature that varies.
    fn split(&mut self, rows: &[Features]) -> Option<(usize, f32)> {
        let first = self.below(FEATURE_COUNT as u64) as usize;
        (0..FEATURE_COUNT).map(|offset| (first + offset) % FEATURE_COUNT).find_map(|feature| {
            let values = rows.iter().map(|row| row[feature]);
            let (lowest, highest) = values
                .fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(value), high.max(value)));
            let share = (self.bits() >> 40) as f32 / (1_u32 << 24) as f32;
            // Never the lowest value itself: nothing lies below it, and one side would be empty.
            let threshold = lowest + (highest - lowest) * (1.0 - share);
            (threshold > lowest && highest > lowest).then_some((feature, threshold.min(highest)))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(count: usize) -> Vec<Features> {
        let mut random = Random(3);
        let mut normal = move || {
            let sum: f64 = (0..12).map(|_| random.below(1_000) as f64 / 1_000.0).sum();
            (sum - 6.0) as f32
        };
        (0..count).map(|_| std::array::from_fn(|_| normal())).collect()
    }

    fn forest() -> ForestModel {
        ForestModel::train(&rows(4_000), &ForestParameters::default()).unwrap()
    }

    #[test]
    fn what_lies_apart_scores_higher() {
        let forest = forest();
        let (usual, apart) = ([0.0; FEATURE_COUNT], [6.0; FEATURE_COUNT]);
        assert!(forest.score(&usual) < 0.5 && forest.score(&apart) > 0.65);
        assert!(forest.tail(&usual) >= 0.4 && forest.tail(&apart) <= 0.001);
    }

    #[test]
    fn the_tail_is_the_share_of_logs() {
        let forest = forest();
        let others = rows(20_000);
        let beyond = others[4_000..].iter().filter(|row| forest.tail(row) <= 0.05).count();
        assert!((500..1_200).contains(&beyond), "{beyond} of 16,000");
    }

    #[test]
    fn the_same_seed_grows_the_same_forest_and_it_survives_storage() {
        let forest = forest();
        assert_eq!(forest, self::forest());
        assert_eq!(ForestModel::decode(&forest.encode()), Ok(forest));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let few = ForestModel::train(&rows(10), &ForestParameters::default());
        assert_eq!(few, Err(ModelError::TooFew { given: 10, needed: 64 }));
        let mut bytes = forest().encode();
        assert!(matches!(ForestModel::decode(&bytes[1..]), Err(ModelError::Kind(_))));
        assert!(matches!(ForestModel::decode(&bytes[..90]), Err(ModelError::Corrupt(_))));
        bytes[4] = 9;
        assert_eq!(ForestModel::decode(&bytes), Err(ModelError::Version(9)));
    }

    #[test]
    fn rows_that_are_all_alike_grow_a_forest_of_leaves() {
        let alike = vec![[1.0; FEATURE_COUNT]; 100];
        let forest = ForestModel::train(&alike, &ForestParameters::default()).unwrap();
        assert!(forest.tail(&[1.0; FEATURE_COUNT]) >= 0.4);
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_refused_or_harmless(at in 0_usize..40_000, value: u8, row: [f32; 7]) {
            let rows = rows(100);
            let parameters = ForestParameters { trees: 3, sample: 64, seed: 1 };
            let mut bytes = ForestModel::train(&rows, &parameters).unwrap().encode();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(forest) = ForestModel::decode(&bytes) {
                prop_assert!(forest.score(&row).is_finite());
            }
        }
    }
}
