//! `logweir search`: newest first, a page at a time.

use clap::Args;
use logweir_core::{filter::Filter, runtime::clock::now, timestamp::Timestamp};
use logweir_proto::v1;

use super::hint;
use crate::{
    client::{ServerArgs, check_filter},
    error::{Error, Exit},
    log_output,
    output::{Output, OutputArgs, say},
    time_argument::parse_time,
};

const PAGE_SIZE_MAX: u32 = 1_000;

const FILTER_HELP: &str = "\
Filter, terms joined by blanks:
  payment timeout       both words         \"connection refused\"  words in this order
  *fused*               parts of words     service:payments      a field
  level>=warn           compare            user_id=42            an attribute
  -level:debug          not                a or b, ( … )         alternatives
  anomaly:true  template:ID  trace:ID  latency>100  time>=-15m";

/// Which logs.
#[derive(Debug, Args)]
#[command(after_help = FILTER_HELP)]
pub struct Query {
    /// What to find; none finds all
    #[arg(value_name = "FILTER")]
    terms: Vec<String>,
    /// When.
    #[command(flatten)]
    pub time: TimeArgs,
}

/// A range of event time.
#[derive(Debug, Args)]
pub struct TimeArgs {
    /// Only from this time on: -1h, 2026-01-02, 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<String>,
}

impl TimeArgs {
    /// The range; zero where it is open.
    pub fn range(&self) -> Result<v1::TimeRange, Error> {
        let now = now();
        // One look at the clock for both ends: `--from -1h --to -1h` must be an error, and not a
        // range as long as it takes to read the second.
        let read = |text: &Option<String>| {
            let time = text.as_deref().map(|text| parse_time(text, now)).transpose();
            time.map(Option::unwrap_or_default).map_err(Error::Usage)
        };
        let (from, to) = (read(&self.from)?, read(&self.to)?);
        if to != Timestamp::EPOCH && from >= to {
            return Err(Error::Usage("--from must be before --to".to_owned()));
        }
        Ok(v1::TimeRange { from_unix_nano: from.as_unix_nanos(), to_unix_nano: to.as_unix_nanos() })
    }
}

impl Query {
    /// The filter as one text, checked.
    pub fn checked_filter(&self) -> Result<String, Error> {
        let filter = self.filter();
        check_filter(&filter)?;
        Ok(filter)
    }

    /// The filter as one text.
    pub fn filter(&self) -> String {
        joined(&self.terms)
    }
}

/// A filter from arguments. What the shell kept together has brackets of its own: `'a or b' c` is
/// `(a or b) c`; and `'a b'` is two terms, `'"a b"'` is one.
pub fn joined(arguments: &[String]) -> String {
    // Brackets and quotes may reach over arguments (`-(a or b)`), which then are no filters alone.
    let is_whole = |argument: &str| {
        argument.trim().contains(char::is_whitespace) && Filter::parse(argument, now()).is_ok()
    };
    let bracketed = |argument: &String| match arguments.len() > 1 && is_whole(argument) {
        true => format!("({argument})"),
        false => argument.clone(),
    };
    arguments.iter().map(bracketed).collect::<Vec<_>>().join(" ")
}

/// Arguments of `logweir search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Which logs.
    #[command(flatten)]
    pub query: Query,
    /// At most so many logs
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl SearchArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut request = v1::SearchLogsRequest {
            filter: self.query.checked_filter()?,
            range: Some(self.query.time.range()?),
            ..Default::default()
        };
        let mut client = self.server.query().await?;
        let mut output = Output::new(&self.output);
        let mut left = self.limit;
        loop {
            request.page_size = u32::try_from(left).unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX);
            let page = client.search_logs(request.clone()).await.map_err(Error::from)?.into_inner();
            for log in &page.logs {
                log_output::write(&mut output, log)?;
            }
            // A page is shown before the next is asked for: the first logs come at once, and `head`
            // ends the search after what it needs.
            output.flush()?;
            left = left.saturating_sub(page.logs.len() as u64);
            request.page_token = page.next_page_token;
            if page.partial && left > 0 && !self.output.json {
                let reached = Timestamp::from_unix_nanos(page.searched_back_to_unix_nano);
                say(&format!("searched back to {}; searching on", reached.shown()));
            }
            if left == 0 || request.page_token.is_empty() {
                break;
            }
        }
        // On standard error, so that a pipe gets logs and nothing else; programs count lines.
        if left == self.limit {
            if !self.output.json {
                say("no logs match");
            }
            hint::say_why_none_match(&mut client, &request).await?;
        } else if left == 0 && !request.page_token.is_empty() && !self.output.json {
            say(&format!("there are more: --limit is {}", self.limit));
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_keeps_its_brackets() {
        for (arguments, expected) in [
            (&["login or peer", "service:x"][..], "(login or peer) service:x"),
            (&["a or b"], "a or b"),
            (&["a", "or", "b c"], "a or (b c)"),
            (&["not a", "\"b c\""], "(not a) (\"b c\")"),
            (&["not (a", "or", "b c)"], "not (a or b c)"),
            (&["x) or (y", "z"], "x) or (y z"),
            (&["user=\"Ann", "Miller\""], "user=\"Ann Miller\""),
            (&["a", " "], "a  "),
        ] {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            assert_eq!(joined(&arguments), expected);
        }
    }
}
