#!/bin/bash
# Makes the secrets of compose.yaml in ./secrets: random passwords, the URLs of the databases, the token of the Telegram
# bot, and OpenSky's credentials where there are any. Running it again keeps every password;
# the token and the credentials are replaced when the environment or .env names others.
#   TELEGRAM_BOT_TOKEN                           needed the first time, from the environment or .env
#   OPEN_SKY_CLIENT_ID, OPEN_SKY_CLIENT_SECRET   both or neither
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/secrets

# A setting from the environment, or else from .env. The file is read, not run.
setting() {
    local key=$1 value=${!1:-}
    if [ -z "$value" ] && [ -e "$root/.env" ]; then
        value=$(sed -nE "s/^(export )?$key=//p" "$root/.env" | tail -n 1)
        value=${value%$'\r'}
        if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
    fi
    printf '%s' "$value"
}

# Whole or not at all: a file that an interrupted run had begun would be kept by the next one.
put() {
    printf '%s' "$2" >"$folder/.new"
    mv "$folder/.new" "$folder/$1"
    echo "made secrets/$1"
}

password() {
    if ! [ -s "$folder/$1" ]; then put "$1" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"; fi
}

same() { [ -e "$folder/$1" ] && [ "$(<"$folder/$1")" = "$2" ]; }

# What an operator gives, taken over when it is new.
given() {
    if [ -n "$2" ] && ! same "$1" "$2"; then put "$1" "$2"; fi
}

refuse() {
    echo "$1" >&2
    exit 1
}

token=$(setting TELEGRAM_BOT_TOKEN)
client_id=$(setting OPEN_SKY_CLIENT_ID)
client_secret=$(setting OPEN_SKY_CLIENT_SECRET)
if [ -z "$token" ] && ! [ -s "$folder/telegram-bot-token" ]; then
    refuse "TELEGRAM_BOT_TOKEN is missing: get one from @BotFather in Telegram (/newbot), put the line
TELEGRAM_BOT_TOKEN=... into $root/.env or set it in the environment, and run this again"
fi
if [ "${client_id:+set}" != "${client_secret:+set}" ]; then
    refuse "OPEN_SKY_CLIENT_ID and OPEN_SKY_CLIENT_SECRET must be set together, or neither for anonymous access"
fi

# Compose mounts the files with their owner and mode, and the containers' users are others than who runs this. So the
# files can be read by all, and the folder keeps the users of this machine out.
mkdir -p "$folder"
chmod 0700 "$folder"
umask 022

password postgres-password
password grafana-admin-password
for service in user-manager data-collector alert-system notifier; do
    password "$service-password"
    name=${service//-/_}
    given "$service-database-url" "postgres://$name:$(<"$folder/$service-password")@postgres:5432/$name"
done
given telegram-bot-token "$token"
given open-sky-client-id "$client_id"
given open-sky-client-secret "$client_secret"

if [ -s "$folder/open-sky-client-id" ] && [ -s "$folder/open-sky-client-secret" ]; then
    echo "OpenSky's credentials are used with: docker compose -f compose.yaml -f packaging/compose/opensky.yaml up -d"
fi
echo "secrets/ is complete; the password of Grafana's user admin is in secrets/grafana-admin-password"
