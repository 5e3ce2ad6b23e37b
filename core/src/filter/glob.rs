//! A text with `*` in it, which stands for any part.

/// What a text may be like: pieces that it has in this order, the first at its start, the last at
/// its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    pieces: Vec<String>,
}

impl Glob {
    /// What a text with a `*` stands for; none if there is no `*` in it.
    pub fn of(text: &str) -> Option<Self> {
        text.contains('*').then(|| Self { pieces: text.split('*').map(str::to_owned).collect() })
    }

    /// Whether any text is like this.
    pub fn is_any(&self) -> bool {
        self.pieces.iter().all(String::is_empty)
    }

    /// What stands before, between and after each `*`; some may be empty.
    pub fn pieces(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().map(String::as_str)
    }

    /// Whether a text is like this, in its case.
    pub fn matches(&self, text: &str) -> bool {
        let [first, between @ .., last] = self.pieces.as_slice() else {
            return false;
        };
        // The start and the end are cut off before the rest is looked at, so that `ab*ba` does not
        // find `aba`.
        let rest = text.strip_prefix(first.as_str());
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(last.as_str())) else {
            return false;
        };
        between.iter().all(|piece| {
            let found = rest.split_once(piece.as_str());
            rest = found.map_or("", |(_, after)| after);
            found.is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_part() {
        for (glob, text, expected) in [
            ("*", "", true),
            ("*", "a", true),
            ("Ann*", "Ann.Miller", true),
            ("Ann*", "ann", false),
            ("Ann*", "Joann", false),
            ("*er", "Ann.Miller", true),
            ("*nn*ll*", "Ann.Miller", true),
            ("*ll*nn*", "Ann.Miller", false),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("/api/*/users", "/api/v1/users", true),
            ("/api/*/users", "/api/v1/users/7", false),
            ("a**ö", "aö", true),
        ] {
            assert_eq!(Glob::of(glob).unwrap().matches(text), expected, "{glob} {text}");
        }
        assert_eq!(Glob::of("none"), None);
    }
}
