//! `logweir search`: newest first, a page at a time.

use clap::Args;
use logweir_core::runtime::clock::now_unix_nano;
use logweir_proto::v1;

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
        let now = now_unix_nano();
        let read = |text: &Option<String>| {
            text.as_deref().map_or(Ok(0), |text| parse_time(text, now)).map_err(Error::Usage)
        };
        let (from_unix_nano, to_unix_nano) = (read(&self.from)?, read(&self.to)?);
        if to_unix_nano != 0 && from_unix_nano >= to_unix_nano {
            return Err(Error::Usage("--from must be before --to".to_owned()));
        }
        Ok(v1::TimeRange { from_unix_nano, to_unix_nano })
    }
}

impl Query {
    /// The filter as one text, checked.
    pub fn checked_filter(&self) -> Result<String, Error> {
        let filter = self.filter();
        check_filter(&filter)?;
        Ok(filter)
    }

    /// The filter as one text. Words that the shell kept together stay as they are: `'a b'` is two
    /// terms, `'"a b"'` is one.
    pub fn filter(&self) -> String {
        self.terms.join(" ")
    }
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
            output.flush()?;
            left = left.saturating_sub(page.logs.len() as u64);
            request.page_token = page.next_page_token;
            if left == 0 || request.page_token.is_empty() {
                break;
            }
        }
        if left == self.limit && !self.output.json {
            say("no logs match");
        } else if left == 0 && !request.page_token.is_empty() && !self.output.json {
            say(&format!("there are more: --limit is {}", self.limit));
        }
        Ok(Exit::Done)
    }
}
