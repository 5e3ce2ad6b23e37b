//! Reads off a source file what it uses and which paths it writes, tests left out. It knows no more
//! of Rust than that needs: a parser would take longer to build than all that it reads.

use std::{iter::Peekable, str::Chars};

/// A name that a `use` brings in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// What it is called here; empty for all that a module has (`*`).
    pub(crate) short: String,
    /// Where it comes from.
    pub(crate) path: Vec<String>,
    /// Whether it is shown to others (`pub use`).
    pub(crate) is_public: bool,
}

/// What a file uses, and every other path in it of more than one name.
pub(crate) fn read(text: &str) -> (Vec<Use>, Vec<Vec<String>>) {
    let tokens = tokens(text);
    let (mut uses, mut paths) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if is_test(&tokens[at..]) {
            at = end_of_item(&tokens, at + TEST.len());
        } else if tokens[at] == "use" {
            let is_public = at > 0 && matches!(tokens[at - 1].as_str(), "pub" | ")");
            at = read_use(&tokens, at + 1, &[], is_public, &mut uses);
        } else if is_name(&tokens[at]) && tokens.get(at + 1).is_some_and(|next| next == "::") {
            let path = path_at(&tokens, at);
            at += 2 * path.len();
            paths.push(path);
        } else {
            at += 1;
        }
    }
    paths.retain(|path| path.len() > 1);
    (uses, paths)
}

const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

fn is_test(tokens: &[String]) -> bool {
    tokens.len() > TEST.len() && TEST.iter().zip(tokens).all(|(expected, found)| expected == found)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Behind the next item: behind its `;` or its block.
fn end_of_item(tokens: &[String], from: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(token.as_str(), ";" | "}") {
            return at + 1;
        }
    }
    tokens.len()
}

fn path_at(tokens: &[String], from: usize) -> Vec<String> {
    let mut path = vec![tokens[from].clone()];
    let mut at = from + 1;
    while tokens.get(at).is_some_and(|token| token == "::")
        && tokens.get(at + 1).is_some_and(|token| is_name(token))
    {
        path.push(tokens[at + 1].clone());
        at += 2;
    }
    path
}

/// Reads a tree of names; returns where it ends.
fn read_use(
    tokens: &[String],
    from: usize,
    before: &[String],
    is_public: bool,
    uses: &mut Vec<Use>,
) -> usize {
    let mut path = before.to_vec();
    let mut at = from;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens[at] != "}" {
                    at = read_use(tokens, at, &path, is_public, uses);
                    at += usize::from(tokens[at] == ",");
                }
                return at + 1;
            }
            "*" => {
                uses.push(Use { short: String::new(), path, is_public });
                return at + 1;
            }
            "as" => {
                uses.push(Use { short: tokens[at + 1].clone(), path, is_public });
                return at + 2;
            }
            "self" if !path.is_empty() => at += 1,
            name if is_name(name) => {
                path.push(name.to_owned());
                at += 1;
            }
            // The end of the tree, or of this part of it.
            _ => {
                let short = path.last().cloned().unwrap_or_default();
                uses.push(Use { short, path, is_public });
                return at;
            }
        }
    }
    at
}

/// Names, numbers, `::` and single signs; without comments and without what stands in quotes.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            '/' if rest.peek() == Some(&'/') => skip_until(&mut rest, |c| c == '\n'),
            '"' => skip_string(&mut rest),
            '\'' => skip_character(&mut rest),
            ':' if rest.peek() == Some(&':') => {
                rest.next();
                tokens.push("::".to_owned());
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(more) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(more);
                }
                let is_raw = matches!(word.as_str(), "r" | "br") && rest.peek() == Some(&'#');
                if is_raw || (word == "r" && rest.peek() == Some(&'"')) {
                    skip_raw_string(&mut rest);
                } else {
                    tokens.push(word);
                }
            }
            c if c.is_whitespace() => {}
            c => tokens.push(c.to_string()),
        }
    }
    tokens
}

fn skip_until(rest: &mut Peekable<Chars<'_>>, is_end: impl Fn(char) -> bool) {
    for c in rest.by_ref() {
        if is_end(c) {
            return;
        }
    }
}

fn skip_string(rest: &mut Peekable<Chars<'_>>) {
    while let Some(c) = rest.next() {
        match c {
            '\\' => drop(rest.next()),
            '"' => return,
            _ => {}
        }
    }
}

/// From its `#`s on: it ends with a quote and as many of them.
fn skip_raw_string(rest: &mut Peekable<Chars<'_>>) {
    let mut signs = 0;
    while rest.next_if_eq(&'#').is_some() {
        signs += 1;
    }
    rest.next();
    loop {
        skip_until(rest, |c| c == '"');
        let mut found = 0;
        while found < signs && rest.next_if_eq(&'#').is_some() {
            found += 1;
        }
        if found == signs || rest.peek().is_none() {
            return;
        }
    }
}

/// Behind its first quote: a character, or a lifetime, whose name is left as a word.
fn skip_character(rest: &mut Peekable<Chars<'_>>) {
    let mut ahead = rest.clone();
    match (ahead.next(), ahead.next()) {
        (Some('\\'), _) => {
            rest.next();
            rest.next();
            skip_until(rest, |c| c == '\'');
        }
        (Some(_), Some('\'')) => {
            rest.next();
            rest.next();
        }
        _ => {}
    }
}

#[test]
fn uses_and_paths_are_read_and_the_rest_is_passed_over() {
    let text = r##"
        //! `crate::no`
        pub(crate) use self::a::{B as C, d::{self, E}, f::*};
        use super::g;
        const Q: &str = r#"crate::no "x" "#; const P: char = '"'; const O: &str = "\"crate::no";
        fn h<'a>(_: &'a str) -> g::I { log!("{}", crate::j::K::l()) }
        #[cfg(test)]
        mod tests { use crate::no; }
        #[cfg(test)]
        use crate::no;
        impl M for n::N {}
    "##;
    let (uses, paths) = read(text);
    let uses: Vec<(String, String, bool)> = uses
        .into_iter()
        .map(|Use { short, path, is_public }| (short, path.join("::"), is_public))
        .collect();
    let expected = [
        ("C", "self::a::B", true),
        ("d", "self::a::d", true),
        ("E", "self::a::d::E", true),
        ("", "self::a::f", true),
        ("g", "super::g", false),
    ];
    assert_eq!(uses, expected.map(|(short, path, is)| (short.to_owned(), path.to_owned(), is)));
    let paths: Vec<String> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["g::I", "crate::j::K::l", "n::N"]);
}
