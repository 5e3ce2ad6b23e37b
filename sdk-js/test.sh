#!/bin/sh
# Builds, lints and tests the package. LOGWEIR_BINARY: the server's binary, for the tests of the whole path.
# NODE: the Node to test with, `node` by default. Lint and build run with the Node on the PATH.
set -eu
cd "$(dirname "$0")"
: "${LOGWEIR_BINARY:?give the path of the logweir binary}"
export LOGWEIR_BINARY

if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
	npm ci --silent --no-fund --no-audit
fi
npm run --silent build
npm run --silent lint
# A test that hangs ends the run after a while, rather than never.
exec timeout 30m "${NODE:-node}" --test test/*.test.mjs
