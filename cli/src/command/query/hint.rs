//! Why a search may have found nothing: what a filter asks for and no log has. A mistake in a name
//! must not pass for an answer.

use std::collections::BTreeSet;

use logweir_core::{
    filter::{Expression, Filter, Glob, Term, TextField},
    runtime::clock::now,
};
use logweir_proto::v1::{self, query_service_client::QueryServiceClient};

use crate::{client::Connection, error::Error, output::say};

/// Each name takes a search of its own; who writes more of them looks for no slip.
const NAMES_MAX: usize = 3;
/// Services named in a hint; the rest is one command away.
const SERVICES_SHOWN_MAX: usize = 10;

/// What a filter asks for, apart from what it excludes.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    /// Names and paths of attributes.
    attributes: BTreeSet<String>,
    /// Services by name or pattern, as they are written.
    services: BTreeSet<String>,
    /// Words of the message.
    has_words: bool,
}

impl Asked {
    fn of(expression: &Expression) -> Self {
        let mut asked = Self::default();
        asked.add(expression);
        asked
    }

    fn add(&mut self, expression: &Expression) {
        match expression {
            Expression::And(parts) | Expression::Or(parts) => {
                parts.iter().for_each(|part| self.add(part));
            }
            // What is excluded need not be there.
            Expression::Not(_) => {}
            Expression::Term(term) => self.add_term(term),
        }
    }

    fn add_term(&mut self, term: &Term) {
        match term {
            Term::Words(_) => self.has_words = true,
            Term::Attribute(path, ..) | Term::AttributeLike(path, _) => {
                self.attributes.insert(path.clone());
            }
            Term::Text(TextField::Service, name) => {
                self.services.insert(name.clone());
            }
            Term::TextLike(TextField::Service, glob) => {
                self.services.insert(glob.pieces().collect::<Vec<_>>().join("*"));
            }
            _ => {}
        }
    }
}

/// Says what the filter of a search that found nothing asks for and no log has.
pub(super) async fn say_why_none_match(
    client: &mut QueryServiceClient<Connection>,
    searched: &v1::SearchLogsRequest,
) -> Result<(), Error> {
    let Ok(filter) = Filter::parse(&searched.filter, now()) else { return Ok(()) };
    let asked = Asked::of(&filter.expression);
    for service in unknown_services(client, &asked.services).await? {
        say(&service);
    }
    for path in asked.attributes.iter().take(NAMES_MAX) {
        if !has_attribute(client, searched, path).await? {
            say(&format!(
                "hint: no log there has an attribute {path:?}; to search for a text, quote it"
            ));
        }
    }
    if asked.has_words {
        say("hint: words are looked for in messages; any:WORD looks into attributes too");
    }
    Ok(())
}

async fn unknown_services(
    client: &mut QueryServiceClient<Connection>,
    asked: &BTreeSet<String>,
) -> Result<Vec<String>, Error> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let answer = client.list_services(v1::ListServicesRequest {}).await?.into_inner();
    let known: Vec<&str> = answer.services.iter().map(|service| service.service.as_str()).collect();
    let is_known = |asked: &&String| match Glob::of(asked) {
        Some(glob) => known.iter().any(|name| glob.matches(name)),
        None => known.contains(&asked.as_str()),
    };
    let unknown = asked.iter().filter(|asked| !is_known(asked) && !answer.truncated);
    Ok(unknown.map(|asked| unknown_service(asked, &known)).collect())
}

fn unknown_service(asked: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return format!("hint: no service is called {asked:?}; none has sent logs");
    }
    let shown = known[..known.len().min(SERVICES_SHOWN_MAX)].join(", ");
    let more = if known.len() > SERVICES_SHOWN_MAX { ", …" } else { "" };
    format!("hint: no service is called {asked:?}; there are {shown}{more}")
}

/// Whether a log in the time that was searched has this attribute.
async fn has_attribute(
    client: &mut QueryServiceClient<Connection>,
    searched: &v1::SearchLogsRequest,
    path: &str,
) -> Result<bool, Error> {
    let name = path.replace('\\', "\\\\").replace('"', "\\\"");
    let request = v1::SearchLogsRequest {
        filter: format!("\"{name}\":*"),
        range: searched.range,
        page_size: 1,
        ..Default::default()
    };
    let page = client.search_logs(request).await?.into_inner();
    // What was searched in part may have it in the rest.
    Ok(page.partial || !page.logs.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_told_from_what_is_excluded() {
        let text = "service:Sh*p (user=7 or trace.x:*) -b=1 -service:c refused any:x";
        let filter = Filter::parse(text, now()).unwrap();
        let named = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let expected = Asked {
            attributes: named(&["trace.x", "user"]),
            services: named(&["Sh*p"]),
            has_words: true,
        };
        assert_eq!(Asked::of(&filter.expression), expected);
    }

    #[test]
    fn a_service_that_is_not_there_is_told_with_those_that_are() {
        assert!(unknown_service("a", &[]).contains("none has sent"));
        assert!(unknown_service("a", &["b", "c"]).ends_with("there are b, c"));
        assert!(unknown_service("a", &["b"; 11]).ends_with("b, b, …"));
    }
}
