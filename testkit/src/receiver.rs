//! A receiver of HTTP posts that behaves as told: it plays Slack, or any webhook's receiver.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::watch,
};

use crate::{
    certificates,
    listener::{Duplex, Listener, acceptor},
};

/// What a receiver does with a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Takes it: 200 and this body.
    Taken(String),
    /// Does not take it: this status, `Retry-After` in seconds if any, and this body.
    Refused(u16, Option<u64>, String),
    /// Takes it and never answers.
    TakenInSilence,
    /// Takes it and answers after so long.
    TakenSlowly(Duration),
}

impl Answer {
    /// As an incoming webhook of Slack's takes a message.
    pub fn ok() -> Self {
        Self::Taken("ok".into())
    }

    /// Whether the post is taken.
    pub fn is_taken(&self) -> bool {
        !matches!(self, Self::Refused(..))
    }
}

/// A post that came.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it was there whole.
    pub at: Instant,
    /// Its path.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
    /// What was done with it.
    pub answer: Answer,
}

impl Call {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

type Script = Arc<Mutex<dyn FnMut(&Call) -> Answer + Send>>;

/// A running receiver; it ends when dropped.
pub struct Receiver {
    listener: Listener,
    scheme: &'static str,
    authority: String,
    calls: watch::Receiver<Vec<Call>>,
}

impl Receiver {
    /// Listens without TLS and answers as the script says, which is given each call (with an answer
    /// still to be made).
    pub fn start(script: impl FnMut(&Call) -> Answer + Send + 'static) -> Self {
        Self::listen(script, false)
    }

    /// The same within TLS.
    pub fn start_tls(script: impl FnMut(&Call) -> Answer + Send + 'static) -> Self {
        Self::listen(script, true)
    }

    fn listen(script: impl FnMut(&Call) -> Answer + Send + 'static, within_tls: bool) -> Self {
        let made = certificates::make();
        let tls = within_tls.then(|| acceptor(&made));
        let script: Script = Arc::new(Mutex::new(script));
        let (say, calls) = watch::channel(Vec::new());
        let say = Arc::new(say);
        let listener = Listener::start(move |stream: TcpStream| {
            let (tls, script, say) = (tls.clone(), Arc::clone(&script), Arc::clone(&say));
            Box::pin(async move {
                match tls {
                    Some(tls) => serve(tls.accept(stream).await?, script, say).await,
                    None => serve(stream, script, say).await,
                }
            })
        });
        let scheme = if within_tls { "https" } else { "http" };
        Self { listener, scheme, authority: made.authority, calls }
    }

    /// Its address, with this path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.listener.address.port())
    }

    /// The authority that vouches for it, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What came so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    /// Waits until the calls are as the test wants them.
    pub async fn wait(&self, enough: impl FnMut(&Vec<Call>) -> bool) -> Vec<Call> {
        let mut calls = self.calls.clone();
        calls.wait_for(enough).await.expect("it runs").clone()
    }
}

async fn serve(
    stream: impl Duplex,
    script: Script,
    say: Arc<watch::Sender<Vec<Call>>>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(mut call) = read(&mut stream).await? {
        call.answer = script.lock().expect("no script panics")(&call);
        let answer = call.answer.clone();
        // Told before it is answered: a test that waits for the call must not depend on whether the
        // client has had its answer.
        say.send_modify(|calls| calls.push(call));
        let (status, retry_after, body) = match answer {
            Answer::Taken(body) => (200, None, body),
            Answer::Refused(status, retry_after, body) => (status, retry_after, body),
            Answer::TakenSlowly(pause) => {
                tokio::time::sleep(pause).await;
                (200, None, "ok".into())
            }
            Answer::TakenInSilence => std::future::pending().await,
        };
        let pause = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n"));
        let head = format!(
            "HTTP/1.1 {status} Answer\r\n{}Content-Length: {}\r\n\r\n{body}",
            pause.unwrap_or_default(),
            body.len(),
        );
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

async fn read(stream: &mut BufReader<impl Duplex>) -> io::Result<Option<Call>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut lines = lines.into_iter();
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Call { at: Instant::now(), path, headers, body, answer: Answer::ok() }))
}
