# shellcheck shell=bash disable=SC2034,SC2154 # Variables are shared with setup_cluster.sh.
# The end of a deployment: the API, called through HTTPS as a user would. Sourced.

checked_person=

host_of() {
    local host=${1#*://}
    host=${host%%/*}
    case $host in
    '['*) host=${host#'['} && printf '%s\n' "${host%%]*}" ;;
    *) printf '%s\n' "${host%%:*}" ;;
    esac
}

port_of() {
    local rest=${1#*://}
    rest=${rest%%/*}
    rest=${rest##*]}
    case $rest in
    *:*) printf '%s' "${rest##*:}" ;;
    *) printf 443 ;;
    esac
}

# Where the entry is reached: as given, or on this machine.
find_url() {
    if [ -n "$url" ]; then
        url=${url%/}
        case $url in https://?*) ;; *) fail "--url must begin with https://" ;; esac
    elif [ -n "$entry" ] || [ "$context" = "$KIND_CONTEXT" ]; then
        url=https://localhost
    fi
}

# curl without the person's own settings, and past proxies where the entry is said to be near.
call() {
    local options=(--disable --silent --show-error --connect-timeout 5 --max-time 30)
    if [ -n "$authority" ]; then
        options+=(--cacert "$authority")
    fi
    if [ -n "$entry" ]; then
        options+=(--noproxy '*' --connect-to "$(host_of "$url"):$(port_of "$url"):$entry")
    else
        options+=(--noproxy 'localhost,127.0.0.1,::1')
    fi
    curl "${options[@]}" "$@"
}

# expect STATUS METHOD PATH OPTIONS...: the call is answered with that status.
expect() {
    local expected=$1 method=$2 path=$3 status
    shift 3
    # Answers of a service that is not there yet, or not any more, are asked for again; keys make that harmless.
    status=$(call --request "$method" --retry 8 --retry-connrefused --retry-max-time 60 --output "$work/answer" \
        --write-out '%{http_code}' "$@" "$url$path" 2>"$work/curl.log") || status="no answer"
    if [ "$status" != "$expected" ]; then
        cat "$work/curl.log" >&2
        [ ! -f "$work/answer" ] || { head -c 2000 "$work/answer" >&2 && echo >&2; }
        ns get pods >&2 || true
        fail "$method $url$path: $status in place of $expected" \
            "Look: ./setup_cluster.sh status; ./setup_cluster.sh logs" "Then run again: $again"
    fi
    note "$method $path: $status"
}

check_entry() {
    local key person service
    step "The API, as a user"
    find_authority
    if [ -z "$url" ]; then
        note "not called: say where the entry is, by --url https://HOST or --entry HOST:PORT"
        return
    fi
    for service in user-manager data-collector; do
        call --fail --output /dev/null --retry 60 --retry-delay 1 --retry-all-errors --retry-max-time "$(left)" \
            "$url/$service/ping" 2>"$work/curl.log" || {
            tail -n 3 "$work/curl.log" >&2
            ns get pods >&2 || true
            fail "$url/$service/ping does not answer" \
                "The pods are ready, so look at the entry: the ports, the certificate." "Then run again: $again"
        }
        note "GET /$service/ping: 200"
    done
    key=$(random_text 20)
    person=setup-check-$(printf '%s' "$key" | tr '[:upper:]' '[:lower:]')@example.org
    checked_person=$person
    printf '{"email":"%s","first_name":"Setup","last_name":"Check"}' "$person" >"$work/person.json"
    expect 201 POST /user-manager/users --header "Idempotency-Key: $key" --header 'Content-Type: application/json' \
        --data "@$work/person.json"
    expect 200 GET "/user-manager/users/$person"
    expect 200 DELETE "/user-manager/users/$person" --header "Idempotency-Key: $key-away"
    checked_person=
}

# An interrupted check leaves nobody behind, as far as the entry answers.
remove_checked_person() {
    call --request DELETE --header "Idempotency-Key: $(random_text 20)" --output /dev/null \
        "$url/user-manager/users/$checked_person" 2>/dev/null || true
}

print_next() {
    local with=
    [ -n "$url" ] || return 0
    if [ -n "$authority" ]; then
        with=" --cacert $authority"
    fi
    if [ -n "$entry" ]; then
        with="$with --connect-to $(host_of "$url"):$(port_of "$url"):$entry"
    fi
    cat <<TEXT

Flightbell answers at $url. Try next:
    curl$with $url/user-manager/ping
    curl$with -H 'Idempotency-Key: 1' -H 'Content-Type: application/json' \\
        -d '{"email":"you@example.org","first_name":"A","last_name":"B"}' $url/user-manager/users
    curl$with -H 'Content-Type: application/json' \\
        -d '{"email":"you@example.org","airport_code":"LFPG","high_value":10}' $url/data-collector/interests
    $url/user-manager/docs and $url/data-collector/docs in a browser
    ./setup_cluster.sh open      Grafana and Prometheus on this machine
    ./setup_cluster.sh status    what runs
    ./setup_cluster.sh logs      what the services say
TEXT
    if [ "$context" = "$KIND_CONTEXT" ]; then
        cat <<TEXT
    ./setup_cluster.sh down      deletes the cluster and its data
Nobody has to sign in yet, so only this machine reaches it (listenAddress in kind-config.yaml).
TEXT
    fi
    if [ -n "$authority" ]; then
        echo "Browsers trust the certificate once its authority is imported: $authority"
    fi
}
