//! A service's name from the name of its file. Pure.
//!
//! Dates, numbers of rotation, pods and containers are no part of it: a service whose file has a
//! new name each day is one service.

use std::sync::LazyLock;

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

/// A date at the end of a name, perhaps with a time behind it, or a weekday.
static STAMP: LazyLock<Option<Regex>> = LazyLock::new(|| {
    const DATE: &str = r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])";
    const CLOCK: &str = r"(?:[-_.T]?\d\d(?:[-_.:h]?\d\d){0,2}[Zh]?)?";
    Regex::new(&format!("[-_. ]+(?:{DATE}(?:{CLOCK})|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun))$")).ok()
});

/// The service of a path, by the file's name or, of a pod's files, by the pod's folder; empty if
/// nothing is left.
pub fn of_path(path: &str) -> &str {
    let mut folders = path.rsplit('/');
    let (name, _container, pod) = (folders.next(), folders.next(), folders.next());
    let name = name.unwrap_or_default();
    // `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/0.log`.
    let of_pod_folder = pod.filter(|_| path.contains("/pods/")).and_then(|folder| {
        let mut parts = folder.split('_');
        let (_namespace, pod, _uid) = (parts.next()?, parts.next()?, parts.next()?);
        Some(of_pod(pod))
    });
    of_pod_folder.unwrap_or_else(|| of_file(name))
}

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
pub(crate) fn of_pod(pod: &str) -> &str {
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

/// `.1`, `-20260102`, `.2026-01-02`, `-2026-01-02_030405`, `-Sat`, `-<container id>`; a bare `-2` is
/// part of a name.
fn without_part(name: &str) -> Option<&str> {
    if let Some(stamp) = STAMP.as_ref().and_then(|stamp| stamp.find(name)) {
        return Some(&name[..stamp.start()]);
    }
    if let Some((rest, last)) = name.rsplit_once('.')
        && is_number(last)
    {
        return Some(rest);
    }
    let (rest, last) = name.rsplit_once(['-', '_', '.'])?;
    let is_hex = last.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_id = is_hex && CONTAINER_DIGITS.contains(&last.len());
    // Ten digits are the seconds since 1970 that logrotate's `dateformat` may add.
    let is_seconds = last.len() == 10 && is_number(last);
    (is_id || is_seconds).then_some(rest)
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
            ("shop-20260102T03.log", "shop"),
            ("shop-2026.01.02.log", "shop"),
            ("shop-2026-01-02_030405.log", "shop"),
            ("shop__2026-01-02_03-04-05.log", "shop"),
            ("shop.log.2026-01-02-03", "shop"),
            ("shop-20260102-030405.log", "shop"),
            ("shop-Sat.log", "shop"),
            ("shop 2026-01-02.log", "shop"),
            ("shop-1767323045.log", "shop"),
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
    fn a_pods_files_are_called_by_their_folder() {
        let path = "/var/log/pods/prod_shop-6d4cf56db6-x2x4b_0123-45/app/0.log";
        assert_eq!(of_path(path), "shop");
        assert_eq!(of_path("/srv/shop.log"), "shop");
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
