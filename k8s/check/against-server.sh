#!/bin/bash
# Holds every object against the API server of KUBECONFIG, and the server against manifests that it must refuse.
#   against-server.sh WORK    WORK/objects is what render.sh left; check.sh runs this inside `lab api`
# The definitions of the operators' objects and all namespaces are made for real. Every other object is applied as a
# strict server-side dry run in which a warning is an error: otherwise pod security only warns about Deployments.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
k8s=$(cd "$here/.." && pwd)
work=$1
objects=$work/objects
# kubectl keeps what it learns of a server; not in the home of whoever runs this.
export cache=$work/kubectl

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

kube() { kubectl --cache-dir="$cache" "$@"; }
strictly() { kube apply --server-side --validate=strict --warnings-as-errors "$@"; }
dry_run() { strictly --dry-run=server "$@"; }

definitions() {
    local file
    mkdir "$work/crds"
    for file in "$k8s"/schemas/crd-sources/*.yaml.gz; do
        gzip -dc "$file" >"$work/crds/$(basename "$file" .gz)"
    done
    kube create -f "$work/crds" >"$work/crds.log"
    kube wait --for=condition=Established --timeout=60s crd --all >/dev/null
    crds=$(wc -l <"$work/crds.log")
}

# A namespace of each name, and those that operators bring.
namespaces() {
    strictly -f "$objects/namespaces.yaml" >/dev/null
    strictly -f "$here/namespaces.yaml" >/dev/null
    strictly -f "$k8s/lab/mistakes/namespace.yaml" >/dev/null
    local name
    for name in $(kube get namespaces -o name); do
        kube -n "${name#*/}" wait --for=create --timeout=30s serviceaccount/default >/dev/null
    done
}

# Applies many files at once, which is quick; when that fails, one by one, to say which object it is and where from.
dry_run_files() {
    local file answer origin status=0
    if answer=$(dry_run "${@/#/-f=}" 2>&1); then printf '%s\n' "$answer"; return; fi
    for file in "$@"; do
        if ! answer=$(dry_run -f "$file" 2>&1); then
            origin=$(grep "^$(basename "$file" .yaml) " "$objects/origins" | cut -d' ' -f2-) || origin=$file
            printf 'the server refuses %s:\n%s\n' "$origin" "$answer" >&2
            status=1
        fi
    done
    [ $status = 1 ] || printf 'objects that pass alone are refused together: %s\n' "$*" >&2
    return 1
}

every_object() {
    local expected
    export -f dry_run_files dry_run strictly kube
    export objects
    # One file each, so that objects of one name from several renders stand side by side.
    find "$objects" -regextype posix-extended -regex '.*/[0-9a-f]{16}\.yaml' | sort |
        xargs -P "$(nproc)" -n 40 bash -c 'dry_run_files "$@"' - >"$work/applied" || fail "some objects are refused"
    expected=$(wc -l <"$objects/origins")
    accepted=$(grep -c '(server dry run)$' "$work/applied") || true
    [ "$accepted" = "$expected" ] || fail "of $expected objects the server saw $accepted"
    [ "$accepted" -gt 0 ] || fail "no objects found"
}

# Each must be refused for the reason that its second line names, and for no other.
mistakes() {
    local file reason answer
    refused=0
    dry_run -f "$k8s/lab/mistakes/00-good.yaml" >/dev/null || fail "the right manifest is refused"
    for file in "$k8s"/lab/mistakes/[0-9]*.yaml; do
        if [[ $file = */00-good.yaml ]]; then continue; fi
        reason=$(sed -n '2s/^# Refused: //p' "$file")
        [ -n "$reason" ] || fail "$file does not say why it is refused"
        if grep -q '^# Applied for real: ' "$file"; then
            if answer=$(strictly -f "$file" 2>&1); then fail "$file is accepted"; fi
        elif answer=$(dry_run -f "$file" 2>&1); then
            fail "$file is accepted"
        fi
        [[ $answer = *"$reason"* ]] || fail "$file is refused, but not because \"$reason\": $answer"
        refused=$((refused + 1))
    done
    [ "$refused" -gt 0 ] || fail "no mistakes found"
}

definitions
namespaces
mistakes
every_object
echo "$accepted objects accepted, $refused mistakes refused, with $crds custom resource definitions"
