# shellcheck shell=bash
# Holds objects against the committed schemas, and whole renders against kube-linter.
# shellcheck disable=SC2154,SC2034,SC2016

set -euo pipefail

# Reads objects from standard input: kubeconform passes over files whose names do not end as it expects.
conform() {
    kubeconform -strict -summary -kubernetes-version 1.36.0 -schema-location "$k8s/schemas" \
        -schema-location "$k8s/schemas/crds/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json" -
}

# The number after a word of kubeconform's summary: "Summary: 3 resources found ... - Valid: 3, Invalid: 0, ...".
said() { sed -nE "s/^Summary:.*$1: ([0-9]+).*/\1/p"; }

all_valid() { # WHAT FILE...: prints how many
    local what=$1 answer valid
    shift
    answer=$(printf -- '---\n%s' "$(awk 'FNR == 1 && NR > 1 { print "---" } { print }' "$@")" | conform) ||
        fail "$what: $answer"
    valid=$(said Valid <<<"$answer")
    counted "$valid" "$what"
    [ "$(said Skipped <<<"$answer")" = 0 ] || fail "$what: $answer"
    echo "$valid"
}

part_schemas() {
    local answer refused samples objects expected
    # First the check itself: of the samples, each right one is valid and each wrong one is not.
    samples=$(all_valid "the right samples" "$k8s"/schemas/samples/valid-*.yaml)
    if answer=$(conform <"$k8s/schemas/samples/invalid-unknown-field.yaml"); then
        fail "wrong samples are taken for right"
    fi
    refused=$(said Invalid <<<"$answer")
    [ "$refused" = "$samples" ] || fail "of $samples wrong samples $refused are refused"
    objects=$(all_valid objects "$work"/objects/[0-9a-f]*.yaml)
    expected=$(wc -l <"$work/objects/origins")
    [ "$objects" = "$expected" ] || fail "of $expected objects kubeconform saw $objects"
    all_valid kind-config.yaml "$root/kind-config.yaml" >/dev/null
    summary="$objects objects and kind-config.yaml valid ($samples right and $refused wrong samples told apart)"
}

# lint FILE FOLDER: leaves what kube-linter says beside the file. Where the component that brings policies is chosen, no
# pod may be left without one. (A check named on the command line would replace those of the configuration.)
lint() {
    local config=$2/plain.yaml
    if grep -q '^kind: NetworkPolicy$' "$1"; then config=$2/isolated.yaml; fi
    kube-linter lint --fail-if-no-objects-found --fail-on-invalid-resource --config "$config" "$1" >"$1.lint" 2>&1
}

part_lint() {
    local renders wrong=$lab/mistakes/17-deployment-hostnetwork.yaml answer
    if answer=$(kube-linter lint --config "$here/kube-linter.yaml" "$wrong" 2>&1); then
        fail "kube-linter finds nothing in $wrong"
    fi
    [[ $answer = *host-network* ]] || fail "kube-linter does not find hostNetwork in $wrong: $answer"
    # One file at a time: what one render lacks must not be found in another.
    export -f lint
    mkdir -p "$work/lint"
    cp "$here/kube-linter.yaml" "$work/lint/plain.yaml"
    # The list of checks is the last of the file.
    { cat "$here/kube-linter.yaml"; echo "    - non-isolated-pod"; } >"$work/lint/isolated.yaml"
    renders=$(find "$work/manifests" "$work/pairs" -name '*.yaml' | wc -l)
    counted "$renders" renders
    if ! find "$work/manifests" "$work/pairs" -name '*.yaml' -print0 |
        xargs -0 -P "$jobs" -I FILE bash -c 'lint "$1" "$2"' - FILE "$work/lint"; then
        # The same finding stands in many renders.
        cat "$work"/{manifests,pairs}/*.lint | sed -n 's/^.*: (object: /(object: /p' | sort | uniq -c >&2
        grep -L 'No lint errors found\|(object: ' "$work"/{manifests,pairs}/*.lint | xargs -r cat >&2
        fail "kube-linter has findings; before each, the number of renders that have it"
    fi
    summary="$renders renders without findings"
}
