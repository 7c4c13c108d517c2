# shellcheck shell=bash
# Functions of the lab: processes and their ends, certificates, etcd, API server and controller manager.
# Whoever sources this sets: run (the folder of the state), launcher (what starts a server), inside (what reaches it).
# shellcheck disable=SC2154

set -euo pipefail
service_network=10.96.0.0/16
pod_network=10.244.0.0/16

say() { printf '==> %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# When a process began, in the kernel's ticks: with the id it names one process, also after the id was used again.
began() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # After the program's name, which may hold spaces and ends with the last bracket.
    read -ra fields <<<"${stat##*) }"
    echo "${fields[19]}"
}

start() {
    local name=$1
    shift
    if alive "$name"; then return; fi
    "${launcher[@]}" "$@" >"$run/$name.log" 2>&1 </dev/null 9>&- &
    echo "$! $(began $!)" >"$run/$name.pid"
}

alive() {
    local pid time
    read -r pid time 2>/dev/null <"$run/$1.pid" || return 1
    [ "$(began "$pid")" = "$time" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null
}

stop() {
    local name=$1 pid
    if alive "$name"; then
        read -r pid _ <"$run/$name.pid"
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 150); do alive "$name" || break; sleep .1; done
        if alive "$name"; then kill -KILL "$pid" 2>/dev/null || true; fi
    fi
    rm -f "$run/$name.pid"
}

# until_ok NAME SECONDS COMMAND...: waits until the command succeeds; ends at once when the process is gone.
until_ok() {
    local name=$1 deadline=$((SECONDS + $2))
    shift 2
    while [ $SECONDS -lt "$deadline" ]; do
        if "$@" >/dev/null 2>&1; then return; fi
        alive "$name" || break
        sleep .2
    done
    say "$name is not ready; the end of its log:"
    tail -5 "$run/$name.log" >&2
    return 1
}

# certificates ADDRESS...: authorities and leaves, once; addresses beyond the loopback one at which the servers answer.
certificates() (
    mkdir -p "$run/pki"
    cd "$run/pki"
    if [ -f .complete ]; then exit 0; fi
    # In a subshell: a umask like this one elsewhere would make the files of containers unreadable.
    umask 077
    local address names=IP:127.0.0.1 key=(-newkey ec -pkeyopt 'ec_paramgen_curve:P-256' -nodes)
    for address in "$@"; do names+=,IP:$address; done
    authority() {
        openssl req -x509 "${key[@]}" -keyout "$1.key" -out "$1.crt" -days 30 -subj "/CN=$1" \
            -addext basicConstraints=critical,CA:TRUE 2>/dev/null
    }
    leaf() { # FILE SUBJECT EXTENSIONS [AUTHORITY]
        openssl req "${key[@]}" -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
        openssl x509 -req -in "$1.csr" -CA "${4:-ca}.crt" -CAkey "${4:-ca}.key" -CAcreateserial -days 30 \
            -out "$1.crt" -extfile <(printf '%b' "$3") 2>/dev/null
    }
    local server="extendedKeyUsage=serverAuth" client="extendedKeyUsage=clientAuth" service=kubernetes.default.svc name
    authority ca
    authority front-ca
    leaf apiserver /CN=kube-apiserver \
        "$server\nsubjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:$service,IP:10.96.0.1,$names\n"
    leaf metrics /CN=metrics-server "$server\nsubjectAltName=DNS:metrics-server.kube-system.svc\n"
    leaf kubelet /O=system:nodes/CN=system:node:node1 "$server,clientAuth\nsubjectAltName=DNS:node1,$names\n"
    leaf admin /O=system:masters/CN=admin "$client\n"
    for name in controller-manager scheduler proxy; do leaf "$name" "/CN=system:kube-$name" "$client\n"; done
    leaf front /CN=front "$client\n" front-ca
    openssl genrsa -out sa.key 2048 2>/dev/null
    touch .complete
)

# kubeconfigs PORT
kubeconfigs() {
    local name pki=$run/pki
    for name in admin controller-manager scheduler kubelet proxy; do
        cat >"$run/$name.kubeconfig" <<Y
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:$1", certificate-authority: "$pki/ca.crt"}}]
users: [{name: lab, user: {client-certificate: "$pki/$name.crt", client-key: "$pki/$name.key"}}]
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
current-context: lab
Y
        chmod 600 "$run/$name.kubeconfig"
    done
}

# etcd listens on sockets in the private folder: no port to find, and no one else can reach it. It takes a socket's name
# as host and port, and makes the file in the folder it runs in.
start_etcd() {
    local client=unix://etcd.sock:0 peer=unix://peer.sock:0
    start etcd env -C "$run" etcd --data-dir "$run/etcd" --logger zap --unsafe-no-fsync \
        --listen-client-urls "$client" --advertise-client-urls "$client" --initial-cluster "default=$peer" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer"
}

# start_apiserver PORT ADVERTISED_ADDRESS [OPTION...]
start_apiserver() {
    local port=$1 address=$2 pki=$run/pki
    shift 2
    start kube-apiserver kube-apiserver --etcd-servers "unix://$run/etcd.sock:0" \
        --bind-address 127.0.0.1 --secure-port "$port" --advertise-address "$address" \
        --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
        --client-ca-file "$pki/ca.crt" --service-cluster-ip-range $service_network \
        --service-account-issuer https://kubernetes.default.svc.cluster.local \
        --service-account-key-file "$pki/sa.key" --service-account-signing-key-file "$pki/sa.key" \
        --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged=true \
        --profiling=false \
        --kubelet-client-certificate "$pki/admin.crt" --kubelet-client-key "$pki/admin.key" \
        --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP \
        --requestheader-client-ca-file "$pki/front-ca.crt" --requestheader-allowed-names front \
        --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
        --requestheader-extra-headers-prefix X-Remote-Extra- \
        --proxy-client-cert-file "$pki/front.crt" --proxy-client-key-file "$pki/front.key" "$@"
}

# start_controller_manager [OPTION...]
start_controller_manager() {
    local config=$run/controller-manager.kubeconfig pki=$run/pki
    start kube-controller-manager kube-controller-manager --kubeconfig "$config" \
        --authentication-kubeconfig "$config" --authorization-kubeconfig "$config" \
        --root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/sa.key" \
        --use-service-account-credentials --cluster-cidr $pod_network --allocate-node-cidrs \
        --service-cluster-ip-range $service_network --cluster-signing-cert-file "$pki/ca.crt" \
        --cluster-signing-key-file "$pki/ca.key" --leader-elect=false --bind-address 127.0.0.1 "$@"
}
