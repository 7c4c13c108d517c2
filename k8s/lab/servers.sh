# shellcheck shell=bash
# Functions of the lab's PostgreSQL and Kafka, which stand beside the cluster in the node's network, for the overlay
# `rehearsal`. They need those of control-plane.sh and of node.sh.
# shellcheck disable=SC2154

set -euo pipefail
outside_servers=(kafka postgres)

outside_server() {
    case $1 in
        kafka | postgres) echo "$1" ;;
        *) fail "the servers are kafka and postgres, not $1" ;;
    esac
}

outside_up() {
    local name
    node
    [ -e "/run/netns/$ns" ] || fail "the node is not up: the servers stand in its network"
    one_at_a_time
    mkdir -p "$run/servers"
    [ $# -gt 0 ] || set -- postgres kafka
    for name in "$@"; do "start_$(outside_server "$name")"; done
    write_env
    say "the servers are up at $node_address; \`setup_cluster.sh deploy\` reads $run/servers/env"
}

outside_down() {
    local name
    node
    one_at_a_time
    [ $# -gt 0 ] || set -- "${outside_servers[@]}"
    for name in "$@"; do stop_outside "$(outside_server "$name")"; done
}

stop_outside() {
    local pid
    # At SIGTERM PostgreSQL waits for its clients, which do not go.
    if [ "$1" = postgres ] && alive postgres; then
        read -r pid _ <"$run/postgres.pid"
        kill -INT "$pid" 2>/dev/null || true
    fi
    stop "$1"
}

as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }

start_postgres() {
    local folder=$run/servers/postgres bin name
    bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)
    [ -x "$bin/initdb" ] || fail "PostgreSQL is missing: packaging/deps.sh brings it"
    if [ ! -e "$folder/.complete" ]; then
        rm -rf "$folder"
        install -d -o postgres -g postgres -m 0700 "$folder"
        as_postgres "$bin/initdb" -D "$folder/data" -A peer -E UTF8 --locale=C.UTF-8 --no-instructions >/dev/null
        # Pods sign in with their passwords, as they do everywhere.
        echo "host all all 10.0.0.0/8 scram-sha-256" >>"$folder/data/pg_hba.conf"
        touch "$folder/.complete"
    fi
    start postgres setpriv --reuid=postgres --regid=postgres --init-groups -- \
        "$bin/postgres" -D "$folder/data" -k "$folder" -c "listen_addresses=$node_address" -c max_connections=320
    until_ok postgres 30 as_postgres "$bin/pg_isready" -h "$folder" -q
    # The same script as in a cluster, with the same passwords as long as the folder is there.
    mkdir -p "$folder/passwords"
    for name in postgres user-manager data-collector alert-system notifier; do
        [ -s "$folder/passwords/$name-password" ] || openssl rand -hex 16 >"$folder/passwords/$name-password"
    done
    chown -R postgres "$folder/passwords"
    as_postgres env "PATH=$bin:$PATH" "PGHOST=$folder" "PASSWORDS=$folder/passwords" \
        bash "$here/../components/postgres/databases.sh" >/dev/null
}

start_kafka() {
    local folder=$run/servers/kafka jars
    jars=${KAFKA_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/flightbell/kafka-4.3.1}/libs
    [ -d "$jars" ] || fail "Kafka's jars are missing: packaging/deps.sh brings them"
    if [ ! -e "$folder/.complete" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        {
            cat "$here/../../packaging/kafka/server.properties.in"
            echo "node.id=1"
            echo "listeners=PLAINTEXT://$node_address:9092,CONTROLLER://127.0.0.1:9093"
            echo "controller.quorum.bootstrap.servers=127.0.0.1:9093"
            echo "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
            echo "log.dirs=$folder/data"
            echo "offsets.topic.replication.factor=1"
            echo "log.flush.interval.messages=1"
        } >"$folder/server.properties"
        java -cp "$jars/*" kafka.tools.StorageTool format --standalone -t "$(openssl rand -base64 16 | tr '+/' '-_' |
            tr -d '=')" -c "$folder/server.properties" >"$folder/format.log" 2>&1 ||
            { cat "$folder/format.log" >&2; fail "Kafka's folder cannot be formatted"; }
        touch "$folder/.complete"
    fi
    start kafka java -Xms96m -Xmx256m -XX:+UseSerialGC \
        "-Dlog4j2.configurationFile=$here/../../packaging/kafka/log4j2.properties" -cp "$jars/*" kafka.Kafka "$folder/server.properties"
    until_ok kafka 60 grep -q 'Kafka Server started' "$run/kafka.log"
}

# What `setup_cluster.sh deploy --env-file` needs for these servers. The token is none of a real bot.
write_env() {
    local service key name
    [ -e "$run/servers/postgres/.complete" ] || return 0
    (
        umask 077
        {
            echo "TELEGRAM_BOT_TOKEN=123456:of-a-stand-in"
            for service in user-manager data-collector alert-system notifier; do
                name=${service//-/_}
                key=$(tr '[:lower:]' '[:upper:]' <<<"$name")_DATABASE_URL
                echo "$key=postgres://$name:$(<"$run/servers/postgres/passwords/$service-password")@$node_address/$name"
            done
        } >"$run/servers/env"
    )
}
