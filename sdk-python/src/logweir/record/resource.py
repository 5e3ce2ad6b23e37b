"""What all logs of a process have in common: who sends them, and where it runs. Pure, but for the
arguments that read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional

from logweir import wire
from logweir.errors import ServiceError
from logweir.record.record import NAME_BYTES_MAX, Record, Value, cut, fit, write_attributes

ReadText = Callable[[str], str]
"""The text of a file; raises OSError."""
ReadVariable = Callable[[str], Optional[str]]
"""A variable of the environment; none if it is not set, or empty."""

SERVICE_PATTERN = re.compile(r"[A-Za-z0-9._/-]{1,128}\Z")
OTEL_RESOURCE = "OTEL_RESOURCE_ATTRIBUTES"
SERVICE_VARIABLES = ("LOGWEIR_SERVICE", "OTEL_SERVICE_NAME")

# OpenTelemetry's names of what has a field of its own.
FIELDS = {
    "service.name": "service",
    "service.version": "version",
    "service.instance.id": "instance",
    "deployment.environment": "environment",
    "deployment.environment.name": "environment",
    "cloud.region": "region",
    "host.name": "host",
}
POD_VARIABLES = {
    "k8s.pod.name": ("K8S_POD_NAME", "POD_NAME"),
    "k8s.namespace.name": ("K8S_NAMESPACE_NAME", "POD_NAMESPACE"),
    "k8s.node.name": ("K8S_NODE_NAME", "NODE_NAME"),
    "k8s.pod.uid": ("K8S_POD_UID", "POD_UID"),
    "k8s.container.name": ("K8S_CONTAINER_NAME", "CONTAINER_NAME"),
}
_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_CONTAINER_MOUNT = re.compile(r"/containers/([0-9a-f]{64})(?![0-9a-f])")
PROCESS_ID = "process.pid"


@dataclass(frozen=True)
class Resource:
    """See `logweir.v1.Resource`."""

    service: str = ""
    instance: str = ""
    environment: str = ""
    version: str = ""
    region: str = ""
    host: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)

    def message(self) -> Any:
        """The same for the wire, cut to the limits."""
        names = ("instance", "environment", "version", "region", "host")
        fitted = {name: cut(getattr(self, name), NAME_BYTES_MAX)[0] for name in names}
        message = wire.Resource(service=self.service, **fitted)
        carrier = Record(0, 0, "", attributes=tuple(self.attributes.items()))
        write_attributes(fit(carrier, now_unix_nano=0).attributes, message.attributes)
        return message

    def for_child(self, parent_id: int, process_id: int) -> Resource:
        """The same for a forked child, whose instance and process are its own."""
        resource = self
        if resource.instance == instance_of(self.host, parent_id):
            resource = replace(resource, instance=instance_of(self.host, process_id))
        if self.attributes.get(PROCESS_ID) == parent_id:
            attributes = {**self.attributes, PROCESS_ID: process_id}
            resource = replace(resource, attributes=attributes)
        return resource


def instance_of(host: str, process_id: int) -> str:
    """What an instance is called if nobody says otherwise."""
    return f"{host}:{process_id}"


def is_service(name: str) -> bool:
    """Whether the server takes a name for a service."""
    return SERVICE_PATTERN.match(name) is not None


def resolve(
    given: Resource,
    detects: bool,
    variable: ReadVariable,
    read_text: ReadText,
    host: str,
    process_id: int,
    notice: Callable[[str], None],
) -> Resource:
    """What the code gives, then the environment, then what is found. Raises ServiceError for the code's."""
    if given.service and not is_service(given.service):
        raise ServiceError(given.service)
    fields = {name: getattr(given, name) for name in FIELDS.values()}
    attributes = dict(given.attributes)
    for name, service in _services(variable):
        _set_service(fields, service, name, notice)
    for key, value in _pairs(variable(OTEL_RESOURCE) or "", notice):
        if key == "service.name":
            _set_service(fields, value, OTEL_RESOURCE, notice)
        elif key in FIELDS:
            fields[FIELDS[key]] = fields[FIELDS[key]] or value
        else:
            attributes.setdefault(key, value)
    fields["host"] = fields["host"] or host
    fields["instance"] = fields["instance"] or instance_of(fields["host"], process_id)
    if detects:
        attributes = {**detected(variable, read_text, process_id), **attributes}
    return Resource(**fields, attributes=attributes)


def _services(variable: ReadVariable) -> list[tuple[str, str]]:
    found = [(name, variable(name)) for name in SERVICE_VARIABLES]
    return [(name, value) for name, value in found if value]


def _set_service(fields: dict[str, str], service: str, source: str, notice: Callable[[str], None]) -> None:
    if fields["service"]:
        return
    if is_service(service):
        fields["service"] = service
    else:
        notice(f"{source}: {ServiceError(service)}; left out")


def _pairs(text: str, notice: Callable[[str], None]) -> list[tuple[str, str]]:
    pairs = []
    for pair in filter(str.strip, text.split(",")):
        key, equals, value = pair.partition("=")
        if equals and key.strip():
            pairs.append((key.strip(), percent_decoded(value.strip())))
        else:
            notice(f"{OTEL_RESOURCE}: {pair!r} is not KEY=VALUE; left out")
    return pairs


def percent_decoded(text: str) -> str:
    """OpenTelemetry lets values be percent-encoded. What is not valid stays as it is."""
    encoded = text.encode("utf-8", "surrogateescape")
    code = re.compile(rb"%([0-9A-Fa-f]{2})")
    decoded = code.sub(lambda found: bytes.fromhex(found[1].decode()), encoded)
    try:
        return decoded.decode()
    except UnicodeDecodeError:
        return text


def detected(variable: ReadVariable, read_text: ReadText, process_id: int) -> dict[str, Value]:
    """Process, container and pod, as far as they can be found without asking anybody."""
    found: dict[str, Value] = {PROCESS_ID: process_id}
    container = container_id(read_text)
    if container:
        found["container.id"] = container
    if variable("KUBERNETES_SERVICE_HOST"):
        for key, (long_name, short_name) in POD_VARIABLES.items():
            value = variable(long_name) or variable(short_name)
            if value:
                found[key] = value
    return found


def container_id(read_text: ReadText) -> str:
    """The container's id; empty if there is none."""
    for path, pattern in (
        ("/proc/self/cgroup", _CONTAINER_ID),
        ("/proc/self/mountinfo", _CONTAINER_MOUNT),
    ):
        try:
            found = pattern.findall(read_text(path))
        except OSError:
            continue
        if found:
            return str(found[0])
    return ""
