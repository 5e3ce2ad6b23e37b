//! Reading: checks what is asked, asks storage within the caller's tenant, translates the answer.

mod matcher;
mod response;
pub(crate) mod stream;

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, TryStreamExt as _};
use logweir_core::{
    fairness::{permits::TenantPermits, resource::SharedResource},
    filter::Filter,
    identity::{LogId, Service},
    latency::bucket_bounds,
    runtime::clock::Clock,
    timestamp::{Timestamp, nanos_of},
};
use logweir_proto::v1::{self, query_service_server::QueryService};
use logweir_queue::LiveFeed;
use logweir_storage::{AggregateQuery, GroupBy, SearchLimits, SearchQuery, Storage, TimeRange};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub(crate) use self::matcher::Matcher;
use self::stream::{Export, Tail, TailFilter};
use crate::{
    auth::{Auth, Caller, layer},
    config::ServiceConfig,
    response_size::{all_if_they_fit, cut},
    status::Refusal,
};

// Bounds of questions. Whatever is asked for, an answer is also cut by its bytes (`response_size`),
// so these bound the work of storage; the contract names each of them.
const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_SIZE_MAX: u32 = 1_000;
const BUCKET_SECONDS_DEFAULT: u32 = 60;
const BUCKETS_MAX: i64 = 10_000;
const SERIES_MAX: usize = 1_000;
const FINDINGS_DEFAULT: u32 = 100;
const FINDINGS_MAX: u32 = 10_000;
const TEMPLATES_DEFAULT: u32 = 100;
const TEMPLATES_MAX: u32 = 10_000;
const NEIGHBOURS_MAX: u32 = 100;
const WINDOW_MINUTES_DEFAULT: u32 = 5;
const WINDOW_MINUTES_MAX: u32 = 10_080;
/// How much one call may search before it answers with what it has found.
// Time: callers give up after some 10 s, and a part of a page in time is worth more to them than a
// whole one too late. Bytes: what a search reads from the disk others have to read again.
const SEARCH_LIMITS: SearchLimits = SearchLimits { work: Duration::from_secs(5), bytes: 2 << 30 };
// A tail that ends lets another one in, and they are long.
const TAIL_RETRY_AFTER: Duration = Duration::from_secs(5);
/// A time bucket that takes all of a window, whenever that begins: 127 years, a multiple of 10 s.
const WHOLE_WINDOW_SECONDS: u32 = 4_000_000_000;

/// Handles the query service.
pub(crate) struct QueryHandler {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) live_feed: LiveFeed,
    pub(crate) tails: TenantPermits,
    pub(crate) matcher: Arc<Matcher>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
    /// What is known about services beside their logs.
    pub(crate) known_services: Arc<BTreeMap<String, ServiceConfig>>,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl QueryService for QueryHandler {
    async fn search_logs(
        &self,
        request: Request<v1::SearchLogsRequest>,
    ) -> Result<Response<v1::SearchLogsResponse>, Status> {
        let caller = layer::caller(&request)?;
        Ok(Response::new(self.search(&caller, request.into_inner()).await?))
    }

    type ExportLogsStream = Streamed<v1::ExportLogsResponse>;

    async fn export_logs(
        &self,
        request: Request<v1::ExportLogsRequest>,
    ) -> Result<Response<Self::ExportLogsStream>, Status> {
        let caller = layer::caller(&request)?;
        let asked = request.into_inner();
        let query = SearchQuery {
            filter: self.filter(&asked.filter)?,
            range: time_range(asked.range)?,
            cursor: None,
            page_size: PAGE_SIZE_MAX as usize,
            limits: SEARCH_LIMITS,
        };
        let (storage, auth) = (Arc::clone(&self.storage), Arc::clone(&self.auth));
        let export = Export::new(storage, auth, caller, query, self.stop.clone());
        Ok(Response::new(export.parts()))
    }

    type TailLogsStream = Streamed<v1::TailLogsResponse>;

    async fn tail_logs(
        &self,
        request: Request<v1::TailLogsRequest>,
    ) -> Result<Response<Self::TailLogsStream>, Status> {
        let caller = layer::caller(&request)?;
        let parts = self.tail(caller, || Ok(request.into_inner().filter))?.parts();
        Ok(Response::new(Box::pin(parts.map_err(Status::from))))
    }

    async fn aggregate_logs(
        &self,
        request: Request<v1::AggregateLogsRequest>,
    ) -> Result<Response<v1::AggregateLogsResponse>, Status> {
        let caller = layer::caller(&request)?;
        Ok(Response::new(self.aggregate(&caller, request.into_inner()).await?))
    }

    async fn latency_heatmap(
        &self,
        request: Request<v1::LatencyHeatmapRequest>,
    ) -> Result<Response<v1::LatencyHeatmapResponse>, Status> {
        let caller = layer::caller(&request)?;
        let asked = request.into_inner();
        let query = self.aggregate_query(asked.range, asked.bucket_seconds, &asked.service)?;
        let cells =
            self.storage.latency_heatmap(&caller.tenant, query).await.map_err(Refusal::from)?;
        let cells = cells.into_iter().map(|cell| {
            let bounds = bucket_bounds(cell.latency_bucket);
            v1::HeatmapCell {
                start_unix_nano: cell.start.as_unix_nanos(),
                latency_from_ms: bounds.start,
                latency_to_ms: bounds.end,
                count: cell.count,
            }
        });
        Ok(Response::new(v1::LatencyHeatmapResponse { cells: all_if_they_fit(cells)? }))
    }

    async fn list_services(
        &self,
        request: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        let caller = layer::caller(&request)?;
        Ok(Response::new(self.services(&caller).await?))
    }

    async fn service_stats(
        &self,
        request: Request<v1::ServiceStatsRequest>,
    ) -> Result<Response<v1::ServiceStatsResponse>, Status> {
        let caller = layer::caller(&request)?;
        Ok(Response::new(self.stats(&caller, request.into_inner()).await?))
    }

    async fn list_templates(
        &self,
        request: Request<v1::ListTemplatesRequest>,
    ) -> Result<Response<v1::ListTemplatesResponse>, Status> {
        let caller = layer::caller(&request)?;
        Ok(Response::new(self.templates(&caller, request.into_inner()).await?))
    }

    async fn list_findings(
        &self,
        request: Request<v1::ListFindingsRequest>,
    ) -> Result<Response<v1::ListFindingsResponse>, Status> {
        let caller = layer::caller(&request)?;
        let asked = request.into_inner();
        let limit = bounded("limit", asked.limit, FINDINGS_DEFAULT, FINDINGS_MAX)?;
        let (service, range) = (service(&asked.service)?, time_range(asked.range)?);
        let found = self
            .storage
            .list_findings(&caller.tenant, service.as_ref(), range, limit as usize)
            .await
            .map_err(Refusal::from)?;
        let (findings, truncated) = cut(found.into_iter().map(response::finding));
        Ok(Response::new(v1::ListFindingsResponse { findings, truncated }))
    }

    async fn get_log(
        &self,
        request: Request<v1::GetLogRequest>,
    ) -> Result<Response<v1::GetLogResponse>, Status> {
        let caller = layer::caller(&request)?;
        let asked = request.into_inner();
        let id = log_id("id", &asked.id)?;
        if asked.neighbours > NEIGHBOURS_MAX {
            let why = format!("is {}, the limit is {NEIGHBOURS_MAX}", asked.neighbours);
            return Err(Refusal::invalid("neighbours", why).into());
        }
        let neighbours = asked.neighbours as usize;
        let found =
            self.storage.get(&caller.tenant, id, neighbours).await.map_err(Refusal::from)?;
        Ok(Response::new(response::log_with_neighbours(found)))
    }

    async fn delivery_report(
        &self,
        request: Request<v1::DeliveryReportRequest>,
    ) -> Result<Response<v1::DeliveryReportResponse>, Status> {
        let caller = layer::caller(&request)?;
        let service = service(&request.into_inner().service)?;
        let (tenant, service) = (&caller.tenant, service.as_ref());
        // The sums first: a producer that comes in between is listed then, and nothing is said to be
        // left out.
        let sums = self.storage.producer_totals(tenant, service).await.map_err(Refusal::from)?;
        let listed = self.storage.delivery_report(tenant, service).await.map_err(Refusal::from)?;
        let repeated_logs = self.storage.repeated_logs(tenant).await.map_err(Refusal::from)?;
        let report = response::delivery_report(listed, sums);
        Ok(Response::new(v1::DeliveryReportResponse { repeated_logs, ..report }))
    }
}

/// What is served over gRPC and by the JSON API.
impl QueryHandler {
    /// A page of matches, newest first.
    pub(crate) async fn search(
        &self,
        caller: &Caller,
        asked: v1::SearchLogsRequest,
    ) -> Result<v1::SearchLogsResponse, Refusal> {
        let page_size = bounded("page_size", asked.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)?;
        let query = SearchQuery {
            filter: self.filter(&asked.filter)?,
            range: time_range(asked.range)?,
            cursor: page_token(&asked.page_token)?,
            page_size: page_size as usize,
            limits: SEARCH_LIMITS,
        };
        Ok(response::search_page(self.storage.search(&caller.tenant, query).await?))
    }

    /// Logs as they are stored, from now on.
    pub(crate) fn tail(
        &self,
        caller: Arc<Caller>,
        filter: impl FnOnce() -> Result<String, Refusal>,
    ) -> Result<Tail, Refusal> {
        // Before the filter is even put together, for that and to read it may take longer than all the rest:
        // who has its share and asks again and again is refused at little cost to others.
        let permit = self.tails.try_take(&caller.tenant, 1).map_err(|why| {
            Refusal::no_permit(why, SharedResource::Tails, &caller.tenant, TAIL_RETRY_AFTER)
        })?;
        let filter = Arc::new(self.filter(&filter()?)?);
        let filter = TailFilter { filter, matcher: Arc::clone(&self.matcher), _permit: permit };
        let reader = self.live_feed.subscribe(caller.tenant.clone());
        Ok(Tail::new(reader, filter, Arc::clone(&self.auth), caller, self.stop.clone()))
    }

    /// Counts over time.
    pub(crate) async fn aggregate(
        &self,
        caller: &Caller,
        asked: v1::AggregateLogsRequest,
    ) -> Result<v1::AggregateLogsResponse, Refusal> {
        let query = AggregateQuery {
            group_by: group_by(asked.group_by)?,
            ..self.aggregate_query(asked.range, asked.bucket_seconds, &asked.service)?
        };
        let mut series = self.storage.aggregate(&caller.tenant, query).await?;
        // Whole series may be left out, which is said; but not points of one, which a chart would
        // show as silence. So the rest is refused where it does not fit.
        let truncated = series.len() > SERIES_MAX;
        series.truncate(SERIES_MAX);
        let series = all_if_they_fit(series.into_iter().map(response::series))?;
        Ok(v1::AggregateLogsResponse { series, truncated })
    }

    /// Who has sent logs.
    pub(crate) async fn services(
        &self,
        caller: &Caller,
    ) -> Result<v1::ListServicesResponse, Refusal> {
        let found = self.storage.list_services(&caller.tenant).await?;
        let services = found.into_iter().map(|summary| {
            let known =
                self.known_services.get(summary.service.as_str()).cloned().unwrap_or_default();
            response::service(summary, known)
        });
        let (services, truncated) = cut(services);
        Ok(v1::ListServicesResponse { services, truncated })
    }

    /// Each service over a window that ends now.
    pub(crate) async fn stats(
        &self,
        caller: &Caller,
        asked: v1::ServiceStatsRequest,
    ) -> Result<v1::ServiceStatsResponse, Refusal> {
        let (default, max) = (WINDOW_MINUTES_DEFAULT, WINDOW_MINUTES_MAX);
        let minutes = bounded("window_minutes", asked.window_minutes, default, max)?;
        let now = (self.clock)();
        let range = TimeRange { from: now - Duration::from_secs(60) * minutes, to: now.next() };
        // Storage counts in buckets of 10 s: the window is widened to whole ones, and one bucket as
        // wide as all of time adds them up.
        let query = AggregateQuery {
            range: widened(range, 10),
            bucket_seconds: WHOLE_WINDOW_SECONDS,
            group_by: GroupBy::Service,
            service: service(&asked.service)?,
        };
        let series = self.storage.aggregate(&caller.tenant, query).await?;
        // The largest stay if not all fit.
        let (mut stats, truncated) = cut(series.into_iter().filter_map(response::service_stat));
        stats.sort_by(|a, b| a.service.cmp(&b.service));
        Ok(v1::ServiceStatsResponse { stats, truncated })
    }

    /// The patterns that messages follow.
    pub(crate) async fn templates(
        &self,
        caller: &Caller,
        asked: v1::ListTemplatesRequest,
    ) -> Result<v1::ListTemplatesResponse, Refusal> {
        let limit = bounded("limit", asked.limit, TEMPLATES_DEFAULT, TEMPLATES_MAX)?;
        let (service, range) = (service(&asked.service)?, time_range(asked.range)?);
        let found = self
            .storage
            .list_templates(&caller.tenant, service.as_ref(), range, limit as usize)
            .await?;
        let (templates, truncated) = cut(found.into_iter().map(response::template));
        Ok(v1::ListTemplatesResponse { templates, truncated })
    }

    fn filter(&self, text: &str) -> Result<Filter, Refusal> {
        filter(text, (self.clock)())
    }

    fn aggregate_query(
        &self,
        range: Option<v1::TimeRange>,
        bucket_seconds: u32,
        named: &str,
    ) -> Result<AggregateQuery, Refusal> {
        let bucket_seconds =
            if bucket_seconds == 0 { BUCKET_SECONDS_DEFAULT } else { bucket_seconds };
        // The stored buckets have 10 s and cannot be divided.
        if !bucket_seconds.is_multiple_of(10) {
            let why = format!("is {bucket_seconds}, must be a multiple of 10");
            return Err(Refusal::invalid("bucket_seconds", why));
        }
        let mut range = time_range(range)?;
        if range.to == Timestamp::MAX {
            range.to = (self.clock)().next().max(range.from);
        }
        // Outwards, so that the first and the last bucket are whole: one that is cut shows a fall
        // in the rate that was none.
        let range = widened(range, bucket_seconds);
        let width = nanos_of(Duration::from_secs(bucket_seconds.into()));
        let buckets = range.to.nanos_since(range.from) / width;
        if buckets > BUCKETS_MAX {
            let why = format!(
                "holds {buckets} buckets of {bucket_seconds} s, the limit is {BUCKETS_MAX}: begin \
                 it later, or ask for wider buckets"
            );
            return Err(Refusal::invalid("range", why));
        }
        let service = service(named)?;
        Ok(AggregateQuery { range, bucket_seconds, group_by: GroupBy::Nothing, service })
    }
}

/// A filter that was asked for; relative times in it end at `now`.
pub(crate) fn filter(text: &str, now: Timestamp) -> Result<Filter, Refusal> {
    Filter::parse(text, now)
        .map_err(|error| Refusal::invalid("filter", format!("{error}\n{}", error.pointed(text))))
}

/// Both ends moved outwards to whole buckets.
fn widened(range: TimeRange, bucket_seconds: u32) -> TimeRange {
    let width = Duration::from_secs(bucket_seconds.into());
    TimeRange {
        from: range.from.floor(width),
        to: (range.to + (width - Duration::from_nanos(1))).floor(width),
    }
}

/// A number that was asked for: the default for 0, which in proto3 also means "not set"; refused
/// above the bound rather than lowered, so that nobody takes a part for the whole.
pub(crate) fn bounded(field: &str, value: u32, default: u32, max: u32) -> Result<u32, Refusal> {
    match value {
        0 => Ok(default),
        value if value <= max => Ok(value),
        value => Err(Refusal::invalid(field, format!("is {value}, the limit is {max}"))),
    }
}

/// A range of time that was asked for. An end of 0 means without end; a range that holds nothing is
/// refused, for its empty answer would look like "no logs".
pub(crate) fn time_range(range: Option<v1::TimeRange>) -> Result<TimeRange, Refusal> {
    let v1::TimeRange { from_unix_nano, to_unix_nano } = range.unwrap_or_default();
    for (field, time) in [("range.from", from_unix_nano), ("range.to", to_unix_nano)] {
        if time < 0 {
            return Err(Refusal::invalid(field, format!("is {time}, must not be negative")));
        }
    }
    let to_unix_nano = if to_unix_nano == 0 { i64::MAX } else { to_unix_nano };
    if from_unix_nano >= to_unix_nano {
        let why =
            format!("begins at {from_unix_nano} and ends at {to_unix_nano}: begin it earlier");
        return Err(Refusal::invalid("range", why));
    }
    let (from, to) = (from_unix_nano, to_unix_nano);
    Ok(TimeRange { from: Timestamp::from_unix_nanos(from), to: Timestamp::from_unix_nanos(to) })
}

fn page_token(text: &str) -> Result<Option<LogId>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let why = "is not a token from an earlier answer: begin again without one";
    text.parse().map(Some).map_err(|_| Refusal::invalid("page_token", why))
}

pub(crate) fn log_id(field: &str, text: &str) -> Result<LogId, Refusal> {
    text.parse().map_err(|error| Refusal::invalid(field, format!("{error}")))
}

pub(crate) fn service(name: &str) -> Result<Option<Service>, Refusal> {
    if name.is_empty() {
        return Ok(None);
    }
    Service::new(name).map(Some).map_err(|error| Refusal::invalid("service", error.to_string()))
}

fn group_by(number: i32) -> Result<GroupBy, Refusal> {
    match v1::GroupBy::try_from(number) {
        Ok(v1::GroupBy::Unspecified) => Ok(GroupBy::Nothing),
        Ok(v1::GroupBy::Service) => Ok(GroupBy::Service),
        Ok(v1::GroupBy::Level) => Ok(GroupBy::Level),
        Ok(v1::GroupBy::Template) => Ok(GroupBy::Template),
        Err(_) => Err(Refusal::invalid("group_by", format!("{number} is not known"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from_unix_nano: i64, to_unix_nano: i64) -> Option<v1::TimeRange> {
        Some(v1::TimeRange { from_unix_nano, to_unix_nano })
    }

    #[test]
    fn a_range_has_a_beginning_before_its_end() {
        let all = TimeRange { from: Timestamp::EPOCH, to: Timestamp::MAX };
        assert_eq!(time_range(None), Ok(all));
        assert_eq!(
            time_range(range(5, 0)),
            Ok(TimeRange { from: Timestamp::from_unix_nanos(5), ..all })
        );
        for (from, to) in [(5, 5), (6, 5), (-1, 5), (0, -1)] {
            assert_eq!(time_range(range(from, to)).unwrap_err().reason(), "INVALID_FIELD");
        }
    }

    #[test]
    fn ranges_widen_to_whole_buckets() {
        let at = Timestamp::from_unix_nanos;
        let second = 1_000_000_000;
        for (from, to, expected) in [
            (0, 60 * second, (0, 60 * second)),
            (1, 60 * second + 1, (0, 120 * second)),
            (59 * second, 60 * second - 1, (0, 60 * second)),
        ] {
            let wide = widened(TimeRange { from: at(from), to: at(to) }, 60);
            assert_eq!((wide.from, wide.to), (at(expected.0), at(expected.1)));
        }
    }

    #[test]
    fn numbers_are_bounded() {
        assert_eq!(bounded("n", 0, 100, 1_000), Ok(100));
        assert_eq!(bounded("n", 1_000, 100, 1_000), Ok(1_000));
        let error = bounded("n", 1_001, 100, 1_000).unwrap_err();
        assert_eq!(error.to_string(), "n: is 1001, the limit is 1000");
    }

    #[test]
    fn what_is_no_id_or_token_is_said_so() {
        assert_eq!(page_token(""), Ok(None));
        assert_eq!(page_token("zz").unwrap_err().reason(), "INVALID_FIELD");
        assert!(page_token(&"0".repeat(56)).unwrap().is_some());
        assert!(log_id("id", "ä").is_err());
        assert!(service("a b").is_err());
        assert!(group_by(99).is_err());
    }
}
