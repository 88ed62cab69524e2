# Shared by the set-up scripts; sourced, never run. Sets ROOT, CACHE and PATH.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE="$ROOT/.cache"
VENV="$ROOT/.venv"
export PATH="$VENV/bin:$CACHE/node/node_modules/.bin:$PATH:/usr/sbin:/sbin"
mkdir -p "$CACHE"

say() { printf '>> %s\n' "$*" >&2; }
die() { printf '!! %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Run a command quietly; show its whole output only when it fails.
quietly() {
    local log
    log=$(mktemp "$CACHE/log.XXXXXX")
    if "$@" >"$log" 2>&1; then rm -f "$log"; else
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
}

# apt_install WHY PACKAGE...: install distribution packages, or say what to do where that is impossible.
apt_install() {
    local why=$1
    shift
    have apt-get || die "$why is missing and this is not Debian or Ubuntu: install it, then run this again ($*)"
    [ "$(id -u)" = 0 ] || die "$why is missing: run 'sudo apt-get install $*', then run this again"
    say "installing $why ($*)"
    if [ -z "$(find /var/lib/apt/lists -name '*Packages*' -mtime -1 -print -quit 2>/dev/null)" ]; then
        quietly apt-get update || die "'apt-get update' failed (see above): are the package sources reachable?"
    fi
    DEBIAN_FRONTEND=noninteractive quietly apt-get install -y --no-install-recommends "$@" ||
        { quietly apt-get update && DEBIAN_FRONTEND=noninteractive quietly apt-get install -y \
            --no-install-recommends "$@"; } || die "'apt-get install $*' failed (see above)"
}
