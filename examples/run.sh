#!/bin/sh
# A shop of three services in three languages, and Logweir beside it: makes some checkouts, then shows
# what one of them left in all three services, by its trace id. Ctrl-C ends it; `run.sh once` ends by
# itself, and fails unless what each service says last is in that trace.
#
# Needs the release or debug binary in $LOGWEIR_BINARY, the payments in $PAYMENTS_BINARY, a Python with
# logweir and requirements.txt in $PYTHON, and the packages of express/ installed.
set -eu
cd "$(dirname "$0")"
say() { printf '%s\n' "example: $*" >&2; }

folder=$(mktemp -d)
processes=
finish() {
    # shellcheck disable=SC2086 # a list of process ids
    [ -z "$processes" ] || { kill $processes; wait $processes; } 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

free_port() {
    "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() { # start NAME COMMAND...: in the background, with its output kept
    name=$1
    shift
    "$@" >"$folder/$name.log" 2>&1 &
    processes="$processes $!"
}

await() { # await WHAT COMMAND...: until the command succeeds
    what=$1
    shift
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ]; then
            say "$what does not come up; this is what the services say:"
            tail -n 5 "$folder"/*.log >&2
            exit 1
        fi
        sleep 0.1
    done
}

LOGWEIR_ENDPOINT="http://127.0.0.1:$(free_port)"
export LOGWEIR_ENDPOINT
start logweir "$LOGWEIR_BINARY" standalone --data-dir "$folder/data" --listen "${LOGWEIR_ENDPOINT#http://}"
await Logweir curl -sf "$LOGWEIR_ENDPOINT/readyz"
LOGWEIR_TOKEN=$("$LOGWEIR_BINARY" token issue --service '*' --role admin --data-dir "$folder/data")
export LOGWEIR_TOKEN

payments=$(free_port) orders=$(free_port) gateway=$(free_port)
start payments "$PAYMENTS_BINARY" "$payments"
start orders env PAYMENTS_URL="http://127.0.0.1:$payments" \
    "$PYTHON" -m uvicorn --app-dir fastapi app:app --port "$orders" --log-level warning
start gateway env ORDERS_URL="http://127.0.0.1:$orders" PORT="$gateway" node express/server.js
await "the gateway" curl -s "http://127.0.0.1:$gateway/"
await "the service of orders" curl -s "http://127.0.0.1:$orders/"
await "the service of payments" curl -s "http://127.0.0.1:$payments/"

for cart in apples tea; do curl -s "http://127.0.0.1:$gateway/checkout/$cart" >/dev/null; done
# A cart with so long a name costs more than the card has.
answer=$(curl -s "http://127.0.0.1:$gateway/checkout/a-very-large-television")
trace=$(printf '%s' "$answer" | sed -n 's/.*"trace":"00-\([0-9a-f]*\)-.*/\1/p')
say "a checkout was answered $answer"

of_trace() { "$LOGWEIR_BINARY" search "trace:$trace" --from -1h "$@"; }
is_complete() {
    found=$(of_trace --json)
    for message in "card declined" "was not paid" "checkout failed"; do
        printf '%s' "$found" | grep -q "$message" || return 1
    done
}
await "the logs of its trace" is_complete
say "what the three services logged about it, by its trace id:"
of_trace

[ "${1:-}" != once ] || exit 0
say "the shop: curl http://127.0.0.1:$gateway/checkout/tea"
say "its logs: LOGWEIR_ENDPOINT=$LOGWEIR_ENDPOINT LOGWEIR_TOKEN=$LOGWEIR_TOKEN $LOGWEIR_BINARY tail"
say "Ctrl-C ends it"
wait
