# shellcheck shell=bash disable=SC2034,SC2154 # Variables are shared with setup_cluster.sh.
# The second half, on any cluster: renders an overlay, makes its Secrets, applies, and waits. Sourced.

kube() {
    kubectl --context "$context" "$@"
}

ns() {
    kube --namespace "$namespace" "$@"
}

apply() {
    kube apply --server-side --force-conflicts --field-manager=setup-cluster --filename "$1" \
        >"$work/apply.log" 2>&1 || {
        cat "$work/apply.log" >&2
        return 1
    }
}

# As apply, in the namespace of the overlay's objects.
apply_objects() {
    local count
    count=$(grep -c '^kind:' "$1" || true)
    if [ "$count" -gt 0 ]; then
        apply "$1" || fail "the cluster refuses what the overlay $overlay says" "Run again: $again"
        note "$2: $count objects"
    fi
}

# ---- Rendering

find_overlay() {
    case $overlay in
    */*) overlay_folder=$overlay ;;
    *) overlay_folder=$root/k8s/overlays/$overlay ;;
    esac
    [ -f "$overlay_folder/kustomization.yaml" ] || fail "there is no overlay $overlay" \
        "Overlays: $(cd "$root/k8s/overlays" && echo *), or the path of a folder of your own (with a slash in it)"
    overlay_folder=$(cd "$overlay_folder" && pwd -P)
}

# The overlay as it stands, to learn what it needs.
render() {
    kubectl kustomize "$overlay_folder" >"$work/plain.yaml" 2>"$work/kustomize.log" || {
        cat "$work/kustomize.log" >&2
        fail "the overlay $overlay cannot be built: see above; nothing was changed"
    }
    list_objects "$work/plain.yaml" >"$work/objects"
    awk "$SECRETS_OF_PODS" "$work/plain.yaml" >"$work/secrets-of-pods"
    awk '{ print $3 }' "$work/secrets-of-pods" | sort -u >"$work/secrets-needed"
    # A Gateway names its certificate itself, cert-manager makes it.
    if grep -q '^Gateway ' "$work/objects" || grep -q '^Ingress ' "$work/objects"; then
        printf 'flightbell-tls\n' >>"$work/secrets-needed"
    fi
    if grep -q '^Certificate ' "$work/objects"; then
        sed -i.bak '/^flightbell-tls$/d' "$work/secrets-needed"
    fi
    namespace=$(sed -n 's/^Namespace //p' "$work/objects" | sed -n 1p)
    [ -n "$namespace" ] || fail "the overlay $overlay has no Namespace"
    # The hosts of an Ingress or of a Gateway.
    awk '
        /^kind: / { kind = $2 }
        kind == "Ingress" || kind == "Gateway" {
            sub(/^ *- /, "")
            if ($1 == "host:" || $1 == "hostname:") print $2
        }
    ' "$work/plain.yaml" | tr -d "\"'" | sort -u >"$work/hosts"
    find_database
}

# "KIND NAME" of every object.
list_objects() {
    awk '
        /^---/ { kind = ""; in_metadata = 0; next }
        /^[a-zA-Z]/ { in_metadata = ($1 == "metadata:") }
        /^kind: / { kind = $2; if (name_first != "") { print kind, name_first; name_first = "" } }
        in_metadata && /^  name: / { if (kind != "") print kind, $2; else name_first = $2 }
    ' "$1"
}

# "KIND NAME SECRET" of every Secret that the pods of a workload cannot start without. kustomize sorts keys, so that
# `optional` comes right before `secretName` and right after `name`.
# shellcheck disable=SC2016
SECRETS_OF_PODS='
    function tell(secret) { if (secret != "") print kind, name, secret }
    /^---/ { tell(waiting); waiting = ""; kind = name = ""; in_metadata = in_reference = 0; next }
    /^[a-zA-Z]/ { in_metadata = ($1 == "metadata:") }
    /^kind: / { kind = $2 }
    in_metadata && /^  name: / { name = $2 }
    kind !~ /^(Deployment|StatefulSet|DaemonSet|Job|CronJob|Pod)$/ { next }
    waiting != "" { if ($1 != "optional:" || $2 != "true") tell(waiting); waiting = "" }
    $1 == "secretName:" { if (before != "optional: true") tell($2) }
    $1 == "secretKeyRef:" { in_reference = 1 }
    in_reference && $1 == "name:" { waiting = $2; in_reference = 0 }
    { before = $1 " " $2 }
    END { tell(waiting) }
'

secrets_of() {
    awk -v kind="$1" -v name="$2" '$1 == kind && $2 == name { print $3 }' "$work/secrets-of-pods" | sort -u
}

# The tag that runs now; empty before the first time.
find_running_tag() {
    running_tag=$(ns get deployment user-manager --ignore-not-found \
        --output=jsonpath='{.spec.template.spec.containers[0].image}') || fail "the cluster does not answer"
    case ${running_tag##*/} in
    *:*) running_tag=${running_tag##*:} ;;
    *) running_tag= ;;
    esac
}

# Which tag is deployed, and what the image is called that has `flightbell certs`.
choose_tag() {
    find_running_tag
    if [ -z "$tag" ] && { [ "$command" = secrets ] || [ "$context" = "$KIND_CONTEXT" ]; }; then
        # Whoever changes secrets does not want another release; and images of the local cluster are not the overlay's.
        tag=$running_tag
    fi
    check_tag
    running_tag=${tag:-$(sed -n 's/.*image: .*flightbell\/flightbell:\([^ "]*\).*/\1/p' "$work/plain.yaml" | sed -n 1p)}
}

check_tag() {
    case $tag in
    '') ;;
    *[!a-z0-9.-]* | [!a-z0-9]* | *[!a-z0-9] | ?????????????????????????????????????????*)
        fail "the tag \"$tag\" cannot be part of a Job's name: at most 40 of a-z, 0-9, full stop and hyphen"
        ;;
    esac
}

# The overlay with the images' tag, and with the version of its Secrets in each Deployment: a changed Secret rolls out.
# The files go to $work/parts, in the order in which they are applied.
render_for_cluster() {
    local folder=$work/kustomize up
    mkdir -p "$folder" "$work/parts"
    # kustomize takes folders by relative path only.
    up=$(printf '%s' "$folder" | sed 's:[^/]::g; s:/:../:g')
    {
        printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n'
        printf 'resources: ["%s%s"]\n' "$up" "${overlay_folder#/}"
        write_tags
        write_job_names >"$work/patches"
        write_secret_versions >>"$work/patches"
        if [ -s "$work/patches" ]; then
            printf 'patches:\n'
            cat "$work/patches"
        fi
    } >"$folder/kustomization.yaml"
    kubectl kustomize "$folder" >"$work/rendered.yaml" 2>"$work/kustomize.log" || {
        cat "$work/kustomize.log" >&2
        fail "the overlay $overlay cannot be built${tag:+ with the tag $tag}"
    }
    list_objects "$work/rendered.yaml" >"$work/objects"
    split_rendered
}

write_tags() {
    local image
    [ -n "$tag" ] || return 0
    printf 'images:\n'
    # Under whatever registry the overlay has them.
    sed -n 's/^ *-\{0,1\} *image: *"\{0,1\}\([^"@]*\).*/\1/p' "$work/plain.yaml" | sed 's/:[^/:]*$//' | sort -u |
        while read -r image; do
            case /$image in
            */flightbell/user-manager | */flightbell/data-collector | */flightbell/alert-system | \
                */flightbell/notifier | */flightbell/flightbell)
                printf '  - {name: %s, newTag: "%s"}\n' "$image" "$tag"
                ;;
            esac
        done
}

write_job_names() {
    local job
    [ -n "$tag" ] || return 0
    for job in databases migrate; do
        printf '  - target: {kind: Job, name: "%s(-.*)?"}\n    options: {allowNameChange: true}\n' "$job"
        # The tag as the name of a pod may have it: without dots.
        printf '    patch: |-\n      - {op: replace, path: /metadata/name, value: "%s-%s"}\n' "$job" "${tag//./-}"
    done
}

write_secret_versions() {
    local deployment secret versions
    # A Job cannot be changed, and a server in a StatefulSet has taken its password over for good.
    for deployment in $(objects_of Deployment); do
        versions=
        for secret in $(secrets_of Deployment "$deployment"); do
            versions="$versions $secret@$(secret_version "$secret")"
        done
        if [ -n "$versions" ]; then
            printf '  - target: {kind: Deployment, name: %s}\n    patch: |-\n' "$deployment"
            printf '      {apiVersion: apps/v1, kind: Deployment, metadata: {name: %s}, ' "$deployment"
            printf 'spec: {template: {metadata: {annotations: {flightbell/secrets: "%s"}}}}}\n' "${versions# }"
        fi
    done
}

secret_version() {
    if is_ours "$1" && needs_secret "$1"; then
        ns get secret "$1" --ignore-not-found --output=jsonpath='{.metadata.resourceVersion}'
    else
        # An operator makes and renews it, perhaps only after the pods were made.
        printf 'elsewhere'
    fi
}

# namespace.yaml, job-NAME.yaml, deployments.yaml, and first.yaml with everything else.
split_rendered() {
    rm -f "$work/parts"/*
    awk -v folder="$work/parts" '
        function write(  file) {
            if (kind == "") return
            file = "first"
            if (kind == "Namespace") file = "namespace"
            if (kind == "Deployment") file = "deployments"
            if (kind == "Job") file = "job-" name
            printf "---\n%s", text >> (folder "/" file ".yaml")
        }
        /^---/ { write(); text = kind = name = ""; in_metadata = 0; next }
        /^[a-zA-Z]/ { in_metadata = ($1 == "metadata:") }
        /^kind: / { kind = $2 }
        in_metadata && /^  name: / { name = $2 }
        { text = text $0 "\n" }
        END { write() }
    ' "$work/rendered.yaml"
}

# ---- Waiting

left() {
    local seconds=$((deadline - SECONDS))
    if [ "$seconds" -lt 1 ]; then
        seconds=1
    fi
    printf '%s' "$seconds"
}

wait_for_rollout() {
    # Tells on its own what it waits for.
    ns rollout status "$1/$2" --timeout="$(left)s" | sed 's/^/    /' || explain "$1" "$2" "$1 $2 is not ready"
}

# Until it has ended, well or not: a Job that failed is told at once.
wait_for_job() {
    local job=$1 conditions chunk
    note "waiting for the job $job"
    # The first condition that a Job gets says that it ends. Meanwhile its log tells what it is at.
    while :; do
        chunk=$(left)
        if [ "$chunk" -gt 15 ]; then
            chunk=15
        fi
        if ns wait "job/$job" --for=jsonpath='{.status.conditions[0].type}' --timeout="${chunk}s" \
            >/dev/null 2>"$work/wait.log"; then
            break
        elif [ "$(left)" -le 1 ] || ! grep -q 'timed out' "$work/wait.log"; then
            cat "$work/wait.log" >&2
            explain job "$job" "the job $job has not ended in time"
        fi
        note "still waiting; the last of its log: $(ns logs "job/$job" --tail=1 2>/dev/null || true)"
    done
    conditions=$(ns get job "$job" --output=jsonpath='{.status.conditions[*].type}')
    case $conditions in
    *Fail*) explain job "$job" "the job $job failed" ;;
    esac
    ns wait "job/$job" --for=condition=Complete --timeout="$(left)s" >/dev/null ||
        explain job "$job" "the job $job has not ended in time"
    ns logs "job/$job" --tail=10 2>/dev/null | sed "s/^/    $job: /" || true
}

wait_for_condition() {
    note "waiting for $1"
    ns wait "$1" --for="condition=$2" --timeout="$(left)s" >/dev/null || {
        ns describe "$1" | sed -n '/^Status:/,$p' >&2 || true
        fail "$1 is not $2" "Mend what is told above, and run again: $again"
    }
}

# For every object of a kind, in the order of the overlay.
wait_for_rollouts() {
    local name
    for name in $(objects_of "$1"); do
        wait_for_rollout "$(printf '%s' "$1" | tr '[:upper:]' '[:lower:]')" "$name"
    done
}

wait_for_conditions() {
    local name
    for name in $(objects_of "$1"); do
        wait_for_condition "$2/$name" "$3"
    done
}

READY_PODS='{range .items[*]}{.metadata.name}{" "}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'

# Prints what is known of a workload that does not get there, and ends.
explain() {
    local kind=$1 name=$2 what=$3 label pod ready
    # shellcheck disable=SC2016 # The dollar signs are those of the template.
    label=$(ns get "$kind" "$name" --output=go-template \
        --template='{{range $key, $value := .spec.selector.matchLabels}}{{$key}}={{$value}},{{end}}') || label=
    label=${label%,}
    {
        printf '\n---- %s %s\n' "$kind" "$name"
        ns get pods --selector="$label" --output=wide
        ns describe "$kind/$name" | sed -n '/^Events:/,$p'
        ns get pods --selector="$label" --output=jsonpath="$READY_PODS" |
            while read -r pod ready; do
                if [ "$ready" = True ]; then
                    continue
                fi
                printf '\n---- pod %s: events\n' "$pod"
                ns describe "pod/$pod" </dev/null | sed -n '/^Events:/,$p'
                printf '\n---- pod %s: last lines of its log\n' "$pod"
                ns logs "$pod" --all-containers --tail=30 </dev/null
                ns logs "$pod" --all-containers --tail=30 --previous </dev/null 2>/dev/null |
                    sed 's/^/(before its restart) /'
            done
    } >&2 || true
    fail "$what" "Mend what is told above, and run again: $again" "It goes on where it stopped."
}

# ---- Applying

# Deployments for which the overlay says no number of replicas, since an autoscaler does.
deployments_without_replicas() {
    awk '
        function tell() { if (name != "" && !has_replicas) print name }
        /^---/ { tell(); name = part = ""; has_replicas = 0; next }
        /^[a-zA-Z]/ { part = $1 }
        part == "metadata:" && /^  name: / { name = $2 }
        part == "spec:" && /^  replicas: / { has_replicas = 1 }
        END { tell() }
    ' "$work/parts/deployments.yaml"
}

# When the overlay leaves a number of replicas to an autoscaler, the next apply gives up the field, and the API server
# would put 1 into it until the autoscaler looks. So another manager takes the field over first, with the number that is
# there. Where that is refused the number has just changed, and thus is not ours any more.
hand_replicas_over() {
    local name replicas
    for name in $(deployments_without_replicas); do
        replicas=$(ns get deployment "$name" --ignore-not-found --output=jsonpath='{.spec.replicas}') ||
            fail "the cluster does not answer"
        if [ -n "$replicas" ]; then
            printf 'apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: %s\nspec:\n  replicas: %s\n' \
                "$name" "$replicas" >"$work/replicas.yaml"
            ns apply --server-side --field-manager=setup-cluster-replicas --filename "$work/replicas.yaml" \
                >"$work/apply.log" 2>&1 || warn "replicas of $name: $(sed -n 1p "$work/apply.log")"
        fi
    done
}

# A Job that has ended is made anew: a newer release may have passed over its databases since, or a backup been
# restored, and where all is as it left it, it changes nothing. So is one that says something else than before, since
# its pods cannot be changed.
clear_job() {
    local job=$1
    case $(ns get job "$job" --ignore-not-found --output=jsonpath='{.status.conditions[*].type}') in
    *Fail*) note "the job $job failed before: it is made anew" ;;
    *Complete*) note "the job $job runs again" ;;
    *)
        if kube apply --server-side --force-conflicts --field-manager=setup-cluster --dry-run=server \
            --filename "$work/parts/job-$job.yaml" >"$work/dry-run.log" 2>&1 ||
            ! grep -q 'field is immutable' "$work/dry-run.log"; then
            return 0
        fi
        note "the job $job has changed: it is made anew"
        ;;
    esac
    delete_job "$job"
}

delete_job() {
    ns delete job "$1" --ignore-not-found --wait --timeout="$(left)s" >/dev/null || fail "the job $1 cannot be deleted"
}

run_job() {
    local job=$1
    clear_job "$job"
    apply "$work/parts/job-$job.yaml" || fail "the cluster refuses the job $job" "Run again: $again"
    wait_for_job "$job"
}

jobs_like() {
    sed -n "s/^Job \($1.*\)/\1/p" "$work/objects"
}

objects_of() {
    sed -n "s/^$1 //p" "$work/objects"
}

# All of the second half. What was rendered before says what is needed.
deploy() {
    local name change=false
    deadline=$((SECONDS + timeout))
    step "Namespace $namespace and its Secrets"
    mkdir -p "$work/parts"
    cp "$work/plain.yaml" "$work/rendered.yaml"
    split_rendered
    apply_objects "$work/parts/namespace.yaml" "Namespace"
    kube annotate namespace "$namespace" "flightbell/overlay=$overlay" --overwrite >/dev/null
    make_own_secrets
    prepare_service_secrets
    if passwords_change; then
        change=true
        note "passwords of databases change: the server is told before the services are"
    else
        save_service_secrets
    fi
    make_certificate

    step "Servers and settings"
    render_for_cluster
    apply_objects "$work/parts/first.yaml" "applied"
    wait_for_rollouts StatefulSet
    wait_for_conditions Cluster cluster.postgresql.cnpg.io Ready
    wait_for_conditions Kafka kafka.kafka.strimzi.io Ready

    step "Databases"
    for name in $(jobs_like databases); do
        # One that an interrupted run left active may have read the passwords of before.
        if [ "$change" = true ]; then
            delete_job "$name"
        fi
        run_job "$name"
    done
    if [ "$change" = true ]; then
        save_service_secrets
        # With the versions that they have now.
        render_for_cluster
    fi
    for name in $(objects_of Job); do
        case $name in databases*) continue ;; esac
        run_job "$name"
    done

    step "Services${tag:+, tag $tag}"
    hand_replicas_over
    apply_objects "$work/parts/deployments.yaml" "applied"
    wait_for_rollouts Deployment
    wait_for_conditions Certificate certificate.cert-manager.io Ready
    wait_for_conditions Gateway gateway.gateway.networking.k8s.io Programmed
}
