//! Mail over SMTP: STARTTLS by default, TLS from the start, or plain for a relay on the machine.
//!
//! An incident is one conversation: its opening's `Message-ID` is made of the incident's id, all
//! others refer to it, and a repeat has the id of what it repeats. A recipient that is refused is
//! named and does not keep the others from their mail.

use std::time::{Duration, Instant, UNIX_EPOCH};

use async_trait::async_trait;
use lettre::{
    Address,
    message::{Mailbox, Message as Mail, MultiPart, header},
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters},
        commands,
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    channel::{
        EmailConfig, Encryption, RateLimit,
        email::{Correspondents, MailAddress},
    },
    notification::NotificationKind,
    render::{
        template::{Markup, Templates, render},
        text::clean_line,
        view::View,
    },
};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{
    CallSteps, Channel, ChannelLimits, Failure, Form, Message, Network, Receipt, SendError,
    WORDS_BYTES_MAX, connect::Stream, http::check_lease,
};
use crate::render::email_body::{html, plain};

/// Twenty mails an hour for each recipient; what is beyond is told together.
pub const EMAIL_RATE: RateLimit = RateLimit { every: Duration::from_secs(180), burst: 20 };
/// Incidents that may wait at once; more become one mail.
const DIGEST_OVER: usize = 5;
/// Characters of a subject.
const SUBJECT_CHARS_MAX: usize = 180;
/// Characters of the header that carries the key; a key itself has at most 128.
const KEY_CHARS_MAX: usize = 200;
/// Bytes of a hash in a `Message-ID`: two are the same once in 2^64 mails.
const ID_HASH_BYTES: usize = 16;
/// Characters of what the server returned with the recipients that it refused: several answers,
/// each of [`WORDS_BYTES_MAX`] at most.
const RECEIPT_CHARS_MAX: usize = 4 * WORDS_BYTES_MAX;
/// How long the server's goodbye is waited for.
const QUIT_TIMEOUT: Duration = Duration::from_millis(500);

/// Sends mail.
pub struct Email {
    config: EmailConfig,
    from: Mailbox,
    to: Vec<Mailbox>,
    hello: ClientId,
    starttls: Option<TlsParameters>,
    templates: Templates,
    network: Network,
}

impl Email {
    /// Checks the settings; calls nothing.
    pub fn new(
        config: EmailConfig,
        templates: Templates,
        network: Network,
    ) -> Result<Self, String> {
        // Everything that can be wrong is found here, where whoever sets the channel is told of it.
        let Correspondents { from, to } = config.correspondents()?;
        let from = mailbox(from)?;
        let to = to.into_iter().map(mailbox).collect::<Result<Vec<_>, _>>()?;
        let starttls = match config.encryption {
            Encryption::Starttls => Some(tls_parameters(&config.host, &network)?),
            _ => None,
        };
        let hello = ClientId::Domain(from.email.domain().to_owned());
        Ok(Self { config, from, to, hello, starttls, templates, network })
    }

    /// The mail whole, as it goes over the wire.
    pub fn mail(&self, message: &Message<'_>) -> Result<Vec<u8>, SendError> {
        let rejected = |error: lettre::error::Error| SendError::new(Failure::Rejected, error);
        let view = View::new(message.notification, message.key, message.is_test);
        let mut mail = Mail::builder()
            .from(self.from.clone())
            .subject(self.subject(&view))
            // Of the notification: a repeat has the same date.
            .date(UNIX_EPOCH + message.notification.at.since(Timestamp::EPOCH))
            .message_id(Some(self.message_id(message)))
            // Out-of-office robots answer neither of these (RFC 3834, and Exchange's own).
            .header(Header::<AutoSubmitted>::new("auto-generated"))
            .header(Header::<Suppress>::new("All"))
            .header(Header::<Key>::new(&clean_line(message.key, KEY_CHARS_MAX)));
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        if !self.is_opening(message) {
            let opening = self.opening_id(message);
            mail = mail.references(opening.clone()).in_reply_to(opening);
        }
        // Where the full form was refused, the page is the likeliest reason: then the text goes
        // alone.
        let (text, page) = self.bodies(&view);
        let mail = match (message.form, page) {
            (Form::Full, Some(page)) => {
                mail.multipart(MultiPart::alternative_plain_html(text, page))
            }
            _ => mail.header(header::ContentType::TEXT_PLAIN).body(text),
        };
        Ok(mail.map_err(rejected)?.formatted())
    }

    fn subject(&self, view: &View) -> String {
        let own = self.templates.title.as_deref().map(|title| render(title, Markup::Text, view));
        let subject = match own {
            Some(Ok(own)) => own,
            _ => view.headline(),
        };
        clean_line(&subject, SUBJECT_CHARS_MAX)
    }

    /// The text, and the page unless that failed.
    fn bodies(&self, view: &View) -> (String, Option<String>) {
        let own = self.templates.body.as_deref().map(|body| render(body, Markup::Text, view));
        let (own, note) = match own {
            None => (None, None),
            Some(Ok(own)) => (Some(own), None),
            Some(Err(why)) => (None, Some(format!("The channel's own wording failed ({why})."))),
        };
        let page = html(view, own.as_deref(), note.as_deref());
        (plain(view, own.as_deref(), note.as_deref()), page.ok())
    }

    fn is_opening(&self, message: &Message<'_>) -> bool {
        message.notification.kind == NotificationKind::Opened
            && message.notification.others.is_empty()
    }

    fn opening_id(&self, message: &Message<'_>) -> String {
        self.id("incident", &message.notification.incident.id)
    }

    fn message_id(&self, message: &Message<'_>) -> String {
        // Later mails refer to the first by an id that follows from the incident: nothing need be
        // kept. A test must not take the id of a true opening.
        if self.is_opening(message) && !message.is_test {
            self.opening_id(message)
        } else {
            self.id("notice", message.key)
        }
    }

    /// Ids are made of hashes, since keys may have characters that headers do not allow.
    fn id(&self, kind: &str, text: &str) -> String {
        let hash = hex::encode(&Sha256::digest(text.as_bytes())[..ID_HASH_BYTES]);
        format!("<{kind}.{hash}@{}>", self.from.email.domain())
    }

    async fn open(
        &self,
        message: &Message<'_>,
        steps: &mut CallSteps,
    ) -> Result<AsyncSmtpConnection, SendError> {
        let (host, port) = (self.config.host.as_str(), self.config.port());
        let within_tls = self.config.encryption == Encryption::Tls;
        let stream = self.network.connect(host, port, within_tls, steps).await?;
        // To connect may have taken longer than the lease lasts.
        check_lease(message)?;
        let hello = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello);
        let mut connection = hello.await.map_err(|error| refused("greeting", &error))?;
        if let Some(parameters) = &self.starttls {
            let since = Instant::now();
            let upgraded = connection.starttls(parameters.clone(), &self.hello).await;
            let upgraded = upgraded.map(|()| ((), "by STARTTLS".to_owned()));
            steps.note("tls", since, upgraded.map_err(|error| starttls_failed(&error)))?;
        }
        // After STARTTLS only, or the password would go over the wire in clear.
        if !self.config.username.is_empty() {
            let since = Instant::now();
            let password = self.config.password.reveal().to_owned();
            let credentials = Credentials::new(self.config.username.clone(), password);
            let known = connection.auth(DEFAULT_MECHANISMS, &credentials).await;
            let known = known.map(|response| ((), words(&response)));
            steps.note("authentication", since, known.map_err(|error| unknown(&error)))?;
        }
        Ok(connection)
    }

    /// Hands the mail over. Whoever is refused is named; it fails only if all are.
    async fn hand_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &[u8],
        message: &Message<'_>,
    ) -> Result<String, SendError> {
        // A server that was not told may cut the eighth bit off, and with it every umlaut.
        let mut parameters = Vec::new();
        if !mail.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let from = self.from.email.clone();
        let began = connection.command(commands::Mail::new(Some(from), parameters)).await;
        began.map_err(|error| refused("MAIL FROM", &error))?;
        // One wrong address among several must not keep the others from being told.
        let mut accepted = 0_usize;
        let mut refusals = Vec::new();
        let mut first = None;
        for to in self.to.iter().map(|to| &to.email) {
            match connection.command(commands::Rcpt::new(to.clone(), Vec::new())).await {
                Ok(_) => accepted += 1,
                Err(error) => {
                    refusals.push(format!("{to}: {}", why(&error)));
                    first.get_or_insert(recipient_refused(to, &error));
                }
            }
        }
        if let Some(error) = first.filter(|_| accepted == 0) {
            return Err(error);
        }
        connection.command(commands::Data).await.map_err(|error| refused("DATA", &error))?;
        // The last moment: with the end of the mail the server has taken it.
        check_lease(message)?;
        let taken = connection.message(mail).await.map_err(|error| SendError {
            // A refusal is certain. A connection that breaks after the mail went out is not.
            may_have_arrived: error.status().is_none(),
            ..refused("the mail", &error)
        })?;
        let mut words = words(&taken);
        if !refusals.is_empty() {
            words = format!("{words}; refused for {}", refusals.join("; "));
        }
        Ok(clean_line(&words, RECEIPT_CHARS_MAX))
    }
}

#[async_trait]
impl Channel for Email {
    fn limits(&self) -> ChannelLimits {
        ChannelLimits { rate: EMAIL_RATE, digest_over: Some(DIGEST_OVER) }
    }

    async fn send(
        &self,
        message: &Message<'_>,
        steps: &mut CallSteps,
    ) -> Result<Receipt, SendError> {
        let mail = self.mail(message)?;
        let since = Instant::now();
        let opened = timeout(self.network.call_timeout, self.open(message, steps)).await;
        let mut connection = opened.map_err(|_| slow("the server is too slow"))??;
        let left = self.network.call_timeout.saturating_sub(since.elapsed());
        let since = Instant::now();
        let taken = timeout(left, self.hand_over(&mut connection, &mail, message)).await;
        // The server may have taken the mail in the moment in which the time was over.
        let taken = taken.unwrap_or_else(|_| {
            Err(SendError { may_have_arrived: true, ..slow("no answer came in time") })
        });
        let words = steps.note("answer", since, taken.map(|words| (words.clone(), words)))?;
        // The mail is taken: what comes of saying goodbye changes nothing.
        if timeout(QUIT_TIMEOUT, connection.quit()).await.is_err() {
            tracing::debug!("a mail server does not say goodbye");
        }
        Ok(Receipt { thread: None, words })
    }
}

impl AsyncTokioStream for Stream {
    fn peer_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        self.tcp().peer_addr()
    }
}

fn mailbox(address: MailAddress) -> Result<Mailbox, String> {
    let MailAddress { name, local_part, domain } = address;
    let address = Address::new(local_part, domain).map_err(|error| error.to_string())?;
    Ok(Mailbox::new(name, address))
}

fn tls_parameters(host: &str, network: &Network) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    for authority in network.authorities() {
        let authority = Certificate::from_der(authority.to_vec()).map_err(|e| e.to_string())?;
        builder = builder.add_root_certificate(authority);
    }
    builder.build_rustls().map_err(|error| error.to_string())
}

type SmtpError = lettre::transport::smtp::Error;

fn words(response: &lettre::transport::smtp::response::Response) -> String {
    let lines: Vec<&str> = response.message().collect();
    clean_line(&format!("{} {}", response.code(), lines.join(" ")), WORDS_BYTES_MAX)
}

/// The error with its causes: lettre keeps the server's words there.
fn why(error: &SmtpError) -> String {
    clean_line(&error.to_string(), WORDS_BYTES_MAX)
}

fn slow(text: &str) -> SendError {
    SendError::new(Failure::Failing { pause: None }, text)
}

/// A 4xx asks for patience, a 5xx finds fault with the mail, anything else is the network.
fn refused(what: &str, error: &SmtpError) -> SendError {
    let failure = if error.is_transient() {
        Failure::RateLimited { pause: None }
    } else if error.is_permanent() {
        Failure::Rejected
    } else {
        Failure::Failing { pause: None }
    };
    SendError::new(failure, format!("{what}: {}", why(error)))
}

fn recipient_refused(to: &Address, error: &SmtpError) -> SendError {
    let mut refusal = refused(&format!("recipient {to}"), error);
    // A 5xx for a recipient says that the address is wrong, not the mail.
    if refusal.failure == Failure::Rejected {
        refusal.failure = Failure::Misconfigured;
    }
    refusal
}

fn starttls_failed(error: &SmtpError) -> SendError {
    // The server has no STARTTLS, or refuses it: a person must look.
    let is_final = error.is_client() || error.is_permanent();
    let failure = if is_final { Failure::Misconfigured } else { Failure::Failing { pause: None } };
    SendError::new(failure, format!("STARTTLS: {}", why(error)))
}

fn unknown(error: &SmtpError) -> SendError {
    // A 4xx says that the server cannot check at the moment, and nothing of the password.
    let is_final = error.is_client() || error.is_permanent();
    let (failure, hint) = if is_final {
        (Failure::Misconfigured, "; check user and password")
    } else {
        (Failure::Failing { pause: None }, "")
    };
    SendError::new(failure, format!("authentication: {}{hint}", why(error)))
}

/// A header that the mail library does not know; `T` has its name.
#[derive(Clone)]
struct Header<T> {
    value: String,
    kind: std::marker::PhantomData<T>,
}

trait Named: Clone {
    const NAME: &'static str;
}

#[derive(Clone)]
struct AutoSubmitted;
#[derive(Clone)]
struct Suppress;
#[derive(Clone)]
struct Key;

impl Named for AutoSubmitted {
    const NAME: &'static str = "Auto-Submitted";
}

impl Named for Suppress {
    const NAME: &'static str = "X-Auto-Response-Suppress";
}

impl Named for Key {
    const NAME: &'static str = "X-Logweir-Key";
}

impl<T> Header<T> {
    fn new(value: &str) -> Self {
        Self { value: value.to_owned(), kind: std::marker::PhantomData }
    }
}

impl<T: Named> header::Header for Header<T> {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str(T::NAME)
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::new(text))
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), self.value.clone())
    }
}
