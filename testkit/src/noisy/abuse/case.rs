//! The cases, each of which was once seen to stop everybody else.

use std::{fmt, pin::Pin, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use super::{abuser::Abuser, http, ingest, push, query, rules, wire};

/// How long that is stored which a case then asks for.
const FILLED_FOR: Duration = Duration::from_secs(4);

/// How long rules are put at most until it is measured; each costs more than the one before.
const RULES_PUT_FOR: Duration = Duration::from_secs(30);

/// A way to abuse a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "`describe` says what each is")]
pub enum Case {
    AnnouncedBodies,
    TrickledBodies,
    UnreadAnswers,
    EndlessHeads,
    ZeroWindow,
    RapidReset,
    IdleConnections,
    IngestFlood,
    LargeRequests,
    PushFlood,
    RejectedLogs,
    OneOffPatterns,
    SubstringSearches,
    LongFilters,
    RulePreviews,
    AbandonedTrainings,
    DearTails,
    ManyProducers,
    ManyRules,
    Exports,
    Reports,
    HttpSearches,
    WebSocketTails,
    Everything,
}

/// What shows that a case was one: something that was counted at least so often.
pub struct Proof {
    /// The name under which it was counted.
    pub what: &'static str,
    /// So often, in the seconds of the short form and by a debug build.
    pub least: u64,
}

impl Case {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 24] = [
        Self::AnnouncedBodies,
        Self::TrickledBodies,
        Self::UnreadAnswers,
        Self::EndlessHeads,
        Self::ZeroWindow,
        Self::RapidReset,
        Self::IdleConnections,
        Self::IngestFlood,
        Self::LargeRequests,
        Self::PushFlood,
        Self::RejectedLogs,
        Self::OneOffPatterns,
        Self::SubstringSearches,
        Self::LongFilters,
        Self::RulePreviews,
        Self::AbandonedTrainings,
        Self::DearTails,
        Self::ManyProducers,
        Self::ManyRules,
        Self::Exports,
        Self::Reports,
        Self::HttpSearches,
        Self::WebSocketTails,
        Self::Everything,
    ];

    /// The case of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| case.name() == name)
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnnouncedBodies => "announced-bodies",
            Self::TrickledBodies => "trickled-bodies",
            Self::UnreadAnswers => "unread-answers",
            Self::EndlessHeads => "endless-heads",
            Self::ZeroWindow => "zero-window",
            Self::RapidReset => "rapid-reset",
            Self::IdleConnections => "idle-connections",
            Self::IngestFlood => "ingest-flood",
            Self::LargeRequests => "large-requests",
            Self::PushFlood => "push-flood",
            Self::RejectedLogs => "rejected-logs",
            Self::OneOffPatterns => "one-off-patterns",
            Self::SubstringSearches => "substring-searches",
            Self::LongFilters => "long-filters",
            Self::RulePreviews => "rule-previews",
            Self::AbandonedTrainings => "abandoned-trainings",
            Self::DearTails => "dear-tails",
            Self::ManyProducers => "many-producers",
            Self::ManyRules => "many-rules",
            Self::Exports => "exports",
            Self::Reports => "reports",
            Self::HttpSearches => "http-searches",
            Self::WebSocketTails => "websocket-tails",
            Self::Everything => "everything",
        }
    }

    /// What it does.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::AnnouncedBodies => {
                "128 each of Ingest, IngestStream and SearchLogs that announce all they may and send nothing"
            }
            Self::TrickledBodies => "the same with a byte a second",
            Self::UnreadAnswers => "searches and exports whose answers are never read",
            Self::EndlessHeads => "heads of requests that go on and on, or come byte by byte",
            Self::ZeroWindow => "searches, exports and tails that let nothing be sent",
            Self::RapidReset => "requests that are taken back at once",
            Self::IdleConnections => "connections without a request, or idle after one",
            Self::IngestFlood => "large batches over eight connections, as fast as they go",
            Self::LargeRequests => "OTLP requests of 30 MiB, 8 at a time",
            Self::PushFlood => {
                "2,000 logs at a time as JSON, to Loki's and to Elasticsearch's paths, 9 side by side"
            }
            Self::RejectedLogs => "batches of logs that are all rejected",
            Self::OneOffPatterns => "messages of which each has a pattern of its own",
            Self::SubstringSearches => "16 searches at a time for what is nowhere",
            Self::LongFilters => "searches with 98 terms",
            Self::RulePreviews => "previews of a rule over a week",
            Self::AbandonedTrainings => "80 trainings at a time, abandoned at once",
            Self::DearTails => "as many tails as it gets, with 98 terms each",
            Self::ManyProducers => "producers with the longest accounts",
            Self::ManyRules => "rules that count what matches 98 terms",
            Self::Exports => "exports of everything, 16 at a time",
            Self::Reports => "reports and counts in 16 loops",
            Self::HttpSearches => {
                "searches with 98 terms over HTTP, each on a connection of its own"
            }
            Self::WebSocketTails => {
                "as many tails over WebSocket as it gets, with 98 terms each, half of them unread"
            }
            Self::Everything => "all of the above at once",
        }
    }

    /// What shows that it was one.
    pub const fn proof(self) -> Proof {
        let (what, least) = match self {
            Self::AnnouncedBodies | Self::TrickledBodies => (wire::STREAM_SECONDS, 300),
            Self::EndlessHeads => ("heads begun", 100),
            Self::UnreadAnswers | Self::ZeroWindow => ("answers begun", 100),
            Self::RapidReset => ("resets", 10_000),
            Self::IdleConnections => ("connections held", 1_000),
            Self::IngestFlood => ("logs acknowledged", 10_000),
            Self::LargeRequests => ("logs acknowledged", 1),
            Self::PushFlood => ("logs acknowledged", 1_000),
            Self::RejectedLogs => ("logs rejected", 10_000),
            Self::OneOffPatterns => ("patterns acknowledged", 5_000),
            // Dear as they are, few are answered in seconds.
            Self::SubstringSearches
            | Self::LongFilters
            | Self::Reports
            | Self::RulePreviews
            | Self::HttpSearches => ("OK", 1),
            Self::AbandonedTrainings => ("trainings abandoned", 80),
            Self::DearTails | Self::WebSocketTails => ("tails opened", 100),
            Self::ManyProducers => ("OK", 500),
            Self::ManyRules => ("rules put", 1_000),
            Self::Exports => ("logs exported", 10_000),
            Self::Everything => ("logs acknowledged", 1_000),
        };
        Proof { what, least }
    }

    /// Does what must be done before it is the abuse that it is meant to be.
    pub(super) async fn prepare(self, abuser: &Abuser) {
        // Apart, as what it takes to prepare is not what the case did.
        let apart = abuser.afresh();
        // Each is cut off: what is stored by then is enough.
        let cut = match self {
            Self::ManyRules => timeout(RULES_PUT_FOR, rules::put_many(abuser)).await,
            Self::SubstringSearches | Self::LongFilters | Self::Exports | Self::HttpSearches => {
                timeout(FILLED_FOR, ingest::flood(&apart)).await
            }
            Self::Reports => timeout(FILLED_FOR, ingest::send_as_many_producers(&apart)).await,
            _ => return,
        };
        // What the queue still has of it is stored before anything is measured.
        if cut.is_err() {
            ingest::until_stored(&apart).await;
        }
    }

    /// Abuses; returns when there is nothing more to do, and mostly never.
    pub(super) async fn run(self, abuser: &Abuser) {
        match self {
            Self::AnnouncedBodies => wire::announce_bodies(abuser).await,
            Self::TrickledBodies => wire::trickle_bodies(abuser).await,
            Self::UnreadAnswers => wire::leave_answers_unread(abuser).await,
            Self::EndlessHeads => wire::send_endless_heads(abuser).await,
            Self::ZeroWindow => wire::hold_windows_at_zero(abuser).await,
            Self::RapidReset => wire::reset_rapidly(abuser).await,
            Self::IdleConnections => wire::idle(abuser).await,
            Self::IngestFlood => ingest::flood(abuser).await,
            Self::LargeRequests => ingest::send_large_requests(abuser).await,
            Self::PushFlood => push::flood(abuser).await,
            Self::RejectedLogs => ingest::send_rejected(abuser).await,
            Self::OneOffPatterns => ingest::send_one_off_patterns(abuser).await,
            Self::ManyProducers => ingest::send_as_many_producers(abuser).await,
            Self::SubstringSearches => query::search_substrings(abuser).await,
            Self::LongFilters => query::search_with_long_filters(abuser).await,
            Self::DearTails => query::tail_dearly(abuser).await,
            Self::Exports => query::export(abuser).await,
            Self::Reports => query::report(abuser).await,
            Self::HttpSearches => http::search(abuser).await,
            Self::WebSocketTails => http::tail(abuser).await,
            Self::RulePreviews => rules::preview(abuser).await,
            Self::AbandonedTrainings => rules::abandon_trainings(abuser).await,
            Self::ManyRules => put_and_match(abuser).await,
            Self::Everything => everything(abuser).await,
        }
    }

    /// Removes what would go on without it.
    pub(super) async fn undo(self, abuser: &Abuser) {
        if matches!(self, Self::ManyRules | Self::Everything) {
            rules::delete_many(abuser).await;
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Puts rules, again once all are there, and sends what they are to be matched with.
async fn put_and_match(abuser: &Abuser) {
    let putting = async {
        loop {
            rules::put_many(abuser).await;
        }
    };
    tokio::join!(putting, ingest::trickle(abuser));
}

/// Boxed, as it is made of what it is a part of.
fn everything(abuser: &Abuser) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    Box::pin(async move {
        let mut running = JoinSet::new();
        for case in Case::ALL.into_iter().filter(|case| *case != Case::Everything) {
            let abuser = abuser.clone();
            running.spawn(async move { case.run(&abuser).await });
        }
        let putter = abuser.clone();
        running.spawn(async move { rules::put_many(&putter).await });
        running.join_all().await;
    })
}
