//! `logweir stats`: each service over a window that ends now, or a series of counts over time.

use std::time::Duration;

use clap::{Args, ValueEnum};
use logweir_core::timestamp::parse_duration;
use logweir_core::{json, runtime::clock::now, timestamp::Timestamp};
use logweir_proto::v1;

use crate::response_times::shown;
use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs, Tone, count, number, say, say_cut, text},
};

/// Arguments of `logweir stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// How far back from now, in whole minutes
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    window: Duration,
    /// Only this service
    #[arg(long)]
    service: Option<String>,
    /// Show counts in time steps of this width instead, a multiple of 10s
    #[arg(long, value_name = "WIDTH", value_parser = parse_duration)]
    every: Option<Duration>,
    /// With --every: a series for each of these
    #[arg(long, requires = "every", default_value = "service")]
    by: By,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    All,
    Service,
    Level,
    Template,
}

impl By {
    fn to_wire(self) -> v1::GroupBy {
        match self {
            Self::All => v1::GroupBy::Unspecified,
            Self::Service => v1::GroupBy::Service,
            Self::Level => v1::GroupBy::Level,
            Self::Template => v1::GroupBy::Template,
        }
    }
}

impl StatsArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut output = Output::new(&self.output);
        let is_empty = match self.every {
            None => self.window_stats(&mut output).await?,
            Some(every) => self.series(&mut output, every).await?,
        };
        output.flush()?;
        if is_empty && !self.output.json {
            say("no logs in this window");
        }
        Ok(Exit::Done)
    }

    async fn window_stats(&self, output: &mut Output) -> anyhow::Result<bool> {
        let window_minutes = minutes(self.window)?;
        let service = self.service.clone().unwrap_or_default();
        let request = v1::ServiceStatsRequest { window_minutes, service };
        let mut client = self.server.query().await?;
        let answer = client.service_stats(request).await.map_err(Error::from)?;
        let v1::ServiceStatsResponse { stats, truncated } = answer.into_inner();
        if output.json {
            for stat in &stats {
                output.object(&json::ServiceStat::new(stat))?;
            }
        } else if !stats.is_empty() {
            let header =
                ["service", "logs", "errors", "error %", "anomalies", "average ms", "p95 ms"];
            output.table(&header, stats.iter().map(stat_row).collect())?;
        }
        if truncated {
            say_cut("ask for one --service");
        }
        Ok(stats.is_empty())
    }

    async fn series(&self, output: &mut Output, every: Duration) -> anyhow::Result<bool> {
        if every.is_zero() || !every.as_millis().is_multiple_of(10_000) {
            return Err(Error::Usage("--every takes multiples of 10s".to_owned()).into());
        }
        // Zero would mean without a beginning.
        let from = (now() - self.window).max(Timestamp::EPOCH.next());
        let range = v1::TimeRange { from_unix_nano: from.as_unix_nanos(), to_unix_nano: 0 };
        let request = v1::AggregateLogsRequest {
            range: Some(range),
            bucket_seconds: u32::try_from(every.as_secs()).unwrap_or(u32::MAX).max(1),
            group_by: self.by.to_wire().into(),
            service: self.service.clone().unwrap_or_default(),
        };
        let mut client = self.server.query().await?;
        let answer = client.aggregate_logs(request).await.map_err(Error::from)?;
        let v1::AggregateLogsResponse { series, truncated } = answer.into_inner();
        let points =
            series.iter().flat_map(|one| one.points.iter().map(|point| (&one.group, point)));
        if output.json {
            for (group, point) in points {
                output.object(&json::Point::new(Some(group), point))?;
            }
        } else if !series.is_empty() {
            let header =
                ["time", "group", "logs", "errors", "anomalies", "average ms", "p50", "p95", "p99"];
            let mut points: Vec<_> = points.collect();
            // All series in order of time, for whoever reads the table looks for a moment.
            points.sort_by_key(|(_, point)| point.start_unix_nano);
            let rows = points.into_iter().map(|(group, point)| point_row(group, point)).collect();
            output.table(&header, rows)?;
        }
        if truncated {
            say_cut("the smallest series are left out; ask for one --service");
        }
        Ok(series.is_empty())
    }
}

fn minutes(window: Duration) -> Result<u32, Error> {
    // The request has whole minutes. Cut down to them, the figures would be of another window than
    // the one that was asked for.
    let minutes = window.as_secs() / 60;
    if !(1..=10_080).contains(&minutes) || !window.as_secs().is_multiple_of(60) {
        return Err(Error::Usage("--window takes whole minutes from 1m to 7d".to_owned()));
    }
    Ok(u32::try_from(minutes).unwrap_or(u32::MAX))
}

fn stat_row(stat: &v1::ServiceStat) -> Vec<crate::output::Value> {
    vec![
        text(&stat.service).tone(Tone::Name),
        count(stat.total),
        count(stat.errors).tone(tone_of_rate(stat.error_rate)),
        number(Some(stat.error_rate * 100.0), 2).tone(tone_of_rate(stat.error_rate)),
        count(stat.anomalies),
        number(stat.latency_average_ms, 1),
        number(stat.latency_p95_ms, 1),
    ]
}

fn tone_of_rate(error_rate: f64) -> Tone {
    // For the eye alone; what is worth an incident is said by rules.
    match error_rate {
        rate if rate >= 0.05 => Tone::Bad,
        rate if rate >= 0.01 => Tone::Warning,
        _ => Tone::Plain,
    }
}

fn point_row(group: &str, point: &v1::AggregatePoint) -> Vec<crate::output::Value> {
    vec![
        text(&shown(point.start_unix_nano)).tone(Tone::Dim),
        text(group).tone(Tone::Name),
        count(point.total),
        count(point.errors),
        count(point.anomalies),
        number(point.latency_average_ms, 1),
        number(point.latency_p50_ms, 1),
        number(point.latency_p95_ms, 1),
        number(point.latency_p99_ms, 1),
    ]
}
