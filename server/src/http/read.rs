//! The paths that read: parameters become a request of the contract, its answer becomes JSON.

use std::time::Duration;

use futures::{FutureExt as _, future::BoxFuture};
use logweir_core::json::{self, Incident, Log, Point, Service, ServiceStat, Template};
use logweir_core::timestamp::Timestamp;
use logweir_proto::v1;
use serde::Serialize;

use super::{api::Api, parameters::Parameters};
use crate::{auth::Caller, status::Refusal};

type Answer<'a> = BoxFuture<'a, Result<String, Refusal>>;

/// A path.
pub(super) struct Read {
    pub(super) path: &'static str,
    /// The names of all that may be asked.
    pub(super) parameters: &'static [&'static str],
    pub(super) answer: for<'a> fn(&'a Api, &'a Caller, &'a Parameters) -> Answer<'a>,
}

const LOGS: Read = Read {
    path: "/api/logs",
    parameters: &["filter", "service", "level", "from", "to", "limit", "page_token"],
    answer: |api, caller, asked| logs(api, caller, asked).boxed(),
};
const STATS: Read = Read {
    path: "/api/stats",
    parameters: &["window_minutes", "service"],
    answer: |api, caller, asked| stats(api, caller, asked).boxed(),
};
const INCIDENTS: Read = Read {
    path: "/api/incidents",
    parameters: &["service", "open", "from", "to", "limit"],
    answer: |api, caller, asked| incidents(api, caller, asked).boxed(),
};

/// All of them.
pub(super) static READS: [Read; 9] = [
    LOGS,
    STATS,
    INCIDENTS,
    Read {
        path: "/api/aggregate",
        parameters: &["from", "to", "bucket_seconds", "group_by", "service"],
        answer: |api, caller, asked| aggregate(api, caller, asked).boxed(),
    },
    Read {
        path: "/api/services",
        parameters: &[],
        answer: |api, caller, _| services(api, caller).boxed(),
    },
    Read {
        path: "/api/templates",
        parameters: &["service", "from", "to", "limit"],
        answer: |api, caller, asked| templates(api, caller, asked).boxed(),
    },
    // As earlier systems had them.
    Read { path: "/logs", ..LOGS },
    Read { path: "/stats", ..STATS },
    Read { path: "/incidents", ..INCIDENTS },
];

/// What is counted if it is not said.
const AGGREGATED: Duration = Duration::from_secs(3_600);
const GROUPS: [(&str, v1::GroupBy); 3] = [
    ("service", v1::GroupBy::Service),
    ("level", v1::GroupBy::Level),
    ("template", v1::GroupBy::Template),
];

#[derive(Serialize)]
struct Page<'a> {
    logs: Vec<Log<'a>>,
    /// Absent when there are no more.
    #[serde(skip_serializing_if = "str::is_empty")]
    next_page_token: &'a str,
    partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    searched_back_to: Option<String>,
}

async fn logs(api: &Api, caller: &Caller, asked: &Parameters) -> Result<String, Refusal> {
    let now = (api.query.clock)();
    let asked = v1::SearchLogsRequest {
        filter: asked.filter(now)?,
        range: Some(asked.range(now)?),
        page_size: asked.number("limit")?,
        page_token: asked.text("page_token"),
    };
    let found = api.query.search(caller, asked).await?;
    let reached = Timestamp::from_unix_nanos(found.searched_back_to_unix_nano);
    text(&Page {
        logs: found.logs.iter().map(Log::new).collect(),
        next_page_token: &found.next_page_token,
        partial: found.partial,
        searched_back_to: found.partial.then(|| reached.to_rfc3339()),
    })
}

#[derive(Serialize)]
struct Stats<'a> {
    stats: Vec<ServiceStat<'a>>,
    truncated: bool,
}

async fn stats(api: &Api, caller: &Caller, asked: &Parameters) -> Result<String, Refusal> {
    let (window_minutes, service) = (asked.number("window_minutes")?, asked.text("service"));
    let asked = v1::ServiceStatsRequest { window_minutes, service };
    let found = api.query.stats(caller, asked).await?;
    let stats = found.stats.iter().map(ServiceStat::new).collect();
    text(&Stats { stats, truncated: found.truncated })
}

#[derive(Serialize)]
struct Aggregate<'a> {
    series: Vec<Series<'a>>,
    truncated: bool,
}

#[derive(Serialize)]
struct Series<'a> {
    group: &'a str,
    points: Vec<Point<'a>>,
}

async fn aggregate(api: &Api, caller: &Caller, asked: &Parameters) -> Result<String, Refusal> {
    let now = (api.query.clock)();
    let asked = v1::AggregateLogsRequest {
        range: Some(aggregate_range(asked, now)?),
        bucket_seconds: asked.number("bucket_seconds")?,
        group_by: asked.choice("group_by", &GROUPS)?.into(),
        service: asked.text("service"),
    };
    let found = api.query.aggregate(caller, asked).await?;
    let series = found.series.iter().map(|series| Series {
        group: &series.group,
        points: series.points.iter().map(|point| Point::new(None, point)).collect(),
    });
    text(&Aggregate { series: series.collect(), truncated: found.truncated })
}

/// The hour before `to` where `from` is not given: from the beginning of time on there are too many buckets,
/// and the contract has no default either.
fn aggregate_range(asked: &Parameters, now: Timestamp) -> Result<v1::TimeRange, Refusal> {
    let mut range = asked.range(now)?;
    if !asked.has("from") {
        let to = if asked.has("to") { Timestamp::from_unix_nanos(range.to_unix_nano) } else { now };
        range.from_unix_nano = (to - AGGREGATED).as_unix_nanos();
    }
    Ok(range)
}

#[derive(Serialize)]
struct Services<'a> {
    services: Vec<Service<'a>>,
    truncated: bool,
}

async fn services(api: &Api, caller: &Caller) -> Result<String, Refusal> {
    let found = api.query.services(caller).await?;
    let services = found.services.iter().map(Service::new).collect();
    text(&Services { services, truncated: found.truncated })
}

#[derive(Serialize)]
struct Templates<'a> {
    templates: Vec<Template<'a>>,
    truncated: bool,
}

async fn templates(api: &Api, caller: &Caller, asked: &Parameters) -> Result<String, Refusal> {
    let asked = v1::ListTemplatesRequest {
        service: asked.text("service"),
        range: Some(asked.range((api.query.clock)())?),
        limit: asked.number("limit")?,
    };
    let found = api.query.templates(caller, asked).await?;
    let templates = found.templates.iter().map(Template::new).collect();
    text(&Templates { templates, truncated: found.truncated })
}

#[derive(Serialize)]
struct Incidents<'a> {
    incidents: Vec<Incident<'a>>,
    truncated: bool,
}

async fn incidents(api: &Api, caller: &Caller, asked: &Parameters) -> Result<String, Refusal> {
    let asked = v1::ListIncidentsRequest {
        service: asked.text("service"),
        open: asked.flag("open")?,
        range: Some(asked.range((api.query.clock)())?),
        limit: asked.number("limit")?,
    };
    let found = api.alerts.incidents(caller, asked).await?;
    let incidents = found.incidents.iter().map(Incident::new).collect();
    text(&Incidents { incidents, truncated: found.truncated })
}

pub(super) fn text(answer: &impl Serialize) -> Result<String, Refusal> {
    json::to_text(answer).map_err(|error| Refusal::DataLoss(format!("no JSON says it: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_before_its_end_is_counted_if_only_that_is_given() {
        let now = Timestamp::from_unix_seconds(1_760_000_000);
        let seconds = |query: &str| {
            let asked = Parameters::read(Some(query), &["from", "to"]).unwrap();
            let range = aggregate_range(&asked, now).unwrap();
            [range.from_unix_nano, range.to_unix_nano].map(|nanos| nanos / 1_000_000_000)
        };
        assert_eq!(seconds(""), [1_759_996_400, 0]);
        assert_eq!(seconds("to=2025-01-01"), [1_735_686_000, 1_735_689_600]);
        assert_eq!(seconds("from=2025-01-01&to=now"), [1_735_689_600, 1_760_000_000]);
    }
}
