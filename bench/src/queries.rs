//! Reading back what the load has stored.

use std::time::Instant;

use anyhow::Context;
use logweir_proto::v1::{
    AggregateLogsRequest, GroupBy, SearchLogsRequest, TimeRange,
    query_service_client::QueryServiceClient,
};
use tonic::{Request, transport::Channel};

const REPEATS: usize = 11;

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

    async fn search(&mut self, filter: &str) -> anyhow::Result<usize> {
        let message =
            SearchLogsRequest { filter: filter.into(), page_size: 100, ..Default::default() };
        let request = self.request(message)?;
        Ok(self.client.search_logs(request).await?.into_inner().logs.len())
    }

    async fn counts(&mut self) -> anyhow::Result<usize> {
        let now = logweir_core::runtime::clock::now_unix_nano();
        let hour = TimeRange { from_unix_nano: now - 3_600_000_000_000, to_unix_nano: now };
        let message = AggregateLogsRequest {
            range: Some(hour),
            bucket_seconds: 60,
            group_by: GroupBy::Service.into(),
            service: String::new(),
        };
        let request = self.request(message)?;
        let answer = self.client.aggregate_logs(request).await?.into_inner();
        Ok(answer.series.iter().map(|series| series.points.len()).sum())
    }

    /// One of the newest errors: its service and the rarest-looking word of its message.
    async fn needle(&mut self) -> anyhow::Result<(String, String)> {
        let filter = "level>=error".into();
        let message = SearchLogsRequest { filter, page_size: 1, ..Default::default() };
        let request = self.request(message)?;
        let answer = self.client.search_logs(request).await?.into_inner();
        let log = answer.logs.into_iter().next().context("there are errors")?;
        let message = log.record.context("it has a record")?.message;
        let words = message.split(|c: char| !c.is_ascii_alphanumeric());
        let longest = words.filter(|word| word.bytes().any(|byte| byte.is_ascii_digit()));
        let word = longest.max_by_key(|word| word.len()).context("it has parameters")?;
        Ok((log.service, word.to_owned()))
    }
}

/// Prints the median of each query.
pub(crate) async fn measure(endpoint: &str, token: &str) -> anyhow::Result<()> {
    let client = QueryServiceClient::connect(endpoint.to_owned()).await?;
    let mut reader = Reader { client, token: token.to_owned() };
    let (service, word) = reader.needle().await?;
    let errors = format!("service:{service} level>=error");
    let absent = "zyzzyva".to_owned();
    for (name, filter) in [
        ("newest 100 errors of a service", errors),
        ("a rare word", word),
        ("an absent word", absent),
    ] {
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..REPEATS {
            let begun = Instant::now();
            found = reader.search(&filter).await?;
            times.push(begun.elapsed());
        }
        print_median(name, times, found);
    }
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..REPEATS {
        let begun = Instant::now();
        found = reader.counts().await?;
        times.push(begun.elapsed());
    }
    print_median("counts per minute and service of an hour", times, found);
    Ok(())
}

fn print_median(name: &str, mut times: Vec<std::time::Duration>, found: usize) {
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64() * 1e3;
    println!("{name:44} {median:>10.1} ms median, {found} found");
}
