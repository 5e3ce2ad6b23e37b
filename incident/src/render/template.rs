//! Texts that whoever keeps a channel may word themselves.
//!
//! A template is not trusted: it may loop, and it is filled with what logs say. So it knows nothing
//! but the notification; it has `if` and `for` and no other statement (a variable that doubles
//! itself would eat the memory long before its fuel is gone); its fuel and its output are bounded;
//! and whatever it prints is escaped for where it goes, without a way to switch that off. It is
//! tried when a channel is made. If it fails later all the same, the plain form is sent with a
//! note: never nothing.

use std::{fmt, io};

use minijinja::{
    Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, value::Serde,
};
use serde::{Deserialize, Serialize};

use crate::render::{text, view::View};

/// Bytes of a template.
pub const SOURCE_BYTES_MAX: usize = 16 << 10;
/// Instructions that a template may run.
pub const FUEL: u64 = 50_000;
/// Bytes that a template may print.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Statements that a template may have.
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];
/// Depth of a template's recursion.
const DEPTH_MAX: usize = 40;
/// Characters of what a template got wrong, and of a statement that is not allowed, as they are
/// shown: both may quote the template.
const ERROR_CHARS_MAX: usize = 300;
const STATEMENT_CHARS_MAX: usize = 40;

/// A channel's own wording; what is missing is worded as built in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Templates {
    /// Of one line: Slack's header, a mail's subject.
    pub title: Option<String>,
    /// Slack's text, a mail's text, or the whole JSON of a webhook.
    pub body: Option<String>,
}

/// What a template's output becomes part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// Nothing has a meaning.
    Text,
    /// HTML.
    Html,
    /// Slack's mrkdwn.
    Slack,
    /// Within the quotes of a JSON string.
    Json,
}

/// A template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {0}")]
pub struct TemplateError(String);

/// Fills a template with a notification.
pub fn render(source: &str, markup: Markup, view: &View) -> Result<String, TemplateError> {
    // Before it is compiled, which alone may take much time and memory.
    check_source(source)?;
    fill(source, markup, view)
}

/// Fills a template that is part of the program, and so is trusted with any statement.
pub fn fill(source: &str, markup: Markup, view: impl Serialize) -> Result<String, TemplateError> {
    let mut environment = Environment::empty();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH_MAX);
    // A misspelt name is an error when the channel is set, and not an empty line at night.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(move |output, _: &mut State, value| print(output, markup, value));
    environment.add_filter("upper", |text: &str| text.to_uppercase());
    environment.add_filter("lower", |text: &str| text.to_lowercase());
    environment.add_filter("cut", |text: &str, chars: usize| text::cut(text, chars));
    environment.add_filter("length", |value: Value| value.len().unwrap_or_default());
    let template = environment.template_from_str(source).map_err(|error| describe(&error))?;
    // Fuel counts instructions, and one of them may print a whole log.
    let mut bounded = Bounded(Vec::new());
    template.render_captured_to(Serde(view), &mut bounded).map_err(|error| describe(&error))?;
    String::from_utf8(bounded.0).map_err(|error| TemplateError(error.to_string()))
}

fn check_source(source: &str) -> Result<(), TemplateError> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(TemplateError(format!("is longer than {SOURCE_BYTES_MAX} bytes")));
    }
    for tag in tags(source) {
        check_tag(tag)?;
    }
    Ok(())
}

/// What stands within `{{ }}` and `{% %}`; statements keep their leading `%`.
fn tags(source: &str) -> impl Iterator<Item = &str> {
    let mut rest = source;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find('{')?;
            let inside = &rest[start + 1..];
            let end = match inside.as_bytes().first() {
                Some(b'{') => "}}",
                Some(b'%') => "%}",
                // A comment ends with the first `#}`, whatever quotes are in it.
                Some(b'#') => {
                    rest = inside.split_once("#}").map_or("", |(_, after)| after);
                    continue;
                }
                _ => {
                    rest = inside;
                    continue;
                }
            };
            let length = tag_length(inside, end);
            rest = &inside[length..];
            return Some(&inside[..length]);
        }
    })
}

/// Where a tag ends; an end within quotes is none.
fn tag_length(inside: &str, end: &str) -> usize {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in inside.char_indices() {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if c == '\\' => is_escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if at > 0 && inside[at..].starts_with(end) => return at,
            None if c == '"' || c == '\'' => quote = Some(c),
            None => {}
        }
    }
    inside.len()
}

fn check_tag(tag: &str) -> Result<(), TemplateError> {
    // A text times a number is a longer text.
    if tag.contains('*') {
        return Err(TemplateError("`*` is not allowed within a tag".into()));
    }
    let Some(statement) = tag.strip_prefix('%') else { return Ok(()) };
    let statement = statement.trim_start_matches(['-', '+']).trim_start();
    let end = statement.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(statement.len());
    let (name, rest) = statement.split_at(end);
    if !STATEMENTS.contains(&name) {
        let name = text::clean_line(name, STATEMENT_CHARS_MAX);
        let text = format!("the statement `{name}` is not allowed; use `if` and `for`");
        return Err(TemplateError(text));
    }
    // A loop that calls itself grows faster than its fuel shrinks.
    if rest.contains("recursive") {
        return Err(TemplateError("`recursive` is not allowed; use a plain `for`".into()));
    }
    Ok(())
}

fn print(output: &mut Output<'_>, markup: Markup, value: &Value) -> Result<(), Error> {
    // With a formatter of our own it is only this that refuses a name which is not there.
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "it has no such value"));
    }
    let plain = match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    };
    let escaped = escape(&plain, markup);
    fmt::Write::write_str(output, &escaped).map_err(Error::from)
}

/// Makes a text mean nothing but itself.
pub fn escape(text: &str, markup: Markup) -> String {
    match markup {
        Markup::Text => text.to_owned(),
        Markup::Slack => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        // Quotes as well, as a value may stand within an attribute. The ampersand first, or the
        // others' would be escaped again.
        Markup::Html => text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&#x27;"),
        Markup::Json => {
            // Without its quotes, since the template has them around the place already.
            let quoted = serde_json::Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        }
    }
}

fn describe(error: &Error) -> TemplateError {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "it takes too long".to_owned(),
        ErrorKind::WriteFailure => format!("it prints over {OUTPUT_BYTES_MAX} bytes"),
        _ => text::clean_line(&error.to_string(), ERROR_CHARS_MAX),
    };
    TemplateError(format!("{line}{what}"))
}

/// What a template has printed, at most [`OUTPUT_BYTES_MAX`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::view::tests::view;

    #[test]
    fn it_is_filled_and_escaped_for_where_it_goes() {
        let source = "{{ service }}: {% for cause in causes %}{{ cause.pattern }};{% endfor %}";
        let cases = [
            (Markup::Text, "checkout: db <pool> & \"x\" gone;"),
            (Markup::Slack, "checkout: db &lt;pool&gt; &amp; \"x\" gone;"),
            (Markup::Html, "checkout: db &lt;pool&gt; &amp; &quot;x&quot; gone;"),
            (Markup::Json, "checkout: db <pool> & \\\"x\\\" gone;"),
        ];
        for (markup, expected) in cases {
            let mut view = view();
            view.causes.truncate(1);
            view.causes[0].pattern = "db <pool> & \"x\" gone".into();
            assert_eq!(render(source, markup, &view).unwrap(), expected);
        }
    }

    #[test]
    fn what_could_do_harm_is_refused() {
        let long = "x".repeat(SOURCE_BYTES_MAX + 1);
        let nested = "{% for a in causes %}".repeat(12) + "x" + &"{% endfor %}".repeat(12);
        let printing = "{{ summary }}".repeat(1_200);
        let cases = [
            ("{% set a = summary ~ summary %}", "`set` is not allowed"),
            ("{%- with b = summary %}{% endwith %}", "`with` is not allowed"),
            ("{% include 'x' %}", "`include` is not allowed"),
            ("{% autoescape false %}{{ title }}{% endautoescape %}", "`autoescape`"),
            ("{{ 'x' * 100000000 }}", "`*` is not allowed"),
            ("{{ '}}' ~ 'x' * 100000000 }}", "`*` is not allowed"),
            ("{# {{ #}{{ '\\'}}' * 9 }}", "`*` is not allowed"),
            ("{% for a in causes recursive %}{{ loop(causes) }}{% endfor %}", "`recursive`"),
            ("{{ title|safe }}", "safe"),
            ("{{ range(9) }}", "range"),
            ("{{ titel }}", "undefined value"),
            ("{% if %}", "line 1"),
            (nested.as_str(), "takes too long"),
            (printing.as_str(), "prints over"),
            (long.as_str(), "longer than"),
        ];
        let mut view = view();
        view.summary = "s".repeat(600);
        // Ten causes, as many as an incident carries: twelve loops over them run out of fuel.
        while view.causes.len() < 10 {
            view.causes.push(view.causes[0].clone());
        }
        for (source, reason) in cases {
            let error = render(source, Markup::Slack, &view).unwrap_err().to_string();
            assert!(error.contains(reason), "{}: {error}", text::cut(source, 60));
        }
    }

    #[test]
    fn bold_text_is_no_multiplication() {
        assert_eq!(render("*{{ service }}* {x", Markup::Slack, &view()).unwrap(), "*checkout* {x");
    }
}
