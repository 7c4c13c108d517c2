#!/bin/bash
# Makes the secrets of compose.yaml in ./secrets: random passwords, the URLs of the databases, the token of the Telegram
# bot, and OpenSky's credentials where there are any. Running it again keeps every password; the token and the
# credentials are replaced when the environment or .env names others. The code that reads .env is setup_cluster.sh's.
#   TELEGRAM_BOT_TOKEN                           needed the first time, from the environment or .env
#   OPEN_SKY_CLIENT_ID, OPEN_SKY_CLIENT_SECRET   both or neither
# shellcheck disable=SC2034,SC2154 # Variables are shared with the parts in k8s/setup.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/secrets
env_file=$root/.env
for part in say credentials; do
    # shellcheck source=/dev/null
    . "$root/k8s/setup/$part.sh"
done

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

# What is to stand in a file, taken over when it is new.
take_over() {
    if [ -n "$2" ] && ! same "$1" "$2"; then put "$1" "$2"; fi
}

# What an operator gives, in a file.
take_over_given() {
    if is_given "$2"; then take_over "$1" "$(<"$work/given/$2")"; fi
}

make_work_folder
read_credentials
if ! is_given TELEGRAM_BOT_TOKEN && ! [ -s "$folder/telegram-bot-token" ]; then
    ask_for_telegram_token
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
    take_over "$service-database-url" "postgres://$name:$(<"$folder/$service-password")@postgres:5432/$name"
done
take_over_given telegram-bot-token TELEGRAM_BOT_TOKEN
take_over_given open-sky-client-id OPEN_SKY_CLIENT_ID
take_over_given open-sky-client-secret OPEN_SKY_CLIENT_SECRET

if [ -s "$folder/open-sky-client-id" ] && [ -s "$folder/open-sky-client-secret" ]; then
    echo "OpenSky's credentials are used with: docker compose -f compose.yaml -f packaging/compose/opensky.yaml up -d"
fi
echo "secrets/ is complete; the password of Grafana's user admin is in secrets/grafana-admin-password"
