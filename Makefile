# make run       builds and starts everything in one process, with demo traffic, until Ctrl-C
# make cluster   the same as many processes: PostgreSQL, RabbitMQ, two of each kind of process
# make example   a shop of three services in Python, JavaScript and Rust, and one request's logs
# make packages  the client libraries as they are published: wheel, sdist, tarball, crates
# make test      every check, as CI runs it
# make bench     the whole path, and the client libraries, measured on this machine
# make faults    the long fault suites
SHELL := /bin/sh
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Where Node packages for the checks are kept: beside the build, outside the sources.
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
tools := $(CARGO_TARGET_DIR)/tools
buf := $(tools)/node_modules/.bin/buf
buf_version := 1.75.0

# Where the client libraries are installed for the tests and the example.
sdks := $(CARGO_TARGET_DIR)/sdks
packages := $(CARGO_TARGET_DIR)/packages
python := $(sdks)/python/bin/python
contract_files := proto/logweir/v1/log.proto proto/logweir/v1/ingest.proto

.PHONY: run cluster example packages sdks test bench faults lint contract built unit doc sdk-tests

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

test: lint contract unit doc sdk-tests
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

# The Python and JavaScript libraries where programs find them. Both make their code from the contract.
# OpenTelemetry's own libraries and the fuzzer lie apart, for they bring packages of their own versions.
# Environments of Python are made anew (`--clear`): what is kept of an older one names the folder and the
# interpreter that it was made with, and those may be gone.
sdks: $(python) sdk-js/dist/.built examples/express/node_modules/.installed \
	$(sdks)/opentelemetry-python/.installed $(sdks)/opentelemetry-js/.installed $(sdks)/schemathesis/.installed

$(python): $(contract_files) $(shell find sdk-python -name '*.py' -o -name '*.toml' -o -name '*.proto')
	@deploy/setup.sh test
	python3 -m venv --clear $(sdks)/python
	$(python) -m pip install --quiet --disable-pip-version-check --force-reinstall ./sdk-python \
		-r examples/fastapi/requirements.txt
	@touch $(python)

sdk-js/dist/.built: $(contract_files) $(shell find sdk-js/src -type f) sdk-js/package-lock.json
	@deploy/setup.sh test
	npm --prefix sdk-js ci --silent --no-fund --no-audit
	npm --prefix sdk-js run --silent build
	@touch $@

examples/express/node_modules/.installed: sdk-js/dist/.built examples/express/package.json
	npm --prefix examples/express install --silent --no-fund --no-audit --no-package-lock
	@touch $@

$(sdks)/opentelemetry-python/.installed: cli/tests/otlp_sdks/requirements.txt
	@deploy/setup.sh test
	python3 -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(sdks)/opentelemetry-js/.installed: cli/tests/otlp_sdks/package.json
	@deploy/setup.sh test
	@mkdir -p $(@D) && cp $< $(@D)
	npm install --silent --no-fund --no-audit --no-package-lock --prefix $(@D)
	@touch $@

# A fuzzer that reads the OpenAPI document.
$(sdks)/schemathesis/.installed: cli/tests/schemathesis/requirements.txt
	@deploy/setup.sh test
	python3 -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

packages:
	@deploy/setup.sh test
	@mkdir -p $(packages)
	sdk-rust/package.sh
	python3 -m pip wheel --quiet --no-deps --wheel-dir $(packages) ./sdk-python
	npm --prefix sdk-js ci --silent --no-fund --no-audit
	cd sdk-js && npm pack --silent --pack-destination $(packages)
	@ls $(packages)

example: sdks
	cargo build --quiet --release -p logweir -p logweir-example-payments
	@PYTHON=$(python) LOGWEIR_BINARY=$(CARGO_TARGET_DIR)/release/logweir \
		PAYMENTS_BINARY=$(CARGO_TARGET_DIR)/release/logweir-example-payments examples/run.sh

built:
	@deploy/setup.sh test
	cargo nextest run --workspace --no-run

# One PostgreSQL and one RabbitMQ for all tests, which end with them.
unit: sdks built
	$(CARGO_TARGET_DIR)/debug/testkit share cargo nextest run --workspace --no-fail-fast

doc:
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet

# Each library with the interpreters that are here: the oldest and the newest.
sdk-tests: sdks built
	for python in $$(deploy/interpreters.sh python); do \
		LINT=$$(deploy/interpreters.sh python | tail -n 1 | grep -x $$python) PYTHON=$$python LOGWEIR_BINARY=$(CARGO_TARGET_DIR)/debug/logweir sdk-python/test.sh || exit 1; done
	for node in $$(deploy/interpreters.sh node); do \
		NODE=$$node LOGWEIR_BINARY=$(CARGO_TARGET_DIR)/debug/logweir sdk-js/test.sh || exit 1; done

bench: sdks
	@deploy/setup.sh test
	cargo build --release --quiet -p logweir -p logweir-bench
	$(CARGO_TARGET_DIR)/release/logweir-bench --binary $(CARGO_TARGET_DIR)/release/logweir
	$(CARGO_TARGET_DIR)/release/logweir-bench --binary $(CARGO_TARGET_DIR)/release/logweir --distributed 5000000
	$(CARGO_TARGET_DIR)/release/logweir-bench --sdks

# The long fault suites: a million logs and twenty kills of the server, the same by the client library
# of each language, sixty of a sender with a spool, thirty of `logweir send` in ten minutes of
# rotation, fifty while people are told, and everything that may die in the distributed setting; a
# million calls of one tenant about another, more than twenty ways of one tenant to hurt another, and
# thousands of requests made from the OpenAPI document. They print their seeds.
faults: sdks
	@deploy/setup.sh test
	LOGWEIR_FAULTS=long cargo nextest run --profile faults --workspace --no-capture \
		-E 'package(logweir) & binary(/^(faults|spool|rotation|sdks|alerting|distributed_faults|cross_tenant|noisy|openapi)$$/)'
