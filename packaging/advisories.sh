#!/bin/bash
# Looks for known vulnerabilities in the crates of Cargo.lock, without the internet, in a copy of
# RustSec's advisory database: ADVISORY_DB names its folder or a .tar.gz of it.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
if [ -z "${ADVISORY_DB:-}" ]; then
    echo "advisories were not checked: set ADVISORY_DB to a copy of RustSec's database (see CONTRIBUTING.md), or," \
        "where the internet can be reached, run: cargo deny check advisories"
    exit 0
fi
# Offline, cargo-deny wants every crate of every target at hand.
"$cargo" fetch --locked --quiet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The name under which cargo-deny keeps what it fetches from RustSec's repository.
db=$work/advisory-db-3157b0e258782691
mkdir "$db"
if [ -d "$ADVISORY_DB" ]; then cp -r "$ADVISORY_DB/." "$db"; else tar -xzf "$ADVISORY_DB" -C "$db"; fi
if ! [ -d "$db/crates" ]; then
    echo "ADVISORY_DB=$ADVISORY_DB holds no folder crates: it is no copy of RustSec's database" >&2
    exit 1
fi
newest=$(grep -rhoE --include='*.md' '^date = "[0-9-]+"' "$db/crates" | sort | tail -1 | cut -d'"' -f2)
echo "checking against $(find "$db/crates" -name '*.md' | wc -l) advisories, the newest of $newest"
# cargo-deny looks only at the age of this file of a repository.
mkdir -p "$db/.git"
touch "$db/.git/FETCH_HEAD"
{ cat deny.toml; printf '\n[advisories]\ndb-path = "%s"\n' "$work"; } >"$work/deny.toml"
"$cargo" deny --offline --locked --config "$work/deny.toml" check advisories
