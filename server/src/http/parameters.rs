//! The parameters of a request: each is known and given once, or refused by its name. Pure.

use logweir_core::{
    filter::{Filter, point_in_time},
    record::Level,
    timestamp::Timestamp,
};
use logweir_proto::v1;
use percent_encoding::percent_decode_str;

use crate::{
    query,
    status::{Refusal, Violation},
};

/// Of a name that is not known, and of a value that is wrong.
const SHOWN_CHARACTERS_MAX: usize = 64;
/// Mistakes that are named at once.
const VIOLATIONS_MAX: usize = 16;
/// What the contract calls otherwise, with its name here.
const RENAMED: [(&str, &str); 4] =
    [("page_size", "limit"), ("range.from", "from"), ("range.to", "to"), ("range", "from")];

/// The names and values of a query, in order.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query whose names must be among these.
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut violations = Vec::new();
        let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (shown, name) = (shown(name), decoded(name));
            let mut refuse = |why: String| violations.push(Violation { field: shown.clone(), why });
            match (name, decoded(value)) {
                (Some(name), _) if !known.contains(&name.as_str()) => {
                    refuse(format!("is no parameter here: known are {}", known.join(", ")));
                }
                (Some(name), _) if pairs.iter().any(|(earlier, _)| *earlier == name) => {
                    refuse("is given twice".to_owned());
                }
                (Some(name), Some(value)) => pairs.push((name, value)),
                (None, _) | (_, None) => refuse("is no UTF-8, percent-encoded".to_owned()),
            }
            if violations.len() == VIOLATIONS_MAX {
                break;
            }
        }
        if violations.is_empty() { Ok(Self(pairs)) } else { Err(Refusal::Invalid(violations)) }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A text; empty if it is not given.
    pub(super) fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// A number from 1 on; 0, which stands for the default, if it is not given.
    pub(super) fn number(&self, name: &str) -> Result<u32, Refusal> {
        let Some(text) = self.get(name) else { return Ok(0) };
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| is_number && *number > 0);
        number.ok_or_else(|| self.wrong(name, "must be a whole number from 1 on"))
    }

    /// Whether something is so; false if it is not given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    /// What a name stands for; the default if it is not given.
    pub(super) fn choice<T: Copy + Default>(
        &self,
        name: &str,
        choices: &[(&str, T)],
    ) -> Result<T, Refusal> {
        let Some(text) = self.get(name) else { return Ok(T::default()) };
        let chosen = choices.iter().find(|(choice, _)| *choice == text);
        chosen.map(|(_, stands_for)| *stands_for).ok_or_else(|| {
            let choices: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            self.wrong(name, &format!("must be one of {}", choices.join(", ")))
        })
    }

    /// From `from` to `to`; open where one is not given.
    pub(super) fn range(&self, now: Timestamp) -> Result<v1::TimeRange, Refusal> {
        let (from_unix_nano, to_unix_nano) = (self.time("from", now)?, self.time("to", now)?);
        Ok(v1::TimeRange { from_unix_nano, to_unix_nano })
    }

    fn time(&self, name: &str, now: Timestamp) -> Result<i64, Refusal> {
        let Some(text) = self.get(name) else { return Ok(0) };
        let time = point_in_time(text, now).map(Timestamp::as_unix_nanos);
        let why = "is no time: write 2026-01-02T15:04:05Z, 2026-01-02, now or -15m";
        time.ok_or_else(|| self.wrong(name, why))
    }

    /// The filter, narrowed to one service and one level where they are given.
    pub(super) fn filter(&self, now: Timestamp) -> Result<String, Refusal> {
        let filter = self.text("filter");
        let service = query::service(self.get("service").unwrap_or_default())?;
        let level = self.get("level").map(|level| {
            level.parse().map_err(|()| {
                self.wrong("level", "must be trace, debug, info, warn, error or fatal")
            })
        });
        let level: Option<Level> = level.transpose()?;
        let service = service.map(|service| format!("service:{:?}", service.as_str()));
        let level = level.map(|level| format!("level:{}", level.as_str()));
        let narrowed: Vec<String> = [service, level].into_iter().flatten().collect();
        if narrowed.is_empty() {
            return Ok(filter);
        }
        // Alone first: within brackets its own mistakes would be others, or none.
        let is_empty = query::filter(&filter, now)? == Filter::default();
        let narrowed = narrowed.join(" ");
        Ok(if is_empty { narrowed } else { format!("({filter}) {narrowed}") })
    }

    fn wrong(&self, name: &str, why: &str) -> Refusal {
        let value = shown(self.get(name).unwrap_or_default());
        Refusal::invalid(name, format!("{value:?} {why}"))
    }
}

/// A refusal with the names that its fields have here.
pub(super) fn named_here(refusal: Refusal) -> Refusal {
    let Refusal::Invalid(mut violations) = refusal else { return refusal };
    for violation in &mut violations {
        let renamed = RENAMED.iter().find(|(contract, _)| *contract == violation.field);
        if let Some((_, here)) = renamed {
            violation.field = (*here).to_owned();
        }
    }
    Refusal::Invalid(violations)
}

/// A part of a query as it was meant (`application/x-www-form-urlencoded`, as forms and
/// `URLSearchParams` write it); none if it is no text, which is never repaired.
fn decoded(part: &str) -> Option<String> {
    let spaced = part.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| text.into_owned())
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_760_000_000);
    const KNOWN: [&str; 5] = ["filter", "service", "level", "limit", "from"];

    fn read(query: &str) -> Parameters {
        Parameters::read(Some(query), &KNOWN).unwrap()
    }

    fn refused(query: &str) -> Vec<String> {
        let refusal = Parameters::read(Some(query), &KNOWN).unwrap_err();
        let Refusal::Invalid(violations) = refusal else { panic!("{refusal:?}") };
        violations.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn what_is_not_known_or_repeated_or_no_text_is_refused_by_name() {
        assert_eq!(refused("limit=1&x=2&y"), ["x", "y"]);
        assert_eq!(refused("limit=1&limit=1"), ["limit"]);
        assert_eq!(refused("filter=%ff"), ["filter"]);
        assert_eq!(refused("%ff=1"), ["%ff"]);
        assert_eq!(refused(&"x&".repeat(100)).len(), VIOLATIONS_MAX);
        assert!(Parameters::read(None, &[]).is_ok());
    }

    #[test]
    fn a_query_is_decoded_as_forms_write_it() {
        assert_eq!(read("filter=a+b%2Bc%3D%26&").text("filter"), "a b+c=&");
        assert_eq!(read("").text("filter"), "");
    }

    #[test]
    fn numbers_begin_at_one() {
        assert_eq!(read("").number("limit"), Ok(0));
        assert_eq!(read("limit=7").number("limit"), Ok(7));
        for bad in ["0", "", "-1", "%2B1", "1.0", "4294967296", "x"] {
            let query = format!("limit={bad}");
            assert_eq!(
                read(&query).number("limit").unwrap_err().reason(),
                "INVALID_FIELD",
                "{bad}"
            );
        }
    }

    #[test]
    fn a_filter_is_narrowed_and_keeps_its_own_mistakes() {
        let filter = |query: &str| read(query).filter(NOW);
        assert_eq!(filter("filter=a+or+b").unwrap(), "a or b");
        assert_eq!(
            filter("filter=a+or+b&service=shop&level=warning").unwrap(),
            "(a or b) service:\"shop\" level:WARN"
        );
        assert_eq!(filter("filter=++&service=shop").unwrap(), "service:\"shop\"");
        for bad in ["filter=a)+or+(b&service=shop", "service=a+b", "level=loud"] {
            assert_eq!(filter(bad).unwrap_err().reason(), "INVALID_FIELD", "{bad}");
        }
    }

    #[test]
    fn fields_have_the_names_that_were_given() {
        let refusal = named_here(Refusal::invalid("page_size", "is 1001, the limit is 1000"));
        assert_eq!(refusal.to_string(), "limit: is 1001, the limit is 1000");
    }
}
