# shellcheck shell=bash
# Renders every overlay and every combination of components. Leaves in $work:
#   manifests/    overlays and the combinations that have everything, one file each
#   pairs/        the combinations that hold each pair of choices
#   all/          every combination, where it was rendered now
#   objects/      every object that occurs in any of them, once
# shellcheck disable=SC2154,SC2034,SC2016

set -euo pipefail

# render FOLDER FILE: one kustomization, which must give something.
render() {
    kustomize build "$1" >"$2" 2>"$2.err" || { echo "$1 does not build:" >&2; cat "$2.err" >&2; return 1; }
    # A warning, as of a deprecated field, must not go by unseen.
    if [ -s "$2.err" ]; then echo "$1 builds with warnings:" >&2; cat "$2.err" >&2; return 1; fi
    rm "$2.err"
    [ -s "$2" ] || { echo "$1 renders nothing" >&2; return 1; }
}

# As committed, production must not build, and say which line is to be switched on. Then it is built with that line.
render_production() {
    local folder=$work/production overlay=overlays/production/kustomization.yaml answer lines
    if answer=$(kustomize build "$k8s/overlays/production" 2>&1); then
        fail "overlays/production builds without open-entry, although nobody signs in yet"
    fi
    [[ $answer = *open-entry* ]] || fail "overlays/production fails, but not with a word about open-entry: $answer"
    mkdir -p "$folder"
    cp -r "$k8s/base" "$k8s/components" "$k8s/overlays" "$folder/"
    # A commented list entry that names the component, and nothing else in that line.
    sed -i -E 's|^( *)# *(- .*/components/open-entry) *$|\1\2|' "$folder/$overlay"
    lines=$(diff "$k8s/$overlay" "$folder/$overlay" | grep -c '^>') || true
    [ "$lines" = 1 ] || fail "$overlay has $lines commented lines for open-entry, and not one"
    render "$folder/overlays/production" "$work/manifests/production.yaml"
}

# Everything that the renders follow from: manifests, the choice of combinations, and the tools.
render_key() {
    {
        "$lab/build" -n tools
        cd "$k8s"
        find base components overlays check -type f -print0 | sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c1-16
}

render_overlays() {
    local overlay name
    overlays=0
    for overlay in "$k8s"/overlays/*/; do
        name=$(basename "$overlay")
        if [ "$name" = production ]; then render_production; else render "$overlay" "$work/manifests/$name.yaml"; fi
        overlays=$((overlays + 1))
    done
}

# Hundreds of short runs: without the collector of garbage, and on one core each, they take half the time.
render_combinations() {
    local all=$work/kustomizations/all
    "$here/combinations.py" "$k8s" "$work/kustomizations"
    export -f render
    find "$all" -mindepth 1 -maxdepth 1 -printf '%f\n' |
        GOGC=off GOMAXPROCS=1 xargs -P "$jobs" -I NAME \
            bash -c 'render "$1/kustomizations/all/$2" "$1/all/$2.yaml" || exit 255' - "$work" NAME ||
        fail "not every combination builds"
    combinations=$(find "$work/all" -name '*.yaml' | wc -l)
    [ "$combinations" = "$(find "$all" -name kustomization.yaml | wc -l)" ] || fail "some combinations did not render"
}

part_render() {
    local overlays combinations objects name number=0 kept how=build
    kept=${XDG_CACHE_HOME:-$HOME/.cache}/flightbell/k8s/renders-$(render_key)
    if [ -d "$kept" ]; then
        # The same input was rendered before, by the same tools, without an error.
        cp -r "$kept/." "$work/"
        read -r overlays combinations objects <"$work/counts"
        how="are known to build"
    else
        mkdir -p "$work"/{manifests,pairs,all}
        render_overlays
        render_combinations
        while read -r name; do
            number=$((number + 1))
            cp "$work/all/$name.yaml" "$work/manifests/everything-$number.yaml"
        done <"$work/kustomizations/everything"
        while read -r name; do cp "$work/all/$name.yaml" "$work/pairs/"; done <"$work/kustomizations/pairs"
        objects=$("$here/objects.py" "$work/objects" "$work"/manifests/*.yaml "$work"/all/*.yaml)
        echo "$overlays $combinations $objects" >"$work/counts"
        keep_renders "$kept"
    fi
    counted "$overlays" overlays
    counted "$combinations" combinations
    counted "$objects" objects
    if [ -n "${FLIGHTBELL_CHECK_KEEP:-}" ]; then
        mkdir -p "$FLIGHTBELL_CHECK_KEEP"
        cp -r "$work"/{manifests,pairs,objects} "$FLIGHTBELL_CHECK_KEEP/"
    fi
    summary="$overlays overlays and $combinations combinations $how, with $objects different objects"
}

# For the next run with the same manifests. Of older ones nothing is kept.
keep_renders() {
    local new
    mkdir -p "$(dirname "$1")"
    new=$(mktemp -d "$(dirname "$1")/.new-renders.XXXXXX")
    cp -r "$work"/{manifests,pairs,objects,counts} "$new/"
    rm -rf "$(dirname "$1")"/renders-*
    mv -T "$new" "$1" 2>/dev/null || rm -rf "$new"
}
