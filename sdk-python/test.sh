#!/bin/sh
# Builds the package, installs the wheel beside what its tests need, and runs them.
#
#   LOGWEIR_BINARY=… sdk-python/test.sh [ARGUMENTS OF PYTEST]
#
# LOGWEIR_BINARY: the server. PYTHON: the interpreter, python3 if not set. LINT=1: checks style and types, too.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
: "${LOGWEIR_BINARY:?names the server to test against: cargo build --release gives target/release/logweir}"
LOGWEIR_BINARY=$(cd "$(dirname "$LOGWEIR_BINARY")" && pwd)/$(basename "$LOGWEIR_BINARY")
export LOGWEIR_BINARY
python=${PYTHON:-python3}
version=$("$python" -c 'import platform; print(platform.python_version())')
work=${CARGO_TARGET_DIR:-$here/../target}/python-$version
mkdir -p "$work"
work=$(cd "$work" && pwd)

if ! cmp -s "$here/tests/requirements.txt" "$work/requirements.txt"; then
    "$python" -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --upgrade pip
    "$work/venv/bin/pip" install --quiet --prefer-binary --requirement "$here/tests/requirements.txt"
    cp "$here/tests/requirements.txt" "$work/requirements.txt"
fi
rm -rf "$work/dist"
"$work/venv/bin/python" -m build --outdir "$work/dist" "$here" >"$work/build.log" 2>&1 || {
    cat "$work/build.log"
    exit 1
}
"$work/venv/bin/pip" install --quiet --force-reinstall --no-deps "$work"/dist/*.whl
"$work/venv/bin/pip" install --quiet "$(echo "$work"/dist/*.whl)[zstd]"

cd "$here"
if [ "${LINT:-}" ]; then
    "$work/venv/bin/ruff" format --check --quiet .
    "$work/venv/bin/ruff" check --quiet .
    "$work/venv/bin/mypy"
fi
exec "$work/venv/bin/python" -m pytest -p no:cacheprovider "$@"
