#!/bin/sh
# Prints what the library costs: a call, a core, and memory at the cap, beside what people use otherwise.
# PYTHON: the interpreter, python3 if not set.
set -eu
cd "$(dirname "$0")"
venv=${CARGO_TARGET_DIR:-$PWD/../../target}/sdks/python-bench
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check .. grpcio opentelemetry-sdk \
    opentelemetry-exporter-otlp-proto-grpc
for bench in emit throughput memory; do "$venv/bin/python" "$bench.py"; done
