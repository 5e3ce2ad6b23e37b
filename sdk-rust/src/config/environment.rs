//! Settings from variables of the environment. One that cannot be used costs a notice, and the
//! default is taken.

use std::{path::PathBuf, sync::Arc};

use logweir_proto::v1::Level;

use crate::{
    delivery::transport::{TlsOptions, Token, checked_token, parse_endpoints},
    error::ConfigError,
    platform::{Notice, ProcessContext},
    record::{redaction::Redaction, sampling::SampleRates},
};

pub(super) const ENDPOINT: &str = "LOGWEIR_ENDPOINT";
pub(super) const TOKEN: &str = "LOGWEIR_TOKEN";
const TOKEN_FILE: &str = "LOGWEIR_TOKEN_FILE";
pub(super) const TLS_CA: &str = "LOGWEIR_TLS_CA";
const TLS_CERTIFICATE: &str = "LOGWEIR_TLS_CLIENT_CERT";
const TLS_KEY: &str = "LOGWEIR_TLS_CLIENT_KEY";
pub(super) const COMPRESSION: &str = "LOGWEIR_COMPRESSION";
pub(super) const DROP_POLICY: &str = "LOGWEIR_DROP_POLICY";
const REDACT_KEYS: &str = "LOGWEIR_REDACT_KEYS";
const SAMPLE_RATES: &str = "LOGWEIR_SAMPLE_RATES";
pub(super) const SPOOL_DIR: &str = "LOGWEIR_SPOOL_DIR";
pub(super) const OTEL_QUEUE_RECORDS: &str = "OTEL_BLRP_MAX_QUEUE_SIZE";
pub(super) const OTEL_BATCH_RECORDS: &str = "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE";
pub(super) const OTEL_BATCH_DELAY_MS: &str = "OTEL_BLRP_SCHEDULE_DELAY";
pub(super) const OTEL_DISABLED: &str = "OTEL_SDK_DISABLED";
pub(super) const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:4317";

/// What the environment says, and who hears of what it says wrongly.
pub(super) struct Environment<'a> {
    pub(super) context: &'a ProcessContext,
    pub(super) notice: &'a Notice,
}

impl Environment<'_> {
    /// The value of a variable; none, with a notice, if it is not valid.
    pub(super) fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = (self.context.variable)(name)?;
        // A line break at the end of a variable is nobody's intention.
        let value = parse(text.trim());
        if value.is_none() {
            (self.notice)(&format!("{name}: {text:?} is not valid; going on with the default"));
        }
        value
    }

    /// The addresses; the default if there are none, or none that can be used.
    pub(super) fn endpoints(&self) -> String {
        let Some(list) = (self.context.variable)(ENDPOINT) else { return ENDPOINT_DEFAULT.into() };
        parse_endpoints(&list).map(|addresses| addresses.join(",")).unwrap_or_else(|error| {
            (self.notice)(&format!("{ENDPOINT}: {error}; going on with {ENDPOINT_DEFAULT}"));
            ENDPOINT_DEFAULT.into()
        })
    }

    /// A file may come later, or change, and so may the variables: they are read again when the
    /// server refuses the token, and what cannot be used then counts as none.
    pub(super) fn token(&self) -> Token {
        match read_token(self.context) {
            Ok(None) => return Token::None,
            Ok(Some(_)) => {}
            Err(error) => (self.notice)(&format!(
                "{TOKEN} or {TOKEN_FILE}: {error}; going on without a token"
            )),
        }
        let context = self.context.clone();
        Token::Callback(Arc::new(move || read_token(&context).ok().flatten()))
    }

    /// Files that cannot be used are left out: a server that needs them says so to the sending
    /// thread.
    pub(super) fn tls(&self) -> TlsOptions {
        let path = |name| (self.context.variable)(name).map(PathBuf::from);
        let options = TlsOptions {
            ca_file: path(TLS_CA),
            client_files: path(TLS_CERTIFICATE).zip(path(TLS_KEY)),
        };
        if options == TlsOptions::default() {
            return options;
        }
        options.check().map(|()| options).unwrap_or_else(|error| {
            (self.notice)(&format!(
                "{TLS_CA}, {TLS_CERTIFICATE} or {TLS_KEY}: {error}; going on with the system's CAs"
            ));
            TlsOptions::default()
        })
    }

    /// The rates of the environment, and over them those of the code.
    pub(super) fn sample_rates(&self, code: &[(Level, f64)]) -> Result<SampleRates, ConfigError> {
        let mut rates = SampleRates::default();
        for pair in (self.context.variable)(SAMPLE_RATES).iter().flat_map(|list| list.split(',')) {
            let rate = pair.split_once('=').and_then(|(level, rate)| {
                let level = format!("LEVEL_{}", level.trim().to_ascii_uppercase());
                Some((Level::from_str_name(&level)?, rate.trim().parse().ok()?))
            });
            if rate.is_none_or(|(level, rate)| rates.set(level, rate).is_err()) {
                (self.notice)(&format!(
                    "{SAMPLE_RATES}: {pair:?} is not LEVEL=RATE with a rate from 0 to 1; left out"
                ));
            }
        }
        // Over the environment: the code knows what it does.
        code.iter().try_for_each(|(level, rate)| rates.set(*level, *rate))?;
        Ok(rates)
    }

    /// The names of attributes whose values are blanked out.
    pub(super) fn redaction(&self) -> Redaction {
        let Some(list) = (self.context.variable)(REDACT_KEYS) else { return Redaction::default() };
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        Redaction::of(&names.collect::<Vec<_>>())
    }
}

fn read_token(context: &ProcessContext) -> Result<Option<String>, ConfigError> {
    let text = match ((context.variable)(TOKEN), (context.variable)(TOKEN_FILE)) {
        (Some(text), _) => text,
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            (context.file)(&path).map_err(|error| ConfigError::TokenFile(path, error))?
        }
        (None, None) => return Ok(None),
    };
    checked_token(&text).map(Some)
}
