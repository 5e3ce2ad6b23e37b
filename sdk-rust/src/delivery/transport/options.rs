//! How a sender sends, and to which addresses.

use std::{net::IpAddr, time::Duration};

use http::Uri;
use tonic::codec::CompressionEncoding;

use super::tls::TlsOptions;
use crate::{delivery::retry::RetryPolicy, error::ConfigError};

/// How requests are compressed. Small ones never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// None if all addresses are of this machine, else zstd if the feature `zstd` is on, else gzip.
    #[default]
    Auto,
    /// Not at all: cheapest for the processor.
    None,
    /// What every server has; about five times the work of zstd.
    Gzip,
    /// Smallest and quick.
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Compression {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "none" => Some(Self::None),
            "gzip" => Some(Self::Gzip),
            #[cfg(feature = "zstd")]
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What it comes to for these addresses.
    pub(crate) fn encoding(self, addresses: &[String]) -> Option<CompressionEncoding> {
        match self {
            // Within a machine compression costs more time than it saves.
            Self::Auto if addresses.iter().all(|address| is_loopback(address)) => None,
            #[cfg(feature = "zstd")]
            Self::Auto | Self::Zstd => Some(CompressionEncoding::Zstd),
            #[cfg(not(feature = "zstd"))]
            Self::Auto => Some(CompressionEncoding::Gzip),
            Self::Gzip => Some(CompressionEncoding::Gzip),
            Self::None => None,
        }
    }
}

fn is_loopback(address: &str) -> bool {
    let Ok(uri) = address.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// How a [`Sender`](super::Sender) sends.
#[derive(Debug, Clone, PartialEq)]
pub struct SendOptions {
    /// Compression of requests of 1 KiB and more.
    pub compression: Compression,
    /// Longest time for one attempt. 10 s.
    pub attempt_timeout: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
    /// For `https://` addresses.
    pub tls: TlsOptions,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            attempt_timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
            tls: TlsOptions::default(),
        }
    }
}

/// The addresses of a comma list, each with its scheme.
pub(crate) fn parse_endpoints(list: &str) -> Result<Vec<String>, ConfigError> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let addresses = names.map(parse_endpoint).collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() { Err(ConfigError::Endpoint(list.into())) } else { Ok(addresses) }
}

fn parse_endpoint(name: &str) -> Result<String, ConfigError> {
    let address = if name.contains("://") { name.into() } else { format!("http://{name}") };
    let uri: Uri = address.parse().map_err(|_| ConfigError::Endpoint(name.into()))?;
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16());
    let plain = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let is_plain = uri.authority().is_some_and(|authority| authority.as_str() == plain);
    let usable = ["http", "https"].contains(&uri.scheme_str().unwrap_or_default())
        && !host.is_empty()
        // A user or a path would be ignored without a word.
        && is_plain;
    if usable { Ok(address) } else { Err(ConfigError::Endpoint(name.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_comma_list_with_http_understood() {
        let good = [
            ("http://a:4317", vec!["http://a:4317"]),
            (" a:1 ,https://b:2,", vec!["http://a:1", "https://b:2"]),
            ("127.0.0.1:4317", vec!["http://127.0.0.1:4317"]),
            ("[::1]:4317", vec!["http://[::1]:4317"]),
        ];
        for (list, expected) in good {
            assert_eq!(parse_endpoints(list).unwrap(), expected, "{list}");
        }
        for bad in [
            "",
            " , ",
            "http://",
            "https://",
            "ftp://a",
            "a b:1",
            "http://a:99999999",
            "http://u@a:1",
        ] {
            assert!(parse_endpoints(bad).is_err(), "{bad:?}");
        }
    }
}
