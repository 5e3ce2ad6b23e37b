//! Calls of the paths of the JSON API, as the document has them that the server serves: a new path is
//! here without any work.

use std::{cell::RefCell, time::Duration};

use futures::{StreamExt as _, stream};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    intrusion::{Intrusion, Role},
    marks::Marks,
    report::Report,
    web,
};

const DOCUMENT: &str = "/api/openapi.json";
const PATIENCE: Duration = Duration::from_secs(20);
/// A tail is let go after this, and one that logs must come on after the other.
const SHORT: Duration = Duration::from_millis(150);
const FOLLOWED: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 16;
/// Tells these calls from those of rpcs that have the same number.
const HTTP: u64 = 0x4774_7000;
/// What a filter is made of around a text.
const FILTERS: [&str; 5] = ["", "any:", "service:", "template:", "trace:"];
const SWITCHING_PROTOCOLS: u16 = 101;
const UNAUTHENTICATED: u16 = 401;

/// All of them.
pub(super) struct Paths {
    document: Value,
    paths: Vec<Path>,
}

struct Path {
    path: String,
    /// References into the document.
    parameters: Vec<Value>,
    is_public: bool,
    is_socket: bool,
}

impl Paths {
    /// As a server tells them.
    pub(super) async fn of(address: &str) -> Self {
        let page = web::get(address, DOCUMENT).await;
        let body = page.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |at| at + 4);
        let document: Value = serde_json::from_slice(&page[body..]).expect("a document");
        let paths = document["paths"].as_object().into_iter().flatten();
        let read = |(path, item): (&String, &Value)| {
            let operation = item.get("get")?;
            Some(Path {
                path: path.clone(),
                parameters: operation["parameters"].as_array().cloned().unwrap_or_default(),
                is_public: operation.get("security").is_some(),
                is_socket: operation["responses"].get("101").is_some(),
            })
        };
        let paths: Vec<Path> = paths.filter_map(read).collect();
        assert!(!paths.is_empty(), "the document has no paths");
        Self { document, paths }
    }

    /// Makes so many calls, from this number on.
    pub(super) async fn try_all(&self, intrusion: &Intrusion<'_>, first: u64, calls: u64) {
        let made = stream::iter(first..first + calls)
            .map(|number| async move { self.one(intrusion, number).await });
        made.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn one(&self, intrusion: &Intrusion<'_>, number: u64) {
        let mut random = StdRng::seed_from_u64(intrusion.seed.wrapping_add(number) ^ HTTP);
        // In turn, so that none is left out of a short run.
        let path = &self.paths[number as usize % self.paths.len()];
        let role = intrusion.roles.choose(&mut random).expect("there are roles");
        let query = self.query(path, intrusion, &mut random);
        let asked = format!("{}?{query}", path.path);
        let headers = headers(path, role, &mut random);
        let (begun, address) = (Instant::now(), &intrusion.intruder.caller().address);
        let deadline = if path.is_socket { SHORT } else { PATIENCE };
        let page = web::get_with(address, &asked, &headers, deadline).await;
        let status = status(&page);
        let mut report = intrusion.report.borrow_mut();
        // That a tail opens proves nothing: see `ask_plainly`.
        let is_served = role.is_valid && status == 200;
        report.count_page(&path.path, status, is_served, begun.elapsed());
        let asked = || format!("http call {number}, {asked} as {}", role.name);
        let leaked = intrusion.marks.leaked_in(&page);
        if !leaked.is_empty() {
            report.find(format!("an answer holds {leaked:?}; {}", asked()));
        }
        // 0: nothing was said, as on a machine that is busy.
        if !role.is_valid && !path.is_public && ![0, UNAUTHENTICATED].contains(&status) {
            report.find(format!("let in with {status}; {}", asked()));
        }
        if status >= 500 && status != 503 {
            report.find(format!("failed with {status}; {}", asked()));
        }
    }

    /// Asks every path with a token and for nothing in particular, so that each is served; tails while the
    /// token's tenant and another one store: what the one stores comes, and nothing else.
    pub(super) async fn ask_plainly(
        &self,
        address: &str,
        token: &str,
        own: &str,
        marks: &Marks,
        report: &RefCell<Report>,
    ) {
        for path in &self.paths {
            let shown = format!("authorization: Bearer {token}\r\n");
            let (headers, deadline) = match path.is_socket {
                true => (opening(&shown), FOLLOWED),
                false => (format!("connection: close\r\n{shown}"), PATIENCE),
            };
            let begun = Instant::now();
            let page = web::get_with(address, &path.path, &headers, deadline).await;
            let is_served = match path.is_socket {
                true => {
                    status(&page) == SWITCHING_PROTOCOLS
                        && page.windows(own.len()).any(|text| text == own.as_bytes())
                }
                false => status(&page) == 200,
            };
            let mut report = report.borrow_mut();
            report.count_page(&path.path, status(&page), is_served, begun.elapsed());
            let leaked = marks.leaked_in(&page);
            if !leaked.is_empty() {
                report.find(format!("{} shows {leaked:?} of another tenant", path.path));
            }
        }
    }

    fn query(&self, path: &Path, intrusion: &Intrusion<'_>, random: &mut StdRng) -> String {
        let mut pairs = Vec::new();
        for parameter in &path.parameters {
            if random.random_ratio(1, 2) {
                continue;
            }
            let reference = parameter["$ref"].as_str().unwrap_or_default();
            let parameter = self.document.pointer(reference.trim_start_matches('#'));
            let parameter = parameter.expect("a reference leads somewhere");
            let name = parameter["name"].as_str().unwrap_or_default();
            let value = value(parameter, intrusion, random);
            intrusion.marks.note_sent(value.as_bytes());
            pairs.push(format!("{name}={}", encoded(&value)));
        }
        pairs.join("&")
    }
}

/// One of the other tenant's texts mostly, else what fits.
fn value(parameter: &Value, intrusion: &Intrusion<'_>, random: &mut StdRng) -> String {
    let schema = &parameter["schema"];
    let choices: Vec<&str> =
        schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let theirs: Vec<&str> = intrusion.theirs.texts().collect();
    let text = theirs.choose(random).copied().unwrap_or_default();
    match (parameter["name"].as_str(), schema["type"].as_str()) {
        (_, Some("integer")) => random.random_range(0..1_100).to_string(),
        (_, Some("boolean")) => random.random_bool(0.5).to_string(),
        (Some("filter"), _) => {
            format!("{}\"{text}\"", FILTERS.choose(random).expect("there are some"))
        }
        (Some("level"), _) => ["error", "INFO", text][random.random_range(0..3)].into(),
        (Some("from" | "to"), _) => ["-1d", "now", "-1y", text][random.random_range(0..4)].into(),
        _ if !choices.is_empty() => choices[random.random_range(0..choices.len())].to_owned(),
        _ => text.to_owned(),
    }
}

/// With the token in one of the ways that there are.
fn headers(path: &Path, role: &Role, random: &mut StdRng) -> String {
    let token = role.token.as_deref();
    let way = if path.is_socket { random.random_range(0..3) } else { random.random_range(0..2) };
    let shown = token.map(|token| match way {
        0 => format!("authorization: Bearer {token}\r\n"),
        1 => format!("x-api-key: {token}\r\n"),
        _ => format!("sec-websocket-protocol: bearer, {token}\r\n"),
    });
    let shown = shown.unwrap_or_default();
    if path.is_socket { opening(&shown) } else { format!("connection: close\r\n{shown}") }
}

/// What opens a WebSocket, with the token as it is shown. The key is that of RFC 6455, 1.3.
fn opening(shown: &str) -> String {
    format!(
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{shown}"
    )
}

/// 0 where nothing was said.
fn status(page: &[u8]) -> u16 {
    let digits = page.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn encoded(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Every path that was never served about the caller's own would prove nothing.
pub(super) async fn none_is_vacuous(address: &str, report: &RefCell<Report>) {
    for path in &Paths::of(address).await.paths {
        if report.borrow().served(&path.path) == 0 {
            let finding = format!("{} was never served: nothing is proved of it", path.path);
            report.borrow_mut().find(finding);
        }
    }
}
