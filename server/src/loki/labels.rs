//! Reads labels as Loki writes them: `{name="value", other="with \"quotes\""}`. Pure.

/// The names and values; the text says where they end to be such.
pub(super) fn labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let Some(mut rest) = inner.map(str::trim) else { return Err(wrong(text)) };
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| wrong(rest))?;
        let (value, after) = quoted(after.trim_start()).ok_or_else(|| wrong(rest))?;
        found.push((name.trim().to_owned(), value));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return Err(wrong(after)),
        };
    }
    Ok(found)
}

/// Of labels that are shown in an answer.
const SHOWN_CHARACTERS_MAX: usize = 40;

fn wrong(at: &str) -> String {
    let shown: String = at.chars().take(SHOWN_CHARACTERS_MAX).collect();
    format!("the labels are not written as {{name=\"value\"}} from here on: {shown}")
}

/// A string as Go quotes it (`strconv.Quote`, or between backticks), and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        return raw.split_once('`').map(|(value, rest)| (value.to_owned(), rest));
    }
    let mut characters = text.strip_prefix('"')?.chars();
    let mut value = String::new();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(escaped(&mut characters)?),
            character => value.push(character),
        }
    }
}

fn escaped(characters: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = match characters.next()? {
        'a' => return Some('\u{7}'),
        'b' => return Some('\u{8}'),
        'f' => return Some('\u{c}'),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'v' => return Some('\u{b}'),
        // A byte that is no text of its own, which a label in protobuf cannot have.
        'x' => 2,
        'u' => 4,
        'U' => 8,
        character @ ('\\' | '"' | '\'') => return Some(character),
        _ => return None,
    };
    let text = characters.as_str();
    let code = u32::from_str_radix(text.get(..digits)?, 16).ok()?;
    *characters = text[digits..].chars();
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_they_are_quoted() {
        for (text, expected) in [
            ("{}", &[][..]),
            (r#"{app="web"}"#, &[("app", "web")]),
            (
                r#"{ app = "web" , env="a\"b\\c\n\u00e9\x41", }"#,
                &[("app", "web"), ("env", "a\"b\\c\néA")],
            ),
            ("{path=`C:\\x`,b=\"\"}", &[("path", "C:\\x"), ("b", "")]),
            (r#"{a="x}y,z=\"w\""}"#, &[("a", "x}y,z=\"w\"")]),
        ] {
            let found = labels(text).unwrap();
            let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "{text}");
        }
        for bad in [
            "",
            "app=web",
            "{app=web}",
            r#"{app="web}"#,
            r#"{app="web" x}"#,
            r#"{a="\q"}"#,
            r#"{a="\u12"}"#,
        ] {
            assert!(labels(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[{}=\",a\\\\xu0é`]{0,30}") {
            drop(labels(&text));
        }
    }
}
