# shellcheck shell=bash
# Functions of the lab's node. They need those of control-plane.sh and of `lab`.
# shellcheck disable=SC2154,SC2034

set -euo pipefail
ns=${LAB_NS:-flightbell-lab}
node_address=10.77.0.1
node_servers=(metrics-server kube-proxy kubelet kube-scheduler kube-controller-manager containerd kube-apiserver etcd)

inside() { nsenter "--net=/run/netns/$ns" -- "$@"; }
images() { ctr -a "$socket" -n k8s.io "$@"; }

# What every command of the node needs: root, its names, and how a server is started.
node() {
    [ "$(id -u)" = 0 ] || fail "the node needs root"
    [[ $ns =~ ^[a-z0-9][a-z0-9-]*$ ]] || fail "LAB_NS takes small letters, digits and hyphens: $ns"
    run=${LAB_RUN:-/run/$ns}
    [[ $run = /?* ]] || fail "LAB_RUN is an absolute path: $run"
    [ ${#run} -lt 80 ] || fail "LAB_RUN is too long for the name of a socket: $run"
    socket=$run/containerd.sock
    launcher=(setsid nsenter "--net=/run/netns/$ns" --)
    export KUBECONFIG=$run/admin.kubeconfig
    mkdir -p "$run"
}

# One `up` or `down` at a time. The servers must not hold the lock: `start` runs without file 9.
one_at_a_time() { exec 9>"/run/lock/$ns.lock"; flock 9; }

network() {
    ip netns list | grep -qw "$ns" || ip netns add "$ns"
    inside ip link set lo up
    # A pair of veth, since some kernels have no dummy interfaces.
    if ! inside ip link show node0 >/dev/null 2>&1; then
        inside ip link add node0 type veth peer name node0-peer
        inside ip link set node0-peer up
        inside ip addr add $node_address/24 dev node0
        inside ip link set node0 up
        inside ip route add default via $node_address dev node0
    fi
    inside sysctl -qw net.ipv4.ip_forward=1
}

# Below a group of our own, so that nothing of another kubelet's is ever met: one in cgroup v2, one in each hierarchy
# of v1.
cgroups() {
    local folder file
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mkdir -p "/sys/fs/cgroup/$ns"; return; fi
    for folder in /sys/fs/cgroup/*/; do
        [ -e "$folder/cgroup.procs" ] || continue
        mkdir -p "$folder$ns"
        # A new cpuset is empty, and nothing can be put in it.
        for file in cpuset.cpus cpuset.mems; do
            if [ ! -e "$folder$ns/$file" ] || [ -n "$(cat "$folder$ns/$file")" ]; then continue; fi
            cat "$folder$file" >"$folder$ns/$file"
        done
    done
}

remove_cgroups() {
    local folder pid _
    for folder in "/sys/fs/cgroup/$ns" /sys/fs/cgroup/*/"$ns"; do
        [ -d "$folder" ] || continue
        for _ in $(seq 20); do
            find "$folder" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u |
                while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done
            find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
            [ -d "$folder" ] || break
            sleep .1
        done
    done
}

configure_containerd() {
    mkdir -p "$run"/{cni,containerd,state}
    cat >"$run/cni/10-bridge.conflist" <<Y
{"cniVersion": "1.0.0", "name": "lab", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "$run/cni-ipam", "ranges": [[{"subnet": "10.244.0.0/24"}]],
           "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
Y
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE every pod would fail: "can't get final child's PID from pipe".
    # netns_mounts_under_state_dir: the pods' namespaces lie in our folder and not among those of others.
    cat >"$run/containerd.toml" <<Y
version = 3
root = "$run/containerd"
state = "$run/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "$socket"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "local/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  enable_unprivileged_ports = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "$run/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
Y
}

configure_kubelet() {
    local pki=$run/pki
    mkdir -p "$run/kubelet"
    # Pods ask CoreDNS, and CoreDNS asks nobody.
    echo "nameserver 127.0.0.53" >"$run/resolv.conf"
    cat >"$run/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$ns
containerRuntimeEndpoint: unix://$socket
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $run/resolv.conf
failSwapOn: false
evictionHard: {memory.available: 100Mi, nodefs.available: 1Gi}
imageGCHighThresholdPercent: 100
volumePluginDir: $run/kubelet/plugins
podLogsDir: $run/podlogs
Y
}

configure_proxy() {
    cat >"$run/proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: $pod_network
hostnameOverride: node1
clientConnection: {kubeconfig: $run/proxy.kubeconfig}
conntrack: {maxPerCore: 0}
Y
    inside kubectl create clusterrolebinding lab-proxy --clusterrole=system:node-proxier --user=system:kube-proxy \
        --dry-run=client -o yaml | inside kubectl apply -f - >/dev/null
}

# The kubelet changes these for the whole machine. All nodes share one note of what they were, and the last that goes
# puts them back. A kernel that starts anew forgets both, and so does /run.
sysctls=/run/flightbell-lab-sysctls

# In a subshell, which gives the lock back however it ends.
remember_sysctls() (
    exec 7>/run/lock/flightbell-lab-sysctls.lock
    flock 7
    mkdir -p "$sysctls/nodes"
    if [ ! -f "$sysctls/values" ]; then
        for name in vm.overcommit_memory kernel.panic kernel.panic_on_oops; do
            echo "$name=$(sysctl -n $name)"
        done >"$sysctls/new" && mv "$sysctls/new" "$sysctls/values"
    fi
    touch "$sysctls/nodes/$ns"
)

restore_sysctls() (
    exec 7>/run/lock/flightbell-lab-sysctls.lock
    flock 7
    rm -f "$sysctls/nodes/$ns"
    if rmdir "$sysctls/nodes" 2>/dev/null; then
        if [ -f "$sysctls/values" ]; then sysctl -qp "$sysctls/values" >/dev/null; fi
        rm -rf "$sysctls"
    fi
)

own_image() { # NAME USER
    local archive=$run/$1.tar
    if [ ! -f "$archive" ]; then
        "$here/mkimage.py" "$archive" "local/$1:1" --user "$2" --file "$(command -v "$1")=/$1" -- "/$1" >/dev/null
    fi
    images images import --local "$archive" >/dev/null
}

start_node() {
    local scheduler=$run/scheduler.kubeconfig archive
    # Ports are those of a real cluster: the network is our own.
    network
    certificates $node_address
    kubeconfigs 6443
    start_etcd
    until_ok etcd 30 test -S "$run/etcd.sock:0"
    # Pods ask it too, at the address of its Service.
    start_apiserver 6443 $node_address --bind-address 0.0.0.0
    until_ok kube-apiserver 90 inside kubectl get --raw /readyz
    start_controller_manager
    start kube-scheduler kube-scheduler --kubeconfig "$scheduler" --authentication-kubeconfig "$scheduler" \
        --authorization-kubeconfig "$scheduler" --leader-elect=false --bind-address 127.0.0.1
    cgroups
    remember_sysctls
    configure_containerd
    start containerd containerd -c "$run/containerd.toml"
    until_ok containerd 30 ctr -a "$socket" version
    own_image pause 65532:65532
    own_image coredns 0
    for archive in "$@"; do images images import --local "$archive" >/dev/null; done
    configure_kubelet
    start_kubelet
    configure_proxy
    start kube-proxy kube-proxy --config "$run/proxy.yaml"
    until_ok kubelet 60 inside kubectl wait --for=condition=Ready node/node1 --timeout=1s
    start_metrics
    inside kubectl apply -f "$here/coredns.yaml" >/dev/null
    inside kubectl -n kube-system rollout status deploy/coredns --timeout=90s >&2
}

start_kubelet() {
    start kubelet kubelet --config "$run/kubelet.yaml" --kubeconfig "$run/kubelet.kubeconfig" \
        --root-dir "$run/kubelet" --cert-dir "$run/kubelet-pki" --hostname-override node1 --node-ip $node_address
}

# `kubectl top` and HorizontalPodAutoscalers ask it, by way of the API server.
start_metrics() {
    local admin=$run/admin.kubeconfig pki=$run/pki authority
    authority=$(base64 -w 0 "$pki/ca.crt")
    inside kubectl apply -f - >/dev/null <<Y
apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {ports: [{name: https, port: 443, targetPort: 4443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: metrics-server, namespace: kube-system, labels: {kubernetes.io/service-name: metrics-server}}
addressType: IPv4
ports: [{name: https, port: 4443}]
endpoints: [{addresses: [$node_address]}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  service: {name: metrics-server, namespace: kube-system}
  group: metrics.k8s.io
  version: v1beta1
  caBundle: $authority
  groupPriorityMinimum: 100
  versionPriority: 100
Y
    start metrics-server metrics-server --kubeconfig "$admin" --authentication-kubeconfig "$admin" \
        --authorization-kubeconfig "$admin" --secure-port 4443 --tls-cert-file "$pki/metrics.crt" \
        --tls-private-key-file "$pki/metrics.key" --kubelet-certificate-authority "$pki/ca.crt" \
        --kubelet-preferred-address-types InternalIP --metric-resolution 10s --kubelet-request-timeout 5s
}

# Without it nobody looks after the pods, which run on.
node_kubelet() {
    node
    programs api node
    one_at_a_time
    [ -e "/run/netns/$ns" ] || fail "the node is not up"
    case ${1:-} in
        down) stop kubelet ;;
        up)
            start_kubelet
            until_ok kubelet 60 inside kubectl wait --for=condition=Ready node/node1 --timeout=1s ;;
    esac
}

# A node that could not start, or was interrupted while starting, leaves nothing; one that ran before is left running.
node_up() {
    local archive name was_up=
    for archive in "$@"; do [ -r "$archive" ] || fail "no such image archive: $archive"; done
    node
    programs api node
    one_at_a_time
    for name in "${node_servers[@]}"; do if alive "$name"; then was_up=yes; fi; done
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    if [ -z "$was_up" ]; then trap 'stop_node' EXIT; fi
    start_node "$@"
    trap - EXIT
    say "the node is up; talk to it with: $0 run kubectl get pods -A"
}

node_import() {
    local archive
    node
    programs api node
    for archive in "$@"; do images images import --local "$archive"; done
}

node_run() {
    node
    programs api node
    [ -e "/run/netns/$ns" ] || fail "the node is not up"
    inside "$@"
}

stop_containers() {
    local id _
    for id in $(images task ls -q 2>/dev/null); do images task kill -s SIGKILL "$id" >/dev/null 2>&1 || true; done
    for _ in $(seq 30); do
        for id in $(images task ls -q 2>/dev/null); do images task rm "$id" >/dev/null 2>&1 || true; done
        [ -n "$(images task ls -q 2>/dev/null)" ] || break
        sleep .1
    done
    for id in $(images containers ls -q 2>/dev/null); do images containers rm "$id" >/dev/null 2>&1 || true; done
}

# Shims outlive containerd: only those of our own socket, each by its process id.
stop_shims() {
    local process
    for process in /proc/[0-9]*; do
        if tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -q -- "containerd-shim-runc-v2 .*-address $socket "; then
            kill "${process#/proc/}" 2>/dev/null || true
        fi
    done
}

# What still runs in the node's network: a server that was started but whose number was not noted yet, a shim that does
# not go, a command of `run`. The namespace would live on with them.
stop_rest() {
    local signal pid _
    # Whoever calls from inside is no server.
    [ "$(stat -Lc %i "/run/netns/$ns" 2>/dev/null)" != "$(stat -Lc %i /proc/self/ns/net)" ] || return 0
    for signal in TERM KILL; do
        for pid in $(ip netns pids "$ns" 2>/dev/null); do kill "-$signal" "$pid" 2>/dev/null || true; done
        for _ in $(seq 30); do
            [ -n "$(ip netns pids "$ns" 2>/dev/null)" ] || return 0
            sleep .1
        done
    done
}

# Every step may find that nothing is left to do: it also cleans up after a node that was cut off half-way.
stop_node() {
    local name mount
    trap '' INT TERM HUP
    if alive kubelet && alive kube-apiserver; then
        # Pods are ended through the API first, so that they stop in an orderly way; nobody may make new ones.
        stop kube-controller-manager
        timeout 40 nsenter "--net=/run/netns/$ns" -- \
            kubectl delete pods --all -A --grace-period=1 >/dev/null 2>&1 || true
    fi
    for name in "${outside_servers[@]}"; do stop_outside "$name"; done
    stop kubelet
    stop kube-proxy
    if alive containerd; then stop_containers; fi
    for name in "${node_servers[@]}"; do stop "$name"; done
    stop_shims
    stop_rest
    remove_cgroups
    awk '{print $2}' /proc/mounts | { grep "^$run/" || true; } | sort -r |
        while read -r mount; do umount -l "$mount" || true; done
    # The namespace takes bridge, veth pairs and every nftables and iptables rule with it.
    ip netns del "$ns" 2>/dev/null || true
    restore_sysctls
}

node_down() {
    local part
    node
    # To stop, nothing is built.
    for part in api node; do PATH=$("$here/build" -n "$part"):$PATH; done
    export PATH=$PATH:/usr/sbin:/sbin
    one_at_a_time
    stop_node
    if [ "${1:-}" = -r ]; then
        # Nothing is removed that is not a node's folder, wherever LAB_RUN points.
        [ -d "$run/pki" ] || [ -z "$(ls -A "$run")" ] || fail "$run is no folder of a node: it is left alone"
        rm -rf --one-file-system "$run"
    fi
}
