# shellcheck shell=bash disable=SC2034,SC2154 # Variables are shared with setup_cluster.sh.
# The first half of `up`: a cluster of kind on this machine, with our images and Envoy Gateway in it. Sourced.

KIND_CLUSTER=flightbell
KIND_CONTEXT=kind-flightbell
ENVOY_GATEWAY=v1.9.2
IMAGES="user-manager data-collector alert-system notifier flightbell"

kind_cluster_exists() {
    local clusters
    clusters=$(kind get clusters 2>"$work/kind.log") || {
        cat "$work/kind.log" >&2
        fail "kind does not tell which clusters there are"
    }
    grep -qx "$KIND_CLUSTER" <<<"$clusters"
}

# $kept/being-made tells a cluster whose making was cut off, which kind cannot complete.
make_kind_cluster() {
    step "Cluster $KIND_CLUSTER"
    find_kept_folder
    if kind_cluster_exists; then
        if [ -f "$kept/being-made" ]; then
            note "its making was interrupted: it is made anew"
            if [ -n "$(kube get namespace flightbell --output=name --request-timeout=20s 2>/dev/null)" ]; then
                fail "but the namespace flightbell is in it, so it was completed by other means" \
                    "To keep it: rm $kept/being-made. To begin anew: ./setup_cluster.sh down."
            fi
            kind delete cluster --name "$KIND_CLUSTER" || fail "kind could not delete what is left of it"
        else
            check_kind_cluster
            note "is there"
            return
        fi
    fi
    mkdir -p "$kept"
    : >"$kept/being-made"
    kind create cluster --name "$KIND_CLUSTER" --config "$root/kind-config.yaml" --wait 180s || {
        # kind usually removes what it could not complete.
        kind_cluster_exists || rm -f "$kept/being-made"
        fail "kind could not make the cluster" \
            "Port 80 or 443 taken: kind-config.yaml says how to use others." \
            "Too many open files: sudo sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512" \
            "Then: ./setup_cluster.sh up"
    }
    rm -f "$kept/being-made"
}

# A cluster that is there must also answer.
check_kind_cluster() {
    if ! kubectl config get-contexts "$KIND_CONTEXT" >/dev/null 2>&1; then
        kind export kubeconfig --name "$KIND_CLUSTER" || fail "kind does not tell how to reach the cluster"
    fi
    if ! kube get --raw /readyz --request-timeout=20s >/dev/null 2>&1; then
        fail "the cluster $KIND_CLUSTER is there and does not answer" \
            "Perhaps it was stopped: $engine start $KIND_CLUSTER-control-plane, and then ./setup_cluster.sh up" \
            "Or begin anew: ./setup_cluster.sh down, and then ./setup_cluster.sh up"
    fi
}

sha256() {
    if has sha256sum; then
        sha256sum "$@"
    else
        shasum -a 256 "$@"
    fi
}

# The release, and a hash of all that the images are built from: a changed program has a new tag and is rolled out, an
# unchanged one is neither built nor rolled out again.
tag_of_source() {
    local version hash
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
    [ -n "$version" ] || fail "Cargo.toml names no version"
    # Tests and benchmarks are in no image.
    export -f sha256 has
    hash=$(
        cd "$root"
        find Cargo.toml Cargo.lock Dockerfile .dockerignore crates services proto migrations packaging/kafka \
            \( -name node_modules -o -name target -o -path '*/tests' -o -path '*/benches' \) -prune -o \
            -type f ! -name '.env*' -exec bash -c 'sha256 "$@"' bash {} + | LC_ALL=C sort | sha256
    ) || fail "the source cannot be read"
    tag=$version.$(printf '%s' "$hash" | cut -c 1-10)
}

# Builds what the engine lacks and loads what the node lacks.
build_and_load_images() {
    local name node missing=()
    step "Images, tag $tag"
    for name in $IMAGES; do
        if ! "$engine" image inspect "docker.io/flightbell/$name:$tag" >/dev/null 2>&1; then
            missing+=("$name")
        fi
    done
    if [ ${#missing[@]} -gt 0 ]; then
        note "building ${missing[*]}: ten minutes and more the first time"
        # Attestations would give an image an index that kind cannot load.
        BUILDX_NO_DEFAULT_ATTESTATIONS=1 "$root/packaging/images/build.sh" --tag "$tag" "$engine" "${missing[@]}" ||
            fail "the images could not be built" "Mend what is told above, and run again: ./setup_cluster.sh up"
    else
        note "built already"
    fi
    missing=()
    for node in $(kind get nodes --name "$KIND_CLUSTER"); do
        for name in $IMAGES; do
            if ! "$engine" exec "$node" crictl inspecti "docker.io/flightbell/$name:$tag" >/dev/null 2>&1; then
                missing+=("docker.io/flightbell/$name:$tag")
            fi
        done
    done
    if [ ${#missing[@]} -eq 0 ]; then
        note "loaded already"
        return
    fi
    note "loading them into the cluster"
    if [ "$engine" = podman ]; then
        # kind asks docker for images; from podman it takes an archive.
        "$engine" save --multi-image-archive --output "$work/images.tar" "${missing[@]}" &&
            kind load image-archive "$work/images.tar" --name "$KIND_CLUSTER"
    else
        kind load docker-image "${missing[@]}" --name "$KIND_CLUSTER"
    fi || fail "the images could not be loaded" "Run again: ./setup_cluster.sh up"
    rm -f "$work/images.tar"
}

# Installs Envoy Gateway, where the overlay has a Gateway. An annotation tells that it was installed whole.
install_envoy_gateway() {
    local manifest=${ENVOY_GATEWAY_MANIFEST-} crd
    local url=https://github.com/envoyproxy/gateway/releases/download/$ENVOY_GATEWAY/install.yaml
    grep -q '^Gateway ' "$work/objects" || return 0
    step "Envoy Gateway $ENVOY_GATEWAY"
    if kube get namespace envoy-gateway-system --ignore-not-found \
        --output=jsonpath='{.metadata.annotations.flightbell/installed}' | grep -qx "$ENVOY_GATEWAY"; then
        note "is there"
        return
    fi
    if [ -z "$manifest" ]; then
        manifest=$work/envoy-gateway.yaml
        note "downloading $url"
        curl --fail --silent --show-error --location --retry 3 --connect-timeout 20 --max-time 300 \
            --output "$manifest" "$url" ||
            fail "it cannot be downloaded" "Get the file elsewhere, and name it: ENVOY_GATEWAY_MANIFEST=<file>" \
                "Then: ./setup_cluster.sh up"
    fi
    if [ -n "${ENVOY_GATEWAY_SHA256-}" ] &&
        [ "$(sha256 "$manifest" | cut -d ' ' -f 1)" != "$ENVOY_GATEWAY_SHA256" ]; then
        fail "$manifest does not have the checksum of ENVOY_GATEWAY_SHA256"
    fi
    apply "$manifest" || fail "Envoy Gateway could not be installed" "Run again: ./setup_cluster.sh up"
    for crd in gatewayclasses.gateway.networking.k8s.io gateways.gateway.networking.k8s.io \
        httproutes.gateway.networking.k8s.io envoyproxies.gateway.envoyproxy.io; do
        kube wait "crd/$crd" --for=condition=Established --timeout="$(left)s" >/dev/null ||
            fail "the API server does not take $crd over"
    done
    namespace=envoy-gateway-system wait_for_rollout deployment envoy-gateway
    kube annotate namespace envoy-gateway-system "flightbell/installed=$ENVOY_GATEWAY" --overwrite >/dev/null
}

delete_kind_cluster() {
    check_kind
    no_problems
    find_engine || fail "$engine_problem"
    context=$KIND_CONTEXT
    lock_cluster
    if ! kind_cluster_exists; then
        note "there is no cluster $KIND_CLUSTER"
        return
    fi
    confirm "Delete the cluster $KIND_CLUSTER with all its data?"
    kind delete cluster --name "$KIND_CLUSTER" || fail "kind could not delete the cluster"
    rm -f "$kept/being-made"
    note "deleted. Its certificates' authority stays in $kept, so that nobody has to trust a new one."
}
