# shellcheck shell=bash disable=SC2034,SC2154 # Variables are shared with setup_cluster.sh.
# The Secrets of k8s/base/secrets.template.yaml. The cluster keeps them: what is there stays, unless .env says otherwise
# or it is rotated. Values pass through files in $work only. Sourced.

SERVICES="user-manager data-collector alert-system notifier"

# Reads a Secret of the cluster into $work/now/NAME, a file for each key, with a copy in $work/want/NAME to be changed.
load_secret() {
    local name=$1 key value
    local now=$work/now/$name want=$work/want/$name
    if [ -d "$want" ]; then
        return 0
    fi
    mkdir -p "$now" "$want"
    # shellcheck disable=SC2016 # The dollar signs are those of the template.
    ns get secret "$name" --ignore-not-found --output=go-template \
        --template='{{.type}}{{"\n"}}{{range $key, $value := .data}}{{$key}} {{$value}}{{"\n"}}{{end}}' \
        >"$work/now/$name.text" || fail "the Secret $name cannot be read"
    {
        read -r value || value=
        printf '%s' "$value" >"$work/now/$name.type"
        while read -r key value; do
            printf '%s' "$value" | base64 --decode >"$now/$key"
            cp "$now/$key" "$want/$key"
        done
    } <"$work/now/$name.text"
}

is_in_cluster() {
    [ -s "$work/now/$1.type" ]
}

# Whether the cluster, if there is one, holds a value already.
secret_in_cluster_has() {
    [ -n "$context" ] || return 1
    load_secret "$1"
    [ -s "$work/now/$1/$2" ]
}

# Takes a credential over into a key, if it is given.
take() {
    if is_given "$3"; then
        cp "$work/given/$3" "$work/want/$1/$2"
    fi
}

random_text() {
    head -c 64 /dev/urandom | base64 | LC_ALL=C tr -dc 'A-Za-z0-9' | cut -c "1-$1"
}

# A random value for a key that has none.
make_random() {
    local file=$work/want/$1/$2
    if [ ! -s "$file" ]; then
        random_text "$3" | tr -d '\n' >"$file"
    fi
}

# Writes a Secret if it differs from what the cluster has. $2 is the type of a new one.
save_secret() {
    local name=$1 type=${2:-Opaque} file done=made key labels
    if diff -r "$work/now/$name" "$work/want/$name" >/dev/null; then
        note "Secret $name is as it should be"
        return
    fi
    if is_in_cluster "$name"; then
        type=$(cat "$work/now/$name.type")
        done=changed
    fi
    labels="app.kubernetes.io/name: $name, app.kubernetes.io/part-of: flightbell"
    if [ "$type" = kubernetes.io/basic-auth ]; then
        # CloudNativePG takes a changed password over at once.
        labels="$labels, cnpg.io/reload: \"true\""
    fi
    {
        printf 'apiVersion: v1\nkind: Secret\ntype: %s\n' "$type"
        printf 'metadata:\n  name: %s\n  namespace: %s\n  labels: {%s}\ndata:\n' "$name" "$namespace" "$labels"
        for file in "$work/want/$name"/*; do
            key=${file##*/}
            printf '  %s: ' "$key"
            base64 <"$file" | tr -d '\n'
            printf '\n'
        done
    } >"$work/secret.yaml"
    apply "$work/secret.yaml" || fail "the Secret $name cannot be written"
    rm -f "$work/secret.yaml"
    # A copy, not a move: what is wanted is read on.
    rm -rf "${work:?}/now/$name"
    cp -R "$work/want/$name" "$work/now/$name"
    printf '%s' "$type" >"$work/now/$name.type"
    note "Secret $name: $done"
}

needs_secret() {
    grep -qx "$1" "$work/secrets-needed"
}

# Whether this script makes a Secret.
is_ours() {
    case " $SERVICES migrate postgres kafka grafana flightbell-tls kafka-client " in
    *" $1 "*) ;;
    *) return 1 ;;
    esac
}

# Secrets that pods cannot start without, and that neither this script nor an operator makes.
check_other_secrets() {
    local name
    {
        cat "$work/secrets-needed"
        # The backups of CloudNativePG.
        if grep -q '^ObjectStore ' "$work/objects"; then
            echo postgres-backup
        fi
    } >"$work/secrets-to-check"
    while read -r name; do
        if is_ours "$name"; then
            continue
        fi
        case $name in
        postgres-ca) if grep -q '^Cluster ' "$work/objects"; then continue; fi ;;
        kafka-user-* | *-cluster-ca-cert) if grep -q '^Kafka ' "$work/objects"; then continue; fi ;;
        esac
        if [ -n "$context" ]; then
            load_secret "$name"
        fi
        is_in_cluster "$name" || fail "the overlay $overlay needs the Secret $name in the namespace $namespace" \
            "k8s/components says what belongs into it: make it (kubectl create namespace $namespace, if that is not" \
            "there yet, and kubectl create secret), and run this again. Nothing was changed."
    done <"$work/secrets-to-check"
}

# Who keeps the passwords of the databases' roles: the component postgres, cloudnative-pg, or the operator of a server.
find_database() {
    if needs_secret postgres; then
        database=postgres
    elif grep -q '^Cluster postgres$' "$work/objects"; then
        database=cloudnative-pg
    else
        database=external
    fi
}

database_key() {
    printf '%s_DATABASE_URL' "$1" | tr 'a-z-' 'A-Z_'
}

# The address of a service's database, on standard output.
database_url() {
    local role=${1//-/_}
    case $database in
    postgres) printf 'postgres://%s:%s@postgres/%s' "$role" "$(cat "$work/want/postgres/$1-password")" "$role" ;;
    cloudnative-pg)
        printf 'postgres://%s:%s@postgres-rw:5432/%s?sslmode=verify-full&sslrootcert=%s' "$role" \
            "$(cat "$work/want/postgres-$1/password")" "$role" /run/flightbell/postgres-ca/ca.crt
        ;;
    external)
        if is_given "$(database_key "$1")"; then
            cat "$work/given/$(database_key "$1")"
        elif [ -s "$work/want/$1/database-url" ]; then
            cat "$work/want/$1/database-url"
        else
            cat "$work/want/migrate/$1-database-url"
        fi
        ;;
    esac
}

# Everything that is missing to make the Secrets is told before anything is changed.
check_credentials() {
    local service missing=
    check_other_secrets
    if needs_secret notifier; then
        need_telegram_token
    fi
    if [ "$database" = external ]; then
        for service in $SERVICES; do
            if ! is_given "$(database_key "$service")" && ! secret_in_cluster_has "$service" database-url; then
                missing="$missing $(database_key "$service")"
            fi
        done
        if [ -n "$missing" ]; then
            fail "the overlay $overlay has no PostgreSQL of its own, and $env_file does not say where one is" \
                "Missing:$missing" "Each is postgres://ROLE:PASSWORD@HOST/DATABASE, of a role that owns the database."
        fi
    fi
    if needs_secret kafka-client && ! secret_in_cluster_has kafka-client sasl-password; then
        if ! is_given KAFKA_SASL_USERNAME || ! is_given KAFKA_SASL_PASSWORD || ! is_given KAFKA_CA_FILE; then
            fail "the brokers want an account, and the Secret kafka-client is not there" \
                "Put KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_CA_FILE (the path of the certificate of the" \
                "brokers' authority) into $env_file, or make the Secret."
        fi
    fi
}

# Secrets that depend on nothing: passwords, and what .env gives. Those of PostgreSQL's roles come first of all, so that
# what is cut off here goes on with the same passwords.
make_own_secrets() {
    local service
    if [ "$database" = postgres ]; then
        load_secret postgres
        for service in $SERVICES; do
            if [ "$rotate_databases" = true ]; then
                rm -f "$work/want/postgres/$service-password"
            fi
            make_random postgres "$service-password" 32
        done
        make_random postgres postgres-password 32
        save_secret postgres
    elif [ "$database" = cloudnative-pg ]; then
        for service in $SERVICES; do
            load_secret "postgres-$service"
            printf '%s' "${service//-/_}" >"$work/want/postgres-$service/username"
            make_random "postgres-$service" password 32
            save_secret "postgres-$service" kubernetes.io/basic-auth
        done
    fi
    if needs_secret kafka; then
        load_secret kafka
        # 16 bytes in base64url are 22 characters, whose last one holds two bits only.
        if [ ! -s "$work/want/kafka/cluster-id" ]; then
            make_random kafka cluster-id 21
            printf A >>"$work/want/kafka/cluster-id"
        fi
        save_secret kafka
    fi
    if needs_secret grafana; then
        load_secret grafana
        make_random grafana admin-password 24
        save_secret grafana
    fi
    if needs_secret kafka-client; then
        load_secret kafka-client
        take kafka-client sasl-username KAFKA_SASL_USERNAME
        take kafka-client sasl-password KAFKA_SASL_PASSWORD
        if is_given KAFKA_CA_FILE; then
            cp "$(cat "$work/given/KAFKA_CA_FILE")" "$work/want/kafka-client/ca.crt" ||
                fail "the file of KAFKA_CA_FILE cannot be read"
        fi
        save_secret kafka-client
    fi
}

# Fills the Secrets of the services in $work/want; nothing is written yet.
prepare_service_secrets() {
    local service
    load_secret migrate
    for service in $SERVICES; do
        load_secret "$service"
        database_url "$service" >"$work/database-url" 2>/dev/null || true
        [ -s "$work/database-url" ] || fail "the address of the database of $service is not known"
        cp "$work/database-url" "$work/want/$service/database-url"
        cp "$work/database-url" "$work/want/migrate/$service-database-url"
    done
    rm -f "$work/database-url"
    take notifier telegram-bot-token TELEGRAM_BOT_TOKEN
    take data-collector open-sky-client-id OPEN_SKY_CLIENT_ID
    take data-collector open-sky-client-secret OPEN_SKY_CLIENT_SECRET
}

# Whether services hold an address with another password than the one that the server is to have: then the server learns
# the new one first. So no pod starts with a password that the server does not know.
passwords_change() {
    local service
    [ "$database" = postgres ] || return 1
    for service in $SERVICES; do
        if [ -f "$work/now/$service/database-url" ] &&
            ! cmp -s "$work/now/$service/database-url" "$work/want/$service/database-url"; then
            return 0
        fi
    done
    return 1
}

save_service_secrets() {
    local service
    for service in $SERVICES migrate; do
        save_secret "$service"
    done
}
