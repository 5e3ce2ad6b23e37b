//! Where the token comes from, and how it is checked before a header carries it.

use std::{path::PathBuf, sync::Arc};

use tonic::metadata::{Ascii, MetadataValue};

use crate::{error::ConfigError, platform};

/// Where the token comes from. A file or a function is read again when the server refuses the
/// token.
#[derive(Clone)]
pub enum Token {
    /// This text.
    Text(String),
    /// A file that holds it alone.
    File(PathBuf),
    /// A function. It runs on the sending thread and must be quick.
    Callback(Arc<dyn Fn() -> Option<String> + Send + Sync>),
    /// None, for a proxy that adds it.
    None,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Token::Text",
            Self::File(_) => "Token::File",
            Self::Callback(_) => "Token::Callback",
            Self::None => "Token::None",
        })
    }
}

pub(super) type Header = MetadataValue<Ascii>;

impl Token {
    /// The token as it is now, checked.
    pub(crate) fn text(&self) -> Result<Option<String>, ConfigError> {
        let text = match self {
            Self::Text(text) => Some(text.clone()),
            Self::File(path) => {
                let read = std::fs::read_to_string(path);
                Some(read.map_err(|error| ConfigError::TokenFile(path.clone(), error))?)
            }
            Self::Callback(read) => platform::catch_panic(|| read()).flatten(),
            Self::None => None,
        };
        text.as_deref().map(checked_token).transpose()
    }

    /// The header `authorization`; none if there is no token.
    pub(super) fn header(&self) -> Result<Option<Header>, ConfigError> {
        let Some(text) = self.text()? else { return Ok(None) };
        let mut header: Header =
            format!("Bearer {text}").parse().map_err(|_| ConfigError::Token)?;
        // Kept out of debug output and of the compression table of HTTP/2.
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

/// A token without the space around it, if a header can carry it.
pub(crate) fn checked_token(text: &str) -> Result<String, ConfigError> {
    let text = text.trim();
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain { Ok(text.into()) } else { Err(ConfigError::Token) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_checked_and_never_shown() {
        let header = Token::Text(" secret\n".into()).header().unwrap().unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer secret");
        assert!(header.is_sensitive());
        assert!(matches!(Token::Text("a\nb".into()).header(), Err(ConfigError::Token)));
        assert!(matches!(Token::File("/nowhere".into()).header(), Err(ConfigError::TokenFile(..))));
        assert!(!format!("{:?}", Token::Text("secret".into())).contains("secret"));
    }
}
