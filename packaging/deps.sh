#!/bin/bash
# Brings what this machine lacks: system packages by its package manager, Kafka's jars by Maven.
#   deps.sh         what building and running need
#   deps.sh test    that, and what the browser test needs
# Debian is where this is tried; Ubuntu and macOS take the same path, untried.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kafka_version=4.3.1
kafka_cache=${XDG_CACHE_HOME:-$HOME/.cache}/flightbell/kafka-$kafka_version
want_browser=${1:-}

say() { printf '==> %s\n' "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif has sudo; then sudo "$@"; else
        say "not root, and sudo is missing: run as root: $*"
        exit 1
    fi
}

has_java() {
    local java=java version
    [ -z "${JAVA_HOME:-}" ] || java=$JAVA_HOME/bin/java
    version=$("$java" -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p' | head -1) || true
    [ -n "$version" ] && [ "$version" -ge 17 ]
}

has_postgres() {
    has initdb && has postgres && return
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || compgen -G '/opt/homebrew/opt/postgresql*/bin/initdb' >/dev/null
}

missing_debian() {
    has g++ || echo g++
    has make || echo make
    has pkg-config || echo pkg-config
    [ -e /usr/include/zlib.h ] || echo zlib1g-dev
    [ -e /usr/include/openssl/ssl.h ] || echo libssl-dev
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    has_postgres || echo postgresql
    has_java || echo openjdk-17-jre-headless
    [ -e "$kafka_cache/libs" ] || has mvn || echo maven
    [ "$want_browser" = test ] || return 0
    has chromium || echo chromium
    has node || echo nodejs
    has npm || echo npm
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
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
}

install_macos() {
    local packages=()
    has pkg-config || packages+=(pkg-config)
    has_postgres || packages+=(postgresql@17)
    has_java || packages+=(openjdk@21)
    [ -e "$kafka_cache/libs" ] || has mvn || packages+=(maven)
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
    if [ -e "$kafka_cache/libs/.complete" ]; then return; fi
    say "bringing Apache Kafka $kafka_version with Maven (46 jars, 44 MB, half a minute the first time)"
    mkdir -p "$kafka_cache"
    mvn -q -B -ntp -C -f "$here/kafka/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        "-DoutputDirectory=$kafka_cache/libs" -DincludeScope=runtime </dev/null
    touch "$kafka_cache/libs/.complete"
}

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
say "everything that is needed is here"
