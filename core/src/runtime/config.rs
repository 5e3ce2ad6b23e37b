//! Settings: flags over environment over one TOML file over defaults.
//!
//! The defaults, a value of the caller's type, are also the schema: a key that they do not have is
//! a mistake. All mistakes are reported at once. Settings are read once, where the process starts;
//! each part gets its own section.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Mistake>);

/// One mistake, and where it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// A file, variable or flag.
    pub origin: String,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter().map(|mistake| format!("{}: {}", mistake.origin, mistake.text));
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

/// A setting given outside the file: its path of keys, its text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Such as `["server", "listen"]`.
    pub path: Vec<String>,
    /// The value as text; read as the type that the default has.
    pub text: String,
    /// Such as `LOGWEIR_SERVER__LISTEN` or `--listen`.
    pub origin: String,
}

/// The overrides in an environment: `LOGWEIR_SECTION__KEY`. Variables with a single-word name, such
/// as `LOGWEIR_TOKEN`, belong to clients and are left alone.
pub fn overrides_from_env(env: impl IntoIterator<Item = (String, String)>) -> Vec<Override> {
    // Two underscores part sections, because keys have single ones (`records_max`). Sorted, so that
    // what is reported does not depend on the order of the environment.
    let mut found: Vec<Override> = env
        .into_iter()
        .filter_map(|(name, text)| {
            let path = name.strip_prefix("LOGWEIR_")?.to_ascii_lowercase();
            let path: Vec<String> = path.split("__").map(str::to_owned).collect();
            (path.len() > 1).then_some(Override { path, text, origin: name })
        })
        .collect();
    found.sort_by(|a, b| a.origin.cmp(&b.origin));
    found
}

/// Lays the file's text (with its name) and then the overrides, in order, over the defaults.
pub fn load<T: Serialize + DeserializeOwned>(
    defaults: &T,
    file: Option<(&str, &str)>,
    overrides: &[Override],
) -> Result<T, ConfigError> {
    let mut mistakes = Vec::new();
    // Merged as a table and read into the type at the end: reading each source by itself would stop
    // at its first mistake and could not tell a key that is left out from one that has the default.
    let mut merged = Table::try_from(defaults).map_err(|error| whole("defaults", &error))?;
    if let Some((name, text)) = file {
        match text.parse::<Table>() {
            Ok(table) => merge(&mut merged, table, name, "", &mut mistakes),
            Err(error) => mistakes.push(Mistake { origin: name.into(), text: error.to_string() }),
        }
    }
    for setting in overrides {
        apply(&mut merged, setting, &mut mistakes);
    }
    if !mistakes.is_empty() {
        return Err(ConfigError(mistakes));
    }
    merged.try_into().map_err(|error| whole("configuration", &error))
}

fn whole(origin: &str, error: &dyn fmt::Display) -> ConfigError {
    ConfigError(vec![Mistake { origin: origin.into(), text: error.to_string() }])
}

fn merge(into: &mut Table, from: Table, origin: &str, path: &str, mistakes: &mut Vec<Mistake>) {
    for (key, value) in from {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (into.get_mut(&key), value) {
            (None, _) => mistakes.push(unknown(origin, &full, &key, into)),
            // An empty table among the defaults is a map whose keys the user chooses.
            (Some(Value::Table(old)), Value::Table(new)) if old.is_empty() => *old = new,
            (Some(Value::Table(old)), Value::Table(new)) => {
                merge(old, new, origin, &full, mistakes)
            }
            // `share = 1` is a whole number to TOML and a share to whoever wrote it.
            (Some(Value::Float(old)), Value::Integer(new)) => *old = new as f64,
            (Some(old), new) if old.same_type(&new) => *old = new,
            (Some(old), new) => mistakes.push(Mistake {
                origin: origin.into(),
                text: format!("{full} must be {}, not {}", old.type_str(), new.type_str()),
            }),
        }
    }
}

fn apply(into: &mut Table, setting: &Override, mistakes: &mut Vec<Mistake>) {
    let full = setting.path.join(".");
    let Some((last, sections)) = setting.path.split_last() else { return };
    let mut table = into;
    for key in sections.iter() {
        if !matches!(table.get(key), Some(Value::Table(_))) {
            mistakes.push(unknown(&setting.origin, &full, key, table));
            return;
        }
        let Some(Value::Table(inner)) = table.get_mut(key) else { return };
        table = inner;
    }
    let Some(old) = table.get_mut(last) else {
        mistakes.push(unknown(&setting.origin, &full, last, table));
        return;
    };
    match read_as(old, &setting.text) {
        Some(new) => *old = new,
        None => mistakes.push(Mistake {
            origin: setting.origin.clone(),
            text: format!("{full} must be {}, not {:?}", old.type_str(), setting.text),
        }),
    }
}

/// A text as a value of the type that the default has; none if it is no such value, or if the type
/// is one that no variable or flag can give.
fn read_as(old: &Value, text: &str) -> Option<Value> {
    // By the default's type and not by what the text looks like: a password of digits is a text.
    match old {
        Value::String(_) => Some(Value::String(text.to_owned())),
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Float(_) => text.parse().ok().map(Value::Float),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        Value::Array(_) | Value::Table(_) | Value::Datetime(_) => None,
    }
}

fn unknown(origin: &str, full: &str, key: &str, table: &Table) -> Mistake {
    let near = table.keys().map(|known| (distance(key, known), known)).min();
    let hint = match near {
        // Three edits are a swap and a slip; beyond that a hint is more often wrong than right.
        Some((steps, known)) if steps <= 3 => format!("; did you mean `{known}`?"),
        _ => {
            let known: Vec<&str> = table.keys().map(String::as_str).collect();
            format!("; known here: {}", known.join(", "))
        }
    };
    Mistake { origin: origin.into(), text: format!("unknown key `{full}`{hint}") }
}

/// Levenshtein's edit distance (Wagner and Fischer, 1974).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Config {
        name: String,
        server: Server,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Server {
        listen: String,
        share: f64,
        records_max: u64,
    }

    fn defaults() -> Config {
        let server = Server { listen: "a".into(), share: 0.5, records_max: 10 };
        Config { name: "n".into(), server }
    }

    fn flag(path: &[&str], text: &str) -> Override {
        let path = path.iter().map(|&key| key.to_owned()).collect();
        Override { path, text: text.into(), origin: "--flag".into() }
    }

    #[test]
    fn later_sources_win() {
        let file = ("f.toml", "[server]\nlisten = 'b'\nrecords_max = 20\nshare = 1");
        let env = overrides_from_env([
            ("LOGWEIR_SERVER__RECORDS_MAX".to_owned(), "30".to_owned()),
            ("LOGWEIR_TOKEN".to_owned(), "secret".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ]);
        let overrides = [env, vec![flag(&["name"], "m")]].concat();
        let loaded = load(&defaults(), Some(file), &overrides).unwrap();
        let server = Server { listen: "b".into(), share: 1.0, records_max: 30 };
        assert_eq!(loaded, Config { name: "m".into(), server });
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_the_near_key() {
        let file = ("f.toml", "nmae = 'x'\n[server]\nlisten = 1\nzzzzzzzz = 2");
        let error = load(&defaults(), Some(file), &[flag(&["server", "records_max"], "many")]);
        let text = error.unwrap_err().to_string();
        let expected = [
            "f.toml: unknown key `nmae`; did you mean `name`?",
            "f.toml: server.listen must be string, not integer",
            "f.toml: unknown key `server.zzzzzzzz`; known here: listen, records_max, share",
            "--flag: server.records_max must be integer, not \"many\"",
        ];
        for line in expected {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[test]
    fn an_unreadable_file_says_where() {
        let error = load(&defaults(), Some(("f.toml", "a = = b")), &[]).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
