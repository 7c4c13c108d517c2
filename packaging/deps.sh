#!/bin/bash
# Brings what this machine lacks: system packages by its package manager, Kafka's jars by Maven.
#   deps.sh         what building and running need
#   deps.sh test    that, and what two tests need: Chromium, node and playwright-core for the one in a browser,
#                   Prometheus (2.42 or newer) for the one that asks it what dashboards and rules ask
# Debian is where this is tried; Ubuntu and macOS take the same path, untried.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kafka_version=4.3.1
kafka_cache=${XDG_CACHE_HOME:-$HOME/.cache}/flightbell/kafka-$kafka_version
# Where root keeps what the servers' user cannot reach in root's home.
shared_cache=/var/cache/flightbell/kafka-$kafka_version
for_tests=${1:-}

say() { printf '==> %s\n' "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

as_root() {
    if is_root; then "$@"; elif has sudo; then sudo "$@"; else
        say "not root, and sudo is missing: run as root: $*"
        exit 1
    fi
}

# The Java that flightbell takes: that of JAVA_HOME, or the one in PATH.
java_program() { if [ -n "${JAVA_HOME:-}" ]; then echo "$JAVA_HOME/bin/java"; else command -v java; fi; }
java_version() { "$(java_program)" -version 2>&1 | sed -nE 's/.*version "([^"]+)".*/\1/p' | head -1; }

has_java() {
    local version major
    version=$(java_version) || true
    major=${version%%[!0-9]*}
    [ -n "$major" ] && [ "$major" -ge 17 ]
}

has_postgres() {
    has initdb && has postgres && return
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || compgen -G '/opt/homebrew/opt/postgresql*/bin/initdb' >/dev/null
}

# KAFKA_HOME names jars that the user brought.
has_kafka() { [ -n "${KAFKA_HOME:-}" ] || [ -e "$kafka_cache/libs/.complete" ]; }

missing_debian() {
    has g++ || echo g++
    has make || echo make
    has pkg-config || echo pkg-config
    [ -e /usr/include/zlib.h ] || echo zlib1g-dev
    [ -e /usr/include/openssl/ssl.h ] || echo libssl-dev
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    has_postgres || echo postgresql
    has_java || echo openjdk-17-jre-headless
    has_kafka || has mvn || echo maven
    [ "$for_tests" = test ] || return 0
    has chromium || echo chromium
    has node || echo nodejs
    has npm || echo npm
    has curl || echo curl
    has prometheus || echo prometheus
}

install_debian() {
    local packages
    mapfile -t packages < <(missing_debian)
    if [ ${#packages[@]} = 0 ]; then return; fi
    say "installing system packages: ${packages[*]}"
    as_root apt-get update -q
    # A PostgreSQL server of its own would start with the package; ours is private, so none is wanted.
    as_root mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
    if printf '%s\n' "${packages[@]}" | grep -qx prometheus; then without_prometheus_service; fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
    if [ "$(trap -p EXIT)" ]; then end_prometheus_policy; fi
}

# The package would start a server on port 9090, now and at every start of the machine; the test runs one of its own.
# So Debian's switch for that (policy-rc.d) refuses the start of this service alone while packages are installed, and
# then the service is disabled, not masked: who wants it later enables it as any other. A Prometheus that was there
# before is left as it is, and so is a policy that was there: a container's refuses every start.
without_prometheus_service() {
    policy=
    trap end_prometheus_policy EXIT
    [ ! -e /usr/sbin/policy-rc.d ] || return 0
    policy=/usr/sbin/policy-rc.d
    # shellcheck disable=SC2016 # $1 is an argument of the policy, not of this script.
    printf '%s\n' '#!/bin/sh' 'case $1 in prometheus | prometheus.service) exit 101 ;; esac' |
        as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
}

end_prometheus_policy() {
    trap - EXIT
    [ -z "$policy" ] || as_root rm -f "$policy"
    # Nothing to disable where the installation failed.
    [ ! -e /etc/init.d/prometheus ] || as_root update-rc.d prometheus disable
}

install_macos() {
    local packages=()
    has pkg-config || packages+=(pkg-config)
    has_postgres || packages+=(postgresql@17)
    has_java || packages+=(openjdk@21)
    has_kafka || has mvn || packages+=(maven)
    [ "$for_tests" != test ] || has node || packages+=(node)
    # A formula starts nothing by itself.
    [ "$for_tests" != test ] || has prometheus || packages+=(prometheus)
    brew list openssl@3 >/dev/null 2>&1 || packages+=(openssl@3)
    if [ ${#packages[@]} = 0 ]; then return; fi
    say "installing packages: ${packages[*]}"
    brew install "${packages[@]}"
}

bring_kafka() {
    if [ -n "${KAFKA_HOME:-}" ]; then
        say "Kafka: KAFKA_HOME=$KAFKA_HOME is used as it is"
        return
    fi
    if ! has_kafka; then
        say "bringing Apache Kafka $kafka_version with Maven (46 jars, 44 MB, half a minute the first time)"
        mkdir -p "$kafka_cache"
        # Whole or not at all: Maven takes a jar that a killed copy cut short for one that is there.
        rm -rf "$kafka_cache/libs.new"
        mvn -q -B -ntp -C -f "$here/kafka/pom.xml" \
            org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
            "-DoutputDirectory=$kafka_cache/libs.new" -DincludeScope=runtime </dev/null || {
            say "Maven could not bring Kafka's jars: see above, then run this again, or set KAFKA_HOME to an unpacked Apache Kafka 4"
            exit 1
        }
        touch "$kafka_cache/libs.new/.complete"
        rm -rf "$kafka_cache/libs"
        mv "$kafka_cache/libs.new" "$kafka_cache/libs"
    fi
    "$here/kafka/archive.sh" "$(kafka_home)" "$(java_program)" "$(java_version)" ||
        say "Kafka's class archive could not be made: Kafka starts without it, only more slowly"
}

# The folder that the broker will be run from: started by root it runs as the postgres user, for
# whom flightbell keeps a copy of the jars where that user cannot reach ours.
kafka_home() {
    if ! is_root || ! id postgres >/dev/null 2>&1 || ! has runuser ||
        runuser -u postgres -- test -r "$kafka_cache/libs/.complete"; then
        echo "$kafka_cache"
        return
    fi
    if [ ! -e "$shared_cache/libs" ]; then
        mkdir -p "$shared_cache"
        rm -rf "$shared_cache/libs.new"
        cp -r "$kafka_cache/libs" "$shared_cache/libs.new"
        chmod -R a+rX "$shared_cache"
        mv "$shared_cache/libs.new" "$shared_cache/libs"
    fi
    echo "$shared_cache"
}

# What drives the browser in a test, in the version of its lock file, of which npm keeps a copy.
bring_browser_driver() {
    local folder=$here/../services/flightbell/tests/browser
    if cmp -s <(locked_packages "$folder/package-lock.json") <(locked_packages "$folder/node_modules/.package-lock.json"); then
        return
    fi
    say "bringing playwright-core with npm (10 MB)"
    (cd "$folder" && npm ci --no-audit --no-fund </dev/null) || {
        say "npm could not bring playwright-core: see above, then run this again"
        exit 1
    }
}

locked_packages() { grep -E '"(version|integrity)"' "$1" 2>/dev/null; }

case "$(uname -s)" in
    Linux)
        if has apt-get; then install_debian; else
            say "no apt-get here: install a C++ compiler, make, pkg-config, zlib and OpenSSL headers, PostgreSQL, Java 17 and Maven yourself"
        fi ;;
    Darwin) install_macos ;;
    *) say "this system is not known here; see the list of packages in $0" ;;
esac
if ! has cargo; then
    say "Rust is missing: install it with rustup (rustup.rs), then run this again"
    exit 1
fi
bring_kafka
if [ "$for_tests" = test ]; then bring_browser_driver; fi
say "everything that is needed is here"
