//! A mail server that speaks SMTP (RFC 5321) with STARTTLS (RFC 3207) and AUTH (RFC 4954), and
//! keeps what it is given.

use std::{io, sync::Arc, time::Instant};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    certificates,
    listener::{Duplex, Listener, acceptor},
};

/// How a mail server behaves; by default it takes plain mail from anybody.
#[derive(Clone, Debug, Default)]
pub struct MailManner {
    /// Whether it offers STARTTLS, and asks for it before it takes mail.
    pub starttls: bool,
    /// Whether it speaks TLS from the start.
    pub tls: bool,
    /// Who may send mail: `\0user\0password` in base64, as `AUTH PLAIN` has it. None for anybody.
    pub credentials: Option<String>,
    /// Recipients that it does not know.
    pub unknown: Vec<String>,
    /// What it answers to a mail, such as `451 try later`; else it takes it.
    pub refusal: Option<String>,
    /// Whether it takes a mail and never answers.
    pub is_silent: bool,
}

/// A mail that came.
#[derive(Clone, Debug)]
pub struct Mail {
    /// When it was there whole.
    pub at: Instant,
    /// The sender's address in the envelope (`MAIL FROM`).
    pub from: String,
    /// The recipients' addresses in the envelope (`RCPT TO`).
    pub to: Vec<String>,
    /// Whether it came within TLS.
    pub within_tls: bool,
    /// Headers and body.
    pub data: String,
}

impl Mail {
    /// A header's value, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        // A long header goes on in a line that begins with a blank (RFC 5322, 2.2.3).
        let head = self.data.split("\r\n\r\n").next()?.replace("\r\n ", " ");
        let prefix = format!("{name}: ");
        head.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    }
}

/// A running mail server; it ends when dropped.
pub struct MailServer {
    listener: Listener,
    authority: String,
    mails: watch::Receiver<Vec<Mail>>,
}

impl MailServer {
    /// Listens on a free port of `localhost`.
    pub fn start(manner: MailManner) -> Self {
        let made = certificates::make();
        let tls = acceptor(&made);
        let (say, mails) = watch::channel(Vec::new());
        let say = Arc::new(say);
        let listener = Listener::start(move |stream: TcpStream| {
            let (tls, manner, say) = (tls.clone(), manner.clone(), Arc::clone(&say));
            Box::pin(async move { serve(stream, tls, manner, say).await })
        });
        Self { listener, authority: made.authority, mails }
    }

    /// Its port on `localhost`.
    pub fn port(&self) -> u16 {
        self.listener.address.port()
    }

    /// The authority that vouches for it, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What came so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.borrow().clone()
    }

    /// Waits until so many came.
    pub async fn wait(&self, count: usize) -> Vec<Mail> {
        let mut mails = self.mails.clone();
        mails.wait_for(|mails| mails.len() >= count).await.expect("it runs").clone()
    }
}

type Say = Arc<watch::Sender<Vec<Mail>>>;

async fn serve(
    stream: TcpStream,
    tls: TlsAcceptor,
    manner: MailManner,
    say: Say,
) -> io::Result<()> {
    if manner.tls {
        let mut stream = BufReader::new(tls.accept(stream).await?);
        stream.write_all(b"220 mail.test ready\r\n").await?;
        return converse(&mut stream, &manner, true, &say).await.map(|_| ());
    }
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail.test ready\r\n").await?;
    if converse(&mut stream, &manner, false, &say).await? {
        let mut stream = BufReader::new(tls.accept(stream.into_inner()).await?);
        converse(&mut stream, &manner, true, &say).await?;
    }
    Ok(())
}

/// Speaks until the client leaves, or wants TLS.
async fn converse(
    stream: &mut BufReader<impl Duplex>,
    manner: &MailManner,
    within_tls: bool,
    say: &Say,
) -> io::Result<bool> {
    let mut is_known = manner.credentials.is_none();
    let (mut from, mut to) = (String::new(), Vec::new());
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(false);
        }
        let command = line.trim_end();
        let verb = command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            // Within TLS a client greets again: what it was offered in plain text is void, and
            // STARTTLS must not be offered a second time (RFC 3207, 4.2).
            "EHLO" => greeting(manner, within_tls),
            "STARTTLS" if manner.starttls && !within_tls => {
                stream.write_all(b"220 go ahead\r\n").await?;
                return Ok(true);
            }
            "AUTH" => {
                let given = command.strip_prefix("AUTH PLAIN ");
                is_known = given.is_some() && given == manner.credentials.as_deref();
                let reply = if is_known { "235 welcome" } else { "535 5.7.8 wrong password" };
                format!("{reply}\r\n")
            }
            "MAIL" if manner.starttls && !within_tls => "530 5.7.0 STARTTLS first\r\n".into(),
            "MAIL" if !is_known => "530 5.7.0 who are you\r\n".into(),
            "MAIL" => {
                from = address(command);
                to.clear();
                "250 fine\r\n".into()
            }
            "RCPT" if manner.unknown.contains(&address(command)) => {
                "550 5.1.1 no such user here\r\n".into()
            }
            "RCPT" => {
                to.push(address(command));
                "250 fine\r\n".into()
            }
            "DATA" if to.is_empty() => "503 5.5.1 to whom\r\n".into(),
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let data = data(stream).await?;
                let (from, to) = (from.clone(), to.clone());
                take(Mail { at: Instant::now(), from, to, within_tls, data }, manner, say).await
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(false);
            }
            "RSET" | "NOOP" => "250 fine\r\n".into(),
            _ => "502 5.5.2 unknown command\r\n".into(),
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Takes or refuses a mail; the answer.
async fn take(mail: Mail, manner: &MailManner, say: &Say) -> String {
    if let Some(refusal) = &manner.refusal {
        return format!("{refusal}\r\n");
    }
    say.send_modify(|mails| mails.push(mail));
    // Taken, and the client cannot know: it must not lose the mail, and may send it twice.
    if manner.is_silent {
        std::future::pending::<()>().await;
    }
    "250 2.0.0 queued as 4711\r\n".into()
}

fn greeting(manner: &MailManner, within_tls: bool) -> String {
    let mut lines = vec!["mail.test", "8BITMIME"];
    if manner.starttls && !within_tls {
        lines.push("STARTTLS");
    }
    if manner.credentials.is_some() {
        lines.push("AUTH PLAIN");
    }
    let last = lines.len() - 1;
    // All lines but the last have a hyphen behind the code (RFC 5321, 4.2.1).
    let line = |(at, line)| format!("250{}{line}\r\n", if at == last { ' ' } else { '-' });
    lines.into_iter().enumerate().map(line).collect()
}

fn address(command: &str) -> String {
    let inside = command.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map(|(address, _)| address.to_owned()).unwrap_or_default()
}

async fn data(stream: &mut BufReader<impl Duplex>) -> io::Result<String> {
    let mut data = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(data);
        }
        // A line that begins with a dot was sent with one more (RFC 5321, 4.5.2).
        data.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
