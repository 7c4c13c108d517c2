# shellcheck shell=bash disable=SC2034,SC2154 # Variables are shared with setup_cluster.sh.
# What must be on this machine, and how to get it. Sourced.

# The cluster's version, and what goes with it.
KUBERNETES=1.36
KUBECTL_KNOWN=v1.36.4
KIND_KNOWN=0.33.0
KIND_LEAST=0.32
# --retry-all-errors came with it.
CURL_LEAST=7.71

problems=()

problem() {
    problems+=("$1")
}

# Tells everything that is missing at once, before anything is changed.
no_problems() {
    if [ ${#problems[@]} -gt 0 ]; then
        fail "this machine lacks something; nothing was changed:" "${problems[@]}"
    fi
}

platform() {
    local system machine
    system=$(uname -s | tr '[:upper:]' '[:lower:]')
    machine=$(uname -m)
    case $machine in
    x86_64) machine=amd64 ;;
    aarch64) machine=arm64 ;;
    esac
    printf '%s %s' "$system" "$machine"
}

how_to_get() {
    local system machine
    read -r system machine <<<"$(platform)"
    case $system-$1 in
    darwin-kind) echo "brew install kind" ;;
    *-kind)
        echo "curl -fLo kind https://kind.sigs.k8s.io/dl/v$KIND_KNOWN/kind-$system-$machine" \
            "&& sudo install kind /usr/local/bin/"
        ;;
    *-kubectl)
        echo "curl -fLO https://dl.k8s.io/release/$KUBECTL_KNOWN/bin/$system/$machine/kubectl" \
            "&& sudo install kubectl /usr/local/bin/"
        ;;
    darwin-engine) echo "brew install --cask docker, or: brew install podman" ;;
    *-engine) echo "sudo apt install docker.io, or: sudo apt install podman (or your system's packages of that name)" ;;
    darwin-*) echo "brew install $1" ;;
    *) echo "sudo apt install $1 (or your system's package of that name)" ;;
    esac
}

# Whether version $1 is at least $2; both MAJOR.MINOR.
at_least() {
    [ "${1%%.*}" -gt "${2%%.*}" ] || { [ "${1%%.*}" -eq "${2%%.*}" ] && [ "${1#*.}" -ge "${2#*.}" ]; }
}

# The first MAJOR.MINOR of standard input; empty where there is none.
first_version() {
    sed -n 's/^[^0-9]*\([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p' | sed -n 1p
}

has() {
    command -v "$1" >/dev/null 2>&1
}

check_curl() {
    local version
    if ! has curl; then
        problem "curl is missing: $(how_to_get curl)"
        return
    fi
    version=$(curl --version | first_version)
    if [ -n "$version" ] && ! at_least "$version" "$CURL_LEAST"; then
        problem "curl $version is too old, at least $CURL_LEAST is needed: $(how_to_get curl)"
    fi
}

check_base64() {
    has base64 || problem "base64 is missing: $(how_to_get coreutils)"
}

# The version of kubectl as MAJOR.MINOR. Builds without one call themselves 0.0.
kubectl_version() {
    kubectl version --client --output=json 2>/dev/null | sed -n 's/.*"gitVersion": *"v\([^"]*\)".*/\1/p' | first_version
}

# kubectl works with servers of its own minor version, the one before and the one after. $1 is the server's version.
check_kubectl() {
    local version apart
    if ! has kubectl; then
        problem "kubectl is missing: $(how_to_get kubectl)"
        return
    fi
    version=$(kubectl_version)
    if [ -z "$version" ]; then
        problem "kubectl does not tell its version, or is older than 1.28: $(how_to_get kubectl)"
        return
    fi
    case $version,$1 in
    0.0,* | *,0.0 | *,) return ;;
    esac
    apart=$((${version#*.} - ${1#*.}))
    if [ "${version%%.*}" != "${1%%.*}" ] || [ "${apart#-}" -gt 1 ]; then
        problem "kubectl $version is more than one minor version away from the cluster's $1: $(how_to_get kubectl)"
    fi
}

check_kind() {
    local version
    if ! has kind; then
        problem "kind is missing: $(how_to_get kind)"
        return
    fi
    version=$(kind version 2>/dev/null | first_version)
    if [ -z "$version" ] || ! at_least "$version" "$KIND_LEAST"; then
        problem "kind ${version:-of an unknown version} is too old, at least $KIND_LEAST is needed: $(how_to_get kind)"
    fi
}

# Sets `engine` to the container engine that answers: what kind was told to use, or else docker, or else podman.
find_engine() {
    local candidate found=
    engine=
    for candidate in ${KIND_EXPERIMENTAL_PROVIDER:-docker podman}; do
        has "$candidate" || continue
        found="$found $candidate"
        if "$candidate" ps --quiet >/dev/null 2>&1; then
            engine=$candidate
            break
        fi
    done
    if [ "$engine" = podman ]; then
        export KIND_EXPERIMENTAL_PROVIDER=podman
    fi
    if [ -n "$engine" ]; then
        return 0
    fi
    case $found in
    '') engine_problem="a container engine is missing: $(how_to_get engine)" ;;
    *docker*)
        engine_problem="docker is installed, but its engine does not answer: start Docker Desktop, or run"
        engine_problem="$engine_problem sudo systemctl start docker (and see that you are in the group docker)"
        ;;
    *) engine_problem="podman is installed, but does not answer: podman machine start, or see podman info" ;;
    esac
    return 1
}

check_tools_for_up() {
    step "Checking the tools"
    check_kind
    check_kubectl "$KUBERNETES"
    check_curl
    check_base64
    find_engine || problem "$engine_problem"
    no_problems
    note "kind, kubectl, curl and $engine are there"
}

check_tools_for_deploy() {
    check_kubectl ""
    check_curl
    check_base64
    no_problems
}
