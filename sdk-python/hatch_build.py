"""Makes `src/logweir/wire.py` of the .proto files.

The module holds descriptors, not protoc's Python code, which is bound to the version of protoc: so any
protoc will do here, and any protobuf since 4.22 at the user's. The classes live in a pool of their own
and cannot clash with what the program has made of the same files.

An sdist carries the module and no .proto files of the contract: building from it needs no protoc.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
CONTRACT = ROOT.parent / "proto"
FILES = ["logweir/v1/log.proto", "logweir/v1/ingest.proto", "status.proto"]
PROTOC = "grpcio-tools>=1.62"
HEADER = '''"""The messages of the wire contract. Generated from the .proto files; not to be edited."""

from typing import Any

from google.protobuf import descriptor_pool, message_factory

_pool = descriptor_pool.DescriptorPool()
'''


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    def dependencies(self) -> list[str]:
        return [PROTOC] if CONTRACT.is_dir() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if CONTRACT.is_dir():
            (ROOT / "src/logweir/wire.py").write_text(module(descriptors()))


def descriptors() -> bytes:
    """The descriptors of all files, each after those that it imports."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "descriptors.bin")
        includes = [f"-I{CONTRACT}", f"-I{ROOT}"]
        if protoc.main(["protoc", *includes, f"--descriptor_set_out={out}", *FILES]) != 0:
            raise RuntimeError("protoc cannot read the .proto files; see its message above")
        return out.read_bytes()


def module(descriptor_set: bytes) -> str:
    from google.protobuf import descriptor_pb2

    lines = [HEADER]
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file:
        lines.append(f"_pool.AddSerializedFile({file.SerializeToString()!r})")
        for message in file.message_type:
            name = f"{file.package}.{message.name}"
            found = f'_pool.FindMessageTypeByName("{name}")'
            lines.append(f"{message.name}: Any = message_factory.GetMessageClass({found})")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "src/logweir/wire.py").write_text(module(descriptors()))
