//! Finds the records of a body: one object, an array, or objects by lines. Pure. A record is not read
//! here, only where it begins and ends: one that is no JSON takes no other along.

use std::ops::Range;

use crate::receiver::json::signs;

/// What is wrong with a body as a whole.
pub(super) const UNFINISHED: &str = "the array does not end";

/// The records of a body. By lines if its sender says so, or if its first line is an object or an array
/// as a whole and has others below; else it is one array, or one object, spread over lines as its sender
/// likes.
pub(super) fn records(body: &[u8], is_by_lines: bool) -> Result<Vec<&[u8]>, &'static str> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body).trim_ascii();
    let first = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_several = first.len() < body.len() && is_whole(first);
    if is_by_lines || (is_several && !body.is_empty()) {
        let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        return Ok(lines.filter(|line| !line.is_empty()).collect());
    }
    match body.first() {
        None => Ok(Vec::new()),
        Some(b'[') => elements(body).ok_or(UNFINISHED),
        Some(_) => Ok(vec![body]),
    }
}

/// Whether a text is one object or array from its first byte to its last.
fn is_whole(text: &[u8]) -> bool {
    let mut depth = 0_usize;
    for (at, sign) in signs(text) {
        match sign {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && at > 0 {
            return text[at + 1..].trim_ascii().is_empty();
        }
    }
    false
}

/// The elements of an array; none if it does not end.
fn elements(array: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut depth, mut begin, mut found) = (0_usize, 1, Vec::new());
    let mut take = |range: Range<usize>, is_last: bool| {
        let element = array[range].trim_ascii();
        // Nothing stands in an empty array, nor behind a comma too many.
        if !(is_last && element.is_empty()) {
            found.push(element);
        }
    };
    for (at, sign) in signs(array) {
        match sign {
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => {
                take(begin..at, true);
                // What follows the array is none of it.
                return array[at + 1..].trim_ascii().is_empty().then_some(found);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => {
                take(begin..at, false);
                begin = at + 1;
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(body: &str, is_by_lines: bool) -> Result<Vec<String>, &'static str> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(records(body.as_bytes(), is_by_lines)?.into_iter().map(text).collect())
    }

    #[test]
    fn a_body_is_what_it_looks_like() {
        for (body, expected) in [
            ("", &[][..]),
            (" \n ", &[]),
            ("[]", &[]),
            (r#"{"a":1}"#, &[r#"{"a":1}"#]),
            ("\u{feff}{\n \"a\": 1\n}\n", &["{\n \"a\": 1\n}"]),
            ("{\"a\":1}\n{\"b\":2}\r\n\n", &[r#"{"a":1}"#, r#"{"b":2}"#]),
            ("{\"a\":1}\nno\n{\"b\":2}", &[r#"{"a":1}"#, "no", r#"{"b":2}"#]),
            (r#"[{"a":"],[\""}, 7 ,[1,2]]"#, &[r#"{"a":"],[\""}"#, "7", "[1,2]"]),
            (r#"[{"a":NaN},{"b":{"c":[{}]}},]"#, &[r#"{"a":NaN}"#, r#"{"b":{"c":[{}]}}"#]),
            ("[{},,{}]", &["{}", "", "{}"]),
            ("[\n{\"a\":1},\n{\"b\":2}\n]", &[r#"{"a":1}"#, r#"{"b":2}"#]),
            ("no", &["no"]),
        ] {
            assert_eq!(
                found(body, false),
                Ok(expected.iter().map(|t| t.to_string()).collect()),
                "{body}"
            );
        }
        for bad in ["[", "[{]", "[{}] x", r#"["a]"#] {
            assert_eq!(found(bad, false), Err(UNFINISHED), "{bad}");
        }
    }

    #[test]
    fn who_says_that_lines_are_records_means_it() {
        let lines = found("{\"a\":\n1}\n[{}]", true).unwrap();
        assert_eq!(lines, ["{\"a\":", "1}", "[{}]"]);
    }

    proptest! {
        #[test]
        fn any_bytes_have_records(body in "[\\[\\]{},:\"\\\\a\n ]{0,60}", by_lines: bool) {
            if let Ok(found) = records(body.as_bytes(), by_lines) {
                let bytes: usize = found.iter().map(|record| record.len()).sum();
                prop_assert!(bytes <= body.len());
            }
        }

        #[test]
        fn the_elements_of_an_array_are_those_of_a_strict_reader(
            values in prop::collection::vec("[a-z\\[\\]{},\"\\\\]{0,9}", 0..6),
        ) {
            let array = serde_json::to_vec(&values).unwrap();
            let found = records(&array, false).unwrap();
            let read: Vec<String> =
                found.into_iter().map(|text| serde_json::from_slice(text).unwrap()).collect();
            prop_assert_eq!(read, values);
        }
    }
}
