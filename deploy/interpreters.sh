#!/bin/sh
# Prints the interpreters that a client library is tested with, one a line: the oldest and the newest
# that are here.
#   deploy/interpreters.sh python   python3, and what pyenv has, 3.9 and later
#   deploy/interpreters.sh node     node, and what the npm registry has, 18 and later
set -eu

# Node.js that the client library must run on, and the newest that it was tried with.
node_oldest=18
node_newest=24

pythons() {
    for python in "$(command -v python3)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3; do
        if [ -x "$python" ] && "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
            printf '%s %s\n' "$("$python" -c 'import sys; print("%d.%02d" % sys.version_info[:2])')" "$python"
        fi
    done | sort -u -k 1,1
}

nodes() {
    for version in $node_oldest $node_newest; do
        folder="${CARGO_TARGET_DIR:-$PWD/target}/tools/node-$version"
        [ -x "$folder/node_modules/node/bin/node" ] ||
            npm install --silent --no-fund --no-audit --prefix "$folder" "node@$version" >&2
        printf '%s %s\n' "$version" "$folder/node_modules/node/bin/node"
    done
    # Debian's own may be any version between.
    printf '%02d %s\n' "$(node --version | sed 's/^v//; s/\..*//')" "$(command -v node)"
}

case "${1:-}" in
python) pythons | sed -n '1p;$p' | sort -u | cut -d' ' -f2 ;;
node) nodes | sort -u -k 1,1 | sed -n '1p;$p' | sort -u | cut -d' ' -f2 ;;
*) printf 'usage: deploy/interpreters.sh python|node\n' >&2; exit 2 ;;
esac
