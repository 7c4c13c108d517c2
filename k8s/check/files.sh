# shellcheck shell=bash
# Holds files that are no manifests against their own tools: Prometheus and Alertmanager, shell scripts, Dockerfiles.
# shellcheck disable=SC2154,SC2034

set -euo pipefail

# What is in the repository or about to be: tracked files and new ones that are not ignored.
repository_files() {
    git -c safe.directory="$root" ls-files -z --cached --others --exclude-standard -- "$@" | sort -zu
}

# Files of YAML that have this key at their top level, by which a configuration is known.
files_with() { # KEY [PATTERN...]
    local key=$1
    shift
    repository_files "$@" | xargs -0 -r grep -lE "^$key:" 2>/dev/null || true
}

part_prometheus() {
    local config=() rules=() tests=() alertmanager=() file answer count
    mapfile -t config < <(files_with scrape_configs '*.yaml' '*.yml')
    mapfile -t rules < <(files_with groups 'k8s/components/prometheus/*.yaml' 'k8s/components/prometheus/*.yml')
    mapfile -t tests < <(files_with rule_files 'k8s/components/prometheus/*.test.yaml')
    mapfile -t alertmanager < <(files_with receivers 'k8s/components/prometheus/*.yaml' 'k8s/components/prometheus/*.yml')
    counted ${#config[@]} "configuration of Prometheus"
    counted ${#rules[@]} "file of rules"
    counted ${#tests[@]} "tests of rules"
    counted ${#alertmanager[@]} "configuration of Alertmanager"
    # The files that a configuration names lie at these places only in a pod.
    for file in "${config[@]}"; do quietly promtool check config --syntax-only --lint=all --lint-fatal "$file"; done
    answer=$(promtool check rules --lint=all --lint-fatal "${rules[@]}" 2>&1) || fail "$answer"
    count=$(awk '/SUCCESS: [0-9]+ rules found/ { count += $2 } END { print count + 0 }' <<<"$answer")
    counted "$count" rules
    quietly promtool test rules "${tests[@]}"
    for file in "${alertmanager[@]}"; do quietly amtool check-config "$file"; done
    summary="${#config[@]} configurations of Prometheus, ${#alertmanager[@]} of Alertmanager, $count rules and"
    summary+=" ${#tests[@]} files of their tests pass"
}

# Says what a command said, or the beginning of it, only when it fails.
quietly() {
    local answer
    answer=$("$@" 2>&1) || { head -40 <<<"$answer" >&2; fail "failed: $*"; }
}

# By the first line and not by the name: many scripts have no ending.
is_shell_script() {
    LC_ALL=C head -c 200 "$1" 2>/dev/null | head -1 | grep -qaE '^(#!.*\b(bash|dash|sh)\b|# shellcheck shell=)'
}

part_shell() {
    local file scripts=() dockerfiles=()
    while IFS= read -r -d '' file; do
        if [ -f "$file" ] && { [[ $file = *.sh ]] || is_shell_script "$file"; }; then scripts+=("$file"); fi
    done < <(repository_files)
    counted ${#scripts[@]} "shell script"
    shellcheck -x "${scripts[@]}"
    while IFS= read -r -d '' file; do if [ -f "$file" ]; then dockerfiles+=("$file"); fi; done < \
        <(repository_files Dockerfile '*/Dockerfile' 'Dockerfile.*' '*.Dockerfile')
    counted ${#dockerfiles[@]} Dockerfile
    hadolint "${dockerfiles[@]}"
    summary="${#scripts[@]} scripts and ${#dockerfiles[@]} Dockerfile pass shellcheck and hadolint"
}
