#!/bin/bash
# Brings Flightbell to a running cluster, and looks after it there.
#
#   ./setup_cluster.sh up        all of it on this machine: a cluster of kind, images, entry, https://localhost
#   ./setup_cluster.sh deploy    the second half alone, on the cluster that the current kubeconfig names
#   ./setup_cluster.sh status    what runs, on one screen
#   ./setup_cluster.sh logs      follows the logs of all services, or of one: logs notifier
#   ./setup_cluster.sh open      Grafana at http://localhost:3000, Prometheus at http://localhost:9090, until Ctrl-C
#   ./setup_cluster.sh secrets   takes over what has changed in .env, and rotates what is named; restarts what reads it
#   ./setup_cluster.sh down      deletes the cluster of `up` with its data
#
# Options:
#   --overlay NAME|PATH    which overlay [default: the one deployed there; on the cluster of `up` kind]
#   --tag TAG              the images' tag [up: made of the source; deploy: what the overlay says]
#   --context NAME         which cluster, as the kubeconfig calls it [default: the current one; up and down: kind's]
#   --env-file FILE        credentials: TELEGRAM_BOT_TOKEN, OPEN_SKY_CLIENT_ID, ... [default: .env beside this script]
#   --url URL              where users reach the entry, for the last check [on kind: https://localhost]
#   --entry HOST:PORT      where that URL's host is to be found, if not by its name
#   --name NAME            one more name for the certificate; may be repeated
#   --rotate WHAT          with secrets: `databases` (the passwords of the services' roles) or `certificate`
#   --timeout SECONDS      how long to wait for the pods, in all [default: 900]
#   --yes                  asks nothing
#
# Environment:
#   FLIGHTBELL               the program that makes the certificate [default: the image's, or that in target/]
#   ENVOY_GATEWAY_MANIFEST   Envoy Gateway's install.yaml, where it cannot be downloaded
#   ENVOY_GATEWAY_SHA256     its checksum, to be held against
#   KIND_EXPERIMENTAL_PROVIDER=podman
#
# While a run changes a cluster, another one that would do so too ends at once and changes nothing.
# Running a command again changes nothing that is as it should be, and goes on where an interrupted run stopped.
# shellcheck disable=SC2034,SC2154 # Variables are shared with the parts in k8s/setup.
set -euo pipefail
# Programs keep things in the home folder; where HOME is not set, bash knows it all the same.
if [ -z "${HOME-}" ]; then HOME=$(cd ~ && pwd) && export HOME; fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
for part in say lock tools credentials secrets certificates local_cluster deploy check; do
    # shellcheck source=/dev/null
    . "$root/k8s/setup/$part.sh"
done

usage() {
    sed -n '2,/^# Running/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

# What was asked for.
command=help overlay='' tag='' context='' env_file=$root/.env env_file_given='' url='' entry='' names='' log_of=''
timeout=900 yes=false rotate_databases=false rotate_certificate=false
# What was found out.
engine='' namespace=flightbell running_tag='' authority='' deadline=0 children=''

wrong_usage() {
    printf 'error: %s\n\n' "$1" >&2
    usage >&2
    exit 2
}

read_arguments() {
    again="./setup_cluster.sh $*"
    if [ $# -gt 0 ]; then
        command=$1
        shift
    fi
    while [ $# -gt 0 ]; do
        case $1 in
        --overlay | --tag | --context | --env-file | --url | --entry | --name | --rotate | --timeout)
            [ -n "${2-}" ] || wrong_usage "$1 needs a value"
            read_option "$1" "$2"
            shift
            ;;
        --yes) yes=true ;;
        -h | --help) command=help ;;
        *)
            if [ "$command" = logs ] && [ -z "$log_of" ] && [ "${1#-}" = "$1" ]; then
                log_of=$1
            else
                wrong_usage "what is \"$1\"?"
            fi
            ;;
        esac
        shift
    done
}

read_option() {
    case $1 in
    --overlay) overlay=$2 ;;
    --tag) tag=$2 ;;
    --context) context=$2 ;;
    --env-file) env_file=$2 env_file_given=yes ;;
    --url) url=$2 ;;
    --entry)
        case $2 in *:[0-9]*) entry=$2 ;; *) wrong_usage "--entry needs HOST:PORT" ;; esac
        ;;
    --name) names="$names $2" ;;
    --rotate)
        case $2 in
        databases) rotate_databases=true ;;
        certificate) rotate_certificate=true ;;
        *) wrong_usage "--rotate knows databases and certificate" ;;
        esac
        [ "$command" = secrets ] || wrong_usage "--rotate belongs to secrets"
        ;;
    --timeout)
        case $2 in *[!0-9]* | 0*) wrong_usage "--timeout needs a number of seconds" ;; *) timeout=$2 ;; esac
        ;;
    esac
}

up() {
    if [ -n "$context" ]; then
        wrong_usage "up makes its own cluster: --context belongs to deploy"
    fi
    check_tools_for_up
    context=$KIND_CONTEXT
    lock_cluster
    context=
    overlay=${overlay:-kind}
    find_overlay
    render
    read_credentials
    if kind_cluster_exists; then
        context=$KIND_CONTEXT
        find_kept_folder
        if [ -f "$kept/being-made" ]; then
            context=
        else
            check_kind_cluster
        fi
    fi
    check_credentials
    context=$KIND_CONTEXT
    if [ -z "$tag" ]; then
        tag_of_source
    fi
    check_tag
    find_url

    deadline=$((SECONDS + timeout))
    make_kind_cluster
    build_and_load_images
    deadline=$((SECONDS + timeout))
    install_envoy_gateway
    choose_tag
    deploy
    check_entry
    print_next
}

# Pins the cluster, so that a kubeconfig that is switched meanwhile changes nothing.
find_context() {
    has kubectl || {
        problem "kubectl is missing: $(how_to_get kubectl)"
        no_problems
    }
    if [ -z "$context" ]; then
        context=$(kubectl config current-context 2>/dev/null) || fail "the kubeconfig names no current cluster" \
            "Choose one: kubectl config use-context NAME, or --context NAME. Or make a local one: ./setup_cluster.sh up"
    fi
    note "cluster $context"
}

deploy_here() {
    local server recorded
    step "The cluster"
    find_context
    check_tools_for_deploy
    lock_cluster
    server=$(kube version --output=json 2>"$work/kubectl.log" | sed -n '/"serverVersion"/,$p' |
        sed -n 's/.*"gitVersion": *"v\([^"]*\)".*/\1/p' | first_version) || server=
    if [ -z "$server" ]; then
        cat "$work/kubectl.log" >&2
        fail "the cluster $context does not answer; nothing was changed"
    fi
    check_kubectl "$server"
    no_problems
    recorded=$(kube get namespace "$namespace" --ignore-not-found \
        --output=jsonpath='{.metadata.annotations.flightbell/overlay}')
    if [ -z "$overlay$recorded" ] && [ "$context" != "$KIND_CONTEXT" ]; then
        fail "nothing was deployed to $context yet, so name what is to be: --overlay production, for example"
    fi
    overlay=${overlay:-${recorded:-kind}}
    find_overlay
    render
    note "Kubernetes $server at $(kube config view --minify --output=jsonpath='{.clusters[0].cluster.server}')"
    note "overlay $overlay, namespace $namespace${tag:+, tag $tag}"
    if [ -n "$recorded" ] && [ "$recorded" != "$overlay" ]; then
        warn "the overlay $recorded was deployed here before; what $overlay does not have stays there"
    fi
    check_kinds
    read_credentials
    check_credentials
    if [ "$rotate_databases" = true ] && [ "$database" != postgres ]; then
        fail "passwords are rotated here with the component postgres only; nothing was changed" \
            "Of other servers: change the role's password there and the address in $env_file," \
            "and then run ./setup_cluster.sh secrets"
    fi
    if [ "$rotate_certificate" = true ] && ! needs_secret flightbell-tls; then
        fail "cert-manager makes the certificate here; nothing was changed" \
            "To renew it: cmctl renew flightbell --namespace $namespace"
    fi
    choose_tag
    check_certs_program
    find_url
    if [ "$context" != "$KIND_CONTEXT" ]; then
        confirm "Change this cluster?"
    fi
    deploy
    check_entry
    print_next
}

# Objects of operators need their operator first.
check_kinds() {
    local pair kind crd
    for pair in Gateway:gateways.gateway.networking.k8s.io Kafka:kafkas.kafka.strimzi.io \
        Cluster:clusters.postgresql.cnpg.io ScaledObject:scaledobjects.keda.sh \
        Certificate:certificates.cert-manager.io PodMonitor:podmonitors.monitoring.coreos.com \
        PrometheusRule:prometheusrules.monitoring.coreos.com EnvoyProxy:envoyproxies.gateway.envoyproxy.io \
        Database:databases.postgresql.cnpg.io ObjectStore:objectstores.barmancloud.cnpg.io; do
        kind=${pair%%:*} crd=${pair#*:}
        if grep -q "^$kind " "$work/objects" &&
            [ -z "$(kube get crd "$crd" --ignore-not-found --output=name)" ]; then
            problem "the cluster does not know $kind ($crd): its component in k8s/components says what to install"
        fi
    done
    if [ ${#problems[@]} -gt 0 ]; then
        fail "the cluster lacks an operator; nothing was changed:" "${problems[@]}"
    fi
}

status() {
    find_context
    echo
    kube get nodes
    echo
    ns get deployments,statefulsets,jobs
    echo
    ns get pods
    echo
    echo "certificate of the entry: $(certificate_end)"
}

logs() {
    local selector=app.kubernetes.io/part-of=flightbell
    find_context
    if [ -n "$log_of" ]; then
        selector=app.kubernetes.io/name=$log_of
        if [ -z "$(ns get pods --selector="$selector" --output=name)" ]; then
            fail "there are no pods of \"$log_of\"" "There are: $(ns get pods \
                --output=jsonpath='{range .items[*]}{.metadata.labels.app\.kubernetes\.io/name}{"\n"}{end}' |
                sort -u | tr '\n' ' ')"
        fi
    fi
    ns logs --selector="$selector" --all-containers --prefix --follow --tail=20 --max-log-requests=60
}

open_dashboards() {
    local service port
    find_context
    for service in grafana:3000 prometheus:9090; do
        port=${service#*:} service=${service%%:*}
        if [ -n "$(ns get service "$service" --ignore-not-found --output=name)" ]; then
            ns port-forward --address 127.0.0.1 "service/$service" "$port:$port" &
            children="$children $!"
            note "http://localhost:$port   $service"
        fi
    done
    if [ -z "$children" ]; then
        fail "neither Grafana nor Prometheus runs here" "They come with the component prometheus."
    fi
    note "Grafana's user is admin; its password: kubectl --context $context --namespace $namespace get secret grafana" \
        "--output=jsonpath='{.data.admin-password}' | base64 --decode"
    find_url
    [ -z "$url" ] || note "$url/user-manager/docs"
    note "Ctrl-C ends it"
    wait
}

read_arguments "$@"
case $command in
up | deploy | status | logs | open | secrets | down) make_work_folder ;;
help | -h | --help)
    usage
    exit 0
    ;;
*) wrong_usage "there is no command \"$command\"" ;;
esac
case $command in
up) up ;;
deploy | secrets) deploy_here ;;
status) status ;;
logs) logs ;;
open) open_dashboards ;;
down) delete_kind_cluster ;;
esac
