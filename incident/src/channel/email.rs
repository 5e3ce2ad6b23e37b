//! How a mail server is reached, and who is written to.

use std::{fmt, str::FromStr};

use email_address::EmailAddress;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// The ports of SMTP: submission with STARTTLS (RFC 6409), submission within TLS (RFC 8314), and
/// relay (RFC 5321).
const SUBMISSION_PORT: u16 = 587;
const SUBMISSIONS_PORT: u16 = 465;
const SMTP_PORT: u16 = 25;

/// Recipients that a channel may have: each is a command to the server, within the time-out of a
/// call.
pub const RECIPIENTS_MAX: usize = 50;

/// How the connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Plain at first, then TLS; refused if the server cannot.
    #[default]
    Starttls,
    /// TLS from the start.
    Tls,
    /// Not at all. Passwords are not sent this way.
    None,
}

/// How to reach a mail server, and whom to write to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// The server's name.
    pub host: String,
    /// Its port; by default 587, 465 or 25 as the encryption has it.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is encrypted.
    #[serde(default)]
    pub encryption: Encryption,
    /// The user to log in as; empty for no login.
    #[serde(default)]
    pub username: String,
    /// The user's password.
    #[serde(default)]
    pub password: Secret,
    /// The sender's address, such as `Logweir <alerts@example.com>`.
    pub from: String,
    /// The recipients' addresses.
    pub to: Vec<String>,
}

/// The checked addresses of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correspondents {
    /// The sender.
    pub from: MailAddress,
    /// The recipients, 1 to [`RECIPIENTS_MAX`].
    pub to: Vec<MailAddress>,
}

impl EmailConfig {
    /// The port to connect to: the one that is set, or the usual one of the encryption.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.encryption {
            Encryption::Starttls => SUBMISSION_PORT,
            Encryption::Tls => SUBMISSIONS_PORT,
            Encryption::None => SMTP_PORT,
        })
    }

    /// The addresses; an error says which setting is wrong and what to do.
    pub fn correspondents(&self) -> Result<Correspondents, String> {
        let address = |text: &String| {
            text.parse::<MailAddress>().map_err(|error| format!("the address {text:?}: {error}"))
        };
        let from = address(&self.from)?;
        let to = self.to.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() || to.len() > RECIPIENTS_MAX {
            return Err(format!("`to` must name 1 to {RECIPIENTS_MAX} addresses"));
        }
        // Refused here and not where it is sent: whoever sets it must learn of it.
        if self.encryption == Encryption::None && !self.password.is_empty() {
            return Err("a password is not sent without encryption; use `starttls`".into());
        }
        Ok(Correspondents { from, to })
    }
}

/// A mail address, with the name of whom it belongs to if that was given: `ops@example.com` or
/// `Operations <ops@example.com>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAddress {
    /// The name before the address.
    pub name: Option<String>,
    /// What stands before the `@`.
    pub local_part: String,
    /// What stands after it.
    pub domain: String,
}

/// A text is no mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailAddressError;

impl fmt::Display for MailAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write `name@example.com` or `Name <name@example.com>`")
    }
}

impl std::error::Error for MailAddressError {}

impl FromStr for MailAddress {
    type Err = MailAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (name, address) = match text.strip_suffix('>') {
            Some(named) => named.rsplit_once('<').ok_or(MailAddressError)?,
            None => ("", text),
        };
        // The last `@`: a quoted local part may have one of its own.
        let (local_part, domain) = address.trim().rsplit_once('@').ok_or(MailAddressError)?;
        let is_address =
            EmailAddress::is_valid_local_part(local_part) && EmailAddress::is_valid_domain(domain);
        // A line break in a name would begin a header of its own.
        if !is_address || name.chars().any(char::is_control) {
            return Err(MailAddressError);
        }
        let name = Some(unquoted(name.trim())).filter(|name| !name.is_empty());
        Ok(Self { name, local_part: local_part.to_owned(), domain: domain.to_owned() })
    }
}

/// A name without the quotes that it may stand in.
fn unquoted(name: &str) -> String {
    let inside = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.map_or_else(|| name.to_owned(), |inside| inside.replace("\\\"", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(Option<&str>, &str, &str)>) {
        let parsed = text.parse::<MailAddress>().ok();
        let parts = parsed.as_ref().map(|MailAddress { name, local_part, domain }| {
            (name.as_deref(), local_part.as_str(), domain.as_str())
        });
        assert_eq!(parts, expected, "{text}");
    }

    #[test]
    fn an_address_may_have_a_name() {
        check("ops@example.com", Some((None, "ops", "example.com")));
        check(" <ops@example.com> ", Some((None, "ops", "example.com")));
        check("Logweir <ops@example.com>", Some((Some("Logweir"), "ops", "example.com")));
        check("\"Ops, \\\"Night\\\"\" <a@b.c>", Some((Some("Ops, \"Night\""), "a", "b.c")));
        check("ops@localhost", Some((None, "ops", "localhost")));
        for wrong in ["", "ops", "ops@", "@example.com", "a b@example.com", "ops@example.com>"] {
            check(wrong, None);
        }
        check("a\r\nBcc: x <ops@example.com>", None);
    }
}
