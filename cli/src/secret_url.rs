//! Addresses that hold a password: used as they are, shown without it. Pure.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

const MASK: &str = "***";

/// An address with a password, such as a database's. Debug output and serialization show
/// [`SecretUrl::masked`]; only [`SecretUrl::reveal`] gives the password away.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Takes a file's text, or what a person typed, without the blanks and line ends around it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address with its password, for the driver that connects to it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The address with the password, and every parameter named like one, masked. What is no URL is
    /// masked whole.
    pub fn masked(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let Some((scheme, rest)) = self.0.split_once("://") else { return MASK.to_owned() };
        let (place, query) = rest.split_once('?').map_or((rest, None), |(a, b)| (a, Some(b)));
        // A password may hold any character, an @, / or ? that should have been escaped too. An @
        // behind a ? may end one, and then the ? began no query.
        if query.is_some_and(|query| query.contains('@')) {
            return MASK.to_owned();
        }
        let place = match place.rsplit_once('@') {
            None => place.to_owned(),
            Some((who, host)) => {
                let user = who.split_once(':').map_or(who, |(user, _)| user);
                let password = if who.contains(':') { format!(":{MASK}") } else { String::new() };
                format!("{user}{password}@{host}")
            }
        };
        let query = query.map_or(String::new(), |query| {
            let parts: Vec<String> = query.split('&').map(masked_parameter).collect();
            format!("?{}", parts.join("&"))
        });
        format!("{scheme}://{place}{query}")
    }
}

fn masked_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        // libpq knows `password`, `passfile` and `sslpassword`.
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}={MASK}"),
        _ => parameter.to_owned(),
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.masked(), f)
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // `logweir config check` prints the settings, and people paste them into issues.
        serializer.serialize_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shown_holds_the_password() {
        for (url, shown) in [
            ("", ""),
            ("postgresql://logweir:s3cret@db:5432/logs", "postgresql://logweir:***@db:5432/logs"),
            ("postgresql://logweir@db/logs", "postgresql://logweir@db/logs"),
            ("postgresql://db/logs", "postgresql://db/logs"),
            ("amqp://u:s3cret@h:5672/%2f?heartbeat=5", "amqp://u:***@h:5672/%2f?heartbeat=5"),
            ("amqp://u:s3cret@@/s3cret@h/v", "amqp://u:***@h/v"),
            ("postgres://h/d?user=u&password=s3cret", "postgres://h/d?user=u&password=***"),
            ("amqp://u:s3cret?more@h/v", "***"),
            ("postgres://u@server:s3cret?more@h/d", "***"),
            ("host=h user=u password=s3cret", "***"),
        ] {
            let secret = SecretUrl::new(url);
            assert_eq!((secret.masked().as_str(), secret.reveal()), (shown, url));
            assert_eq!(format!("{secret:?}"), format!("{shown:?}"));
            let printed = toml::to_string(&std::collections::BTreeMap::from([("url", &secret)]));
            assert!(!printed.unwrap().contains("s3cret"), "{url}");
        }
    }
}
