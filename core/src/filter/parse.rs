//! Reads the filter language: a scanner and a recursive descent over characters. Length, terms and
//! nesting are bounded, so a hostile text costs no more than a short one.

use super::{
    expression::{Comparison, Expression, Phrase, Term},
    field::{self, Field, Operator, STAR_INSIDE, Value},
};
use crate::timestamp::Timestamp;

/// Longest filter, characters.
// Room for a hundred terms with their values; what is longer was made by a program by mistake.
const CHARACTERS_MAX: usize = 4_096;
/// Most terms of a filter; each is evaluated for every log that is read.
const TERMS_MAX: usize = 100;
/// Deepest nesting of parentheses and negations; evaluating recurses as deep.
// Parser, evaluation, pruning and both storages recurse over it, on stacks of 2 MB, in a process
// that serves everybody: one hostile filter must not end it.
const DEPTH_MAX: usize = 20;

const QUOTE_HINT: &str = "quote a name, value or text that has : = < > ( ) or \"";

/// Why a text is not a filter. Change the filter; trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at character {})", .position + 1)]
pub struct FilterError {
    /// The character at fault, counted from 0; the length of the text if something is missing
    /// there.
    pub position: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl FilterError {
    /// The filter on one line, and below it a caret under the character at fault.
    pub fn pointed(&self, text: &str) -> String {
        let one_column = |c: char| if c.is_control() || c.is_whitespace() { ' ' } else { c };
        let line: String = text.chars().take(CHARACTERS_MAX).map(one_column).collect();
        format!("{line}\n{:>width$}", '^', width = self.position + 1)
    }
}

/// The operators, and whether each negates.
// Longest first: `<` would be found in `<=`, and `=` would then begin the value.
const OPERATORS: [(&str, Comparison, bool); 7] = [
    ("!=", Comparison::Equal, true),
    ("<=", Comparison::LessOrEqual, false),
    (">=", Comparison::GreaterOrEqual, false),
    (":", Comparison::Equal, false),
    ("=", Comparison::Equal, false),
    ("<", Comparison::Less, false),
    (">", Comparison::Greater, false),
];

pub(super) fn parse(text: &str, now: Timestamp) -> Result<Expression, FilterError> {
    // As characters, so that positions in errors are what a person counts; and no more than one too
    // many of them, whatever the length of the text.
    let chars: Vec<char> = text.chars().take(CHARACTERS_MAX + 1).collect();
    if chars.len() > CHARACTERS_MAX {
        let message = format!("a filter has at most {CHARACTERS_MAX} characters; shorten it");
        return Err(FilterError { position: CHARACTERS_MAX, message });
    }
    let mut parser = Parser { chars: &chars, at: 0, depth: 0, terms: 0, now };
    parser.skip_blanks();
    if parser.peek().is_none() {
        return Ok(Expression::default());
    }
    let expression = parser.alternatives()?;
    match parser.peek() {
        None => Ok(expression),
        // Alternatives end at nothing else.
        Some(_) => Err(parser.error("this ) closes nothing; remove it or add a (")),
    }
}

struct Parser<'a> {
    chars: &'a [char],
    at: usize,
    depth: usize,
    terms: usize,
    now: Timestamp,
}

impl Parser<'_> {
    fn alternatives(&mut self) -> Result<Expression, FilterError> {
        let mut any = vec![self.conjunction()?];
        while self.take_keyword("or") {
            any.push(self.conjunction()?);
        }
        Ok(join(any, Expression::Or))
    }

    fn conjunction(&mut self) -> Result<Expression, FilterError> {
        let mut all = Vec::new();
        loop {
            all.push(self.negation()?);
            // Terms are joined by blanks alone, so an `and` changes nothing; but one with nothing
            // behind it is a mistake that the next round reports.
            let must_go_on = self.take_keyword("and");
            let ends = matches!(self.peek(), None | Some(')')) || self.sees_keyword("or");
            if ends && !must_go_on {
                return Ok(join(all, Expression::And));
            }
        }
    }

    fn negation(&mut self) -> Result<Expression, FilterError> {
        self.skip_blanks();
        if self.take_keyword("not") {
            return self.nested(Self::negation).map(negate);
        }
        match self.peek() {
            Some('-') => {
                self.at += 1;
                // `a - b` is pasted text; taken for `a -b` it would hide what is looked for.
                if self.peek().is_none_or(char::is_whitespace) {
                    self.at -= 1;
                    return Err(self.error("this - negates nothing; write -term, or quote it"));
                }
                self.nested(Self::negation).map(negate)
            }
            Some('(') => self.nested(Self::group),
            None | Some(')') => Err(self.error("a term is missing here")),
            Some(_) if self.sees_keyword("or") || self.sees_keyword("and") => {
                Err(self.error("a term is missing before this; quote the word to search for it"))
            }
            Some(_) => self.term(),
        }
    }

    fn group(&mut self) -> Result<Expression, FilterError> {
        let opened = self.at;
        self.at += 1;
        let expression = self.alternatives()?;
        // Pointed at where it was opened: the end of the text says nothing to whoever typed it.
        if self.peek() != Some(')') {
            return Err(error_at(opened, "this ( is never closed; add a )"));
        }
        self.at += 1;
        self.skip_blanks();
        Ok(expression)
    }

    fn nested(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<Expression, FilterError>,
    ) -> Result<Expression, FilterError> {
        if self.depth == DEPTH_MAX {
            let message = format!("a filter nests at most {DEPTH_MAX} deep; simplify it");
            return Err(self.error(message));
        }
        self.depth += 1;
        let expression = parse(self)?;
        self.depth -= 1;
        Ok(expression)
    }

    fn term(&mut self) -> Result<Expression, FilterError> {
        if self.terms == TERMS_MAX {
            return Err(self.error(format!("a filter has at most {TERMS_MAX} terms; shorten it")));
        }
        self.terms += 1;
        // What comes may be the name of a field or a word to search for; only the operator behind
        // it tells. So it is read as a name first, and read again as words if there is none.
        let start = self.at;
        let is_quoted = self.peek() == Some('"');
        let name = if is_quoted { self.quoted()? } else { self.take_while(is_name_character) };
        let expression = match self.operator() {
            Some(operator) if name.is_empty() && (is_quoted || !operator.is_colon) => {
                let message = format!("a field name is missing before this; {QUOTE_HINT}");
                return Err(error_at(start, message));
            }
            Some(operator) if is_quoted => self.attribute(&name, operator)?,
            Some(operator) => match Field::of(&name) {
                Some(field) => self.field(field, &name, operator)?,
                None if self.may_be_attribute(&name, operator) => {
                    self.attribute_or_text(start, &name, operator)?
                }
                None => self.text(start)?,
            },
            None if is_quoted => phrase(start, &name)?,
            None => self.text(start)?,
        };
        self.skip_blanks();
        Ok(expression)
    }

    fn field(
        &mut self,
        field: Field,
        name: &str,
        operator: Operator,
    ) -> Result<Expression, FilterError> {
        let start = self.at;
        let mut value = self.value()?;
        if field == Field::Time && !value.is_quoted && field::is_day(&value.text) {
            value.text.push_str(&self.time_of_day());
        }
        self.check_star(field, start, &value)?;
        let expression = field.compare(name, operator.comparison, &value, self.now);
        signed(operator, expression.map_err(|message| error_at(start, message))?)
    }

    fn check_star(&self, field: Field, start: usize, value: &Value) -> Result<(), FilterError> {
        let star = field::star_inside(&value.text).filter(|_| !value.is_quoted);
        match (field, star) {
            (Field::Any | Field::Message, Some(star)) => Err(error_at(start + star, STAR_INSIDE)),
            _ => Ok(()),
        }
    }

    fn attribute(&mut self, name: &str, operator: Operator) -> Result<Expression, FilterError> {
        let start = self.at;
        let value = self.value()?;
        let expression = field::compare_attribute(name, operator.comparison, &value);
        signed(operator, expression.map_err(|message| error_at(start, message))?)
    }

    /// `name:value` as people write it in a text may stand in a message too.
    fn attribute_or_text(
        &mut self,
        start: usize,
        name: &str,
        operator: Operator,
    ) -> Result<Expression, FilterError> {
        let behind = self.at;
        let attribute = self.attribute(name, operator)?;
        let text = |from: usize| self.chars[from..self.at].iter().collect::<String>();
        let value = text(behind);
        let is_text = operator.is_colon && !value.contains(['*', '"']);
        match Phrase::of(&text(start)).filter(|_| is_text && Phrase::of(&value).is_some()) {
            Some(phrase) => {
                let text = Expression::Term(Term::Words(phrase));
                Ok(Expression::Or(vec![attribute, text]))
            }
            None => Ok(attribute),
        }
    }

    /// Whether a name that is no field's may be an attribute's, or is part of a text such as
    /// `http://h:80/x`, `10.0.0.7:5432`, `12:30:45`, `a::b` or `error: x`.
    fn may_be_attribute(&self, name: &str, operator: Operator) -> bool {
        let is_letter = |c: char| c.is_alphabetic() || c == '_';
        let is_name = name.starts_with(|c: char| c.is_alphanumeric() || "_@".contains(c))
            && name.ends_with(|c: char| c.is_alphanumeric() || c == '_')
            && name.contains(is_letter);
        let starts_with_digit = name.starts_with(|c: char| c.is_ascii_digit());
        let is_value = match self.chars.get(self.at..) {
            None | Some([] | ['/', '/', ..]) => false,
            Some([first, ..]) => !first.is_whitespace() && !"():\\".contains(*first),
        };
        is_name && (!operator.is_colon || (!starts_with_digit && is_value))
    }

    /// What stands behind a day and a blank, with the blank, if it may be a time.
    fn time_of_day(&mut self) -> String {
        let may_be_time = matches!(self.chars.get(self.at..), Some([' ', a, b, ':', ..])
            if a.is_ascii_digit() && b.is_ascii_digit());
        let start = self.at;
        if may_be_time {
            self.at += 1;
            self.take_while(is_bare_character);
        }
        self.chars[start..self.at].iter().collect()
    }

    fn value(&mut self) -> Result<Value, FilterError> {
        if self.peek() == Some('"') {
            return self.quoted().map(|text| Value { text, is_quoted: true });
        }
        // `a==b` comes from programming languages: as the value `=b` it would match nothing.
        if matches!(self.peek(), Some(':' | '=' | '<' | '>')) {
            let message = "a value does not begin with an operator; use one of : = != < <= > >= \
                           before it, or quote it";
            return Err(self.error(message));
        }
        let text = self.take_while(is_bare_character);
        match self.peek() {
            Some('(' | '"') => {
                Err(self.error(format!("the value is not at its end; {QUOTE_HINT}")))
            }
            _ if text.is_empty() => {
                let message = format!("a value is missing here, without a blank; {QUOTE_HINT}");
                Err(self.error(message))
            }
            _ => Ok(Value { text, is_quoted: false }),
        }
    }

    /// A text without quotes, from `start`, whose beginning has been read.
    fn text(&mut self, start: usize) -> Result<Expression, FilterError> {
        self.at = start;
        let text = self.take_while(is_bare_character);
        match field::star_inside(&text) {
            Some(star) => Err(error_at(start + star, STAR_INSIDE)),
            None => phrase(start, &text),
        }
    }

    /// A text in quotes, without them.
    fn quoted(&mut self) -> Result<String, FilterError> {
        let opened = self.at;
        let mut text = String::new();
        loop {
            self.at += 1;
            match self.peek() {
                None => return Err(error_at(opened, "this quote is never closed; add a \"")),
                Some('"') => break,
                Some('\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(escaped @ ('"' | '\\')) => text.push(escaped),
                        _ => {
                            let message = "\\ stands before \" or \\ only; write \\\\ for itself";
                            return Err(error_at(self.at - 1, message));
                        }
                    }
                }
                Some(other) => text.push(other),
            }
        }
        self.at += 1;
        Ok(text)
    }

    fn operator(&mut self) -> Option<Operator> {
        let found = OPERATORS.iter().find(|(text, ..)| {
            text.chars().enumerate().all(|(n, c)| self.chars.get(self.at + n) == Some(&c))
        });
        let &(text, comparison, is_negated) = found?;
        self.at += text.len();
        Some(Operator { comparison, is_negated, is_colon: text == ":" })
    }

    /// Whether a keyword comes next; what follows must set it off from a longer word or a field.
    fn sees_keyword(&self, keyword: &str) -> bool {
        // `order` is a word and `or:1` asks for an attribute of that name.
        let end = self.at + keyword.len();
        let text = self.chars.get(self.at..end);
        let is_same = |(c, letter): (&char, char)| c.eq_ignore_ascii_case(&letter);
        let is_it = text.is_some_and(|text| text.iter().zip(keyword.chars()).all(is_same));
        is_it && self.chars.get(end).is_none_or(|c| c.is_whitespace() || "()\"".contains(*c))
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let is_it = self.sees_keyword(keyword);
        if is_it {
            self.at += keyword.len();
            self.skip_blanks();
        }
        is_it
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let text: String =
            self.chars[self.at..].iter().copied().take_while(|c| belongs(*c)).collect();
        self.at += text.chars().count();
        text
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn error(&self, message: impl Into<String>) -> FilterError {
        error_at(self.at, message)
    }
}

fn error_at(position: usize, message: impl Into<String>) -> FilterError {
    FilterError { position, message: message.into() }
}

/// Joins parts, but leaves one alone as it is: a list of one is a level of nesting for nothing, and
/// hides what a filter requires from whoever looks at its outermost level.
fn join(mut parts: Vec<Expression>, joined: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            joined(parts)
        }
    }
}

fn negate(expression: Expression) -> Expression {
    Expression::Not(Box::new(expression))
}

/// Of an operator that may negate.
fn signed(operator: Operator, expression: Expression) -> Result<Expression, FilterError> {
    Ok(if operator.is_negated { negate(expression) } else { expression })
}

fn phrase(start: usize, text: &str) -> Result<Expression, FilterError> {
    let phrase = Phrase::of(text).ok_or_else(|| {
        let message = "there is no word to search for: give at least one letter, digit or _, \
                       or leave the filter empty to match everything";
        error_at(start, message)
    })?;
    Ok(Expression::Term(Term::Words(phrase)))
}

fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || "_.@/-".contains(c)
}

fn is_bare_character(c: char) -> bool {
    !c.is_whitespace() && !"()\"".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Expression {
        parse(text, Timestamp::EPOCH)
            .unwrap_or_else(|error| panic!("{}\n{error}", error.pointed(text)))
    }

    fn word(text: &str) -> Expression {
        phrase(0, text).unwrap()
    }

    #[test]
    fn terms_join_by_their_precedence() {
        let [a, b, c] = ["a", "b", "c"].map(word);
        let and = |parts: &[&Expression]| Expression::And(parts.iter().copied().cloned().collect());
        let or = |parts: &[&Expression]| Expression::Or(parts.iter().copied().cloned().collect());
        let not = |part: &Expression| negate(part.clone());
        for (text, expected) in [
            ("", Expression::default()),
            (" \t\n", Expression::default()),
            ("a", a.clone()),
            ("((a))", a.clone()),
            ("a b c", and(&[&a, &b, &c])),
            ("a AND b", and(&[&a, &b])),
            ("a or b c", or(&[&a, &and(&[&b, &c])])),
            ("(a OR b) c", and(&[&or(&[&a, &b]), &c])),
            ("not a b", and(&[&not(&a), &b])),
            ("-a -(b or c)", and(&[&not(&a), &not(&or(&[&b, &c]))])),
            ("--a", not(&not(&a))),
            ("not(a)", not(&a)),
            ("a\"b\"(c)", and(&[&a, &b, &c])),
            ("nota order", and(&[&word("nota"), &word("order")])),
            ("\"or\" not-a", and(&[&word("or"), &word("not a")])),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
        let Expression::Term(Term::Attribute(key, ..)) = read("or=1") else {
            panic!("a keyword before an operator is a name");
        };
        assert_eq!(key, "or");
    }

    #[test]
    fn words_with_punctuation_are_phrases() {
        for (text, phrase) in [
            ("blk_-123", "blk_ 123"),
            ("foo.bar@x", "foo bar x"),
            ("\"say \\\"hi\\\"\"", "say hi"),
            ("\"c\\\\d\"", "c d"),
        ] {
            assert_eq!(read(text), word(phrase), "{text}");
        }
        assert_eq!(read("\"*a b*\""), word("*a b*"));
    }

    #[test]
    fn what_cannot_be_meant_for_a_field_is_text() {
        for text in [
            "http://shop.example:8080/cart?x=1&y=2",
            "10.0.0.7:5432",
            "12:30:45",
            "2026-01-02T03:04:05Z",
            "shop::cart::add",
            "std::vector<int>::at",
            "::1",
            ":8080",
            "/api/v1/users?id=7",
            "C:\\temp\\x",
            "node->next",
            "error:",
        ] {
            assert_eq!(read(text), word(text), "{text}");
        }
        assert_eq!(read("error: x"), Expression::And(vec![word("error"), word("x")]));
    }

    #[test]
    fn a_colon_behind_an_unknown_name_may_be_of_an_attribute_or_a_text() {
        for (text, strict) in [
            ("user:bob", "user=bob"),
            ("localhost:5432", "localhost=5432"),
            ("main.rs:42:7", "main.rs=\"42:7\""),
            ("aa:bb:cc", "aa=\"bb:cc\""),
            ("path:/orders/2", "path=/orders/2"),
        ] {
            assert_eq!(read(text), Expression::Or(vec![read(strict), word(text)]), "{text}");
        }
        for (text, strict) in [
            ("user:\"bob\"", "user=\"bob\""),
            ("\"user\":bob", "user=bob"),
            ("user:b*", "user=b*"),
            ("user:!", "user=!"),
        ] {
            assert_eq!(read(text), read(strict), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_shown_where_it_is() {
        for (text, position, part) in [
            ("!!!", 0, "no word"),
            ("a *", 2, "no word"),
            ("a \"..\"", 2, "no word"),
            ("a)", 1, "closes nothing"),
            ("a (b", 2, "never closed"),
            ("()", 1, "missing here"),
            ("a or", 4, "missing here"),
            ("a and", 5, "missing here"),
            ("a and or b", 6, "missing before"),
            ("or a", 0, "missing before"),
            ("not", 3, "missing here"),
            ("a - b", 2, "negates nothing"),
            ("a \"b", 2, "never closed"),
            ("\"\\n\"", 1, "for itself"),
            ("f=", 2, "missing here"),
            ("level: x", 6, "missing here"),
            ("a==b", 2, "operator"),
            ("f:g(x)", 3, "not at its end"),
            ("<b>", 0, "field name"),
            ("\"\":x", 0, "field name"),
            (">5", 0, "field name"),
            ("f*o", 1, "beginning or the end"),
            ("*f*o", 2, "beginning or the end"),
            ("message:f*o", 9, "beginning or the end"),
        ] {
            let error = parse(text, Timestamp::EPOCH).unwrap_err();
            assert_eq!(error.position, position, "{text}: {error}");
            assert!(error.message.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_caret_stands_under_the_character_at_fault() {
        let text = "größe\tlevel:loud";
        let error = parse(text, Timestamp::EPOCH).unwrap_err();
        assert_eq!(error.pointed(text), "größe level:loud\n            ^");
        assert!(error.to_string().ends_with("(at character 13)"), "{error}");
    }

    #[test]
    fn length_terms_and_nesting_are_bounded() {
        let fails_at = |text: String| parse(&text, Timestamp::EPOCH).unwrap_err().position;
        assert_eq!(fails_at("a".repeat(CHARACTERS_MAX + 1)), CHARACTERS_MAX);
        assert!(parse(&"ä".repeat(CHARACTERS_MAX), Timestamp::EPOCH).is_ok());
        assert!(parse(&"a ".repeat(TERMS_MAX), Timestamp::EPOCH).is_ok());
        assert_eq!(fails_at("a ".repeat(TERMS_MAX + 1)), 2 * TERMS_MAX);
        assert!(parse(&format!("{}a", "-".repeat(DEPTH_MAX)), Timestamp::EPOCH).is_ok());
        for open in ["(", "-", "not "] {
            let position = fails_at(open.repeat(1_000));
            assert!(position <= open.len() * (DEPTH_MAX + 1), "{open} {position}");
        }
    }
}
