#!/bin/sh
# Prints what the library costs: a call, a core, the event loop and memory at the cap, beside what people use
# otherwise. Needs the built package. NODE: the Node, `node` by default.
set -eu
cd "$(dirname "$0")"
npm ci --silent --no-fund --no-audit
for bench in call sustained delay memory; do "${NODE:-node}" "$bench.mjs"; done
