//! One score of three surprises: each is compared with its own history, and the rarest decides.

use super::surprises::SurpriseHistogram;
use crate::model::{ModelError, Reader};

/// What a session is scored by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aspect {
    /// Its rarest event.
    Event = 0,
    /// Its most surprising transition.
    Transition = 1,
    /// Its most surprising pair of counts.
    Counts = 2,
}

/// The surprise of each aspect, in nats.
pub(super) type Surprises = [f32; 3];

const ASPECTS: [Aspect; 3] = [Aspect::Event, Aspect::Transition, Aspect::Counts];
/// What has a chance of one in twenty by itself is no finding, however regular everything else is.
const SURPRISE_MIN: f32 = 3.0;

/// The history of each aspect, and of their rarest.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Calibration {
    tails: [SurpriseHistogram; 3],
    joint: SurpriseHistogram,
    threshold: f32,
}

impl Calibration {
    /// Of surprises of sessions that were not learned from.
    pub(super) fn fit(surprises: &[Surprises], budget: f64) -> Self {
        let mut calibration = Self::default();
        surprises.iter().for_each(|session| calibration.add(session));
        for session in surprises {
            let (rarity, _) = calibration.rarest(session);
            calibration.joint.add(rarity);
        }
        calibration.set_threshold(budget);
        calibration
    }

    fn add(&mut self, session: &Surprises) {
        self.tails.iter_mut().zip(session).for_each(|(tail, nats)| tail.add(*nats));
    }

    /// Scores a session and remembers it.
    pub(super) fn observe(&mut self, session: &Surprises) -> (f32, Aspect) {
        let found = self.rarest(session);
        self.add(session);
        self.joint.add(found.0);
        found
    }

    /// Sets the threshold by what was seen so far.
    pub(super) fn set_threshold(&mut self, budget: f64) {
        self.threshold = self.joint.threshold(budget);
    }

    /// Forgets half, so that it follows what changes.
    pub(super) fn age(&mut self) {
        self.tails.iter_mut().for_each(SurpriseHistogram::halve);
        self.joint.halve();
    }

    pub(super) fn sessions(&self) -> u32 {
        self.joint.total()
    }

    /// How rare a surprise is among those of its aspect.
    pub(super) fn rarity(&self, aspect: Aspect, nats: f32) -> f32 {
        if nats < SURPRISE_MIN { 0.0 } else { self.tails[aspect as usize].rarity(nats) }
    }

    /// The rarest aspect, and how rare it is by itself.
    pub(super) fn rarest(&self, session: &Surprises) -> (f32, Aspect) {
        let all = ASPECTS.map(|aspect| (self.rarity(aspect, session[aspect as usize]), aspect));
        all.into_iter().rev().max_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or(all[0])
    }

    /// The share of the sessions seen that are above the threshold.
    pub(super) fn alarm_share(&self) -> f64 {
        self.joint.share(self.threshold)
    }

    pub(super) fn is_anomaly(&self, rarity: f32) -> bool {
        rarity > 0.0 && rarity >= self.threshold
    }

    /// The share of sessions that are less rare.
    pub(super) fn score(&self, rarity: f32) -> f64 {
        -f64::from(-self.joint.rarity(rarity)).exp_m1()
    }

    /// The least surprise of an aspect that is an anomaly.
    pub(super) fn least(&self, aspect: Aspect) -> f32 {
        self.tails[aspect as usize].value_of(self.threshold).max(SURPRISE_MIN)
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        self.tails.iter().for_each(|tail| tail.encode(bytes));
        self.joint.encode(bytes);
        bytes.extend(self.threshold.to_le_bytes());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ModelError> {
        let mut calibration = Self::default();
        for tail in &mut calibration.tails {
            *tail = SurpriseHistogram::decode(reader)?;
        }
        calibration.joint = SurpriseHistogram::decode(reader)?;
        calibration.threshold = reader.f32()?;
        Ok(calibration)
    }
}
