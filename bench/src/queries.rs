//! Reading back what the load has stored.

use std::time::{Duration, Instant};

use anyhow::Context;
use logweir_proto::v1::{
    AggregateLogsRequest, GroupBy, SearchLogsRequest, TimeRange,
    query_service_client::QueryServiceClient,
};
use tonic::{Request, transport::Channel};

/// Runs of each query; odd, so that the median is one of them.
const REPEATS: usize = 11;
/// Logs of a page, as many as a page shows by default.
const PAGE_LOGS: u32 = 100;

struct Reader {
    client: QueryServiceClient<Channel>,
    token: String,
}

impl Reader {
    fn request<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        Ok(request)
    }

    /// The first page, however many partial answers it comes in.
    async fn search(&mut self, filter: &str, range: Option<TimeRange>) -> anyhow::Result<usize> {
        let (mut found, mut page_token) = (0, String::new());
        loop {
            let filter = filter.to_owned();
            let message = SearchLogsRequest { filter, range, page_size: PAGE_LOGS, page_token };
            let request = self.request(message)?;
            let answer = self.client.search_logs(request).await?.into_inner();
            found += answer.logs.len();
            page_token = answer.next_page_token;
            if !answer.partial || found >= PAGE_LOGS as usize {
                return Ok(found);
            }
        }
    }

    async fn counts(&mut self, range: TimeRange) -> anyhow::Result<usize> {
        let message = AggregateLogsRequest {
            range: Some(range),
            bucket_seconds: 60,
            group_by: GroupBy::Service.into(),
            service: String::new(),
        };
        let request = self.request(message)?;
        let answer = self.client.aggregate_logs(request).await?.into_inner();
        Ok(answer.series.iter().map(|series| series.points.len()).sum())
    }

    /// The newest error of a range: its service, trace, and the rarest-looking word of its message.
    async fn needle(&mut self, range: TimeRange) -> anyhow::Result<(String, String, String)> {
        let filter = "level>=error".into();
        let range = Some(range);
        let message = SearchLogsRequest { filter, range, page_size: 1, ..Default::default() };
        let request = self.request(message)?;
        let answer = self.client.search_logs(request).await?.into_inner();
        let log = answer.logs.into_iter().next().context("there are errors")?;
        let record = log.record.context("it has a record")?;
        let words = record.message.split(|c: char| !c.is_ascii_alphanumeric());
        let longest = words.filter(|word| word.bytes().any(|byte| byte.is_ascii_digit()));
        let word = longest.max_by_key(|word| word.len()).context("it has parameters")?;
        Ok((log.service, hex::encode(&record.trace_id), word.to_owned()))
    }
}

/// Prints the median of each query; where it looks at an hour, that which ended so long ago.
pub(crate) async fn measure(endpoint: &str, token: &str, ago: Duration) -> anyhow::Result<()> {
    let client = QueryServiceClient::connect(endpoint.to_owned()).await?;
    let mut reader = Reader { client, token: token.to_owned() };
    let to = logweir_core::runtime::clock::now() - ago;
    let hour = TimeRange {
        from_unix_nano: (to - Duration::from_secs(3_600)).as_unix_nanos(),
        to_unix_nano: to.as_unix_nanos(),
    };
    let (service, trace, word) = reader.needle(hour).await?;
    // Not every load has traces.
    let trace = (!trace.is_empty()).then(|| ("a trace", format!("trace:{trace}"), None));
    let errors = format!("service:{service} level>=error");
    for (name, filter, range) in trace.into_iter().chain([
        ("newest 100 errors of a service", errors, None),
        ("a rare word in an hour", word, Some(hour)),
        ("an absent word in an hour", "zyzzyva".to_owned(), Some(hour)),
    ]) {
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..REPEATS {
            let begun = Instant::now();
            found = reader.search(&filter, range).await?;
            times.push(begun.elapsed());
        }
        // With what was found: a query that by mistake finds nothing looks fast.
        print_median(name, times, found);
    }
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..REPEATS {
        let begun = Instant::now();
        found = reader.counts(hour).await?;
        times.push(begun.elapsed());
    }
    print_median("counts per minute and service of an hour", times, found);
    Ok(())
}

fn print_median(name: &str, mut times: Vec<Duration>, found: usize) {
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64() * 1e3;
    println!("{name:44} {median:>10.1} ms median, {found} found");
}
