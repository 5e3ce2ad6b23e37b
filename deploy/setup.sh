#!/bin/sh
# Installs what building and testing need and this machine lacks, on Debian or Ubuntu.
#   deploy/setup.sh build     Rust and a C compiler
#   deploy/setup.sh servers   the same, PostgreSQL and RabbitMQ
#   deploy/setup.sh test      the same, PgBouncer, cargo-nextest, Node.js, Python and Chromium for the client
#                             libraries, the contract's linter and TimescaleDB as WebAssembly
# Needs root or sudo only when something is missing. Starts no service of the system: what needs
# servers starts its own.
set -eu

say() { printf '%s\n' "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif have sudo; then sudo "$@"
    else fail "not root and no sudo: install the Debian packages yourself: $packages"
    fi
}

packages=
want() { # want COMMAND-OR-FILE... -- PACKAGE...
    while [ "$1" != -- ]; do
        if have "$1" || [ -x "$1" ]; then return 0; fi
        shift
    done
    shift
    packages="$packages $*"
}

# Denies every start of a service, for as long as the installation takes.
install_quietly='
    policy=/usr/sbin/policy-rc.d
    if ! [ -e $policy ]; then
        trap "rm -f $policy" EXIT
        trap "exit 1" HUP INT TERM
        printf "#!/bin/sh\nexit 101\n" >$policy
        chmod 755 $policy
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
'

install_packages() {
    [ -n "$packages" ] || return 0
    have apt-get || fail "no apt-get here: install these by hand, then try again:$packages"
    say "installing$packages"
    as_root apt-get -qq update || fail "apt-get update failed: check the network and the package sources"
    # shellcheck disable=SC2086 # a list of packages
    as_root sh -c "$install_quietly" install $packages || fail "apt-get could not install$packages"
    packages=
}

rust_version_min=1.91
rust_is_new_enough() {
    have cargo || return 1
    found=$(rustc --version 2>/dev/null | cut -d' ' -f2)
    [ "$(printf '%s\n%s\n' "$rust_version_min" "$found" | sort -V | head -n 1)" = "$rust_version_min" ]
}

install_rust() {
    PATH="$HOME/.cargo/bin:$PATH"
    rust_is_new_enough && return 0
    say "installing Rust (rustup, stable) for $(id -un)"
    if ! have rustup; then
        want curl -- curl ca-certificates
        install_packages
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y -q --profile minimal --component clippy,rustfmt ||
            fail "no Rust $rust_version_min and rustup could not be fetched: install it from https://rustup.rs"
    else
        rustup -q toolchain install stable --profile minimal --component clippy,rustfmt
        rustup -q default stable
    fi
    rust_is_new_enough || fail "Rust $rust_version_min or later is needed, found: $(rustc --version 2>&1)"
}

case "${1:-}" in
build | servers | test) ;;
*) fail "usage: deploy/setup.sh build|servers|test" ;;
esac

want cc -- gcc libc6-dev
if [ "$1" != build ]; then
    want /usr/lib/postgresql/*/bin/postgres -- postgresql
    want /usr/lib/rabbitmq/bin/rabbitmq-server -- rabbitmq-server
    want erl_call -- erlang-base
fi
if [ "$1" = test ]; then
    want node -- nodejs
    want npm -- npm
    want chromium -- chromium
    want curl -- curl
    want openssl -- openssl
    # uWSGI, which the Python library is tested under, is built from source.
    python3 -c 'import ensurepip, os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' \
        2>/dev/null || packages="$packages python3 python3-venv python3-dev"
    want /usr/sbin/pgbouncer -- pgbouncer
    docker compose version >/dev/null 2>&1 || want docker-compose -- docker-compose
fi
install_packages
install_rust
if [ "$1" = test ] && ! { cargo clippy --version && cargo fmt --version; } >/dev/null 2>&1; then
    say "installing clippy and rustfmt"
    rustup -q component add clippy rustfmt || fail "cargo clippy and cargo fmt are missing: install them"
fi
if [ "$1" = test ] && ! cargo nextest --version >/dev/null 2>&1; then
    say "installing cargo-nextest"
    cargo install --locked --quiet cargo-nextest || fail "cargo-nextest could not be installed"
fi

timescaledb=$(dirname "$0")/../testkit/timescaledb
if [ "$1" = test ] && ! [ "$timescaledb/node_modules/.package-lock.json" -nt "$timescaledb/package-lock.json" ]; then
    say "installing TimescaleDB as WebAssembly"
    npm --prefix "$timescaledb" ci --silent --no-fund --no-audit || fail "npm could not install TimescaleDB"
fi
