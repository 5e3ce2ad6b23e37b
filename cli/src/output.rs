//! What a person or a program reads: tables and colours on a terminal, NDJSON on request.
//!
//! Logs are hostile input. Whatever comes from one is written with every control character and
//! every character that changes the direction or the look of text spelled out, in JSON too, so that
//! no log can move the cursor, hide itself or pass for another line.

use std::{
    borrow::Cow,
    io::{self, BufWriter, IsTerminal, Stdout, Write},
};

use anstyle::{AnsiColor, Style};
use clap::{Args, ValueEnum};
use comfy_table::{Attribute, Cell, CellAlignment, Table, presets};
use logweir_core::json::{self, is_unsafe};
use logweir_proto::v1;
use serde::Serialize;

/// How a command writes.
#[derive(Debug, Clone, Default, Args)]
pub struct OutputArgs {
    /// Write one JSON object a line, with stable field names
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// Use colours [NO_COLOR turns them off too]
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        global = true,
        help_heading = "Output"
    )]
    pub color: ColorChoice,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// Standard output, and how to write to it.
pub struct Output {
    /// NDJSON instead of text.
    pub json: bool,
    color: bool,
    out: BufWriter<Stdout>,
    flushes: bool,
}

/// What a text stands for, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// Of little weight.
    Dim,
    /// A name.
    Name,
    /// All is well.
    Good,
    /// Look here.
    Warning,
    /// Broken.
    Bad,
}

impl Tone {
    /// The tone of a level.
    pub fn of_level(level: v1::Level) -> Self {
        match level {
            v1::Level::Unspecified | v1::Level::Trace | v1::Level::Debug => Self::Dim,
            v1::Level::Info => Self::Good,
            v1::Level::Warn => Self::Warning,
            v1::Level::Error | v1::Level::Fatal => Self::Bad,
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Dim => Style::new().dimmed(),
            Self::Name => AnsiColor::Cyan.on_default(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        }
    }
}

/// A cell of a table.
pub struct Value {
    text: String,
    tone: Tone,
    is_number: bool,
}

/// A cell with text from anywhere.
pub fn text(text: &str) -> Value {
    Value { text: escape(text).into_owned(), tone: Tone::Plain, is_number: false }
}

/// A cell with a count.
pub fn count(number: u64) -> Value {
    Value { text: grouped(number), tone: Tone::Plain, is_number: true }
}

/// A cell with a whole number of either sign.
pub fn integer(number: i64) -> Value {
    Value { text: number.to_string(), tone: Tone::Plain, is_number: true }
}

/// A cell with a number that may be absent.
pub fn number(number: Option<f64>, decimals: usize) -> Value {
    let text = number.map_or("-".to_owned(), |number| format!("{number:.decimals$}"));
    Value { text, tone: Tone::Plain, is_number: true }
}

impl Value {
    /// The cell in a tone.
    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

impl Output {
    /// Standard output by these arguments.
    pub fn new(args: &OutputArgs) -> Self {
        let is_terminal = io::stdout().is_terminal();
        // By no-color.org: any value but an empty one turns colours off, and a flag wins over it.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match args.color {
            ColorChoice::Auto => is_terminal && !refused,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        let out = BufWriter::with_capacity(64 << 10, io::stdout());
        Self { json: args.json, color: color && !args.json, out, flushes: is_terminal }
    }

    /// Writes an object on a line of its own.
    pub fn object(&mut self, object: &impl Serialize) -> io::Result<()> {
        let json = json::to_text(object)?;
        self.line(&json)
    }

    /// Writes a line that is safe to write.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")?;
        // A person sees a tail as it comes; an export into a file is written in large pieces.
        if self.flushes { self.out.flush() } else { Ok(()) }
    }

    /// Writes a table; columns of numbers to the right, columns that say nothing left out. A row
    /// stays on one line, however long, so that ids and patterns can be copied and searched.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<Value>>) -> io::Result<()> {
        let says = |column: usize| rows.iter().any(|row| !matches!(&*row[column].text, "" | "-"));
        let kept: Vec<bool> = (0..header.len()).map(says).collect();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // The crate looks at the terminal by itself, and would answer differently from `--color`.
        if !self.color {
            table.force_no_tty();
        } else {
            table.enforce_styling();
        }
        let is_number = |column: usize| {
            rows.first().and_then(|row| row.get(column)).is_some_and(|value| value.is_number)
        };
        let heads = header.iter().enumerate().filter(|(column, _)| kept[*column]);
        let heads = heads.map(|(column, name)| {
            let cell = Cell::new(name.to_uppercase()).add_attribute(Attribute::Dim);
            if is_number(column) { cell.set_alignment(CellAlignment::Right) } else { cell }
        });
        table.set_header(heads.collect::<Vec<_>>());
        for row in rows {
            let values =
                row.into_iter().zip(&kept).filter_map(|(value, kept)| kept.then_some(value));
            table.add_row(values.map(cell).collect::<Vec<_>>());
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// A text in a tone, if colours are used. The text must be safe.
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        if !self.color || tone == Tone::Plain {
            return text.to_owned();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn cell(value: Value) -> Cell {
    use comfy_table::Color;
    let cell = Cell::new(value.text);
    let cell = if value.is_number { cell.set_alignment(CellAlignment::Right) } else { cell };
    match value.tone {
        Tone::Plain => cell,
        Tone::Dim => cell.add_attribute(Attribute::Dim),
        Tone::Name => cell.fg(Color::Cyan),
        Tone::Good => cell.fg(Color::Green),
        Tone::Warning => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red).add_attribute(Attribute::Bold),
    }
}

/// Says something to the person at the terminal, on standard error.
pub fn say(text: &str) {
    // When standard error is closed there is nobody to tell.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Says that an answer holds only a part of what was asked for, and what to do.
pub fn say_cut(advice: &str) {
    say(&format!("there is more that did not fit one answer: {advice}"));
}

/// Says something on standard output that no command waits for.
pub fn announce(text: &str) {
    let mut stdout = io::stdout();
    // A server goes on when nobody reads what it says.
    drop(writeln!(stdout, "{text}").and_then(|()| stdout.flush()));
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A text on one line, with everything spelled out that a terminal would act on.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            unsafe_one if is_unsafe(unsafe_one) => safe.extend(unsafe_one.escape_unicode()),
            other => safe.push(other),
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_act_on() {
        let cases = [
            ("plain ünïcode", "plain ünïcode"),
            ("\x1b[31mred", "\\u{1b}[31mred"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{9b}2J", "\\u{9b}2J"),
        ];
        for (hostile, safe) in cases {
            assert_eq!(escape(hostile), safe);
        }
    }

    #[test]
    fn thousands_are_apart() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")]
        {
            assert_eq!(grouped(number), expected);
        }
    }

    proptest! {
        #[test]
        fn escaped_text_is_safe(text: String) {
            prop_assert!(!escape(&text).chars().any(is_unsafe));
        }
    }
}
