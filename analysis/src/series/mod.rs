//! A watch over a number that changes in time: a rate, a share of errors, a latency percentile.
//!
//! Each row is tested against what went before, then learnt. Four tests look at it:
//! - its **value** against the median of the last rows, which follows a drift and a new level;
//! - the **day**: its value against what is usual at this time of day;
//! - the **week**: its value against what is usual at this hour of the week;
//! - its **shape**: the last rows against the most similar stretch of the past ([`recent::discord`]).
//!
//! A test that has too little history says nothing.
//!
//! What they measure has no common unit, so each keeps a histogram of its own measures and says how
//! rare this one is (`tail`). The rarest counts, times the number of tests (Bonferroni's
//! correction). The score is that probability on a logarithmic scale, so that series can be
//! compared by it. The alert threshold is a share of rows, chosen on the public series of
//! `docs/detection.md`.
//!
//! After an alert the bar is raised: what goes on is no news, and is learnt as the new usual.
//! Another alert must be ten times rarer at first; the bar comes down with time.
//!
//! Times may be irregular, with gaps; the interval is learnt. A series takes [`STATE_BYTES_MAX`] at
//! most. A value that is no finite `f32` is refused: it gets score 0 and teaches nothing.

mod magnitudes;
mod reason;
mod recent;
mod season;
mod state;

use self::{
    magnitudes::MagnitudeHistogram,
    recent::{Recent, discord, median},
    season::Season,
};

pub use self::state::SeriesStateError;

/// What a series takes in memory, with the default configuration.
pub const STATE_BYTES_MAX: usize = 8 * 1024;
/// Decades of rarity from score 0 to score 1.
const SCORE_DECADES: f64 = 10.0;
/// How much rarer than the last alert the next must be, right after it.
const NEWS_DECADES: f64 = 1.0;
/// Differences below this share of the value are rounding.
const RESOLUTION: f64 = 1e-6;
/// Rows that a test must have seen before it says anything.
const JUDGE_ROWS_MIN: f32 = 30.0;
/// Shapes that must be remembered before one can be new.
const SHAPES_MIN: usize = 5;
/// Rows of which one lies outside what is called expected, to either side.
const EXPECTED_SHARE: f64 = 0.01;

/// Settings of a [`SeriesDetector`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeriesConfig {
    /// How rare a row must be for an alert: a share of rows.
    pub alert_probability: f64,
    /// Rows after an alert until the bar is down again.
    pub rest_rows: u32,
    /// Rows before the first score.
    pub warm_up_rows: u32,
    /// Rows that make the recent median.
    pub recent_rows: usize,
    /// Rows that make a shape.
    pub shape_rows: usize,
    /// Rows that are remembered to look for similar shapes in.
    pub memory_rows: usize,
}

impl Default for SeriesConfig {
    fn default() -> Self {
        Self {
            // Chosen together on 29 series of NAB, among some hundred and fifty variants (see
            // docs/detection.md, which also says what unseen series should be expected to score).
            alert_probability: 0.0017,
            rest_rows: 120,
            warm_up_rows: 60,
            recent_rows: 96,
            shape_rows: 12,
            memory_rows: 768,
        }
    }
}

/// What is usual at a time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Expected {
    /// One row in a hundred lies below.
    pub low: f64,
    /// The middle.
    pub median: f64,
    /// One row in a hundred lies above.
    pub high: f64,
}

/// What a detector says about a row.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesScore {
    /// How rare the row is: each 0.1 is a power of ten, so 0.3 is one row in a thousand. 0 while it
    /// does not pass the bar that an alert raised.
    pub score: f64,
    /// How rare the row is, whatever the bar: the share of rows that are like it.
    pub probability: f64,
    /// Whether a person should look.
    pub is_alert: bool,
    /// What was usual, before this row was learnt.
    pub expected: Expected,
    /// Why, in a person's words; empty unless it is an alert.
    pub reason: String,
}

/// The test that found a row rare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Value,
    Day,
    Week,
    Shape,
}

/// How rare a row is, according to the test that finds it rarest.
#[derive(Debug, Clone, Copy)]
struct Rarity {
    probability: f64,
    test: Test,
}

/// Tests the rows of one series. See the module's documentation.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesDetector {
    config: SeriesConfig,
    rows: u64,
    last_time_unix_nano: i64,
    /// Learnt: the usual time between rows; 0 until the second row.
    interval_nanos: f64,
    /// Rows until the bar is down again.
    rest: u32,
    /// How far the last alert raised the bar, in decades.
    raised: f32,
    /// Rows since the last gap longer than a shape.
    rows_since_gap: u32,
    recent: Recent,
    season: Season,
    value: Deviations,
    day: Deviations,
    week: Deviations,
    shape: MagnitudeHistogram,
}

/// What is measured of a row before it is learnt.
struct Measured {
    value: f64,
    /// Of the last rows.
    median: f64,
    /// Usual at this half hour of the day.
    day: Option<f64>,
    /// Usual at this hour of the week.
    week: Option<f64>,
    /// How far the last rows are from all that went before.
    discord: Option<f64>,
}

impl SeriesDetector {
    /// Knows nothing yet.
    pub fn new(config: SeriesConfig) -> Self {
        Self {
            config,
            rows: 0,
            last_time_unix_nano: i64::MIN,
            interval_nanos: 0.0,
            rest: 0,
            raised: 0.0,
            rows_since_gap: 0,
            recent: Recent::new(config.memory_rows),
            season: Season::new(),
            value: Deviations::new(),
            day: Deviations::new(),
            week: Deviations::new(),
            shape: MagnitudeHistogram::new(),
        }
    }

    /// Rows learnt so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Tests a row, then learns it.
    pub fn observe(&mut self, time_unix_nano: i64, value: f64) -> SeriesScore {
        let value = value as f32;
        if !value.is_finite() {
            let expected = self.forecast(time_unix_nano);
            return SeriesScore { expected, ..SeriesScore::default() };
        }
        self.pass_time(time_unix_nano);
        let measured = self.measure(time_unix_nano, value);
        let Rarity { probability, test } = self.test(&measured);
        let is_news = self.is_news(probability);
        let is_alert = is_news && probability <= self.config.alert_probability;
        let scored = SeriesScore {
            score: if is_news { decades(probability) / SCORE_DECADES } else { 0.0 },
            probability,
            is_alert,
            expected: self.expected(&measured),
            reason: if is_alert { self.reason(test, &measured) } else { String::new() },
        };
        self.learn(time_unix_nano, value, &measured);
        self.rest = self.rest.saturating_sub(1);
        if is_alert {
            self.rest = self.config.rest_rows;
            // The bar is raised to this row and a decade more: a new level is told once and not
            // with every row until it is learnt.
            let above = decades(probability) - decades(self.config.alert_probability);
            self.raised = (above + NEWS_DECADES) as f32;
        }
        scored
    }

    /// Whether a row passes the bar that the last alert raised.
    fn is_news(&self, probability: f64) -> bool {
        let raised = f64::from(self.raised) * f64::from(self.rest);
        let raised = raised / f64::from(self.config.rest_rows.max(1));
        self.rest == 0 || decades(probability) >= decades(self.config.alert_probability) + raised
    }

    /// What is usual at a time.
    pub fn forecast(&self, time_unix_nano: i64) -> Expected {
        let mut values = Vec::new();
        self.recent.last(self.config.recent_rows, &mut values);
        self.expected(&Measured {
            value: 0.0,
            median: median(&mut values),
            day: self.season.day(time_unix_nano),
            week: self.season.week(time_unix_nano),
            discord: None,
        })
    }

    /// By the finest rhythm that is known.
    fn expected(&self, measured: &Measured) -> Expected {
        match (measured.week, measured.day) {
            (Some(usual), _) => self.week.around(usual),
            (None, Some(usual)) => self.day.around(usual),
            (None, None) => self.value.around(measured.median),
        }
    }

    /// Learns the interval: a median in small steps, so that a gap counts for no more than one.
    /// Rows that come late or twice say nothing about it.
    fn pass_time(&mut self, time_unix_nano: i64) {
        let passed = time_unix_nano.saturating_sub(self.last_time_unix_nano) as f64;
        if self.rows == 0 {
            self.last_time_unix_nano = time_unix_nano;
        } else if passed > 0.0 {
            self.last_time_unix_nano = time_unix_nano;
            if self.interval_nanos == 0.0 {
                self.interval_nanos = passed;
            }
            if passed > self.interval_nanos * self.config.shape_rows as f64 {
                self.rows_since_gap = 0;
            }
            // Large steps at first, so that it is found soon; then one in a hundred at most.
            let step = (1.0 / self.rows as f64).max(0.01);
            self.interval_nanos *= (passed / self.interval_nanos).clamp(1.0 - step, 1.0 + step);
            self.interval_nanos = self.interval_nanos.max(1.0);
        }
    }

    fn measure(&self, time_unix_nano: i64, value: f32) -> Measured {
        let shape_rows = self.config.shape_rows;
        let mut values = Vec::with_capacity(self.recent.len() + 1);
        self.recent.last(self.recent.len(), &mut values);
        // Rows on both sides of a gap are no shape: put together they make a step that never was.
        let is_whole = self.rows_since_gap as usize + 1 >= shape_rows;
        let is_enough = values.len() > SHAPES_MIN * shape_rows;
        values.push(value);
        let discord = (is_whole && is_enough).then(|| discord(&values, shape_rows)).flatten();
        values.pop();
        let first = values.len().saturating_sub(self.config.recent_rows);
        Measured {
            value: f64::from(value),
            median: median(&mut values[first..]),
            day: self.season.day(time_unix_nano),
            week: self.season.week(time_unix_nano),
            discord,
        }
    }

    /// The rarest measure counts, times the number of tests that were asked.
    ///
    /// A shape that was never seen is hard to picture, so it gives the reason only where the value
    /// by itself is within what is expected.
    fn test(&self, measured: &Measured) -> Rarity {
        let mut rarest = Rarity { probability: 1.0, test: Test::Value };
        if self.rows < u64::from(self.config.warm_up_rows) {
            return rarest;
        }
        let deviations = [
            (Test::Value, &self.value, Some(measured.median)),
            (Test::Day, &self.day, measured.day),
            (Test::Week, &self.week, measured.week),
        ];
        let mut tests = 0.0;
        for (test, deviations, usual) in deviations {
            let asked = usual.filter(|_| deviations.above.rows >= JUDGE_ROWS_MIN);
            let Some(usual) = asked else { continue };
            tests += 1.0;
            let probability = deviations.rarity(measured.value, usual);
            if probability < rarest.probability {
                rarest = Rarity { probability, test };
            }
        }
        if let Some(discord) = measured.discord.filter(|_| self.shape.rows >= JUDGE_ROWS_MIN) {
            tests += 1.0;
            // An event stays within the shape for as many rows, which are one event.
            let probability = self.shape.probability(discord) / self.config.shape_rows as f64;
            let is_told = rarest.probability <= EXPECTED_SHARE;
            if probability < rarest.probability {
                let test = if is_told { rarest.test } else { Test::Shape };
                rarest = Rarity { probability, test };
            }
        }
        // Bonferroni: the rarest of four is rare four times as often by chance.
        Rarity { probability: (rarest.probability * tests).min(1.0), ..rarest }
    }

    fn learn(&mut self, time_unix_nano: i64, value: f32, measured: &Measured) {
        if self.recent.len() >= self.config.shape_rows {
            self.value.learn(measured.value, measured.median);
        }
        if let Some(usual) = measured.day {
            self.day.learn(measured.value, usual);
        }
        if let Some(usual) = measured.week {
            self.week.learn(measured.value, usual);
        }
        if let Some(discord) = measured.discord {
            self.shape.learn(discord);
        }
        self.recent.push(value);
        self.season.learn(time_unix_nano, value, self.interval_nanos);
        self.rows += 1;
        self.rows_since_gap = self.rows_since_gap.saturating_add(1);
    }
}

/// How far a series goes above what is usual, and below.
#[derive(Debug, Clone, PartialEq)]
struct Deviations {
    above: MagnitudeHistogram,
    below: MagnitudeHistogram,
}

impl Deviations {
    fn new() -> Self {
        Self { above: MagnitudeHistogram::new(), below: MagnitudeHistogram::new() }
    }

    fn rarity(&self, value: f64, usual: f64) -> f64 {
        // Each side by itself: a rate can be ten times as high as usual, but no lower than zero,
        // and one spread for both would call no fall unusual.
        let deviation = deviation(value, usual);
        self.above.probability(deviation).min(self.below.probability(-deviation))
    }

    fn learn(&mut self, value: f64, usual: f64) {
        let deviation = deviation(value, usual);
        self.above.learn(deviation);
        self.below.learn(-deviation);
    }

    fn around(&self, median: f64) -> Expected {
        Expected {
            low: median - self.below.quantile(EXPECTED_SHARE),
            median,
            high: median + self.above.quantile(EXPECTED_SHARE),
        }
    }
}

impl Default for SeriesScore {
    /// Nothing to be seen.
    fn default() -> Self {
        let expected = Expected::default();
        Self { score: 0.0, probability: 1.0, is_alert: false, expected, reason: String::new() }
    }
}

/// How far a value lies from what is usual; 0 where the difference is no more than rounding.
fn deviation(value: f64, usual: f64) -> f64 {
    let deviation = value - usual;
    // Values are `f32`. In a constant series their rounding would be the only deviation there is,
    // and the first that is a little larger an alert.
    let is_rounding = deviation.abs() <= RESOLUTION * value.abs().max(usual.abs());
    if is_rounding { 0.0 } else { deviation }
}

/// How rare, as a power of ten.
fn decades(probability: f64) -> f64 {
    (-probability.log10()).clamp(0.0, SCORE_DECADES)
}

#[cfg(test)]
mod tests;
