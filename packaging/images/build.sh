#!/bin/bash
# Builds the images flightbell/NAME:TAG from the Dockerfile.
#   build.sh [OPTION...] ENGINE [NAME...]
# ENGINE is docker, podman or buildah; all five images are built unless some are named.
#   --tag TAG        instead of the version in Cargo.toml
#   --programs DIR   takes the programs of this folder (for example target/release) instead of building from source;
#                    they must have been built for this machine's architecture, on a system with glibc 2.36 or older
#   --debian-base    makes the base with mmdebstrap when it is missing, and asks no registry (podman, buildah; as root)
#   --archives DIR   also writes DIR/NAME.tar, which `ctr images import`, `kind load image-archive` and
#                    `docker load` take
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
all=(user-manager data-collector alert-system notifier flightbell)
tag='' programs='' archives='' debian_base='' work=''
trap 'rm -rf "$work"' EXIT

say() { printf '==> %s\n' "$*"; }
refuse() {
    echo "$1" >&2
    exit 2
}
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

# The first value of an ARG of the Dockerfile.
argument() { sed -n "s/^ARG $1=//p" "$root/Dockerfile" | head -n 1; }

# Stands in for Debian's image where no registry can be reached: the same release, from Debian's mirrors.
make_base() {
    local name
    name=$(argument RUNTIME_IMAGE)
    if "$engine" inspect --type image "$name" >/dev/null 2>&1; then return; fi
    command -v mmdebstrap >/dev/null || refuse "mmdebstrap is missing: apt-get install mmdebstrap"
    say "making $name with mmdebstrap (about a minute)"
    mkdir "$work/base"
    # usr-is-merged takes the place of usrmerge, which would bring perl.
    # shellcheck disable=SC2016 # mmdebstrap's shell expands $1, the root of the new system.
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,usr-is-merged \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
        bookworm "$work/base/base.tar"
    printf 'FROM scratch\nADD base.tar /\nCMD ["bash"]\n' >"$work/base/Dockerfile"
    build_image --tag "$name" "$work/base"
    rm -rf "$work/base"
}

# Without a container runtime, buildah runs commands in a chroot.
build_image() {
    local options=()
    if [ "$engine" = buildah ]; then options+=(--isolation chroot); fi
    if [ -n "$debian_base" ]; then options+=(--pull=never); fi
    "$engine" build ${options[@]+"${options[@]}"} "$@"
}

# The engine sees the programs alone, without the lines for a debugger, as when they are built from source.
take_programs() {
    local name
    mkdir "$work/programs"
    for name in "${names[@]}"; do
        [ -x "$programs/$name" ] || refuse "$programs/$name is missing: build it with cargo build --locked --release"
        strip --strip-debug -o "$work/programs/$name" "$programs/$name"
    done
}

archive() {
    local image=$1 file=$2
    rm -f "$file"
    case $engine in
        docker) docker save --output "$file" "$image" ;;
        podman) podman save --quiet --format docker-archive --output "$file" "docker.io/$image" ;;
        buildah) buildah push --quiet "docker.io/$image" "docker-archive:$file:docker.io/$image" ;;
    esac
}

while [ $# -gt 0 ]; do
    case $1 in
        --tag) tag=${2:?--tag needs a value}; shift 2 ;;
        --programs) programs=$(cd "${2:?--programs needs a folder}" && pwd); shift 2 ;;
        --archives) mkdir -p "${2:?--archives needs a folder}"; archives=$(cd "$2" && pwd); shift 2 ;;
        --debian-base) debian_base=yes; shift ;;
        -h | --help) usage; exit ;;
        -*) refuse "unknown option $1; see --help" ;;
        *) break ;;
    esac
done
engine=${1:-}
case $engine in
    docker | podman | buildah) shift ;;
    '') refuse "name an engine: docker, podman or buildah; see --help" ;;
    *) refuse "unknown engine $engine: docker, podman or buildah" ;;
esac
command -v "$engine" >/dev/null || refuse "$engine is missing"
if [ -n "$debian_base" ] && [ "$engine" = docker ]; then refuse "--debian-base needs podman or buildah"; fi
if [ -n "$debian_base" ] && [ -z "$programs" ]; then refuse "--debian-base needs --programs: only the base is made"; fi
names=("$@")
if [ ${#names[@]} = 0 ]; then names=("${all[@]}"); fi
for name in "${names[@]}"; do
    [[ " ${all[*]} " = *" $name "* ]] || refuse "unknown image $name: ${all[*]}"
done
if [ -z "$tag" ]; then tag=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml"); fi
work=$(mktemp -d)

if [ -n "$debian_base" ]; then make_base; fi
if [ -n "$programs" ]; then take_programs; fi
for name in "${names[@]}"; do
    image=flightbell/$name:$tag
    say "$image"
    # With this prefix the name is the one that Kubernetes makes of flightbell/NAME.
    tagged=$image
    if [ "$engine" != docker ]; then tagged=docker.io/$image; fi
    if [ -n "$programs" ]; then
        target=$name-prebuilt context=$work/programs
    else
        target=$name context=$root
    fi
    build_image --file "$root/Dockerfile" --target "$target" --build-arg "VERSION=$tag" --tag "$tagged" "$context"
    if [ -n "$archives" ]; then archive "$image" "$archives/$name.tar"; fi
done
