#!/bin/bash
# Checks each crate by itself. In a build of the whole workspace a crate may use features of a dependency that only
# another crate asks for.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
for manifest in crates/*/Cargo.toml proto/Cargo.toml services/*/Cargo.toml; do
    name=$(sed -n 's/^name = "\(.*\)"/\1/p' "$manifest" | head -1)
    echo "==> $name alone"
    "$cargo" check --locked --quiet --package "$name" --all-targets
done
