//! Why a row is an alert, in a person's words.

use super::{Expected, Measured, SeriesDetector, Test};

impl SeriesDetector {
    pub(super) fn reason(&self, test: Test, measured: &Measured) -> String {
        let rows = self.config.recent_rows.min(self.recent.len());
        let recent = || (measured.median, format!("median of {}", self.span(rows)), &self.value);
        let (normal, what, deviations) = match (test, measured.day, measured.week) {
            (Test::Shape, ..) => return self.shape_reason(measured),
            (Test::Day, Some(usual), _) => (usual, "at this time of day".to_owned(), &self.day),
            (Test::Week, _, Some(usual)) => {
                (usual, "at this hour of the week".to_owned(), &self.week)
            }
            _ => recent(),
        };
        let Expected { low, high, .. } = deviations.around(normal);
        let is_above = measured.value > normal;
        let (word, bound) = if is_above { ("below", high) } else { ("above", low) };
        let (value, normal, bound) = (number(measured.value), number(normal), number(bound));
        format!("{value}, normal {normal} ({what}), 99 % {word} {bound}")
    }

    fn shape_reason(&self, measured: &Measured) -> String {
        let span = self.span(self.config.shape_rows);
        let memory = self.span(self.recent.len());
        let (value, normal) = (number(measured.value), number(measured.median));
        format!("{value}, normal {normal}; the last {span} went as never in the {memory} before")
    }

    /// How long so many rows last.
    fn span(&self, rows: usize) -> String {
        let seconds = self.interval_nanos / 1e9 * rows as f64;
        match seconds {
            172_800.0.. => format!("{:.0} days", seconds / 86_400.0),
            7_200.0.. => format!("{:.0} h", seconds / 3_600.0),
            120.0.. => format!("{:.0} min", seconds / 60.0),
            _ => format!("{seconds:.0} s"),
        }
    }
}

/// Three digits or more, and no more zeros than needed.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100_000.0 || (size > 0.0 && size < 0.001) {
        return format!("{value:.2e}");
    }
    let places = match size {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        0.01.. => 4,
        _ => 5,
    };
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 80.0, 2.5, 1_234.56, 0.01234, -12.34, 863_964_000.0, 1e-9].map(number);
        assert_eq!(texts, ["0", "80", "2.5", "1235", "0.0123", "-12.3", "8.64e8", "1.00e-9"]);
    }
}
