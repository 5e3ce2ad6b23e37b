"""What to do on each response, and when the next attempt may start. Pure: the time and randomness are
arguments.

A resend is harmless, since the server stores a batch id once, so that ambiguous outcomes are retried.
Each server has its own pause, so that the others go on; what concerns the token or its quota pauses all.
After `RetryPolicy.probe_after` failures in a row one batch at a time probes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from logweir.errors import AUTH_FAILED, EXPIRED, SEND_ERROR


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait before trying again, in seconds."""

    first: float = 0.2
    """Bound of the first wait; doubles with each failure in a row."""
    max: float = 30.0
    """Bound of any wait that the server did not ask for."""
    server_delay_max: float = 300.0
    """Longest wait that a server may ask for."""
    probe_after: int = 5
    """Failures in a row after which one batch at a time is tried."""
    internal_retries: int = 3
    """Retries after INTERNAL, UNKNOWN and OUT_OF_RANGE."""
    token_first: float = 1.0
    """First wait between probes of a refused token; doubles."""
    token_max: float = 60.0
    """Longest wait between probes of a refused token."""
    permission_wait: float = 60.0
    """How long to wait once for a permission to come through."""
    permission_pause: float = 300.0
    """How long to send nothing after a permission was refused twice."""


class Code(enum.IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True)
class Refusal:
    """A response other than OK, or none at all."""

    code: Code
    message: str = ""
    # The connection failed, rather than that the server responded.
    is_transport: bool = False
    # The response has no status of gRPC: whoever gave it is no server of ours.
    is_foreign: bool = False
    # From google.rpc.RetryInfo, seconds.
    retry_delay: float | None = None
    # From google.rpc.ErrorInfo.
    reason: str = ""
    # Positions named by google.rpc.BadRequest.
    bad_records: tuple[int, ...] = ()


# The ErrorInfo reason of a batch that is too large.
BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
# The ErrorInfo reason of one whose tenant has its share of what that server has.
TENANT_SHARE = "TENANT_SHARE"
# The ErrorInfo reason of a batch that is too old to be told from a repeat.
BATCH_EXPIRED = "EXPIRED"
# A server's delay is spread by up to this share, so that a fleet does not come back in one moment.
SPREAD = 0.25
# No bound doubles more often, so that it stays a number.
DOUBLINGS_MAX = 20


class Decision(enum.Enum):
    """What a response means for the batch."""

    RETRY = enum.auto()
    THROTTLED = enum.auto()
    RETRY_A_FEW_TIMES = enum.auto()
    UNAUTHENTICATED = enum.auto()
    FORBIDDEN = enum.auto()
    TOO_LARGE = enum.auto()
    EXPIRED = enum.auto()
    GIVE_UP = enum.auto()


_DECISIONS = {
    Code.UNAVAILABLE: Decision.RETRY,
    Code.DEADLINE_EXCEEDED: Decision.RETRY,
    Code.CANCELLED: Decision.RETRY,
    Code.ABORTED: Decision.RETRY,
    Code.DATA_LOSS: Decision.RETRY,
    # OUT_OF_RANGE is also what a message over the size limit of the gRPC library itself gets.
    Code.INTERNAL: Decision.RETRY_A_FEW_TIMES,
    Code.UNKNOWN: Decision.RETRY_A_FEW_TIMES,
    Code.OUT_OF_RANGE: Decision.RETRY_A_FEW_TIMES,
    Code.UNAUTHENTICATED: Decision.UNAUTHENTICATED,
    Code.PERMISSION_DENIED: Decision.FORBIDDEN,
}


def decision(refusal: Refusal) -> Decision:
    """The table of responses."""
    if refusal.is_transport:
        return Decision.RETRY
    if refusal.reason.upper() == BATCH_EXPIRED:
        return Decision.EXPIRED
    if refusal.code == Code.RESOURCE_EXHAUSTED:
        if refusal.retry_delay is not None:
            # A share is of one server: another may have room.
            is_share = refusal.reason == TENANT_SHARE
            return Decision.RETRY if is_share else Decision.THROTTLED
        if refusal.reason == BATCH_TOO_LARGE:
            return Decision.TOO_LARGE
    return _DECISIONS.get(refusal.code, Decision.GIVE_UP)


def bound(first: float, most: float, failures: int) -> float:
    """A bound that doubles with each failure, up to a cap."""
    doublings = min(max(failures - 1, 0), DOUBLINGS_MAX)
    return min(first * (1 << doublings), most)


@dataclass
class _Backoff:
    """When something that fails may be tried again."""

    failures: int = 0
    # Rises with each failure, so that attempts that ran side by side count as one.
    epoch: int = 0
    not_before: float = float("-inf")
    probing: bool = False

    def pause(self, until: float) -> None:
        self.not_before = max(self.not_before, until)

    def fail(self, epoch: int) -> bool:
        """Counts a failure, unless one that ran beside it was counted. True if it was counted."""
        if epoch != self.epoch:
            return False
        self.failures += 1
        self.epoch += 1
        return True

    def succeed(self) -> None:
        self.failures = 0


@dataclass(frozen=True)
class Ticket:
    """Permission to make one attempt. Must come back through `EndpointPool.finish`."""

    # Which server.
    endpoint: int
    endpoint_epoch: int
    account_epoch: int
    # Which reading of the token.
    token_reading: int
    probes_endpoint: bool
    probes_account: bool


@dataclass(frozen=True)
class Wait:
    """No attempt may start now. Ask again then, or (none) when an attempt has ended."""

    until: float | None


class Next(enum.Enum):
    """What a refused attempt leads to, if not to giving the batch up."""

    AGAIN = "again"
    """Ask for another ticket."""
    READ_TOKEN = "read_token"
    """Read the token again, then ask for another ticket."""
    SPLIT = "split"
    """Split it."""


@dataclass
class History:
    """The failures of one batch that count against it."""

    internal_failures: int = 0


@dataclass
class EndpointPool:
    """Decides who may try when. Shared by all batches of a sender."""

    policy: RetryPolicy
    endpoint_count: int
    _account: _Backoff = field(default_factory=_Backoff)
    _next_endpoint: int = 0
    _token_reading: int = 0
    _token_failures: int = 0
    _permission_failures: int = 0

    def __post_init__(self) -> None:
        self._endpoints = [_Backoff() for _ in range(self.endpoint_count)]

    def start(self, now: float) -> Ticket | Wait:
        """Gives permission to try the next server in turn that is not paused."""
        account = self._account
        if account.not_before > now:
            return Wait(account.not_before)
        if account.failures >= 1 and account.probing:
            return Wait(None)
        paused = []
        for offset in range(self.endpoint_count):
            endpoint = (self._next_endpoint + offset) % self.endpoint_count
            backoff = self._endpoints[endpoint]
            if backoff.not_before > now:
                paused.append(backoff.not_before)
            elif not (backoff.failures >= self.policy.probe_after and backoff.probing):
                return self._ticket(endpoint)
        return Wait(min(paused, default=None))

    def _ticket(self, endpoint: int) -> Ticket:
        self._next_endpoint = (endpoint + 1) % self.endpoint_count
        backoff, account = self._endpoints[endpoint], self._account
        probes_endpoint = backoff.failures >= self.policy.probe_after
        probes_account = account.failures > 0
        backoff.probing = backoff.probing or probes_endpoint
        account.probing = account.probing or probes_account
        return Ticket(
            endpoint, backoff.epoch, account.epoch, self._token_reading, probes_endpoint, probes_account
        )

    def finish(self, ticket: Ticket) -> None:
        """The attempt is over, whatever came of it, even if it was abandoned."""
        if ticket.probes_endpoint:
            self._endpoints[ticket.endpoint].probing = False
        if ticket.probes_account:
            self._account.probing = False

    def succeeded(self, ticket: Ticket) -> None:
        """The response was OK."""
        self._endpoints[ticket.endpoint].succeed()
        self._account.succeed()
        self._token_failures = 0
        self._permission_failures = 0

    @property
    def is_token_refused(self) -> bool:
        """Whether batches are held because the token is refused."""
        return self._token_failures > 1 or self._permission_failures > 0

    def refused(
        self, ticket: Ticket, refusal: Refusal, history: History, now: float, random: float
    ) -> Next | str:
        """The attempt was refused. What comes next, or the reason for which the batch is given up."""
        found = decision(refusal)
        if found is Decision.RETRY_A_FEW_TIMES:
            history.internal_failures += 1
            if history.internal_failures > self.policy.internal_retries:
                return SEND_ERROR
        if found in (Decision.RETRY, Decision.RETRY_A_FEW_TIMES):
            return self._pause_door(ticket, refusal.retry_delay, now, random)
        # A server that refuses works.
        self._endpoints[ticket.endpoint].succeed()
        if found is Decision.THROTTLED:
            self._account.fail(ticket.account_epoch)
            self._account.pause(now + self._server_delay(refusal.retry_delay or 0.0, random))
            return Next.AGAIN
        if found is Decision.UNAUTHENTICATED:
            return self._unauthenticated(ticket, now, random)
        if found is Decision.FORBIDDEN:
            return self._forbidden(ticket, now)
        if found is Decision.TOO_LARGE:
            return Next.SPLIT
        return EXPIRED if found is Decision.EXPIRED else SEND_ERROR

    def _pause_door(self, ticket: Ticket, asked: float | None, now: float, random: float) -> Next:
        backoff = self._endpoints[ticket.endpoint]
        if backoff.fail(ticket.endpoint_epoch) or asked is not None:
            own = bound(self.policy.first, self.policy.max, backoff.failures) * random
            backoff.pause(now + (own if asked is None else self._server_delay(asked, random)))
        return Next.AGAIN

    def _server_delay(self, asked: float, random: float) -> float:
        """Never less than the server asked for, unless that is absurd."""
        return min(asked, self.policy.server_delay_max) * (1 + SPREAD * random)

    def _unauthenticated(self, ticket: Ticket, now: float, random: float) -> Next:
        if ticket.token_reading != self._token_reading:
            return Next.AGAIN
        self._token_reading += 1
        self._token_failures += 1
        if self._token_failures > 1:
            policy = self.policy
            longest = bound(policy.token_first, policy.token_max, self._token_failures - 1)
            self._account.fail(ticket.account_epoch)
            self._account.pause(now + longest * (1 - SPREAD + SPREAD * random))
        return Next.READ_TOKEN

    def _forbidden(self, ticket: Ticket, now: float) -> Next | str:
        if not self._account.fail(ticket.account_epoch):
            return Next.AGAIN
        self._permission_failures += 1
        if self._permission_failures == 1:
            self._account.pause(now + self.policy.permission_wait)
            return Next.AGAIN
        self._account.pause(now + self.policy.permission_pause)
        return AUTH_FAILED
