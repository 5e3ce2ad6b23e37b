//! What to do on each response, and when the next attempt may start. Pure: the time and randomness
//! are arguments.
//!
//! A resend is harmless, since the server stores a batch id once, so that ambiguous outcomes are
//! retried. Each server has its own pause, so that the others go on; what concerns the token or its
//! quota pauses all. After [`RetryPolicy::probe_after`] failures in a row one batch at a time
//! probes.

mod details;

use std::time::{Duration, Instant};

use tonic::{Code, Status};

use crate::error::DropReason;
use details::Details;

/// How long to wait before trying again, and what to do when the token is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Bound of the first wait; doubles with each failure in a row. 200 ms.
    pub first: Duration,
    /// Bound of any wait that the server did not ask for. 30 s.
    pub max: Duration,
    /// Longest wait that a server may ask for. 5 min.
    pub server_delay_max: Duration,
    /// Failures in a row after which one batch at a time is tried. 5.
    pub probe_after: u32,
    /// Retries after INTERNAL, UNKNOWN and OUT_OF_RANGE. 3.
    pub internal_retries: u32,
    /// Whether to hold batches while the token is refused, and probe; otherwise they are given up
    /// at once, which suits a program that a person watches. The client holds.
    pub hold_on_refused_token: bool,
    /// First wait between probes of a refused token; doubles. 1 s.
    pub token_first: Duration,
    /// Longest wait between probes of a refused token. 60 s.
    pub token_max: Duration,
    /// How long to wait once for a permission to come through. 60 s.
    pub permission_wait: Duration,
    /// How long to send nothing after a permission was refused twice. 5 min.
    pub permission_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            max: Duration::from_secs(30),
            server_delay_max: Duration::from_secs(300),
            probe_after: 5,
            internal_retries: 3,
            hold_on_refused_token: false,
            token_first: Duration::from_secs(1),
            token_max: Duration::from_secs(60),
            permission_wait: Duration::from_secs(60),
            permission_pause: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// With waits that can be added to any time.
    fn in_range(mut self) -> Self {
        for wait in [
            &mut self.first,
            &mut self.max,
            &mut self.server_delay_max,
            &mut self.token_first,
            &mut self.token_max,
            &mut self.permission_wait,
            &mut self.permission_pause,
        ] {
            *wait = (*wait).min(WAIT_MAX);
        }
        self
    }
}

/// A response other than OK, or none at all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// The connection failed, rather than that the server responded.
    pub(crate) is_transport: bool,
    /// From `google.rpc.RetryInfo`.
    pub(crate) retry_delay: Option<Duration>,
    /// From `google.rpc.ErrorInfo`.
    pub(crate) reason: String,
    /// Positions named by `google.rpc.BadRequest`.
    pub(crate) bad_records: Vec<u32>,
    pub(crate) message: String,
}

/// No wait is longer, so that none overflows.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);
/// The `ErrorInfo` reason of a batch that is too large.
const BATCH_TOO_LARGE: &str = "BATCH_TOO_LARGE";
/// The `ErrorInfo` reason of one whose tenant has its share of what that server has.
const TENANT_SHARE: &str = "TENANT_SHARE";
/// The `ErrorInfo` reason of a batch that is too old to be told from a repeat.
const EXPIRED: &str = "EXPIRED";

impl Refusal {
    pub(crate) fn from_status(status: &Status) -> Self {
        let Details { retry_delay, reason, fields } = Details::decode(status.details());
        let mut bad_records: Vec<u32> =
            fields.iter().filter_map(|field| record_position(field)).collect();
        // One log may break several rules, and is named once for each.
        bad_records.sort_unstable();
        bad_records.dedup();
        // A status that the server sent has no cause on this side.
        let cause = root_cause(status);
        Self {
            code: status.code(),
            is_transport: cause.is_some(),
            retry_delay,
            reason,
            bad_records,
            message: cause.unwrap_or_else(|| status.message().into()),
        }
    }

    /// No response came in time.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        Self {
            code: Code::DeadlineExceeded,
            is_transport: true,
            retry_delay: None,
            reason: String::new(),
            bad_records: Vec::new(),
            message: format!("no answer in {:.1} s", limit.as_secs_f64()),
        }
    }
}

/// What lies at the bottom of an error: the operating system's word, rather than the libraries'.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> Option<String> {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.last().map(ToString::to_string)
}

/// The position in `batch.records[17].message`.
fn record_position(field: &str) -> Option<u32> {
    let (_, rest) = field.split_once("records[")?;
    rest.split_once(']')?.0.parse().ok()
}

/// What a response means for the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Decision {
    /// Try again; this server pauses.
    Retry,
    /// Try again after what the server asked for; all pause.
    Throttled,
    /// Try again, but not for ever.
    RetryAFewTimes,
    /// The token is refused.
    Unauthenticated,
    /// The token does not reach that far.
    Forbidden,
    /// Split it.
    TooLarge,
    /// Never send it again.
    GiveUp(DropReason),
}

/// The table of responses.
pub(crate) fn decision(refusal: &Refusal) -> Decision {
    if refusal.is_transport {
        return Decision::Retry;
    }
    // Before the code: a batch that is too old stays so, whatever the code says.
    if refusal.reason.eq_ignore_ascii_case(EXPIRED) {
        return Decision::GiveUp(DropReason::Expired);
    }
    match refusal.code {
        // A share is of one server: another may have room.
        Code::ResourceExhausted
            if refusal.retry_delay.is_some() && refusal.reason == TENANT_SHARE =>
        {
            Decision::Retry
        }
        // A delay makes it a matter of quota; without one it is about this batch.
        Code::ResourceExhausted if refusal.retry_delay.is_some() => Decision::Throttled,
        Code::ResourceExhausted if refusal.reason == BATCH_TOO_LARGE => Decision::TooLarge,
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted
        | Code::DataLoss => Decision::Retry,
        // OUT_OF_RANGE is also what a message over the size limit of the gRPC library itself gets.
        Code::Internal | Code::Unknown | Code::OutOfRange => Decision::RetryAFewTimes,
        Code::Unauthenticated => Decision::Unauthenticated,
        Code::PermissionDenied => Decision::Forbidden,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Unimplemented => Decision::GiveUp(DropReason::SendError),
    }
}

/// A random share of a bound that doubles with each failure, up to a cap (full jitter).
pub(crate) fn backoff_delay(
    first: Duration,
    max: Duration,
    failures: u32,
    random: f64,
) -> Duration {
    bound(first, max, failures).mul_f64(random.clamp(0.0, 1.0))
}

fn bound(first: Duration, max: Duration, failures: u32) -> Duration {
    // 20 doublings of a millisecond are more than any wait; more would overflow the shift.
    first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(max)
}

/// When something that fails may be tried again.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    /// Rises with each failure, so that attempts that ran side by side count as one.
    epoch: u64,
    not_before: Option<Instant>,
    probing: bool,
}

impl Backoff {
    fn blocked(&self, now: Instant, probe_after: u32) -> Option<Blocked> {
        match self.not_before {
            Some(until) if until > now => Some(Blocked::Until(until)),
            // One attempt is enough to find out, and costs a server that is down the least.
            _ if self.failures >= probe_after && self.probing => Some(Blocked::Probe),
            _ => None,
        }
    }

    fn pause(&mut self, until: Instant) {
        // Several attempts may fail side by side; the longest pause counts.
        self.not_before = self.not_before.max(Some(until));
    }

    /// Counts a failure, unless one that ran beside it was counted. True if it was counted.
    fn fail(&mut self, epoch: u64) -> bool {
        // It began before a failure that was counted: both saw the same outage.
        if epoch != self.epoch {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.epoch += 1;
        true
    }

    fn succeed(&mut self) {
        self.failures = 0;
    }
}

enum Blocked {
    Until(Instant),
    Probe,
}

/// Permission to make one attempt. Must come back through [`EndpointPool::finish`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    /// Which server.
    pub(crate) endpoint: usize,
    endpoint_epoch: u64,
    account_epoch: u64,
    /// Which reading of the token.
    pub(crate) token_reading: u64,
    probes_endpoint: bool,
    probes_account: bool,
}

/// Whether an attempt may start.
pub(crate) enum Start {
    Now(Ticket),
    /// Ask again then, or when an attempt has ended.
    Wait(Option<Instant>),
}

/// What a refused attempt leads to.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Ask for another ticket.
    Again,
    /// Read the token again, then ask for another ticket.
    ReadToken,
    /// Split it.
    Split,
    /// Give it up.
    GiveUp(DropReason),
}

/// The failures of one batch that count against it.
#[derive(Debug, Default)]
pub(crate) struct History {
    internal_failures: u32,
}

/// Decides who may try when. Shared by all batches of a sender.
pub(crate) struct EndpointPool {
    policy: RetryPolicy,
    endpoints: Vec<Backoff>,
    account: Backoff,
    next_endpoint: usize,
    token_reading: u64,
    token_failures: u32,
    permission_failures: u32,
}

impl EndpointPool {
    pub(crate) fn new(policy: RetryPolicy, endpoints: usize) -> Self {
        Self {
            policy: policy.in_range(),
            endpoints: (0..endpoints).map(|_| Backoff::default()).collect(),
            account: Backoff::default(),
            next_endpoint: 0,
            token_reading: 0,
            token_failures: 0,
            permission_failures: 0,
        }
    }

    /// Gives permission to try the next server in turn that is not paused.
    pub(crate) fn start(&mut self, now: Instant) -> Start {
        // One refusal of the token or its quota is enough to send one batch at a time.
        match self.account.blocked(now, 1) {
            Some(Blocked::Until(until)) => return Start::Wait(Some(until)),
            Some(Blocked::Probe) => return Start::Wait(None),
            None => {}
        }
        let (count, mut earliest) = (self.endpoints.len(), None::<Instant>);
        for offset in 0..count {
            // In turn, so that load is spread, and a paused one is passed over.
            let endpoint = (self.next_endpoint + offset) % count;
            match self.endpoints[endpoint].blocked(now, self.policy.probe_after) {
                Some(Blocked::Until(until)) => {
                    earliest = Some(earliest.map_or(until, |at| at.min(until)));
                }
                Some(Blocked::Probe) => {}
                None => return Start::Now(self.ticket(endpoint)),
            }
        }
        Start::Wait(earliest)
    }

    fn ticket(&mut self, endpoint: usize) -> Ticket {
        // Even if the attempt fails: the next batch tries another server.
        self.next_endpoint = (endpoint + 1) % self.endpoints.len();
        let backoff = &mut self.endpoints[endpoint];
        let probes_endpoint = backoff.failures >= self.policy.probe_after;
        let probes_account = self.account.failures > 0;
        backoff.probing |= probes_endpoint;
        self.account.probing |= probes_account;
        Ticket {
            endpoint,
            endpoint_epoch: backoff.epoch,
            account_epoch: self.account.epoch,
            token_reading: self.token_reading,
            probes_endpoint,
            probes_account,
        }
    }

    /// The attempt is over, whatever came of it, even if it was abandoned.
    pub(crate) fn finish(&mut self, ticket: Ticket) {
        self.endpoints[ticket.endpoint].probing &= !ticket.probes_endpoint;
        self.account.probing &= !ticket.probes_account;
    }

    /// The response was OK.
    pub(crate) fn succeeded(&mut self, ticket: Ticket) {
        self.endpoints[ticket.endpoint].succeed();
        self.account.succeed();
        // The token was good for this one: whatever it was refused for before is over.
        self.token_failures = 0;
        self.permission_failures = 0;
    }

    /// Whether batches are held because the token is refused.
    pub(crate) fn is_token_refused(&self) -> bool {
        self.token_failures > 1 || self.permission_failures > 0
    }

    /// The attempt was refused.
    pub(crate) fn refused(
        &mut self,
        ticket: Ticket,
        refusal: &Refusal,
        history: &mut History,
        now: Instant,
        random: f64,
    ) -> Next {
        match decision(refusal) {
            Decision::Retry => self.pause_endpoint(ticket, refusal.retry_delay, now, random),
            Decision::RetryAFewTimes => {
                history.internal_failures += 1;
                if history.internal_failures > self.policy.internal_retries {
                    return Next::GiveUp(DropReason::SendError);
                }
                self.pause_endpoint(ticket, refusal.retry_delay, now, random)
            }
            Decision::Throttled => {
                self.endpoints[ticket.endpoint].succeed();
                // The quota is the token's, whichever server says so; this server itself works.
                self.account.fail(ticket.account_epoch);
                let delay = self.server_delay(refusal.retry_delay.unwrap_or_default(), random);
                self.account.pause(now + delay);
                Next::Again
            }
            Decision::Unauthenticated => self.unauthenticated(ticket, now, random),
            Decision::Forbidden => self.forbidden(ticket, now),
            Decision::TooLarge => self.final_refusal(ticket, Next::Split),
            Decision::GiveUp(reason) => self.final_refusal(ticket, Next::GiveUp(reason)),
        }
    }

    /// A refusal for good comes from a server that works.
    fn final_refusal(&mut self, ticket: Ticket, next: Next) -> Next {
        self.endpoints[ticket.endpoint].succeed();
        next
    }

    fn pause_endpoint(
        &mut self,
        ticket: Ticket,
        asked: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Next {
        let asked = asked.map(|delay| self.server_delay(delay, random));
        let RetryPolicy { first, max, .. } = self.policy;
        let backoff = &mut self.endpoints[ticket.endpoint];
        if backoff.fail(ticket.endpoint_epoch) || asked.is_some() {
            // A delay that the server asked for takes the place of our own, also if it is shorter.
            let own = backoff_delay(first, max, backoff.failures, random);
            backoff.pause(now + asked.unwrap_or(own));
        }
        Next::Again
    }

    /// Never less than the server asked for, unless that is absurd; spread, so that a fleet does
    /// not come back in one moment.
    fn server_delay(&self, asked: Duration, random: f64) -> Duration {
        asked.min(self.policy.server_delay_max).mul_f64(1.0 + 0.25 * random.clamp(0.0, 1.0))
    }

    fn unauthenticated(&mut self, ticket: Ticket, now: Instant, random: f64) -> Next {
        self.endpoints[ticket.endpoint].succeed();
        // The token was read again meanwhile: the refusal is of the old one.
        if ticket.token_reading != self.token_reading {
            return Next::Again;
        }
        self.token_reading += 1;
        self.token_failures = self.token_failures.saturating_add(1);
        // It may have been replaced in its file: read once before anybody is told.
        if self.token_failures == 1 {
            return Next::ReadToken;
        }
        if !self.policy.hold_on_refused_token {
            return Next::GiveUp(DropReason::AuthFailed);
        }
        let RetryPolicy { token_first, token_max, .. } = self.policy;
        let bound = bound(token_first, token_max, self.token_failures - 1);
        self.account.fail(ticket.account_epoch);
        // Spread by a quarter, so that a fleet with one token does not probe in one moment.
        self.account.pause(now + bound.mul_f64(0.75 + 0.25 * random));
        Next::ReadToken
    }

    fn forbidden(&mut self, ticket: Ticket, now: Instant) -> Next {
        self.endpoints[ticket.endpoint].succeed();
        if !self.policy.hold_on_refused_token {
            return Next::GiveUp(DropReason::AuthFailed);
        }
        if !self.account.fail(ticket.account_epoch) {
            return Next::Again;
        }
        self.permission_failures = self.permission_failures.saturating_add(1);
        // A permission that was just given takes a while to reach every server.
        if self.permission_failures == 1 {
            self.account.pause(now + self.policy.permission_wait);
            return Next::Again;
        }
        self.account.pause(now + self.policy.permission_pause);
        Next::GiveUp(DropReason::AuthFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

    fn refusal(code: Code) -> Refusal {
        Refusal {
            code,
            is_transport: false,
            retry_delay: None,
            reason: String::new(),
            bad_records: Vec::new(),
            message: String::new(),
        }
    }

    #[test]
    fn every_code_has_its_verdict() {
        use Decision::{Forbidden, GiveUp, Retry, RetryAFewTimes, Unauthenticated};
        let send_error = GiveUp(DropReason::SendError);
        for (code, expected) in [
            (Code::Unavailable, Retry),
            (Code::DeadlineExceeded, Retry),
            (Code::Cancelled, Retry),
            (Code::Aborted, Retry),
            (Code::DataLoss, Retry),
            (Code::OutOfRange, RetryAFewTimes),
            (Code::Internal, RetryAFewTimes),
            (Code::Unknown, RetryAFewTimes),
            (Code::Unauthenticated, Unauthenticated),
            (Code::PermissionDenied, Forbidden),
            (Code::ResourceExhausted, send_error),
            (Code::InvalidArgument, send_error),
            (Code::Unimplemented, send_error),
            (Code::FailedPrecondition, send_error),
            (Code::NotFound, send_error),
            (Code::AlreadyExists, send_error),
        ] {
            assert_eq!(decision(&refusal(code)), expected, "{code:?}");
            let cut_off = Refusal { is_transport: true, ..refusal(code) };
            assert_eq!(decision(&cut_off), Retry, "a broken connection is always retried");
        }
    }

    #[test]
    fn details_refine_the_verdict() {
        let exhausted = refusal(Code::ResourceExhausted);
        let delay = Some(Duration::from_secs(1));
        let too_large = Refusal { reason: "BATCH_TOO_LARGE".into(), ..exhausted.clone() };
        assert_eq!(decision(&Refusal { retry_delay: delay, ..exhausted }), Decision::Throttled);
        assert_eq!(decision(&too_large), Decision::TooLarge);
        let expired = Refusal { reason: "EXPIRED".into(), ..refusal(Code::FailedPrecondition) };
        assert_eq!(decision(&expired), Decision::GiveUp(DropReason::Expired));
    }

    #[test]
    fn details_are_read_from_a_status() {
        let mut details = ErrorDetails::new();
        details.set_retry_info(Some(Duration::from_millis(1_500)));
        details.set_error_info("QUOTA", "logweir", std::collections::HashMap::new());
        details.set_bad_request(vec![
            FieldViolation::new("batch.records[7].message", "x"),
            FieldViolation::new("records[2]", "x"),
            FieldViolation::new("records[7].level", "x"),
            FieldViolation::new("batch.resource.service", "x"),
        ]);
        let status = Status::with_error_details(Code::InvalidArgument, "no", details);
        let refusal = Refusal::from_status(&status);
        assert_eq!(refusal.retry_delay, Some(Duration::from_millis(1_500)));
        assert_eq!((refusal.reason.as_str(), refusal.is_transport), ("QUOTA", false));
        assert_eq!(refusal.bad_records, [2, 7]);
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let (first, max) = (Duration::from_millis(200), Duration::from_secs(30));
        for (failures, bound_ms) in
            [(1, 200), (2, 400), (5, 3_200), (9, 30_000), (u32::MAX, 30_000)]
        {
            assert_eq!(
                backoff_delay(first, max, failures, 1.0).as_millis(),
                bound_ms,
                "{failures}"
            );
            assert_eq!(backoff_delay(first, max, failures, 0.0), Duration::ZERO);
        }
    }

    /// A pool on a clock of its own.
    struct Scene {
        pool: EndpointPool,
        now: Instant,
        history: History,
    }

    impl Scene {
        fn new(hold: bool, endpoints: usize) -> Self {
            let policy = RetryPolicy { hold_on_refused_token: hold, ..RetryPolicy::default() };
            let pool = EndpointPool::new(policy, endpoints);
            Self { pool, now: crate::platform::now(), history: History::default() }
        }

        fn ticket(&mut self) -> Ticket {
            match self.pool.start(self.now) {
                Start::Now(ticket) => ticket,
                Start::Wait(until) => panic!("must wait until {until:?}"),
            }
        }

        /// How long until a ticket is given; none while another attempt decides.
        fn wait(&mut self) -> Option<Duration> {
            match self.pool.start(self.now) {
                Start::Now(_) => panic!("need not wait"),
                Start::Wait(until) => until.map(|until| until - self.now),
            }
        }

        fn refuse(&mut self, ticket: Ticket, refusal: &Refusal) -> Next {
            let next = self.pool.refused(ticket, refusal, &mut self.history, self.now, 1.0);
            self.pool.finish(ticket);
            next
        }

        fn succeed(&mut self, ticket: Ticket) {
            self.pool.succeeded(ticket);
            self.pool.finish(ticket);
        }
    }

    #[test]
    fn failures_side_by_side_count_once() {
        let mut scene = Scene::new(true, 1);
        let tickets: Vec<Ticket> = (0..4).map(|_| scene.ticket()).collect();
        for ticket in tickets {
            assert_eq!(scene.refuse(ticket, &refusal(Code::Unavailable)), Next::Again);
        }
        assert_eq!(scene.wait(), Some(Duration::from_millis(200)));
    }

    #[test]
    fn after_five_failures_one_batch_probes_until_it_succeeds() {
        let mut scene = Scene::new(true, 1);
        for _ in 0..5 {
            let ticket = scene.ticket();
            scene.refuse(ticket, &refusal(Code::Unavailable));
            let wait = scene.wait().unwrap();
            scene.now += wait;
        }
        let probe = scene.ticket();
        assert_eq!(scene.wait(), None);
        scene.pool.finish(probe);
        let probe = scene.ticket();
        scene.succeed(probe);
        let (_, _) = (scene.ticket(), scene.ticket());
    }

    #[test]
    fn another_server_takes_over_at_once() {
        let mut scene = Scene::new(true, 2);
        let first = scene.ticket();
        scene.refuse(first, &refusal(Code::Unavailable));
        let second = scene.ticket();
        assert_ne!(first.endpoint, second.endpoint);
        assert_eq!(scene.ticket().endpoint, second.endpoint);
        scene.refuse(second, &refusal(Code::Unavailable));
        assert_eq!(scene.wait(), Some(Duration::from_millis(200)));
    }

    #[test]
    fn servers_take_turns() {
        let mut scene = Scene::new(true, 3);
        let endpoints: Vec<usize> = (0..6).map(|_| scene.ticket().endpoint).collect();
        assert_eq!(endpoints, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_servers_delay_is_honoured_up_to_five_minutes() {
        for (asked_s, waited_s) in [(2.0, 2.5), (100_000.0, 375.0)] {
            let mut scene = Scene::new(true, 2);
            let ticket = scene.ticket();
            let retry_delay = Some(Duration::from_secs_f64(asked_s));
            let throttled = Refusal { retry_delay, ..refusal(Code::ResourceExhausted) };
            assert_eq!(scene.refuse(ticket, &throttled), Next::Again);
            assert_eq!(scene.wait(), Some(Duration::from_secs_f64(waited_s)), "all endpoints wait");
        }
    }

    #[test]
    fn internal_errors_are_retried_three_times() {
        let mut scene = Scene::new(true, 1);
        for attempt in 1..=4 {
            let ticket = scene.ticket();
            let next = scene.refuse(ticket, &refusal(Code::Internal));
            let expected =
                if attempt <= 3 { Next::Again } else { Next::GiveUp(DropReason::SendError) };
            assert_eq!(next, expected, "{attempt}");
            scene.now += Duration::from_secs(60);
        }
    }

    #[test]
    fn a_refused_token_is_read_again_once_then_probed() {
        let mut scene = Scene::new(true, 1);
        let (ticket, beside) = (scene.ticket(), scene.ticket());
        assert_eq!(scene.refuse(ticket, &refusal(Code::Unauthenticated)), Next::ReadToken);
        assert_eq!(scene.refuse(beside, &refusal(Code::Unauthenticated)), Next::Again);
        assert!(!scene.pool.is_token_refused());
        for wait_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            let ticket = scene.ticket();
            assert_eq!(scene.refuse(ticket, &refusal(Code::Unauthenticated)), Next::ReadToken);
            assert!(scene.pool.is_token_refused());
            assert_eq!(scene.wait(), Some(Duration::from_secs(wait_s)));
            scene.now += Duration::from_secs(wait_s);
        }
        let probe = scene.ticket();
        assert_eq!(scene.wait(), None, "one at a time");
        scene.succeed(probe);
        assert!(!scene.pool.is_token_refused());
    }

    #[test]
    fn a_watched_program_hears_of_a_refused_token_at_once() {
        let mut scene = Scene::new(false, 1);
        let ticket = scene.ticket();
        assert_eq!(scene.refuse(ticket, &refusal(Code::Unauthenticated)), Next::ReadToken);
        let failed = Next::GiveUp(DropReason::AuthFailed);
        let ticket = scene.ticket();
        assert_eq!(scene.refuse(ticket, &refusal(Code::Unauthenticated)), failed);
        let ticket = scene.ticket();
        assert_eq!(scene.refuse(ticket, &refusal(Code::PermissionDenied)), failed);
    }

    #[test]
    fn a_missing_permission_is_waited_for_once() {
        let mut scene = Scene::new(true, 1);
        let ticket = scene.ticket();
        assert_eq!(scene.refuse(ticket, &refusal(Code::PermissionDenied)), Next::Again);
        assert_eq!(scene.wait(), Some(Duration::from_secs(60)));
        for _ in 0..2 {
            scene.now += Duration::from_secs(300);
            let ticket = scene.ticket();
            let failed = Next::GiveUp(DropReason::AuthFailed);
            assert_eq!(scene.refuse(ticket, &refusal(Code::PermissionDenied)), failed);
            assert_eq!(scene.wait(), Some(Duration::from_secs(300)));
        }
    }

    #[test]
    fn a_batch_that_is_too_large_is_split() {
        let mut scene = Scene::new(true, 1);
        let ticket = scene.ticket();
        let reason = "BATCH_TOO_LARGE".into();
        let too_large = Refusal { reason, ..refusal(Code::ResourceExhausted) };
        assert_eq!(scene.refuse(ticket, &too_large), Next::Split);
        scene.ticket();
    }
}
