//! Texts for people: what comes from logs is hostile until it has been cleaned and cut here.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;

/// Bytes of the longest escape that any markup makes, such as `&quot;`, with a margin for the `…`.
const ESCAPE_BYTES_MAX: usize = 12;
/// Characters of a hostile text that are looked at for each that may be shown, and some more: what
/// is hidden goes away, and a megabyte of it must not be read through for one line.
const LOOKED_AT_FACTOR: usize = 4;
const LOOKED_AT_MORE: usize = 64;

/// Cuts to at most `chars_max` characters, the last of them then `…`.
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some(_) if chars_max == 0 => String::new(),
        Some(_) => text.chars().take(chars_max - 1).chain(['…']).collect(),
    }
}

/// Cuts what is markup already, so that no escape such as `&amp;` is cut in two.
pub fn cut_escaped(text: &str, chars_max: usize) -> String {
    let mut short = cut(text, chars_max);
    if short != text {
        let tail = short.len().saturating_sub(ESCAPE_BYTES_MAX);
        let tail = (tail..short.len()).find(|at| short.is_char_boundary(*at)).unwrap_or(0);
        if let Some(at) = short[tail..].rfind('&')
            && !short[tail + at..].contains(';')
        {
            short.truncate(tail + at);
            short.push('…');
        }
    }
    short
}

/// Whether a character would do something other than being seen: control, direction, no width.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// One line of at most `chars_max` characters with nothing hidden in it.
pub fn clean_line(text: &str, chars_max: usize) -> String {
    let looked_at = chars_max.saturating_mul(LOOKED_AT_FACTOR).saturating_add(LOOKED_AT_MORE);
    let enough = text.chars().take(looked_at);
    let visible: String = enough.map(|c| if is_hidden(c) { ' ' } else { c }).collect();
    // What was hidden became a space, so that two words with a line break between them stay two.
    let words: Vec<&str> = visible.split_whitespace().collect();
    cut(&words.join(" "), chars_max)
}

/// Lines of text with nothing hidden in them but their ends.
pub fn clean_lines(text: &str, chars_max: usize) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect())
        .collect();
    cut(&lines.join("\n"), chars_max)
}

/// A number as a person writes it: three digits that matter, `1.2k`, `3.4M`.
pub fn number(value: f64) -> String {
    // The bounds are half a digit below the round number, so that 9,999.9 is written as 10k and not
    // as
    // 10000.
    let magnitude = value.abs();
    let (scaled, unit) = match magnitude {
        _ if !value.is_finite() => return "–".to_owned(),
        m if m >= 999_500_000.0 => (value / 1e9, "G"),
        m if m >= 999_500.0 => (value / 1e6, "M"),
        m if m >= 9_999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let magnitude = scaled.abs();
    let digits = match magnitude {
        m if m >= 99.95 => 0,
        m if m >= 9.995 => 1,
        m if m >= 0.995 => 2,
        m if m >= 0.000_5 => 3,
        _ => 0,
    };
    let text = format!("{scaled:.digits$}");
    // Without a point the noughts at the end are part of the number.
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// A length of time in its two largest units: `2 h 5 min`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let two = |a: u64, a_unit: &str, b: u64, b_unit: &str| match b {
        0 => format!("{a} {a_unit}"),
        _ => format!("{a} {a_unit} {b} {b_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(minutes, "min", seconds % 60, "s"),
        3_600..86_400 => two(hours, "h", minutes, "min"),
        _ => two(days, "d", hours, "h"),
    }
}

/// A moment to the second, in UTC.
pub fn moment(time: Timestamp) -> String {
    time.date_time().format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The time of day, in UTC.
pub fn time_of_day(time: Timestamp) -> String {
    time.date_time().format("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        for (text, chars, expected) in
            [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("äöüß", 2, "ä…"), ("x", 0, ""), ("", 0, "")]
        {
            assert_eq!(cut(text, chars), expected);
        }
        assert_eq!(cut_escaped("ab&amp;cd", 5), "ab…");
        assert_eq!(cut_escaped("ab&amp;cd", 8), "ab&amp;…");
        assert_eq!(cut_escaped("ä&lt;", 3), "ä…");
    }

    #[test]
    fn nothing_hidden_is_left() {
        let hostile = "a\u{1b}[31m\r\nBcc: x\u{202e}y\u{0}\u{200b} z";
        assert_eq!(clean_line(hostile, 100), "a [31m Bcc: x y z");
        assert_eq!(clean_lines("a\u{7}b\r\nc", 100), "a b\nc");
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (2.0, "2"),
            (0.0312, "0.031"),
            (41.26, "41.3"),
            (99.99, "100"),
            (1320.0, "1320"),
            (12_345.0, "12.3k"),
            (3_400_000.0, "3.4M"),
            (-7.5, "-7.5"),
            (f64::NAN, "–"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected, "{value}");
        }
    }

    #[test]
    fn spans_have_two_units() {
        let cases = [
            (5, "5 s"),
            (60, "1 min"),
            (185, "3 min 5 s"),
            (7_500, "2 h 5 min"),
            (90_000, "1 d 1 h"),
            (0, "0 s"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }
}
