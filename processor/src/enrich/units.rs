//! Numbers, times and ids as people and programs write them.

use chrono::DateTime;

/// Milliseconds in a unit of time.
pub(super) fn unit_ms(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" | "nanos" | "nanoseconds" => 1e-6,
        "us" | "µs" | "μs" | "micros" | "microseconds" => 1e-3,
        "ms" | "msec" | "msecs" | "millis" | "milliseconds" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
        "m" | "min" | "mins" | "minutes" => 60e3,
        _ => return None,
    })
}

/// A duration with its unit, such as `12ms` or `1.5 s`, in milliseconds.
pub(super) fn duration_ms(text: &str) -> Option<f64> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let number: f64 = text[..digits].parse().ok()?;
    checked_ms(number * unit_ms(text[digits..].trim_start())?)
}

/// Only what a latency may be.
pub(super) fn checked_ms(latency_ms: f64) -> Option<f64> {
    (latency_ms.is_finite() && latency_ms >= 0.0).then_some(latency_ms)
}

/// RFC 3339 as nanoseconds since 1970-01-01 UTC.
pub(super) fn rfc3339_nanos(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt()
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970-01-01 UTC, told apart by their
/// size: each stands for a time between 1973 and 5138 only in its own unit.
pub(super) fn epoch_nanos(number: f64) -> Option<i64> {
    let unit = match number {
        1e8..1e11 => 1e9,
        1e11..1e14 => 1e6,
        1e14..1e17 => 1e3,
        1e17..9e18 => 1.0,
        _ => return None,
    };
    // A double of today's seconds has some 0.2 µs of precision; the digits below a millisecond are
    // mostly what was left of a division, and would make equal times differ.
    if unit == 1e9 {
        Some((number * 1e3).round() as i64 * 1_000_000)
    } else {
        Some((number * unit) as i64)
    }
}

/// Hexadecimal digits as an id; all zeros are none (W3C Trace Context, 3.2.2).
pub(super) fn hex_id<const SIZE: usize>(text: &str) -> Option<[u8; SIZE]> {
    let mut id = [0; SIZE];
    hex::decode_to_slice(text, &mut id).ok()?;
    id.iter().any(|&byte| byte != 0).then_some(id)
}

/// Trace and span id of a W3C `traceparent`.
pub(super) fn traceparent(text: &str) -> Option<([u8; 16], [u8; 8])> {
    let mut parts = text.split('-');
    let (_version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    Some((hex_id(trace)?, hex_id(span)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, expected) in [
            ("12ms", Some(12.0)),
            ("1.5s", Some(1_500.0)),
            ("250 µs", Some(0.25)),
            ("3 seconds", Some(3_000.0)),
            ("12", None),
            ("ms", None),
            ("1.2.3ms", None),
            ("-1ms", None),
            ("", None),
        ] {
            assert_eq!(duration_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn times_are_read_in_their_unit() {
        let expected = 1_700_000_000_000_000_000;
        for number in [1.7e9, 1.7e12, 1.7e15, 1.7e18] {
            assert_eq!(epoch_nanos(number), Some(expected));
        }
        assert_eq!(epoch_nanos(12.0), None);
        assert_eq!(epoch_nanos(f64::NAN), None);
        assert_eq!(rfc3339_nanos("2023-11-14T22:13:20Z"), Some(expected));
    }

    #[test]
    fn ids_of_zeros_are_none() {
        assert_eq!(hex_id::<2>("0aFf"), Some([10, 255]));
        assert_eq!(hex_id::<2>("0000"), None);
        assert_eq!(hex_id::<2>("0aff00"), None);
        assert!(traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").is_some());
        assert!(traceparent("00-zz-1").is_none());
    }
}
