//! Exceptions in the traces of many languages. Pure.

/// Where Python's traces begin.
pub(crate) const PYTHON_TRACE: &str = "Traceback (most recent call last):";
/// What Rust says before the place of a panic.
pub(crate) const RUST_PANIC: &str = "panicked at ";
/// Lines behind the first in which a name is looked for: a statement may stand between the message
/// and the trace.
const LINES_MAX: usize = 8;
/// Names looked at in a line: in a line of thousands each would start another search.
const NAMES_MAX: usize = 8;

/// The type and message of an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception<'a> {
    /// Its class or kind.
    pub kind: &'a str,
    /// What it says; may be empty.
    pub message: &'a str,
}

/// The exception in the trace of a program in Python, Java, Rust, Go, .NET, Node or Ruby.
pub fn exception(text: &str) -> Option<Exception<'_>> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if !rest.is_empty()
        && let Some(at) = memchr::memmem::rfind(text.as_bytes(), PYTHON_TRACE.as_bytes())
    {
        return of_python(&text[at..]);
    }
    if let Some(at) = memchr::memmem::find(first.as_bytes(), RUST_PANIC.as_bytes()) {
        let place = &first[at + RUST_PANIC.len()..];
        // Since Rust 1.73 the message stands on the line behind the place, before it on the same.
        let message = rest.lines().next().filter(|line| !line.is_empty()).unwrap_or(place);
        return Some(Exception { kind: "panic", message });
    }
    if let Some(message) = first.strip_prefix("panic: ") {
        return Some(Exception { kind: "panic", message });
    }
    if let Some(found) = of_node(text) {
        return Some(found);
    }
    named_at_start(first).or_else(|| of_ruby(first)).or_else(|| within(first)).or_else(|| {
        let lines = rest.lines().take(LINES_MAX).filter(|line| !line.starts_with([' ', '\t']));
        lines.into_iter().find_map(named)
    })
}

/// Python writes the frames, which are indented, and last the exception.
fn of_python(trace: &str) -> Option<Exception<'_>> {
    let is_outer = |line: &&str| !line.trim().is_empty() && !line.starts_with([' ', '\t']);
    let last = trace.lines().skip(1).filter(is_outer).last()?;
    let (kind, message) = last.split_once(':').unwrap_or((last, ""));
    is_name(kind.trim()).then(|| Exception { kind: kind.trim(), message: message.trim() })
}

/// `Error: no money` with frames behind it: the class alone says nothing, but the frames do.
fn of_node(text: &str) -> Option<Exception<'_>> {
    let frames = memchr::memmem::find(text.as_bytes(), b"\n    at ")?;
    let line = text[..frames].rsplit('\n').next()?;
    let at = line.rfind("Error: ").filter(|at| *at == 0 || line[..*at].ends_with(' '))?;
    Some(Exception { kind: "Error", message: &line[at + "Error: ".len()..] })
}

/// `app.rb:7:in 'work': no money (ArgumentError)`, as Ruby writes it.
fn of_ruby(line: &str) -> Option<Exception<'_>> {
    let (place, kind) = line.trim_end().strip_suffix(')')?.rsplit_once(" (")?;
    let (_, message) = place.split_once(":in ")?.1.split_once(": ")?;
    (is_name(kind) && kind.starts_with(|letter: char| letter.is_ascii_uppercase()))
        .then_some(Exception { kind, message })
}

fn named_at_start(line: &str) -> Option<Exception<'_>> {
    let line = line.strip_prefix("Exception in thread ").unwrap_or(line);
    match line.strip_prefix('"').and_then(|quoted| quoted.split_once("\" ")) {
        Some((_thread, line)) => named(line),
        None => named(line),
    }
}

/// `Kind: message` or `Kind` alone.
fn named(text: &str) -> Option<Exception<'_>> {
    let end = text.find(|letter| !is_in_name(letter)).unwrap_or(text.len());
    let (kind, rest) = text.split_at(end);
    let message = match rest.strip_prefix(':') {
        Some(message) => message.trim(),
        None if rest.trim().is_empty() => "",
        None => return None,
    };
    is_kind(kind).then_some(Exception { kind, message })
}

/// `order failed: java.io.IOException: no route`, or behind a full stop, a blank or a bracket.
fn within(line: &str) -> Option<Exception<'_>> {
    let ends = line.match_indices(':').map(|(at, _)| at).take(NAMES_MAX);
    let mut names = ends.chain([line.trim_end().len()]).filter_map(|end| {
        let head = &line[..end];
        let name = head
            .rfind(|letter| !is_in_name(letter))
            .map_or(0, |before| before + head[before..].chars().next().map_or(0, char::len_utf8));
        let is_apart = name > 0 && matches!(head.as_bytes()[name - 1], b' ' | b'(' | b'\t');
        let message = line[end..].trim_start_matches(':').trim();
        // At the end of a sentence a name needs its package: "caught an IOException" is a sentence.
        let is_meant = end < line.trim_end().len() || head[name..].contains('.');
        (is_apart && is_meant && is_kind(&head[name..]))
            .then(|| Exception { kind: &head[name..], message })
    });
    names.next()
}

fn is_in_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '$')
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(is_in_name)
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether it is the name of an exception, and more than that word alone.
pub(crate) fn is_kind(name: &str) -> bool {
    ["Exception", "Error"].iter().any(|end| name.ends_with(end) && name.len() > end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_of_several_languages_are_found() {
        for (text, kind, message) in [
            (
                "java.io.IOException: no route\n\tat a.B.c(B.java:1)",
                "java.io.IOException",
                "no route",
            ),
            ("Exception in thread \"main\" a.BException: x\n\tat", "a.BException", "x"),
            ("order failed: a.B.CError: x", "a.B.CError", "x"),
            (
                "Traceback (most recent call last):\n  File \"a\"\nValueError: bad\n",
                "ValueError",
                "bad",
            ),
            ("thread 'main' panicked at src/a.rs:1:2:\nboom", "panic", "boom"),
            ("thread 'main' panicked at 'boom', a.rs:1", "panic", "'boom', a.rs:1"),
            ("pay failed\nError: no money\n    at pay (a.js:1)", "Error", "no money"),
            ("java.lang.NullPointerException", "java.lang.NullPointerException", ""),
        ] {
            assert_eq!(exception(text), Some(Exception { kind, message }), "{text}");
        }
        for text in ["Error: x", "an Exception happened", "no", "", "Error handling is on: yes"] {
            assert_eq!(exception(text), None, "{text}");
        }
    }
}
