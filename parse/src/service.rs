//! A service's name from the name of its file. Pure.
//!
//! Dates, numbers of rotation, pods and containers are no part of it: a service whose file has a
//! new name each day is one service.

use regex::Regex;

/// What stands for the service in a pattern.
const PLACEHOLDER: &str = "{service}";

/// Where in a path the service's name stands: `/srv/{service}/logs/*.log`. A `*` is any part of a
/// name, `**` also of several folders.
#[derive(Debug, Clone)]
pub struct PathPattern(Regex);

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// If it does not name the place of the service once; the text says what to write.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let advice =
            || format!("{pattern:?} needs {PLACEHOLDER} once, as in /srv/{PLACEHOLDER}/*.log");
        let (before, after) = pattern.split_once(PLACEHOLDER).ok_or_else(advice)?;
        if after.contains(PLACEHOLDER) {
            return Err(advice());
        }
        let glob = |part: &str| regex::escape(part).replace(r"\*\*", ".*").replace(r"\*", "[^/]*");
        // From any folder on, so that a relative path is found by the pattern of an absolute one.
        let start = if pattern.starts_with('/') { "^" } else { "(?:^|/)" };
        let regex = format!("{start}{}([^/]+?){}$", glob(before), glob(after));
        Regex::new(&regex).map(Self).map_err(|error| format!("{pattern:?}: {error}"))
    }

    /// The service of a path; none if the pattern does not fit it.
    pub fn service<'a>(&self, path: &'a str) -> Option<&'a str> {
        self.0.captures(path)?.get(1).map(|found| found.as_str())
    }
}

/// Endings that say what a file is and not whose.
const ENDINGS: [&str; 14] = [
    ".gz", ".zst", ".bz2", ".xz", ".zip", ".log", ".txt", ".json", ".jsonl", ".ndjson", ".out",
    ".old", ".bak", ".csv",
];
/// Letters and digits that Kubernetes makes random names of (k8s.io/apimachinery `rand`).
const POD_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Bytes of the random end of a pod's name.
const POD_BYTES: usize = 5;
/// Digits of a container's id (SHA-256), and the least that tools show of it.
const CONTAINER_DIGITS: [usize; 2] = [64, 12];

/// The service of a file, by its name without the folder; empty if nothing is left.
pub fn of_file(name: &str) -> &str {
    of_container(name).unwrap_or_else(|| trimmed(name))
}

/// `POD_NAMESPACE_CONTAINER-ID.log`, as Kubernetes calls the files of `/var/log/containers`.
fn of_container(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".log")?;
    // Docker's own files are called by the container's id alone, which is nobody's name.
    if stem.strip_suffix("-json").is_some_and(is_long_id) {
        return Some("");
    }
    let (rest, container) = stem.rsplit_once('_')?;
    let (pod, _namespace) = rest.rsplit_once('_')?;
    let (container, id) = container.rsplit_once('-')?;
    let owner = of_pod(pod);
    // The container's own name, unless it says less than the pod's.
    is_long_id(id).then_some(if owner.is_empty() { container } else { owner })
}

fn is_long_id(text: &str) -> bool {
    text.len() == CONTAINER_DIGITS[0] && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A pod's owner: `web` of `web-7c96c47944-zngq9` (deployment), `web-zngq9` (daemon set) and `web-0`
/// (stateful set).
fn of_pod(pod: &str) -> &str {
    let Some((rest, last)) = pod.rsplit_once('-') else { return pod };
    let is_random = |part: &str| part.bytes().all(|byte| POD_LETTERS.contains(&byte));
    if last.len() == POD_BYTES && is_random(last) {
        return match rest.rsplit_once('-') {
            Some((owner, hash)) if (8..=10).contains(&hash.len()) && is_random(hash) => owner,
            _ => rest,
        };
    }
    if is_number(last) && last.len() <= 3 { rest } else { pod }
}

/// Takes endings, dates, numbers and ids off the end, as long as there are any.
fn trimmed(name: &str) -> &str {
    let mut rest = name;
    loop {
        let shorter = without_ending(rest).or_else(|| without_part(rest));
        match shorter.filter(|shorter| !shorter.is_empty()) {
            Some(shorter) => rest = shorter,
            None => return rest,
        }
    }
}

fn without_ending(name: &str) -> Option<&str> {
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))
}

/// `.1`, `-20260102`, `.2026-01-02`, `_03-04-05`, `-<container id>`; a bare `-2` is part of a name.
fn without_part(name: &str) -> Option<&str> {
    if let Some((rest, last)) = name.rsplit_once('.')
        && is_number(last)
    {
        return Some(rest);
    }
    if let Some(rest) = without_date(name) {
        return Some(rest);
    }
    let (rest, last) = name.rsplit_once(['-', '_', '.'])?;
    let is_hex = last.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_id = is_hex && CONTAINER_DIGITS.contains(&last.len());
    (is_id || is_compact_date(last) || is_hour(last)).then_some(rest)
}

/// `2026-01-02` with any of `-`, `_` and `.` before and within.
fn without_date(name: &str) -> Option<&str> {
    let start = name.len().checked_sub(10)?;
    let date = name.get(start..)?.as_bytes();
    let is_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let is_date = is_digits(&date[..4])
        && is_digits(&date[5..7])
        && is_digits(&date[8..])
        && matches!(date[4], b'-' | b'_' | b'.')
        && date[7] == date[4];
    let rest = &name[..start];
    (is_date && (date[0] == b'1' || date[0] == b'2'))
        .then(|| rest.trim_end_matches(['-', '_', '.']))
}

/// `20260102`, `2026010203`, `20260102030405`, or the seconds since 1970 that logrotate may add.
fn is_compact_date(part: &str) -> bool {
    let is_long = matches!(part.len(), 8 | 10 | 12 | 14);
    is_long
        && is_number(part)
        && (part.starts_with("19") || part.starts_with("20") || part.len() == 10)
}

/// `T03` or `03h`, as rotation by the hour adds it.
fn is_hour(part: &str) -> bool {
    let digits = part.trim_start_matches('T').trim_end_matches('h');
    digits.len() == 2 && part.len() == 3 && is_number(digits)
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_with_each_file_is_no_part_of_a_name() {
        let id = "0123456789abcdef".repeat(4);
        for (name, expected) in [
            ("shop.log", "shop"),
            ("shop.log.3", "shop"),
            ("shop.log.3.gz", "shop"),
            ("shop-2026-01-02.log", "shop"),
            ("shop.2026-01-02.log", "shop"),
            ("shop.log.2026-01-02", "shop"),
            ("shop.log-20260102.gz", "shop"),
            ("shop-20260102T03.log", "shop-20260102T03"),
            ("shop_2026_01_02.4.txt", "shop"),
            ("error.log.old", "error"),
            ("node-18", "node-18"),
            ("s3", "s3"),
            ("http2.log", "http2"),
            ("2026-01-02.log", "2026-01-02"),
            ("1.log", "1"),
            (".log", ".log"),
            ("", ""),
        ] {
            assert_eq!(of_file(name), expected, "{name}");
        }
        assert_eq!(of_file(&format!("{id}-json.log")), "");
        assert_eq!(of_file(&format!("api-6d4cf56db6-x2x4b_prod_api-{id}.log")), "api");
        assert_eq!(of_file(&format!("db-0_prod_db-{id}.log")), "db");
        assert_eq!(of_file(&format!("agent-zx9c7_kube-system_agent-{id}.log")), "agent");
    }

    #[test]
    fn a_pattern_says_where_the_service_stands() {
        for (pattern, path, expected) in [
            ("/srv/{service}/logs/*.log", "/srv/shop/logs/a.log", Some("shop")),
            ("/srv/{service}/logs/*.log", "/srv/shop/other/a.log", None),
            ("/srv/**/{service}.log", "/srv/a/b/shop.log", Some("shop")),
            ("logs/{service}-*.log", "/x/logs/shop-7.log", Some("shop")),
            ("{service}/*", "shop/a", Some("shop")),
        ] {
            assert_eq!(PathPattern::new(pattern).unwrap().service(path), expected, "{pattern}");
        }
        assert!(PathPattern::new("/srv/*.log").is_err());
        assert!(PathPattern::new("{service}/{service}").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_name_panics(name in "[a-z0-9._é-]{0,40}") {
            proptest::prop_assert!(name.contains(of_file(&name)));
        }
    }
}
