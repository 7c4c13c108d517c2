#!/bin/bash
# The checks that take a program of their own: licences, bans, advisories, unused dependencies, spelling.
#   lint-tools.sh           runs those that are installed and says how to install the others, which fails where CI is set
#   lint-tools.sh install   installs those that are missing
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
# A program, how it tells its version, the crate that brings it, and the version that this was tried with.
tools=(
    "cargo-deny|$cargo deny --version|cargo-deny|0.20.2"
    "cargo-machete|$cargo machete --version|cargo-machete|0.9.2"
    "typos|typos --version|typos-cli|1.52.0"
)

check() {
    case $1 in
        cargo-deny) "$cargo" deny --locked check bans licenses sources && packaging/advisories.sh ;;
        cargo-machete) "$cargo" machete ;;
        typos) typos ;;
    esac
}

failed=()
for tool in "${tools[@]}"; do
    IFS='|' read -r name ask crate version <<<"$tool"
    if $ask >/dev/null 2>&1; then
        [ "${1:-}" = install ] || check "$name" || failed+=("$name")
    elif [ "${1:-}" = install ]; then
        "$cargo" install "$crate" --locked --version "$version"
    else
        echo "$name is not installed and was not run: cargo install $crate --locked --version $version" >&2
        [ -z "${CI:-}" ] || failed+=("$name")
    fi
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
