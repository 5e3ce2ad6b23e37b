"""Settings: code over `LOGWEIR_*` over `OTEL_*` over defaults.

What the code says must be right, or making the client fails. What the environment says wrongly costs one
notice and the default, so that nobody's deployment breaks a program. Sizes out of range are brought into
it without a word.
"""

from __future__ import annotations

import ipaddress
import math
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional, Union
from urllib.parse import urlsplit

from logweir import platform
from logweir.delivery import compression
from logweir.delivery.notices import NoticeLimiter
from logweir.delivery.queue import DROP_POLICIES, SEVERITY_AWARE, QueueBounds
from logweir.delivery.retry import RetryPolicy
from logweir.delivery.spool import SpoolOptions
from logweir.errors import ConfigError, EndpointError, TlsError, TokenError
from logweir.record import resource
from logweir.record.record import UNKNOWN_LEVEL, Level, attributes_of, level_of, text_of
from logweir.record.redaction import REDACT_KEYS, Redactor, plain_key
from logweir.record.resource import ReadText, ReadVariable, Resource

ENDPOINT_DEFAULT = "http://127.0.0.1:4317"
QUEUE_RECORDS = 16_384
QUEUE_BYTES = 16 << 20
BATCH_RECORDS, BATCH_RECORDS_MAX = 512, 10_000
# The most leaves room for the resource in a request of 4 MiB.
BATCH_BYTES, BATCH_BYTES_MAX = 1 << 20, 3 << 20
BATCH_DELAY = 1.0
IN_FLIGHT, IN_FLIGHT_MAX = 2, 64
MEMORY_AGE_MAX = 300.0
ATTEMPT_TIMEOUT = 10.0
# What gathers outside of the queue is at most this share of it, and so many logs.
INBOX_SHARE, INBOX_RECORDS = 64, 256
# No setting is longer, so that no wait is more than the system can count.
SECONDS_MAX = 10 * 365 * 24 * 3_600.0
# An address: no user, no path; http is understood.
_ADDRESS = re.compile(r"(https?)://([A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/?\Z")
_PORT_MAX = 65_535

Token = Union[None, str, Path, Callable[[], Optional[str]]]
"""Where the token comes from: a text, a file that holds it alone, or a function. File and function are
read again when the server refuses the token; the function runs on the sending thread and must be quick."""


@dataclass(frozen=True)
class Rejection:
    """Logs of one kind that the server rejected."""

    reason: str
    """A stable name of the rule."""
    message: str
    """What the server wrote of the newest."""
    count: int
    """How many since the last call for this reason."""


@dataclass(frozen=True)
class TlsOptions:
    """How to speak to `https://` addresses. The files are PEM."""

    ca_file: str | None = None
    """The CA of the server, in place of the system's."""
    certificate_file: str | None = None
    """A certificate to show to the server."""
    key_file: str | None = None
    """Its private key."""


@dataclass(frozen=True)
class Config:
    """Settings that are checked."""

    endpoints: tuple[str, ...]
    token: TokenSource
    resource: Resource
    queue: QueueBounds
    batch_records: int
    batch_bytes: int
    batch_delay: float
    in_flight: int
    memory_age_max: float
    attempt_timeout: float
    compression: str
    retry: RetryPolicy
    # None if no address needs it.
    tls_context: ssl.SSLContext | None
    spool: SpoolOptions | None
    sample_rates: Mapping[str, float]
    redact_keys: tuple[str, ...]
    before_send: Callable[[Any], Any] | None
    on_rejected: Callable[[Rejection], None] | None
    notice: platform.Notice
    is_disabled: bool

    @property
    def inbox_records(self) -> int:
        """How many logs may gather before the sending thread takes them in."""
        share = self.queue.records_max // INBOX_SHARE
        return max(min(share, self.batch_records, INBOX_RECORDS), 1)


class TokenSource:
    """Where the token comes from, and comes from again."""

    def __init__(self, read: Callable[[], str | None]) -> None:
        self._read = read

    def read(self) -> str | None:
        """The token as it is now; raises TokenError if it cannot be used."""
        text = self._read()
        if text is None:
            return None
        text = text.strip()
        if not text or not all("!" <= character <= "~" for character in text):
            raise TokenError(
                "the token holds characters that cannot be sent: paste it again, or issue a new one"
            )
        return text


@dataclass
class ProcessContext:
    """What the settings are looked for in."""

    variable: ReadVariable
    read_text: ReadText = platform.read_text
    host: str = field(default_factory=platform.host_name)
    process_id: int = field(default_factory=platform.process_id)


def environment_of(variables: Mapping[str, str]) -> ReadVariable:
    """Reads variables; an empty one is none."""
    return lambda name: variables.get(name) or None


class _Environment:
    """Reads settings from variables. One that cannot be used costs a notice, and is none."""

    def __init__(self, variable: ReadVariable, notice: platform.Notice) -> None:
        self._variable = variable
        self._notice = notice

    def get(self, name: str, parse: Callable[[str], Any], default: Any) -> Any:
        text = self._variable(name)
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self._notice(f"{name}: {error}; going on {_shown(default)}")
            return default


def _shown(default: Any) -> str:
    if default is None:
        return "as if it were not set"
    return f"with {', '.join(default)}" if isinstance(default, tuple) else f"with {default}"


def resolve(settings: Mapping[str, Any], context: ProcessContext) -> Config:
    """Checks the settings of the code, and looks for those that it does not have. Raises ConfigError."""
    unknown = set(settings) - SETTINGS
    if unknown:
        raise ConfigError(min(unknown), f"there is no setting {min(unknown)!r}")
    code: Callable[..., Any] = settings.get
    on_notice = code("on_notice")
    notice = _surviving(on_notice) if on_notice else platform.notice_on_stderr
    env = _Environment(context.variable, notice)

    endpoints = _endpoints(code("endpoint"), env)
    queue_records = _whole(settings, "queue_records", env, "OTEL_BLRP_MAX_QUEUE_SIZE", QUEUE_RECORDS)
    queue_records = max(queue_records, 1)
    batch_records = _whole(settings, "batch_records", env, "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", BATCH_RECORDS)
    delay_ms = env.get("OTEL_BLRP_SCHEDULE_DELAY", _count, BATCH_DELAY * 1e3)
    policy = code("drop_policy") or env.get("LOGWEIR_DROP_POLICY", _drop_policy, SEVERITY_AWARE)
    packing = code("compression") or env.get("LOGWEIR_COMPRESSION", _compression, compression.AUTO)
    rates = code("sample_rates")
    redact_keys = _redact_keys(code("redact_keys"), context.variable)
    return Config(
        endpoints=endpoints,
        token=_token(settings, context, notice),
        resource=_redacted(_resource(settings, context, notice), redact_keys),
        queue=QueueBounds(
            records_max=queue_records,
            bytes_max=_whole_of_code(settings, "queue_bytes", QUEUE_BYTES),
            policy=_checked("drop_policy", _drop_policy, policy),
            urgent_level=_checked("urgent_level", _level, code("urgent_level", Level.FATAL)),
        ),
        batch_records=_clamped(batch_records, 1, min(BATCH_RECORDS_MAX, queue_records)),
        batch_bytes=_clamped(_whole_of_code(settings, "batch_bytes", BATCH_BYTES), 1, BATCH_BYTES_MAX),
        batch_delay=_seconds(settings, "batch_delay", delay_ms / 1e3),
        in_flight=_clamped(_whole_of_code(settings, "in_flight", IN_FLIGHT), 1, IN_FLIGHT_MAX),
        memory_age_max=_seconds(settings, "memory_age_max", MEMORY_AGE_MAX),
        attempt_timeout=_seconds(settings, "attempt_timeout", ATTEMPT_TIMEOUT),
        compression=compression.resolved(
            _checked("compression", _compression, packing), all(map(is_loopback, endpoints))
        ),
        retry=code("retry") or RetryPolicy(),
        tls_context=_tls(code("tls"), endpoints, context.variable, notice),
        spool=_spool(code("spool"), context.variable),
        sample_rates=(
            _rates_of_environment(context.variable("LOGWEIR_SAMPLE_RATES") or "", notice)
            if rates is None
            else _checked("sample_rates", _rates, rates)
        ),
        redact_keys=redact_keys,
        before_send=code("before_send"),
        on_rejected=code("on_rejected"),
        notice=notice,
        is_disabled=(context.variable("OTEL_SDK_DISABLED") or "").strip().lower() == "true",
    )


SETTINGS = frozenset(
    {
        "endpoint",
        "token",
        "service",
        "instance",
        "environment",
        "version",
        "region",
        "attributes",
        "queue_records",
        "queue_bytes",
        "drop_policy",
        "batch_records",
        "batch_bytes",
        "batch_delay",
        "urgent_level",
        "in_flight",
        "memory_age_max",
        "attempt_timeout",
        "compression",
        "retry",
        "tls",
        "spool",
        "sample_rates",
        "redact_keys",
        "before_send",
        "on_rejected",
        "on_notice",
        "resource_detection",
    }
)
"""The names of all settings."""


def _surviving(call: Callable[[str], object]) -> platform.Notice:
    """The program's own function, whose error must not take the sending thread along."""

    def notice(text: str) -> None:
        try:
            call(text)
        except Exception as error:
            platform.notice_on_stderr(f"{text} (on_notice failed: {type(error).__name__}: {error})")

    return notice


def _checked(setting: str, parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except (ValueError, TypeError) as error:
        raise ConfigError(setting, f"{setting}: {error}") from error


def _whole(settings: Mapping[str, Any], name: str, env: _Environment, variable: str, default: int) -> int:
    given = env.get(variable, _count, default)
    return _whole_of_code(settings, name, given)


def _whole_of_code(settings: Mapping[str, Any], name: str, default: int) -> int:
    value = settings.get(name)
    return default if value is None else int(_checked(name, int, value))


def _seconds(settings: Mapping[str, Any], name: str, default: float) -> float:
    value = settings.get(name)
    value = default if value is None else _checked(name, float, value)
    if math.isnan(value):
        raise ConfigError(name, f"{name} is no number of seconds")
    return float(_clamped(value, 0.0, SECONDS_MAX))


def _clamped(value: Any, least: Any, most: Any) -> Any:
    return max(least, min(value, most))


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text.strip()):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _drop_policy(text: str) -> str:
    return _one_of(text, DROP_POLICIES)


def _compression(text: str) -> str:
    packing = _one_of(text, compression.COMPRESSIONS)
    if packing == compression.ZSTD and compression.zstd() is None:
        raise ValueError('zstd needs Python 3.14 or "pip install logweir[zstd]"')
    return packing


def _one_of(text: str, allowed: Iterable[str]) -> str:
    found = str(text).strip().lower()
    if found not in allowed:
        raise ValueError(f"{text!r} is none of {', '.join(allowed)}")
    return found


def _level(level: object) -> int:
    found = level_of(level)
    if found == UNKNOWN_LEVEL:
        raise ValueError(f"{level!r} is no level: use {', '.join(Level.__members__)}")
    return found


def _rates(rates: Mapping[Any, Any]) -> dict[str, float]:
    return {Level(_level(level)).name: _rate(rate) for level, rate in rates.items()}


def _rate(rate: Any) -> float:
    share = float(rate)
    if not 0 <= share <= 1:
        raise ValueError(f"{rate!r} is no share from 0 to 1")
    return share


def _rates_of_environment(text: str, notice: platform.Notice) -> dict[str, float]:
    rates: dict[str, float] = {}
    for pair in filter(str.strip, text.split(",")):
        level, _, rate = pair.partition("=")
        try:
            rates.update(_rates({level.strip(): rate}))
        except ValueError:
            notice(f"LOGWEIR_SAMPLE_RATES: {pair!r} is not LEVEL=SHARE, a share from 0 to 1; left out")
    return rates


def _redact_keys(given: Iterable[str] | None, variable: ReadVariable) -> tuple[str, ...]:
    if given is None:
        listed = variable("LOGWEIR_REDACT_KEYS")
        given = REDACT_KEYS if listed is None else listed.split(",")
    return tuple(plain_key(key) for key in given if key.strip())


def _endpoints(given: str | None, env: _Environment) -> tuple[str, ...]:
    if given is not None:
        return parse_endpoints(given)
    default = (ENDPOINT_DEFAULT,)
    found: tuple[str, ...] = env.get("LOGWEIR_ENDPOINT", parse_endpoints, default)
    return found


def parse_endpoints(text: str) -> tuple[str, ...]:
    """The addresses of a comma list, each with its scheme. Raises EndpointError."""
    names = [name.strip() for name in str(text).split(",") if name.strip()]
    if not names:
        raise EndpointError(text)
    return tuple(map(_endpoint, names))


def _endpoint(name: str) -> str:
    address = name if "://" in name else f"http://{name}"
    found = _ADDRESS.match(address)
    if found is None or int(found[3] or 0) > _PORT_MAX:
        raise EndpointError(name)
    return address


def is_loopback(endpoint: str) -> bool:
    """Whether an address stays on this machine."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(settings: Mapping[str, Any], context: ProcessContext, notice: platform.Notice) -> TokenSource:
    given: Token = settings.get("token")
    if given is None:
        return _token_of_environment(context, notice)
    if callable(given):
        return TokenSource(_surviving_read(given, notice))
    if isinstance(given, Path):
        return _checked_token(lambda: _token_file(str(given), context.read_text))
    return _checked_token(lambda: str(given))


def _checked_token(read: Callable[[], str]) -> TokenSource:
    source = TokenSource(read)
    source.read()
    return source


def _surviving_read(call: Callable[[], str | None], notice: platform.Notice) -> Callable[[], str | None]:
    """The program's own function. That it fails is told once a minute."""
    limiter = NoticeLimiter()

    def read() -> str | None:
        try:
            text = call()
            return None if text is None else str(text)
        except Exception as error:
            cause = f"the function for the token failed: {type(error).__name__}: {text_of(error)}"
            if limiter.count("token", platform.now()) is not None:
                notice(cause)
            raise TokenError(cause) from error

    return read


def _token_file(path: str, read_text: ReadText) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise TokenError(
            f"cannot read the token file {path!r} ({error.strerror}): check its path and permissions"
        ) from error


def _token_of_environment(context: ProcessContext, notice: platform.Notice) -> TokenSource:
    """The environment's token. A file may come later, or change: both are read again when the server
    refuses the token; while there is none that can be used, the last one stays."""

    def read() -> str | None:
        text, path = context.variable("LOGWEIR_TOKEN"), context.variable("LOGWEIR_TOKEN_FILE")
        return _token_file(path, context.read_text) if text is None and path is not None else text

    source = TokenSource(read)
    try:
        source.read()
    except TokenError as error:
        notice(f"LOGWEIR_TOKEN or LOGWEIR_TOKEN_FILE: {error}; going on without a token")
    return source


def _resource(settings: Mapping[str, Any], context: ProcessContext, notice: platform.Notice) -> Resource:
    names = ("service", "instance", "environment", "version", "region")
    given = {name: str(settings.get(name) or "") for name in names}
    detects = settings.get("resource_detection")
    return resource.resolve(
        Resource(**given, attributes=dict(attributes_of(settings.get("attributes") or {}))),
        detects=detects is None or bool(detects),
        variable=context.variable,
        read_text=context.read_text,
        host=context.host,
        process_id=context.process_id,
        notice=notice,
    )


def _redacted(found: Resource, redact_keys: tuple[str, ...]) -> Resource:
    attributes = Redactor(redact_keys).redact(tuple(found.attributes.items()))
    return replace(found, attributes=dict(attributes))


def _tls(
    given: TlsOptions | None,
    endpoints: tuple[str, ...],
    variable: ReadVariable,
    notice: platform.Notice,
) -> ssl.SSLContext | None:
    """How to speak to `https://` addresses. The environment's files, if they cannot be used, are left out:
    a server that needs them says so to the sending thread."""
    if not any(endpoint.startswith("https:") for endpoint in endpoints):
        return None
    if given is not None:
        try:
            return tls_context(given)
        except (OSError, ValueError) as error:
            raise TlsError(str(error)) from error
    names = ("LOGWEIR_TLS_CA", "LOGWEIR_TLS_CLIENT_CERT", "LOGWEIR_TLS_CLIENT_KEY")
    try:
        return tls_context(TlsOptions(*map(variable, names)))
    except (OSError, ValueError) as error:
        notice(f"{', '.join(names)}: {TlsError(str(error))}; going on with the system's CAs")
        return tls_context(TlsOptions())


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """The same for Python. Raises OSError or ValueError if a file cannot be used."""
    context = ssl.create_default_context(cafile=options.ca_file)
    if options.certificate_file:
        context.load_cert_chain(options.certificate_file, options.key_file)
    context.set_alpn_protocols(["h2"])
    return context


def _spool(given: Any, variable: ReadVariable) -> SpoolOptions | None:
    given = given if given is not None else variable("LOGWEIR_SPOOL_DIR")
    if given is None or isinstance(given, SpoolOptions):
        return given
    return SpoolOptions(str(given))
