#!/bin/bash
# Writes the offline data of the SQL checks anew, each service's against a database with its migrations.
# `with-servers` runs this and tells where PostgreSQL is; see `make sqlx`.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
if ! "$cargo" sqlx --version >/dev/null 2>&1; then
    echo "sqlx-cli is missing: cargo install sqlx-cli --locked --version 0.9.0 --no-default-features" \
        "--features postgres,rustls,sqlx-toml" >&2
    exit 1
fi
for settings in services/*/sqlx.toml; do
    service=$(basename "$(dirname "$settings")")
    key=$(sed -nE 's/^database-url-var = "(.*)"/\1/p' "$settings")
    url=postgres://postgres@$FLIGHTBELL_TEST_POSTGRES/${service//-/_}
    echo "==> $service"
    "$cargo" sqlx database create --no-dotenv --database-url "$url"
    "$cargo" sqlx migrate run --no-dotenv --source "migrations/$service" --database-url "$url"
    (cd "services/$service" && env -u SQLX_OFFLINE "$key=$url" "$cargo" sqlx prepare)
done
