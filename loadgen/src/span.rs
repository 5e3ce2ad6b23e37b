//! Event time in spans of one length, whatever the clock does, so that a seed gives the same logs
//! on every machine. Pure.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;

use logweir_proto::v1;

use crate::generator::Generator;

/// Event time of a span when sending as fast as possible is a share of so many logs: enough that a
/// batch of each service is full, few enough for memory.
const SPAN_LOGS: f64 = 20_000.0;
/// The longest span as fast as possible, seconds: rates follow the hour of the day.
const SPAN_SECONDS_MAX: f64 = 60.0;
/// How long a span takes by the clock: short enough that a second has several spans, long enough
/// that a span has some logs.
const SPAN_WALL: Duration = Duration::from_millis(100);

/// How event time advances.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The event time at which the first span begins.
    pub start: Timestamp,
    /// Event time of a span.
    pub span: Duration,
    /// How long a span takes by the clock; zero for as fast as possible.
    pub span_wall: Duration,
    /// Where it ends; none for never.
    pub spans_max: Option<u64>,
}

impl Pace {
    /// Event time passes `speed` times as fast as the clock, or as fast as possible at zero, for a
    /// duration of event time.
    pub fn new(
        start: Timestamp,
        speed: f64,
        rate_per_second: f64,
        duration: Option<Duration>,
    ) -> Self {
        let span_seconds = if speed > 0.0 {
            SPAN_WALL.as_secs_f64() * speed
        } else {
            (SPAN_LOGS / rate_per_second).min(SPAN_SECONDS_MAX)
        };
        // Never zero, whatever the rate: event time would stand still, and it is a divisor below.
        let span = Duration::from_nanos(((span_seconds * 1e9) as u64).max(1_000));
        let spans_max = duration.map(|duration| {
            let spans = duration.as_nanos().div_ceil(span.as_nanos());
            u64::try_from(spans).unwrap_or(u64::MAX)
        });
        let span_wall = if speed > 0.0 { SPAN_WALL } else { Duration::ZERO };
        Self { start, span, span_wall, spans_max }
    }
}

/// Generated logs, span by span, up to the count asked for.
pub struct Spans {
    /// Makes the logs, and knows the truth.
    pub generator: Generator,
    /// How event time advances.
    pub pace: Pace,
    next: u64,
    left: u64,
}

impl Spans {
    /// So many logs at most.
    pub fn new(generator: Generator, pace: Pace, count_max: u64) -> Self {
        Self { generator, pace, next: 0, left: count_max }
    }
}

/// The logs of a span, by the number of their service.
impl Iterator for Spans {
    type Item = Vec<(usize, Vec<v1::LogRecord>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 || self.pace.spans_max.is_some_and(|max| self.next >= max) {
            return None;
        }
        let offset = self.next.checked_mul(self.pace.span.as_nanos() as u64)?;
        let from = self.pace.start + Duration::from_nanos(offset);
        let mut logs = self.generator.tick(from, self.pace.span);
        for (_, records) in &mut logs {
            records.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= records.len() as u64;
        }
        self.next += 1;
        Some(logs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Config;

    fn spans(count: u64, spans_max: Option<u64>) -> Spans {
        let span = Duration::from_millis(100);
        let pace = Pace {
            start: Timestamp::from_unix_seconds(1_767_571_200),
            span,
            span_wall: Duration::ZERO,
            spans_max,
        };
        Spans::new(Generator::new(Config::default(), pace.start), pace, count)
    }

    fn total(spans: Spans) -> usize {
        spans.flatten().map(|(_, records)| records.len()).sum()
    }

    #[test]
    fn the_count_is_exact_and_the_duration_ends_it() {
        assert_eq!(total(spans(1_234, None)), 1_234);
        let ten_seconds = total(spans(u64::MAX, Some(100)));
        assert!((3_000..30_000).contains(&ten_seconds), "{ten_seconds}");
    }
}
