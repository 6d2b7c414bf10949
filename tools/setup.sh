#!/usr/bin/env bash
# Everything that running and testing need, once: safe to run again, and quick the second time.
#   tools/setup.sh run    the virtual environment and, for the demo, a broker
#   tools/setup.sh test   that, and the real parts of the tests; each is skipped loudly if not to be had
# What this machine says about package sources is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
want=${1:-run}
mkdir -p .tools
say() { printf 'setup: %s\n' "$*" >&2; }
missing() { printf 'setup: NOT AVAILABLE: %s\n' "$*" >&2; }

# --- Python: plain python3 where it is new enough, else the newest that runs ----------------
runs() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
find_python() {
    local each
    for each in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$each" >/dev/null 2>&1 && runs "$each"; then
            command -v "$each"
            return
        fi
    done
    return 1
}

make_venv() {
    local python
    python=$(find_python) || { say "no Python 3.11 or newer on the PATH; install one"; exit 2; }
    say "virtual environment with $("$python" --version)"
    if ! "$python" -m venv .venv 2>/dev/null; then
        rm -rf .venv
        apt_get python3-venv || true
        "$python" -m venv .venv || { say "python -m venv fails; install python3-venv"; exit 2; }
    fi
}

# --- Debian packages: as root only, and no service is ever started --------------------------
apt_get() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    local policy=/usr/sbin/policy-rc.d made=no rc=0
    if [ ! -e "$policy" ]; then
        made=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    say "apt: $*"
    { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" ||
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }
    } </dev/null >.tools/apt.log 2>&1 || rc=1
    [ "$made" = no ] || rm -f "$policy"
    return $rc
}

has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }
program() { # program package what-for
    has "$1" || { apt_get "$2" && has "$1"; } || missing "$1 ($3)"
}

# A peer of the failover bench runs only when the bench starts it: what this script brought in is
# also kept from starting at the next boot, as Debian would have it.
peer() {
    has "$1" && return
    program "$1" "$1" "a peer of the failover bench"
    ! has "$1" || ! has systemctl || systemctl disable "$1" </dev/null >>.tools/apt.log 2>&1 || true
}

# --- the steps -------------------------------------------------------------------------------
[ -x .venv/bin/python ] && runs .venv/bin/python || make_venv
stamp=.venv/.installed-$(cat requirements-test.lock pyproject.toml | cksum | tr -d ' ')
if [ ! -e "$stamp" ]; then
    say "Python packages, each checked against its hash"
    .venv/bin/python -m pip install --quiet --no-input --require-hashes -r requirements-test.lock </dev/null
    .venv/bin/python -m pip install --quiet --no-input --no-deps --no-build-isolation -e . </dev/null
    rm -f .venv/.installed-*
    touch "$stamp"
fi

program mosquitto mosquitto "MQTT broker; without it the demo looks for another and says so"
program mosquitto_sub mosquitto-clients "listens to the demo's telemetry; only its line is left out"
[ "$want" = test ] || exit 0

program nft nftables "namespace rig"
program ip iproute2 "namespace rig"
program systemd-analyze systemd "checks the service unit"
program openssl openssl "certificates in tests"
peer nginx
peer haproxy

pin=github.com/Shopify/toxiproxy/v2
if [ -x .tools/server ] && { ! has go || go version -m .tools/server | grep -q "$pin.*v2\.12\.0"; }; then
    :
elif has go; then
    say "Toxiproxy v2.12.0 (about 30 s)"
    GOBIN=$PWD/.tools go install "$pin/cmd/server@v2.12.0" </dev/null >.tools/go.log 2>&1 &&
        go version -m .tools/server | grep -q "$pin.*v2\.12\.0" || missing "Toxiproxy (.tools/go.log)"
else
    missing "Go, so Toxiproxy (its rig's tests are skipped)"
fi

if [ -f tests/real/package-lock.json ]; then
    node_stamp=tests/real/node_modules/.installed-$(cksum <tests/real/package-lock.json | tr -d ' ')
    if [ -e "$node_stamp" ]; then
        :
    elif has npm; then
        say "Medplum's router, the FHIR server that no one here wrote"
        if (cd tests/real && npm ci --no-audit --no-fund --ignore-scripts) </dev/null >.tools/npm.log 2>&1
        then touch "$node_stamp"
        else missing "Medplum (.tools/npm.log)"
        fi
    else
        missing "node and npm, so Medplum (its tests are skipped)"
    fi
fi
