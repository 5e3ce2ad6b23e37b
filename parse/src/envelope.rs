//! What a container runtime puts around each line of a program. Pure.

use std::borrow::Cow;

use logweir_core::{record::Value, timestamp::Timestamp};

use crate::{json, parsed::Context, service, time};

/// Longest name that docker compose puts before a line, bytes.
const NAME_BYTES_MAX: usize = 64;

/// What stands around a line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// When the runtime got the line.
    pub time: Option<Timestamp>,
    /// `stdout` or `stderr`; empty if it does not say.
    pub stream: String,
    /// The container; empty if it does not say.
    pub container: String,
    /// Its pod; empty if it does not say.
    pub pod: String,
    /// Whether the rest of the line comes in another envelope.
    pub is_partial: bool,
}

/// Takes a line out of its envelope, if it is in one.
pub(crate) fn open<'a>(line: &'a str, context: &Context) -> Option<(Envelope, Cow<'a, str>)> {
    match line.as_bytes().first()? {
        b'{' => docker(line, context),
        b'0'..=b'9' => cri(line, context).or_else(|| compose(line)),
        b'[' => kubectl(line),
        _ => compose(line),
    }
}

/// `{"log":"text\n","stream":"stdout","time":"…"}`, as docker's json-file driver writes it.
fn docker<'a>(line: &'a str, context: &Context) -> Option<(Envelope, Cow<'a, str>)> {
    // Asked of every line of JSON: docker writes the text first.
    if !line[1..].trim_start().starts_with("\"log\"") {
        return None;
    }
    let (mut envelope, mut text) = (Envelope::default(), None);
    for (key, raw) in json::members(line)? {
        match (key.as_ref(), json::value(raw)) {
            ("log", Value::String(log)) => text = Some(log),
            ("stream", Value::String(stream)) => envelope.stream = stream,
            ("time", Value::String(stamp)) => envelope.time = time::whole(&stamp, context),
            // Labels of the container, which `--log-opt labels` adds.
            ("attrs", _) => {}
            _ => return None,
        }
    }
    let text = text.filter(|_| !envelope.stream.is_empty())?;
    envelope.is_partial = !text.ends_with('\n');
    Some((envelope, Cow::Owned(text.trim_end_matches(['\n', '\r']).to_owned())))
}

/// `2026-01-02T03:04:05.678Z stdout F text`, as Kubernetes' container runtime interface has it; a
/// `P` has its rest in the next line of the stream.
fn cri<'a>(line: &'a str, context: &Context) -> Option<(Envelope, Cow<'a, str>)> {
    let (stamp, rest) = line.split_once(' ')?;
    let (stream, rest) = rest.split_once(' ')?;
    if !matches!(stream, "stdout" | "stderr") {
        return None;
    }
    let (tags, text) = rest.split_once(' ').unwrap_or((rest, ""));
    // Tags are parted by colons; the first says whether the line is whole.
    let is_partial = match tags.split(':').next() {
        Some("P") => true,
        Some("F") => false,
        _ => return None,
    };
    let time = Some(time::whole(stamp, context)?);
    let envelope = Envelope { time, stream: stream.to_owned(), is_partial, ..Envelope::default() };
    Some((envelope, Cow::Borrowed(text)))
}

/// `web-1  | text`, as docker compose shows it.
fn compose(line: &str) -> Option<(Envelope, Cow<'_, str>)> {
    let head = &line.as_bytes()[..line.len().min(NAME_BYTES_MAX)];
    let bar = memchr::memchr(b'|', head)?;
    let name = line[..bar].trim_end();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_name = name.len() < bar
        && name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.bytes().all(allowed);
    instance_number(name).filter(|_| is_name)?;
    let text = line[bar + 1..].strip_prefix(' ').unwrap_or(&line[bar + 1..]);
    let envelope = Envelope { container: name.to_owned(), ..Envelope::default() };
    Some((envelope, Cow::Borrowed(text)))
}

/// `[pod/web-6d4cf56db6-x2x4b/app] text`, as `kubectl logs --prefix` shows it.
fn kubectl(line: &str) -> Option<(Envelope, Cow<'_, str>)> {
    let (source, text) = line.strip_prefix("[pod/")?.split_once("] ")?;
    let (pod, container) = source.split_once('/').filter(|_| !source.contains(' '))?;
    let envelope =
        Envelope { pod: pod.to_owned(), container: container.to_owned(), ..Envelope::default() };
    Some((envelope, Cow::Borrowed(text)))
}

/// Where the number of `web-1` or `web_1` begins, its dash included.
fn instance_number(name: &str) -> Option<usize> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let dash = name.len().checked_sub(digits + 1)?;
    (digits > 0 && dash > 0 && matches!(name.as_bytes()[dash], b'-' | b'_')).then_some(dash)
}

impl Envelope {
    /// The service, by the pod's owner, or the container's name without its number.
    pub(crate) fn service(&self) -> Option<&str> {
        if !self.pod.is_empty() {
            return Some(service::of_pod(&self.pod));
        }
        instance_number(&self.container).map(|dash| &self.container[..dash])
    }

    /// Whether a line of the other may go on where this one ended.
    pub(crate) fn is_of_source(&self, other: &Self) -> bool {
        (&self.stream, &self.container, &self.pod) == (&other.stream, &other.container, &other.pod)
    }
}
