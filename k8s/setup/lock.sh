# shellcheck shell=bash disable=SC2034,SC2154 # Variables are shared with setup_cluster.sh.
# Of two runs that would change the same cluster only one goes on. Sourced.

lock=''

# Makes this run the only one of this user that changes the cluster $context, until it ends. A folder is the lock, since
# macOS has no flock: one process alone can make it.
lock_cluster() {
    local folder owner tries=0
    find_kept_folder
    folder=$kept/.lock
    mkdir -p "$kept" || fail "the folder $kept cannot be made; nothing was changed"
    until mkdir "$folder" 2>/dev/null; do
        owner=$(cat "$folder/pid" 2>/dev/null) || owner=
        if [ -n "$owner" ] && is_running "$owner"; then
            refuse_second_run "$owner"
        fi
        tries=$((tries + 1))
        # Without a number it is perhaps being made just now.
        if { [ -n "$owner" ] || [ "$tries" -gt 2 ]; } && take_over_lock "$folder" "$owner"; then
            break
        fi
        [ "$tries" -lt 5 ] || refuse_second_run "${owner:-unknown}"
        sleep 1
    done
    lock=$folder
    printf '%s\n' "$$" >"$folder/pid" || fail "the folder $folder cannot be written; nothing was changed"
}

refuse_second_run() {
    fail "the process $1 is another run of setup_cluster.sh and changes the cluster $context; nothing was changed" \
        "Wait until it has ended, and run again: $again" \
        "Should process $1 be something else: rm -r $kept/.lock"
}

# Takes over what the killed run of process $2 left behind. Of several processes that want it, one makes the inner
# folder; whoever comes after it finds another number.
take_over_lock() {
    local owner
    mkdir "$1/taken-over" 2>/dev/null || return 1
    owner=$(cat "$1/pid" 2>/dev/null) || owner=
    if [ "$owner" != "$2" ]; then
        rmdir "$1/taken-over"
        return 1
    fi
    note "an earlier run${owner:+, process $owner,} did not come to its end"
    printf '%s\n' "$$" >"$1/pid" && rmdir "$1/taken-over"
}

# Gives the lock back in one step.
unlock_cluster() {
    mv "$lock" "$lock.$$" && rm -rf "$lock.$$"
    lock=
}
