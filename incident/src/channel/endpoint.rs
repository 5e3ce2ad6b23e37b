//! The address of an HTTP receiver, checked before anything is called.

use url::Url;

/// Where to post. Its path may be a secret, so it does not print.
#[derive(Clone)]
pub struct Endpoint {
    url: Url,
    host: String,
    port: u16,
}

impl Endpoint {
    /// Reads an address; only `https`, or `http` too if the channel says so. An error says what is
    /// wrong with it, without the address itself.
    pub fn new(text: &str, allows_http: bool) -> Result<Self, String> {
        let url =
            Url::parse(text.trim()).map_err(|error| format!("the URL is invalid: {error}"))?;
        match url.scheme() {
            "https" => {}
            "http" if allows_http => {}
            "http" => return Err("the URL is http; use https, or set `allow_http`".into()),
            other => return Err(format!("the URL's scheme {other:?} is not https")),
        }
        // It would be printed with the address, in logs that many may read.
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL has a user or password in it; leave it out".into());
        }
        let host = url.host_str().ok_or("the URL has no host")?.to_owned();
        let port = url.port_or_known_default().ok_or("the URL has no port")?;
        Ok(Self { url, host, port })
    }

    /// The address as it was read.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Its host: a name or a number.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port, the scheme's own if it names none.
    pub const fn port(&self) -> u16 {
        self.port
    }
}
