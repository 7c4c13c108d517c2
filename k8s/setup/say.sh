# shellcheck shell=bash disable=SC2034,SC2154 # Variables are shared with setup_cluster.sh.
# How setup_cluster.sh talks, and how it ends. Sourced.

step() {
    printf '\n==> %s\n' "$*"
}

note() {
    printf '    %s\n' "$*"
}

warn() {
    printf 'warning: %s\n' "$*" >&2
}

# Ends with an error: the first argument says what is wrong, each further one what to do about it.
fail() {
    printf '\nerror: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do
        printf '  %s\n' "$line" >&2
    done
    exit 1
}

# Asks on a terminal. Without one, nobody can be asked, and whoever wrote the command meant it.
confirm() {
    local answer
    if [ "$yes" = true ] || [ ! -t 0 ] || [ ! -t 2 ]; then
        return 0
    fi
    printf '%s [y/N] ' "$1" >&2
    read -r answer || answer=
    case $answer in
    y | Y | yes) ;;
    *) fail "nothing was changed" ;;
    esac
}

# What is secret on its way to the cluster lies in here as files, so that it is never an argument of a process.
make_work_folder() {
    umask 077
    remove_left_work_folders
    work=$(mktemp -d "${TMPDIR:-/tmp}/flightbell.$$.XXXXXX") || fail "no temporary folder can be made"
    work=$(cd "$work" && pwd -P)
    trap finish EXIT
    trap 'trap - INT; printf "\ninterrupted: run the same command again to go on\n" >&2; exit 130' INT
    trap 'exit 143' TERM
}

# Those of this user's runs that were killed. A folder has the number of its process in its name.
remove_left_work_folders() {
    local folder process
    for folder in "${TMPDIR:-/tmp}"/flightbell.[0-9]*.??????; do
        process=${folder##*/flightbell.}
        process=${process%.*}
        case $process in *[!0-9]*) continue ;; esac
        if [ -d "$folder" ] && [ ! -L "$folder" ] && [ -O "$folder" ] && ! is_running "$process"; then
            rm -rf "$folder"
        fi
    done
}

# Whether the process $1 is there, and is another. Its number may have been given to another program meanwhile. `kill`
# may not ask for another user's process; `ps` may, but is not on every machine.
is_running() {
    [ "$1" != "$$" ] && { kill -0 "$1" 2>/dev/null || ps -p "$1" >/dev/null 2>&1; }
}

finish() {
    local status=$? child
    # Nothing may end this before the files are gone.
    trap '' INT TERM HUP
    trap - EXIT
    for child in ${children-}; do
        kill "$child" 2>/dev/null || true
    done
    rm -rf "$work"
    if [ -n "${checked_person-}" ]; then
        remove_checked_person
    fi
    if [ -n "${lock-}" ]; then
        unlock_cluster
    fi
    exit "$status"
}
