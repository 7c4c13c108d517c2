#!/bin/bash
# What `make check-k8s` runs: holds the manifests, and what belongs to them, against real tools and a real API server.
#   check.sh              every part, in this order
#   check.sh PART...      single parts: tools render schemas lint prometheus shell server tests
# Neither a cluster nor a container engine is needed. Programs are built once, outside the checkout (k8s/lab/build).
# FLIGHTBELL_CHECK_KEEP names an empty or new folder to keep the rendered manifests in.
set -euo pipefail
# Programs keep things in the home folder; where HOME is not set, bash knows it all the same.
if [ -z "${HOME-}" ]; then HOME=$(cd ~ && pwd) && export HOME; fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
k8s=$root/k8s
lab=$k8s/lab
jobs=$(nproc)
cd "$root"

say() { printf '==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# A count of nothing means that the check looked in the wrong place.
counted() { # NUMBER WHAT
    [ "$1" -gt 0 ] 2>/dev/null || fail "no $2 found"
}

# shellcheck source-path=SCRIPTDIR source=render.sh
. "$here/render.sh"
# shellcheck source-path=SCRIPTDIR source=manifests.sh
. "$here/manifests.sh"
# shellcheck source-path=SCRIPTDIR source=files.sh
. "$here/files.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$here/server.sh"

part_tools() {
    local tools
    tools=$("$lab/build" tools)
    PATH=$tools:$PATH
    "$lab/build" api >/dev/null
    local programs
    programs=$(find "$tools/" "$("$lab/build" -n api)/" -type f | wc -l)
    counted "$programs" programs
    summary="$programs programs are there"
}

# The tests in Rust that hold manifests against the code, and setup_cluster.sh against stand-ins.
part_tests() {
    FLIGHTBELL_MANIFESTS=$work/manifests "${CARGO:-cargo}" test --locked -p flightbell --test manifests
    "${CARGO:-cargo}" test --locked -p flightbell --test setup_cluster
    summary="the tests of the manifests and of setup_cluster.sh passed"
}

# What a part needs before it; everything needs the tools.
needs_render() { case $1 in schemas | lint | server | tests) return 0 ;; *) return 1 ;; esac; }

run_part() {
    local began=$SECONDS
    summary=
    "part_$1"
    [ -n "$summary" ] || fail "$1 says nothing"
    say "$1: $summary in $((SECONDS - began)) s"
}

main() {
    local part program parts=("$@") rendered=
    # Before a quarter of an hour of building is spent.
    for program in go git "${CARGO:-cargo}"; do
        command -v "$program" >/dev/null || fail "$program is missing; the check needs Go 1.26, git and Rust"
    done
    if [ ${#parts[@]} = 0 ]; then parts=(tools render schemas lint prometheus shell server tests); fi
    for part in "${parts[@]}"; do
        declare -F "part_$part" >/dev/null || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
    done
    work=$(mktemp -d "${TMPDIR:-/tmp}/flightbell-check.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    run_part tools
    for part in "${parts[@]}"; do
        if [ "$part" = tools ]; then continue; fi
        if [ -z "$rendered" ] && needs_render "$part"; then run_part render; rendered=yes; fi
        if [ "$part" = render ]; then if [ -n "$rendered" ]; then continue; else rendered=yes; fi; fi
        run_part "$part"
    done
    say "check-k8s: passed in $SECONDS s"
}

main "$@"
