# make run     builds and starts everything in one process, with demo traffic, until Ctrl-C
# make cluster the same as many processes: PostgreSQL, RabbitMQ, two of each kind of process
# make test    every check, as CI runs it
# make bench   the whole path measured on this machine
# make faults  the long fault suites
SHELL := /bin/sh
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Where Node packages for the checks are kept: beside the build, outside the sources.
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
tools := $(CARGO_TARGET_DIR)/tools
buf := $(tools)/node_modules/.bin/buf
buf_version := 1.75.0

.PHONY: run cluster test bench faults lint contract unit doc

run:
	@deploy/setup.sh build
	@echo "building; the first time takes some minutes" >&2
	@cargo build --release -p logweir
	@exec $(CARGO_TARGET_DIR)/release/logweir standalone --demo

cluster:
	@deploy/setup.sh servers
	@echo "building; the first time takes some minutes" >&2
	@cargo build --release -p logweir
	@cargo build --quiet -p logweir-testkit
	@exec $(CARGO_TARGET_DIR)/debug/testkit cluster $(CARGO_TARGET_DIR)/release/logweir

test: lint contract unit doc
	@echo "all checks passed"

lint:
	@deploy/setup.sh test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	if docker compose version >/dev/null 2>&1; then docker compose config --quiet; \
		else docker-compose config --quiet; fi

$(buf):
	@deploy/setup.sh test
	npm install --silent --no-fund --no-audit --prefix $(tools) @bufbuild/buf@$(buf_version)

# The contract may grow but not break: it is compared with the last released image.
contract: $(buf)
	$(buf) lint proto
	$(buf) breaking proto --against proto/released.binpb

# One PostgreSQL and one RabbitMQ for all tests, which end with them.
unit:
	@deploy/setup.sh test
	cargo nextest run --workspace --no-run
	$(CARGO_TARGET_DIR)/debug/testkit share cargo nextest run --workspace --no-fail-fast

doc:
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet

bench:
	@deploy/setup.sh test
	cargo build --release --quiet -p logweir -p logweir-bench
	$(CARGO_TARGET_DIR)/release/logweir-bench --binary $(CARGO_TARGET_DIR)/release/logweir
	$(CARGO_TARGET_DIR)/release/logweir-bench --binary $(CARGO_TARGET_DIR)/release/logweir --distributed 5000000

# The long fault suites: a million logs and twenty kills of the server, sixty of a sender with a
# spool, fifty while people are told, and everything that may die in the distributed setting. They
# print their seeds.
faults:
	@deploy/setup.sh test
	LOGWEIR_FAULTS=long cargo nextest run --profile faults -p logweir \
		--test faults --test spool --test alerting --test distributed_faults --no-capture
