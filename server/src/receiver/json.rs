//! What can be told of JSON before it is read. Pure.

/// Memory of one record and of the log that it becomes, without its text, bytes.
const RECORD_BYTES: usize = 400;
/// Memory of one member of an object, and of what it becomes, without its text, bytes.
const MEMBER_BYTES: usize = 96;
/// Memory of one element of an array, of which it is known where it is, bytes.
const ELEMENT_BYTES: usize = 48;
/// The same of a line.
const LINE_BYTES: usize = 32;

/// About how much memory records in JSON take once decoded, bytes: in an array, by lines, or however else
/// they come.
pub(crate) fn structure_bytes(body: &[u8]) -> usize {
    let (mut depth, mut before, mut bytes) = (0_usize, b'\n', names(body) * MEMBER_BYTES);
    for (_, sign) in signs(body) {
        match sign {
            b'{' => {
                depth += 1;
                // What is a member's value stays a text, or is a group of members.
                bytes += if before == b':' { MEMBER_BYTES } else { RECORD_BYTES };
            }
            b'[' => {
                depth += 1;
                bytes += ELEMENT_BYTES;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'\n' => bytes += LINE_BYTES,
            b':' => {}
            _ if depth <= 1 => bytes += ELEMENT_BYTES,
            _ => {}
        }
        before = sign;
    }
    bytes
}

/// Names of members, wherever they are: each is in quotes before its colon. In what is nearly JSON the
/// quotes may be single ones, with a double one within, and then `signs` takes what is outside of strings
/// for what is inside; and a text may be an object that is read too.
fn names(body: &[u8]) -> usize {
    let mut before = b'\n';
    let of_name = |byte: &&u8| {
        let is_name = **byte == b':' && matches!(before, b'"' | b'\'');
        if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            before = **byte;
        }
        is_name
    };
    body.iter().filter(of_name).count()
}

/// The same where each array may be a log.
pub(crate) fn structure_bytes_of_arrays(body: &[u8]) -> usize {
    let weight = |(_, sign)| match sign {
        b'[' | b'{' => RECORD_BYTES,
        b':' => MEMBER_BYTES,
        _ => 0,
    };
    signs(body).map(weight).sum()
}

/// Brackets, commas and colons outside of strings, and line ends. A string ends with its line, since it may have no line
/// end (RFC 8259, 7): a quote too many hides nothing of other lines.
pub(crate) fn signs(text: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let (mut is_string, mut is_escaped) = (false, false);
    text.iter().copied().enumerate().filter(move |(_, byte)| {
        if *byte == b'\n' {
            (is_string, is_escaped) = (false, false);
            return true;
        }
        if is_string {
            let ends = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            is_string = !ends;
            return false;
        }
        is_string = *byte == b'"';
        matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_and_swells_weighs() {
        let per_byte =
            |text: &str| structure_bytes(text.repeat(1_000).as_bytes()) / text.len() / 1_000;
        for swells in ["{}\n", "{},", "\"a\":1,", "1,", "x\n"] {
            assert!(per_byte(swells) > 8, "{swells:?} {}", per_byte(swells));
        }
        let ordinary =
            r#"{"service":"shop","level":"info","message":"order 7 was placed in 12 ms"}"#;
        let lines = format!("{ordinary}\n").repeat(1_000);
        assert!(structure_bytes(lines.as_bytes()) < lines.len() * 16);
        assert_eq!(structure_bytes(format!("\"{}\"", "{,".repeat(99)).as_bytes()), 0);
        let hidden = format!("\"\n{}", "{}\n".repeat(1_000));
        assert!(structure_bytes(hidden.as_bytes()) > 400_000);
        let unclosed = "{\"a\":1\n".repeat(1_000);
        assert!(structure_bytes(unclosed.as_bytes()) > 400_000);
        for hides in ["'a':1,", "'a' :1,", "\"a\":1,"] {
            let hidden = format!("{{'x':'\"',{}}}", hides.repeat(1_000));
            assert!(structure_bytes(hidden.as_bytes()) > 96_000, "{hides}");
        }
        let pushed = format!("{{\"values\":[{}]}}", "[\"1\",\"\"],".repeat(1_000));
        assert!(structure_bytes_of_arrays(pushed.as_bytes()) > 400_000);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_weigh(text in "[\\[\\]{},:\"\\\\a\n ]{0,60}") {
            structure_bytes(text.as_bytes());
            structure_bytes_of_arrays(text.as_bytes());
        }
    }
}
