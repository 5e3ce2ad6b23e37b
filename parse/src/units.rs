//! Durations and ids as people and programs write them.

/// Milliseconds in a unit of time.
pub(crate) fn unit_ms(unit: &str) -> Option<f64> {
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
pub(crate) fn duration_ms(text: &str) -> Option<f64> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let number: f64 = text[..digits].parse().ok()?;
    checked_ms(number * unit_ms(text[digits..].trim_start())?)
}

/// Only what a latency may be.
pub(crate) fn checked_ms(latency_ms: f64) -> Option<f64> {
    (latency_ms.is_finite() && latency_ms >= 0.0).then_some(latency_ms)
}

/// The unit in the name of a latency, if the name is one; empty if the name has no unit.
pub(crate) fn latency_unit(key: &str) -> Option<&str> {
    const STEMS: [&str; 6] =
        ["latency", "duration", "elapsed", "took", "response_time", "responseTime"];
    let rest = STEMS.into_iter().find_map(|stem| key.strip_prefix(stem))?;
    match rest.strip_prefix('_') {
        Some(unit) => unit_ms(unit).map(|_| unit),
        None if rest == "Ms" => Some("ms"),
        None => rest.is_empty().then_some(""),
    }
}

/// Hexadecimal digits as an id; all zeros are none (W3C Trace Context, 3.2.2).
pub(crate) fn hex_id<const SIZE: usize>(text: &str) -> Option<[u8; SIZE]> {
    let mut id = [0; SIZE];
    hex::decode_to_slice(text, &mut id).ok()?;
    id.iter().any(|&byte| byte != 0).then_some(id)
}

/// Trace and span id of a W3C `traceparent`.
pub(crate) fn traceparent(text: &str) -> Option<([u8; 16], [u8; 8])> {
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
    fn ids_of_zeros_are_none() {
        assert_eq!(hex_id::<2>("0aFf"), Some([10, 255]));
        assert_eq!(hex_id::<2>("0000"), None);
        assert_eq!(hex_id::<2>("0aff00"), None);
        assert!(traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").is_some());
        assert!(traceparent("00-zz-1").is_none());
    }
}
