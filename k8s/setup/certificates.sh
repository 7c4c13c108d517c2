# shellcheck shell=bash disable=SC2034,SC2154 # Variables are shared with setup_cluster.sh.
# The certificate of the entry, made by `flightbell certs`: an authority, kept on this machine so that people trust it
# once, and a server certificate. Sourced.

# Where things are kept between runs: one folder for the cluster of `up`, one for every other.
find_kept_folder() {
    kept=${XDG_DATA_HOME:-$HOME/.local/share}/flightbell/cluster
    if [ "$context" != "$KIND_CONTEXT" ]; then
        kept=$kept/$(printf '%s' "$context" | LC_ALL=C tr -c 'A-Za-z0-9._-' '_')
    fi
    tls=$kept/tls
}

# The names for which the certificate is made: those of this machine, of the overlay's hosts, of the address that is
# called, and those given; the last two as they were last given.
certificate_names() {
    if [ -n "$names" ] || [ "${url:-https://localhost}" != https://localhost ]; then
        {
            host_of "${url:-https://localhost}"
            # shellcheck disable=SC2086 # A list of words.
            printf '%s\n' $names
        } >"$kept/names"
    fi
    printf '%s\n' localhost 127.0.0.1 ::1
    cat "$work/hosts"
    if [ -f "$kept/names" ]; then
        cat "$kept/names"
    fi
}

# Sets `certs` to the command that runs `flightbell certs`, the folder $tls being $certs_folder to it.
find_certs_program() {
    local candidate image=flightbell/flightbell:$running_tag
    certs_folder=$tls
    if [ -n "${FLIGHTBELL-}" ]; then
        certs=("$FLIGHTBELL" certs)
        return
    fi
    if [ -n "$engine" ] || find_engine; then
        # With its whole name podman finds it too. An engine that lacks it is not to ask a registry; and an older image
        # cannot do it, nor can an engine that builds but does not run.
        if "$engine" image inspect "docker.io/$image" >/dev/null 2>&1 &&
            "$engine" run --rm --network none "docker.io/$image" certs --help >/dev/null 2>&1; then
            certs_folder=/certs
            certs=("$engine" run --rm --network none --security-opt label=disable --volume "$tls:/certs")
            # The files are to be this user's, who is root inside where the engine itself runs as this user.
            if [ "$engine" = podman ] ||
                "$engine" info --format '{{.SecurityOptions}}' 2>/dev/null | grep -q rootless; then
                certs+=(--user 0:0)
            else
                certs+=(--user "$(id -u):$(id -g)")
            fi
            certs+=("docker.io/$image" certs)
            return
        fi
    fi
    for candidate in "${CARGO_TARGET_DIR:-$root/target}"/{release,debug}/flightbell; do
        if [ -x "$candidate" ] && "$candidate" certs --help >/dev/null 2>&1; then
            certs=("$candidate" certs)
            return
        fi
    done
    fail "the program flightbell is not there, which makes the certificate" \
        "Build it (cargo build --release -p flightbell), or name it: FLIGHTBELL=<path> $again"
}

# Whether the cluster has a certificate that was not made with the authority on this machine, and that is to stay.
has_certificate_from_elsewhere() {
    load_secret flightbell-tls
    [ "$rotate_certificate" = false ] && is_in_cluster flightbell-tls &&
        ! cmp -s "$tls/ca.pem" "$work/now/flightbell-tls/ca.crt"
}

# Called before anything is changed.
check_certs_program() {
    find_kept_folder
    if needs_secret flightbell-tls && ! has_certificate_from_elsewhere; then
        find_certs_program
    fi
}

# Makes or renews the certificate and puts it into the Secret flightbell-tls. One that was made elsewhere stays.
make_certificate() {
    local name arguments=()
    if ! needs_secret flightbell-tls; then
        return
    fi
    find_kept_folder
    if has_certificate_from_elsewhere; then
        note "Secret flightbell-tls was not made with the authority in $tls: it stays"
        note "(--rotate certificate replaces it)"
        return
    fi
    (umask 077 && mkdir -p "$tls") || fail "the folder $tls cannot be made"
    if [ "$rotate_certificate" = true ]; then
        rm -f "$tls/cert.pem" "$tls/key.pem"
    fi
    find_certs_program
    while read -r name; do
        if [ -n "$name" ]; then
            arguments+=(--name "$name")
        fi
    done <<<"$(certificate_names | awk '!seen[$0]++')"
    "${certs[@]}" --dir "$certs_folder" "${arguments[@]}" >"$work/certs.log" 2>&1 || {
        cat "$work/certs.log" >&2
        fail "the certificate cannot be made" "It is made by: ${certs[*]} --dir $certs_folder ${arguments[*]}"
    }
    cp "$tls/cert.pem" "$work/want/flightbell-tls/tls.crt"
    cp "$tls/key.pem" "$work/want/flightbell-tls/tls.key"
    # By convention the authority lies beside it, so that every machine that deploys can check the entry.
    cp "$tls/ca.pem" "$work/want/flightbell-tls/ca.crt"
    save_secret flightbell-tls kubernetes.io/tls
}

# Sets `authority` to a file with the authority of the entry's certificate; empty where this machine trusts it already.
find_authority() {
    find_kept_folder
    authority=
    # What was loaded before may be older than what cert-manager has written since.
    rm -rf "$work/now/flightbell-tls" "$work/want/flightbell-tls"
    load_secret flightbell-tls
    if [ -s "$work/now/flightbell-tls/ca.crt" ]; then
        authority=$tls/ca.pem
        if ! cmp -s "$authority" "$work/now/flightbell-tls/ca.crt"; then
            authority=$kept/entry-ca.pem
            mkdir -p "$kept"
            cp "$work/now/flightbell-tls/ca.crt" "$authority"
        fi
    fi
}

# When the entry's certificate ends, in words.
certificate_end() {
    load_secret flightbell-tls
    if [ ! -s "$work/now/flightbell-tls/tls.crt" ]; then
        echo "no certificate yet"
    elif has openssl; then
        openssl x509 -noout -enddate -in "$work/now/flightbell-tls/tls.crt" | sed 's/^notAfter=/until /'
    else
        echo "openssl, which would tell, is not here"
    fi
}
