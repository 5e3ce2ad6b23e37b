#!/bin/sh
# Makes what the Rust client library is published as: $CARGO_TARGET_DIR/packages/*.crate. On the way
# it compiles the messages of the wire contract into proto/src/generated, so that whoever depends on
# the packages, or on sdk-rust by its path after this has run once, compiles no .proto compiler.
set -eu
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
generated=proto/src/generated

mkdir -p "$generated" "$target/packages"
cargo run --quiet --release -p logweir-proto --features messages --example messages \
	> "$generated/logweir.v1.rs.new"
mv "$generated/logweir.v1.rs.new" "$generated/logweir.v1.rs"

# Neither built once more, which the tests did, nor with a lock file, which would ask a registry for
# logweir-proto.
cargo package --quiet --allow-dirty --no-verify --exclude-lockfile -p logweir-proto -p logweir-sdk
cp "$target"/package/logweir-proto-*.crate "$target"/package/logweir-sdk-*.crate "$target/packages"
ls "$target"/packages/*.crate
